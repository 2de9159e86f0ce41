//! A database that was restored from an older backup: what the service did since is found on chain, and is its own.

use crate::harness::{OUTSIDER, Plan, Registration, Stack, State, account, document};
use alloy::primitives::{B256, U64, U256};
use serde_json::{Value, json};
use std::{fs, path::PathBuf};

const CASE: &str = "case-1";
const ETHER: u128 = 1_000_000_000_000_000_000;

/// The database's files as they are now, with the service killed and started again.
struct Backup(Vec<(PathBuf, Vec<u8>)>);

impl Backup {
    async fn of(stack: &mut Stack) -> Self {
        stack.service.kill();
        let files = [stack.database(), stack.database().with_extension("db-wal")];
        let backup = Self(files.map(|file| (file.clone(), fs::read(file).unwrap_or_default())).into());
        stack.start_again().await;
        backup
    }

    /// Puts it back in place of what is there by now.
    async fn restore(self, stack: &mut Stack) {
        stack.service.kill();
        let _ = fs::remove_file(stack.database().with_extension("db-shm"));
        for (file, content) in self.0 {
            fs::write(file, content).unwrap();
        }
        stack.start_again().await;
    }
}

/// What the chain says of the transaction that carries a registration, and who sent it with which nonce.
fn facts(registration: &Registration) -> impl PartialEq + std::fmt::Debug + use<> {
    let transaction = registration.transaction.clone().unwrap();
    let block = (transaction.block_number, transaction.block_hash, transaction.block_time);
    let cost = (transaction.gas_used, transaction.effective_gas_price_wei, transaction.fee_wei);
    (transaction.hash, transaction.from_address, transaction.nonce, transaction.batch_size, block, cost)
}

async fn transactions(stack: &Stack, result: &str) -> f64 {
    stack.service.metrics().await.value("registrar_transactions_total", &[("result", result)])
}

/// What is said loudly, but for an endpoint that is slow to answer on a busy machine.
fn warnings(stack: &Stack) -> Vec<Value> {
    let of_endpoint = |line: &Value| line["message"].as_str().is_some_and(|text| text.starts_with("RPC endpoint"));
    let loud = |line: &Value| (line["level"] == "WARN" || line["level"] == "ERROR") && !of_endpoint(line);
    stack.service.log().into_iter().filter(loud).collect()
}

#[tokio::test]
async fn what_was_queued_in_the_backup_and_registered_since_comes_back_with_our_own_transaction() {
    let mut stack = Plan::block_time(0.2).start().await;
    stack.client.confirm(1, CASE).await;
    // Without funds they stay in the queue.
    stack.anvil.set_balance(account(1), 0).await;
    let queued = [stack.client.accept(2, CASE).await.id, stack.client.accept(3, CASE).await.id];
    let backup = Backup::of(&mut stack).await;
    stack.anvil.set_balance(account(1), 100 * ETHER).await;
    let mut originals = Vec::new();
    for id in &queued {
        originals.push(facts(&stack.client.reaches(id, State::Confirmed).await));
    }
    // The backup does not know these at all.
    let later = facts(&stack.client.confirm(4, CASE).await);
    stack.client.confirm(5, CASE).await;

    backup.restore(&mut stack).await;

    for (id, original) in queued.iter().zip(originals) {
        assert_eq!(facts(&stack.client.reaches(id, State::Confirmed).await), original);
    }
    assert_eq!(facts(&stack.client.confirm(4, CASE).await), later);
    stack.client.confirm(6, CASE).await;
    stack.registry.holds_exactly((1..=6).map(|number| (document(number), CASE.to_owned()))).await;
    assert!(transactions(&stack, "recognised").await >= 3.0, "5 is recognised too, by the nonce that it took");
    assert_eq!((transactions(&stack, "foreign").await, transactions(&stack, "released").await), (0.0, 0.0));
    assert_eq!(warnings(&stack), Vec::<Value>::new());
}

#[tokio::test]
async fn a_version_that_the_backup_does_not_know_confirms_what_is_open_in_it() {
    let mut stack = Plan::on_demand().start().await;
    stack.anvil.stop_mining().await;
    let accepted = stack.client.accept(1, CASE).await;
    let submitted = stack.client.reaches(&accepted.id, State::Submitted).await.transaction.unwrap();
    // As the service would, had it raised its offer after the backup: the same nonce, the same calldata.
    stack.service.kill();
    let ours: Value = stack.anvil.rpc().call("eth_getTransactionByHash", json!([submitted.hash])).await;
    let fee = U256::from(100_000_000_000_u64);
    let raised = json!([{ "from": account(1), "to": ours["to"], "input": ours["input"], "nonce": U64::from(0),
        "gas": ours["gas"], "maxFeePerGas": fee, "maxPriorityFeePerGas": fee }]);
    let replacement: B256 = stack.anvil.rpc().call("eth_sendTransaction", raised).await;
    stack.anvil.mine(1).await;
    assert_eq!(stack.registry.events().await[0].transaction, replacement);

    stack.start_again().await;

    let confirmed = stack.client.reaches(&accepted.id, State::Confirmed).await.transaction.unwrap();
    assert_eq!(confirmed.hash, replacement.to_string());
    assert_eq!((confirmed.nonce, confirmed.attempts), (Some(0), 2));
    assert_eq!((transactions(&stack, "recognised").await, transactions(&stack, "released").await), (1.0, 0.0));
    assert_eq!(warnings(&stack), Vec::<Value>::new());
    stack.anvil.mine_on_demand().await;
    stack.client.confirm(2, CASE).await;
    stack.registry.holds_exactly([1, 2].map(|number| (document(number), CASE.into()))).await;
}

#[tokio::test]
async fn what_somebody_else_sends_with_our_key_is_said_loudly_and_once() {
    let mut stack = Plan::on_demand().start().await;
    stack.client.confirm(1, CASE).await;
    for _ in 0..2 {
        let transfer = json!([{ "from": account(1), "to": account(OUTSIDER), "value": "0x1" }]);
        let hash: B256 = stack.anvil.rpc().call("eth_sendTransaction", transfer).await;
        stack.registry.receipt(hash).await;
    }

    let second = stack.client.confirm(2, CASE).await;
    stack.client.confirm(3, CASE).await;

    assert_eq!(second.transaction.unwrap().nonce, Some(3));
    assert_eq!((transactions(&stack, "foreign").await, transactions(&stack, "recognised").await), (2.0, 0.0));
    let told = warnings(&stack);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((&told[0]["first_nonce"], &told[0]["transactions"]), (&json!(1), &json!(2)));
    assert_eq!(told[0]["signer"], account(1).to_string());
    stack.service.terminate();
    assert_eq!(stack.service.exit_code().await, 0);
}
