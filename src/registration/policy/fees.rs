//! The fees of a transaction (EIP-1559).

use crate::registration::{observations::BlockFullness, units::format_gwei};

/// Headroom above the current base fee: what is not needed is not paid. With the parameters of Base Sepolia's blocks of
/// 2 s a full block raises the base fee by 14%, (elasticity 15 - 1) / denominator 100, and a factor of eight lasts for
/// 16 full blocks. Blocks of 200 ms have a tenth of that each, by a tenfold denominator; without it the factor would
/// still last for three seconds.
const BASE_FEE_MULTIPLIER: u128 = 8;
/// The headroom ends at this part of the cap, so that a pending transaction can still be replaced: nodes accept a
/// replacement only when both fees are a tenth higher.
const HEADROOM_CAP_DIVISOR: u128 = 2;

/// The fee fields of a transaction, in wei per gas.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fees {
    /// Priority fee included.
    pub max_fee_per_gas: u128,
    /// Paid to the block builder.
    pub max_priority_fee_per_gas: u128,
}

/// The minimum for inclusion now is above the cap.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("needs at least {} per gas, and the cap is {}", format_gwei(*needed), format_gwei(*cap))]
pub struct FeeCapExceeded {
    /// Base fee plus priority fee, in wei per gas.
    pub needed: u128,
    /// The operator's cap, in wei per gas.
    pub cap: u128,
}

/// Base fee with headroom plus the priority fee, never above `cap`.
///
/// # Errors
/// When the current base fee plus the priority fee is above the cap.
pub fn price(base_fee: u128, priority_fee: u128, cap: u128) -> Result<Fees, FeeCapExceeded> {
    let needed = base_fee.saturating_add(priority_fee);
    if needed > cap {
        return Err(FeeCapExceeded { needed, cap });
    }
    let wanted = base_fee.saturating_mul(BASE_FEE_MULTIPLIER).saturating_add(priority_fee);
    let max_fee_per_gas = wanted.min(cap / HEADROOM_CAP_DIVISOR).max(needed);
    Ok(Fees { max_fee_per_gas, max_priority_fee_per_gas: priority_fee })
}

/// The higher of the node's suggestion and the congestion tip, limited to what the cap leaves above the base fee:
/// only the base fee is mandatory.
pub fn priority_fee(suggested: u128, congestion: Option<u128>, base_fee: u128, cap: u128) -> u128 {
    congestion.unwrap_or_default().max(suggested).min(cap.saturating_sub(base_fee))
}

/// One wei above the median of the full blocks, when most of the newest blocks had no room for `gas`; else `None`,
/// because a transaction that fits beside all others is included for any priority fee.
pub fn congestion_tip(blocks: &[BlockFullness], gas: u64) -> Option<u128> {
    let mut tips: Vec<u128> = blocks.iter().filter(|block| block.free_gas < gas).map(|block| block.p10_tip).collect();
    tips.sort_unstable();
    let median = tips.get(tips.len() / 2)?;
    (tips.len() * 2 > blocks.len()).then_some(median.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headroom_is_offered_up_to_half_of_the_cap_and_the_least_up_to_all_of_it() {
        let fees = |max_fee_per_gas, max_priority_fee_per_gas| Ok(Fees { max_fee_per_gas, max_priority_fee_per_gas });
        for (base, tip, cap, expected) in [
            (5, 1, 100, fees(41, 1)),
            (5, 1, 40, fees(20, 1)),
            (5, 1, 11, fees(6, 1)),
            (5, 1, 6, fees(6, 1)),
            (0, 0, 0, fees(0, 0)),
            (5, 2, 6, Err(FeeCapExceeded { needed: 7, cap: 6 })),
            (u128::MAX, 1, u128::MAX, fees(u128::MAX, 1)),
        ] {
            assert_eq!(price(base, tip, cap), expected, "base {base} tip {tip} cap {cap}");
        }
    }

    #[test]
    fn a_crowd_is_outbid_and_a_suggestion_followed_as_far_as_the_cap_allows() {
        for (suggested, crowd, base, cap, expected) in [
            (2, None, 5, 100, 2),
            (2, Some(9), 5, 100, 9),
            (2, Some(1), 5, 100, 2),
            (2, Some(9), 95, 100, 5),
            (2, Some(9), 99, 100, 1),
            (99, None, 5, 100, 95),
            (2, Some(9), 200, 100, 0),
        ] {
            assert_eq!(priority_fee(suggested, crowd, base, cap), expected, "{suggested} {crowd:?} {base} {cap}");
        }
    }

    #[test]
    fn only_blocks_without_room_make_a_crowd_and_only_when_they_are_most() {
        let block = |room, low_tip| BlockFullness { free_gas: room, p10_tip: low_tip };
        let (full, free) = (|tip| block(10, tip), block(1_000, 500));
        assert_eq!(congestion_tip(&[], 100), None);
        assert_eq!(congestion_tip(&[free, free, full(7)], 100), None);
        assert_eq!(congestion_tip(&[free, full(7)], 100), None, "half is not most");
        assert_eq!(congestion_tip(&[free, full(7), full(3)], 100), Some(8));
        assert_eq!(congestion_tip(&[full(9), full(7), full(3)], 100), Some(8));
        assert_eq!(congestion_tip(&[full(9), full(7), full(3)], 10), None, "it fits beside them");
    }
}
