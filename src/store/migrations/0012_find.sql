-- Lists by user, caller, blocked reason and transaction, in the order of ids. The indexes of users and callers never change after an
-- insert, and that of blocked reasons has only what is blocked.
CREATE INDEX registrations_by_user ON registrations (user_id, id) WHERE user_id IS NOT NULL;
CREATE INDEX registrations_by_caller ON registrations (caller, id) WHERE caller IS NOT NULL;
CREATE INDEX registrations_blocked ON registrations (blocked, id) WHERE blocked <> '';
CREATE INDEX transactions_by_hash ON transactions (hash);
