//! Blocks' headers as their hashes are made of them, and proofs of the contract's storage.
//!
//! Both prove themselves: a header by its hash, a proof by the state root in the header. So one endpoint's answer is
//! enough, and none has to be believed. Whether a block is on the chain is asked of all endpoints.

use super::{
    BlockTag, CallError, Chain, EndpointFault, RejectReason,
    quorum::QUORUM_TIMEOUT,
    rpc_types::{BLOCK_BY_NUMBER, RpcStateProof},
};
use crate::{registration::Block, telemetry::events};
use alloy::{
    consensus,
    primitives::{B256, Bytes, keccak256},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

const GET_PROOF: &str = "eth_getProof";
/// Whose answers about a block are compared.
const MAX_COMPARED: usize = 3;

/// Why there is no header, or no proof.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    #[error("no endpoint proves the state of block {0}: the ones that offer proofs keep that of newer blocks only")]
    TooOld(u64),
    #[error("no endpoint offers {GET_PROOF}")]
    NotOffered,
    #[error(
        "the header of block {0} does not have the block's hash: it has fields that this version of the service does \
         not know, as after a fork of the chain, or the endpoint's answer is wrong"
    )]
    UnknownHeader(u64),
    #[error("the endpoints do not agree about block {0}, as during a reorg")]
    Disagreement(u64),
    #[error("the proof of block {0} is not valid: {1}")]
    Invalid(u64, String),
    #[error(transparent)]
    Call(#[from] CallError),
}

/// A block that endpoints have at its height.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenBlock {
    /// In RLP; its keccak-256 is the block's hash.
    pub header: Bytes,
    /// How many endpoints have it.
    pub seen_by: u64,
}

/// A proof of one storage slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateProof {
    pub account: Vec<Bytes>,
    pub storage: Vec<Bytes>,
}

#[derive(Deserialize)]
struct RpcHash {
    hash: B256,
}

impl Chain {
    /// The block's header, and how many endpoints have the block.
    ///
    /// # Errors
    /// When no endpoint has it, or one has another block at its height.
    pub(crate) async fn seen_block(&self, block: Block) -> Result<SeenBlock, ProofError> {
        let params = (BlockTag::Number(block.number).to_param(), false);
        let deadline = Instant::now() + QUORUM_TIMEOUT;
        let answers = self.pool.fan_out(BLOCK_BY_NUMBER, params, MAX_COMPARED, deadline).await;
        let (mut header, mut seen_by, mut error) = (None, 0, None);
        for (endpoint, answer) in answers {
            let answer: Option<Box<RawValue>> = match answer {
                Ok(answer) => answer,
                Err(failed) => {
                    error.get_or_insert(ProofError::Call(failed));
                    continue;
                }
            };
            // An endpoint without the block may be behind.
            let Some(json) = answer else { continue };
            match serde_json::from_str::<RpcHash>(json.get()) {
                Ok(RpcHash { hash }) if hash == block.hash => seen_by += 1,
                Ok(_) => return Err(ProofError::Disagreement(block.number)),
                Err(_) => {
                    let failed = CallError::unavailable(&endpoint, BLOCK_BY_NUMBER, EndpointFault::Unreadable);
                    error.get_or_insert(ProofError::Call(failed));
                    continue;
                }
            }
            if header.is_none() {
                header = encode_header(json.get(), block.hash);
            }
        }
        match (header, seen_by) {
            (Some(header), _) => Ok(SeenBlock { header, seen_by }),
            (None, 0) => Err(error.unwrap_or_else(|| self.pool.no_endpoint_error(BLOCK_BY_NUMBER).into())),
            (None, _) => Err(ProofError::UnknownHeader(block.number)),
        }
    }

    /// A proof of a slot of the contract's storage, at the end of a block. `check` says what is wrong with one.
    ///
    /// # Errors
    /// When no endpoint has a proof that is right.
    pub(crate) async fn state_proof(
        &self,
        slot: B256,
        number: u64,
        check: impl Fn(&StateProof) -> Result<(), String>,
    ) -> Result<StateProof, ProofError> {
        let params = (self.contract(), [slot], BlockTag::Number(number).to_param());
        let mut worst = None;
        let mut keep = |error: ProofError| {
            if worst.as_ref().is_none_or(|kept| rank(&error) > rank(kept)) {
                worst = Some(error);
            }
        };
        for position in self.pool.route() {
            if !self.proof_support.may_ask(position, Instant::now()) {
                keep(ProofError::NotOffered);
                continue;
            }
            match self.pool.call_optional::<_, RpcStateProof>(position, GET_PROOF, params.clone()).await {
                Ok(answer) => {
                    self.proof_support.record_proof(position);
                    let proof = StateProof::from(answer);
                    match check(&proof) {
                        Ok(()) => return Ok(proof),
                        Err(problem) => keep(ProofError::Invalid(number, problem)),
                    }
                }
                Err(error) => match error.reject_reason() {
                    Some(RejectReason::UnknownMethod) => {
                        if self.proof_support.record_refusal(position, Instant::now()) {
                            events::proofs_not_offered(self.pool.endpoint_name(position), &error.to_string());
                        }
                        keep(ProofError::NotOffered);
                    }
                    Some(RejectReason::Pruned | RejectReason::UnknownBlock) => keep(ProofError::TooOld(number)),
                    _ => keep(error.into()),
                },
            }
        }
        Err(worst.unwrap_or_else(|| self.pool.no_endpoint_error(GET_PROOF).into()))
    }
}

/// Which error is reported: that something is wrong rather than that nothing is offered. That a block is too old is first,
/// because a newer one helps.
fn rank(error: &ProofError) -> u8 {
    match error {
        ProofError::NotOffered => 0,
        ProofError::Call(_) => 1,
        ProofError::Invalid(..) | ProofError::UnknownHeader(_) | ProofError::Disagreement(_) => 2,
        ProofError::TooOld(_) => 3,
    }
}

/// `None` if the header does not have this hash.
fn encode_header(json: &str, hash: B256) -> Option<Bytes> {
    let header: consensus::Header = serde_json::from_str(json).ok()?;
    let rlp = alloy_rlp::encode(&header);
    (keccak256(&rlp) == hash).then(|| rlp.into())
}

impl From<RpcStateProof> for StateProof {
    fn from(wire: RpcStateProof) -> Self {
        let storage = wire.storage_proof.into_iter().next().map(|storage| storage.proof);
        Self { account: wire.account_proof, storage: storage.unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_header_is_encoded_only_if_it_has_the_hash_of_its_block() {
        let header = consensus::Header { number: 7, base_fee_per_gas: Some(9), ..Default::default() };
        let mut block = serde_json::to_value(&header).unwrap();
        block["hash"] = json!(header.hash_slow());
        block["transactions"] = json!([B256::ZERO]);
        let encoded = encode_header(&block.to_string(), header.hash_slow()).unwrap();
        assert_eq!(keccak256(&encoded), header.hash_slow());
        assert_eq!(encode_header(&block.to_string(), B256::repeat_byte(1)), None, "of another block");
        // A fork adds a field that is part of the hash.
        block["number"] = json!("0x8");
        assert_eq!(encode_header(&block.to_string(), header.hash_slow()), None);
        block["number"] = json!(null);
        assert_eq!(encode_header(&block.to_string(), header.hash_slow()), None);
    }
}
