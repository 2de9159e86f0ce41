//! Makes certificates from what nodes answer. What does not prove a record becomes no certificate.

use super::{
    Block, Certificate, Chain, InvalidCertificate, MAX_BYTES,
    json::JsonError,
    layout::MAX_TIME,
    verify::{prove_record, read_block_header},
};
use crate::registration::{Finality, Pair};
use alloy::primitives::{Address, B256, Bytes};

/// What a certificate is made from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Evidence {
    /// In RLP.
    pub header: Bytes,
    pub block_hash: B256,
    /// From the root to the contract's account.
    pub account_proof: Vec<Bytes>,
    /// From the root to the record.
    pub storage_proof: Vec<Bytes>,
}

impl Evidence {
    /// Whether it proves a record of the pair.
    ///
    /// # Errors
    /// When it does not.
    pub fn check(&self, contract: Address, pair: &Pair) -> Result<(), InvalidCertificate> {
        let header = read_block_header(&self.header, self.block_hash)?;
        prove_record(header.state_root, contract, pair, &self.account_proof, &self.storage_proof).map(drop)
    }
}

impl Certificate {
    /// The record is taken from the proof. `seen` is the finality of the block, how many endpoints had it, and when, in
    /// seconds since the Unix epoch.
    ///
    /// # Errors
    /// When the evidence does not prove a record of the pair.
    pub fn build(
        chain: Chain,
        contract: Address,
        pair: Pair,
        evidence: Evidence,
        seen: (Finality, u64, u64),
        transaction: Option<B256>,
    ) -> Result<Self, InvalidCertificate> {
        let Evidence { header, block_hash, account_proof, storage_proof } = evidence;
        let fields = read_block_header(&header, block_hash)?;
        let record = prove_record(fields.state_root, contract, &pair, &account_proof, &storage_proof)?;
        let (finality, seen_by, seen_at) = seen;
        let seen_at = seen_at.min(MAX_TIME);
        let block = Block { number: fields.number, hash: block_hash, header, finality, seen_by, seen_at };
        let certificate = Self { chain, contract, pair, record, block, account_proof, storage_proof, transaction };
        // Whoever verifies it starts from the text.
        let text = certificate.to_text();
        if text.len() > MAX_BYTES {
            return Err(JsonError::TooLarge(text.len()).into());
        }
        Self::parse(text.as_bytes())?.verify()?;
        Ok(certificate)
    }
}
