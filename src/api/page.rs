//! Page tokens: where the page before ended, bound to the filter it was made with.

use crate::{pipeline::Filter, registration::RegistrationId};
use alloy::primitives::hex;
use sha2::{Digest, Sha256};

/// Bytes of the filter's digest in a token: enough to notice another filter, no protection against forgery, which gains nothing.
const DIGEST: usize = 8;

/// The token for what comes after `last`.
pub(super) fn token(last: RegistrationId, filter: &Filter) -> String {
    hex::encode([last.as_bytes().as_slice(), &digest(filter)].concat())
}

/// A token's content: where the page before ended, and the digest of its filter.
pub(super) type Token = (RegistrationId, [u8; DIGEST]);

/// Reads a token; `None` is the empty one of the first page.
///
/// # Errors
/// When it is no token of ours.
pub(super) fn read(token: &str) -> Result<Option<Token>, &'static str> {
    const NONE: &str = "is no page token: give next_page_token of the page before";
    if token.is_empty() {
        return Ok(None);
    }
    let mut bytes = [0; 16 + DIGEST];
    if token.len() != bytes.len() * 2 || hex::decode_to_slice(token, &mut bytes).is_err() {
        return Err(NONE);
    }
    let (id, bound) = bytes.split_at(16);
    match (id.try_into(), bound.try_into()) {
        (Ok(id), Ok(bound)) => Ok(Some((RegistrationId::from_bytes(id), bound))),
        _ => Err(NONE),
    }
}

/// Where the page begins; `None` for the first.
///
/// # Errors
/// When the token was made with another filter.
pub(super) fn position(token: Option<Token>, filter: &Filter) -> Result<Option<RegistrationId>, &'static str> {
    match token {
        None => Ok(None),
        Some((last, bound)) if bound == digest(filter) => Ok(Some(last)),
        Some(_) => Err(
            "belongs to another filter: a page token goes with the states, case_id and document_hash it was made with",
        ),
    }
}

fn digest(filter: &Filter) -> [u8; DIGEST] {
    let mut hasher = Sha256::new();
    for state in &filter.states {
        hasher.update(state.code());
        hasher.update([0]);
    }
    hasher.update([1]);
    hasher.update(filter.case_id.as_ref().map_or("", |case| case.as_str()));
    hasher.update([1]);
    hasher.update(filter.document_hash.as_ref().map_or(&[][..], |hash| hash.as_bytes()));
    let mut digest = [0; DIGEST];
    digest.copy_from_slice(&hasher.finalize()[..DIGEST]);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registration::State;

    #[test]
    fn a_token_goes_with_its_filter_alone() {
        let id = RegistrationId::from_bytes([7; 16]);
        let filter = Filter { states: vec![State::Confirmed], ..Filter::default() };
        let made = token(id, &filter);
        let made_token = read(&made).unwrap();
        assert_eq!(position(made_token, &filter), Ok(Some(id)));
        assert_eq!((read(""), position(None, &filter)), (Ok(None), Ok(None)));
        assert!(position(made_token, &Filter::default()).unwrap_err().contains("another filter"));
        for bad in ["x", "00", &made[1..], &format!("{made}00"), "é"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
