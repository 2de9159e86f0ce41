//! The diagnosis is the same on the replica that holds the signer's lease, on another one, and on one that just took
//! the lease over.

use super::{CASE, replicas::pair};
use crate::harness::{
    Cause, Client, Fault, Registration, StackBuilder, State, account, eventually, proxy::node_errors::SENDER_LIMIT,
};
use alloy::primitives::U256;
use registrar::api::proto::Diagnosis;
use serde_json::json;

/// Waits until each replica's diagnosis has this cause.
async fn diagnoses_with_cause(clients: &[&Client], id: &str, cause: Cause) -> Vec<Diagnosis> {
    let mut diagnoses = Vec::new();
    for (number, client) in clients.iter().enumerate() {
        let diagnose =
            async || Some(client.diagnose(id).await.unwrap().diagnosis.unwrap()).filter(|it| it.cause() == cause);
        diagnoses.push(eventually(&format!("{} of replica {number}", cause.as_str_name()), diagnose).await);
    }
    diagnoses
}

#[tokio::test]
async fn a_node_rejection_is_diagnosed_by_every_replica() {
    let (stack, _other, client) = pair(StackBuilder::on_demand().through_proxy()).await;
    let full = stack.proxy().inject("eth_sendRawTransaction", Fault::Error(SENDER_LIMIT[1]));
    let first = stack.client.accept(1, CASE).await;
    let reason = "NODE_REFUSES";
    stack.client.wait_until(&first.id, reason, |registration| registration.blocked_reason == reason).await;
    let second = stack.client.accept(2, CASE).await;

    let diagnoses = diagnoses_with_cause(&[&stack.client, &client], &first.id, Cause::SenderLimit).await;

    for key in ["rejectionCode", "rejectionMessage"] {
        assert_eq!(diagnoses[0].evidence[key], diagnoses[1].evidence[key]);
    }
    let behind = diagnoses_with_cause(&[&stack.client, &client], &second.id, Cause::BlockedByEarlierNonce).await;
    assert!(behind.iter().all(|diagnosis| diagnosis.evidence["earlierRegistrationId"] == first.id), "{behind:?}");
    full.release();
    client.wait_for_state(&second.id, State::Confirmed).await;
}

#[tokio::test]
async fn a_blocker_is_diagnosed_with_its_evidence_by_every_replica() {
    let (stack, _other, client) = pair(StackBuilder::on_demand()).await;
    stack.anvil.set_balance(account(1), 7).await;
    let accepted = stack.client.accept(1, CASE).await;
    let reason = "INSUFFICIENT_FUNDS";
    stack.client.wait_until(&accepted.id, reason, |registration| registration.blocked_reason == reason).await;

    let diagnoses = diagnoses_with_cause(&[&stack.client, &client], &accepted.id, Cause::InsufficientFunds).await;

    for diagnosis in diagnoses {
        assert_eq!((&*diagnosis.evidence["from"], &*diagnosis.evidence["balanceWei"]), (&*account(1).to_string(), "7"));
        assert!(diagnosis.evidence["neededWei"].parse::<u128>().unwrap() > 7, "{diagnosis:?}");
    }
    stack.anvil.set_balance(account(1), 1_000_000_000_000_000_000).await;
    client.wait_for_state(&accepted.id, State::Confirmed).await;
}

#[tokio::test]
async fn a_reorg_is_diagnosed_by_every_replica_and_after_a_crash() {
    let (mut stack, _other, client) = pair(StackBuilder::on_demand().set("REGISTRAR_CONFIRMATIONS", 3)).await;
    let accepted = stack.client.accept(1, CASE).await;
    let included = stack.client.wait_for_state(&accepted.id, State::Included).await;
    let block = included.transaction.unwrap().block_number.unwrap().to_string();
    stack.anvil.stop_mining().await;
    stack.anvil.rpc().run("anvil_reorg", json!([1, []])).await;
    stack.anvil.mine(1).await;
    stack.anvil.rpc().run("anvil_reorg", json!([1, []])).await;
    let reverted = |seen: &Registration| seen.state() == State::Submitted && seen.revision > included.revision;
    stack.client.wait_until(&accepted.id, "the reverted inclusion", reverted).await;

    let diagnoses = diagnoses_with_cause(&[&stack.client, &client], &accepted.id, Cause::Reorged).await;
    assert!(diagnoses.iter().all(|diagnosis| diagnosis.evidence["reorgedOutOfBlock"] == block), "{diagnoses:?}");
    stack.crash().await;

    // The other replica has taken the lease over, or this one has restarted.
    let diagnoses = diagnoses_with_cause(&[&stack.client, &client], &accepted.id, Cause::Reorged).await;
    assert!(diagnoses.iter().all(|diagnosis| diagnosis.evidence["reorgedOutOfBlock"] == block), "{diagnoses:?}");
    stack.anvil.mine_on_demand().await;
    client.wait_for_state(&accepted.id, State::Included).await;
}

#[tokio::test]
async fn an_external_nonce_use_is_diagnosed_by_every_replica() {
    let (stack, _other, client) = pair(StackBuilder::on_demand().set("REGISTRAR_CONFIRMATIONS", 3)).await;
    stack.anvil.stop_mining().await;
    let accepted = stack.client.accept(1, CASE).await;
    stack.client.wait_for_state(&accepted.id, State::Submitted).await;
    let fee = U256::from(500_000_000_000_u64);
    let call = json!({ "from": account(1), "to": account(9), "nonce": "0x0", "gas": "0x5208", "maxFeePerGas": fee,
        "maxPriorityFeePerGas": fee });
    stack.anvil.rpc().call::<String>("eth_sendTransaction", json!([call])).await;
    stack.anvil.mine(1).await;

    diagnoses_with_cause(&[&stack.client, &client], &accepted.id, Cause::ReplacedExternally).await;

    stack.anvil.mine_on_demand().await;
    stack.anvil.mine(2).await;
    client.wait_for_state(&accepted.id, State::Included).await;
}
