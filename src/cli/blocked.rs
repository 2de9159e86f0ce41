//! What a registration waits for, in half a sentence: whoever sees the code for the first time should not have to look it up.

use crate::registration::Blocked;

/// The reason with what it means and who mends it. One that this version does not know stays as it is.
pub(super) fn words(reason: &str) -> String {
    let Ok(blocked) = reason.parse::<Blocked>() else { return reason.to_owned() };
    let means = match blocked {
        Blocked::InsufficientFunds => "the signer cannot pay; send it ETH",
        Blocked::SignerNotAllowed => "the contract does not allow the signer",
        Blocked::FeeCap => "blocks ask more than REGISTRAR_MAX_FEE_GWEI allows",
        Blocked::DailyBudget => "REGISTRAR_DAILY_BUDGET_ETH is used up",
        Blocked::NoEndpoint => "no RPC endpoint answers the server",
        Blocked::AwaitingConfirmations => "it is on chain, not deep enough yet",
        Blocked::NodeRefuses => "the node does not take its transaction",
        Blocked::TooLarge => "a block takes less gas than it needs",
    };
    format!("{reason}: {means}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_explained_where_it_is_known() {
        assert_eq!(words("INSUFFICIENT_FUNDS"), "INSUFFICIENT_FUNDS: the signer cannot pay; send it ETH");
        assert_eq!(words("OF_TOMORROW"), "OF_TOMORROW");
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
            assert!(words(reason).len() > reason.len() && words(reason).len() <= 66, "{}", words(reason));
        }
    }
}
