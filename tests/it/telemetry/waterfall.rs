//! The waterfall of a registration: the call, the registration below it, and prepare, send and wait below that.

use super::{CASE, ObservedStack, USER, part};
use crate::harness::{
    StackBuilder, WaitFor, account, cli, document,
    receivers::{DSN_KEY, Span},
    register_request,
};
use serde_json::{Value, json};

/// A confirmed registration with the spans of its call and of its registration trace.
async fn register_and_trace(
    observed: &ObservedStack,
    number: u64,
) -> (crate::harness::Registration, Vec<Span>, Vec<Span>) {
    let mut request = register_request(number, CASE, WaitFor::Confirmed);
    request.user_id = USER.to_owned();
    let answer = observed.stack.client.register_traced(request).await.unwrap();
    let registration = answer.message;
    assert_eq!(registration.trace_id, answer.trace_id);
    let call = observed.transaction("grpc.server", &answer.trace_id).await;
    let tree = observed.transaction("blockchain.register", &answer.trace_id).await;
    (registration, call, tree)
}

#[tokio::test]
async fn a_registration_has_prepare_send_and_wait_spans_with_their_attributes() {
    let observed = ObservedStack::start(StackBuilder::on_demand()).await;

    let (registration, call, tree) = register_and_trace(&observed, 1).await;

    let server = &call[0];
    assert_eq!((&*server.name, &*server.status), ("registrar.v1.RegistrarService/RegisterDocument", "ok"));
    for (key, value) in [
        ("rpc.system.name", json!("grpc")),
        ("rpc.method", json!("RegisterDocument")),
        ("rpc.grpc.status_code", json!(0)),
    ] {
        assert_eq!(server.get(key), &value, "{key} in {server:#?}");
    }
    let register = &tree[0];
    assert_eq!((&*register.name, &*register.status), ("Register Document on Blockchain", "ok"));
    assert_eq!(register.ids.parent.as_ref(), Some(&server.ids.span), "the registration is not below the call");
    let (prepare, send, wait) =
        (part(&tree, "blockchain.prepare"), part(&tree, "blockchain.send"), part(&tree, "blockchain.wait"));
    for (span, name) in [
        (prepare, "Prepare Transaction Data"),
        (send, "Submit Transaction to anvil"),
        (wait, "Wait for Transaction Confirmation"),
    ] {
        assert_eq!((&*span.name, &*span.status), (name, "ok"));
        assert_eq!((&span.ids.trace, span.ids.parent.as_ref()), (&register.ids.trace, Some(&register.ids.span)));
        assert!(span.start >= register.start && span.end <= register.end, "{span:#?} is not within {register:#?}");
    }
    assert!(prepare.end <= send.start && send.end <= wait.start, "the steps overlap: {tree:#?}");
    let event = &observed.stack.registry.events().await[0];
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
                ("contractAddress", json!(observed.stack.registry.address.to_string())),
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
async fn a_registration_has_the_same_spans_in_both_receivers_and_its_trace_in_the_log() {
    let mut observed = ObservedStack::start(StackBuilder::on_demand()).await;

    let (registration, call, tree) = register_and_trace(&observed, 1).await;

    observed.assert_in_both_receivers(&call).await;
    observed.assert_in_both_receivers(&tree).await;
    let trace = &registration.trace_id;
    let server = observed.otlp.span(trace, &call[0].ids.span).await;
    assert_eq!(server.kind, "server");
    for (key, value) in [("service.name", "registrar"), ("service.version", env!("CARGO_PKG_VERSION"))] {
        assert_eq!(server.resource[key], value, "{:?}", server.resource);
    }
    assert_eq!(&observed.stack.client.get(&registration.id).await.unwrap().trace_id, trace);
    for words in ["registration accepted", "registration confirmed"] {
        let is_it = |line: &Value| line["message"] == words && line["trace_id"] == *trace;
        observed.stack.service.wait_for_log(words, is_it).await;
    }
}

#[tokio::test]
async fn a_registrations_user_is_on_its_transaction() {
    let observed = ObservedStack::start(StackBuilder::on_demand()).await;

    let (registration, ..) = register_and_trace(&observed, 1).await;

    let transaction = observed.sentry.transaction("blockchain.register", &registration.trace_id).await;
    assert_eq!(transaction["user"], json!({ "id": USER }), "the user has other data");
}

#[tokio::test]
async fn sentry_accepts_the_telemetry_of_successful_and_failed_calls() {
    let observed = ObservedStack::start(StackBuilder::on_demand()).await;
    let client = &observed.stack.client;

    let (_, _, _) = register_and_trace(&observed, 1).await;
    let invalid = client.register(register_request(1, "no case", WaitFor::Accepted)).await.unwrap_err().trace_id;
    let missing = client.get("00000000-0000-7000-8000-000000000000").await.unwrap_err().trace_id;

    for (trace, status) in [(invalid, "invalid_argument"), (missing, "not_found")] {
        let call = observed.transaction("grpc.server", &trace).await;
        assert_eq!(call[0].status, status, "{call:#?}");
    }
    observed.assert_sentry_accepts().await;
}

#[tokio::test]
async fn an_envelope_has_the_dynamic_sampling_context() {
    let observed = ObservedStack::start(StackBuilder::on_demand().set("TRACE_ENVIRONMENT", "staging")).await;

    let (registration, call, _) = register_and_trace(&observed, 1).await;

    for op in ["grpc.server", "blockchain.register"] {
        let envelopes = observed.sentry.envelopes();
        let of = |envelope: &&crate::harness::receivers::Envelope| {
            envelope.items.iter().any(|item| super::is(&item.payload, op, &registration.trace_id))
        };
        let envelope = envelopes.iter().find(of).unwrap();
        let trace = &envelope.header["trace"];
        let text = |key: &str| trace[key].as_str().unwrap_or_else(|| panic!("{key} is not a string in {trace}"));
        assert_eq!(text("trace_id"), registration.trace_id);
        assert_eq!(text("public_key"), DSN_KEY);
        assert_eq!(text("sample_rate").parse::<f64>().unwrap(), 1.0);
        assert_eq!((text("sampled"), text("environment")), ("true", "staging"));
        assert!(text("release").contains(env!("CARGO_PKG_VERSION")), "{trace}");
        assert_eq!(text("transaction"), call[0].name, "not the name of the trace's first transaction");
        assert_eq!(envelope.http["content-type"], "application/x-sentry-envelope");
        assert_eq!(envelope.project, "1");
        let transaction = envelope.items.iter().find(|item| item.kind() == "transaction").unwrap();
        assert_eq!(transaction.payload["release"], trace["release"]);
        assert_eq!(transaction.payload["environment"], "staging");
        assert!(!transaction.payload["server_name"].is_null());
    }
}

#[tokio::test]
async fn a_command_line_registration_is_one_call_without_a_parent_in_its_trace() {
    // The command line asks for its trace to be kept.
    let observed = ObservedStack::start_at(StackBuilder::on_demand(), 0.0).await;
    let server = format!("http://{}", observed.stack.service.grpc);
    let variables = [("REGISTRAR_SERVER", server.as_str())];

    let run = cli::run(&["register", &document(1), "--case", CASE, "--json"], &variables).await;

    let registration = run.object();
    assert_eq!((run.code, &registration["state"]), (0, &json!("STATE_CONFIRMED")), "{run:?}");
    let trace = registration["traceId"].as_str().unwrap();
    let tree = observed.transaction("blockchain.register", trace).await;
    let call = observed.transaction("grpc.server", trace).await;
    assert_eq!((call[0].ids.parent.as_ref(), tree[0].ids.parent.as_ref()), (None, Some(&call[0].ids.span)));
    assert_eq!(observed.otlp.span(trace, &call[0].ids.span).await.ids.parent, None);
    for op in ["blockchain.prepare", "blockchain.send", "blockchain.wait"] {
        assert_eq!(part(&tree, op).ids.parent.as_ref(), Some(&tree[0].ids.span));
    }
    // What follows the registration is not exported.
    let calls: Vec<_> = observed.otlp.spans().into_iter().filter(|span| span.op == "grpc.server").collect();
    assert_eq!(calls.len(), 1, "{calls:#?}");
    observed.assert_sentry_accepts().await;
}

#[tokio::test]
async fn a_batch_has_its_own_trace_linked_with_its_registrations() {
    let observed = ObservedStack::start(StackBuilder::on_demand()).await;
    let accepted = observed.batch(3).await;
    observed.stack.anvil.mine_on_demand().await;

    let mut trees = Vec::new();
    for registration in &accepted {
        trees.push(observed.transaction("blockchain.register", &registration.trace_id).await.remove(0));
    }
    let is_batch = |span: &Span| span.op == "blockchain.batch" && span.links.len() == 3;
    let batch = observed.otlp.spans_where(1, "a batch of three", is_batch).await.remove(0);

    assert!(trees.iter().all(|tree| tree.ids.trace != batch.ids.trace));
    for tree in trees {
        let forward = batch.links.iter().any(|link| link.trace == tree.ids.trace);
        let exported = observed.otlp.span(&tree.ids.trace, &tree.ids.span).await;
        let back = exported.links.iter().any(|link| (&link.trace, &link.span) == (&batch.ids.trace, &batch.ids.span));
        assert!(forward && back, "{batch:#?}\n{exported:#?}");
    }
    let calls = observed.otlp.spans_where(1, "the batch's send", |span| {
        span.ids.trace == batch.ids.trace && span.op == "rpc.client" && span.name == "eth_sendRawTransaction"
    });
    let call = calls.await.remove(0);
    assert_eq!((call.kind, call.get("endpoint"), call.get("attempt")), ("client", &json!("127.0.0.1"), &json!(1)));
}

#[tokio::test]
async fn database_and_node_spans_are_below_their_call_or_batch() {
    let observed = ObservedStack::start(StackBuilder::on_demand()).await;

    let (registration, call, _) = register_and_trace(&observed, 1).await;

    let verbs = |spans: &[Span]| -> Vec<String> {
        spans.iter().filter(|span| span.op == "db").map(|span| span.name.clone()).collect()
    };
    assert!(verbs(&call).contains(&"accept".to_owned()), "{call:#?}");
    let has_registration = |span: &Span| {
        span.op == "blockchain.batch" && span.links.iter().any(|link| link.trace == registration.trace_id)
    };
    let batch = observed.otlp.spans_where(1, "its batch", has_registration).await.remove(0);
    let batch = observed.transaction("blockchain.batch", &batch.ids.trace).await;
    assert!(verbs(&batch).contains(&"sign".to_owned()), "{batch:#?}");
    for span in &batch[1..] {
        assert_eq!(span.ids.parent.as_ref(), Some(&batch[0].ids.span), "{span:#?}");
    }
    observed.assert_in_both_receivers(&batch).await;
}

#[tokio::test]
async fn a_revert_has_the_nodes_error_code_and_is_not_an_endpoint_failure() {
    let observed = ObservedStack::start(StackBuilder::on_demand()).await;
    let contract = observed.stack.registry.address;
    observed.stack.anvil.rpc().run("anvil_setCode", json!([contract, "0x60006000fd"])).await;

    observed.stack.client.register(register_request(1, CASE, WaitFor::Confirmed)).await.unwrap_err();

    let is_rejected = |span: &Span| span.op == "rpc.client" && !span.get("rpc.response.status_code").is_null();
    let call = observed.otlp.spans_where(1, "a rejected call", is_rejected).await.remove(0);
    assert_eq!((call.get("rpc.response.status_code"), &*call.status), (&json!(3), "unset"), "{call:#?}");
}
