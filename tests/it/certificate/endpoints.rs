//! Endpoints that offer no proofs, lie, or disagree.

use super::{builder, certify, verified};
use crate::harness::{
    CASE, Fault, Finality, TestStack, eventually,
    proxy::node_errors::{METHOD_NOT_OFFERED, OVER_RATE_LIMIT},
};
use tonic::Code;

const PROOF_UNAVAILABLE: (Code, &str) = (Code::Unavailable, "PROOF_UNAVAILABLE");
/// A node of a trie, and not the one that is asked for.
const OTHER_PROOF: &str = r#"[{"key":"0x0","value":"0x1","proof":["0xe2820a0b8201"]}]"#;

/// Two endpoints in sync, and a registration.
async fn two_endpoints() -> TestStack {
    let stack = builder().endpoints(2).start().await;
    stack.client.confirm(1, CASE).await;
    stack
}

#[tokio::test]
async fn an_endpoint_without_proofs_is_remembered_and_passed_over() {
    let mut stack = two_endpoints().await;
    let _without = stack.proxies()[0].inject("eth_getProof", Fault::Error(METHOD_NOT_OFFERED));

    for blocks in 1..4 {
        verified(&certify(&stack, Finality::Unsafe).await.unwrap());
        // A certificate is shared for two seconds, and a new block has another one.
        stack.anvil.mine(blocks).await;
        stack.client.confirm(1 + blocks, CASE).await;
        let other = super::of_pair(1 + blocks, CASE, Finality::Unsafe);
        verified(&stack.client.certificate(other).await.unwrap());
    }

    assert_eq!(stack.proxies()[0].count("eth_getProof"), 1);
    assert!(stack.proxies()[1].count("eth_getProof") >= 4);
    let log = stack.service.wait_for_log("the refusal", |line| {
        line["message"].as_str().is_some_and(|text| text.starts_with("endpoint does not offer proofs"))
    });
    log.await;
    let endpoints = stack.client.info().await.endpoints;
    assert!(endpoints.iter().all(|endpoint| endpoint.state == "healthy"), "{endpoints:?}");
}

#[tokio::test]
async fn without_any_proof_there_is_no_certificate() {
    let stack = two_endpoints().await;
    let all = stack.proxies().iter().map(|proxy| proxy.inject("eth_getProof", Fault::Error(METHOD_NOT_OFFERED)));
    let _all: Vec<_> = all.collect();

    let error = certify(&stack, Finality::Unsafe).await.unwrap_err();

    assert_eq!(error.kind(), PROOF_UNAVAILABLE);
    assert!(error.message.contains("no endpoint offers eth_getProof"), "{}", error.message);
    assert!(error.retry_after.is_some());
}

#[tokio::test]
async fn a_wrong_proof_is_never_handed_out() {
    let stack = two_endpoints().await;
    let wrong = stack.proxies()[0].inject("eth_getProof", Fault::Member("storageProof", OTHER_PROOF));
    verified(&certify(&stack, Finality::Unsafe).await.unwrap());
    assert_eq!(wrong.hits(), 1);

    stack.client.confirm(2, CASE).await;
    let _both = stack.proxies()[1].inject("eth_getProof", Fault::Member("accountProof", "[]"));
    let error = stack.client.certificate(super::of_pair(2, CASE, Finality::Unsafe)).await.unwrap_err();
    assert_eq!(error.kind(), PROOF_UNAVAILABLE);
    assert!(error.message.contains("Proof does not prove"), "{}", error.message);
}

#[tokio::test]
async fn a_header_with_unknown_fields_gives_no_certificate() {
    let stack = builder().through_proxy().start().await;
    stack.client.confirm(1, CASE).await;
    let number = format!("\"{:#x}\"", stack.anvil.head().await);
    // Its hash is that of a header with something else in it, as of a fork to come.
    let fork = Fault::Member("extraData", "\"0xf0\"");
    let fork = stack.proxy().inject_matching("eth_getBlockByNumber", &number, fork);

    let error = certify(&stack, Finality::Unsafe).await.unwrap_err();
    assert_eq!(error.kind(), PROOF_UNAVAILABLE);
    assert!(
        error.message.contains("it has fields that this version of the service does not know"),
        "{}",
        error.message
    );
    fork.release();
    verified(&eventually("a certificate", async || certify(&stack, Finality::Unsafe).await.ok()).await);
}

#[tokio::test]
async fn endpoints_that_disagree_about_the_block_give_no_certificate() {
    let stack = two_endpoints().await;
    let number = format!("\"{:#x}\"", stack.anvil.head().await);
    let other = "\"0x7777777777777777777777777777777777777777777777777777777777777777\"";
    let fork = Fault::Member("hash", other);
    let fork = stack.proxies()[1].inject_matching("eth_getBlockByNumber", &number, fork);

    let error = certify(&stack, Finality::Unsafe).await.unwrap_err();
    assert_eq!(error.kind(), PROOF_UNAVAILABLE);
    assert!(error.message.contains("do not agree about block"), "{}", error.message);
    fork.release();
    let (certificate, _) = verified(&certify(&stack, Finality::Unsafe).await.unwrap());
    assert_eq!(certificate.block.seen_by, 2);
}

#[tokio::test]
async fn a_rate_limit_on_proofs_is_no_answer_and_the_other_endpoint_is_asked() {
    let stack = two_endpoints().await;
    let limited = stack.proxies()[0].inject("eth_getProof", Fault::Error(OVER_RATE_LIMIT[0]));
    verified(&certify(&stack, Finality::Unsafe).await.unwrap());
    assert_eq!(limited.hits(), 1);
}

#[tokio::test]
async fn without_the_event_the_certificate_names_no_transaction() {
    let stack = builder().through_proxy().start().await;
    stack.client.confirm(1, CASE).await;
    let _deleted = stack.proxy().inject("eth_getLogs", Fault::Result("[]"));

    let (certificate, _) = verified(&certify(&stack, Finality::Unsafe).await.unwrap());

    assert_eq!(certificate.transaction, None);
    assert!(certificate.to_text().contains(r#""transaction":{"hash":null}"#));
}

#[tokio::test]
async fn without_endpoints_the_chain_is_unavailable() {
    let stack = builder().through_proxy().start().await;
    stack.client.confirm(1, CASE).await;
    let _away = stack.proxy().inject_all(Fault::LoseRequest);
    let error = certify(&stack, Finality::Unsafe).await.unwrap_err();
    assert_eq!(error.kind(), (Code::Unavailable, "ALL_RPC_ENDPOINTS_UNAVAILABLE"));
}
