//! The integration tests: the built binary against a real node, one file per area of behaviour.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]
#![allow(clippy::result_large_err, reason = "an error with all its details is large, and a test makes few")]

mod architecture;
mod blocked;
mod clocks;
mod commands;
mod confirmation;
mod contract;
mod crash;
mod dev;
mod diagnosis;
mod errors;
mod exactly_once;
mod failure;
mod foreign;
mod harness;
mod limits;
mod list;
mod proxy;
mod reorg;
mod shutdown;
mod start;
mod surface;
mod trace_id;
mod watch;
