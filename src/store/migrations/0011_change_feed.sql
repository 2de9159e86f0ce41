-- The number of the write that changed the registration last, by which the change feed is read. 1 is every change from before the
-- feed: numbers of writes are larger.
ALTER TABLE registrations ADD COLUMN change_number BIGINT NOT NULL DEFAULT 1;
CREATE INDEX registrations_by_change ON registrations (change_number, id);

-- A history begins with each start of a process, and every cursor names one. A restored backup does not have the histories, or the
-- numbers, that came after it, so that cursors from then are recognized.
CREATE TABLE feed_histories (
    number      BIGINT NOT NULL PRIMARY KEY,
    id          BYTEA  NOT NULL UNIQUE,
    -- The largest change number when the next history began; NULL in the latest one.
    last_change BIGINT
);
