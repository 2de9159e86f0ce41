//! A file that proves that a pair was recorded by a given block, without this service and without trust in it. Pure: no
//! await, no clock, no I/O.
//!
//! [`Certificate::build`] makes one from a block's header and a proof of its state, [`Certificate::to_text`] writes it,
//! [`Certificate::parse`] reads it, and [`Certificate::verify`] checks it. `docs/reference/certificate.md` is the
//! format's description, and has a second verifier.

mod build;
mod error;
mod header;
mod json;
mod layout;
mod proof;
#[cfg(test)]
mod tests;
mod text;
mod verify;

pub use build::Evidence;
pub use error::InvalidCertificate;
pub use json::MAX_BYTES;
pub use layout::{Record, record_slot};
pub use verify::Proved;

use crate::registration::{Finality, Pair};
use alloy::primitives::{Address, B256, Bytes};

/// Of a certificate's file.
pub const MEDIA_TYPE: &str = "application/vnd.registrar.certificate.v1+json";

/// A certificate whose members have the right form. Only [`Certificate::verify`] says what it proves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    pub chain: Chain,
    /// The DocumentRegistry.
    pub contract: Address,
    pub pair: Pair,
    pub record: Record,
    pub block: Block,
    /// From the root to the contract's account.
    pub account_proof: Vec<Bytes>,
    /// From the root to the record.
    pub storage_proof: Vec<Bytes>,
    /// That emitted the event of the record; not proved. `None` where no endpoint had the event.
    pub transaction: Option<B256>,
}

/// Which chain it is; not proved, except by a block hash that is known to be of this chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chain {
    /// EIP-155.
    pub id: u64,
    /// Such as `base-sepolia`.
    pub name: String,
}

/// The block whose state has the record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    pub number: u64,
    pub hash: B256,
    /// In RLP.
    pub header: Bytes,
    /// As the issuer saw it; not proved.
    pub finality: Finality,
    /// How many of the issuer's endpoints had the block at its height; not proved.
    pub seen_by: u64,
    /// In seconds since the Unix epoch; not proved.
    pub seen_at: u64,
}
