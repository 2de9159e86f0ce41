//! Short explanations of blocked reasons.

use crate::registration::BlockedReason;

/// The reason with its explanation, or alone if this version does not know it.
pub(super) fn describe(reason: &str) -> String {
    let Ok(blocked) = reason.parse::<BlockedReason>() else { return reason.to_owned() };
    let meaning = match blocked {
        BlockedReason::InsufficientFunds => "the signer cannot pay; send it ETH",
        BlockedReason::SignerNotAllowed => "the contract does not allow the signer",
        BlockedReason::FeeCap => "fees are above REGISTRAR_MAX_FEE_GWEI",
        BlockedReason::DailyBudget => "REGISTRAR_DAILY_BUDGET_ETH is used up",
        BlockedReason::NoEndpoint => "no RPC endpoint of the server is usable",
        BlockedReason::AwaitingConfirmations => "on chain, waiting for confirmations",
        BlockedReason::NodeRefuses => "the node rejects the transaction",
        BlockedReason::TooLarge => "it needs more gas than a block has",
        BlockedReason::SignerUnavailable => "the server's signer does not sign",
        BlockedReason::SignerThrottled => "the server's signer limits the rate",
    };
    format!("{reason}: {meaning}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_reason_is_explained() {
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
            "SIGNER_UNAVAILABLE",
            "SIGNER_THROTTLED",
        ] {
            assert!(describe(reason).len() > reason.len() && describe(reason).len() <= 66, "{}", describe(reason));
        }
    }
}
