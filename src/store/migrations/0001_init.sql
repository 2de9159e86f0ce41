-- What the store belongs to: one chain, one contract. Exactly one row.
CREATE TABLE registries (
    chain_id            BIGINT NOT NULL,
    genesis_hash        BYTEA  NOT NULL,
    contract_address    BYTEA  NOT NULL,
    deploy_block_number BIGINT NOT NULL,
    deploy_block_hash   BYTEA  NOT NULL,
    created_at          BIGINT NOT NULL,
    PRIMARY KEY (chain_id, contract_address)
);

-- A signer's nonce on the chain. The transaction of somebody else, found to have registered a pair before us, has no nonce.
CREATE TABLE transactions (
    id                  BYTEA  NOT NULL PRIMARY KEY,
    signer              BYTEA  NOT NULL,
    nonce               BIGINT,
    state               TEXT   NOT NULL,
    finality            TEXT   NOT NULL DEFAULT 'unsafe',
    hash                BYTEA  NOT NULL,
    gas_limit           BIGINT NOT NULL DEFAULT 0,
    batch_size          BIGINT NOT NULL DEFAULT 0,
    attempts            BIGINT NOT NULL DEFAULT 0,
    prepared_at         BIGINT,
    signed_at           BIGINT,
    sent_at             BIGINT,
    included_at         BIGINT,
    confirmed_at        BIGINT,
    timed_out_at        BIGINT,
    block_number        BIGINT,
    block_hash          BYTEA,
    block_time          BIGINT,
    gas_used            BIGINT,
    effective_gas_price TEXT,
    l1_fee              TEXT,
    diagnosis           TEXT,
    UNIQUE (signer, nonce)
);
CREATE INDEX transactions_by_state ON transactions (state, finality);

-- Every signed version of a transaction: its bytes are here before any node sees them.
CREATE TABLE attempts (
    hash                     BYTEA  NOT NULL PRIMARY KEY,
    transaction_id           BYTEA  NOT NULL,
    number                   BIGINT NOT NULL,
    raw                      BYTEA  NOT NULL,
    max_fee_per_gas          BIGINT NOT NULL,
    max_priority_fee_per_gas BIGINT NOT NULL,
    signed_at                BIGINT NOT NULL,
    UNIQUE (transaction_id, number)
);

-- What was asked, and how it stands.
CREATE TABLE registrations (
    id              BYTEA  NOT NULL PRIMARY KEY,
    document_hash   BYTEA  NOT NULL,
    case_id         TEXT   NOT NULL,
    submitted_as    TEXT   NOT NULL,
    user_id         TEXT,
    state           TEXT   NOT NULL,
    revision        BIGINT NOT NULL,
    blocked         TEXT   NOT NULL DEFAULT '',
    retry_at        BIGINT NOT NULL DEFAULT 0,
    reverts         BIGINT NOT NULL DEFAULT 0,
    transaction_id  BYTEA,
    failure_reason  TEXT,
    failure_message TEXT,
    trace_id        BYTEA  NOT NULL,
    parent_span_id  BYTEA,
    sampled         BIGINT,
    baggage         TEXT   NOT NULL DEFAULT '',
    created_at      BIGINT NOT NULL,
    failed_at       BIGINT,
    updated_at      BIGINT NOT NULL,
    UNIQUE (document_hash, case_id)
);
CREATE INDEX registrations_by_state ON registrations (state, id);
CREATE INDEX registrations_by_case ON registrations (case_id, id);
CREATE INDEX registrations_by_transaction ON registrations (transaction_id) WHERE transaction_id IS NOT NULL;

-- Which transactions have carried a registration, in the order of the batch: a history, for work may be released and carried
-- again.
CREATE TABLE registration_transactions (
    transaction_id  BYTEA  NOT NULL,
    position        BIGINT NOT NULL,
    registration_id BYTEA  NOT NULL,
    PRIMARY KEY (transaction_id, position)
);
