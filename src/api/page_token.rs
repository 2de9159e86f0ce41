//! Page tokens: the last registration of a page, bound to the filter of the request.

use crate::{pipeline::Filter, registration::RegistrationId};
use alloy::primitives::hex;
use sha2::{Digest, Sha256};

/// Enough to detect another filter, and no protection against forgery, which would gain nothing.
const FILTER_DIGEST_BYTES: usize = 8;

pub(super) fn encode_page_token(last: RegistrationId, filter: &Filter) -> String {
    hex::encode([last.as_bytes().as_slice(), &filter_digest(filter)].concat())
}

/// The last registration of the previous page, and the digest of its filter.
pub(super) type PageToken = (RegistrationId, [u8; FILTER_DIGEST_BYTES]);

/// `None` is the empty token of the first page.
pub(super) fn decode_page_token(token: &str) -> Result<Option<PageToken>, &'static str> {
    const INVALID_PAGE_TOKEN: &str = "is not a page token: use next_page_token of the previous page";
    if token.is_empty() {
        return Ok(None);
    }
    let mut bytes = [0; 16 + FILTER_DIGEST_BYTES];
    if token.len() != bytes.len() * 2 || hex::decode_to_slice(token, &mut bytes).is_err() {
        return Err(INVALID_PAGE_TOKEN);
    }
    let (id, bound) = bytes.split_at(16);
    match (id.try_into(), bound.try_into()) {
        (Ok(id), Ok(bound)) => Ok(Some((RegistrationId::from_bytes(id), bound))),
        _ => Err(INVALID_PAGE_TOKEN),
    }
}

/// The last registration of the previous page; an error if the token belongs to another filter.
pub(super) fn resume_after(token: Option<PageToken>, filter: &Filter) -> Result<Option<RegistrationId>, &'static str> {
    match token {
        None => Ok(None),
        Some((last, bound)) if bound == filter_digest(filter) => Ok(Some(last)),
        Some(_) => Err(
            "belongs to another filter: a page token goes with the states, case_id and document_hash it was made with",
        ),
    }
}

fn filter_digest(filter: &Filter) -> [u8; FILTER_DIGEST_BYTES] {
    let mut hasher = Sha256::new();
    for state in &filter.states {
        hasher.update(state.code());
        hasher.update([0]);
    }
    hasher.update([1]);
    hasher.update(filter.case_id.as_ref().map_or("", |case| case.as_str()));
    hasher.update([1]);
    hasher.update(filter.document_hash.as_ref().map_or(&[][..], |hash| hash.as_bytes()));
    let mut digest = [0; FILTER_DIGEST_BYTES];
    digest.copy_from_slice(&hasher.finalize()[..FILTER_DIGEST_BYTES]);
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
        let made = encode_page_token(id, &filter);
        let made_token = decode_page_token(&made).unwrap();
        assert_eq!(resume_after(made_token, &filter), Ok(Some(id)));
        assert_eq!((decode_page_token(""), resume_after(None, &filter)), (Ok(None), Ok(None)));
        assert!(resume_after(made_token, &Filter::default()).unwrap_err().contains("another filter"));
        for bad in ["x", "00", &made[1..], &format!("{made}00"), "é"] {
            assert!(decode_page_token(bad).is_err(), "{bad}");
        }
    }
}
