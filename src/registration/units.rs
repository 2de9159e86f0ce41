//! Amounts as people read them.

use alloy::primitives::{
    U256,
    utils::{format_ether, format_units},
};

/// Wei per gas, in gwei: as the settings are given.
pub fn gwei(wei: u128) -> String {
    format!("{} gwei", trimmed(format_units(U256::from(wei), "gwei").unwrap_or_default()))
}

/// Wei, in ether.
pub fn ether(wei: U256) -> String {
    format!("{} ETH", trimmed(format_ether(wei)))
}

/// Without the zeros at the end, which say nothing.
fn trimmed(decimal: String) -> String {
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
            assert_eq!(gwei(wei), text);
        }
        assert_eq!(ether(U256::from(1_500_000_000_000_000_000_u64)), "1.5 ETH");
    }
}
