//! The result of a diagnosis.

use super::cause::Cause;
use crate::registration::time::Timestamp;
use std::collections::BTreeMap;

/// Why a registration was not confirmed at `time`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnosis {
    pub cause: Cause,
    /// The cause in plain words: at most [`super::MAX_EXPLANATION_CHARS`] characters of ASCII.
    pub explanation: String,
    /// The values that prove it, by stable camelCase keys.
    pub evidence: BTreeMap<String, String>,
    pub time: Timestamp,
}
