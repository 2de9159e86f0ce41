//! `kill -9` in the middle of a wait: the same trace goes on.

use super::{CASE, Watched, part, standstill, with_headers};
use crate::harness::{Plan, State, WaitFor, document, eventually, registering};

#[tokio::test]
async fn a_journey_that_a_crash_cut_in_two_goes_on_in_the_same_trace() {
    let mut watched = Watched::start(Plan::on_demand()).await;
    watched.stack.anvil.stop_mining().await;
    let accepted = watched.stack.client.accept(1, CASE).await;
    let sent = watched.stack.client.reaches(&accepted.id, State::Submitted).await;
    let trace = &accepted.trace_id;
    let call = watched.transaction("grpc.server", trace).await;

    watched.stack.crash().await;
    watched.stack.anvil.mine_on_demand().await;

    let confirmed = watched.stack.client.reaches(&accepted.id, State::Confirmed).await;
    assert_eq!(&confirmed.trace_id, trace);
    let journey = watched.transaction("blockchain.register", trace).await;
    let register = &journey[0];
    assert_eq!((&*register.status, register.ids.parent.as_ref()), ("ok", Some(&call[0].ids.span)), "below the call");
    let hash = sent.transaction.unwrap().hash;
    for op in ["blockchain.prepare", "blockchain.send", "blockchain.wait"] {
        let span = part(&journey, op);
        assert_eq!(span.ids.parent.as_ref(), Some(&register.ids.span));
    }
    assert_eq!(part(&journey, "blockchain.send").get("txHash"), hash.as_str());
    assert_eq!(part(&journey, "blockchain.wait").lacks(["txHash", "blockNumber", "gasUsed", "confirmations"]), [""; 0]);
    watched.is_told_to_both(&journey).await;
    let told = watched.otlp.span(trace, &register.ids.span).await;
    assert!(told.links.iter().any(|link| link.span == call[0].ids.span), "linked to the call: {told:#?}");
    watched.sentry_finds_nothing().await;
}

#[tokio::test]
async fn what_was_decided_about_a_trace_holds_over_a_crash() {
    let mut watched = Watched::start_at(Plan::on_demand(), 0.0).await;
    watched.stack.anvil.stop_mining().await;
    let header =
        |digit: &str, flag: &str| [("sentry-trace", format!("{}-{}-{flag}", digit.repeat(32), "1".repeat(16)))];
    let kept = with_headers(registering(1, CASE, WaitFor::Submitted), &header("a", "1"));
    let dropped = with_headers(registering(2, CASE, WaitFor::Submitted), &header("b", "0"));
    for request in [kept, dropped] {
        watched.stack.client.register(request).await.unwrap();
    }

    watched.stack.crash().await;
    watched.stack.anvil.mine_on_demand().await;

    for number in [1, 2] {
        let id = watched.stack.client.get_pair(&document(number), CASE).await.unwrap().id;
        watched.stack.client.reaches(&id, State::Confirmed).await;
    }
    watched.transaction("blockchain.register", &"a".repeat(32)).await;
    watched.stack.service.terminate();
    assert_eq!(watched.stack.service.exit_code().await, 0);
    assert!(watched.otlp.spans().iter().all(|span| span.ids.trace != "b".repeat(32)));
}

#[tokio::test]
async fn a_journey_that_was_late_before_a_crash_is_told_to_its_end_after_it_linked_to_what_was_told() {
    let mut watched = standstill(Plan::on_demand(), 1).await;
    let accepted = watched.stack.client.accept(1, CASE).await;
    let trace = &accepted.trace_id;
    let first = watched.transaction("blockchain.register", trace).await;
    assert_eq!(first[0].status, "deadline_exceeded");
    watched.is_told_to_both(&first).await;

    watched.stack.crash().await;
    watched.stack.anvil.mine_on_demand().await;

    let journeys = watched.transactions("blockchain.register", trace, 2).await;
    let second = journeys.iter().find(|journey| journey[0].ids != first[0].ids).unwrap();
    assert_eq!(second[0].status, "ok");
    let told = watched.otlp.span(trace, &second[0].ids.span).await;
    assert!(told.links.iter().any(|link| link.span == first[0].ids.span), "{told:#?}");
    let events = watched.sentry.events().len();
    assert_eq!(events, 1, "the timeout is not told again");
}

#[tokio::test]
async fn a_journey_that_waits_in_the_queue_over_a_crash_goes_on_in_its_trace() {
    let mut watched = Watched::start(Plan::on_demand()).await;
    watched.stack.anvil.set_balance(crate::harness::account(1), 0).await;
    let accepted = watched.stack.client.accept(1, CASE).await;

    watched.stack.crash().await;
    watched.stack.anvil.set_balance(crate::harness::account(1), 10_u128.pow(21)).await;

    let journey = watched.transaction("blockchain.register", &accepted.trace_id).await;
    assert_eq!(journey[0].status, "ok");
    eventually("the row", async || {
        let row = watched.stack.client.get(&accepted.id).await.unwrap();
        (row.state() == State::Confirmed).then_some(())
    })
    .await;
}
