-- What other tracing systems on the way of a registration's trace say of their parts (W3C tracestate).
ALTER TABLE registrations ADD COLUMN tracestate TEXT NOT NULL DEFAULT '';
