//! A node that is wrong, or lies, about what costs money: nonces and fees.

use crate::harness::{
    CASE, Fault, StackBuilder, State, TestStack, account, anvil::KEYS, cli, document, eventually,
    proxy::node_errors::NodeError,
};
use alloy::{
    consensus::{Transaction, TxEnvelope},
    eips::eip2718::Decodable2718,
    primitives::Bytes,
};
use futures_util::future::join_all;
use std::{collections::BTreeSet, time::Duration};

const MISSING: NodeError =
    NodeError { code: -32601, message: "the method does not exist/is not available", data: None };
const GWEI: u128 = 1_000_000_000;
/// What is offered whatever blocks paid.
const MIN_TIP: u128 = 1_000_000;

fn sent(stack: &TestStack) -> Vec<TxEnvelope> {
    let decode = |raw: String| TxEnvelope::decode_2718(&mut raw.parse::<Bytes>().unwrap().as_ref()).unwrap();
    stack.proxy().sent().into_iter().map(decode).collect()
}

#[tokio::test]
async fn nothing_is_signed_at_a_nonce_that_only_one_endpoint_reports() {
    let stack = StackBuilder::block_time(0.2).through_proxy().start().await;
    let reported = ["\"0x28\"", "\"0x3e8\"", "\"0x4c4b40\"", "\"0x4000000000000000\"", "\"0xffffffffffffffff\""];
    for (number, nonce) in (0..).zip(reported) {
        let before = sent(&stack).len();
        let wrong = stack.proxy().inject("eth_getTransactionCount", Fault::Result(nonce));
        let accepted = stack.client.accept(number, CASE).await;
        let blocked = stack.client.wait_until(&accepted.id, "a reason", |seen| !seen.blocked_reason.is_empty()).await;
        assert!(["NODE_REFUSES", "NO_ENDPOINT"].contains(&blocked.blocked_reason.as_str()), "{blocked:?}");
        wrong.hold_for(Duration::from_secs(1)).await;
        assert_eq!(sent(&stack).len(), before, "signed at {nonce}");

        let confirmed = stack.client.wait_for_state(&accepted.id, State::Confirmed).await.transaction.unwrap();

        assert_eq!(confirmed.nonce, Some(number), "{nonce}");
    }
    let nonces: BTreeSet<u64> = sent(&stack).iter().map(Transaction::nonce).collect();
    assert_eq!(nonces.into_iter().collect::<Vec<_>>(), (0..reported.len() as u64).collect::<Vec<_>>());
    stack.registry.assert_registered_exactly((0..5).map(|number| (document(number), CASE.to_owned()))).await;
}

#[tokio::test]
async fn a_nonce_that_is_too_high_during_the_wait_for_a_block_takes_nothing_back() {
    let stack = StackBuilder::on_demand().through_proxy().start().await;
    stack.anvil.stop_mining().await;
    let accepted = stack.client.accept(1, CASE).await;
    stack.client.wait_for_state(&accepted.id, State::Submitted).await;

    // Longer than the time after which a consumed nonce without a receipt is looked into.
    let wrong = stack.proxy().inject("eth_getTransactionCount", Fault::Result("\"0x28\""));
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    for _ in 0..26 {
        ticks.tick().await;
    }
    wrong.release();
    stack.anvil.mine_on_demand().await;
    stack.anvil.mine(1).await;

    let confirmed = stack.client.wait_for_state(&accepted.id, State::Confirmed).await.transaction.unwrap();
    assert_eq!((confirmed.nonce, sent(&stack).iter().map(Transaction::nonce).max()), (Some(0), Some(0)));
}

#[tokio::test]
async fn no_fee_method_is_indispensable_and_what_blocks_paid_wins() {
    const TIP: &str = "eth_maxPriorityFeePerGas";
    const HISTORY: &str = "eth_feeHistory";
    const PRICE: &str = "eth_gasPrice";
    let missing = Fault::Error(MISSING);
    let absurd = Fault::Result("\"0x10000000000000000000000000\"");
    let too_high = Fault::Result("\"0xee6b2800\"");
    // Full blocks, and priority fees of 2^100 wei, on a chain of nearly empty blocks.
    let full = Fault::Result(
        r#"{"oldestBlock":"0x1","baseFeePerGas":["0x7","0x7","0x7"],"gasUsedRatio":[1.0,1.0],
            "reward":[["0x10000000000000000000000000"],["0x10000000000000000000000000"]]}"#,
    );
    let mut stack = StackBuilder::block_time(0.2).through_proxy().start().await;
    // The blocks before, in which the contract was deployed, paid 1 gwei.
    let deployed = stack.anvil.head().await;
    eventually("ten blocks", async || (stack.anvil.head().await > deployed + 10).then_some(())).await;
    let rows = [
        ("a suggestion of 4 gwei", vec![(TIP, too_high)], MIN_TIP),
        ("an absurd suggestion", vec![(TIP, absurd)], MIN_TIP),
        ("no suggestion", vec![(TIP, missing)], MIN_TIP),
        ("nothing", vec![(TIP, missing), (HISTORY, missing), (PRICE, missing)], MIN_TIP),
        ("null", vec![(TIP, Fault::NULL), (HISTORY, Fault::NULL), (PRICE, Fault::NULL)], MIN_TIP),
        ("full blocks that are none", vec![(TIP, absurd), (HISTORY, full)], GWEI),
        ("no history", vec![(HISTORY, missing)], GWEI),
        ("only the gas price", vec![(TIP, missing), (HISTORY, missing)], GWEI),
    ];
    for (number, (what, faults, max_tip)) in (0..).zip(rows) {
        let injected: Vec<_> = faults.into_iter().map(|(method, fault)| stack.proxy().inject(method, fault)).collect();
        // Fees are cached for a second.
        tokio::time::sleep(Duration::from_millis(1_050)).await;

        let confirmed = stack.client.confirm(number, CASE).await;

        assert!(injected[0].hits() > 0, "{what}: no fees were read");
        let tip = sent(&stack).last().unwrap().max_priority_fee_per_gas().unwrap();
        assert!(tip > 0 && tip <= max_tip, "{what}: a priority fee of {tip} wei");
        assert_eq!(confirmed.transaction.unwrap().attempts, 1, "{what}");
    }
    let warning = "a node suggests a priority fee far above what recent blocks paid; the lower one is offered";
    stack.service.wait_for_log("the warning", |line| line["message"] == warning).await;
}

#[tokio::test]
async fn a_deployment_needs_no_suggestion_of_a_priority_fee() {
    let (dependencies, _) = StackBuilder::on_demand().through_proxy().prepare().await;
    let _missing = dependencies.proxies[0].inject("eth_maxPriorityFeePerGas", Fault::Error(MISSING));
    let variables = [
        ("REGISTRAR_RPC_URLS", dependencies.proxies[0].url()),
        ("REGISTRAR_CHAIN_ID", "31337"),
        ("REGISTRAR_SIGNER_KEYS", KEYS[3]),
    ];

    let run = cli::run(&["deploy"], &variables).await;

    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stdout.starts_with("0x"), "{run:?}");
}

/// Takes about 30 s: a batch is raised before it is cut.
#[tokio::test]
async fn a_batch_that_is_never_included_is_cut_until_it_is() {
    const COUNT: u64 = 200;
    let stack = StackBuilder::block_time(0.2).through_proxy().start().await;
    let _throttled = stack.proxy().inject("eth_sendRawTransaction", Fault::NeverIncludeAbove(5_000));
    // They are queued while the signer has no funds and are sent as one batch.
    let unpaid = stack.anvil.balance(account(1)).await;
    stack.anvil.set_balance(account(1), 0).await;
    let accepted = join_all((0..COUNT).map(|number| stack.client.accept(number, CASE))).await;
    stack.anvil.set_balance(account(1), unpaid.to()).await;

    for one in &accepted {
        stack.client.wait_for_state(&one.id, State::Confirmed).await;
    }

    assert!(sent(&stack).iter().any(|batch| batch.input().len() > 20_000), "no large batch was sent");
    stack.registry.assert_registered_exactly((0..COUNT).map(|number| (document(number), CASE.to_owned()))).await;
}
