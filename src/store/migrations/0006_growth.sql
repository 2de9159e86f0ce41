-- What is finished stays for ever, so that nothing that is asked for again and again may look through it. These hold only what is
-- not finished: the transactions that are not settled, and the blocks that are not final.
DROP INDEX transactions_by_state;
CREATE INDEX transactions_open ON transactions (signer, nonce) WHERE state IN ('signed', 'submitted', 'included');
CREATE INDEX transactions_not_final ON transactions (block_number)
    WHERE state = 'confirmed' AND finality IN ('unsafe', 'safe');

-- A page of a case's failures, among very many that succeeded. What succeeds costs no entry in it.
CREATE INDEX registrations_failed_by_case ON registrations (case_id, id) WHERE state = 'failed';

-- When the raw bytes of a transaction's attempts were removed, and those of which they are still to be.
ALTER TABLE transactions ADD COLUMN pruned_at BIGINT;
CREATE INDEX transactions_with_bytes ON transactions (confirmed_at)
    WHERE finality = 'finalized' AND nonce IS NOT NULL AND pruned_at IS NULL;
