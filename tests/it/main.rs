//! The integration tests: the built binary against a real node, one file per area of behaviour.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]
#![allow(clippy::result_large_err, reason = "an error with all its details is large, and a test makes few")]

mod answers;
mod architecture;
mod auth;
mod backup_restore;
mod batches;
mod blocked;
mod certificate;
mod changes;
mod chaos;
mod commands;
mod confirmation;
mod contract;
mod crash;
mod dev;
mod diagnosis;
mod documents;
mod endpoints_start;
mod errors;
mod exactly_once;
mod failover;
mod failure;
mod forged_answers;
mod front;
mod grpc_surface;
mod harness;
mod heads;
mod healthcheck;
mod hostile_node;
mod jwt;
mod kubernetes;
mod language_clients;
mod limits;
mod list;
mod log_output;
mod metrics;
mod operator_page;
mod operators;
mod outages;
mod packaging;
mod postgres;
mod propagation;
mod proxy;
mod quorum;
mod receivers;
mod register_many;
mod reorg;
mod replacement;
mod restart;
mod retention;
mod rotation;
mod secrets;
mod sends;
mod serving;
mod shutdown;
mod signers;
mod sqlite_file;
mod start;
mod telemetry;
mod throttling;
mod timeouts;
mod tls;
mod trace_id;
mod upgrade;
mod verify_load;
mod watch;
mod watch_page;
