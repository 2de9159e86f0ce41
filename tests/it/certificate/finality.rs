//! Which block a certificate is made at.

use super::{FINAL_AFTER, builder, certify, verified};
use crate::harness::{
    CASE, Fault, Finality, TestStack, eventually,
    proxy::{
        InjectedFault,
        node_errors::{NodeError, PROOF_TOO_OLD},
    },
};
use std::time::Duration;
use tonic::Code;

const NOT_FINAL: (Code, &str) = (Code::FailedPrecondition, "CERTIFICATE_NOT_FINAL");

#[tokio::test]
async fn a_certificate_waits_for_the_finality_that_is_asked_for() {
    let stack = builder().start().await;
    stack.client.confirm(1, CASE).await;

    let at_once = certify(&stack, Finality::Unsafe).await.unwrap();
    let not_final = certify(&stack, Finality::Finalized).await.unwrap_err();
    let by_default = certify(&stack, Finality::Unspecified).await.unwrap_err();

    assert_eq!(at_once.finality(), Finality::Unsafe);
    assert_eq!((not_final.kind(), by_default.kind()), (NOT_FINAL, NOT_FINAL));
    assert!(not_final.message.contains("is finalized yet"), "{}", not_final.message);
    let wait = not_final.retry_after.unwrap();
    assert!((Duration::from_secs(1)..Duration::from_secs(1_801)).contains(&wait), "{wait:?}");
    stack.anvil.mine(2).await;
    let safe = eventually("a safe block", async || certify(&stack, Finality::Safe).await.ok()).await;
    assert_eq!(safe.finality(), Finality::Safe);
    assert_eq!(certify(&stack, Finality::Finalized).await.unwrap_err().kind(), NOT_FINAL);
    stack.anvil.mine(2).await;
    let finalized = eventually("a final block", async || certify(&stack, Finality::Finalized).await.ok()).await;
    assert_eq!(finalized.finality(), Finality::Finalized);
    // A certificate is shared for two seconds.
    eventually("the most final block", async || {
        let best = certify(&stack, Finality::Unsafe).await.unwrap();
        (best.finality() == Finality::Finalized).then_some(())
    })
    .await;
}

/// The node proves the state of no block but this one and later ones.
fn without_proofs_before(stack: &TestStack, newest: u64, error: NodeError) -> Vec<InjectedFault> {
    let fault = |number| {
        let about = format!("\"{number:#x}\"]");
        stack.proxy().inject_matching("eth_getProof", &about, Fault::Error(error))
    };
    (1..newest).map(fault).collect()
}

#[tokio::test]
async fn where_the_final_block_is_too_old_a_proof_of_the_newest_one_is_kept_until_it_is_final() {
    for error in PROOF_TOO_OLD {
        let stack = builder().through_proxy().start().await;
        stack.client.confirm(1, CASE).await;
        stack.anvil.mine(FINAL_AFTER).await;
        let newest = stack.anvil.head().await;
        let old = without_proofs_before(&stack, newest, error);

        let early = certify(&stack, Finality::Finalized).await.unwrap_err();
        assert_eq!(early.kind(), NOT_FINAL, "{error:?}: {early:?}");
        // From now on, no block can be proved.
        drop(old);
        let _all = stack.proxy().inject("eth_getProof", Fault::Error(error));
        stack.anvil.mine(FINAL_AFTER - 1).await;
        assert_eq!(certify(&stack, Finality::Finalized).await.unwrap_err().kind(), NOT_FINAL, "{error:?}");
        stack.anvil.mine(1).await;
        let issued = eventually("the final block", async || certify(&stack, Finality::Finalized).await.ok()).await;

        assert_eq!(issued.finality(), Finality::Finalized);
        assert_eq!(verified(&issued).1.block_number, newest, "{error:?}");
    }
}

#[tokio::test]
async fn once_final_blocks_were_too_old_the_proof_of_a_new_record_is_taken_at_once() {
    let stack = builder().through_proxy().start().await;
    stack.client.confirm(1, CASE).await;
    stack.anvil.mine(FINAL_AFTER).await;
    let newest = stack.anvil.head().await;
    let old = without_proofs_before(&stack, newest, PROOF_TOO_OLD[0]);
    assert_eq!(certify(&stack, Finality::Finalized).await.unwrap_err().kind(), NOT_FINAL);

    let confirmed = stack.client.confirm(2, CASE).await;
    let second = || stack.client.certificate(super::of_pair(2, CASE, Finality::Finalized));
    assert_eq!(second().await.unwrap_err().kind(), NOT_FINAL);
    drop(old);
    let _all = stack.proxy().inject("eth_getProof", Fault::Error(PROOF_TOO_OLD[0]));
    stack.anvil.mine(FINAL_AFTER).await;

    let issued = eventually("the certificate", async || second().await.ok()).await;
    assert_eq!(Some(verified(&issued).1.block_number), confirmed.transaction.unwrap().block_number);
}

#[tokio::test]
async fn a_kept_proof_of_a_block_that_a_reorg_removed_is_never_handed_out() {
    let stack = builder().through_proxy().start().await;
    stack.client.confirm(1, CASE).await;
    stack.anvil.mine(FINAL_AFTER).await;
    let newest = stack.anvil.head().await;
    let faults = without_proofs_before(&stack, newest, PROOF_TOO_OLD[0]);
    assert_eq!(certify(&stack, Finality::Finalized).await.unwrap_err().kind(), NOT_FINAL);
    drop(faults);

    stack.anvil.rpc().run("anvil_reorg", serde_json::json!([1, []])).await;
    stack.anvil.mine(FINAL_AFTER).await;
    let issued = eventually("a certificate", async || certify(&stack, Finality::Finalized).await.ok()).await;

    let proved = verified(&issued).1;
    assert_eq!(proved.block_hash, super::block_hash(&stack, proved.block_number).await);
}
