//! What a transaction offers per gas (EIP-1559).

/// How many times the current base fee is offered. Denim blocks of 200 ms can raise the base fee by about 14% each, so eight
/// times is a good three seconds of full blocks; what is not needed is not paid.
const BASE_FEE_HEADROOM: u128 = 8;

/// The fee fields of a transaction, in wei per gas.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fees {
    /// The most that is paid per gas, priority fee included.
    pub max_fee_per_gas: u128,
    /// What the block builder gets per gas.
    pub max_priority_fee_per_gas: u128,
}

/// The least that would be included now is above the cap.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("needs at least {needed} wei per gas, and the cap is {cap}")]
pub struct AboveCap {
    /// Base fee plus priority fee, in wei per gas.
    pub needed: u128,
    /// The operator's cap, in wei per gas.
    pub cap: u128,
}

/// Prices a transaction: base fee with headroom plus the priority fee, never above `cap`.
///
/// # Errors
/// [`AboveCap`] when not even the current base fee plus the priority fee fits under the cap.
pub fn price(base_fee: u128, priority_fee: u128, cap: u128) -> Result<Fees, AboveCap> {
    let needed = base_fee.saturating_add(priority_fee);
    if needed > cap {
        return Err(AboveCap { needed, cap });
    }
    let wanted = base_fee.saturating_mul(BASE_FEE_HEADROOM).saturating_add(priority_fee);
    Ok(Fees { max_fee_per_gas: wanted.min(cap), max_priority_fee_per_gas: priority_fee })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headroom_is_offered_up_to_the_cap_and_never_above() {
        let fees = |max_fee_per_gas, max_priority_fee_per_gas| Ok(Fees { max_fee_per_gas, max_priority_fee_per_gas });
        for (base, tip, cap, expected) in [
            (5, 1, 100, fees(41, 1)),
            (5, 1, 40, fees(40, 1)),
            (5, 1, 6, fees(6, 1)),
            (0, 0, 0, fees(0, 0)),
            (5, 2, 6, Err(AboveCap { needed: 7, cap: 6 })),
            (u128::MAX, 1, u128::MAX, fees(u128::MAX, 1)),
        ] {
            assert_eq!(price(base, tip, cap), expected, "base {base} tip {tip} cap {cap}");
        }
    }
}
