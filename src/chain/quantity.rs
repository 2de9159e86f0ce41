//! Numbers as nodes write them, and how large one may be. A value beyond that is no answer: the node is broken or
//! lies, and such a number must not reach arithmetic or a loop.

use alloy::primitives::{U256, ruint::ParseError};
use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};
use std::fmt;

/// Part of the error of a value that is too large.
pub(super) const OUT_OF_RANGE: &str = "out of range";

/// Nonces, block numbers, times in seconds, amounts of gas and chain ids are below: 2^53 - 1 is also the largest number
/// that every JSON parser keeps, and the largest chain id of EIP-2294 is 2^52.
pub(super) const MAX_QUANTITY: u64 = (1 << 53) - 1;
/// In wei: a million million ether.
const MAX_FEE: u128 = 1 << 100;

/// A nonce, a block number, a time, an amount of gas, or a chain id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Quantity(u64);

/// A fee per gas, or a fee, in wei.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fee(u128);

/// An amount of wei without a bound: anvil's accounts may have 2^256 - 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wei(U256);

impl Quantity {
    pub(super) fn get(self) -> u64 {
        self.0
    }
}

impl Fee {
    pub(super) fn wei(self) -> u128 {
        self.0
    }
}

impl Wei {
    pub(super) fn get(self) -> U256 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::try_from(read_number(deserializer)?).ok().filter(|number| *number <= MAX_QUANTITY);
        number.map(Self).ok_or_else(|| D::Error::custom(OUT_OF_RANGE))
    }
}

impl<'de> Deserialize<'de> for Fee {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u128::try_from(read_number(deserializer)?).ok().filter(|number| *number < MAX_FEE);
        number.map(Self).ok_or_else(|| D::Error::custom(OUT_OF_RANGE))
    }
}

impl<'de> Deserialize<'de> for Wei {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_number(deserializer).map(Self)
    }
}

fn read_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<U256, D::Error> {
    deserializer.deserialize_any(NumberVisitor)
}

/// Hexadecimal with or without leading zeros, a decimal string, or a JSON number.
struct NumberVisitor;

impl Visitor<'_> for NumberVisitor {
    type Value = U256;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<U256, E> {
        let text = text.trim();
        let (radix, digits) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(digits) => (16, digits),
            None => (10, text),
        };
        // An empty number would be zero: a nonce that no endpoint gave.
        if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
            return Err(E::custom("not a number"));
        }
        U256::from_str_radix(digits, u64::from(radix)).map_err(|error| match error {
            ParseError::BaseConvertError(_) => E::custom(OUT_OF_RANGE),
            ParseError::InvalidDigit(_) | ParseError::InvalidRadix(_) => E::custom("not a number"),
        })
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<U256, E> {
        Ok(U256::from(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<U256, E> {
        u64::try_from(number).map(U256::from).map_err(|_| E::custom(OUT_OF_RANGE))
    }

    /// JavaScript gateways write large numbers so.
    fn visit_f64<E: Error>(self, number: f64) -> Result<U256, E> {
        let whole = number.fract() == 0.0 && (0.0..u128::MAX as f64).contains(&number);
        if whole { Ok(U256::from(number as u128)) } else { Err(E::custom(OUT_OF_RANGE)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, bool> {
        serde_json::from_str(json).map_err(|error| error.to_string().contains(OUT_OF_RANGE))
    }

    #[test]
    fn a_number_is_read_in_every_spelling_and_refused_when_it_is_implausible() {
        let max = MAX_QUANTITY;
        for (json, expected) in [
            (r#""0x0""#, Ok(0)),
            (r#""0x10""#, Ok(16)),
            (r#""0X1f""#, Ok(31)),
            (r#""0x0000000000000000000000000000000000000000000000000000000000000000000010""#, Ok(16)),
            (r#"" 16 ""#, Ok(16)),
            ("16", Ok(16)),
            ("16.0", Ok(16)),
            ("1.6e1", Ok(16)),
            (r#""0x1fffffffffffff""#, Ok(max)),
            (r#""0x20000000000000""#, Err(true)),
            (r#""0x4000000000000000""#, Err(true)),
            ("9007199254740992", Err(true)),
            ("1e300", Err(true)),
            ("-1", Err(true)),
            ("1.5", Err(true)),
            (&format!("\"0x{}\"", "f".repeat(65)), Err(true)),
            (r#""""#, Err(false)),
            (r#""0x""#, Err(false)),
            (r#""0xg""#, Err(false)),
            (r#""-1""#, Err(false)),
            ("null", Err(false)),
            ("[]", Err(false)),
        ] {
            assert_eq!(read::<Quantity>(json).map(Quantity::get), expected, "{json}");
        }
        let fee = |bits: u32| read::<Fee>(&format!("\"{:#x}\"", U256::from(1) << bits)).map(Fee::wei);
        assert_eq!((fee(99), fee(100), fee(127), fee(200)), (Ok(1 << 99), Err(true), Err(true), Err(true)));
        assert_eq!(read::<Wei>(&format!("\"{:#x}\"", U256::MAX)).map(Wei::get), Ok(U256::MAX));
    }
}
