//! The case a document is registered for, and the caller's opaque id of its user.

use alloy::primitives::{B256, keccak256};
use std::{fmt, str::FromStr};

/// A case id: `[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}`.
///
/// It becomes public on chain forever, so the alphabet has no `@`: an e-mail address cannot be one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CaseId(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaseIdError {
    #[error("is empty")]
    Empty,
    /// Too long.
    #[error("is {bytes} bytes long: at most {} are allowed", CaseId::MAX_BYTES)]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// Begins with something other than a letter or digit.
    #[error("must begin with a letter or a digit (A-Z, a-z, 0-9)")]
    BadStart,
    /// Has a character outside the alphabet.
    #[error(
        "has {character:?} at position {position}: only letters, digits and . _ : / - are allowed, because it \
         becomes public on chain"
    )]
    BadCharacter {
        /// The first such character.
        character: char,
        /// Counted in characters from 0.
        position: usize,
    },
}

impl CaseId {
    /// The longest case id in bytes, as in the contract.
    pub const MAX_BYTES: usize = 64;

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The keccak-256 of the text, by which the contract's events are indexed.
    pub fn keccak(&self) -> B256 {
        keccak256(self.0.as_bytes())
    }
}

impl FromStr for CaseId {
    type Err = CaseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(first) = text.chars().next() else { return Err(CaseIdError::Empty) };
        if text.len() > Self::MAX_BYTES {
            return Err(CaseIdError::TooLong { bytes: text.len() });
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._:/-".contains(c);
        if let Some((position, character)) = text.chars().enumerate().find(|&(_, c)| !allowed(c)) {
            return Err(CaseIdError::BadCharacter { character, position });
        }
        if !first.is_ascii_alphanumeric() {
            return Err(CaseIdError::BadStart);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for CaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The caller's opaque id of its end user: at most 128 visible ASCII characters, and no e-mail address.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct UserId(String);

/// Why a text is no user id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserIdError {
    /// Too long.
    #[error("is {bytes} bytes long: at most {} are allowed", UserId::MAX_BYTES)]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// Has a space, a control character or one outside ASCII.
    #[error("has a character that is not visible ASCII at position {position}")]
    NotVisible {
        /// Counted in characters from 0.
        position: usize,
    },
    /// Looks like an e-mail address.
    #[error("looks like an e-mail address: use an opaque id, because it is sent to Sentry")]
    Email,
}

impl UserId {
    /// The longest user id in bytes.
    pub const MAX_BYTES: usize = 128;

    /// Reads a user id; the empty text means none.
    ///
    /// # Errors
    /// When it is too long, not visible ASCII, or an e-mail address.
    pub fn parse_optional(text: &str) -> Result<Option<Self>, UserIdError> {
        if text.is_empty() {
            return Ok(None);
        }
        if text.len() > Self::MAX_BYTES {
            return Err(UserIdError::TooLong { bytes: text.len() });
        }
        if let Some(position) = text.chars().position(|c| !c.is_ascii_graphic()) {
            return Err(UserIdError::NotVisible { position });
        }
        if looks_like_email(text) {
            return Err(UserIdError::Email);
        }
        Ok(Some(Self(text.to_owned())))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `something@something.something`, anywhere in the text. Lenient on purpose: a false alarm costs the caller a rename,
/// a miss leaks an address.
fn looks_like_email(text: &str) -> bool {
    text.match_indices('@').any(|(at, _)| {
        let (local, domain) = (&text[..at], &text[at + 1..]);
        local.chars().any(char::is_alphanumeric) && domain.trim_matches('.').contains('.')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn case_ids_are_taken_or_refused_with_the_reason() {
        use CaseIdError::*;
        let longest = "a".repeat(64);
        for good in ["a", "7", "case-42", "A.b_c:d/e-f", longest.as_str()] {
            assert_eq!(good.parse::<CaseId>().as_ref().map(CaseId::as_str), Ok(good));
        }
        for (text, fault) in [
            ("", Empty),
            (&"a".repeat(65), TooLong { bytes: 65 }),
            ("-a", BadStart),
            ("/a", BadStart),
            ("a b", BadCharacter { character: ' ', position: 1 }),
            ("a\n", BadCharacter { character: '\n', position: 1 }),
            ("a\0", BadCharacter { character: '\0', position: 1 }),
            ("a@b.example", BadCharacter { character: '@', position: 1 }),
            ("é", BadCharacter { character: 'é', position: 0 }),
        ] {
            assert_eq!(text.parse::<CaseId>(), Err(fault), "{text:?}");
        }
    }

    #[test]
    fn user_ids_are_taken_or_refused_with_the_reason() {
        use UserIdError::*;
        for good in ["u-1", "auth0|5f7c8ec7c33c6c004bbafe82", "@handle", "a@b", &"x".repeat(128)] {
            assert_eq!(UserId::parse_optional(good).unwrap().unwrap().as_str(), good);
        }
        assert_eq!(UserId::parse_optional(""), Ok(None));
        for (text, fault) in [
            ("jo@mail.example", Email),
            ("mailto:jo@mail.example", Email),
            ("@jo@mail.example", Email),
            ("@@jo@mail.example", Email),
            ("a b", NotVisible { position: 1 }),
            ("ä", NotVisible { position: 0 }),
            (&"x".repeat(129), TooLong { bytes: 129 }),
        ] {
            assert_eq!(UserId::parse_optional(text), Err(fault), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_keeps_its_text_and_its_alphabet(text in "\\PC{0,80}") {
            if let Ok(case) = text.parse::<CaseId>() {
                prop_assert_eq!(case.as_str(), text.as_str());
                prop_assert!(case.as_str().len() <= CaseId::MAX_BYTES && !case.as_str().contains('@'));
            }
            let _ = UserId::parse_optional(&text);
        }
    }
}
