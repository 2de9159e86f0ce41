-- What a signed version may cost at most, in wei, all its fees counted: text, for the number may be larger than a BIGINT. Where it is
-- not known (an earlier release signed it, or it was recognised on chain), its gas at what it offers counts.
ALTER TABLE attempts ADD COLUMN worst_cost TEXT;
