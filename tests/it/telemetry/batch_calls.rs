//! A call with many documents: one span for the call, and a trace of its own for each registration in the same trace.

use super::{CASE, ObservedStack, USER};
use crate::harness::{StackBuilder, State, client::with_traceparent, register_all_request};
use registrar::api::proto::RegisterDocumentsRequest;
use std::collections::BTreeSet;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test]
async fn each_document_of_a_call_has_its_spans_in_the_trace_of_the_call() {
    let observed = ObservedStack::start(StackBuilder::on_demand()).await;
    let client = &observed.stack.client;
    let request = || {
        let request = RegisterDocumentsRequest { user_id: USER.into(), ..register_all_request([1, 2, 2, 3]) };
        with_traceparent(request, &format!("00-{TRACE}-00f067aa0ba902b7-01"))
    };
    let accepted = client.register_all(request()).await.unwrap();
    assert!(accepted.iter().all(|registration| registration.trace_id == TRACE));
    for registration in &accepted {
        client.wait_for_state(&registration.id, State::Confirmed).await;
    }
    let call = observed.transaction("grpc.server", TRACE).await.remove(0);
    assert_eq!(call.name, "registrar.v1.RegistrarService/RegisterDocuments");
    assert_eq!((call.get("documents"), call.get("newDocuments")), (&3.into(), &3.into()), "{call:#?}");
    let registrations = observed.transactions("blockchain.register", TRACE, 3).await;
    let ids: BTreeSet<_> = registrations.iter().map(|spans| spans[0].get("registrationId").as_str().unwrap()).collect();
    assert_eq!(ids, accepted.iter().map(|registration| registration.id.as_str()).collect());
    for spans in &registrations {
        assert_eq!(spans[0].ids.parent.as_ref(), Some(&call.ids.span));
        assert_eq!(spans[0].get("caseId"), CASE);
    }
    observed.assert_sentry_accepts().await;

    client.register_all(request()).await.unwrap();
    let metrics = observed.stack.service.metrics().await;
    let count = |outcome| metrics.value("registrar_registrations_total", &[("outcome", outcome)]);
    assert_eq!((count("accepted"), count("duplicate")), (3.0, 3.0));
}
