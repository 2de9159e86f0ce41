//! What a registration waits for, in half a sentence: whoever sees the code for the first time should not have to look it up.

use crate::registration::BlockedReason;

/// The reason with what it means and who mends it. One that this version does not know stays as it is.
pub(super) fn describe(reason: &str) -> String {
    let Ok(blocked) = reason.parse::<BlockedReason>() else { return reason.to_owned() };
    let means = match blocked {
        BlockedReason::InsufficientFunds => "the signer cannot pay; send it ETH",
        BlockedReason::SignerNotAllowed => "the contract does not allow the signer",
        BlockedReason::FeeCap => "blocks ask more than REGISTRAR_MAX_FEE_GWEI allows",
        BlockedReason::DailyBudget => "REGISTRAR_DAILY_BUDGET_ETH is used up",
        BlockedReason::NoEndpoint => "no RPC endpoint answers the server",
        BlockedReason::AwaitingConfirmations => "it is on chain, not deep enough yet",
        BlockedReason::NodeRefuses => "the node does not take its transaction",
        BlockedReason::TooLarge => "a block takes less gas than it needs",
    };
    format!("{reason}: {means}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_explained_where_it_is_known() {
        assert_eq!(describe("INSUFFICIENT_FUNDS"), "INSUFFICIENT_FUNDS: the signer cannot pay; send it ETH");
        assert_eq!(describe("OF_TOMORROW"), "OF_TOMORROW");
        // Beside its label it fits a terminal of 80 columns.
        for reason in [
            "INSUFFICIENT_FUNDS",
            "SIGNER_NOT_ALLOWED",
            "FEE_CAP",
            "DAILY_BUDGET",
            "NO_ENDPOINT",
            "AWAITING_CONFIRMATIONS",
            "NODE_REFUSES",
            "TOO_LARGE",
        ] {
            assert!(describe(reason).len() > reason.len() && describe(reason).len() <= 66, "{}", describe(reason));
        }
    }
}
