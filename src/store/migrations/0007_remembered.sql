-- What a diagnosis wants to know of a transaction that is out, and nothing else needs. Written with what is written anyway, but for
-- what goes wrong: which endpoint took it, and the newest block then; the block that held it until a reorg; what a node said when it
-- refused the bytes; and since when its nonce is consumed with no receipt.
ALTER TABLE transactions ADD COLUMN taken_by TEXT;
ALTER TABLE transactions ADD COLUMN taken_head BIGINT;
ALTER TABLE transactions ADD COLUMN reorged_out BIGINT;
ALTER TABLE transactions ADD COLUMN refusal TEXT;
ALTER TABLE transactions ADD COLUMN missing_since BIGINT;
