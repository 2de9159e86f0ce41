//! The contract on a real node: records, events and access control.

use crate::harness::{
    Anvil, EXTERNAL_REGISTRAR, OWNER, Registry, account,
    registry::{
        DocumentRegistered, DocumentSkipped, EmptyBatch, InvalidCaseIdLength, LengthMismatch, NotRegistrar,
        OwnableUnauthorizedAccount, Record, RenounceDisabled, TRANSACTION_GAS_CAP, ZeroDocumentHash,
        acceptOwnershipCall, addRegistrarCall, isRegisteredCall, isRegistrarCall, ownerCall, pendingOwnerCall,
        recordOfCall, recordsOfCall, registerDocumentCall, registerDocumentsCall, removeRegistrarCall,
        renounceOwnershipCall, revert_data, transferOwnershipCall, versionCall,
    },
};
use alloy::{
    primitives::{Address, B256, Bytes, U256, keccak256},
    rpc::types::TransactionReceipt,
    sol_types::{SolCall, SolEvent},
};
use serde_json::{Value, json};
use std::{fs, path::Path, process::Command};

const REGISTRAR: usize = 1;
const EXTERNAL_ACCOUNT: usize = 5;

/// Anvil with a contract whose registrars are accounts 0, 1 and 9.
async fn chain() -> (Anvil, Registry) {
    let anvil = Anvil::start(&[]).await;
    let registry = Registry::deploy(&anvil, 1).await;
    (anvil, registry)
}

fn hash(number: u64) -> B256 {
    keccak256(number.to_be_bytes())
}

fn one(number: u64, case: &str) -> registerDocumentCall {
    registerDocumentCall { documentHash: hash(number), caseId: case.to_owned() }
}

fn many(pairs: impl IntoIterator<Item = (u64, String)>) -> registerDocumentsCall {
    let (hashes, cases) = pairs.into_iter().map(|(number, case)| (hash(number), case)).unzip();
    registerDocumentsCall { documentHashes: hashes, caseIds: cases }
}

/// The events of one kind in a receipt, in order.
fn events<E: SolEvent>(receipt: &TransactionReceipt) -> Vec<E> {
    receipt.logs().iter().filter_map(|log| E::decode_log(&log.inner).ok().map(|log| log.data)).collect()
}

fn registered(number: u64, case: &str) -> DocumentRegistered {
    DocumentRegistered {
        documentHash: hash(number),
        caseIdHash: keccak256(case),
        registrar: account(REGISTRAR),
        caseId: case.to_owned(),
    }
}

fn skipped(number: u64, case: &str) -> DocumentSkipped {
    DocumentSkipped { documentHash: hash(number), caseIdHash: keccak256(case) }
}

/// The revert data of this call from this account.
async fn revert_of(registry: &Registry, from: usize, call: impl SolCall) -> Option<String> {
    match registry.try_read(account(from), call).await {
        Ok(_) => panic!("the call did not revert"),
        Err(error) => error.data,
    }
}

#[tokio::test]
async fn registering_a_document_records_it_and_emits_an_event() {
    let (anvil, registry) = chain().await;
    let before = registry.read(recordOfCall { documentHash: hash(1), caseId: "case-1".into() }).await;
    assert_eq!(before, Record { registrar: Address::ZERO, ..before.clone() });
    assert_eq!(before.blockNumber.to::<u64>(), 0);

    let receipt = registry.send(account(REGISTRAR), one(1, "case-1")).await;

    assert!(receipt.status());
    assert_eq!(events::<DocumentRegistered>(&receipt), [registered(1, "case-1")]);
    let record = registry.read(recordOfCall { documentHash: hash(1), caseId: "case-1".into() }).await;
    assert_eq!(record.registrar, account(REGISTRAR));
    assert_eq!(record.blockNumber.to::<u64>(), receipt.block_number.unwrap());
    let block: serde_json::Value = anvil.rpc().call("eth_getBlockByNumber", serde_json::json!(["latest", false])).await;
    assert_eq!(format!("{:#x}", record.time), block["timestamp"].as_str().unwrap());
    assert!(registry.read(isRegisteredCall { documentHash: hash(1), caseId: "case-1".into() }).await);
    assert!(!registry.read(isRegisteredCall { documentHash: hash(1), caseId: "case-2".into() }).await);
    assert!(receipt.gas_used <= 50_800, "{} gas for one document", receipt.gas_used);
}

#[tokio::test]
async fn one_transaction_registers_many_documents() {
    let (_anvil, registry) = chain().await;
    let pairs: Vec<_> = (1..=100).map(|number| (number, format!("case-{number:08}"))).collect();

    let receipt = registry.send(account(REGISTRAR), many(pairs.clone())).await;

    let expected: Vec<_> = pairs.iter().map(|(number, case)| registered(*number, case)).collect();
    assert_eq!(events::<DocumentRegistered>(&receipt), expected);
    let call = recordsOfCall {
        documentHashes: pairs.iter().map(|(number, _)| hash(*number)).chain([hash(999)]).collect(),
        caseIds: pairs.iter().map(|(_, case)| case.clone()).chain(["none".into()]).collect(),
    };
    let records = registry.read(call).await;
    assert!(records[..100].iter().all(|record| record.registrar == account(REGISTRAR)));
    assert_eq!(records[100].registrar, Address::ZERO, "an unknown pair has an empty record");
    let each = receipt.gas_used / 100;
    assert!(each <= 27_600, "{each} gas per document in a batch of 100");
}

#[tokio::test]
async fn duplicates_in_a_batch_are_skipped_and_the_rest_is_registered() {
    let (_anvil, registry) = chain().await;
    registry.send(account(REGISTRAR), one(1, "earlier")).await;
    let first = registry.read(recordOfCall { documentHash: hash(1), caseId: "earlier".into() }).await;
    let batch = [(1, "earlier"), (2, "a"), (2, "a"), (3, "b")].map(|(number, case)| (number, case.to_owned()));

    let receipt = registry.send(account(OWNER), many(batch)).await;

    assert!(receipt.status());
    let new = events::<DocumentRegistered>(&receipt);
    assert_eq!(new.iter().map(|event| event.documentHash).collect::<Vec<_>>(), [hash(2), hash(3)]);
    assert_eq!(events::<DocumentSkipped>(&receipt), [skipped(1, "earlier"), skipped(2, "a")]);
    let record = registry.read(recordOfCall { documentHash: hash(1), caseId: "earlier".into() }).await;
    assert_eq!(record, first, "the first record is unchanged");
}

#[tokio::test]
async fn the_same_hash_for_two_cases_is_two_registrations() {
    let (_anvil, registry) = chain().await;

    let receipt = registry.send(account(REGISTRAR), many([(1, "a".into()), (1, "b".into())])).await;

    assert_eq!(events::<DocumentRegistered>(&receipt), [registered(1, "a"), registered(1, "b")]);
}

#[tokio::test]
async fn an_account_that_is_not_a_registrar_is_rejected() {
    let (_anvil, registry) = chain().await;
    let expected = revert_data(NotRegistrar { account: account(EXTERNAL_ACCOUNT) });

    assert_eq!(revert_of(&registry, EXTERNAL_ACCOUNT, one(1, "case")).await, expected);
    assert_eq!(revert_of(&registry, EXTERNAL_ACCOUNT, many([(1, "case".into())])).await, expected);
    let receipt = registry.send(account(EXTERNAL_ACCOUNT), one(1, "case")).await;
    assert!(!receipt.status(), "the transaction reverts too");
    assert_eq!(registry.events().await, []);
}

#[tokio::test]
async fn only_the_owner_adds_and_removes_registrars() {
    let (_anvil, registry) = chain().await;
    let added = account(EXTERNAL_ACCOUNT);
    assert!(!registry.read(isRegistrarCall { account: added }).await);

    registry.send(account(OWNER), addRegistrarCall { account: added }).await;
    assert!(registry.read(isRegistrarCall { account: added }).await);
    assert!(registry.send(added, one(1, "case")).await.status());

    registry.send(account(OWNER), removeRegistrarCall { account: added }).await;
    assert!(!registry.read(isRegistrarCall { account: added }).await);
    assert_eq!(
        revert_of(&registry, EXTERNAL_ACCOUNT, one(2, "case")).await,
        revert_data(NotRegistrar { account: added })
    );
    assert!(registry.read(isRegisteredCall { documentHash: hash(1), caseId: "case".into() }).await, "its records stay");

    let expected = revert_data(OwnableUnauthorizedAccount { account: account(EXTERNAL_REGISTRAR) });
    assert_eq!(revert_of(&registry, EXTERNAL_REGISTRAR, addRegistrarCall { account: added }).await, expected);
    assert_eq!(
        revert_of(&registry, EXTERNAL_REGISTRAR, removeRegistrarCall { account: account(OWNER) }).await,
        expected
    );
}

#[tokio::test]
async fn ownership_moves_only_when_the_new_owner_accepts_it() {
    let (_anvil, registry) = chain().await;
    let (old, new) = (account(OWNER), account(EXTERNAL_ACCOUNT));
    assert_eq!(registry.read(ownerCall {}).await, old, "`registrar deploy` makes the first signer the owner");

    registry.send(old, transferOwnershipCall { newOwner: new }).await;
    assert_eq!((registry.read(ownerCall {}).await, registry.read(pendingOwnerCall {}).await), (old, new));
    let other = revert_data(OwnableUnauthorizedAccount { account: account(EXTERNAL_REGISTRAR) });
    assert_eq!(revert_of(&registry, EXTERNAL_REGISTRAR, acceptOwnershipCall {}).await, other);

    registry.send(new, acceptOwnershipCall {}).await;
    assert_eq!(registry.read(ownerCall {}).await, new);
    let former = revert_data(OwnableUnauthorizedAccount { account: old });
    assert_eq!(revert_of(&registry, OWNER, addRegistrarCall { account: old }).await, former);
}

#[tokio::test]
async fn ownership_cannot_be_renounced() {
    let (_anvil, registry) = chain().await;

    assert_eq!(revert_of(&registry, OWNER, renounceOwnershipCall {}).await, revert_data(RenounceDisabled {}));
    assert!(!registry.send(account(OWNER), renounceOwnershipCall {}).await.status());
    assert_eq!(registry.read(ownerCall {}).await, account(OWNER));
}

#[tokio::test]
async fn invalid_hashes_cases_and_batches_are_rejected() {
    let (_anvil, registry) = chain().await;
    let zero = registerDocumentCall { documentHash: B256::ZERO, caseId: "case".into() };
    assert_eq!(revert_of(&registry, REGISTRAR, zero).await, revert_data(ZeroDocumentHash {}));
    let empty = revert_data(InvalidCaseIdLength { length: U256::ZERO });
    assert_eq!(revert_of(&registry, REGISTRAR, one(1, "")).await, empty);

    let longest = "c".repeat(64);
    let receipt = registry.send(account(REGISTRAR), one(1, &longest)).await;
    assert_eq!(events::<DocumentRegistered>(&receipt), [registered(1, &longest)]);
    let too_long = revert_data(InvalidCaseIdLength { length: U256::from(65) });
    assert_eq!(revert_of(&registry, REGISTRAR, one(2, &"c".repeat(65))).await, too_long);

    let nothing = revert_data(EmptyBatch {});
    assert_eq!(revert_of(&registry, REGISTRAR, many([])).await, nothing);
    let uneven = registerDocumentsCall { documentHashes: vec![hash(2)], caseIds: vec!["a".into(), "b".into()] };
    let mismatch = revert_data(LengthMismatch { documentHashes: U256::from(1), caseIds: U256::from(2) });
    assert_eq!(revert_of(&registry, REGISTRAR, uneven).await, mismatch);
}

#[tokio::test]
async fn a_batch_of_600_fits_under_the_gas_cap_of_a_transaction() {
    let (_anvil, registry) = chain().await;

    let receipt =
        registry.send(account(REGISTRAR), many((0..600).map(|number| (number, format!("case-{number:08}"))))).await;

    assert!(receipt.status(), "{} gas is not enough", TRANSACTION_GAS_CAP);
    assert_eq!(events::<DocumentRegistered>(&receipt).len(), 600);
}

#[tokio::test]
async fn the_contract_has_a_version() {
    let (_anvil, registry) = chain().await;
    assert_eq!(registry.read(versionCall {}).await, "1.0.0");
}

#[tokio::test]
async fn the_deployed_code_is_that_of_the_artifact_except_for_the_deploy_block() {
    let (anvil, registry) = chain().await;
    let code: Bytes = anvil.rpc().call("eth_getCode", json!([registry.address, "latest"])).await;
    let artifact = Path::new(env!("CARGO_MANIFEST_DIR")).join("contracts/artifact/DocumentRegistry.json");
    let artifact: Value = serde_json::from_str(&fs::read_to_string(artifact).unwrap()).unwrap();
    let artifact: Bytes = artifact["deployedBytecode"].as_str().unwrap().parse().unwrap();
    assert_eq!(code.len(), artifact.len());
    let differ: Vec<_> = (0..code.len()).filter(|at| code[*at] != artifact[*at]).collect();
    assert!(!differ.is_empty() && differ.iter().all(|at| artifact[*at] == 0), "{differ:?}");
    // A small number, in the lowest byte of each place.
    assert!(differ.iter().all(|at| u64::from(code[*at]) == 1), "{differ:?}");
}

#[test]
fn the_committed_artifact_matches_the_source() {
    let contracts = Path::new(env!("CARGO_MANIFEST_DIR")).join("contracts");
    assert!(contracts.join("node_modules/solc").exists(), "solc is not installed: `make test` installs it");
    let output = Command::new("node").arg("build.mjs").arg("--check").current_dir(contracts).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
