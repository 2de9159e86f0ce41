//! Proofs of a Merkle Patricia trie.

use alloy::primitives::{B256, Bytes, keccak256};
use alloy_rlp::Decodable;
use alloy_trie::{Nibbles, nodes::TrieNode, proof::verify_proof};

/// A key has 64 nibbles, and each node but the last one uses at least one of them.
const MAX_NODES: usize = 65;
/// A branch has 532 bytes, a leaf with an account at most 150.
const MAX_NODE_BYTES: usize = 600;

/// Why a proof does not prove that a trie has a value at a key.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProofFault {
    /// No nodes.
    #[error("it is empty")]
    Empty,
    /// More nodes than a trie is deep.
    #[error("it has {0} nodes; a proof has at most {MAX_NODES}")]
    TooManyNodes(usize),
    /// A node that no trie of accounts or records has.
    #[error("its node {0} is no node of a trie of accounts or records")]
    MalformedNode(usize),
    /// Its last node is on another path.
    #[error("it does not end at the key: nothing is stored there, or nodes are missing")]
    Absent,
    /// Its nodes are not the trie's.
    #[error("its nodes do not belong to this root and this key")]
    Mismatch,
}

/// The value at the keccak-256 of `key`, which a proof shows to be in the trie with this root.
///
/// # Errors
/// When the proof does not show it.
pub(super) fn prove(root: B256, key: &[u8], proof: &[Bytes]) -> Result<Vec<u8>, ProofFault> {
    let path = Nibbles::unpack(keccak256(key));
    let value = walk(&path, proof)?;
    verify_proof(root, path, Some(value.clone()), proof).map_err(|_| ProofFault::Mismatch)?;
    Ok(value)
}

/// The value in the last node. Makes sure that the path has 64 nibbles: [`verify_proof`] panics where a file has more,
/// and does not limit the work that a file asks for.
fn walk(path: &Nibbles, proof: &[Bytes]) -> Result<Vec<u8>, ProofFault> {
    let (Some(last), true) = (proof.len().checked_sub(1), proof.len() <= MAX_NODES) else {
        return Err(if proof.is_empty() { ProofFault::Empty } else { ProofFault::TooManyNodes(proof.len()) });
    };
    let mut walked = 0;
    for (index, node) in proof.iter().enumerate() {
        let malformed = ProofFault::MalformedNode(index);
        let mut rest = node.as_ref();
        let decoded = (node.len() <= MAX_NODE_BYTES).then(|| TrieNode::decode(&mut rest).ok()).flatten();
        match decoded.filter(|_| rest.is_empty()) {
            Some(TrieNode::Branch(branch)) => {
                let nibble = path.get(walked).ok_or(ProofFault::Absent)?;
                let branch = branch.as_ref();
                let child = branch.children().find(|(index, _)| *index == nibble).and_then(|(_, child)| child);
                // A node of fewer than 32 bytes is inside its parent: neither an account nor a record is so small.
                if !child.ok_or(ProofFault::Absent)?.is_hash() {
                    return Err(malformed);
                }
                walked += 1;
            }
            Some(TrieNode::Extension(extension)) if extension.child.is_hash() => walked += extension.key.len(),
            Some(TrieNode::Leaf(leaf)) if index == last => {
                return if path.slice(walked..) == leaf.key { Ok(leaf.value) } else { Err(ProofFault::Absent) };
            }
            Some(TrieNode::Extension(_) | TrieNode::Leaf(_) | TrieNode::EmptyRoot) | None => return Err(malformed),
        }
        if walked > path.len() {
            return Err(malformed);
        }
    }
    Err(ProofFault::Absent)
}
