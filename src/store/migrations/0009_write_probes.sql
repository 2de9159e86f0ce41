-- What readiness writes: one row for each process, replaced by each probe. A row of a process that has ended is removed after a day.
CREATE TABLE write_probes (
    holder    BYTEA  NOT NULL PRIMARY KEY,
    probed_at BIGINT NOT NULL,
    padding   BYTEA  NOT NULL
);
