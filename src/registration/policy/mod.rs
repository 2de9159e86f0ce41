//! "Should we, how many, how long, how much?": numbers in, numbers out.

pub mod batching;
pub mod budget;
pub mod fees;
pub mod in_flight_limit;
pub mod replacement;
pub mod wait_deadline;
