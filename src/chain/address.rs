//! Addresses as people write them.

use alloy::primitives::Address;

/// Rejects a mistyped one if it has a checksum (EIP-55), that is, letters of both cases.
pub fn parse_address(text: &str) -> Result<Address, &'static str> {
    match text.parse() {
        Ok(Address::ZERO) => Err("is the zero address"),
        Ok(_) if is_mixed_case(text) && Address::parse_checksummed(with_prefix(text), None).is_err() => {
            Err("has a wrong checksum (EIP-55): a digit or letter is mistyped; copy the address again")
        }
        Ok(address) => Ok(address),
        Err(_) => Err("is not an address (0x and 40 hex digits)"),
    }
}

/// Only such an address has a checksum.
fn is_mixed_case(address: &str) -> bool {
    let digits = address.trim_start_matches("0x");
    digits.contains(char::is_uppercase) && digits.contains(char::is_lowercase)
}

fn with_prefix(address: &str) -> String {
    format!("0x{}", address.trim_start_matches("0x"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_a_mistyped_letter_is_refused_by_its_checksum() {
        let checksummed = "0x5FbDB2315678afecb367f032d93F642f64180aa3";
        let expected: Result<Address, &str> = Ok(checksummed.parse().unwrap());
        for text in [
            checksummed,
            checksummed.trim_start_matches("0x"),
            &checksummed.to_lowercase(),
            &format!("0x{}", checksummed.trim_start_matches("0x").to_uppercase()),
        ] {
            assert_eq!(parse_address(text), expected, "{text}");
        }
        for (text, problem) in [
            ("0x5FbDB2315678afecb367f032d93F642f64180aA3", "checksum"),
            ("0x5FbDB2315678afecb367f032d93F642f64180ab3", "checksum"),
            ("0x0000000000000000000000000000000000000000", "zero"),
            ("0x5FbDB2315678afecb367f032d93F642f64180a", "40 hex digits"),
        ] {
            assert!(parse_address(text).unwrap_err().contains(problem), "{text}");
        }
    }
}
