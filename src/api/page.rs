//! Page tokens: where the page before ended, bound to the filter it was made with.

use crate::{registration::RegistrationId, store::Filter};
use alloy::primitives::hex;
use sha2::{Digest, Sha256};

/// Bytes of the filter's digest in a token: enough to notice another filter, no protection against forgery, which gains nothing.
const DIGEST: usize = 8;

/// The token for what comes after `last`.
pub(super) fn token(last: RegistrationId, filter: &Filter) -> String {
    hex::encode([last.as_bytes().as_slice(), &digest(filter)].concat())
}

/// Where the page begins; `None` for the first.
///
/// # Errors
/// When it is no token of ours, or one of another filter.
pub(super) fn read(token: &str, filter: &Filter) -> Result<Option<RegistrationId>, &'static str> {
    if token.is_empty() {
        return Ok(None);
    }
    let mut bytes = [0; 16 + DIGEST];
    if token.len() != bytes.len() * 2 || hex::decode_to_slice(token, &mut bytes).is_err() {
        return Err("is no page token: give next_page_token of the page before");
    }
    let (id, bound) = bytes.split_at(16);
    if bound != digest(filter) {
        return Err(
            "belongs to another filter: a page token goes with the states, case_id and document_hash it was made with",
        );
    }
    id.try_into().map(|id| Some(RegistrationId::from_bytes(id))).map_err(|_| "is no page token")
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
        assert_eq!(read(&made, &filter), Ok(Some(id)));
        assert_eq!(read("", &filter), Ok(None));
        assert!(read(&made, &Filter::default()).unwrap_err().contains("another filter"));
        for bad in ["x", "00", &made[1..], &format!("{made}00"), "é"] {
            assert!(read(bad, &filter).is_err(), "{bad}");
        }
    }
}
