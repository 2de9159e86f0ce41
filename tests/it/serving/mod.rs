//! Callers that misbehave, by accident or not: what they get, and that others do not notice.

mod connections;
mod memory;
mod requests;
mod shares;
