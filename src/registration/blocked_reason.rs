//! Why a registration waits for an operator.

use super::codes::coded_enum;

coded_enum! {
    /// A problem that an operator can fix never fails a registration: it waits, and continues by itself once the
    /// problem is fixed.
    pub enum BlockedReason {
        /// The signer's balance cannot pay for the transaction.
        InsufficientFunds = "INSUFFICIENT_FUNDS",
        /// The contract does not allow the signer.
        SignerNotAllowed = "SIGNER_NOT_ALLOWED",
        /// The base fee and priority fee are above `REGISTRAR_MAX_FEE_GWEI`.
        FeeCap = "FEE_CAP",
        /// The day's budget, `REGISTRAR_DAILY_BUDGET_ETH`, is spent.
        DailyBudget = "DAILY_BUDGET",
        /// No RPC endpoint is usable.
        NoEndpoint = "NO_ENDPOINT",
        /// The pair is on chain already, in a block that is not deep enough yet.
        AwaitingConfirmations = "AWAITING_CONFIRMATIONS",
        /// A node rejects the signed transaction for now.
        NodeRefuses = "NODE_REFUSES",
        /// A block has less gas than a transaction with this registration alone needs.
        TooLarge = "TOO_LARGE",
        /// The remote signer cannot be reached, refuses, or answers with something else than what was asked for.
        SignerUnavailable = "SIGNER_UNAVAILABLE",
        /// The remote signer limits the rate of signatures.
        SignerThrottled = "SIGNER_THROTTLED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_survive_a_round_trip() {
        for (value, code) in BlockedReason::CODES {
            assert_eq!((value.code(), code.parse()), (code, Ok(value)));
        }
        assert!("".parse::<BlockedReason>().is_err());
    }
}
