-- For which signer a queued registration is claimed until `claimed_until`, so that replicas do not prepare the same work.
ALTER TABLE registrations ADD COLUMN claimed_by BYTEA;
