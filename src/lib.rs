//! The Registrar registers document hashes on chain and tracks each one until it is final.
//!
//! # Areas
//!
//! | area | holds | the only one that names |
//! |---|---|---|
//! | [`registration`] | what a registration is: values, states, policy, diagnosis. Pure: no await, no clock, no I/O | |
//! | [`certificate`] | files that prove a record without this service: build, write, read, verify. Pure | alloy_trie |
//! | [`pipeline`] | who moves it along: a sender per signer, a follower of the chain, waiters, registration traces | |
//! | [`chain`] | the endpoint pool, node errors, signing, the contract | alloy's provider |
//! | [`store`] | everything that survives a restart | sqlx, rusqlite |
//! | [`api`] | the server for gRPC, gRPC-Web and Connect, and the admin HTTP server | tonic, axum |
//! | [`auth`] | who may call: TLS of the listeners, credentials, callers, scopes, rates | rustls, jsonwebtoken, governor, toml |
//! | [`telemetry`] | logs, spans, reports, metrics, trace ids, redaction of all of them | opentelemetry, sentry |
//! | [`ui`] | the operator page: read only, rendered from what the pipeline reports | askama |
//! | [`config`] | the environment to validated settings, with all errors at once | the environment |
//! | [`cli`] | client commands and the development stack; calls the service through its public gRPC | clap |
//! | [`clock`] | the wall clock | |
//! | [`app`] | connects the areas, spawns tasks, drains in order | |
//!
//! # Dependencies
//!
//! `main -> cli -> app, config, telemetry, api::proto, registration` · `app -> all areas` ·
//! `api -> auth, pipeline, registration, telemetry, ui` · `ui -> auth, pipeline, registration, telemetry` ·
//! `auth -> registration, telemetry` · `pipeline -> registration, certificate, chain, store, telemetry` ·
//! `cli -> certificate` · `certificate -> registration` · `chain, store -> registration, telemetry` ·
//! `app, api, auth, pipeline, chain, store, ui -> clock -> registration` ·
//! `telemetry -> registration` · `config -> settings of all areas` · `registration -> no area`.
//! `tests/it/architecture` checks this.
//!
//! # The life of a request
//!
//! 1. `api::layer` reads the caller's trace headers, or generates a trace id. It is stored and returned whether or
//!    not it is exported.
//! 2. `api::decode` parses a `DocumentHash` and a `CaseId`, or answers with every invalid field.
//! 3. `store::accept` inserts the row or finds the one with the same pair; concurrent requests share a commit. With
//!    the commit the registration is accepted.
//! 4. While a replica holds the signer's lease, its sender (`pipeline::sender`) claims queued registrations, one or
//!    many. One simulated call shows which pairs are on chain already (they are completed from their original event).
//!    The others are batched, priced, given the next nonce and signed; nonce and bytes are committed together before
//!    any node sees them.
//! 5. The bytes are broadcast until a node accepts them. After a crash, a timeout or an unclear response, the same
//!    bytes are sent again, to every endpoint that may lack them. As long as no block includes the transaction, the
//!    sender maintains it by `registration::policy::replacement`: it rebroadcasts it, replaces it at the same nonce
//!    with higher fees or a smaller batch, or fills a missing lower nonce. Each attempt is on disk before a node sees
//!    it, and any of them may be the one that is included.
//! 6. `pipeline::follower` reads the receipt once the nonce is consumed, checks its block against the canonical one,
//!    completes each registration by its own event, counts confirmations, and wakes waiting calls.
//! 7. A reorg returns an own transaction to step 5, and registrations that a foreign transaction had confirmed to step
//!    4. So does a nonce that something else consumed.
//! 8. A late registration, or one that a caller asks about, is diagnosed: `pipeline::evidence` collects observations,
//!    once for all callers, and `registration::diagnosis` names one cause, an explanation and the values. A diagnosis
//!    ends waits, never the work.
//! 9. `telemetry::spans` decides at the end of a trace whether it is kept: every trace with an error, and a share of
//!    the others. The span of the call is live; those of the registration are created from stored data, so that a
//!    restart leaves no gap.
//!
//! # Invariants
//!
//! - I1 An accepted registration ends confirmed, or failed with a reason, or states what it waits for.
//! - I2 No node receives bytes that are not on disk, and a nonce is reused only for an intended replacement.
//! - I3 A registration gets a new nonce only after the old one is consumed at confirmation depth by something else.
//! - I4 A pair is registered at most once: by the store's key, and by the contract.
//! - I5 Only the holder of a signer's lease writes for it. An SQLite file belongs to one process, by a lock of the
//!   operating system; on PostgreSQL writes of a previous holder are rejected.
//! - I6 Inclusion is decided by block hash on the canonical chain; a node's "null" proves nothing by itself.
//! - I7 What the contract or the node says about our request never counts against an endpoint.
//! - I8 Telemetry never blocks, slows or fails the work: it is exported by its own threads from bounded queues.
//! - I9 No private key, API key or e-mail address appears in a log, span, error or metric.
//! - I10 At most 15 transactions per signer are in flight.

pub mod api;
pub mod app;
pub(crate) mod auth;
pub mod certificate;
pub mod chain;
pub mod cli;
pub mod clock;
pub mod config;
pub mod pipeline;
pub mod registration;
#[cfg(test)]
mod simulation;
pub(crate) mod store;
pub mod telemetry;
pub(crate) mod ui;
