//! The DocumentRegistry's interface, and the transactions that call it.

use super::{InvalidKey, Signer};
use crate::registration::{Pair, policy::fees::Fees};
use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope},
    eips::eip2718::{Decodable2718, Encodable2718},
    network::TxSignerSync,
    primitives::{Address, B256, Bytes, TxKind, U256, hex},
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

#[derive(Clone, Debug)]
pub struct UnsignedTransaction {
    pub chain_id: u64,
    pub nonce: u64,
    /// `None` deploys a contract.
    pub to: Option<Address>,
    pub calldata: Bytes,
    pub gas_limit: u64,
    pub fees: Fees,
}

/// Returns hash and EIP-2718 bytes.
pub fn sign(signer: &Signer, unsigned: &UnsignedTransaction) -> Result<(B256, Bytes), InvalidKey> {
    let transaction = TxEip1559 {
        chain_id: unsigned.chain_id,
        nonce: unsigned.nonce,
        gas_limit: unsigned.gas_limit,
        max_fee_per_gas: unsigned.fees.max_fee_per_gas,
        max_priority_fee_per_gas: unsigned.fees.max_priority_fee_per_gas,
        to: unsigned.to.map_or(TxKind::Create, TxKind::Call),
        value: U256::ZERO,
        access_list: Default::default(),
        input: unsigned.calldata.clone(),
    };
    seal(signer, transaction)
}

/// Keeps nonce, calldata and gas limit. Fails when the bytes are not an EIP-1559 transaction.
pub fn resign_with_fees(signer: &Signer, raw: &Bytes, fees: Fees) -> Result<(B256, Bytes), InvalidKey> {
    let envelope = TxEnvelope::decode_2718(&mut raw.as_ref()).map_err(|_| InvalidKey)?;
    let TxEnvelope::Eip1559(signed) = envelope else { return Err(InvalidKey) };
    let mut transaction = signed.strip_signature();
    transaction.max_fee_per_gas = fees.max_fee_per_gas;
    transaction.max_priority_fee_per_gas = fees.max_priority_fee_per_gas;
    seal(signer, transaction)
}

fn seal(signer: &Signer, mut transaction: TxEip1559) -> Result<(B256, Bytes), InvalidKey> {
    let signature = signer.key().sign_transaction_sync(&mut transaction).map_err(|_| InvalidKey)?;
    let envelope = TxEnvelope::from(transaction.into_signed(signature));
    Ok((*envelope.tx_hash(), envelope.encoded_2718().into()))
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
    fn resigning_changes_only_the_fees() {
        let signer = Signer::parse(&"11".repeat(32)).unwrap();
        let fees = |max, tip| Fees { max_fee_per_gas: max, max_priority_fee_per_gas: tip };
        let calldata = Bytes::from(vec![1, 2, 3]);
        let unsigned = UnsignedTransaction {
            chain_id: 84532,
            nonce: 7,
            to: Some(Address::repeat_byte(5)),
            calldata,
            gas_limit: 60_000,
            fees: fees(100, 1),
        };
        let (hash, raw) = sign(&signer, &unsigned).unwrap();

        let again = resign_with_fees(&signer, &raw, fees(110, 2)).unwrap();

        assert_ne!(again.0, hash);
        assert_eq!(again, sign(&signer, &UnsignedTransaction { fees: fees(110, 2), ..unsigned }).unwrap());
        assert_eq!(resign_with_fees(&signer, &raw, fees(100, 1)).unwrap(), (hash, raw));
        assert_eq!(resign_with_fees(&signer, &Bytes::new(), fees(1, 1)), Err(InvalidKey));
    }

    #[test]
    fn one_pair_uses_the_single_function_and_more_use_the_batch() {
        let pair = Pair { document_hash: DocumentHash::new([1; 32]).unwrap(), case_id: "case-1".parse().unwrap() };
        let selector = |pairs: &[Pair]| <[u8; 4]>::try_from(&register_calldata(pairs)[..4]).unwrap();
        assert_eq!(selector(std::slice::from_ref(&pair)), DocumentRegistry::registerDocumentCall::SELECTOR);
        assert_eq!(selector(&[pair.clone(), pair]), DocumentRegistry::registerDocumentsCall::SELECTOR);
    }
}
