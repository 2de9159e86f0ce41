//! The priority fee where blocks have room, from what endpoints report. No report is indispensable, and what blocks
//! paid limits what a node suggests: the priority fee is paid in full, while the base fee costs what the block asks.

/// Offered whatever blocks paid: Base's nodes suggest at least this much, and reth has an option that requires it. At most
/// 0.00000005 ETH for a registration.
const MIN_TIP: u128 = 1_000_000;
/// One endpoint alone is followed up to this many times the base fee.
const LONE_ENDPOINT_BASE_FEE_FACTOR: u128 = 10;
/// Only a suggestion above this is worth a warning: clients suggest it on a chain without transactions.
const DEFAULT_SUGGESTION: u128 = 1_000_000_000;
/// And only one that is this many times what is offered.
const WARN_FACTOR: u128 = 10;

/// What one endpoint reports, in wei per gas.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TipReport {
    /// `eth_maxPriorityFeePerGas`.
    pub suggested: Option<u128>,
    /// `eth_gasPrice` less the base fee.
    pub above_base_fee: Option<u128>,
    /// Of each recent block with transactions, its 10th percentile; `None` without `eth_feeHistory`.
    pub paid: Option<Vec<u128>>,
}

impl TipReport {
    /// To offer where blocks have room.
    pub fn tip(&self) -> u128 {
        let wanted = self.suggested.or(self.above_base_fee);
        match &self.paid {
            Some(paid) => {
                let limit = median(paid).unwrap_or_default().max(MIN_TIP);
                wanted.map_or(limit, |wanted| wanted.min(limit))
            }
            None => wanted.unwrap_or(MIN_TIP),
        }
    }

    /// What it shows as the price of inclusion, for a comparison with another endpoint's report.
    pub fn price(&self) -> u128 {
        self.paid.iter().flatten().copied().max().unwrap_or_default().max(self.tip())
    }

    /// A suggestion that is far above the offer, worth a warning.
    pub fn ignored_suggestion(&self, offered: u128) -> Option<u128> {
        self.suggested.filter(|tip| *tip > DEFAULT_SUGGESTION && *tip > offered.saturating_mul(WARN_FACTOR))
    }
}

/// The most that one endpoint's word is worth.
pub fn lone_endpoint_limit(base_fee: u128) -> u128 {
    base_fee.saturating_mul(LONE_ENDPOINT_BASE_FEE_FACTOR).max(MIN_TIP)
}

fn median(values: &[u128]) -> Option<u128> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GWEI: u128 = 1_000_000_000;

    #[test]
    fn what_blocks_paid_limits_a_suggestion_and_replaces_a_missing_one() {
        for (what, suggested, above_base_fee, paid, expected) in [
            ("all agree", Some(2_000_000), None, Some(vec![2_000_000, 3_000_000]), 2_000_000),
            ("empty blocks", Some(4 * GWEI), None, Some(vec![]), MIN_TIP),
            ("blocks pay 1 wei", Some(4 * GWEI), None, Some(vec![1, 1, 1]), MIN_TIP),
            ("an absurd suggestion", Some(1 << 100), None, Some(vec![7_000_000]), 7_000_000),
            ("blocks pay more than suggested", Some(5), None, Some(vec![7_000_000]), 5),
            ("no suggestion", None, None, Some(vec![7_000_000, 9_000_000, 1]), 7_000_000),
            ("no suggestion, empty blocks", None, None, Some(vec![]), MIN_TIP),
            ("only the gas price", None, Some(3_000_000), None, 3_000_000),
            ("gas price and history", None, Some(4 * GWEI), Some(vec![2_000_000]), 2_000_000),
            ("no history", Some(2_000_000), None, None, 2_000_000),
            ("nothing", None, None, None, MIN_TIP),
        ] {
            assert_eq!(TipReport { suggested, above_base_fee, paid }.tip(), expected, "{what}");
        }
    }

    #[test]
    fn one_endpoint_alone_is_followed_up_to_a_multiple_of_the_base_fee() {
        for (base_fee, expected) in [(0, MIN_TIP), (5_000_000, 50_000_000), (u128::MAX, u128::MAX)] {
            assert_eq!(lone_endpoint_limit(base_fee), expected);
        }
    }

    #[test]
    fn only_a_suggestion_far_above_the_offer_is_worth_a_warning() {
        let report = |suggested| TipReport { suggested: Some(suggested), ..TipReport::default() };
        for (suggested, offered, expected) in [
            (4 * GWEI, MIN_TIP, true),
            (GWEI, MIN_TIP, false),
            (4 * GWEI, GWEI, false),
            (1 << 100, 10 * GWEI, true),
            (u128::MAX, u128::MAX, false),
        ] {
            assert_eq!(report(suggested).ignored_suggestion(offered).is_some(), expected, "{suggested} {offered}");
        }
    }
}
