-- What was spent in a day is summed before each transaction when there is a budget.
CREATE INDEX transactions_by_inclusion ON transactions (included_at) WHERE included_at IS NOT NULL;
