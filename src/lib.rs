//! The Registrar: puts a document's hash on chain, and knows what happened.
//!
//! # Rooms
//!
//! | room | holds | names, alone |
//! |---|---|---|
//! | [`registration`] | WHAT a registration is: values, states, policy, diagnosis. Pure: no await, no clock, no I/O | |
//! | [`pipeline`] | WHO moves it along: a lane per signer, one follower of the chain, journeys, waiters | |
//! | [`chain`] | the endpoint pool, node errors, signing, the contract | alloy's provider |
//! | [`store`] | what must survive | sqlx |
//! | [`api`] | gRPC and the admin HTTP server | tonic, axum |
//! | [`telemetry`] | logs, spans, reports, metrics, trace ids, and the redactor before them all | opentelemetry, sentry |
//! | [`config`] | the environment to validated settings, all faults at once | the environment |
//! | [`cli`] | client commands and the development stack; speaks to the service through its public gRPC | clap |
//! | [`clock`] | what time it is by the calendar | |
//! | [`app`] | builds the rooms, spawns, drains in order | |
//!
//! # Arrows
//!
//! `main -> cli -> app, config, telemetry, api::proto, registration` · `app -> every room` ·
//! `api -> pipeline, registration, telemetry` ·
//! `pipeline -> registration, chain, store, telemetry` · `chain, store -> registration, telemetry` ·
//! `app, api, pipeline, chain, store -> clock -> registration` ·
//! `telemetry -> registration` · `config -> every room's settings` · `registration -> nothing of ours`.
//! `tests/it/architecture.rs` keeps this true.
//!
//! # The life of one request
//!
//! 1. `api::layer` reads the caller's trace headers, or mints a trace id. It is a value: stored and returned, exported or not.
//! 2. `api::read` turns text into a `DocumentHash` and a `CaseId`, or answers with every field that is wrong.
//! 3. `store::accept` inserts the row or finds the one with the same pair; requests that arrive together share a commit. The
//!    commit is the promise.
//! 4. While `pipeline::tenure` holds the signer's lease, its `pipeline::lane` claims what is queued, one or many. One simulated call says whether anything of it is on chain already
//!    (then it is settled by its original event); the rest is fitted, priced, given the next nonce and signed, and nonce and
//!    bytes are committed together. No node has seen anything yet.
//! 5. The same bytes are broadcast until a node has them. A crash, a hang or an unclear answer anywhere is cured by sending the
//!    same bytes again, to every endpoint where it is unclear which one has them.
//!    What no block takes after that is looked after by its lane, by `registration::policy::replacement`: sent again, signed again
//!    at the same nonce with a higher offer or a smaller batch, or freed of a nonce that is missing before it. Each version is on
//!    disk before a node sees it, and any of them may be the one that is included.
//! 6. `pipeline::follower` finds the receipt once the nonce has passed, checks its block against the canonical one, settles each
//!    registration by its own event, counts depth, and wakes whoever waits.
//! 7. A reorg sends it back to 5; a consumed nonce that registered nothing sends its work back to 4.
//! 8. What is late, or asked about, is diagnosed: `pipeline::evidence` gathers what can be seen, once for all who ask, and
//!    `registration::diagnosis` names the one cause, the sentence and the numbers. It ends waits, never work.
//!
//! 9. `telemetry::spans` decides what of all this is kept, when it has ended: what went wrong, and a share of the rest. The call's
//!    span is live; the journey's are told from what it remembers, so that a restart in between leaves no gap.
//!
//! # Invariants
//!
//! - I1 An accepted registration ends confirmed, or failed with a reason, or says what it waits for.
//! - I2 No node sees bytes that are not on disk, and no nonce is used for two different things but to replace one on purpose.
//! - I3 Work gets a new nonce only when the old one is consumed at confirmation depth by something else.
//! - I4 A pair is registered at most once: by the store's key, and by the contract.
//! - I5 Only the holder of a signer's lease writes for it: an SQLite file belongs to one process, by a lock of the operating system;
//!   on PostgreSQL what a stale holder writes is refused.
//! - I6 Included is judged by block hash on the canonical chain; a node's "null" proves nothing by itself.
//! - I7 What the contract or the node says about our request never counts against an endpoint.
//! - I8 Telemetry never blocks, slows or fails the work: what is kept leaves on threads of its own, through bounded queues.
//! - I9 No private key, API key or e-mail address leaves in a log, span, error or metric.
//! - I10 At most 15 transactions in flight per signer.

pub mod api;
pub mod app;
pub mod chain;
pub mod cli;
pub mod clock;
pub mod config;
pub mod pipeline;
pub mod registration;
pub(crate) mod store;
pub mod telemetry;
