//! Real dependencies for the tests: each is started for one test and removed when it ends.

pub mod anvil;
pub mod browser;
pub mod certificates;
pub mod change_feed;
pub mod cli;
pub mod client;
pub mod earlier_version;
pub mod http2;
#[allow(dead_code, reason = "the unit tests of tokens use all of it")]
pub mod issuer;
pub mod keystore;
pub mod language_client;
pub mod listener;
pub mod load_scenario;
pub mod metrics;
pub mod pgbouncer;
#[allow(dead_code, reason = "the unit tests of the store use all of it")]
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod receivers;
pub mod registry;
pub mod remote_signer;
mod replicated_postgres;
pub mod rpc;
pub mod scratch_dir;
pub mod service;
pub mod stack;
pub mod tcp_proxy;
pub mod tls_client;
pub mod tls_front;
pub mod wait;

pub use anvil::{Anvil, account};
pub use client::{
    CASE, CallError, Client, document, register_all_request, register_request, register_until_timeout, seconds,
};
pub use load_scenario::LoadScenario;
pub use pgbouncer::PgBouncer;
pub use postgres::Database;
pub use proxy::{Fault, HttpAnswer, Proxy};
pub use receivers::{Behavior, OtlpStore, Protocol, Reply, SentryStore};
pub use registry::{EXTERNAL_REGISTRAR, OWNER, Registry};
pub use replicated_postgres::ReplicatedServers;
pub use scratch_dir::ScratchDir;
pub use service::{Service, Starting};
pub use stack::{StackBuilder, TestStack};
pub use tcp_proxy::{TcpProxy, TcpProxyMode};
pub use wait::{assert_pending, eventually, retry_timing, until_observed, within};

pub use registrar::api::proto::{Cause, Finality, Registration, State, WaitFor};
