//! The real things that the tests run against, each started for one test and gone with it.

pub mod anvil;
pub mod certificates;
pub mod cli;
pub mod client;
pub mod door;
pub mod foreign;
pub mod line;
pub mod metrics;
pub mod place;
#[allow(dead_code, reason = "the unit tests of the store use all of it")]
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod receivers;
pub mod registry;
pub mod rpc;
pub mod service;
pub mod stack;
pub mod story;
pub mod wait;

pub use anvil::{Anvil, account};
pub use client::{Client, Refusal, document, registering, seconds, until_late};
pub use line::{Condition as LineCondition, Line};
pub use place::Place;
pub use postgres::Database;
pub use proxy::{Fault, HttpAnswer, Proxy};
pub use receivers::{Mood, OtlpStore, Protocol, Reply, SentryStore};
pub use registry::{OUTSIDER, OWNER, Registry};
pub use service::{Service, Starting};
pub use stack::{Plan, Stack};
pub use story::Story;
pub use wait::{eventually, in_one_of, meanwhile, stays_pending, within};

pub use registrar::api::proto::{Cause, Finality, Registration, State, WaitFor};
