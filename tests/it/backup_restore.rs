//! A database restored from an older backup: transactions that the service sent since are found on chain and imported.

use crate::harness::{
    CASE, EXTERNAL_REGISTRAR, Fault, Registration, StackBuilder, State, TestStack, account, document, eventually,
    proxy::node_errors::LOG_RANGE,
};
use alloy::primitives::{B256, U64, U256};
use serde_json::{Value, json};
use std::{fs, path::PathBuf};

const ETHER: u128 = 1_000_000_000_000_000_000;

/// A copy of the database's files, made while the service is stopped.
struct Backup(Vec<(PathBuf, Vec<u8>)>);

impl Backup {
    async fn take(stack: &mut TestStack) -> Self {
        stack.service.kill();
        let files = [stack.database(), stack.database().with_extension("db-wal")];
        let backup = Self(files.map(|file| (file.clone(), fs::read(file).unwrap_or_default())).into());
        stack.restart().await;
        backup
    }

    /// Replaces the current database.
    async fn restore(self, stack: &mut TestStack) {
        stack.service.kill();
        let _ = fs::remove_file(stack.database().with_extension("db-shm"));
        for (file, content) in self.0 {
            fs::write(file, content).unwrap();
        }
        stack.restart().await;
    }
}

/// The parts of a registration's transaction that come from the chain, with its sender and nonce.
fn chain_data(registration: &Registration) -> impl PartialEq + std::fmt::Debug + use<> {
    let transaction = registration.transaction.clone().unwrap();
    let block = (transaction.block_number, transaction.block_hash, transaction.block_time);
    let cost = (transaction.gas_used, transaction.effective_gas_price_wei, transaction.fee_wei);
    (transaction.hash, transaction.from_address, transaction.nonce, transaction.batch_size, block, cost)
}

async fn transactions(stack: &TestStack, result: &str) -> f64 {
    stack.service.metrics().await.value("registrar_transactions_total", &[("result", result)])
}

/// Warnings and errors, except endpoint warnings that a busy machine can cause.
fn warnings(stack: &TestStack) -> Vec<Value> {
    let about_endpoint = |line: &Value| line["message"].as_str().is_some_and(|text| text.starts_with("RPC endpoint"));
    let is_warning = |line: &Value| (line["level"] == "WARN" || line["level"] == "ERROR") && !about_endpoint(line);
    stack.service.log().into_iter().filter(is_warning).collect()
}

#[tokio::test]
async fn registrations_queued_in_the_backup_are_confirmed_by_the_transactions_sent_since() {
    let mut stack = StackBuilder::block_time(0.2).start().await;
    stack.client.confirm(1, CASE).await;
    // Without funds they stay queued.
    stack.anvil.set_balance(account(1), 0).await;
    let queued = [stack.client.accept(2, CASE).await.id, stack.client.accept(3, CASE).await.id];
    let backup = Backup::take(&mut stack).await;
    stack.anvil.set_balance(account(1), 100 * ETHER).await;
    let mut originals = Vec::new();
    for id in &queued {
        originals.push(chain_data(&stack.client.wait_for_state(id, State::Confirmed).await));
    }
    // The backup does not contain these.
    let later = chain_data(&stack.client.confirm(4, CASE).await);
    stack.client.confirm(5, CASE).await;

    backup.restore(&mut stack).await;

    for (id, original) in queued.iter().zip(originals) {
        assert_eq!(chain_data(&stack.client.wait_for_state(id, State::Confirmed).await), original);
    }
    assert_eq!(chain_data(&stack.client.confirm(4, CASE).await), later);
    stack.client.confirm(6, CASE).await;
    stack.registry.assert_registered_exactly((1..=6).map(|number| (document(number), CASE.to_owned()))).await;
    assert!(
        transactions(&stack, "imported").await >= 3.0,
        "document 5 is imported too, by the nonce that its transaction used"
    );
    assert_eq!((transactions(&stack, "external").await, transactions(&stack, "requeued").await), (0.0, 0.0));
    assert_eq!(warnings(&stack), Vec::<Value>::new());
}

#[tokio::test]
async fn transactions_sent_since_are_found_although_the_endpoint_limits_the_range_of_logs() {
    let mut stack = StackBuilder::block_time(0.2).through_proxy().start().await;
    stack.client.confirm(1, CASE).await;
    let backup = Backup::take(&mut stack).await;
    stack.client.confirm(2, CASE).await;
    stack.anvil.mine(100).await;
    stack.client.confirm(3, CASE).await;
    let limits = LOG_RANGE.map(|error| stack.proxy().inject("eth_getLogs", Fault::LogRange(10, error)));

    backup.restore(&mut stack).await;

    stack.client.confirm(4, CASE).await;
    eventually("both to be imported", async || (transactions(&stack, "imported").await >= 2.0).then_some(())).await;
    assert!(limits[0].hits() > 10, "{} requests", limits[0].hits());
    assert_eq!(transactions(&stack, "external").await, 0.0);
    assert_eq!(warnings(&stack), Vec::<Value>::new());
}

#[tokio::test]
async fn a_replacement_sent_after_the_backup_confirms_the_pending_registration() {
    let mut stack = StackBuilder::on_demand().start().await;
    stack.anvil.stop_mining().await;
    let accepted = stack.client.accept(1, CASE).await;
    let submitted = stack.client.wait_for_state(&accepted.id, State::Submitted).await.transaction.unwrap();
    // As if the service had bumped the fees after the backup: the same nonce and calldata.
    stack.service.kill();
    let ours: Value = stack.anvil.rpc().call("eth_getTransactionByHash", json!([submitted.hash])).await;
    let fee = U256::from(100_000_000_000_u64);
    let raised = json!([{ "from": account(1), "to": ours["to"], "input": ours["input"], "nonce": U64::from(0),
        "gas": ours["gas"], "maxFeePerGas": fee, "maxPriorityFeePerGas": fee }]);
    let replacement: B256 = stack.anvil.rpc().call("eth_sendTransaction", raised).await;
    stack.anvil.mine(1).await;
    assert_eq!(stack.registry.events().await[0].transaction, replacement);

    stack.restart().await;

    let confirmed = stack.client.wait_for_state(&accepted.id, State::Confirmed).await.transaction.unwrap();
    assert_eq!(confirmed.hash, replacement.to_string());
    assert_eq!((confirmed.nonce, confirmed.attempts), (Some(0), 2));
    assert_eq!((transactions(&stack, "imported").await, transactions(&stack, "requeued").await), (1.0, 0.0));
    assert_eq!(warnings(&stack), Vec::<Value>::new());
    stack.anvil.mine_on_demand().await;
    stack.client.confirm(2, CASE).await;
    stack.registry.assert_registered_exactly([1, 2].map(|number| (document(number), CASE.into()))).await;
}

#[tokio::test]
async fn external_transactions_with_our_key_are_logged_as_one_warning() {
    let mut stack = StackBuilder::on_demand().start().await;
    stack.client.confirm(1, CASE).await;
    for _ in 0..2 {
        let transfer = json!([{ "from": account(1), "to": account(EXTERNAL_REGISTRAR), "value": "0x1" }]);
        let hash: B256 = stack.anvil.rpc().call("eth_sendTransaction", transfer).await;
        stack.registry.receipt(hash).await;
    }

    let second = stack.client.confirm(2, CASE).await;
    stack.client.confirm(3, CASE).await;

    assert_eq!(second.transaction.unwrap().nonce, Some(3));
    assert_eq!((transactions(&stack, "external").await, transactions(&stack, "imported").await), (2.0, 0.0));
    let logged = warnings(&stack);
    assert_eq!(logged.len(), 1, "{logged:?}");
    assert_eq!((&logged[0]["first_nonce"], &logged[0]["transactions"]), (&json!(1), &json!(2)));
    assert_eq!(logged[0]["signer"], account(1).to_string());
    stack.service.terminate();
    assert_eq!(stack.service.exit_code().await, 0);
}
