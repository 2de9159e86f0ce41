//! Why a registration failed for good.

use super::codes::coded_enum;

coded_enum! {
    /// The stable list behind `failure.reason`.
    pub enum FailureReason {
        /// The contract rejects this registration itself, whoever sends it.
        RejectedByContract = "REJECTED_BY_CONTRACT",
        /// Its transactions were mined and reverted, three times.
        TransactionReverted = "TRANSACTION_REVERTED",
    }
}

/// What callers and the store see of a failure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    pub reason: FailureReason,
    /// What happened and what to do about it.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_survive_a_round_trip() {
        for (value, code) in FailureReason::CODES {
            assert_eq!((value.code(), code.parse()), (code, Ok(value)));
        }
    }
}
