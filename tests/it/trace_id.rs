//! One trace id in the call, the registration and the log.

use crate::harness::{
    CASE, StackBuilder, WaitFor,
    client::{Traced, with_traceparent},
    document, register_request,
};
use tonic::Request;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const OTHER: &str = "0af7651916cd43dd8448eb211c80319c";

fn traceparent(trace: &str) -> String {
    format!("00-{trace}-00f067aa0ba902b7-01")
}

#[tokio::test]
async fn a_call_without_trace_headers_gets_a_new_trace_id_that_its_registration_keeps() {
    let stack = StackBuilder::on_demand().start().await;

    let Traced { message, trace_id } =
        stack.client.register_traced(register_request(1, CASE, WaitFor::Confirmed)).await.unwrap();
    let other = stack.client.register_traced(register_request(2, CASE, WaitFor::Confirmed)).await.unwrap();

    assert_eq!(message.trace_id, trace_id);
    assert_eq!(other.message.trace_id, other.trace_id);
    assert_ne!(trace_id, other.trace_id);
}

#[tokio::test]
async fn a_callers_trace_id_is_kept_by_the_registration() {
    let stack = StackBuilder::on_demand().start().await;
    let request = with_traceparent(register_request(1, CASE, WaitFor::Confirmed), &traceparent(TRACE));

    let answer = stack.client.register_traced(request).await.unwrap();

    assert_eq!((answer.trace_id.as_str(), answer.message.trace_id.as_str()), (TRACE, TRACE));
}

#[tokio::test]
async fn a_repeated_request_has_its_own_trace_id_and_returns_the_registrations() {
    let stack = StackBuilder::on_demand().start().await;
    let first = with_traceparent(register_request(1, CASE, WaitFor::Confirmed), &traceparent(TRACE));
    stack.client.register(first).await.unwrap();

    let again = with_traceparent(register_request(1, CASE, WaitFor::Confirmed), &traceparent(OTHER));
    let again = stack.client.register_traced(again).await.unwrap();

    assert_eq!((again.trace_id.as_str(), again.message.trace_id.as_str()), (OTHER, TRACE));
}

#[tokio::test]
async fn an_error_carries_the_callers_trace_id() {
    let stack = StackBuilder::on_demand().start().await;

    let request = with_traceparent(register_request(1, "no case", WaitFor::Accepted), &traceparent(TRACE));

    assert_eq!(stack.client.register(request).await.unwrap_err().trace_id, TRACE);
}

#[tokio::test]
async fn invalid_trace_headers_are_replaced_and_never_rejected() {
    let stack = StackBuilder::on_demand().start().await;
    let too_long = format!("{}-{}", traceparent(TRACE), "x".repeat(6_000));
    for (number, header) in [
        "",
        "nonsense",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6-00f067aa0ba902b7-01",
        "00-ZZf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        &too_long,
    ]
    .into_iter()
    .enumerate()
    {
        let request = with_traceparent(register_request(number as u64, CASE, WaitFor::Accepted), header);
        let answer = stack.client.register_traced(request).await.unwrap();
        assert_eq!(answer.message.trace_id, answer.trace_id, "{header}");
        assert!(answer.trace_id != TRACE, "{header}");
    }
}

#[tokio::test]
async fn long_baggage_and_tracestate_are_accepted() {
    let stack = StackBuilder::on_demand().start().await;
    let mut request: Request<_> = with_traceparent(register_request(1, CASE, WaitFor::Confirmed), &traceparent(TRACE));
    let baggage = (0..500).map(|n| format!("key{n}=value{n}")).collect::<Vec<_>>().join(",");
    request.metadata_mut().insert("baggage", baggage.parse().unwrap());
    request.metadata_mut().insert("tracestate", "vendor=value".parse().unwrap());

    assert_eq!(stack.client.register(request).await.unwrap().trace_id, TRACE);
}

#[tokio::test]
async fn the_log_of_a_registration_is_found_by_its_trace_id() {
    let mut stack = StackBuilder::on_demand().set("RUST_LOG", "registrar=debug").start().await;

    let registration = stack.client.confirm(1, CASE).await;

    let line =
        stack.service.wait_for_log("a line with the trace id", |line| line["trace_id"] == registration.trace_id).await;
    for field in ["time", "level", "message", "target"] {
        assert!(line[field].as_str().is_some_and(|text| !text.is_empty()), "{field} in {line}");
    }
}

#[tokio::test]
async fn trace_ids_work_without_spans() {
    let stack = StackBuilder::on_demand().set("TRACING_ENABLED", "false").start().await;
    let request = with_traceparent(register_request(1, CASE, WaitFor::Confirmed), &traceparent(TRACE));

    let answer = stack.client.register_traced(request).await.unwrap();

    assert_eq!((answer.trace_id.as_str(), answer.message.trace_id.as_str()), (TRACE, TRACE));
    assert_eq!(stack.client.get_pair(&document(1), CASE).await.unwrap().trace_id, TRACE);
}
