//! Certificates of a small chain: tries of accounts and records, and headers with their roots.

use super::super::{Certificate, Chain, Evidence, Record, record_slot};
use crate::registration::{DocumentHash, Finality, Pair};
use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_trie::{HashBuilder, Nibbles, TrieAccount, proof::ProofRetainer};
use std::collections::BTreeMap;

pub(super) const CONTRACT: Address = Address::repeat_byte(0xc0);
pub(super) const REGISTRAR: Address = Address::repeat_byte(0xa1);
/// Of the records, and of the accounts.
pub(super) const COUNT: u64 = 300;
pub(super) const BLOCK_NUMBER: u64 = 1_000;
const BLOCK_TIME: u64 = 1_800_000_000;

pub(super) fn pair(number: u64) -> Pair {
    let document_hash = DocumentHash::new(keccak256(number.to_be_bytes()).0).unwrap();
    Pair { document_hash, case_id: format!("case-{number}").parse().unwrap() }
}

pub(super) fn record(number: u64) -> Record {
    Record { registrar: REGISTRAR, block_number: number, time: BLOCK_TIME - COUNT + number }
}

/// The root, and the proof of one key. The keys are hashes.
pub(super) fn trie(leaves: &BTreeMap<B256, Vec<u8>>, key: B256) -> (B256, Vec<Bytes>) {
    let path = Nibbles::unpack(key);
    let mut builder = HashBuilder::default().with_proof_retainer(ProofRetainer::new(vec![path]));
    for (key, value) in leaves {
        builder.add_leaf(Nibbles::unpack(key), value);
    }
    let root = builder.root();
    let nodes = builder.take_proof_nodes().matching_nodes_sorted(&path);
    (root, nodes.into_iter().map(|(_, node)| node).collect())
}

fn number(number: u64) -> Bytes {
    U256::from(number).to_be_bytes_trimmed_vec().into()
}

/// As of a later fork: it has more fields than are read.
pub(super) fn header(state_root: B256, block_number: u64) -> Bytes {
    let word = |byte| Bytes::from(B256::repeat_byte(byte));
    let fields = vec![
        word(1),
        word(2),
        Bytes::from(vec![3; 20]),
        Bytes::from(state_root),
        word(4),
        word(5),
        Bytes::from(vec![0; 256]),
        Bytes::new(),
        number(block_number),
        number(30_000_000),
        number(21_000),
        number(BLOCK_TIME),
        Bytes::from_static(b"extra"),
        word(6),
        Bytes::from(vec![0; 8]),
        number(7),
        word(8),
        Bytes::new(),
        word(9),
    ];
    alloy_rlp::encode(&fields).into()
}

/// A proof of the slot of this pair in a contract that has the records 1 to [`COUNT`] with these values.
pub(super) fn evidence_of(asked: &Pair, value: impl Fn(u64) -> U256) -> Evidence {
    let slots = (1..=COUNT).map(|number| (keccak256(record_slot(&pair(number))), alloy_rlp::encode(value(number))));
    let (storage_root, storage_proof) = trie(&slots.collect(), keccak256(record_slot(asked)));
    let account = |number: u64| TrieAccount { nonce: number, ..TrieAccount::default() };
    let mut accounts: BTreeMap<_, _> = (1..=COUNT)
        .map(|number| {
            (keccak256(Address::left_padding_from(&number.to_be_bytes())), alloy_rlp::encode(account(number)))
        })
        .collect();
    let contract = TrieAccount { nonce: 1, storage_root, ..TrieAccount::default() };
    accounts.insert(keccak256(CONTRACT), alloy_rlp::encode(contract));
    let (state_root, account_proof) = trie(&accounts, keccak256(CONTRACT));
    let header = header(state_root, BLOCK_NUMBER);
    Evidence { block_hash: keccak256(&header), header, account_proof, storage_proof }
}

pub(super) fn evidence(number: u64) -> Evidence {
    evidence_of(&pair(number), |number| record(number).to_word())
}

pub(super) fn build(asked: Pair, evidence: Evidence) -> Result<Certificate, super::super::InvalidCertificate> {
    let chain = Chain { id: 84_532, name: "base-sepolia".to_owned() };
    let seen = (Finality::Finalized, 2, BLOCK_TIME + 1_200);
    Certificate::build(chain, CONTRACT, asked, evidence, seen, Some(B256::repeat_byte(0x77)))
}

pub(super) fn certificate(number: u64) -> Certificate {
    build(pair(number), evidence(number)).unwrap()
}
