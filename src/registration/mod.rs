//! What a registration is: values, states, policy and diagnosis. Pure: no await, no clock, no I/O; `now` is an
//! argument.
//!
//! [`DocumentHash`] and [`CaseId`] validate text. A registration changes state only as [`State::next`] allows. Every
//! decision is a function in [`policy`], and every explanation of a delay comes from [`diagnosis`].

#![warn(missing_docs)]

mod blocked_reason;
mod caller;
mod case_id;
mod codes;
pub(crate) mod diagnosis;
mod document_hash;
mod error_reason;
mod failure;
mod grpc_code;
mod ids;
pub(crate) mod observations;
mod pair;
pub mod policy;
mod record;
mod state;
mod time;
mod trace;
pub(crate) mod units;

pub use diagnosis::Cause;
pub use document_hash::{DocumentHash, DocumentWarning, GivenDocument};
pub use error_reason::ErrorReason;
pub use pair::Pair;

pub(crate) use blocked_reason::BlockedReason;
pub(crate) use caller::{CallerId, CallerName, CallerQuota, InvalidCallerName};
pub(crate) use case_id::{CaseId, UserId};
pub(crate) use diagnosis::Diagnosis;
pub(crate) use document_hash::DocumentHashError;
pub(crate) use failure::{Failure, FailureReason};
pub(crate) use grpc_code::GrpcCode;
pub(crate) use ids::{RegistrationId, TransactionId};
pub(crate) use record::{Block, Cost, NewRegistration, OwnTransaction, Registration, StateTimes, Transaction};
pub(crate) use state::{Finality, State, StateEvent};
pub(crate) use time::Timestamp;
pub(crate) use trace::{SpanId, TraceContext, TraceId};
