//! WHAT a registration is. Pure: no await, no clock, no I/O; `now` is an argument.
//!
//! Text becomes a [`DocumentHash`] and a [`CaseId`] here, [`State`] moves only by [`State::next`], and everything that asks
//! "should we?" is a function in [`policy`] or [`diagnosis`].

mod blocked_reason;
mod case_id;
pub mod diagnosis;
mod document_hash;
mod pair;
pub mod policy;
mod record;
mod state;
mod time;
mod trace;
pub mod units;

pub use blocked_reason::{BlockedReason, Failure, FailureReason};
pub use case_id::{CaseId, CaseIdError, UserId, UserIdError};
pub use diagnosis::{Cause, Diagnosis};
pub use document_hash::{DocumentHash, DocumentHashError};
pub use pair::Pair;
pub use record::{
    Block, Cost, NewRegistration, OwnTransaction, Registration, RegistrationId, StateTimes, Transaction, TransactionId,
};
pub use state::{Finality, State, StateEvent};
pub use time::Timestamp;
pub use trace::{SpanId, TraceContext, TraceId};
