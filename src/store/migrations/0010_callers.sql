-- The authenticated caller that asked for the registration last; NULL without authentication.
ALTER TABLE registrations ADD COLUMN caller TEXT;

-- Registrations accepted for each caller with a quota: ever, and on the UTC day with this number since 1970-01-01. The row is locked
-- while registrations of its caller are written, so that replicas count together.
CREATE TABLE caller_usage (
    caller          TEXT   NOT NULL PRIMARY KEY,
    accepted        BIGINT NOT NULL,
    day             BIGINT NOT NULL,
    accepted_on_day BIGINT NOT NULL
);
