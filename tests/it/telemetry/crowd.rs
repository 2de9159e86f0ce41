//! A thousand calls at once, with every kind of header and of end: nothing of one is told of another.

use super::{CASE, Watched, breadcrumbs, with_headers};
use crate::harness::{
    Client, Plan, State, WaitFor, document,
    receivers::{Ids, Span},
    registering,
};
use futures_util::future::join_all;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const CALLS: u64 = 1_000;
/// What callers send that speak no protocol of ours.
const GARBAGE: [&str; 4] = [
    "nonsense",
    "00-xyz-1-01",
    "4bf92f3577b34da6a3ce929d0e0e4736",
    "00000000000000000000000000000000-0000000000000000-1",
];

type Headers = Vec<(&'static str, String)>;
/// A trace and a span.
type Named = (String, String);

/// A call that has ended.
#[derive(Debug)]
struct Call {
    /// The trace and the span that its headers named.
    named: Option<Named>,
    /// The trace it was answered with.
    trace: String,
    /// The registration it began or found.
    registration: Option<(String, String)>,
    /// How it ended: `OK`, or the reason.
    outcome: String,
}

/// The headers of a call, and the trace and the span that they name.
fn headers(number: u64) -> (Headers, Option<Named>) {
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

/// One call. A fifth is invalid, a fifth asks for what another asks for, a fifth does not wait; the rest waits for its
/// confirmation.
async fn call(client: Client, number: u64) -> Call {
    let (headers, named) = headers(number);
    let mut request = match number / 5 % 5 {
        0 => registering(number, "no case", WaitFor::Confirmed),
        1 => registering(number - 5 + 10, CASE, WaitFor::Confirmed),
        _ => registering(number, CASE, WaitFor::Confirmed),
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
        Err(refusal) => {
            let registration = refusal.detail.as_ref().and_then(|detail| detail.registration.clone());
            let registration = registration.map(|registration| (registration.id, registration.trace_id));
            Call { named, trace: refusal.trace_id, registration, outcome: refusal.reason }
        }
    }
}

/// A thousand calls and one: half of them come while the chain moves, and as soon as one that waits is confirmed it stands still and
/// the others come, too. When they are late it moves again.
async fn crowd(watched: &Watched) -> Vec<Call> {
    let begin = |number| tokio::spawn(call(watched.stack.client.clone(), number));
    let mut calls: Vec<_> = (0..CALLS / 2).map(begin).collect();
    // One that waits, again until one is confirmed.
    let mut answered = Vec::new();
    for number in (CALLS + 10..).step_by(25) {
        answered.push(begin(number).await.unwrap());
        if answered.last().is_some_and(|last| last.outcome == "OK") {
            break;
        }
    }
    watched.stack.anvil.stop_mining().await;
    calls.extend((CALLS / 2..CALLS).map(begin));
    let mut calls: Vec<Call> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
    calls.extend(answered);
    watched.stack.anvil.mine_on_demand().await;
    for (id, _) in calls.iter().filter_map(|call| call.registration.clone()).collect::<BTreeSet<_>>() {
        watched.stack.client.reaches(&id, State::Confirmed).await;
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
async fn a_thousand_calls_at_once_are_each_told_in_their_own_trace_and_the_same_in_both_places() {
    let plan = Plan::block_time(0.2).signers(2).set("REGISTRAR_CONFIRMATION_TIMEOUT", "5s");
    let mut watched = Watched::start(plan).await;

    let calls = crowd(&watched).await;
    watched.stack.service.terminate();
    assert_eq!(watched.stack.service.exit_code().await, 0);

    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    for call in &calls {
        *outcomes.entry(&call.outcome).or_default() += 1;
    }
    let kinds: Vec<_> = outcomes.keys().copied().collect();
    assert_eq!(
        kinds,
        ["CONFIRMATION_TIMEOUT", "INVALID_FIELD", "OK", "WAIT_TIMEOUT"],
        "every kind of end: {outcomes:?}"
    );
    let traces: BTreeSet<_> = calls.iter().map(|call| call.trace.clone()).collect();
    assert_eq!(traces.len(), calls.len(), "a trace for each call");

    let sentry = by_trace(watched.sentry.spans());
    let otlp = by_trace(watched.otlp.spans());
    let mut journeys = 0;
    for call in &calls {
        let spans = sentry.get(&call.trace).unwrap_or_else(|| panic!("Sentry has nothing of {call:?}"));
        let servers: Vec<_> = spans.iter().filter(|span| span.op == "grpc.server").collect();
        assert_eq!(servers.len(), 1, "{call:?}: {spans:#?}");
        assert_eq!(servers[0].ids.parent, call.named.as_ref().map(|(_, span)| span.clone()), "{call:?}");
        if let Some((trace, _)) = &call.named {
            assert_eq!(&call.trace, trace);
        }
        let mine = call.registration.as_ref().filter(|(_, trace)| *trace == call.trace);
        for register in spans.iter().filter(|span| span.op == "blockchain.register") {
            let (id, _) = mine.unwrap_or_else(|| panic!("a journey in the trace of {call:?}"));
            assert_eq!(register.get("registrationId"), id.as_str());
            assert_eq!(register.ids.parent.as_ref(), Some(&servers[0].ids.span));
            journeys += 1;
        }
        let known: BTreeSet<_> = spans.iter().map(|span| &span.ids.span).collect();
        for span in spans.iter().filter(|span| span.op != "grpc.server") {
            let parent = span.ids.parent.as_ref().unwrap_or_else(|| panic!("a second root in {spans:#?}"));
            assert!(known.contains(parent), "{span:#?} hangs below what is not there");
        }
        let ids = |spans: &[Span]| spans.iter().map(|span| span.ids.clone()).collect::<BTreeSet<Ids>>();
        let there = otlp.get(&call.trace).map(|spans| ids(spans)).unwrap_or_default();
        assert_eq!(ids(spans), there, "the same in both places: {call:?}");
    }
    let registrations: BTreeSet<_> = calls.iter().filter_map(|call| call.registration.clone()).collect();
    assert!(journeys >= registrations.len(), "{journeys} journeys of {} registrations", registrations.len());
    every_event_is_about_one_registration(&watched, &registrations);
    watched.sentry_finds_nothing().await;
}

/// That an event has the trace, the user and the breadcrumbs of its registration, and of no other.
fn every_event_is_about_one_registration(watched: &Watched, registrations: &BTreeSet<(String, String)>) {
    let mut looked_at = 0;
    for event in watched.sentry.events() {
        let Some(id) = event["contexts"]["blockchain"]["registrationId"].as_str() else { continue };
        let (_, trace) = registrations.iter().find(|(known, _)| known == id).unwrap();
        assert_eq!(event["contexts"]["trace"]["trace_id"], *trace, "{event:#}");
        let hash = event["contexts"]["blockchain"]["documentHash"].as_str().unwrap();
        let number = event["user"]["id"].as_str().unwrap().strip_prefix("user-").unwrap().parse::<u64>().unwrap();
        // Two calls ask for some of the documents: the first one's user is kept.
        let asked = [Some(number), number.checked_add(5)].into_iter().flatten().any(|number| document(number) == hash);
        assert!(asked, "user {number} has nothing to do with {hash}");
        let crumbs = breadcrumbs(&event);
        assert!(!crumbs.is_empty(), "{event:#}");
        for (known, known_trace) in registrations.iter().filter(|(known, _)| known != id) {
            let foreign = crumbs
                .iter()
                .map(Value::to_string)
                .find(|crumb| crumb.contains(known.as_str()) || crumb.contains(known_trace.as_str()));
            assert_eq!(foreign, None, "in the event about {id}");
        }
        looked_at += 1;
    }
    assert!(looked_at >= 10, "only {looked_at} events were looked at");
}
