-- Since when a registration is in the queue, if it was queued again after its acceptance; and when its queue timeout passed, for which
-- cause: its code as bytes, which no collation orders. The diagnosis is kept as its latest one after it was sent; the time is cleared
-- when it is queued again.
ALTER TABLE registrations ADD COLUMN queued_at BIGINT;
ALTER TABLE registrations ADD COLUMN delayed_at BIGINT;
ALTER TABLE registrations ADD COLUMN delay_cause BYTEA;
ALTER TABLE registrations ADD COLUMN delay_diagnosis TEXT;
CREATE INDEX registrations_delayed ON registrations (delay_cause) WHERE delayed_at IS NOT NULL AND state IN ('queued', 'signed');

-- The latest episode of each cause, from its first delayed registration until none waits any more, with their number so far. The row is
-- locked while registrations are marked, so that replicas count together.
CREATE TABLE delay_episodes (
    cause         BYTEA  NOT NULL PRIMARY KEY,
    began_at      BIGINT NOT NULL,
    registrations BIGINT NOT NULL
);
