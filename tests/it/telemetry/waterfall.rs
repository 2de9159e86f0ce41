//! A registration as people see it: the call, the journey below it, and prepare, send and wait below that.

use super::{CASE, USER, Watched, part};
use crate::harness::{
    Plan, WaitFor, account, document,
    receivers::{DSN_KEY, Span},
    registering,
};
use serde_json::{Value, json};

/// A good registration: the call's spans and the journey's.
async fn registered(watched: &Watched, number: u64) -> (crate::harness::Registration, Vec<Span>, Vec<Span>) {
    let mut request = registering(number, CASE, WaitFor::Confirmed);
    request.user_id = USER.to_owned();
    let answer = watched.stack.client.register_traced(request).await.unwrap();
    let registration = answer.message;
    assert_eq!(registration.trace_id, answer.trace_id);
    let call = watched.transaction("grpc.server", &answer.trace_id).await;
    let journey = watched.transaction("blockchain.register", &answer.trace_id).await;
    (registration, call, journey)
}

#[tokio::test]
async fn a_registration_is_prepare_send_and_wait_below_its_call_with_the_data_people_search_by() {
    let watched = Watched::start(Plan::on_demand()).await;

    let (registration, call, journey) = registered(&watched, 1).await;

    let server = &call[0];
    assert_eq!((&*server.name, &*server.status), ("registrar.v1.RegistrarService/RegisterDocument", "ok"));
    for (key, value) in [
        ("rpc.system.name", json!("grpc")),
        ("rpc.method", json!("RegisterDocument")),
        ("rpc.grpc.status_code", json!(0)),
    ] {
        assert_eq!(server.get(key), &value, "{key} in {server:#?}");
    }
    let register = &journey[0];
    assert_eq!((&*register.name, &*register.status), ("Register Document on Blockchain", "ok"));
    assert_eq!(register.ids.parent.as_ref(), Some(&server.ids.span), "the journey is below the call");
    let (prepare, send, wait) =
        (part(&journey, "blockchain.prepare"), part(&journey, "blockchain.send"), part(&journey, "blockchain.wait"));
    for (span, name) in [
        (prepare, "Prepare Transaction Data"),
        (send, "Submit Transaction to anvil"),
        (wait, "Wait for Transaction Confirmation"),
    ] {
        assert_eq!((&*span.name, &*span.status), (name, "ok"));
        assert_eq!((&span.ids.trace, span.ids.parent.as_ref()), (&register.ids.trace, Some(&register.ids.span)));
        assert!(span.start >= register.start && span.end <= register.end, "{span:#?} is not within {register:#?}");
    }
    assert!(prepare.end <= send.start && send.end <= wait.start, "one after the other: {journey:#?}");
    let event = &watched.stack.registry.events().await[0];
    let transaction = registration.transaction.unwrap();
    let hash = json!(event.transaction.to_string());
    let expected: [(&Span, &[(&str, Value)]); 4] = [
        (
            register,
            &[
                ("registrationId", json!(registration.id)),
                ("documentHash", json!(document(1))),
                ("caseId", json!(CASE)),
                ("network", json!("anvil")),
                ("contractAddress", json!(watched.stack.registry.address.to_string())),
                ("txHash", hash.clone()),
                ("blockNumber", json!(event.block)),
            ],
        ),
        (prepare, &[("nonce", json!(0)), ("from", json!(account(1).to_string())), ("batchSize", json!(1))]),
        (send, &[("txHash", hash.clone()), ("endpoint", json!("127.0.0.1")), ("attempt", json!(1))]),
        (
            wait,
            &[
                ("txHash", hash),
                ("blockNumber", json!(event.block)),
                ("gasUsed", json!(transaction.gas_used.unwrap())),
                ("confirmations", json!(1)),
            ],
        ),
    ];
    for (span, data) in expected {
        for (key, value) in data {
            assert_eq!(span.get(key), value, "{key} in {span:#?}");
        }
    }
    assert_eq!(prepare.lacks(["gasLimit", "maxFeePerGas", "maxPriorityFeePerGas"]), [""; 0], "{prepare:#?}");
    assert_eq!(send.get("gasLimit"), prepare.get("gasLimit"));
}

#[tokio::test]
async fn a_registration_has_the_same_spans_in_sentry_and_at_the_collector_and_its_trace_in_the_log() {
    let mut watched = Watched::start(Plan::on_demand()).await;

    let (registration, call, journey) = registered(&watched, 1).await;

    watched.is_told_to_both(&call).await;
    watched.is_told_to_both(&journey).await;
    let trace = &registration.trace_id;
    let server = watched.otlp.span(trace, &call[0].ids.span).await;
    assert_eq!(server.kind, "server");
    for (key, value) in [("service.name", "registrar"), ("service.version", env!("CARGO_PKG_VERSION"))] {
        assert_eq!(server.resource[key], value, "{:?}", server.resource);
    }
    assert_eq!(&watched.stack.client.get(&registration.id).await.unwrap().trace_id, trace);
    for words in ["registration accepted", "registration confirmed"] {
        let is_it = |line: &Value| line["message"] == words && line["trace_id"] == *trace;
        watched.stack.service.logged(words, is_it).await;
    }
}

#[tokio::test]
async fn a_journeys_user_is_on_its_transaction() {
    let watched = Watched::start(Plan::on_demand()).await;

    let (registration, ..) = registered(&watched, 1).await;

    let transaction = watched.sentry.transaction("blockchain.register", &registration.trace_id).await;
    assert_eq!(transaction["user"], json!({ "id": USER }), "and nothing else of the user");
}

#[tokio::test]
async fn sentry_finds_nothing_wrong_with_what_it_is_told_of_good_and_bad_calls() {
    let watched = Watched::start(Plan::on_demand()).await;
    let client = &watched.stack.client;

    let (_, _, _) = registered(&watched, 1).await;
    let invalid = client.register(registering(1, "no case", WaitFor::Accepted)).await.unwrap_err().trace_id;
    let missing = client.get("00000000-0000-7000-8000-000000000000").await.unwrap_err().trace_id;

    for (trace, status) in [(invalid, "invalid_argument"), (missing, "not_found")] {
        let call = watched.transaction("grpc.server", &trace).await;
        assert_eq!(call[0].status, status, "{call:#?}");
    }
    watched.sentry_finds_nothing().await;
}

#[tokio::test]
async fn an_envelope_says_whose_trace_it_is_and_how_it_was_sampled() {
    let watched = Watched::start(Plan::on_demand().set("TRACE_ENVIRONMENT", "staging")).await;

    let (registration, call, _) = registered(&watched, 1).await;

    for op in ["grpc.server", "blockchain.register"] {
        let envelopes = watched.sentry.envelopes();
        let of = |envelope: &&crate::harness::receivers::Envelope| {
            envelope.items.iter().any(|item| super::is(&item.payload, op, &registration.trace_id))
        };
        let envelope = envelopes.iter().find(of).unwrap();
        let trace = &envelope.header["trace"];
        let text = |key: &str| trace[key].as_str().unwrap_or_else(|| panic!("{key} is no text in {trace}"));
        assert_eq!(text("trace_id"), registration.trace_id);
        assert_eq!(text("public_key"), DSN_KEY);
        assert_eq!(text("sample_rate").parse::<f64>().unwrap(), 1.0);
        assert_eq!((text("sampled"), text("environment")), ("true", "staging"));
        assert!(text("release").contains(env!("CARGO_PKG_VERSION")), "{trace}");
        assert_eq!(text("transaction"), call[0].name, "the name of what began the trace here");
        assert_eq!(envelope.http["content-type"], "application/x-sentry-envelope");
        assert_eq!(envelope.project, "1");
        let transaction = envelope.items.iter().find(|item| item.kind() == "transaction").unwrap();
        assert_eq!(transaction.payload["release"], trace["release"]);
        assert_eq!(transaction.payload["environment"], "staging");
        assert!(!transaction.payload["server_name"].is_null());
    }
}

#[tokio::test]
async fn a_batch_has_a_trace_of_its_own_linked_both_ways_with_the_journeys_it_carries() {
    let watched = Watched::start(Plan::on_demand()).await;
    let accepted = watched.batch(3).await;
    watched.stack.anvil.mine_on_demand().await;

    let mut journeys = Vec::new();
    for registration in &accepted {
        journeys.push(watched.transaction("blockchain.register", &registration.trace_id).await.remove(0));
    }
    let is_batch = |span: &Span| span.op == "blockchain.batch" && span.links.len() == 3;
    let batch = watched.otlp.spans_where(1, "a batch of three", is_batch).await.remove(0);

    assert!(journeys.iter().all(|journey| journey.ids.trace != batch.ids.trace));
    for journey in journeys {
        let there = batch.links.iter().any(|link| link.trace == journey.ids.trace);
        let told = watched.otlp.span(&journey.ids.trace, &journey.ids.span).await;
        let back = told.links.iter().any(|link| (&link.trace, &link.span) == (&batch.ids.trace, &batch.ids.span));
        assert!(there && back, "{batch:#?}\n{told:#?}");
    }
    let calls = watched.otlp.spans_where(1, "its calls", |span| {
        span.ids.trace == batch.ids.trace && span.op == "rpc.client" && span.name == "eth_sendRawTransaction"
    });
    let call = calls.await.remove(0);
    assert_eq!((call.kind, call.get("endpoint"), call.get("attempt")), ("client", &json!("127.0.0.1"), &json!(1)));
}

#[tokio::test]
async fn what_the_store_and_the_node_did_for_a_call_and_a_batch_is_below_them() {
    let watched = Watched::start(Plan::on_demand()).await;

    let (registration, call, _) = registered(&watched, 1).await;

    let verbs = |spans: &[Span]| -> Vec<String> {
        spans.iter().filter(|span| span.op == "db").map(|span| span.name.clone()).collect()
    };
    assert!(verbs(&call).contains(&"accept".to_owned()), "{call:#?}");
    let carries = |span: &Span| {
        span.op == "blockchain.batch" && span.links.iter().any(|link| link.trace == registration.trace_id)
    };
    let batch = watched.otlp.spans_where(1, "its batch", carries).await.remove(0);
    let batch = watched.transaction("blockchain.batch", &batch.ids.trace).await;
    assert!(verbs(&batch).contains(&"sign".to_owned()), "{batch:#?}");
    for span in &batch[1..] {
        assert_eq!(span.ids.parent.as_ref(), Some(&batch[0].ids.span), "{span:#?}");
    }
    watched.is_told_to_both(&batch).await;
}

#[tokio::test]
async fn a_call_that_the_contract_refuses_has_the_nodes_code_and_is_no_fault_of_the_node() {
    let watched = Watched::start(Plan::on_demand()).await;
    let contract = watched.stack.registry.address;
    watched.stack.anvil.rpc().run("anvil_setCode", json!([contract, "0x60006000fd"])).await;

    watched.stack.client.register(registering(1, CASE, WaitFor::Confirmed)).await.unwrap_err();

    let refused = |span: &Span| span.op == "rpc.client" && !span.get("rpc.response.status_code").is_null();
    let call = watched.otlp.spans_where(1, "a call that is refused", refused).await.remove(0);
    assert_eq!((call.get("rpc.response.status_code"), &*call.status), (&json!(3), "unset"), "{call:#?}");
}
