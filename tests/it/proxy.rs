//! The faults themselves, as a plain caller sees them: a fault that does nothing would make every test hollow that leans on it.

use crate::harness::{
    Anvil, Fault, HttpAnswer, OUTSIDER, Plan, Proxy, account, eventually, meanwhile,
    proxy::dialects::{
        ALREADY_KNOWN, NO_BACKEND, NONCE_TOO_LOW, OTHER_CHAIN, OVER_RATE_LIMIT, PROXYD_OVER_RATE_LIMIT, SENDER_LIMIT,
        UNHEARD_OF, UNKNOWN_BLOCK,
    },
    rpc::{Rpc, http_client},
    stays_pending, within,
};
use alloy::primitives::{B256, U64};
use serde_json::{Value, json};
use std::{error::Error, io::ErrorKind, time::Duration};
use tokio::time::Instant;

const A_MOMENT: Duration = Duration::from_millis(300);
/// So long that a busy machine sees the beginning and the end of it.
const A_WHILE: Duration = Duration::from_secs(2);

/// An answer as it came over HTTP.
struct Answer {
    status: u16,
    retry_after: Option<String>,
    body: String,
}

/// Calls a method and takes whatever comes.
async fn call(proxy: &Proxy, method: &str, params: Value) -> Result<Answer, reqwest::Error> {
    ask(&http_client(), proxy, method, params).await
}

async fn ask(http: &reqwest::Client, proxy: &Proxy, method: &str, params: Value) -> Result<Answer, reqwest::Error> {
    let body = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params }).to_string();
    let response = http.post(proxy.secret_url()).header("content-type", "application/json").body(body).send().await?;
    let retry_after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    Ok(Answer { status: response.status().as_u16(), retry_after, body: response.text().await? })
}

/// The kind of the operating system's error underneath, if there is one.
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

/// A chain of blocks 0 to 10, in each of the last ones a transaction of account 9, and a proxy in front of it.
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
    let call = json!({ "from": account(OUTSIDER), "to": account(0), "value": "0x1" });
    let before = anvil.head().await;
    let hash = anvil.rpc().call("eth_sendTransaction", json!([call])).await;
    eventually("its block", async || (anvil.head().await > before).then_some(())).await;
    hash
}

#[tokio::test]
async fn what_passes_without_a_fault_is_the_nodes_own_and_is_kept() {
    let (anvil, proxy, _) = chain().await;

    assert_eq!(Rpc::new(proxy.url()).call::<U64>("eth_blockNumber", json!([])).await.to::<u64>(), anvil.head().await);
    assert_eq!(call(&proxy, "eth_chainId", json!([])).await.unwrap().status, 200);

    assert_eq!((proxy.count("eth_blockNumber"), proxy.count("eth_chainId"), proxy.count("eth_call")), (1, 1, 0));
    assert_eq!((proxy.counts().len(), proxy.times().len()), (2, 2));
}

#[tokio::test]
async fn a_proxy_that_refuses_listens_again_on_the_same_port() {
    let (_anvil, proxy, _) = chain().await;
    let kept = http_client();
    ask(&kept, &proxy, "eth_chainId", json!([])).await.unwrap();

    for _ in 0..3 {
        let trap = proxy.trap_all(Fault::Refuse);
        trap.sprung().await;
        // The connection that was open is gone, and there is no new one.
        for http in [&kept, &http_client()] {
            // A caller may not have heard yet that its connection is gone.
            let error = eventually("a refusal", async || {
                ask(http, &proxy, "eth_chainId", json!([])).await.err().filter(reqwest::Error::is_connect)
            })
            .await;
            assert_eq!(kind(&error), Some(ErrorKind::ConnectionRefused));
        }
        trap.release();
        eventually("it to listen", async || ask(&kept, &proxy, "eth_chainId", json!([])).await.ok()).await;
    }
}

#[tokio::test]
async fn a_connection_is_reset_or_closed() {
    let (_anvil, proxy, _) = chain().await;
    let trap = proxy.trap("eth_chainId", Fault::Reset);
    let error = call(&proxy, "eth_chainId", json!([])).await.err().unwrap();
    assert_eq!(kind(&error), Some(ErrorKind::ConnectionReset), "{error:?}");
    assert_eq!(trap.caught(), 1);
    assert_eq!(call(&proxy, "eth_blockNumber", json!([])).await.unwrap().status, 200, "another method");
    trap.release();

    let _trap = proxy.trap("eth_chainId", Fault::LoseRequest);
    let error = call(&proxy, "eth_chainId", json!([])).await.err().unwrap();
    assert_eq!((error.is_connect(), kind(&error)), (false, None), "{error:?}");
}

#[tokio::test]
async fn an_answer_breaks_off() {
    let (anvil, proxy, _) = chain().await;
    let _trap = proxy.trap("anvil_mine", Fault::BreakOffAnswer);
    let error = call(&proxy, "anvil_mine", json!([])).await.err().unwrap();
    assert!(error.is_body() || error.is_decode(), "{error:?}");
    assert_eq!(anvil.head().await, 11, "the node has done it");
}

#[tokio::test]
async fn a_call_hangs_and_the_others_do_not() {
    let (_anvil, proxy, _) = chain().await;
    let trap = proxy.trap("eth_sendRawTransaction", Fault::Hang);
    let mut hanging = Box::pin(call(&proxy, "eth_sendRawTransaction", json!(["0x00"])));

    meanwhile(&mut hanging, trap.sprung()).await;
    assert!(stays_pending(&mut hanging, A_MOMENT).await);
    assert_eq!(call(&proxy, "eth_chainId", json!([])).await.unwrap().status, 200);
    assert_eq!((trap.caught(), proxy.sent()), (1, vec!["0x00".to_owned()]));
    trap.release();
    assert!(stays_pending(&mut hanging, A_MOMENT).await, "what hangs goes on hanging");
    assert_eq!(call(&proxy, "eth_sendRawTransaction", json!(["0x00"])).await.unwrap().status, 200);
}

#[tokio::test]
async fn an_answer_is_slow() {
    let (_anvil, proxy, _) = chain().await;
    let _trap = proxy.trap_all(Fault::Slow(A_MOMENT));
    let begun = Instant::now();

    assert_eq!(call(&proxy, "eth_chainId", json!([])).await.unwrap().status, 200);

    assert!(begun.elapsed() >= A_MOMENT);
}

#[tokio::test]
async fn every_second_answer_is_lost_and_the_node_has_every_call() {
    let (anvil, proxy, _) = chain().await;
    let _trap = proxy.trap("anvil_mine", Fault::LoseEverySecondAnswer);
    let mut answered = Vec::new();

    for _ in 0..4 {
        answered.push(call(&proxy, "anvil_mine", json!([])).await.is_ok());
    }

    assert_eq!(answered, [true, false, true, false]);
    assert_eq!(anvil.head().await, 14);
}

#[tokio::test]
async fn a_call_goes_to_the_node_twice_and_the_second_answer_comes_back() {
    let (anvil, proxy, _) = chain().await;
    let _trap = proxy.trap_all(Fault::Twice);

    assert_eq!(call(&proxy, "anvil_mine", json!([])).await.unwrap().status, 200);

    assert_eq!(anvil.head().await, 12);
    assert_eq!(proxy.count("anvil_mine"), 1, "the caller called once");
}

#[tokio::test]
async fn http_answers_have_their_status_their_headers_and_their_body() {
    let (_anvil, proxy, _) = chain().await;
    let throttled = HttpAnswer::status(429);
    for (fault, status, retry_after, body) in [
        (throttled, 429, None, ""),
        (throttled.retry_after(3), 429, Some("3"), ""),
        (throttled.retry_after(2).saying(PROXYD_OVER_RATE_LIMIT), 429, Some("2"), "-32016"),
        (throttled.saying(PROXYD_OVER_RATE_LIMIT), 429, None, "over rate limit"),
        (HttpAnswer::status(402), 402, None, ""),
        (HttpAnswer::status(500), 500, None, ""),
        (HttpAnswer::status(502).html(), 502, None, "<html>"),
        (HttpAnswer::status(200).html(), 200, None, "<html>"),
        (HttpAnswer::status(503).saying(NO_BACKEND[0]), 503, None, "-32011"),
    ] {
        let trap = proxy.trap("eth_chainId", Fault::Http(fault));
        let answer = call(&proxy, "eth_chainId", json!([])).await.unwrap();
        assert_eq!((answer.status, answer.retry_after.as_deref()), (status, retry_after), "{fault:?}");
        assert!(answer.body.contains(body) && answer.body.is_empty() == body.is_empty(), "{fault:?}: {}", answer.body);
        trap.release();
    }
    let _trap = proxy.trap("eth_chainId", Fault::status(500));
    assert_eq!(call(&proxy, "eth_chainId", json!([])).await.unwrap().status, 500);
    assert_eq!(call(&proxy, "eth_blockNumber", json!([])).await.unwrap().status, 200);
}

#[tokio::test]
async fn each_dialect_comes_through_as_it_is() {
    let (_anvil, proxy, _) = chain().await;
    let dialects = [
        &ALREADY_KNOWN[..],
        &NONCE_TOO_LOW,
        &SENDER_LIMIT,
        &OVER_RATE_LIMIT,
        &NO_BACKEND,
        &UNKNOWN_BLOCK,
        &OTHER_CHAIN,
        &UNHEARD_OF,
    ];
    for error in dialects.concat() {
        let _trap = proxy.trap("eth_sendRawTransaction", Fault::Error(error));
        let answer = call(&proxy, "eth_sendRawTransaction", json!(["0x00"])).await.unwrap();
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!((answer.status, &body["id"]), (200, &json!(7)));
        let said = &body["error"];
        assert_eq!((&said["code"], &said["message"]), (&json!(error.code), &json!(error.message)));
        assert_eq!(said["data"].is_null(), error.data.is_none(), "{said}");
    }
}

#[tokio::test]
async fn a_result_is_another_than_the_nodes() {
    let (_anvil, proxy, transactions) = chain().await;
    let rpc = Rpc::new(proxy.url());
    let _traps = [
        proxy.trap("eth_chainId", Fault::OTHER_CHAIN),
        proxy.trap("eth_getTransactionReceipt", Fault::NULL),
        proxy.trap("eth_syncing", Fault::SYNCING),
    ];

    assert_eq!(rpc.call::<U64>("eth_chainId", json!([])).await.to::<u64>(), 42161);
    assert_eq!(rpc.call::<Value>("eth_getTransactionReceipt", json!([transactions[0]])).await, Value::Null);
    assert_eq!(rpc.call::<Value>("eth_syncing", json!([])).await["currentBlock"], "0x1");
}

/// Whether this node knows nothing of what came after block 8.
async fn knows_nothing_after_block_8(rpc: &Rpc, transactions: &[B256]) {
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
    let sender = account(OUTSIDER);
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
async fn a_frozen_head_shows_nothing_that_came_later() {
    let (anvil, proxy, mut transactions) = chain().await;
    let trap = proxy.trap_all(Fault::FrozenAt(8));
    let rpc = Rpc::new(proxy.url());

    knows_nothing_after_block_8(&rpc, &transactions).await;
    transactions.push(transfer(&anvil).await);
    knows_nothing_after_block_8(&rpc, &transactions).await;

    trap.release();
    assert_eq!(rpc.call::<U64>("eth_blockNumber", json!([])).await.to::<u64>(), 11);
}

#[tokio::test]
async fn a_head_that_lags_moves_with_the_chain() {
    let (anvil, proxy, transactions) = chain().await;
    let _trap = proxy.trap_all(Fault::Behind(2));
    let rpc = Rpc::new(proxy.url());
    knows_nothing_after_block_8(&rpc, &transactions).await;

    anvil.mine(3).await;

    let header: Value = rpc.call("eth_getBlockByNumber", json!(["latest", false])).await;
    assert_eq!(header["number"], "0xb");
}

#[tokio::test]
async fn a_load_balancer_shows_the_head_and_one_that_lags_by_turns() {
    let (_anvil, proxy, _) = chain().await;
    let _trap = proxy.trap_all(Fault::BehindEverySecondTime(2));
    let rpc = Rpc::new(proxy.url());
    let mut heads = Vec::new();

    for _ in 0..4 {
        heads.push(rpc.call::<U64>("eth_blockNumber", json!([])).await.to::<u64>());
    }

    assert_eq!(heads, [10, 8, 10, 8]);
}

#[tokio::test]
async fn a_head_that_lies_is_one_that_nobody_has() {
    let (anvil, proxy, _) = chain().await;
    let rpc = Rpc::new(proxy.url());
    let time = |header: &Value| serde_json::from_value::<U64>(header["timestamp"].clone()).unwrap().to::<u64>();
    let truth: Value = anvil.rpc().call("eth_getBlockByNumber", json!(["latest", false])).await;
    for seconds in [0, 86_400] {
        let _trap = proxy.trap_all(Fault::Ahead { blocks: 100, seconds });

        let lie: Value = rpc.call("eth_getBlockByNumber", json!(["latest", false])).await;

        assert_eq!(lie["number"], "0x6e");
        assert_eq!(time(&lie), time(&truth) + seconds);
        for field in ["hash", "parentHash"] {
            assert_ne!(lie[field], truth[field]);
            let known: Value = anvil.rpc().call("eth_getBlockByHash", json!([lie[field], false])).await;
            assert_eq!(known, Value::Null);
        }
        assert_eq!(rpc.call::<U64>("eth_blockNumber", json!([])).await.to::<u64>(), 110);
        let real: Value = rpc.call("eth_getBlockByNumber", json!(["0xa", false])).await;
        assert_eq!(real["hash"], truth["hash"], "what is asked for by its number is the truth");
    }
}

#[tokio::test]
async fn a_fault_can_last_for_a_time_and_come_and_go() {
    let (_anvil, proxy, _) = chain().await;
    let fails = async || call(&proxy, "eth_chainId", json!([])).await.is_err();
    let ended = std::cell::Cell::new(false);
    let (mut changes, mut last) = (0, false);
    let fault = async {
        within("the fault", proxy.flap(Fault::LoseRequest, A_WHILE, 3)).await;
        ended.set(true);
    };
    let look = async {
        while !ended.get() {
            let now = fails().await;
            changes += usize::from(now != last);
            last = now;
        }
    };

    tokio::join!(fault, look);

    assert_eq!(changes, 6, "three times on, three times off");
    assert!(!fails().await);
}

#[tokio::test]
async fn a_service_has_its_endpoints_in_order_and_its_counts_can_be_read() {
    let other = Anvil::start(&["--chain-id", "31338"]).await;
    let stack = Plan::on_demand().endpoints(2).endpoint_at(other.url()).start().await;
    stack.client.confirm(1, "case-1").await;

    assert_eq!(stack.proxies().len(), 3);
    assert_eq!(stack.proxy().sent().len(), 1, "it is sent to the first");
    let count = "registrar_rpc_request_duration_seconds_count";
    let sends = [("endpoint", "127.0.0.1#1"), ("method", "eth_sendRawTransaction")];
    assert_eq!(stack.service.metrics().await.value(count, &sends), 1.0);
    let foreign = Rpc::new(stack.proxies()[2].url()).call::<U64>("eth_chainId", json!([])).await;
    assert_eq!(foreign.to::<u64>(), 31338);
}
