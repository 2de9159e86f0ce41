//! Page tokens: the last registration of a page, bound to the filter of the request.

use crate::{
    pipeline::{Filter, Order},
    registration::RegistrationId,
};
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
            "belongs to another filter: a page token goes with the filters and the order of the request that it was made \
             for",
        ),
    }
}

fn filter_digest(filter: &Filter) -> [u8; FILTER_DIGEST_BYTES] {
    let Filter {
        states,
        case_id,
        document_hash,
        user_id,
        caller,
        blocked_reasons,
        created_from,
        created_before,
        transaction_hash,
        order,
    } = filter;
    let mut hasher = Sha256::new();
    let mut add = |name: &str, value: &[u8]| {
        hasher.update(name);
        hasher.update((value.len() as u64).to_be_bytes());
        hasher.update(value);
    };
    states.iter().for_each(|state| add("state", state.code().as_bytes()));
    blocked_reasons.iter().for_each(|reason| add("blocked", reason.code().as_bytes()));
    if let Some(case) = case_id {
        add("case", case.as_str().as_bytes());
    }
    if let Some(hash) = document_hash {
        add("document", hash.as_bytes());
    }
    if let Some(user) = user_id {
        add("user", user.as_str().as_bytes());
    }
    if let Some(caller) = caller {
        add("caller", caller.as_str().as_bytes());
    }
    if let Some(from) = created_from {
        add("from", &from.micros().to_be_bytes());
    }
    if let Some(before) = created_before {
        add("before", &before.micros().to_be_bytes());
    }
    if let Some(hash) = transaction_hash {
        add("transaction", hash.as_slice());
    }
    match order {
        Order::NewestFirst => {}
        Order::OldestFirst => add("order", b"oldest"),
    }
    let mut digest = [0; FILTER_DIGEST_BYTES];
    digest.copy_from_slice(&hasher.finalize()[..FILTER_DIGEST_BYTES]);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registration::{BlockedReason, DocumentHash, State, Timestamp, UserId};
    use alloy::primitives::B256;

    #[test]
    fn a_token_goes_with_its_filter_alone() {
        let id = RegistrationId::from_bytes([7; 16]);
        let filter = Filter { states: vec![State::Confirmed], ..Filter::default() };
        let made = encode_page_token(id, &filter);
        let made_token = decode_page_token(&made).unwrap();
        assert_eq!(resume_after(made_token, &filter), Ok(Some(id)));
        assert_eq!((decode_page_token(""), resume_after(None, &filter)), (Ok(None), Ok(None)));
        assert!(resume_after(made_token, &Filter::default()).unwrap_err().contains("another filter"));
        let time = |seconds| Some(Timestamp::from_seconds(seconds));
        for other in [
            Filter { states: vec![State::Failed], ..filter.clone() },
            Filter { case_id: "a".parse().ok(), ..filter.clone() },
            Filter { document_hash: DocumentHash::new([1; 32]).ok(), ..filter.clone() },
            Filter { user_id: UserId::parse_optional("a").unwrap(), ..filter.clone() },
            Filter { caller: "a".parse().ok(), ..filter.clone() },
            Filter { blocked_reasons: vec![BlockedReason::FeeCap], ..filter.clone() },
            Filter { created_from: time(1), ..filter.clone() },
            Filter { created_before: time(1), ..filter.clone() },
            Filter { transaction_hash: Some(B256::repeat_byte(1)), ..filter.clone() },
            Filter { order: Order::OldestFirst, ..filter.clone() },
        ] {
            assert!(resume_after(made_token, &other).is_err(), "{other:?}");
            let token = decode_page_token(&encode_page_token(id, &other)).unwrap();
            assert_eq!(resume_after(token, &other), Ok(Some(id)));
        }
        for bad in ["x", "00", &made[1..], &format!("{made}00"), "é"] {
            assert!(decode_page_token(bad).is_err(), "{bad}");
        }
    }
}
