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


--
-- Name: set_change_number(); Type: FUNCTION; Schema: registrar; Owner: -
--

CREATE FUNCTION registrar.set_change_number() RETURNS trigger
    LANGUAGE plpgsql
    AS $$ BEGIN NEW.change_number := CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT); RETURN NEW; END $$;


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
-- Name: caller_usage; Type: TABLE; Schema: registrar; Owner: -
--

CREATE TABLE registrar.caller_usage (
    caller text NOT NULL COLLATE pg_catalog."C",
    accepted bigint NOT NULL,
    day bigint NOT NULL,
    accepted_on_day bigint NOT NULL
);


--
-- Name: delay_episodes; Type: TABLE; Schema: registrar; Owner: -
--

CREATE TABLE registrar.delay_episodes (
    cause bytea NOT NULL,
    began_at bigint NOT NULL,
    registrations bigint NOT NULL
);


--
-- Name: feed_histories; Type: TABLE; Schema: registrar; Owner: -
--

CREATE TABLE registrar.feed_histories (
    number bigint NOT NULL,
    id bytea NOT NULL,
    last_change bigint
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
    case_id text NOT NULL COLLATE pg_catalog."C",
    submitted_as text NOT NULL,
    user_id text COLLATE pg_catalog."C",
    state text NOT NULL COLLATE pg_catalog."C",
    revision bigint NOT NULL,
    blocked text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
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
    claimed_by bytea,
    caller text COLLATE pg_catalog."C",
    change_number bigint DEFAULT ((pg_current_xact_id())::text)::bigint NOT NULL,
    queued_at bigint,
    delayed_at bigint,
    delay_cause bytea,
    delay_diagnosis text
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
-- Name: write_probes; Type: TABLE; Schema: registrar; Owner: -
--

CREATE TABLE registrar.write_probes (
    holder bytea NOT NULL,
    probed_at bigint NOT NULL,
    padding bytea NOT NULL
);


--
-- Data for Name: _sqlx_migrations; Type: TABLE DATA; Schema: registrar; Owner: -
--

INSERT INTO registrar._sqlx_migrations VALUES (1, 'init', '2026-11-30 22:02:35.590159+00', true, '\x41b062e29bb7d5cd499f1b9d2f9cfcf0fc686673963e42ed772d0bd02496a9c754ab1792b2b2c2ba7a2e4c7f0223e531', 8191379);
INSERT INTO registrar._sqlx_migrations VALUES (2, 'tracestate', '2026-11-30 22:02:35.599072+00', true, '\x37d2e53cdd8f5219af2b4b716d4fb1e50e5257a4c73308ce85fe00d33440bdf47415a0e99e9b677ad1f370e62962faec', 959512);
INSERT INTO registrar._sqlx_migrations VALUES (3, 'leases', '2026-11-30 22:02:35.600263+00', true, '\x3290255952456dbeeb3e87955294f044fc9243036e412813298295c8098b6544d5c409bb1dd4a99a94c5292393492b4b', 2141494);
INSERT INTO registrar._sqlx_migrations VALUES (4, 'claims', '2026-11-30 22:02:35.602714+00', true, '\x736e944f19202eaab3fbf8c11df407caa744458007d80faf6a1be0b8536d8cca96badd6b717bf59d0af36b7f1dd8a2c6', 767353);
INSERT INTO registrar._sqlx_migrations VALUES (5, 'spending', '2026-11-30 22:02:35.603705+00', true, '\x82b0adf93288394b86c6521837e161a5335de0ad5123f396321355486fde2c96246cc370df766e986a5c39a2b678e32e', 1113555);
INSERT INTO registrar._sqlx_migrations VALUES (6, 'growth', '2026-11-30 22:02:35.605066+00', true, '\x581a27de4946a07a5a3f7c020e4b34d9b1ca49ec01d99a724a810d5dd8cba4d85d23154bdda6e8c38a8305d212c7be8b', 2753187);
INSERT INTO registrar._sqlx_migrations VALUES (7, 'remembered', '2026-11-30 22:02:35.608259+00', true, '\xfaf2ce303d6dd39a9b472fea6aee05f5b3d02a73a13c6fe18128651947aaf9a475e3af1d23fc1ad29f229f3d2706d134', 809513);
INSERT INTO registrar._sqlx_migrations VALUES (8, 'worst cost', '2026-11-30 22:02:35.609177+00', true, '\x49ed1e672b1c991af16dde77cabb16bbcdedaafa7c1848894f73d4c408dedc08af3d11cdc628a41137f3fa46b83c2d4a', 470767);
INSERT INTO registrar._sqlx_migrations VALUES (9, 'write probes', '2026-11-30 22:02:35.609827+00', true, '\x7c52518d1319d744060ed4ffe773cea49c2e093bc78081337dee86a69b5a72352f0949f4d483848e9321bb88bcac0c88', 1501882);
INSERT INTO registrar._sqlx_migrations VALUES (10, 'callers', '2026-11-30 22:02:35.611487+00', true, '\x3e1d0d245fdbd4f46515c3d5c9e165aa107f124e9d7e523328326bf1c593d1f1e9d32f8cd3a5026fc1ea8835670a2d59', 1573813);
INSERT INTO registrar._sqlx_migrations VALUES (11, 'change feed', '2026-11-30 22:02:35.613216+00', true, '\xde48e60252c7c5916a38a5b181d636ee73a66b1710403d91df9e568fb2909b1d18f110a149e675a3706b667b5180a0c7', 2344098);
INSERT INTO registrar._sqlx_migrations VALUES (12, 'find', '2026-11-30 22:02:35.615721+00', true, '\xae01958bcc370c49f5a73bd1a5d446fc8580ea8e8d18a833ba532876f7f20c0d883444bf9031f24e2c14ad3a169e7dfa', 1684939);
INSERT INTO registrar._sqlx_migrations VALUES (13, 'delays', '2026-11-30 22:02:35.617556+00', true, '\xf21a1c2617ef0a2e920a3b1b1de3b47adb5bd6d633e8b320b41a70ec4a488aecdd8873a9562d793d9e4edcf086eb6e56', 2057316);


--
-- Data for Name: attempts; Type: TABLE DATA; Schema: registrar; Owner: -
--

INSERT INTO registrar.attempts VALUES ('\xfc652126aca14fcb959d856d6d242bc195bea36f35562a6505fe07b98af1c80a', '\x01a22e7b333f7148bed154c37ae4d83b', 1, '\x02f8f0827a6980830f4240849502f90082c9d5945fbdb2315678afecb367f032d93f642f64180aa380b884fa17185acaa0c419ed4b5d7628d1ce29a28ca67850f779c4d929febffc192a514f1e186e00000000000000000000000000000000000000000000000000000000000000400000000000000000000000000000000000000000000000000000000000000009555047524144452d310000000000000000000000000000000000000000000000c080a0cd11822d56f76b38b33c0dd5023241834b3c812141769ab3213ce9e7295d05bca066347578ab7d57c652d35530c59d18614470465379cdd835141206a9f9411c13', 2500000000, 1000000, 1796076155711812, '129172500000000');
INSERT INTO registrar.attempts VALUES ('\x811793403f76944e182c2c75269ec35c4eb1fb27e41497d60b60377516ec6ef8', '\x01a22e7b338873bc97435097840ec721', 1, '\x02f8f0827a6901830f4240849502f90082c9c8945fbdb2315678afecb367f032d93f642f64180aa380b884fa17185a7a89f07afb4d1b977149fc8b7f2a180057b5e742d5d31d5339a2b3ec23427d2600000000000000000000000000000000000000000000000000000000000000400000000000000000000000000000000000000000000000000000000000000009555047524144452d310000000000000000000000000000000000000000000000c001a0a0f62401953d7071df1323a62f6d60612af54ea80fabb8cbcf5db83f7399c457a061201d63520bb8f7df9ed7b908eee2d53725dab635f3fde3ad3781b5fb8c5f16', 2500000000, 1000000, 1796076155784203, '129140000000000');
INSERT INTO registrar.attempts VALUES ('\x432bda2ea560d0984256fe9b11d42b2633cc65c2efc8b0b20f3965e1f1c29419', '\x01a22e7b33cd77699dba318b5551899c', 1, '\x02f8f0827a6902830f4240849502f90082c9d5945fbdb2315678afecb367f032d93f642f64180aa380b884fa17185a3d2a8e9d4efc4bbf49fd1f0d83228a4a775c4c44c36fe635515e2d0f589da3f600000000000000000000000000000000000000000000000000000000000000400000000000000000000000000000000000000000000000000000000000000009555047524144452d310000000000000000000000000000000000000000000000c080a054625951e942a8a32b264bbe17d72294eaa53156e783f46cc0ea485e22361273a031badefa7d29158672bcb118ac829d7e014d81c5be2cabcd3cea87c6c30fa969', 2500000000, 1000000, 1796076155853940, '129172500000000');
INSERT INTO registrar.attempts VALUES ('\x01a6cb3f8ca6bba714b969e38c1ee500fe82cce562797e1c09af0f98728b0430', '\x01a22e7b341572eb8173c5af94f03248', 1, '\x02f8f0827a6903830f4240849502f90082c9d5945fbdb2315678afecb367f032d93f642f64180aa380b884fa17185aebbb26765e8c2254e38a31d3f48c036c6e2b757cc260ded2d43823fc012a052c00000000000000000000000000000000000000000000000000000000000000400000000000000000000000000000000000000000000000000000000000000009555047524144452d310000000000000000000000000000000000000000000000c001a065af634aa9499bfe99631ac8c47a74b6479659b15c775f7fc86e1d5a34c0800ba0384a2fa2a64c63f1bb1c4ad6ccff92f7a558e0f7e48129d08d3e010b83ff8587', 2500000000, 1000000, 1796076155925920, '129172500000000');


--
-- Data for Name: caller_usage; Type: TABLE DATA; Schema: registrar; Owner: -
--



--
-- Data for Name: delay_episodes; Type: TABLE DATA; Schema: registrar; Owner: -
--



--
-- Data for Name: feed_histories; Type: TABLE DATA; Schema: registrar; Owner: -
--

INSERT INTO registrar.feed_histories VALUES (1, '\x2b2acb1c5a8449d2', NULL);


--
-- Data for Name: leases; Type: TABLE DATA; Schema: registrar; Owner: -
--

INSERT INTO registrar.leases VALUES ('\x0000000000000000000000000000000000000000', '\x01a22e7b32f67436953ccdd94fbd82f1', 1, 1796076163668569, 1, 0);
INSERT INTO registrar.leases VALUES ('\x70997970c51812dc3a010c7d01b50e0d17dc79c8', '\x01a22e7b32f67436953ccdd94fbd82f1', 1, 1796076163665808, 1, 11);


--
-- Data for Name: registration_transactions; Type: TABLE DATA; Schema: registrar; Owner: -
--

INSERT INTO registrar.registration_transactions VALUES ('\x01a22e7b333f7148bed154c37ae4d83b', 0, '\x01a22e7b33307cbc80000032c932d63a');
INSERT INTO registrar.registration_transactions VALUES ('\x01a22e7b338873bc97435097840ec721', 0, '\x01a22e7b337f73438000006f15402197');
INSERT INTO registrar.registration_transactions VALUES ('\x01a22e7b33cd77699dba318b5551899c', 0, '\x01a22e7b33c6715c800000530a6a6820');
INSERT INTO registrar.registration_transactions VALUES ('\x01a22e7b341572eb8173c5af94f03248', 0, '\x01a22e7b340c77a18000009829372913');


--
-- Data for Name: registrations; Type: TABLE DATA; Schema: registrar; Owner: -
--

INSERT INTO registrar.registrations VALUES ('\x01a22e7b33307cbc80000032c932d63a', '\xcaa0c419ed4b5d7628d1ce29a28ca67850f779c4d929febffc192a514f1e186e', 'UPGRADE-1', '0xcaa0c419ed4b5d7628d1ce29a28ca67850f779c4d929febffc192a514f1e186e', 'user-1', 'confirmed', 4, '', 0, 0, '\x01a22e7b333f7148bed154c37ae4d83b', NULL, NULL, '\x6d3fb5981491eab671f537776a3e2494', '\x8d09b424d321915a', 1, '', 1796076155696796, NULL, 1796076155748273, '', 1796076165702494, '\x70997970c51812dc3a010c7d01b50e0d17dc79c8', NULL, 768, NULL, NULL, NULL, NULL);
INSERT INTO registrar.registrations VALUES ('\x01a22e7b337f73438000006f15402197', '\x7a89f07afb4d1b977149fc8b7f2a180057b5e742d5d31d5339a2b3ec23427d26', 'UPGRADE-1', '0x7a89f07afb4d1b977149fc8b7f2a180057b5e742d5d31d5339a2b3ec23427d26', 'user-1', 'confirmed', 4, '', 0, 0, '\x01a22e7b338873bc97435097840ec721', NULL, NULL, '\x880ded9006e0bb167ff4a48607265fb1', '\xdd848934747870e3', 1, '', 1796076155775204, NULL, 1796076155820832, '', 1796076165779232, '\x70997970c51812dc3a010c7d01b50e0d17dc79c8', NULL, 777, NULL, NULL, NULL, NULL);
INSERT INTO registrar.registrations VALUES ('\x01a22e7b33c6715c800000530a6a6820', '\x3d2a8e9d4efc4bbf49fd1f0d83228a4a775c4c44c36fe635515e2d0f589da3f6', 'UPGRADE-1', '0x3d2a8e9d4efc4bbf49fd1f0d83228a4a775c4c44c36fe635515e2d0f589da3f6', 'user-1', 'confirmed', 4, '', 0, 0, '\x01a22e7b33cd77699dba318b5551899c', NULL, NULL, '\x3dafe8fc45baf14653b037e1299cd922', '\x371772ad9caaa4df', 1, '', 1796076155846085, NULL, 1796076155888387, '', 1796076165849785, '\x70997970c51812dc3a010c7d01b50e0d17dc79c8', NULL, 786, NULL, NULL, NULL, NULL);
INSERT INTO registrar.registrations VALUES ('\x01a22e7b340c77a18000009829372913', '\xebbb26765e8c2254e38a31d3f48c036c6e2b757cc260ded2d43823fc012a052c', 'UPGRADE-1', '0xebbb26765e8c2254e38a31d3f48c036c6e2b757cc260ded2d43823fc012a052c', 'user-1', 'submitted', 3, '', 0, 0, '\x01a22e7b341572eb8173c5af94f03248', NULL, NULL, '\x13408a8cdeb1c25b783f37040c616714', '\xa42f2344e289af80', 1, '', 1796076155916477, NULL, 1796076155932435, '', 1796076165920651, '\x70997970c51812dc3a010c7d01b50e0d17dc79c8', NULL, 793, NULL, NULL, NULL, NULL);
INSERT INTO registrar.registrations VALUES ('\x01a22e7b344c745a800000bec9b355c8', '\x1fe5a159589cde2979ef723ac11ab8e9a5ef4a76cee889b11dbde498e535aa15', 'UPGRADE-1', '0x1fe5a159589cde2979ef723ac11ab8e9a5ef4a76cee889b11dbde498e535aa15', 'user-1', 'queued', 2, 'INSUFFICIENT_FUNDS', 1796076156004755, 0, NULL, NULL, NULL, '\xcd1cec3fab9951cc8a9671f0bda85fce', '\x1704864d9a83b532', 1, '', 1796076155980272, NULL, 1796076156004755, '', 0, '\x70997970c51812dc3a010c7d01b50e0d17dc79c8', NULL, 798, NULL, NULL, NULL, NULL);


--
-- Data for Name: registries; Type: TABLE DATA; Schema: registrar; Owner: -
--

INSERT INTO registrar.registries VALUES (31337, '\xe1bb8faa418e9ff6be9696a46388a83b92d822c644ef2b5a9c0465365fddc9df', '\x5fbdb2315678afecb367f032d93f642f64180aa3', 1, '\xf53decb0d23e3b2509e13e8e7ed7765d859a1033ab3f37d59557e976def2b84c', 1796076155640289);


--
-- Data for Name: transactions; Type: TABLE DATA; Schema: registrar; Owner: -
--

INSERT INTO registrar.transactions VALUES ('\x01a22e7b333f7148bed154c37ae4d83b', '\x70997970c51812dc3a010c7d01b50e0d17dc79c8', 0, 'confirmed', 'unsafe', '\xfc652126aca14fcb959d856d6d242bc195bea36f35562a6505fe07b98af1c80a', 51669, 1, 1, 1796076155703010, 1796076155711812, 1796076155720962, 1796076155748273, 1796076155748273, NULL, 2, '\x1237c7dee332113641eb7e8104002640f4986787f250993ba0ffca0b4487777f', 1796076155000000, 50152, '883546209', NULL, NULL, NULL, '127.0.0.1', 1, NULL, NULL, NULL);
INSERT INTO registrar.transactions VALUES ('\x01a22e7b338873bc97435097840ec721', '\x70997970c51812dc3a010c7d01b50e0d17dc79c8', 1, 'confirmed', 'unsafe', '\x811793403f76944e182c2c75269ec35c4eb1fb27e41497d60b60377516ec6ef8', 51656, 1, 1, 1796076155779753, 1796076155784203, 1796076155790426, 1796076155820832, 1796076155820832, NULL, 3, '\x316c4cec7a04a8a7fc685bc1ff68596b9e141b684288e0ee2e4d4f91eb6ee50b', 1796076155000000, 50140, '773596779', NULL, NULL, NULL, '127.0.0.1', 1, NULL, NULL, NULL);
INSERT INTO registrar.transactions VALUES ('\x01a22e7b33cd77699dba318b5551899c', '\x70997970c51812dc3a010c7d01b50e0d17dc79c8', 2, 'confirmed', 'unsafe', '\x432bda2ea560d0984256fe9b11d42b2633cc65c2efc8b0b20f3965e1f1c29419', 51669, 1, 1, 1796076155850254, 1796076155853940, 1796076155860026, 1796076155888387, 1796076155888387, NULL, 4, '\xc850b4ccff711ece31a23cfd2b6330ac174fa5b3d7b135c98c685748d8f4be27', 1796076155000000, 50152, '677344999', NULL, NULL, NULL, '127.0.0.1', 1, NULL, NULL, NULL);
INSERT INTO registrar.transactions VALUES ('\x01a22e7b341572eb8173c5af94f03248', '\x70997970c51812dc3a010c7d01b50e0d17dc79c8', 3, 'submitted', 'unsafe', '\x01a6cb3f8ca6bba714b969e38c1ee500fe82cce562797e1c09af0f98728b0430', 51669, 1, 1, 1796076155921073, 1796076155925920, 1796076155932435, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '127.0.0.1', 1, NULL, NULL, NULL);


--
-- Data for Name: write_probes; Type: TABLE DATA; Schema: registrar; Owner: -
--

INSERT INTO registrar.write_probes VALUES ('\x01a22e7b32f67436953ccdd94fbd82f1', 1796076155664663, '\x');


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
-- Name: caller_usage caller_usage_pkey; Type: CONSTRAINT; Schema: registrar; Owner: -
--

ALTER TABLE ONLY registrar.caller_usage
    ADD CONSTRAINT caller_usage_pkey PRIMARY KEY (caller);


--
-- Name: delay_episodes delay_episodes_pkey; Type: CONSTRAINT; Schema: registrar; Owner: -
--

ALTER TABLE ONLY registrar.delay_episodes
    ADD CONSTRAINT delay_episodes_pkey PRIMARY KEY (cause);


--
-- Name: feed_histories feed_histories_id_key; Type: CONSTRAINT; Schema: registrar; Owner: -
--

ALTER TABLE ONLY registrar.feed_histories
    ADD CONSTRAINT feed_histories_id_key UNIQUE (id);


--
-- Name: feed_histories feed_histories_pkey; Type: CONSTRAINT; Schema: registrar; Owner: -
--

ALTER TABLE ONLY registrar.feed_histories
    ADD CONSTRAINT feed_histories_pkey PRIMARY KEY (number);


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
-- Name: write_probes write_probes_pkey; Type: CONSTRAINT; Schema: registrar; Owner: -
--

ALTER TABLE ONLY registrar.write_probes
    ADD CONSTRAINT write_probes_pkey PRIMARY KEY (holder);


--
-- Name: registrations_blocked; Type: INDEX; Schema: registrar; Owner: -
--

CREATE INDEX registrations_blocked ON registrar.registrations USING btree (blocked, id) WHERE (blocked <> ''::text);


--
-- Name: registrations_by_caller; Type: INDEX; Schema: registrar; Owner: -
--

CREATE INDEX registrations_by_caller ON registrar.registrations USING btree (caller, id) WHERE (caller IS NOT NULL);


--
-- Name: registrations_by_case; Type: INDEX; Schema: registrar; Owner: -
--

CREATE INDEX registrations_by_case ON registrar.registrations USING btree (case_id, id);


--
-- Name: registrations_by_change; Type: INDEX; Schema: registrar; Owner: -
--

CREATE INDEX registrations_by_change ON registrar.registrations USING btree (change_number, id);


--
-- Name: registrations_by_state; Type: INDEX; Schema: registrar; Owner: -
--

CREATE INDEX registrations_by_state ON registrar.registrations USING btree (state, id);


--
-- Name: registrations_by_transaction; Type: INDEX; Schema: registrar; Owner: -
--

CREATE INDEX registrations_by_transaction ON registrar.registrations USING btree (transaction_id) WHERE (transaction_id IS NOT NULL);


--
-- Name: registrations_by_user; Type: INDEX; Schema: registrar; Owner: -
--

CREATE INDEX registrations_by_user ON registrar.registrations USING btree (user_id, id) WHERE (user_id IS NOT NULL);


--
-- Name: registrations_delayed; Type: INDEX; Schema: registrar; Owner: -
--

CREATE INDEX registrations_delayed ON registrar.registrations USING btree (delay_cause) WHERE ((delayed_at IS NOT NULL) AND (state = ANY (ARRAY['queued'::text, 'signed'::text])));


--
-- Name: registrations_failed_by_case; Type: INDEX; Schema: registrar; Owner: -
--

CREATE INDEX registrations_failed_by_case ON registrar.registrations USING btree (case_id, id) WHERE (state = 'failed'::text);


--
-- Name: transactions_by_hash; Type: INDEX; Schema: registrar; Owner: -
--

CREATE INDEX transactions_by_hash ON registrar.transactions USING btree (hash);


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
-- Name: registrations set_change_number; Type: TRIGGER; Schema: registrar; Owner: -
--

CREATE TRIGGER set_change_number BEFORE UPDATE ON registrar.registrations FOR EACH ROW WHEN (((new.revision <> old.revision) AND (new.change_number = old.change_number))) EXECUTE FUNCTION registrar.set_change_number();


--
-- PostgreSQL database dump complete
--


