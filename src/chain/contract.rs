//! The DocumentRegistry's interface, and the transactions that call it.

use crate::registration::Pair;
use alloy::{
    primitives::{Address, B256, Bytes, U256, hex},
    sol,
    sol_types::{SolCall, SolConstructor, SolError, SolEvent},
};

sol! {
    #[allow(missing_docs)]
    #[derive(Debug, PartialEq, Eq)]
    contract DocumentRegistry {
        struct Record {
            address registrar;
            uint48 blockNumber;
            uint48 time;
        }

        event DocumentRegistered(
            bytes32 indexed documentHash, bytes32 indexed caseIdHash, address indexed registrar, string caseId
        );
        error NotRegistrar(address account);

        constructor(address initialOwner, address[] initialRegistrars);
        function registerDocument(bytes32 documentHash, string caseId) returns (bool registered);
        function registerDocuments(bytes32[] documentHashes, string[] caseIds) returns (uint256 registered);
        function recordOf(bytes32 documentHash, string caseId) view returns (Record);
        function recordsOf(bytes32[] documentHashes, string[] caseIds) view returns (Record[]);
        function isRegistrar(address account) view returns (bool);
        function addRegistrar(address account);
        function removeRegistrar(address account);
        function owner() view returns (address);
        function pendingOwner() view returns (address);
        function transferOwnership(address newOwner);
        function acceptOwnership();
        function version() view returns (string);
        function deployBlock() view returns (uint256);
    }
}

/// The only supported version of the contract.
pub(super) const CONTRACT_VERSION: &str = "1.0.0";

/// Built by `contracts/build.mjs`.
const ARTIFACT: &str = include_str!("../../contracts/artifact/DocumentRegistry.json");

/// One pair uses the function that costs less gas.
pub fn register_calldata(pairs: &[Pair]) -> Bytes {
    match pairs {
        [Pair { document_hash, case_id }] => DocumentRegistry::registerDocumentCall {
            documentHash: document_hash.as_b256(),
            caseId: case_id.as_str().to_owned(),
        }
        .abi_encode(),
        _ => {
            let (documents, cases) = split(pairs);
            DocumentRegistry::registerDocumentsCall { documentHashes: documents, caseIds: cases }.abi_encode()
        }
    }
    .into()
}

/// How many pairs a simulated call registered; both functions return one word.
pub(super) fn decode_registered_count(answer: &Bytes) -> Option<usize> {
    let word: [u8; 32] = answer.as_ref().try_into().ok()?;
    usize::try_from(U256::from_be_bytes(word)).ok()
}

pub(super) fn records_calldata(pairs: &[Pair]) -> Bytes {
    let (documents, cases) = split(pairs);
    DocumentRegistry::recordsOfCall { documentHashes: documents, caseIds: cases }.abi_encode().into()
}

/// The account without permission, when that is the reason of the revert.
pub fn decode_not_registrar(revert: &Bytes) -> Option<Address> {
    DocumentRegistry::NotRegistrar::abi_decode(revert).ok().map(|error| error.account)
}

/// Event, document, case.
pub fn registration_topics(pair: &Pair) -> [B256; 3] {
    [DocumentRegistry::DocumentRegistered::SIGNATURE_HASH, pair.document_hash.as_b256(), pair.case_id.keccak()]
}

/// All registrations by this account.
pub(super) fn registrar_topics(registrar: Address) -> Vec<Option<B256>> {
    vec![Some(DocumentRegistry::DocumentRegistered::SIGNATURE_HASH), None, None, Some(registrar.into_word())]
}

fn split(pairs: &[Pair]) -> (Vec<B256>, Vec<String>) {
    pairs.iter().map(|pair| (pair.document_hash.as_b256(), pair.case_id.as_str().to_owned())).unzip()
}

pub(super) fn deploy_calldata(owner: Address, registrars: &[Address]) -> Result<Bytes, InvalidArtifact> {
    let artifact: serde_json::Value = serde_json::from_str(ARTIFACT).map_err(|_| InvalidArtifact)?;
    let mut code = artifact["bytecode"].as_str().and_then(|code| hex::decode(code).ok()).ok_or(InvalidArtifact)?;
    let arguments = DocumentRegistry::constructorCall { initialOwner: owner, initialRegistrars: registrars.to_vec() };
    code.extend(arguments.abi_encode());
    Ok(code.into())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the contract artifact is malformed: rebuild it with `npm run build --prefix contracts`")]
pub struct InvalidArtifact;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registration::DocumentHash;

    #[test]
    fn the_embedded_artifact_has_initcode() {
        let code = deploy_calldata(Address::repeat_byte(1), &[Address::repeat_byte(2)]).unwrap();
        assert!(code.len() > 1000 && code.len() < 24_576);
    }

    #[test]
    fn one_pair_uses_the_single_function_and_more_use_the_batch() {
        let pair = Pair { document_hash: DocumentHash::new([1; 32]).unwrap(), case_id: "case-1".parse().unwrap() };
        let selector = |pairs: &[Pair]| <[u8; 4]>::try_from(&register_calldata(pairs)[..4]).unwrap();
        assert_eq!(selector(std::slice::from_ref(&pair)), DocumentRegistry::registerDocumentCall::SELECTOR);
        assert_eq!(selector(&[pair.clone(), pair]), DocumentRegistry::registerDocumentsCall::SELECTOR);
    }
}
