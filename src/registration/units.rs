//! Amounts as text.

use alloy::primitives::{
    U256,
    utils::{format_ether, format_units},
};

/// From wei per gas, in the unit of the settings.
pub fn format_gwei(wei: u128) -> String {
    format!("{} gwei", trim_trailing_zeros(format_units(U256::from(wei), "gwei").unwrap_or_default()))
}

pub fn format_eth(wei: U256) -> String {
    format!("{} ETH", trim_trailing_zeros(format_ether(wei)))
}

fn trim_trailing_zeros(decimal: String) -> String {
    if decimal.contains('.') { decimal.trim_end_matches('0').trim_end_matches('.').to_owned() } else { decimal }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_has_every_digit_that_says_something_and_no_other() {
        for (wei, text) in
            [(1, "0.000000001 gwei"), (5_000_000_000, "5 gwei"), (0, "0 gwei"), (120_000_000_000, "120 gwei")]
        {
            assert_eq!(format_gwei(wei), text);
        }
        assert_eq!(format_eth(U256::from(1_500_000_000_000_000_000_u64)), "1.5 ETH");
    }
}
