//! Answers that are not as JSON-RPC 2.0 has them, and answers that are none: what can be read is used, and nothing else
//! harms the service.

use crate::harness::{
    CASE, Client, Fault, HttpAnswer, LoadScenario, Proxy, Service, StackBuilder, Starting, eventually,
    load_scenario::{ENDPOINT_1, ENDPOINT_2, SINGLE_ENDPOINT, unhealthy},
    proxy::{
        Shape,
        node_errors::{FREE_TIER, INDEXING},
    },
    until_observed, within,
};

const SEND: &str = "eth_sendRawTransaction";
const NONCE: &str = "eth_getTransactionCount";
const RECEIPT: &str = "eth_getTransactionReceipt";
const BLOCK: &str = "eth_getBlockByNumber";

#[tokio::test]
async fn answers_in_every_form_are_read() {
    let (dependencies, settings) = StackBuilder::block_time(0.2).through_proxy().prepare().await;
    // The start reads what nothing else does: chain id, code, version.
    let shaped = dependencies.proxies[0].inject_all(Fault::Shaped(Shape::NullMembers));
    let scenario = LoadScenario::new(within("the start", dependencies.start(settings)).await);
    scenario.register(0..3).await;
    shaped.release();
    let shapes = [
        Shape::TextId,
        Shape::Batch,
        Shape::Surrounded,
        Shape::Gzip,
        Shape::Deflate,
        Shape::Brotli,
        Shape::Chunked,
        Shape::LeadingZeros,
        Shape::JsonNumbers,
        Shape::Sparse,
    ];
    for (number, shape) in shapes.into_iter().enumerate() {
        let shaped = scenario.primary().inject_all(Fault::Shaped(shape));
        let first = 3 + 3 * number as u64;
        scenario.register(first..first + 3).await;
        assert!(shaped.hits() > 3, "{shape:?} was not used");
    }
    scenario.assert_no_warning_for(SINGLE_ENDPOINT);
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn hostile_answers_of_the_primary_are_no_answers() {
    let (scenario, ()) = LoadScenario::run_with_load(StackBuilder::block_time(0.2).endpoints(2), async |_| ()).await;
    let memory = async || scenario.stack.service.metrics().await.value("process_resident_memory_bytes", &[]);
    let before = memory().await;
    let faults = [
        ("a nonce of 2^62", NONCE, Fault::Result(r#""0x4000000000000000""#)),
        ("a nonce of 2^53", NONCE, Fault::Result(r#""0x20000000000000""#)),
        ("an empty nonce", NONCE, Fault::Result(r#""0x""#)),
        ("50 MB", NONCE, Fault::Shaped(Shape::Large(50 << 20))),
        ("brackets", NONCE, Fault::Shaped(Shape::Deep(30_000))),
        ("a page", NONCE, Fault::Shaped(Shape::Html)),
        ("nothing", NONCE, Fault::Shaped(Shape::Empty)),
        ("the previous answer", NONCE, Fault::PreviousAnswer),
        ("a tip of 2^100", "eth_maxPriorityFeePerGas", Fault::Result(r#""0x10000000000000000000000000""#)),
        ("a body without end", RECEIPT, Fault::Shaped(Shape::Endless)),
        ("a refusal", RECEIPT, Fault::Error(FREE_TIER)),
    ];
    let mut numbers = 100..;
    let mut register_next = async || {
        let number = numbers.next().unwrap();
        scenario.register(number..number + 1).await;
    };
    for (what, method, fault) in faults {
        let injected = scenario.primary().inject(method, fault);
        // Until it is hit, because the tip is read once a second; no longer, so that the endpoint stays preferred.
        let load = async {
            while injected.hits() == 0 {
                register_next().await;
            }
        };
        within(what, load).await;
        injected.release();
        register_next().await;
    }
    for outcome in ["unreadable", "implausible", "timeout"] {
        scenario.expect_call_outcome(ENDPOINT_1, outcome).await;
    }
    scenario.assert_no_warning_for(ENDPOINT_2);
    let grown = memory().await - before;
    assert!(grown < 40e6, "resident memory grew by {grown} bytes");
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn a_redirect_is_never_followed_and_names_its_remedy() {
    let (scenario, ()) = LoadScenario::run_with_load(StackBuilder::block_time(0.2).endpoints(2), async |_| ()).await;
    let elsewhere = Proxy::before(scenario.stack.anvil.url()).await;
    let redirects = [(301, NONCE), (302, "eth_getBalance"), (303, RECEIPT), (307, SEND), (308, "eth_call")];
    for (next, (status, method)) in (100..).zip(redirects) {
        let redirect = Fault::Http(HttpAnswer::redirect(status, &elsewhere.secret_url()));
        let injected = scenario.primary().inject(method, redirect);
        let hit = async {
            injected.until_hit().await;
            injected.release();
        };
        tokio::join!(scenario.register(next..next + 1), hit);
    }
    scenario.expect_call_outcome(ENDPOINT_1, "redirect").await;

    let _all = scenario.primary().inject_all(Fault::Http(HttpAnswer::redirect(307, &elsewhere.secret_url())));
    let remedy = "redirects; use the URL it redirects to";
    scenario.expect_log([unhealthy(ENDPOINT_1).with("state", "down").with("error", remedy)]).await;
    scenario.register(200..201).await;
    assert_eq!(elsewhere.all().len(), 0, "the other host was called");
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn a_start_waits_while_a_proxy_is_one_answer_behind() {
    let (dependencies, settings) = StackBuilder::block_time(0.2).through_proxy().prepare().await;
    let behind = dependencies.proxies[0].inject_all(Fault::PreviousAnswer);
    let mut starting = Box::pin(Starting::new(&settings).until_serving());
    let several = async { eventually("several answers", async || (behind.hits() > 5).then_some(())).await };
    until_observed(&mut starting, several).await;
    behind.release();
    let service = within("the start", starting).await;
    Client::connect(service.grpc).await.confirm(1, CASE).await;
    let quarantined = service.log().iter().any(|line| line["state"] == "quarantined");
    assert!(!quarantined, "an answer to another question was taken for the chain id");
}

#[tokio::test]
async fn a_node_that_is_still_indexing_has_no_receipt_yet() {
    let stack = StackBuilder::block_time(0.2).through_proxy().start().await;
    let indexing = stack.proxy().inject(RECEIPT, Fault::Error(INDEXING));
    let accepted = stack.client.accept(1, CASE).await;
    eventually("several receipts to be read", async || (indexing.hits() > 3).then_some(())).await;
    indexing.release();
    stack.client.wait_for_state(&accepted.id, crate::harness::State::Confirmed).await;
    let warned = |line: &serde_json::Value| line["level"] == "WARN" && line["target"] != "registrar::telemetry";
    let warnings: Vec<_> = stack.service.log().into_iter().filter(warned).collect();
    assert_eq!(warnings, Vec::<serde_json::Value>::new());
}

/// The second endpoint's refusal must not confirm a block that only the primary has.
#[tokio::test]
async fn a_refused_read_confirms_nothing_and_counts_against_the_endpoint() {
    let (scenario, ()) = LoadScenario::run_with_load(StackBuilder::block_time(0.2).endpoints(2), async |_| ()).await;
    let refused = scenario.backup().inject(BLOCK, Fault::Error(FREE_TIER));
    refused.until_hit().await;
    scenario.expect_log([unhealthy(ENDPOINT_2)]).await;
    scenario.expect_call_outcome(ENDPOINT_2, "timeout").await;
    scenario.assert_no_warning_for(ENDPOINT_1);
    scenario.assert_invariants().await;
}

#[tokio::test]
async fn a_company_proxy_is_used_for_hosts_that_are_not_loopback() {
    let (dependencies, settings) = StackBuilder::block_time(0.2).endpoints(2).prepare().await;
    let [company, direct] = [&dependencies.proxies[0], &dependencies.proxies[1]];
    let settings = settings
        .set("REGISTRAR_RPC_URLS", format!("http://rpc.example/,{}", direct.url()))
        .set("HTTP_PROXY", company.secret_url());
    let service = Service::start(&settings).await;
    Client::connect(service.grpc).await.confirm(1, CASE).await;
    assert!(!company.sent().is_empty(), "the transaction went past the proxy");
    assert!(direct.count("eth_chainId") > 0, "an endpoint on loopback is reached directly");
    let authorized = |call: &crate::harness::proxy::RecordedCall| call.headers.contains_key("proxy-authorization");
    assert!(company.all().iter().all(authorized) && !direct.all().iter().any(authorized));
    drop(service);

    let past = settings.set("NO_PROXY", "rpc.example");
    let before = company.all().len();
    let service = Service::start(&past).await;
    Client::connect(service.grpc).await.confirm(2, CASE).await;
    assert_eq!(company.all().len(), before, "NO_PROXY is ignored");
}
