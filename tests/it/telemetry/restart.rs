//! `kill -9` during a wait: the trace continues after the restart.

use super::{CASE, ObservedStack, part, stalled_chain, with_headers};
use crate::harness::{StackBuilder, State, WaitFor, document, eventually, register_request};

#[tokio::test]
async fn a_registration_trace_continues_after_a_crash() {
    let mut observed = ObservedStack::start(StackBuilder::on_demand()).await;
    observed.stack.anvil.stop_mining().await;
    let accepted = observed.stack.client.accept(1, CASE).await;
    let sent = observed.stack.client.wait_for_state(&accepted.id, State::Submitted).await;
    let trace = &accepted.trace_id;
    let call = observed.transaction("grpc.server", trace).await;

    observed.stack.crash().await;
    observed.stack.anvil.mine_on_demand().await;

    let confirmed = observed.stack.client.wait_for_state(&accepted.id, State::Confirmed).await;
    assert_eq!(&confirmed.trace_id, trace);
    let tree = observed.transaction("blockchain.register", trace).await;
    let register = &tree[0];
    assert_eq!(
        (&*register.status, register.ids.parent.as_ref()),
        ("ok", Some(&call[0].ids.span)),
        "the registration's parent is not the call"
    );
    let hash = sent.transaction.unwrap().hash;
    for op in ["blockchain.prepare", "blockchain.send", "blockchain.wait"] {
        let span = part(&tree, op);
        assert_eq!(span.ids.parent.as_ref(), Some(&register.ids.span));
    }
    assert_eq!(part(&tree, "blockchain.send").get("txHash"), hash.as_str());
    assert_eq!(part(&tree, "blockchain.wait").lacks(["txHash", "blockNumber", "gasUsed", "confirmations"]), [""; 0]);
    observed.assert_in_both_receivers(&tree).await;
    let exported = observed.otlp.span(trace, &register.ids.span).await;
    assert!(exported.links.iter().any(|link| link.span == call[0].ids.span), "not linked to the call: {exported:#?}");
    observed.assert_sentry_accepts().await;
}

#[tokio::test]
async fn a_sampling_decision_survives_a_crash() {
    let mut observed = ObservedStack::start_at(StackBuilder::on_demand(), 0.0).await;
    observed.stack.anvil.stop_mining().await;
    let header =
        |digit: &str, flag: &str| [("sentry-trace", format!("{}-{}-{flag}", digit.repeat(32), "1".repeat(16)))];
    let sampled = with_headers(register_request(1, CASE, WaitFor::Submitted), &header("a", "1"));
    let dropped = with_headers(register_request(2, CASE, WaitFor::Submitted), &header("b", "0"));
    for request in [sampled, dropped] {
        observed.stack.client.register(request).await.unwrap();
    }

    observed.stack.crash().await;
    observed.stack.anvil.mine_on_demand().await;

    for number in [1, 2] {
        let id = observed.stack.client.get_pair(&document(number), CASE).await.unwrap().id;
        observed.stack.client.wait_for_state(&id, State::Confirmed).await;
    }
    observed.transaction("blockchain.register", &"a".repeat(32)).await;
    observed.stack.service.terminate();
    assert_eq!(observed.stack.service.exit_code().await, 0);
    assert!(observed.otlp.spans().iter().all(|span| span.ids.trace != "b".repeat(32)));
}

#[tokio::test]
async fn a_late_registration_is_traced_to_its_end_after_a_crash() {
    let mut observed = stalled_chain(StackBuilder::on_demand(), 1).await;
    let accepted = observed.stack.client.accept(1, CASE).await;
    let trace = &accepted.trace_id;
    let first = observed.transaction("blockchain.register", trace).await;
    assert_eq!(first[0].status, "deadline_exceeded");
    observed.assert_in_both_receivers(&first).await;

    observed.stack.crash().await;
    observed.stack.anvil.mine_on_demand().await;

    let trees = observed.transactions("blockchain.register", trace, 2).await;
    let second = trees.iter().find(|tree| tree[0].ids != first[0].ids).unwrap();
    assert_eq!(second[0].status, "ok");
    let exported = observed.otlp.span(trace, &second[0].ids.span).await;
    assert!(exported.links.iter().any(|link| link.span == first[0].ids.span), "{exported:#?}");
    let events = observed.sentry.events().len();
    assert_eq!(events, 1, "the timeout was reported again");
}

#[tokio::test]
async fn a_queued_registration_keeps_its_trace_through_a_crash() {
    let mut observed = ObservedStack::start(StackBuilder::on_demand()).await;
    observed.stack.anvil.set_balance(crate::harness::account(1), 0).await;
    let accepted = observed.stack.client.accept(1, CASE).await;

    observed.stack.crash().await;
    observed.stack.anvil.set_balance(crate::harness::account(1), 10_u128.pow(21)).await;

    let tree = observed.transaction("blockchain.register", &accepted.trace_id).await;
    assert_eq!(tree[0].status, "ok");
    eventually("the confirmation", async || {
        let registration = observed.stack.client.get(&accepted.id).await.unwrap();
        (registration.state() == State::Confirmed).then_some(())
    })
    .await;
}
