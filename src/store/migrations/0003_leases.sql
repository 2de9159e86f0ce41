-- Who may act for a signer just now. The token grows with each holder, so that what an earlier one still writes is refused; each
-- write counts as a use, which holds the row until the write is over.
CREATE TABLE leases (
    signer     BYTEA  NOT NULL PRIMARY KEY,
    holder     BYTEA  NOT NULL,
    token      BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    -- Whether the holder has the session lock too, so that to find that free means that the holder is gone.
    locked     BIGINT NOT NULL DEFAULT 0,
    uses       BIGINT NOT NULL DEFAULT 0
);
-- Until when a replica that has taken a queued registration keeps the others away from it.
ALTER TABLE registrations ADD COLUMN claimed_until BIGINT NOT NULL DEFAULT 0;
