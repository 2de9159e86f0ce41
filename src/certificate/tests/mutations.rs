//! No changed certificate proves anything else than the original.

use super::fixtures::certificate;
use crate::{
    certificate::{Block, Certificate, Chain, MAX_BYTES, json::CertificateJson},
    registration::Finality,
};
use proptest::prelude::*;
use std::sync::LazyLock;

static ORIGINALS: LazyLock<[String; 2]> = LazyLock::new(|| [certificate(7).to_text(), certificate(8).to_text()]);

/// Without what the issuer states and cannot prove.
fn without_claims(certificate: Certificate) -> Certificate {
    let block = Block { finality: Finality::Unsafe, seen_by: 0, seen_at: 0, ..certificate.block };
    Certificate { chain: Chain { id: 0, name: String::new() }, block, transaction: None, ..certificate }
}

/// What is done to a text.
#[derive(Clone, Debug)]
enum Mutation {
    Replace(usize, u8),
    Delete(usize, usize),
    Insert(usize, u8),
    Repeat(usize, usize),
    Exchange(usize, usize, usize),
    /// As the same place of another certificate.
    Other(usize, usize),
}

impl Mutation {
    /// `None` if nothing is changed.
    fn apply(&self, text: &[u8], other: &[u8]) -> Option<Vec<u8>> {
        let mut changed = text.to_vec();
        let span = |at: usize, length: usize| at % text.len()..(at % text.len() + length).min(text.len());
        match *self {
            Self::Replace(at, byte) => changed[at % text.len()] = byte,
            Self::Delete(at, length) => drop(changed.drain(span(at, length))),
            Self::Insert(at, byte) => changed.insert(at % text.len(), byte),
            Self::Repeat(at, length) => drop(changed.splice(span(at, 0), text[span(at, length)].to_vec())),
            Self::Exchange(first, second, length) => {
                for (first, second) in span(first, length).zip(span(second, length)) {
                    changed.swap(first, second);
                }
            }
            Self::Other(at, length) => {
                let end = span(at, length).end.min(other.len());
                let start = span(at, length).start.min(end);
                changed[start..end].copy_from_slice(&other[start..end]);
            }
        }
        (changed != text).then_some(changed)
    }
}

fn mutation() -> impl Strategy<Value = Mutation> {
    // Mostly characters that leave the text readable.
    let byte = prop_oneof![4 => "[0-9a-f]".prop_map(|text| text.as_bytes()[0]), 1 => any::<u8>()];
    let at = 0_usize..MAX_BYTES;
    prop_oneof![
        6 => (at.clone(), byte.clone()).prop_map(|(at, byte)| Mutation::Replace(at, byte)),
        1 => (at.clone(), 1_usize..80).prop_map(|(at, length)| Mutation::Delete(at, length)),
        1 => (at.clone(), byte).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
        1 => (at.clone(), 1_usize..80).prop_map(|(at, length)| Mutation::Repeat(at, length)),
        1 => (at.clone(), at.clone(), 1_usize..80).prop_map(|(one, two, length)| Mutation::Exchange(one, two, length)),
        2 => (at, 1_usize..1_100).prop_map(|(at, length)| Mutation::Other(at, length)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn no_mutated_certificate_verifies(mutation in mutation()) {
        let [text, other] = &*ORIGINALS;
        let Some(changed) = mutation.apply(text.as_bytes(), other.as_bytes()) else { return Ok(()) };
        let Ok(certificate) = Certificate::parse(&changed) else { return Ok(()) };
        let Ok(proved) = certificate.verify() else { return Ok(()) };
        // What the issuer states and cannot prove may be changed; what is proved stays the same.
        let original = Certificate::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(proved, original.verify().unwrap());
        prop_assert_eq!(without_claims(certificate), without_claims(original));
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..400),
        "[\\[\\]{}\",:0-9a-z\\\\ ]{0,400}".prop_map(String::into_bytes),
    ]) {
        prop_assert!(Certificate::parse(&text).is_err());
    }

    /// As `tests/fuzz` does with texts that are closer to certificates.
    #[test]
    fn what_is_read_is_written_as_it_was_read(mutations in proptest::collection::vec(mutation(), 0..4)) {
        let [text, other] = &*ORIGINALS;
        let mut changed = text.clone().into_bytes();
        for mutation in mutations {
            changed = mutation.apply(&changed, other.as_bytes()).unwrap_or(changed);
            if changed.is_empty() {
                return Ok(());
            }
        }
        if let Ok(json) = CertificateJson::parse(&changed) {
            prop_assert_eq!(CertificateJson::parse(json.to_text().as_bytes()), Ok(json));
        }
    }
}
