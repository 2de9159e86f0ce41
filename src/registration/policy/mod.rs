//! Decisions about batches, fees, budgets and waits: numbers in, numbers out.

pub mod batching;
pub(crate) mod budget;
pub mod fees;
pub(crate) mod in_flight_limit;
pub(crate) mod next_nonce;
pub(crate) mod replacement;
pub(crate) mod share;
pub(crate) mod tip;
pub(crate) mod wait_deadline;
