//! Certificates that are right, and everything that may be wrong with one.

mod fixtures;
mod mutations;

use super::{Certificate, InvalidCertificate, MAX_BYTES, Proved};
use alloy::primitives::{B256, Bytes, U256, keccak256};
use alloy_trie::{
    Nibbles,
    nodes::{ExtensionNode, LeafNode, RlpNode, TrieNode},
};
use fixtures::{BLOCK_NUMBER, COUNT, build, certificate, evidence, evidence_of, header, pair, record};

fn verify_text(text: &str) -> Result<Proved, InvalidCertificate> {
    Certificate::parse(text.as_bytes())?.verify()
}

/// The message of what is wrong.
fn fault(result: Result<Proved, InvalidCertificate>) -> String {
    result.map(|proved| format!("{proved:?}")).unwrap_err().to_string()
}

#[test]
fn a_certificate_proves_its_record() {
    let certificate = certificate(7);
    let proved = verify_text(&certificate.to_text()).unwrap();
    assert_eq!((proved.pair.clone(), proved.record), (pair(7), record(7)));
    assert_eq!((proved.block_number, proved.block_hash), (BLOCK_NUMBER, certificate.block.hash));
    assert_eq!(proved.check_block_hash(certificate.block.hash), Ok(()));
    assert_eq!(proved.check_document(pair(7).document_hash.as_b256()), Ok(()));
    assert_eq!(proved.check_case("case-7"), Ok(()));
    let other = proved.check_block_hash(B256::repeat_byte(1)).unwrap_err().to_string();
    assert!(other.contains("is not the block 0x0101"), "{other}");
    assert!(proved.check_document(pair(8).document_hash.as_b256()).is_err());
    assert!(proved.check_case("case-8").is_err());
}

#[test]
fn the_text_has_a_fixed_order_and_one_form() {
    let text = certificate(7).to_text();
    let members = [
        "version",
        "chain",
        "id",
        "name",
        "contract",
        "document",
        "sha256",
        "caseId",
        "record",
        "registrar",
        "blockNumber",
        "time",
        "block",
        "number",
        "hash",
        "header",
        "finality",
        "seenBy",
        "seenAt",
        "state",
        "slot",
        "accountProof",
        "storageProof",
        "transaction",
        "hash",
        "howToVerify",
    ];
    let mut rest = text.as_str();
    for member in members {
        let at = rest.find(&format!("\"{member}\":")).unwrap_or_else(|| panic!("{member} is not next in {rest}"));
        rest = &rest[at + member.len()..];
    }
    assert!(
        text.starts_with(r#"{"version":1,"chain":{"id":84532,"name":"base-sepolia"},"contract":"0xc0c0"#),
        "{text}"
    );
    assert!(text.contains(r#""time":"2027-01-15T07:55:07Z"}"#) && text.ends_with("}\n"), "{text}");
}

#[test]
fn each_byte_of_the_proofs_and_of_the_header_counts() {
    let certificate = certificate(7);
    let flip = |bytes: &Bytes, at: usize| {
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 1;
        Bytes::from(flipped)
    };
    let mut flipped = 0;
    let mut assert_refused = |changed: Certificate, what: &str| {
        assert!(changed.verify().is_err(), "{what}");
        flipped += 1;
    };
    for at in 0..certificate.block.header.len() {
        let mut changed = certificate.clone();
        changed.block.header = flip(&certificate.block.header, at);
        assert_refused(changed, &format!("header {at}"));
    }
    for (node, bytes) in certificate.account_proof.iter().enumerate() {
        for at in 0..bytes.len() {
            let mut changed = certificate.clone();
            changed.account_proof[node] = flip(bytes, at);
            assert_refused(changed, &format!("account proof {node}, {at}"));
        }
    }
    for (node, bytes) in certificate.storage_proof.iter().enumerate() {
        for at in 0..bytes.len() {
            let mut changed = certificate.clone();
            changed.storage_proof[node] = flip(bytes, at);
            assert_refused(changed, &format!("storage proof {node}, {at}"));
        }
    }
    assert!(flipped > 2_500, "only {flipped} bytes");
}

#[test]
fn proofs_are_complete_and_have_nothing_more() {
    type Change = fn(&mut Vec<Bytes>);
    let changes: [(&str, Change); 9] = [
        ("no nodes", |nodes| nodes.clear()),
        ("without the root", |nodes| drop(nodes.remove(0))),
        ("without the leaf", |nodes| drop(nodes.pop())),
        ("the leaf twice", |nodes| nodes.push(nodes[nodes.len() - 1].clone())),
        ("the root twice", |nodes| nodes.insert(0, nodes[0].clone())),
        ("backwards", |nodes| nodes.reverse()),
        ("an empty node", |nodes| nodes.push(Bytes::new())),
        ("a byte less", |nodes| nodes[0] = nodes[0].slice(..nodes[0].len() - 1)),
        ("a byte more", |nodes| nodes[0] = [&nodes[0][..], &[0]].concat().into()),
    ];
    for (what, change) in changes {
        let (mut account, mut storage) = (certificate(7), certificate(7));
        change(&mut account.account_proof);
        change(&mut storage.storage_proof);
        assert!(fault(account.verify()).starts_with("state.accountProof does not prove"), "{what}");
        assert!(fault(storage.verify()).starts_with("state.storageProof does not prove"), "{what}");
    }
}

#[test]
fn what_belongs_to_another_certificate_does_not_fit() {
    let (own, other) = (certificate(7), certificate(8));
    let swapped = |change: &dyn Fn(&mut Certificate)| {
        let mut changed = own.clone();
        change(&mut changed);
        fault(verify_text(&changed.to_text()))
    };
    let later = header(B256::repeat_byte(9), BLOCK_NUMBER + 1);
    for (what, fault, expected) in [
        ("proof", swapped(&|it| it.storage_proof = other.storage_proof.clone()), "state.storageProof does not prove"),
        ("pair", swapped(&|it| it.pair = other.pair.clone()), "state.storageProof does not prove"),
        ("record", swapped(&|it| it.record = other.record), "record.blockNumber is not what is proved: 7"),
        ("time", swapped(&|it| it.record.time += 1), "record.time is not what is proved: 2027-01-15T07:55:07Z"),
        ("registrar", swapped(&|it| it.record.registrar = fixtures::CONTRACT), "record.registrar is not what"),
        ("contract", swapped(&|it| it.contract = fixtures::REGISTRAR), "state.accountProof does not prove"),
        ("header", swapped(&|it| it.block.header = later.clone()), "block.header has the hash"),
        ("hash", swapped(&|it| it.block.hash = keccak256(&later)), "block.header has the hash"),
        ("number", swapped(&|it| it.block.number += 1), "block.number is not what is proved: 1000"),
        (
            "header and hash",
            swapped(&|it| (it.block.header, it.block.hash) = (later.clone(), keccak256(&later))),
            "block.number is not what is proved: 1001",
        ),
        (
            "header, hash and number",
            swapped(&|it| {
                (it.block.header, it.block.hash, it.block.number) =
                    (later.clone(), keccak256(&later), BLOCK_NUMBER + 1);
            }),
            "state.accountProof does not prove",
        ),
        (
            "no header",
            swapped(&|it| (it.block.header, it.block.hash) = (Bytes::new(), keccak256([]))),
            "block.header is not the header of a block",
        ),
    ] {
        assert!(fault.starts_with(expected), "{what}: {fault}");
    }
}

#[test]
fn no_certificate_is_made_of_a_pair_without_a_record() {
    let unknown = pair(COUNT + 1);
    let absent = build(unknown.clone(), evidence_of(&unknown, |number| record(number).to_word())).unwrap_err();
    assert!(absent.to_string().starts_with("state.storageProof does not prove a record"), "{absent}");
    let no_record = build(pair(7), evidence_of(&pair(7), |_| U256::from(1) << 208)).unwrap_err();
    assert_eq!(no_record.to_string(), "record is not what is proved: the storage slot holds no record");
    let from_the_future = build(
        pair(7),
        evidence_of(&pair(7), |_| super::Record { block_number: BLOCK_NUMBER + 1, ..record(7) }.to_word()),
    );
    let from_the_future = from_the_future.unwrap_err().to_string();
    assert_eq!(from_the_future, "record is not what is proved: the record is later than the block");
    assert_eq!(evidence(7).check(fixtures::CONTRACT, &pair(7)), Ok(()));
    assert!(evidence(7).check(fixtures::CONTRACT, &pair(8)).is_err());
}

/// Its author chooses the header, so that all hashes fit.
#[test]
fn a_forged_trie_with_paths_that_are_too_long_is_refused() {
    let path = |length: usize| Nibbles::from_nibbles(vec![1; length]);
    let leaf = alloy_rlp::encode(TrieNode::Leaf(LeafNode::new(path(40), vec![7; 40])));
    let extension = |child: &[u8]| {
        alloy_rlp::encode(TrieNode::Extension(ExtensionNode::new(path(40), RlpNode::word_rlp(&keccak256(child)))))
    };
    let (middle, ours) = (extension(&leaf), certificate(7));
    let root = extension(&middle);
    let mut forged = ours.clone();
    forged.account_proof = [root, middle, leaf].map(Bytes::from).to_vec();
    forged.block.header = header(keccak256(&forged.account_proof[0]), BLOCK_NUMBER);
    forged.block.hash = keccak256(&forged.block.header);
    assert!(fault(forged.verify()).starts_with("state.accountProof does not prove"));

    forged.account_proof = vec![forged.account_proof[0].clone(); 10_000];
    let fault = fault(forged.verify());
    assert!(fault.contains("it has 10000 nodes; a proof has at most 65"), "{fault}");
}

#[test]
fn what_is_wrong_with_a_text_is_named() {
    let text = certificate(7).to_text();
    let replaced = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        fault(verify_text(&text.replacen(from, to, 1)))
    };
    let slot = |pair| alloy::primitives::hex::encode_prefixed(super::record_slot(&pair));
    for (what, fault, expected) in [
        ("version", replaced("\"version\":1", "\"version\":2"), "it has version 2 of the format, and this program"),
        ("member", replaced("\"chain\"", "\"note\":7,\"chain\""), "unknown field `note`"),
        ("inner member", replaced("\"id\"", "\"x\":1,\"id\""), "unknown field `x`, expected `id` or `name`"),
        ("missing member", replaced("\"seenBy\":2,", ""), "missing field `seenBy`"),
        ("missing null", replaced(&format!("\"hash\":\"0x{}\"", "77".repeat(32)), ""), "missing field `hash`"),
        ("twice", replaced("\"chain\"", "\"version\":1,\"chain\""), "duplicate field `version`"),
        ("type", replaced("84532", "\"84532\""), "invalid type: string"),
        ("fraction", replaced("84532", "84532.0"), "invalid type: floating point"),
        ("slot", replaced(&slot(pair(7)), &slot(pair(8))), "state.slot is not the slot of this document and case"),
        ("instructions", replaced("Run `registrar", "Believe `registrar"), "howToVerify is not the text"),
        ("case", replaced("case-7", "case 7"), "document.caseId has ' ' at position 4"),
        (
            "zero hash",
            replaced(&pair(7).document_hash.to_string(), &format!("0x{}", "0".repeat(64))),
            "document.sha256",
        ),
        ("length", replaced("\"contract\":\"0xc0", "\"contract\":\"0x"), "contract has 19 bytes instead of 20"),
        ("hex", replaced("\"contract\":\"0xc0", "\"contract\":\"0xg0"), "contract is not hex digits after 0x"),
        ("no prefix", replaced("\"contract\":\"0x", "\"contract\":\""), "contract is not hex digits after 0x"),
        ("upper case", replaced("\"contract\":\"0xc0", "\"contract\":\"0xC0"), "it differs from the form"),
        ("time", replaced("2027-01-15T07:55:07Z", "yesterday"), "record.time is not a time"),
        ("time zone", replaced("2027-01-15T07:55:07Z", "2027-01-15T07:55:07+00:00"), "it differs from the form"),
        (
            "fraction of a second",
            replaced("2027-01-15T07:55:07Z", "2027-01-15T07:55:07.000Z"),
            "it differs from the form",
        ),
        ("finality", replaced("\"finalized\"", "\"final\""), "block.finality is not unsafe, safe or finalized"),
        ("name", replaced("base-sepolia", "base\\nsepolia"), "chain.name is not the name of a chain"),
        ("negative", replaced("\"seenBy\":2", "\"seenBy\":-2"), "invalid value: integer `-2`"),
    ] {
        assert!(fault.starts_with(expected), "{what}: {fault}");
    }
    for (what, text, expected) in [
        ("empty", String::new(), "EOF while parsing"),
        (
            "spaces",
            text.replacen("\":", "\": ", 1),
            "it differs from the form in which certificates are issued at byte 11",
        ),
        ("no line feed", text.trim_end().to_owned(), "it differs from the form"),
        ("two line feeds", format!("{text}\n"), "it differs from the form"),
        ("behind it", format!("{text}x"), "trailing characters"),
        ("mark", format!("\u{feff}{text}"), "expected value"),
        ("large", format!("{text}{}", " ".repeat(MAX_BYTES)), "it has "),
        ("deep", "[".repeat(10_000), "it is nested more than 8 levels deep"),
        (
            "deep and unknown",
            text.replacen("84532", &format!("{}1{}", "[".repeat(9), "]".repeat(9)), 1),
            "it is nested",
        ),
        (
            "long name",
            text.replacen("\"chain\"", &format!("\"{}\":1,\"chain\"", "n".repeat(9_999)), 1),
            "unknown field",
        ),
    ] {
        let fault = fault(verify_text(&text));
        assert!(fault.starts_with(expected) && fault.len() < 400, "{what}: {fault}");
    }
}

/// A file of the first release. It has to stay valid.
#[test]
fn a_certificate_of_the_first_release_is_valid() {
    let text = include_str!("v1-anvil.json");
    let proved = verify_text(text).unwrap();
    assert_eq!(proved.pair.case_id.as_str(), "case-1");
    assert_eq!(Certificate::parse(text.as_bytes()).unwrap().to_text(), text);
}
