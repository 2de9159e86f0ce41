//! Scenarios of everything that goes wrong on a real chain, run against the real service in virtual time.
//!
//! Pipeline, store, waiters and endpoint pool are those of production; only the nodes beyond the endpoints are
//! simulated ([`crate::chain::simulated`]). `scenario` lists the events that can happen, printed so that they can be
//! pasted as a test; `world` applies them; `replica` is one process of the service, one of two in some scenarios;
//! `service` starts it as `app` does, with the same workers; `crash_injection` ends or freezes it at any of its awaits;
//! `quiescence` detects that no task can proceed until time advances; `invariants` are checked after every event;
//! `tests` holds named and random scenarios.
//!
//! Two replicas share one SQLite file under the leases of PostgreSQL (`store::shared_sqlite_for_tests`), which expire
//! by the scenario's clock. Triggers in the database record what a replica writes for a signer whose lease another one
//! holds.
//!
//! The clock is paused, and the world advances it only when the service is quiescent. tokio would advance a paused
//! clock while it waits for SQLite's threads; a blocking task that lives as long as the scenario prevents that
//! (<https://docs.rs/tokio/latest/tokio/time/fn.pause.html#auto-advance>).

mod crash_injection;
mod database;
mod feed;
mod invariants;
mod quiescence;
mod replica;
mod scenario;
mod service;
mod tests;
mod world;
