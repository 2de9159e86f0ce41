//! The first of two endpoints says what is not so, in the right form: that it took a transaction, that it refuses one, that
//! a document is registered. Nothing irreversible follows from its word alone, and nothing waits for it.

use crate::harness::{
    CASE, Fault, LoadScenario, StackBuilder, State, TestStack, WaitFor, account, assert_pending, document, eventually,
    load_scenario::{ENDPOINT_1, SINGLE_ENDPOINT},
    proxy::node_errors::NodeError,
    register_request,
    registry::{DocumentRegistered, NotRegistrar, Record, recordsOfCall, registerDocumentCall, revert_data},
    seconds,
};
use alloy::{
    hex,
    primitives::{Address, B256, aliases::U48, keccak256},
    sol_types::{SolCall, SolEvent},
};
use serde_json::{Value, json};
use std::time::Duration;

const SEND: &str = "eth_sendRawTransaction";
const RECEIPT: &str = "eth_getTransactionReceipt";
const NONCE: &str = "eth_getTransactionCount";
/// Registers nothing: the first endpoint invents what it did.
const OTHER_REGISTRAR: Address = Address::repeat_byte(7);
const EVERY_SEND: Fault = Fault::NeverIncludeAbove(0);

async fn two_endpoints() -> LoadScenario {
    LoadScenario::new(StackBuilder::block_time(0.2).endpoints(2).start().await)
}

fn result(json: &Value) -> Fault {
    Fault::Result(json.to_string().leak())
}

fn assert_nothing_was_blocked(stack: &TestStack, what: &str) {
    let blocked = stack.service.log().into_iter().find(|line| line["message"] == "registrations are blocked");
    assert_eq!(blocked, None, "{what}");
}

#[tokio::test]
async fn a_send_is_accepted_only_with_the_hash_of_the_transaction() {
    let scenario = two_endpoints().await;
    let answers = [
        ("an empty string", r#""""#),
        ("null", "null"),
        ("no bytes", r#""0x""#),
        ("the zero hash", r#""0x0000000000000000000000000000000000000000000000000000000000000000""#),
        // Besu for a transaction that it refuses.
        ("the empty hash", r#""0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470""#),
    ];
    for (number, (what, answer)) in (0..).zip(answers) {
        let forged = scenario.primary().inject(SEND, Fault::Result(answer));
        let before = scenario.backup().sent().len();

        let confirmed = scenario.stack.client.confirm(number, CASE).await.transaction.unwrap();

        // Once: the other endpoint got the bytes at once, and not with a later rebroadcast.
        assert_eq!((forged.hits(), scenario.backup().sent().len()), (1, before + 1), "{what}");
        assert_eq!((confirmed.nonce, confirmed.attempts), (Some(number), 1), "{what}");
    }
    scenario.expect_call_outcome(ENDPOINT_1, "unreadable").await;
    scenario.stack.registry.assert_registered_exactly((0..5).map(|number| (document(number), CASE.to_owned()))).await;
}

#[tokio::test]
async fn a_refusal_of_one_endpoint_neither_stops_a_transaction_nor_raises_its_price() {
    let scenario = two_endpoints().await;
    let error = |code, message| NodeError { code, message, data: None };
    let exhausted = NodeError {
        data: Some(r#"{"code":"ErrUpstreamsExhausted","cause":[{"message":"replacement transaction underpriced"}]}"#),
        ..error(-32603, "all upstream attempts failed")
    };
    let refusals = [
        error(-32000, "insufficient funds for gas * price + value: balance 0, tx cost 1, overshot 1"),
        error(-32000, "transaction underpriced"),
        error(-32000, "replacement transaction underpriced"),
        error(-32000, "exceeds block gas limit"),
        error(-32000, "nonce too high"),
        error(3, "execution reverted"),
        // dRPC, for every send on Base Sepolia.
        error(1, "no available upstreams to process a request. Cause - upstream-80 - No label `flashblocks`"),
        error(19, "Temporary internal error. Please retry, trace-id: d13566efdd917dc2"),
        exhausted,
    ];
    for (number, refusal) in (0..).zip(refusals) {
        let refused = scenario.primary().inject(SEND, Fault::Error(refusal));

        let confirmed = scenario.stack.client.confirm(number, CASE).await.transaction.unwrap();

        assert!(refused.hits() > 0, "{refusal:?}");
        assert_eq!((confirmed.attempts, confirmed.batch_size), (1, 1), "{refusal:?}");
    }
    assert_nothing_was_blocked(&scenario.stack, "a refusal");
}

/// Takes ten seconds, for which the limit is believed: the sequencer's applies at every endpoint.
#[tokio::test]
async fn a_full_pool_of_one_endpoint_is_not_waited_for_without_end() {
    let scenario = two_endpoints().await;
    let full = NodeError { code: -32000, message: "txpool is full", data: None };
    let refused = scenario.primary().inject(SEND, Fault::Error(full));

    let confirmed = scenario.stack.client.confirm(1, CASE).await;

    assert!(refused.hits() > 1, "it was not asked again");
    assert_eq!(confirmed.transaction.unwrap().attempts, 1);
}

#[tokio::test]
async fn a_revert_that_one_endpoint_invents_neither_fails_nor_blocks_a_registration() {
    let scenario = two_endpoints().await;
    let not_registrar = revert_data(NotRegistrar { account: OTHER_REGISTRAR }).unwrap();
    let reverts = [
        NodeError { code: 3, message: "execution reverted", data: None },
        NodeError { code: 3, message: "execution reverted", data: Some(r#""0x08c379a0""#) },
        NodeError { code: 3, message: "execution reverted", data: Some(json!(not_registrar).to_string().leak()) },
    ];
    for (number, revert) in (0..).zip(reverts) {
        let reverted = scenario.primary().inject("eth_call", Fault::Error(revert));

        let confirmed = scenario.stack.client.confirm(number, CASE).await;

        assert!(reverted.hits() > 0, "nothing was simulated");
        assert_eq!(confirmed.state(), State::Confirmed, "{revert:?}");
    }
    assert_nothing_was_blocked(&scenario.stack, "an invented revert");
}

/// An event for the first document, in a block.
fn forged_log(stack: &TestStack, registrar: Address, transaction: B256, block: &Value) -> Value {
    let hash: B256 = document(1).parse().unwrap();
    json!({
        "address": stack.registry.address,
        "topics": [DocumentRegistered::SIGNATURE_HASH, hash, keccak256(CASE), registrar.into_word()],
        "data": "0x",
        "transactionHash": transaction,
        "blockHash": block["hash"],
        "blockNumber": block["number"],
        "logIndex": "0x0",
        "transactionIndex": "0x0",
        "removed": false,
    })
}

async fn block(stack: &TestStack, depth: u64) -> Value {
    let number = format!("{:#x}", stack.anvil.head().await - depth);
    stack.anvil.rpc().call("eth_getBlockByNumber", json!([number, false])).await
}

#[tokio::test]
async fn a_registration_that_one_endpoint_alone_finds_on_chain_is_not_confirmed() {
    let scenario = two_endpoints().await;
    let stack = &scenario.stack;
    eventually("thirty blocks", async || (stack.anvil.head().await > 30).then_some(())).await;
    let block = block(stack, 10).await;
    let number = u64::from_str_radix(block["number"].as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
    let record = Record { registrar: OTHER_REGISTRAR, blockNumber: U48::from(number), time: U48::from(1) };
    let records = recordsOfCall::abi_encode_returns(&vec![record]);
    let selector = |selector: [u8; 4]| hex::encode_prefixed(selector);
    let primary = scenario.primary();
    let forged = [
        primary.inject_matching("eth_call", &selector(registerDocumentCall::SELECTOR), result(&json!(B256::ZERO))),
        primary.inject_matching(
            "eth_call",
            &selector(recordsOfCall::SELECTOR),
            result(&json!(hex::encode_prefixed(records))),
        ),
        primary
            .inject("eth_getLogs", result(&json!([forged_log(stack, OTHER_REGISTRAR, B256::repeat_byte(9), &block)]))),
    ];
    let accepted = stack.client.accept(1, CASE).await;
    forged[2].until_hit().await;
    let mut confirmed = Box::pin(stack.client.wait_for_state(&accepted.id, State::Confirmed));

    assert_pending("the confirmation by one endpoint", &mut confirmed, Duration::from_secs(2)).await;
    drop(forged);

    confirmed.await;
    stack.registry.assert_registered_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn a_receipt_that_one_endpoint_forges_confirms_nothing_and_the_transaction_is_sent_again() {
    let scenario = two_endpoints().await;
    let stack = &scenario.stack;
    eventually("thirty blocks", async || (stack.anvil.head().await > 30).then_some(())).await;
    // No node passes the transaction on.
    let dropped = [scenario.primary().inject(SEND, EVERY_SEND), scenario.backup().inject(SEND, EVERY_SEND)];
    let accepted = stack.client.accept(1, CASE).await;
    let submitted = stack.client.wait_for_state(&accepted.id, State::Submitted).await;
    let hash: B256 = submitted.transaction.unwrap().hash.parse().unwrap();
    let block = block(stack, 5).await;
    let receipt = json!({
        "transactionHash": hash,
        "blockHash": block["hash"],
        "blockNumber": block["number"],
        "status": "0x1",
        "gasUsed": "0x5208",
        "effectiveGasPrice": "0x1",
        "logs": [forged_log(stack, account(1), hash, &block)],
    });
    let forged = [
        scenario.primary().inject(RECEIPT, result(&receipt)),
        scenario.primary().inject(NONCE, Fault::Result(r#""0x1""#)),
    ];
    forged[0].until_hit().await;
    let mut request = register_request(1, CASE, WaitFor::Confirmed);
    request.wait_timeout = seconds(30);
    let mut confirmed = Box::pin(stack.client.register(request));

    assert_pending("the confirmation by one receipt", &mut confirmed, Duration::from_secs(3)).await;
    drop(dropped);
    // The bytes reach the chain although the first endpoint still says that they are there.
    eventually("the registration", async || (stack.registry.events().await.len() == 1).then_some(())).await;
    drop(forged);

    assert_eq!(confirmed.await.unwrap().state(), State::Confirmed);
    stack.registry.assert_registered_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn a_confirmed_transaction_costs_what_the_endpoint_with_the_lower_cost_says() {
    let scenario = two_endpoints().await;
    let _dear =
        scenario.primary().inject(RECEIPT, Fault::Member("effectiveGasPrice", r#""0xfffffffffffffffffffffff""#));

    let confirmed = scenario.stack.client.confirm(1, CASE).await.transaction.unwrap();

    let hash: B256 = confirmed.hash.parse().unwrap();
    let real = scenario.stack.registry.receipt(hash).await;
    assert_eq!(confirmed.effective_gas_price_wei, real.effective_gas_price.to_string());
}

#[tokio::test]
async fn a_receipt_of_a_pending_transaction_is_no_fault_and_no_inclusion() {
    let scenario = LoadScenario::new(StackBuilder::block_time(0.2).endpoints(1).start().await);
    // OpenEthereum.
    let pending = Fault::Result(
        r#"{"blockHash":null,"blockNumber":null,"cumulativeGasUsed":331535,"gasUsed":331535,"logs":[],"transactionIndex":0}"#,
    );
    let pending = scenario.primary().inject(RECEIPT, pending);
    let accepted = scenario.stack.client.accept(1, CASE).await;
    eventually("ten polls", async || (pending.hits() >= 10).then_some(())).await;
    assert_eq!(scenario.stack.client.get(&accepted.id).await.unwrap().state(), State::Submitted);
    pending.release();

    scenario.stack.client.wait_for_state(&accepted.id, State::Confirmed).await;

    scenario.assert_no_warning_for(SINGLE_ENDPOINT);
    assert_eq!(scenario.state(SINGLE_ENDPOINT).await, "healthy");
}
