//! Tests of the harness's fault injection: a fault without effect would make every test that uses it meaningless.

use crate::harness::{
    Anvil, EXTERNAL_REGISTRAR, Fault, HttpAnswer, Proxy, StackBuilder, account, assert_pending, eventually,
    proxy::node_errors::{
        ALREADY_KNOWN, NO_BACKEND, NONCE_TOO_LOW, OTHER_CHAIN, OVER_RATE_LIMIT, PROXYD_OVER_RATE_LIMIT, SENDER_LIMIT,
        UNKNOWN_BLOCK, UNKNOWN_ERRORS,
    },
    rpc::{Rpc, http_client},
    until_observed, within,
};
use alloy::primitives::{B256, U64};
use serde_json::{Value, json};
use std::{error::Error, io::ErrorKind, time::Duration};
use tokio::time::Instant;

const SHORT_WAIT: Duration = Duration::from_millis(300);
/// Long enough for a busy machine to observe the beginning and the end of a fault.
const MEDIUM_WAIT: Duration = Duration::from_secs(2);

struct Answer {
    status: u16,
    retry_after: Option<String>,
    body: String,
}

async fn call(proxy: &Proxy, method: &str, params: Value) -> Result<Answer, reqwest::Error> {
    ask(&http_client(), proxy, method, params).await
}

async fn ask(http: &reqwest::Client, proxy: &Proxy, method: &str, params: Value) -> Result<Answer, reqwest::Error> {
    let body = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params }).to_string();
    let response = http.post(proxy.secret_url()).header("content-type", "application/json").body(body).send().await?;
    let retry_after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    Ok(Answer { status: response.status().as_u16(), retry_after, body: response.text().await? })
}

/// The kind of the underlying I/O error, if there is one.
fn kind(error: &reqwest::Error) -> Option<ErrorKind> {
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return Some(error.kind());
        }
        cause = error.source();
    }
    None
}

/// A chain of blocks 0 to 10, with a transaction of account 9 in each of the last five, and a proxy in front of it.
async fn chain() -> (Anvil, Proxy, Vec<B256>) {
    let anvil = Anvil::start(&[]).await;
    anvil.mine(5).await;
    let mut transactions = Vec::new();
    for _ in 6..=10 {
        transactions.push(transfer(&anvil).await);
    }
    assert_eq!(anvil.head().await, 10);
    let proxy = Proxy::before(anvil.url()).await;
    (anvil, proxy, transactions)
}

async fn transfer(anvil: &Anvil) -> B256 {
    let call = json!({ "from": account(EXTERNAL_REGISTRAR), "to": account(0), "value": "0x1" });
    let before = anvil.head().await;
    let hash = anvil.rpc().call("eth_sendTransaction", json!([call])).await;
    eventually("the transaction's block", async || (anvil.head().await > before).then_some(())).await;
    hash
}

#[tokio::test]
async fn calls_without_a_fault_are_forwarded_and_recorded() {
    let (anvil, proxy, _) = chain().await;

    assert_eq!(Rpc::new(proxy.url()).call::<U64>("eth_blockNumber", json!([])).await.to::<u64>(), anvil.head().await);
    assert_eq!(call(&proxy, "eth_chainId", json!([])).await.unwrap().status, 200);

    assert_eq!((proxy.count("eth_blockNumber"), proxy.count("eth_chainId"), proxy.count("eth_call")), (1, 1, 0));
    assert_eq!((proxy.counts().len(), proxy.times().len()), (2, 2));
}

#[tokio::test]
async fn a_proxy_that_refuses_connections_reopens_the_same_port() {
    let (_anvil, proxy, _) = chain().await;
    let reused = http_client();
    ask(&reused, &proxy, "eth_chainId", json!([])).await.unwrap();

    for _ in 0..3 {
        let injected = proxy.inject_all(Fault::RefuseConnections);
        injected.until_hit().await;
        // Open connections are closed and new ones refused.
        for http in [&reused, &http_client()] {
            // The client may not have noticed yet that its connection is closed.
            let error = eventually("a refused connection", async || {
                ask(http, &proxy, "eth_chainId", json!([])).await.err().filter(reqwest::Error::is_connect)
            })
            .await;
            assert_eq!(kind(&error), Some(ErrorKind::ConnectionRefused));
        }
        injected.release();
        eventually("the port to be open again", async || ask(&reused, &proxy, "eth_chainId", json!([])).await.ok())
            .await;
    }
}

#[tokio::test]
async fn a_connection_is_reset_or_closed() {
    let (_anvil, proxy, _) = chain().await;
    let injected = proxy.inject("eth_chainId", Fault::Reset);
    let error = call(&proxy, "eth_chainId", json!([])).await.err().unwrap();
    assert_eq!(kind(&error), Some(ErrorKind::ConnectionReset), "{error:?}");
    assert_eq!(injected.hits(), 1);
    assert_eq!(call(&proxy, "eth_blockNumber", json!([])).await.unwrap().status, 200, "another method");
    injected.release();

    let _injected = proxy.inject("eth_chainId", Fault::LoseRequest);
    let error = call(&proxy, "eth_chainId", json!([])).await.err().unwrap();
    assert_eq!((error.is_connect(), kind(&error)), (false, None), "{error:?}");
}

#[tokio::test]
async fn an_answer_is_truncated() {
    let (anvil, proxy, _) = chain().await;
    let _injected = proxy.inject("anvil_mine", Fault::TruncateResponse);
    let error = call(&proxy, "anvil_mine", json!([])).await.err().unwrap();
    assert!(error.is_body() || error.is_decode(), "{error:?}");
    assert_eq!(anvil.head().await, 11, "the node executed the call");
}

#[tokio::test]
async fn a_call_hangs_and_the_others_do_not() {
    let (_anvil, proxy, _) = chain().await;
    let injected = proxy.inject("eth_sendRawTransaction", Fault::Hang);
    let mut hanging = Box::pin(call(&proxy, "eth_sendRawTransaction", json!(["0x00"])));

    until_observed(&mut hanging, injected.until_hit()).await;
    assert_pending("the hanging call", &mut hanging, SHORT_WAIT).await;
    assert_eq!(call(&proxy, "eth_chainId", json!([])).await.unwrap().status, 200);
    assert_eq!((injected.hits(), proxy.sent()), (1, vec!["0x00".to_owned()]));
    injected.release();
    assert_pending("the hanging call, after the release", &mut hanging, SHORT_WAIT).await;
    assert_eq!(call(&proxy, "eth_sendRawTransaction", json!(["0x00"])).await.unwrap().status, 200);
}

#[tokio::test]
async fn an_answer_is_delayed() {
    let (_anvil, proxy, _) = chain().await;
    let _injected = proxy.inject_all(Fault::Slow(SHORT_WAIT));
    let started = Instant::now();

    assert_eq!(call(&proxy, "eth_chainId", json!([])).await.unwrap().status, 200);

    assert!(started.elapsed() >= SHORT_WAIT);
}

#[tokio::test]
async fn every_second_answer_is_lost_and_the_node_gets_every_call() {
    let (anvil, proxy, _) = chain().await;
    let _injected = proxy.inject("anvil_mine", Fault::LoseEverySecondResponse);
    let mut answered = Vec::new();

    for _ in 0..4 {
        answered.push(call(&proxy, "anvil_mine", json!([])).await.is_ok());
    }

    assert_eq!(answered, [true, false, true, false]);
    assert_eq!(anvil.head().await, 14);
}

#[tokio::test]
async fn a_call_is_duplicated_and_the_second_answer_is_returned() {
    let (anvil, proxy, _) = chain().await;
    let _injected = proxy.inject_all(Fault::Duplicate);

    assert_eq!(call(&proxy, "anvil_mine", json!([])).await.unwrap().status, 200);

    assert_eq!(anvil.head().await, 12);
    assert_eq!(proxy.count("anvil_mine"), 1, "the caller sent one call");
}

#[tokio::test]
async fn http_faults_have_their_status_headers_and_body() {
    let (_anvil, proxy, _) = chain().await;
    let throttled = HttpAnswer::status(429);
    for (fault, status, retry_after, body) in [
        (throttled, 429, None, ""),
        (throttled.retry_after(3), 429, Some("3"), ""),
        (throttled.retry_after(2).with_error(PROXYD_OVER_RATE_LIMIT), 429, Some("2"), "-32016"),
        (throttled.with_error(PROXYD_OVER_RATE_LIMIT), 429, None, "over rate limit"),
        (HttpAnswer::status(402), 402, None, ""),
        (HttpAnswer::status(500), 500, None, ""),
        (HttpAnswer::status(502).html(), 502, None, "<html>"),
        (HttpAnswer::status(200).html(), 200, None, "<html>"),
        (HttpAnswer::status(503).with_error(NO_BACKEND[0]), 503, None, "-32011"),
    ] {
        let injected = proxy.inject("eth_chainId", Fault::Http(fault));
        let answer = call(&proxy, "eth_chainId", json!([])).await.unwrap();
        assert_eq!((answer.status, answer.retry_after.as_deref()), (status, retry_after), "{fault:?}");
        assert!(answer.body.contains(body) && answer.body.is_empty() == body.is_empty(), "{fault:?}: {}", answer.body);
        injected.release();
    }
    let _injected = proxy.inject("eth_chainId", Fault::status(500));
    assert_eq!(call(&proxy, "eth_chainId", json!([])).await.unwrap().status, 500);
    assert_eq!(call(&proxy, "eth_blockNumber", json!([])).await.unwrap().status, 200);
}

#[tokio::test]
async fn each_node_error_is_returned_unchanged() {
    let (_anvil, proxy, _) = chain().await;
    let node_errors = [
        &ALREADY_KNOWN[..],
        &NONCE_TOO_LOW,
        &SENDER_LIMIT,
        &OVER_RATE_LIMIT,
        &NO_BACKEND,
        &UNKNOWN_BLOCK,
        &OTHER_CHAIN,
        &UNKNOWN_ERRORS,
    ];
    for error in node_errors.concat() {
        let _injected = proxy.inject("eth_sendRawTransaction", Fault::Error(error));
        let answer = call(&proxy, "eth_sendRawTransaction", json!(["0x00"])).await.unwrap();
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!((answer.status, &body["id"]), (200, &json!(7)));
        let answered = &body["error"];
        assert_eq!((&answered["code"], &answered["message"]), (&json!(error.code), &json!(error.message)));
        assert_eq!(answered["data"].is_null(), error.data.is_none(), "{answered}");
    }
}

#[tokio::test]
async fn a_result_is_replaced() {
    let (_anvil, proxy, transactions) = chain().await;
    let rpc = Rpc::new(proxy.url());
    let _injected = [
        proxy.inject("eth_chainId", Fault::OTHER_CHAIN),
        proxy.inject("eth_getTransactionReceipt", Fault::NULL),
        proxy.inject("eth_syncing", Fault::SYNCING),
    ];

    assert_eq!(rpc.call::<U64>("eth_chainId", json!([])).await.to::<u64>(), 42161);
    assert_eq!(rpc.call::<Value>("eth_getTransactionReceipt", json!([transactions[0]])).await, Value::Null);
    assert_eq!(rpc.call::<Value>("eth_syncing", json!([])).await["currentBlock"], "0x1");
}

/// Asserts that this node shows nothing after block 8.
async fn assert_shows_nothing_after_block_8(rpc: &Rpc, transactions: &[B256]) {
    assert_eq!(rpc.call::<U64>("eth_blockNumber", json!([])).await.to::<u64>(), 8);
    for (block, number) in [("latest", json!("0x8")), ("pending", json!("0x8")), ("0x7", json!("0x7"))] {
        let header: Value = rpc.call("eth_getBlockByNumber", json!([block, false])).await;
        assert_eq!(header["number"], number, "{block}");
    }
    let later: Value = rpc.call("eth_getBlockByNumber", json!(["0x9", false])).await;
    assert_eq!(later, Value::Null);
    for (block, hash) in (6..).zip(transactions) {
        for method in ["eth_getTransactionReceipt", "eth_getTransactionByHash"] {
            let answer: Value = rpc.call(method, json!([hash])).await;
            assert_eq!(answer.is_null(), block > 8, "block {block}: {answer}");
        }
    }
    let sender = account(EXTERNAL_REGISTRAR);
    for block in ["latest", "pending", "0x8"] {
        let nonce: U64 = rpc.call("eth_getTransactionCount", json!([sender, block])).await;
        assert_eq!(nonce.to::<u64>(), 3, "{block}");
    }
    let balance: Value = rpc.call("eth_getBalance", json!([sender, "latest"])).await;
    assert_eq!(balance, rpc.call::<Value>("eth_getBalance", json!([sender, "0x8"])).await);
    rpc.try_call::<Value>("eth_getBalance", json!([sender, "0x9"])).await.unwrap_err();
    rpc.call::<Value>("eth_call", json!([{ "to": sender }, "latest"])).await;
    for (from, to) in [("0x9", "latest"), ("0x9", "0xa")] {
        let logs: Value = rpc.call("eth_getLogs", json!([{ "fromBlock": from, "toBlock": to }])).await;
        assert_eq!(logs, json!([]));
    }
    assert_eq!(rpc.call::<U64>("eth_chainId", json!([])).await.to::<u64>(), 31337);
}

#[tokio::test]
async fn a_frozen_head_shows_no_later_block() {
    let (anvil, proxy, mut transactions) = chain().await;
    let injected = proxy.inject_all(Fault::FrozenAt(8));
    let rpc = Rpc::new(proxy.url());

    assert_shows_nothing_after_block_8(&rpc, &transactions).await;
    transactions.push(transfer(&anvil).await);
    assert_shows_nothing_after_block_8(&rpc, &transactions).await;

    injected.release();
    assert_eq!(rpc.call::<U64>("eth_blockNumber", json!([])).await.to::<u64>(), 11);
}

#[tokio::test]
async fn a_lagging_head_moves_with_the_chain() {
    let (anvil, proxy, transactions) = chain().await;
    let _injected = proxy.inject_all(Fault::Behind(2));
    let rpc = Rpc::new(proxy.url());
    assert_shows_nothing_after_block_8(&rpc, &transactions).await;

    anvil.mine(3).await;

    let header: Value = rpc.call("eth_getBlockByNumber", json!(["latest", false])).await;
    assert_eq!(header["number"], "0xb");
}

#[tokio::test]
async fn a_load_balancer_alternates_between_the_head_and_a_lagging_node() {
    let (_anvil, proxy, _) = chain().await;
    let _injected = proxy.inject_all(Fault::AlternatelyBehind(2));
    let rpc = Rpc::new(proxy.url());
    let mut heads = Vec::new();

    for _ in 0..4 {
        heads.push(rpc.call::<U64>("eth_blockNumber", json!([])).await.to::<u64>());
    }

    assert_eq!(heads, [10, 8, 10, 8]);
}

#[tokio::test]
async fn an_invented_head_is_unknown_to_the_node() {
    let (anvil, proxy, _) = chain().await;
    let rpc = Rpc::new(proxy.url());
    let time = |header: &Value| serde_json::from_value::<U64>(header["timestamp"].clone()).unwrap().to::<u64>();
    let newest: Value = anvil.rpc().call("eth_getBlockByNumber", json!(["latest", false])).await;
    for seconds in [0, 86_400] {
        let _injected = proxy.inject_all(Fault::Ahead { blocks: 100, seconds });

        let invented: Value = rpc.call("eth_getBlockByNumber", json!(["latest", false])).await;

        assert_eq!(invented["number"], "0x6e");
        assert_eq!(time(&invented), time(&newest) + seconds);
        for field in ["hash", "parentHash"] {
            assert_ne!(invented[field], newest[field]);
            let known: Value = anvil.rpc().call("eth_getBlockByHash", json!([invented[field], false])).await;
            assert_eq!(known, Value::Null);
        }
        assert_eq!(rpc.call::<U64>("eth_blockNumber", json!([])).await.to::<u64>(), 110);
        let real: Value = rpc.call("eth_getBlockByNumber", json!(["0xa", false])).await;
        assert_eq!(real["hash"], newest["hash"], "existing blocks are unchanged");
    }
}

#[tokio::test]
async fn a_fault_can_flap() {
    let (_anvil, proxy, _) = chain().await;
    let fails = async || call(&proxy, "eth_chainId", json!([])).await.is_err();
    let ended = std::cell::Cell::new(false);
    let (mut changes, mut last) = (0, false);
    let fault = async {
        within("the fault", proxy.flap(Fault::LoseRequest, MEDIUM_WAIT, 3)).await;
        ended.set(true);
    };
    let observe = async {
        while !ended.get() {
            let now = fails().await;
            changes += usize::from(now != last);
            last = now;
        }
    };

    tokio::join!(fault, observe);

    assert_eq!(changes, 6, "three times on, three times off");
    assert!(!fails().await);
}

#[tokio::test]
async fn a_service_uses_its_endpoints_in_order_and_counts_calls() {
    let other = Anvil::start(&["--chain-id", "31338"]).await;
    let stack = StackBuilder::on_demand().endpoints(2).endpoint_at(other.url()).start().await;
    stack.client.confirm(1, "case-1").await;

    assert_eq!(stack.proxies().len(), 3);
    assert_eq!(stack.proxy().sent().len(), 1, "not sent to the first endpoint only");
    let count = "registrar_rpc_request_duration_seconds_count";
    let sends = [("endpoint", "127.0.0.1#1"), ("method", "eth_sendRawTransaction")];
    assert_eq!(stack.service.metrics().await.value(count, &sends), 1.0);
    let foreign = Rpc::new(stack.proxies()[2].url()).call::<U64>("eth_chainId", json!([])).await;
    assert_eq!(foreign.to::<u64>(), 31338);
}
