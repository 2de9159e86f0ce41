//! Reads the contract directly, to check what was registered and how often.

use super::{
    anvil::{Anvil, KEYS, account},
    cli,
    rpc::{Rpc, RpcError},
    wait::eventually,
};
use alloy::{
    primitives::{Address, B256, Bytes, U64, U256, keccak256},
    rpc::types::{Log, TransactionReceipt},
    sol,
    sol_types::{SolCall, SolEvent},
};
use serde_json::json;
use std::collections::BTreeMap;

sol! {
    #[derive(Debug, PartialEq, Eq)]
    struct Record {
        address registrar;
        uint48 blockNumber;
        uint48 time;
    }

    function registerDocument(bytes32 documentHash, string calldata caseId) external returns (bool registered);
    function registerDocuments(bytes32[] calldata documentHashes, string[] calldata caseIds)
        external returns (uint256 registered);
    function recordOf(bytes32 documentHash, string calldata caseId) external view returns (Record memory);
    function recordsOf(bytes32[] calldata documentHashes, string[] calldata caseIds)
        external view returns (Record[] memory records);
    function isRegistered(bytes32 documentHash, string calldata caseId) external view returns (bool);
    function isRegistrar(address account) external view returns (bool);
    function addRegistrar(address account) external;
    function removeRegistrar(address account) external;
    function owner() external view returns (address);
    function pendingOwner() external view returns (address);
    function transferOwnership(address newOwner) external;
    function acceptOwnership() external;
    function renounceOwnership() external;
    function version() external pure returns (string memory);

    #[derive(Debug, PartialEq, Eq)]
    event DocumentRegistered(
        bytes32 indexed documentHash, bytes32 indexed caseIdHash, address indexed registrar, string caseId
    );
    #[derive(Debug, PartialEq, Eq)]
    event DocumentSkipped(bytes32 indexed documentHash, bytes32 indexed caseIdHash);

    #[derive(Debug, PartialEq, Eq)]
    error NotRegistrar(address account);
    #[derive(Debug, PartialEq, Eq)]
    error ZeroDocumentHash();
    #[derive(Debug, PartialEq, Eq)]
    error InvalidCaseIdLength(uint256 length);
    #[derive(Debug, PartialEq, Eq)]
    error LengthMismatch(uint256 documentHashes, uint256 caseIds);
    #[derive(Debug, PartialEq, Eq)]
    error EmptyBatch();
    #[derive(Debug, PartialEq, Eq)]
    error RenounceDisabled();
    #[derive(Debug, PartialEq, Eq)]
    error OwnableUnauthorizedAccount(address account);
}

/// Owner of every test contract. The service never signs with it.
pub const OWNER: usize = 0;
/// Account of a registrar other than the service.
pub const EXTERNAL_REGISTRAR: usize = 9;

/// Maximum gas of one transaction (EIP-7825), in force on Base.
pub const TRANSACTION_GAS_CAP: u64 = 16_777_216;

/// Fee per gas above anything the service pays.
const HIGH_FEE_WEI: u64 = 500_000_000_000;

/// A deployed DocumentRegistry.
#[derive(Clone)]
pub struct Registry {
    pub address: Address,
    rpc: Rpc,
}

/// A registration on the chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registered {
    pub document_hash: B256,
    pub case_id: String,
    pub registrar: Address,
    pub transaction: B256,
    pub block: u64,
}

impl Registry {
    /// Runs `registrar deploy`: account 0 owns the contract; accounts 1 to `signers` and [`EXTERNAL_REGISTRAR`] are
    /// registrars too.
    pub async fn deploy(anvil: &Anvil, signers: usize) -> Self {
        let chain_id = anvil.rpc().call::<U64>("eth_chainId", json!([])).await.to_string();
        let keys: Vec<&str> = (0..=signers).chain([EXTERNAL_REGISTRAR]).map(|number| KEYS[number]).collect();
        let run = cli::run(
            &["deploy"],
            &[
                ("REGISTRAR_RPC_URLS", anvil.url()),
                ("REGISTRAR_CHAIN_ID", &chain_id),
                ("REGISTRAR_SIGNER_KEYS", &keys.join(",")),
            ],
        )
        .await;
        assert_eq!(run.code, 0, "`registrar deploy` fails: {}", run.stderr);
        let address = run.stdout.trim().parse().unwrap_or_else(|_| panic!("stdout is not an address: {}", run.stdout));
        Self::at(anvil, address)
    }

    /// A contract that is on the chain already.
    pub fn at(anvil: &Anvil, address: Address) -> Self {
        Self { address, rpc: anvil.rpc().clone() }
    }

    /// All `DocumentRegistered` events, in order.
    pub async fn events(&self) -> Vec<Registered> {
        let logs = self.logs(DocumentRegistered::SIGNATURE_HASH).await;
        logs.into_iter()
            .map(|log| {
                let event = DocumentRegistered::decode_log(&log.inner).unwrap();
                assert_eq!(event.caseIdHash, keccak256(&event.caseId), "the event's case id and its hash differ");
                Registered {
                    document_hash: event.documentHash,
                    case_id: event.caseId.clone(),
                    registrar: event.registrar,
                    transaction: log.transaction_hash.unwrap(),
                    block: log.block_number.unwrap(),
                }
            })
            .collect()
    }

    /// All events with this signature, in order.
    pub async fn logs(&self, signature: B256) -> Vec<Log> {
        let filter =
            json!([{ "address": self.address, "fromBlock": "0x0", "toBlock": "latest", "topics": [signature] }]);
        self.rpc.call("eth_getLogs", filter).await
    }

    /// Asserts that exactly these pairs are registered, each with one event and a record.
    pub async fn assert_registered_exactly(&self, pairs: impl IntoIterator<Item = (String, String)>) {
        let mut counts: BTreeMap<(String, String), i64> = BTreeMap::new();
        for (hash, case) in pairs {
            counts.insert((hash, case), 0);
        }
        for event in self.events().await {
            *counts.entry((event.document_hash.to_string(), event.case_id)).or_insert(100) += 1;
        }
        let wrong: Vec<_> = counts.iter().filter(|(_, count)| **count != 1).collect();
        assert!(wrong.is_empty(), "events per pair (0: lost, 2: duplicated, above 100: not expected): {wrong:?}");
        for chunk in counts.keys().collect::<Vec<_>>().chunks(200) {
            let hashes = chunk.iter().map(|(hash, _)| hash.parse().unwrap()).collect();
            let cases = chunk.iter().map(|(_, case)| case.clone()).collect();
            let records = self.read(recordsOfCall { documentHashes: hashes, caseIds: cases }).await;
            assert!(records.iter().all(|record| record.registrar != Address::ZERO), "a pair without a record");
        }
    }

    pub async fn read<C: SolCall>(&self, call: C) -> C::Return {
        self.try_read(account(EXTERNAL_REGISTRAR), call)
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", C::SIGNATURE))
    }

    /// Calls the contract from an account, without a transaction.
    pub async fn try_read<C: SolCall>(&self, from: Address, call: C) -> Result<C::Return, RpcError> {
        let call = json!({ "from": from, "to": self.address, "input": Bytes::from(call.abi_encode()) });
        let answer: Bytes = self.rpc.try_call("eth_call", json!([call, "latest"])).await?;
        Ok(C::abi_decode_returns(&answer).unwrap())
    }

    /// Sends a transaction from one of anvil's unlocked accounts with the maximum gas and waits for its receipt.
    pub async fn send(&self, from: Address, call: impl SolCall) -> TransactionReceipt {
        let input = Bytes::from(call.abi_encode());
        let call = json!({ "from": from, "to": self.address, "input": input, "gas": U64::from(TRANSACTION_GAS_CAP) });
        let hash: B256 = self.rpc.call("eth_sendTransaction", json!([call])).await;
        self.receipt(hash).await
    }

    /// Sends a transaction that is mined before all pending ones and returns its hash.
    pub async fn send_with_high_fee(&self, from: Address, call: impl SolCall) -> B256 {
        let input = Bytes::from(call.abi_encode());
        let fee = U256::from(HIGH_FEE_WEI);
        let call = json!({ "from": from, "to": self.address, "input": input, "gas": U64::from(1_000_000),
            "maxFeePerGas": fee, "maxPriorityFeePerGas": fee });
        self.rpc.call("eth_sendTransaction", json!([call])).await
    }

    pub async fn receipt(&self, hash: B256) -> TransactionReceipt {
        eventually("a receipt", async || self.rpc.call("eth_getTransactionReceipt", json!([hash])).await).await
    }
}

/// The pairs that a transaction with this calldata registers; none if it calls something else.
pub fn registered_pairs(calldata: &[u8]) -> Vec<(B256, String)> {
    if let Ok(call) = registerDocumentCall::abi_decode(calldata) {
        return vec![(call.documentHash, call.caseId)];
    }
    let Ok(call) = registerDocumentsCall::abi_decode(calldata) else { return Vec::new() };
    call.documentHashes.into_iter().zip(call.caseIds).collect()
}

/// The revert data of a contract error.
pub fn revert_data(error: impl alloy::sol_types::SolError) -> Option<String> {
    Some(Bytes::from(error.abi_encode()).to_string())
}
