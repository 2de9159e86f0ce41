//! What a certificate proves.

use super::{
    Certificate, InvalidCertificate, Record,
    header::{HeaderFields, read_header},
    layout::record_slot,
    proof::{ProofFault, prove},
    text::format_time,
};
use crate::registration::Pair;
use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_rlp::Decodable;
use alloy_trie::TrieAccount;

/// At the end of a block, a contract had a record of a pair. Whether the block is one of the chain is for the reader to
/// know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proved {
    pub contract: Address,
    pub pair: Pair,
    pub record: Record,
    pub block_number: u64,
    pub block_hash: B256,
    /// In seconds since the Unix epoch.
    pub block_time: u64,
}

impl Certificate {
    /// Checks everything that can be checked without knowing the chain.
    ///
    /// # Errors
    /// When the certificate does not prove what it states.
    pub fn verify(&self) -> Result<Proved, InvalidCertificate> {
        let header = read_block_header(&self.block.header, self.block.hash)?;
        must_equal("block.number", self.block.number, header.number)?;
        let record =
            prove_record(header.state_root, self.contract, &self.pair, &self.account_proof, &self.storage_proof)?;
        must_equal("record.registrar", self.record.registrar, record.registrar)?;
        must_equal("record.blockNumber", self.record.block_number, record.block_number)?;
        if self.record.time != record.time {
            return Err(not_proved("record.time", format_time(record.time)));
        }
        if record.block_number > header.number || record.time > header.timestamp {
            return Err(not_proved("record", "the record is later than the block".to_owned()));
        }
        Ok(Proved {
            contract: self.contract,
            pair: self.pair.clone(),
            record,
            block_number: header.number,
            block_hash: self.block.hash,
            block_time: header.timestamp,
        })
    }
}

impl Proved {
    /// # Errors
    /// When the block is another one than the one that is known to be right.
    pub fn check_block_hash(&self, trusted: B256) -> Result<(), InvalidCertificate> {
        if self.block_hash == trusted {
            return Ok(());
        }
        Err(InvalidCertificate::OtherBlock { actual: self.block_hash, expected: trusted })
    }

    /// # Errors
    /// When it is about another document.
    pub fn check_document(&self, sha256: B256) -> Result<(), InvalidCertificate> {
        let document = self.pair.document_hash;
        if document.as_b256() == sha256 {
            return Ok(());
        }
        Err(InvalidCertificate::OtherDocument { actual: document.to_string(), expected: sha256.to_string() })
    }

    /// # Errors
    /// When it is about another case.
    pub fn check_case(&self, case_id: &str) -> Result<(), InvalidCertificate> {
        let actual = self.pair.case_id.as_str();
        if actual == case_id {
            return Ok(());
        }
        Err(InvalidCertificate::OtherCase { actual: actual.to_owned(), expected: case_id.to_owned() })
    }
}

/// The fields of the header, which has to have this hash.
pub(super) fn read_block_header(rlp: &Bytes, hash: B256) -> Result<HeaderFields, InvalidCertificate> {
    let actual = keccak256(rlp);
    if actual != hash {
        return Err(InvalidCertificate::HeaderHash { actual, expected: hash });
    }
    read_header(rlp).ok_or(InvalidCertificate::MalformedHeader)
}

/// The pair's record in the contract's storage, in the state with this root.
pub(super) fn prove_record(
    state_root: B256,
    contract: Address,
    pair: &Pair,
    account_proof: &[Bytes],
    storage_proof: &[Bytes],
) -> Result<Record, InvalidCertificate> {
    let account = prove(state_root, contract.as_slice(), account_proof).map_err(InvalidCertificate::AccountProof)?;
    let account = decode_all::<TrieAccount>(&account)
        .ok_or(InvalidCertificate::AccountProof(ProofFault::MalformedNode(account_proof.len().saturating_sub(1))))?;
    let slot = record_slot(pair);
    let word = prove(account.storage_root, slot.as_slice(), storage_proof).map_err(InvalidCertificate::StorageProof)?;
    let record = decode_all::<U256>(&word).and_then(Record::from_word);
    record.ok_or_else(|| not_proved("record", "the storage slot holds no record".to_owned()))
}

fn decode_all<T: Decodable>(rlp: &[u8]) -> Option<T> {
    let mut rest = rlp;
    T::decode(&mut rest).ok().filter(|_| rest.is_empty())
}

fn must_equal<T: PartialEq + ToString>(field: &'static str, stated: T, proved: T) -> Result<(), InvalidCertificate> {
    if stated == proved { Ok(()) } else { Err(not_proved(field, proved.to_string())) }
}

fn not_proved(field: &'static str, proved: String) -> InvalidCertificate {
    InvalidCertificate::NotProved { field, proved }
}
