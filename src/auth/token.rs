//! Bearer tokens: made once, stored as their SHA-256.

use alloy::primitives::hex;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

/// Recognizable for scanners that search code for secrets.
const TOKEN_PREFIX: &str = "rgs_";
const HASH_PREFIX: &str = "sha256:";
const TOKEN_BYTES: usize = 32;

/// The SHA-256 of a token. It reveals nothing of a token of 256 random bits, and neither does the time that it takes to
/// compare it: which token has a given hash cannot be chosen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct TokenHash([u8; 32]);

/// A fresh token, to be shown once.
pub struct NewToken {
    /// The secret.
    pub token: String,
    /// For `tokens` in the callers file.
    pub hash: String,
}

impl NewToken {
    /// From the random numbers of the operating system.
    ///
    /// # Errors
    /// When the operating system has none.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut random = [0; TOKEN_BYTES];
        getrandom::fill(&mut random)?;
        let token = format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
        let hash = format!("{HASH_PREFIX}{}", hex::encode(TokenHash::of(&token).0));
        Ok(Self { token, hash })
    }
}

impl TokenHash {
    pub(super) fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// `sha256:` and 64 hex digits. The text is not repeated in the error: it may be the token itself.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "is not the hash of a token: expected sha256: and 64 hex digits, as `registrar token new` \
                                prints";
        let digits = text.strip_prefix(HASH_PREFIX).ok_or(EXPECTED)?;
        let mut hash = [0; 32];
        let is_plain = digits.len() == 64 && !digits.starts_with("0x");
        is_plain.then(|| hex::decode_to_slice(digits, &mut hash).ok()).flatten().ok_or(EXPECTED)?;
        Ok(Self(hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_has_256_random_bits_and_the_hash_that_is_printed_with_it() {
        let [first, second] = [(); 2].map(|()| NewToken::generate().unwrap());
        assert_eq!(first.token.len(), 4 + 43);
        assert!(first.token.starts_with("rgs_") && first.token != second.token);
        assert_eq!(TokenHash::parse(&first.hash), Ok(TokenHash::of(&first.token)));
        assert_ne!(TokenHash::of(&first.token), TokenHash::of(&second.token));
    }

    #[test]
    fn what_is_no_hash_is_refused_without_repeating_it() {
        let digits = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        assert_eq!(TokenHash::parse(&format!("sha256:{digits}")), Ok(TokenHash::of("test")));
        for text in [digits, "sha256:9", "rgs_abc", &format!("sha256:{}", &digits[1..]), &format!("SHA256:{digits}")] {
            assert!(!TokenHash::parse(text).unwrap_err().contains(text), "{text}");
        }
    }
}
