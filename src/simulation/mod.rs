//! Stories of everything that goes wrong on a real chain, told to the real service in virtual time.
//!
//! Lane, follower, store, waiters and endpoint pool are those of production; only the nodes beyond the endpoints are simulated
//! ([`crate::chain::simulated`]). `story` says what can happen, in words that can be pasted as a test; `world` makes it
//! happen; `replica` is one process of the service, one of two in some stories, and `service` starts it as `app` does; `life` ends or
//! freezes it after any of its awaits; `calm` says when nothing has anything to do until time goes on; `invariants` are looked at after
//! every step; `ground` is the database; `tests` holds the stories.
//!
//! Two replicas share one SQLite file under the leases of PostgreSQL (`store::shared_file`), which the story's clock lets expire. The
//! database itself notes what a replica writes for a signer whose lease is another one's.
//!
//! Time stands still until the world lets it go on, and it does so only when the service is calm. tokio would let a paused clock
//! leap while it waits for SQLite's threads; a blocking task that lives as long as the story keeps it from that
//! (<https://docs.rs/tokio/latest/tokio/time/fn.pause.html#auto-advance>).

mod crash_injection;
mod database;
mod invariants;
mod quiescence;
mod replica;
mod scenario;
mod service;
mod tests;
mod world;
