--
-- PostgreSQL database dump
--


-- Dumped from database version 15.18 (Debian 15.18-0+deb12u1)
-- Dumped by pg_dump version 15.18 (Debian 15.18-0+deb12u1)

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: registrar; Type: SCHEMA; Schema: -; Owner: -
--

CREATE SCHEMA registrar;


SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: _sqlx_migrations; Type: TABLE; Schema: registrar; Owner: -
--

CREATE TABLE registrar._sqlx_migrations (
    version bigint NOT NULL,
    description text NOT NULL,
    installed_on timestamp with time zone DEFAULT now() NOT NULL,
    success boolean NOT NULL,
    checksum bytea NOT NULL,
    execution_time bigint NOT NULL
);


--
-- Name: attempts; Type: TABLE; Schema: registrar; Owner: -
--

CREATE TABLE registrar.attempts (
    hash bytea NOT NULL,
    transaction_id bytea NOT NULL,
    number bigint NOT NULL,
    raw bytea NOT NULL,
    max_fee_per_gas bigint NOT NULL,
    max_priority_fee_per_gas bigint NOT NULL,
    signed_at bigint NOT NULL,
    worst_cost text
);


--
-- Name: leases; Type: TABLE; Schema: registrar; Owner: -
--

CREATE TABLE registrar.leases (
    signer bytea NOT NULL,
    holder bytea NOT NULL,
    token bigint NOT NULL,
    expires_at bigint NOT NULL,
    locked bigint DEFAULT 0 NOT NULL,
    uses bigint DEFAULT 0 NOT NULL
);


--
-- Name: registration_transactions; Type: TABLE; Schema: registrar; Owner: -
--

CREATE TABLE registrar.registration_transactions (
    transaction_id bytea NOT NULL,
    "position" bigint NOT NULL,
    registration_id bytea NOT NULL
);


--
-- Name: registrations; Type: TABLE; Schema: registrar; Owner: -
--

CREATE TABLE registrar.registrations (
    id bytea NOT NULL,
    document_hash bytea NOT NULL,
    case_id text NOT NULL,
    submitted_as text NOT NULL,
    user_id text,
    state text NOT NULL,
    revision bigint NOT NULL,
    blocked text DEFAULT ''::text NOT NULL,
    retry_at bigint DEFAULT 0 NOT NULL,
    reverts bigint DEFAULT 0 NOT NULL,
    transaction_id bytea,
    failure_reason text,
    failure_message text,
    trace_id bytea NOT NULL,
    parent_span_id bytea,
    sampled bigint,
    baggage text DEFAULT ''::text NOT NULL,
    created_at bigint NOT NULL,
    failed_at bigint,
    updated_at bigint NOT NULL,
    tracestate text DEFAULT ''::text NOT NULL,
    claimed_until bigint DEFAULT 0 NOT NULL,
    claimed_by bytea
);


--
-- Name: registries; Type: TABLE; Schema: registrar; Owner: -
--

CREATE TABLE registrar.registries (
    chain_id bigint NOT NULL,
    genesis_hash bytea NOT NULL,
    contract_address bytea NOT NULL,
    deploy_block_number bigint NOT NULL,
    deploy_block_hash bytea NOT NULL,
    created_at bigint NOT NULL
);


--
-- Name: transactions; Type: TABLE; Schema: registrar; Owner: -
--

CREATE TABLE registrar.transactions (
    id bytea NOT NULL,
    signer bytea NOT NULL,
    nonce bigint,
    state text NOT NULL,
    finality text DEFAULT 'unsafe'::text NOT NULL,
    hash bytea NOT NULL,
    gas_limit bigint DEFAULT 0 NOT NULL,
    batch_size bigint DEFAULT 0 NOT NULL,
    attempts bigint DEFAULT 0 NOT NULL,
    prepared_at bigint,
    signed_at bigint,
    sent_at bigint,
    included_at bigint,
    confirmed_at bigint,
    timed_out_at bigint,
    block_number bigint,
    block_hash bytea,
    block_time bigint,
    gas_used bigint,
    effective_gas_price text,
    l1_fee text,
    diagnosis text,
    pruned_at bigint,
    taken_by text,
    taken_head bigint,
    reorged_out bigint,
    refusal text,
    missing_since bigint
);


--
-- Data for Name: _sqlx_migrations; Type: TABLE DATA; Schema: registrar; Owner: -
--

INSERT INTO registrar._sqlx_migrations VALUES (1, 'init', '2026-11-30 22:05:24.681596+00', true, '\x41b062e29bb7d5cd499f1b9d2f9cfcf0fc686673963e42ed772d0bd02496a9c754ab1792b2b2c2ba7a2e4c7f0223e531', 5430924);
INSERT INTO registrar._sqlx_migrations VALUES (2, 'tracestate', '2026-11-30 22:05:24.68744+00', true, '\x37d2e53cdd8f5219af2b4b716d4fb1e50e5257a4c73308ce85fe00d33440bdf47415a0e99e9b677ad1f370e62962faec', 446392);
INSERT INTO registrar._sqlx_migrations VALUES (3, 'leases', '2026-11-30 22:05:24.688008+00', true, '\x3290255952456dbeeb3e87955294f044fc9243036e412813298295c8098b6544d5c409bb1dd4a99a94c5292393492b4b', 1344763);
INSERT INTO registrar._sqlx_migrations VALUES (4, 'claims', '2026-11-30 22:05:24.689517+00', true, '\x736e944f19202eaab3fbf8c11df407caa744458007d80faf6a1be0b8536d8cca96badd6b717bf59d0af36b7f1dd8a2c6', 444651);
INSERT INTO registrar._sqlx_migrations VALUES (5, 'spending', '2026-11-30 22:05:24.6901+00', true, '\x82b0adf93288394b86c6521837e161a5335de0ad5123f396321355486fde2c96246cc370df766e986a5c39a2b678e32e', 575745);
INSERT INTO registrar._sqlx_migrations VALUES (6, 'growth', '2026-11-30 22:05:24.690805+00', true, '\x581a27de4946a07a5a3f7c020e4b34d9b1ca49ec01d99a724a810d5dd8cba4d85d23154bdda6e8c38a8305d212c7be8b', 1891653);
INSERT INTO registrar._sqlx_migrations VALUES (7, 'remembered', '2026-11-30 22:05:24.6929+00', true, '\xfaf2ce303d6dd39a9b472fea6aee05f5b3d02a73a13c6fe18128651947aaf9a475e3af1d23fc1ad29f229f3d2706d134', 600064);
INSERT INTO registrar._sqlx_migrations VALUES (8, 'worst cost', '2026-11-30 22:05:24.693592+00', true, '\x49ed1e672b1c991af16dde77cabb16bbcdedaafa7c1848894f73d4c408dedc08af3d11cdc628a41137f3fa46b83c2d4a', 378924);


--
-- Data for Name: attempts; Type: TABLE DATA; Schema: registrar; Owner: -
--

INSERT INTO registrar.attempts VALUES ('\x1adba9914cbf0157a9eb5c22df9d39cc6cdc07592852b7fb7d1575df3b033f2b', '\x01a22e7dc7a375ba9875b118d8f4b3af', 1, '\x02f8f1827a6980843b9aca00849502f90082c9d5945fbdb2315678afecb367f032d93f642f64180aa380b884fa17185acaa0c419ed4b5d7628d1ce29a28ca67850f779c4d929febffc192a514f1e186e00000000000000000000000000000000000000000000000000000000000000400000000000000000000000000000000000000000000000000000000000000009555047524144452d310000000000000000000000000000000000000000000000c080a0d0434b95e1e3597964850548abc9937377b37ccbf773d281a528c1e2484e0109a02ea5416b646e615f8535e587a4303d16f199d3d443f0db08cdc269ba7aac06f4', 2500000000, 1000000000, 1796076324771474, '129172500000000');
INSERT INTO registrar.attempts VALUES ('\x747217483b8b86caee1b2711ed67d59c97c732eca32ba34ad7dfb3818f02c8f8', '\x01a22e7dc7e8729fa63a2204981117ce', 1, '\x02f8f1827a6901843b9aca00849502f90082c9c8945fbdb2315678afecb367f032d93f642f64180aa380b884fa17185a7a89f07afb4d1b977149fc8b7f2a180057b5e742d5d31d5339a2b3ec23427d2600000000000000000000000000000000000000000000000000000000000000400000000000000000000000000000000000000000000000000000000000000009555047524144452d310000000000000000000000000000000000000000000000c001a0b3935f86e134c832d3cbce7af883b97abe7240a4c1ebcb9a5f3d163603962b28a07a2f516040a483a190b0e6ff7f2907cac3cbc5215b7f84a0dc07a94eb29c9923', 2500000000, 1000000000, 1796076324840393, '129140000000000');
INSERT INTO registrar.attempts VALUES ('\xfcdfc375cf4f684216700d7a725c4cab59113ac189f23f362e8b0b85537d9638', '\x01a22e7dc82f77ea90d1000a99deda4f', 1, '\x02f8f1827a6902843b9aca00849502f90082c9d5945fbdb2315678afecb367f032d93f642f64180aa380b884fa17185a3d2a8e9d4efc4bbf49fd1f0d83228a4a775c4c44c36fe635515e2d0f589da3f600000000000000000000000000000000000000000000000000000000000000400000000000000000000000000000000000000000000000000000000000000009555047524144452d310000000000000000000000000000000000000000000000c080a07a06ef9a0ff18de750a28ffe74ed765e49acfd1eaedde1a2dd17c36b1859be90a013a935fed03b19dc7fb4acce42320f3e18d16df949bc98971a7fff7af8e7cd84', 2500000000, 1000000000, 1796076324911044, '129172500000000');
INSERT INTO registrar.attempts VALUES ('\xaf581e8191e3d8f4438085074de4534136ff8f0dbec1f4935cb8cc7e7f7f7b92', '\x01a22e7dc86d71c28173d8055945d120', 1, '\x02f8f1827a6903843b9aca00849502f90082c9d5945fbdb2315678afecb367f032d93f642f64180aa380b884fa17185aebbb26765e8c2254e38a31d3f48c036c6e2b757cc260ded2d43823fc012a052c00000000000000000000000000000000000000000000000000000000000000400000000000000000000000000000000000000000000000000000000000000009555047524144452d310000000000000000000000000000000000000000000000c080a01face66ebd5b545b5725dbe9b3144ebddec1316171efc1ee45f55560114d2910a02c2d356e7c49312818c9f2691d4e1dad51fc4089bb6f6b776c624b10df449d72', 2500000000, 1000000000, 1796076324973709, '129172500000000');


--
-- Data for Name: leases; Type: TABLE DATA; Schema: registrar; Owner: -
--

INSERT INTO registrar.leases VALUES ('\x0000000000000000000000000000000000000000', '\x01a22e7dc75e7309a33ebb79d6f37da1', 1, 1796076332728451, 1, 0);
INSERT INTO registrar.leases VALUES ('\x70997970c51812dc3a010c7d01b50e0d17dc79c8', '\x01a22e7dc75e7309a33ebb79d6f37da1', 1, 1796076332734853, 1, 11);


--
-- Data for Name: registration_transactions; Type: TABLE DATA; Schema: registrar; Owner: -
--

INSERT INTO registrar.registration_transactions VALUES ('\x01a22e7dc7a375ba9875b118d8f4b3af', 0, '\x01a22e7dc78f75b2b071b2f2f6a3a4b2');
INSERT INTO registrar.registration_transactions VALUES ('\x01a22e7dc7e8729fa63a2204981117ce', 0, '\x01a22e7dc7dc77cb9a10f5815b27e6fc');
INSERT INTO registrar.registration_transactions VALUES ('\x01a22e7dc82f77ea90d1000a99deda4f', 0, '\x01a22e7dc82474bbb7cd0be51df4a391');
INSERT INTO registrar.registration_transactions VALUES ('\x01a22e7dc86d71c28173d8055945d120', 0, '\x01a22e7dc8667523879e45e2806f09e1');


--
-- Data for Name: registrations; Type: TABLE DATA; Schema: registrar; Owner: -
--

INSERT INTO registrar.registrations VALUES ('\x01a22e7dc78f75b2b071b2f2f6a3a4b2', '\xcaa0c419ed4b5d7628d1ce29a28ca67850f779c4d929febffc192a514f1e186e', 'UPGRADE-1', '0xcaa0c419ed4b5d7628d1ce29a28ca67850f779c4d929febffc192a514f1e186e', 'user-1', 'confirmed', 4, '', 0, 0, '\x01a22e7dc7a375ba9875b118d8f4b3af', NULL, NULL, '\xe3697c87b0386330c30075a44a51af8c', '\xeba3f0c8f1240e09', 1, '', 1796076324751165, NULL, 1796076324805298, '', 1796076334757877, '\x70997970c51812dc3a010c7d01b50e0d17dc79c8');
INSERT INTO registrar.registrations VALUES ('\x01a22e7dc7dc77cb9a10f5815b27e6fc', '\x7a89f07afb4d1b977149fc8b7f2a180057b5e742d5d31d5339a2b3ec23427d26', 'UPGRADE-1', '0x7a89f07afb4d1b977149fc8b7f2a180057b5e742d5d31d5339a2b3ec23427d26', 'user-1', 'confirmed', 4, '', 0, 0, '\x01a22e7dc7e8729fa63a2204981117ce', NULL, NULL, '\x5a769246e3b4fdf8df57fdbf94dce64c', '\x0a673ce9edd8cece', 1, '', 1796076324828644, NULL, 1796076324877897, '', 1796076334833591, '\x70997970c51812dc3a010c7d01b50e0d17dc79c8');
INSERT INTO registrar.registrations VALUES ('\x01a22e7dc82474bbb7cd0be51df4a391', '\x3d2a8e9d4efc4bbf49fd1f0d83228a4a775c4c44c36fe635515e2d0f589da3f6', 'UPGRADE-1', '0x3d2a8e9d4efc4bbf49fd1f0d83228a4a775c4c44c36fe635515e2d0f589da3f6', 'user-1', 'confirmed', 4, '', 0, 0, '\x01a22e7dc82f77ea90d1000a99deda4f', NULL, NULL, '\x8026370e75fc1813f153495f615da4af', '\x2f2c40983652ec63', 1, '', 1796076324900295, NULL, 1796076324943862, '', 1796076334907330, '\x70997970c51812dc3a010c7d01b50e0d17dc79c8');
INSERT INTO registrar.registrations VALUES ('\x01a22e7dc8667523879e45e2806f09e1', '\xebbb26765e8c2254e38a31d3f48c036c6e2b757cc260ded2d43823fc012a052c', 'UPGRADE-1', '0xebbb26765e8c2254e38a31d3f48c036c6e2b757cc260ded2d43823fc012a052c', 'user-1', 'submitted', 3, '', 0, 0, '\x01a22e7dc86d71c28173d8055945d120', NULL, NULL, '\x435199b7e1af029ab38c80ac08eac92b', '\x6aa5025d6ce49697', 1, '', 1796076324966085, NULL, 1796076324979751, '', 1796076334968455, '\x70997970c51812dc3a010c7d01b50e0d17dc79c8');
INSERT INTO registrar.registrations VALUES ('\x01a22e7dc89c723dadd161221a36c32d', '\x1fe5a159589cde2979ef723ac11ab8e9a5ef4a76cee889b11dbde498e535aa15', 'UPGRADE-1', '0x1fe5a159589cde2979ef723ac11ab8e9a5ef4a76cee889b11dbde498e535aa15', 'user-1', 'queued', 2, 'INSUFFICIENT_FUNDS', 1796076325040948, 0, NULL, NULL, NULL, '\x644892c6e794bbda07d68a195ce74509', '\xcb1126623b9564a2', 1, '', 1796076325020084, NULL, 1796076325040948, '', 0, '\x70997970c51812dc3a010c7d01b50e0d17dc79c8');


--
-- Data for Name: registries; Type: TABLE DATA; Schema: registrar; Owner: -
--

INSERT INTO registrar.registries VALUES (31337, '\xd4f01e3c4a195b559b30cf079d37add3a8b1b80f21cf8e651707ea28ec04bd24', '\x5fbdb2315678afecb367f032d93f642f64180aa3', 1, '\x941b10db3515a06d753fde14f69083b326d4f474115c573ab8954ceb1647f6d2', 1796076324704152);


--
-- Data for Name: transactions; Type: TABLE DATA; Schema: registrar; Owner: -
--

INSERT INTO registrar.transactions VALUES ('\x01a22e7dc7a375ba9875b118d8f4b3af', '\x70997970c51812dc3a010c7d01b50e0d17dc79c8', 0, 'confirmed', 'unsafe', '\x1adba9914cbf0157a9eb5c22df9d39cc6cdc07592852b7fb7d1575df3b033f2b', 51669, 1, 1, 1796076324758362, 1796076324771474, 1796076324778810, 1796076324805298, 1796076324805298, NULL, 2, '\x914880c15989358dc54ac326390d042a0d744d7cd53477d5738d4f24253acc63', 1796076324000000, 50152, '1882546209', NULL, NULL, NULL, '127.0.0.1', 1, NULL, NULL, NULL);
INSERT INTO registrar.transactions VALUES ('\x01a22e7dc7e8729fa63a2204981117ce', '\x70997970c51812dc3a010c7d01b50e0d17dc79c8', 1, 'confirmed', 'unsafe', '\x747217483b8b86caee1b2711ed67d59c97c732eca32ba34ad7dfb3818f02c8f8', 51656, 1, 1, 1796076324834097, 1796076324840393, 1796076324850538, 1796076324877897, 1796076324877897, NULL, 3, '\xcf9be35a22dc564fee5d373d0a893e01a922939bdff45735f7f05d091f8be7be', 1796076324000000, 50140, '1772596779', NULL, NULL, NULL, '127.0.0.1', 1, NULL, NULL, NULL);
INSERT INTO registrar.transactions VALUES ('\x01a22e7dc82f77ea90d1000a99deda4f', '\x70997970c51812dc3a010c7d01b50e0d17dc79c8', 2, 'confirmed', 'unsafe', '\xfcdfc375cf4f684216700d7a725c4cab59113ac189f23f362e8b0b85537d9638', 51669, 1, 1, 1796076324907692, 1796076324911044, 1796076324916306, 1796076324943862, 1796076324943862, NULL, 4, '\xa1b57544d4a14e8bd6a2b28041ccead32b60c5d5e039b96599b7412ec63c7092', 1796076324000000, 50152, '1676344999', NULL, NULL, NULL, '127.0.0.1', 1, NULL, NULL, NULL);
INSERT INTO registrar.transactions VALUES ('\x01a22e7dc86d71c28173d8055945d120', '\x70997970c51812dc3a010c7d01b50e0d17dc79c8', 3, 'submitted', 'unsafe', '\xaf581e8191e3d8f4438085074de4534136ff8f0dbec1f4935cb8cc7e7f7f7b92', 51669, 1, 1, 1796076324968834, 1796076324973709, 1796076324979751, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '127.0.0.1', 1, NULL, NULL, NULL);


--
-- Name: _sqlx_migrations _sqlx_migrations_pkey; Type: CONSTRAINT; Schema: registrar; Owner: -
--

ALTER TABLE ONLY registrar._sqlx_migrations
    ADD CONSTRAINT _sqlx_migrations_pkey PRIMARY KEY (version);


--
-- Name: attempts attempts_pkey; Type: CONSTRAINT; Schema: registrar; Owner: -
--

ALTER TABLE ONLY registrar.attempts
    ADD CONSTRAINT attempts_pkey PRIMARY KEY (hash);


--
-- Name: attempts attempts_transaction_id_number_key; Type: CONSTRAINT; Schema: registrar; Owner: -
--

ALTER TABLE ONLY registrar.attempts
    ADD CONSTRAINT attempts_transaction_id_number_key UNIQUE (transaction_id, number);


--
-- Name: leases leases_pkey; Type: CONSTRAINT; Schema: registrar; Owner: -
--

ALTER TABLE ONLY registrar.leases
    ADD CONSTRAINT leases_pkey PRIMARY KEY (signer);


--
-- Name: registration_transactions registration_transactions_pkey; Type: CONSTRAINT; Schema: registrar; Owner: -
--

ALTER TABLE ONLY registrar.registration_transactions
    ADD CONSTRAINT registration_transactions_pkey PRIMARY KEY (transaction_id, "position");


--
-- Name: registrations registrations_document_hash_case_id_key; Type: CONSTRAINT; Schema: registrar; Owner: -
--

ALTER TABLE ONLY registrar.registrations
    ADD CONSTRAINT registrations_document_hash_case_id_key UNIQUE (document_hash, case_id);


--
-- Name: registrations registrations_pkey; Type: CONSTRAINT; Schema: registrar; Owner: -
--

ALTER TABLE ONLY registrar.registrations
    ADD CONSTRAINT registrations_pkey PRIMARY KEY (id);


--
-- Name: registries registries_pkey; Type: CONSTRAINT; Schema: registrar; Owner: -
--

ALTER TABLE ONLY registrar.registries
    ADD CONSTRAINT registries_pkey PRIMARY KEY (chain_id, contract_address);


--
-- Name: transactions transactions_pkey; Type: CONSTRAINT; Schema: registrar; Owner: -
--

ALTER TABLE ONLY registrar.transactions
    ADD CONSTRAINT transactions_pkey PRIMARY KEY (id);


--
-- Name: transactions transactions_signer_nonce_key; Type: CONSTRAINT; Schema: registrar; Owner: -
--

ALTER TABLE ONLY registrar.transactions
    ADD CONSTRAINT transactions_signer_nonce_key UNIQUE (signer, nonce);


--
-- Name: registrations_by_case; Type: INDEX; Schema: registrar; Owner: -
--

CREATE INDEX registrations_by_case ON registrar.registrations USING btree (case_id, id);


--
-- Name: registrations_by_state; Type: INDEX; Schema: registrar; Owner: -
--

CREATE INDEX registrations_by_state ON registrar.registrations USING btree (state, id);


--
-- Name: registrations_by_transaction; Type: INDEX; Schema: registrar; Owner: -
--

CREATE INDEX registrations_by_transaction ON registrar.registrations USING btree (transaction_id) WHERE (transaction_id IS NOT NULL);


--
-- Name: registrations_failed_by_case; Type: INDEX; Schema: registrar; Owner: -
--

CREATE INDEX registrations_failed_by_case ON registrar.registrations USING btree (case_id, id) WHERE (state = 'failed'::text);


--
-- Name: transactions_by_inclusion; Type: INDEX; Schema: registrar; Owner: -
--

CREATE INDEX transactions_by_inclusion ON registrar.transactions USING btree (included_at) WHERE (included_at IS NOT NULL);


--
-- Name: transactions_not_final; Type: INDEX; Schema: registrar; Owner: -
--

CREATE INDEX transactions_not_final ON registrar.transactions USING btree (block_number) WHERE ((state = 'confirmed'::text) AND (finality = ANY (ARRAY['unsafe'::text, 'safe'::text])));


--
-- Name: transactions_open; Type: INDEX; Schema: registrar; Owner: -
--

CREATE INDEX transactions_open ON registrar.transactions USING btree (signer, nonce) WHERE (state = ANY (ARRAY['signed'::text, 'submitted'::text, 'included'::text]));


--
-- Name: transactions_with_bytes; Type: INDEX; Schema: registrar; Owner: -
--

CREATE INDEX transactions_with_bytes ON registrar.transactions USING btree (confirmed_at) WHERE ((finality = 'finalized'::text) AND (nonce IS NOT NULL) AND (pruned_at IS NULL));


--
-- PostgreSQL database dump complete
--


