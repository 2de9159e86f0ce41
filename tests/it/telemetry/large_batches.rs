//! A thousand concurrent calls with every kind of header and outcome: their telemetry is not mixed up.

use super::{CASE, ObservedStack, breadcrumbs, with_headers};
use crate::harness::{
    Client, StackBuilder, State, WaitFor, document,
    receivers::{Ids, Span},
    register_request,
};
use futures_util::future::join_all;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const CALLS: u64 = 1_000;
/// Invalid trace headers.
const GARBAGE: [&str; 4] = [
    "nonsense",
    "00-xyz-1-01",
    "4bf92f3577b34da6a3ce929d0e0e4736",
    "00000000000000000000000000000000-0000000000000000-1",
];

type Headers = Vec<(&'static str, String)>;
type TraceContext = (String, String);

#[derive(Debug)]
struct Call {
    /// The trace and span id in its headers.
    named: Option<TraceContext>,
    /// The trace id of its answer.
    trace: String,
    /// The registration that it created or found: id and trace id.
    registration: Option<(String, String)>,
    /// `OK`, or the error's reason.
    outcome: String,
}

/// The headers of a call, and the trace and span id that they contain.
fn headers(number: u64) -> (Headers, Option<TraceContext>) {
    let (trace, other) = (format!("{:032x}", 0xa000 + number), format!("{:032x}", 0xb000 + number));
    let span = format!("{:016x}", 0xc000 + number);
    let flag = ["", "-1"][(number / 7 % 2) as usize];
    let sentry = ("sentry-trace", format!("{trace}-{span}{flag}"));
    let named = Some((trace.clone(), span.clone()));
    match number % 5 {
        0 => (vec![], None),
        1 => (vec![sentry], named),
        2 => (vec![("traceparent", format!("00-{trace}-{span}-01"))], named),
        3 => (vec![("traceparent", format!("00-{other}-{span}-01")), sentry], named),
        _ => {
            let garbage = GARBAGE[(number / 5) as usize % GARBAGE.len()];
            (vec![("sentry-trace", garbage.to_owned()), ("traceparent", garbage.to_owned())], None)
        }
    }
}

/// One call. A fifth is invalid, a fifth repeats another pair, a fifth does not wait; the rest waits for the
/// confirmation.
async fn call(client: Client, number: u64) -> Call {
    let (headers, named) = headers(number);
    let mut request = match number / 5 % 5 {
        0 => register_request(number, "no case", WaitFor::Confirmed),
        1 => register_request(number - 5 + 10, CASE, WaitFor::Confirmed),
        _ => register_request(number, CASE, WaitFor::Confirmed),
    };
    if number / 5 % 5 == 3 {
        request.wait_timeout = crate::harness::seconds(0);
    }
    request.user_id = format!("user-{number}");
    match client.register_traced(with_headers(request, &headers)).await {
        Ok(answer) => {
            let registration = Some((answer.message.id, answer.message.trace_id));
            Call { named, trace: answer.trace_id, registration, outcome: "OK".to_owned() }
        }
        Err(error) => {
            let registration = error.detail.as_ref().and_then(|detail| detail.registration.clone());
            let registration = registration.map(|registration| (registration.id, registration.trace_id));
            Call { named, trace: error.trace_id, registration, outcome: error.reason }
        }
    }
}

/// A thousand calls: half of them while blocks are mined. Once one that waits is confirmed, mining stops and the other
/// half follows; mining resumes after their timeouts.
async fn run_calls(observed: &ObservedStack) -> Vec<Call> {
    let spawn = |number| tokio::spawn(call(observed.stack.client.clone(), number));
    let mut calls: Vec<_> = (0..CALLS / 2).map(spawn).collect();
    // Waiting calls, until one is confirmed.
    let mut answered = Vec::new();
    for number in (CALLS + 10..).step_by(25) {
        answered.push(spawn(number).await.unwrap());
        if answered.last().is_some_and(|last| last.outcome == "OK") {
            break;
        }
    }
    observed.stack.anvil.stop_mining().await;
    calls.extend((CALLS / 2..CALLS).map(spawn));
    let mut calls: Vec<Call> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
    calls.extend(answered);
    observed.stack.anvil.mine_on_demand().await;
    for (id, _) in calls.iter().filter_map(|call| call.registration.clone()).collect::<BTreeSet<_>>() {
        observed.stack.client.wait_for_state(&id, State::Confirmed).await;
    }
    calls
}

fn by_trace(spans: Vec<Span>) -> BTreeMap<String, Vec<Span>> {
    let mut traces: BTreeMap<String, Vec<Span>> = BTreeMap::new();
    for span in spans {
        traces.entry(span.ids.trace.clone()).or_default().push(span);
    }
    traces
}

#[tokio::test]
async fn a_thousand_concurrent_calls_have_separate_traces_in_both_receivers() {
    let builder = StackBuilder::block_time(0.2).signers(2).set("REGISTRAR_CONFIRMATION_TIMEOUT", "5s");
    let mut observed = ObservedStack::start(builder).await;

    let calls = run_calls(&observed).await;
    observed.stack.service.terminate();
    assert_eq!(observed.stack.service.exit_code().await, 0);

    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    for call in &calls {
        *outcomes.entry(&call.outcome).or_default() += 1;
    }
    let kinds: Vec<_> = outcomes.keys().copied().collect();
    assert_eq!(
        kinds,
        ["CONFIRMATION_TIMEOUT", "INVALID_FIELD", "OK", "WAIT_TIMEOUT"],
        "not every outcome occurred: {outcomes:?}"
    );
    let traces: BTreeSet<_> = calls.iter().map(|call| call.trace.clone()).collect();
    assert_eq!(traces.len(), calls.len(), "calls share a trace");

    let sentry = by_trace(observed.sentry.spans());
    let otlp = by_trace(observed.otlp.spans());
    let mut trees = 0;
    for call in &calls {
        let spans = sentry.get(&call.trace).unwrap_or_else(|| panic!("Sentry has no span of {call:?}"));
        let servers: Vec<_> = spans.iter().filter(|span| span.op == "grpc.server").collect();
        assert_eq!(servers.len(), 1, "{call:?}: {spans:#?}");
        assert_eq!(servers[0].ids.parent, call.named.as_ref().map(|(_, span)| span.clone()), "{call:?}");
        if let Some((trace, _)) = &call.named {
            assert_eq!(&call.trace, trace);
        }
        let mine = call.registration.as_ref().filter(|(_, trace)| *trace == call.trace);
        for register in spans.iter().filter(|span| span.op == "blockchain.register") {
            let (id, _) = mine.unwrap_or_else(|| panic!("a registration trace in the trace of {call:?}"));
            assert_eq!(register.get("registrationId"), id.as_str());
            assert_eq!(register.ids.parent.as_ref(), Some(&servers[0].ids.span));
            trees += 1;
        }
        let known: BTreeSet<_> = spans.iter().map(|span| &span.ids.span).collect();
        for span in spans.iter().filter(|span| span.op != "grpc.server") {
            let parent = span.ids.parent.as_ref().unwrap_or_else(|| panic!("a second root in {spans:#?}"));
            assert!(known.contains(parent), "{span:#?} has an unknown parent");
        }
        let ids = |spans: &[Span]| spans.iter().map(|span| span.ids.clone()).collect::<BTreeSet<Ids>>();
        let collected = otlp.get(&call.trace).map(|spans| ids(spans)).unwrap_or_default();
        assert_eq!(ids(spans), collected, "Sentry and the collector differ: {call:?}");
    }
    let registrations: BTreeSet<_> = calls.iter().filter_map(|call| call.registration.clone()).collect();
    assert!(trees >= registrations.len(), "{trees} registration traces of {} registrations", registrations.len());
    assert_events_are_not_mixed(&observed, &registrations);
    observed.assert_sentry_accepts().await;
}

/// Asserts that each event has the trace, the user and the breadcrumbs of its own registration only.
fn assert_events_are_not_mixed(observed: &ObservedStack, registrations: &BTreeSet<(String, String)>) {
    let mut checked = 0;
    for event in observed.sentry.events() {
        let Some(id) = event["contexts"]["blockchain"]["registrationId"].as_str() else { continue };
        let (_, trace) = registrations.iter().find(|(known, _)| known == id).unwrap();
        assert_eq!(event["contexts"]["trace"]["trace_id"], *trace, "{event:#}");
        let hash = event["contexts"]["blockchain"]["documentHash"].as_str().unwrap();
        let number = event["user"]["id"].as_str().unwrap().strip_prefix("user-").unwrap().parse::<u64>().unwrap();
        // Some documents are requested by two calls; the first one's user is stored.
        let requested =
            [Some(number), number.checked_add(5)].into_iter().flatten().any(|number| document(number) == hash);
        assert!(requested, "user {number} did not request {hash}");
        let crumbs = breadcrumbs(&event);
        assert!(!crumbs.is_empty(), "{event:#}");
        for (known, known_trace) in registrations.iter().filter(|(known, _)| known != id) {
            let unrelated = crumbs
                .iter()
                .map(Value::to_string)
                .find(|crumb| crumb.contains(known.as_str()) || crumb.contains(known_trace.as_str()));
            assert_eq!(unrelated, None, "in the event about {id}");
        }
        checked += 1;
    }
    assert!(checked >= 10, "only {checked} events were looked at");
}
