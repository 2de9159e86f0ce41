//! Why something is late is told alike by the replica that acts for the signer, by one that does not, and by one that has just
//! taken it up.

use super::{CASE, replicas::pair};
use crate::harness::{
    Cause, Client, Fault, Plan, Registration, State, account, eventually, proxy::dialects::SENDER_LIMIT,
};
use alloy::primitives::U256;
use registrar::api::proto::Diagnosis;
use serde_json::json;

/// Returns what each of them says once that is this cause.
async fn all_say(asked: &[&Client], id: &str, cause: Cause) -> Vec<Diagnosis> {
    let mut told = Vec::new();
    for (number, client) in asked.iter().enumerate() {
        let says =
            async || Some(client.diagnose(id).await.unwrap().diagnosis.unwrap()).filter(|it| it.cause() == cause);
        told.push(eventually(&format!("{} of replica {number}", cause.as_str_name()), says).await);
    }
    told
}

#[tokio::test]
async fn what_a_node_refuses_is_told_by_a_replica_that_has_sent_it_nothing() {
    let (stack, _other, client) = pair(Plan::on_demand().through_proxy()).await;
    let full = stack.proxy().trap("eth_sendRawTransaction", Fault::Error(SENDER_LIMIT[1]));
    let first = stack.client.accept(1, CASE).await;
    let reason = "NODE_REFUSES";
    stack.client.sees(&first.id, reason, |registration| registration.blocked_reason == reason).await;
    let second = stack.client.accept(2, CASE).await;

    let told = all_say(&[&stack.client, &client], &first.id, Cause::SenderLimit).await;

    for key in ["refusalCode", "refusalWords"] {
        assert_eq!(told[0].evidence[key], told[1].evidence[key]);
    }
    let behind = all_say(&[&stack.client, &client], &second.id, Cause::BlockedByEarlierNonce).await;
    assert!(behind.iter().all(|told| told.evidence["earlierRegistrationId"] == first.id), "{behind:?}");
    full.release();
    client.reaches(&second.id, State::Confirmed).await;
}

#[tokio::test]
async fn what_keeps_work_in_the_queue_is_told_with_its_numbers_by_a_replica_that_has_not_tried_it() {
    let (stack, _other, client) = pair(Plan::on_demand()).await;
    stack.anvil.set_balance(account(1), 7).await;
    let accepted = stack.client.accept(1, CASE).await;
    let reason = "INSUFFICIENT_FUNDS";
    stack.client.sees(&accepted.id, reason, |registration| registration.blocked_reason == reason).await;

    let told = all_say(&[&stack.client, &client], &accepted.id, Cause::InsufficientFunds).await;

    for told in told {
        assert_eq!((&*told.evidence["from"], &*told.evidence["balanceWei"]), (&*account(1).to_string(), "7"));
        assert!(told.evidence["neededWei"].parse::<u128>().unwrap() > 7, "{told:?}");
    }
    stack.anvil.set_balance(account(1), 1_000_000_000_000_000_000).await;
    client.reaches(&accepted.id, State::Confirmed).await;
}

#[tokio::test]
async fn a_reorg_is_told_by_every_replica_and_after_a_crash() {
    let (mut stack, _other, client) = pair(Plan::on_demand().set("REGISTRAR_CONFIRMATIONS", 3)).await;
    let accepted = stack.client.accept(1, CASE).await;
    let included = stack.client.reaches(&accepted.id, State::Included).await;
    let block = included.transaction.unwrap().block_number.unwrap().to_string();
    stack.anvil.stop_mining().await;
    stack.anvil.rpc().run("anvil_reorg", json!([1, []])).await;
    stack.anvil.mine(1).await;
    stack.anvil.rpc().run("anvil_reorg", json!([1, []])).await;
    let taken_back = |seen: &Registration| seen.state() == State::Submitted && seen.revision > included.revision;
    stack.client.sees(&accepted.id, "it to be taken back", taken_back).await;

    let told = all_say(&[&stack.client, &client], &accepted.id, Cause::Reorged).await;
    assert!(told.iter().all(|told| told.evidence["reorgedOutOfBlock"] == block), "{told:?}");
    stack.crash().await;

    // The other one has taken it up, or it has begun anew.
    let told = all_say(&[&stack.client, &client], &accepted.id, Cause::Reorged).await;
    assert!(told.iter().all(|told| told.evidence["reorgedOutOfBlock"] == block), "{told:?}");
    stack.anvil.mine_on_demand().await;
    client.reaches(&accepted.id, State::Included).await;
}

#[tokio::test]
async fn a_nonce_that_a_stranger_used_is_told_by_every_replica() {
    let (stack, _other, client) = pair(Plan::on_demand().set("REGISTRAR_CONFIRMATIONS", 3)).await;
    stack.anvil.stop_mining().await;
    let accepted = stack.client.accept(1, CASE).await;
    stack.client.reaches(&accepted.id, State::Submitted).await;
    let fee = U256::from(500_000_000_000_u64);
    let call = json!({ "from": account(1), "to": account(9), "nonce": "0x0", "gas": "0x5208", "maxFeePerGas": fee,
        "maxPriorityFeePerGas": fee });
    stack.anvil.rpc().call::<String>("eth_sendTransaction", json!([call])).await;
    stack.anvil.mine(1).await;

    all_say(&[&stack.client, &client], &accepted.id, Cause::ReplacedExternally).await;

    stack.anvil.mine_on_demand().await;
    stack.anvil.mine(2).await;
    client.reaches(&accepted.id, State::Included).await;
}
