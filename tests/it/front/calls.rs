//! One call in every protocol.

use super::{Answer, JSON, JSON_STREAM, SERVICE, call, envelopes, json_stream, post, url};
use crate::harness::{
    CASE, StackBuilder, WaitFor, document,
    http2::{Http2, frame, http2_request, raw_frame},
    register_request, within,
};
use async_compression::tokio::write::GzipEncoder;
use base64::{Engine, engine::general_purpose::STANDARD};
use prost::Message;
use registrar::api::proto::{
    RegisterDocumentRequest, RegisterDocumentResponse, Registration, State, WatchRegistrationRequest,
    WatchRegistrationResponse,
};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tonic_types::pb::ErrorInfo;

fn request() -> RegisterDocumentRequest {
    register_request(1, CASE, WaitFor::Confirmed)
}

fn registration(message: &[u8]) -> Registration {
    RegisterDocumentResponse::decode(message).unwrap().registration.unwrap()
}

/// The only message of a gRPC-Web answer, whose trailers say that it succeeded.
fn grpc_web_message(body: &[u8]) -> Vec<u8> {
    let [(0, message), (0x80, trailers)] = &envelopes(body)[..] else { panic!("{body:?}") };
    let trailers = String::from_utf8(trailers.to_vec()).unwrap();
    assert!(trailers.contains("grpc-status:0"), "{trailers}");
    message.to_vec()
}

#[tokio::test]
async fn a_document_is_registered_once_whatever_the_protocol() {
    let stack = StackBuilder::on_demand().start().await;
    let server = stack.service.grpc;
    let answer = call(server, "RegisterDocument", &json!({ "documentHash": document(1), "caseId": CASE })).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{answer:?}");
    let first = &answer.json()["registration"];
    assert_eq!((&first["state"], &first["documentHash"]), (&json!("STATE_CONFIRMED"), &json!(document(1))), "{first}");
    assert_eq!(answer.header("x-trace-id"), first["traceId"].as_str());
    assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("grpc-")), "{answer:?}");
    let id = first["id"].as_str().unwrap();

    let binary = post(server, "RegisterDocument", &[("content-type", "application/proto")], request().encode_to_vec());
    let binary = binary.await;
    assert_eq!((binary.status, binary.header("content-type")), (200, Some("application/proto")), "{binary:?}");
    assert_eq!((registration(&binary.body).id.as_str(), registration(&binary.body).state()), (id, State::Confirmed));

    for content_type in ["application/grpc-web", "application/grpc-web+proto; charset=utf-8", "Application/gRPC-Web"] {
        let web = post(server, "RegisterDocument", &[("content-type", content_type)], frame(&request())).await;
        assert_eq!(web.header("content-type"), Some("application/grpc-web+proto"), "{web:?}");
        assert_eq!(registration(&grpc_web_message(&web.body)).id, id);
    }
    let text = ("content-type", "application/grpc-web-text");
    let headers = [text, ("accept", "application/grpc-web-text")];
    let web = post(server, "RegisterDocument", &headers, STANDARD.encode(frame(&request()))).await;
    // Each part of the answer is encoded by itself.
    let body: Vec<u8> = web.body.chunks(4).flat_map(|quad| STANDARD.decode(quad).unwrap()).collect();
    assert_eq!(registration(&grpc_web_message(&body)).id, id);

    // The same over HTTP/2.
    let mut http2 = Http2::connect(server).await;
    let path = format!("{SERVICE}RegisterDocument");
    let sent = http2.send(http2_request("POST", &path, &[JSON])).await.unwrap();
    let json = sent.finish(json!({ "documentHash": document(1), "caseId": CASE }).to_string().into()).await;
    assert_eq!((json.http, json.has_trace_id), (200, true), "{json:?}");
    let seen: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
    assert_eq!(seen["registration"]["id"], id);
    stack.registry.assert_registered_exactly([(document(1), CASE.to_owned())]).await;
}

#[tokio::test]
async fn a_stream_has_its_messages_and_an_end_in_every_protocol() {
    let stack = StackBuilder::on_demand().start().await;
    let server = stack.service.grpc;
    let id = stack.client.confirm(1, CASE).await.id;
    let watch = WatchRegistrationRequest { id: id.clone(), ..Default::default() };

    let json = raw_frame(0, json!({ "id": id }).to_string().as_bytes());
    let answer = post(server, "WatchRegistration", &[JSON_STREAM], json).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/connect+json")), "{answer:?}");
    assert_eq!(answer.header("x-trace-id").map(str::len), Some(32));
    let (messages, end) = json_stream(&answer.body);
    assert_eq!(messages.last().unwrap()["registration"]["state"], "STATE_CONFIRMED");
    assert_eq!(end, json!({}));

    let answer = post(server, "WatchRegistration", &[("content-type", "application/connect+proto")], frame(&watch));
    let answer = answer.await;
    let [(0, message), (2, end)] = &envelopes(&answer.body)[..] else { panic!("{answer:?}") };
    let state = WatchRegistrationResponse::decode(message.clone()).unwrap().registration.unwrap().state();
    assert_eq!((state, &end[..]), (State::Confirmed, &b"{}"[..]));

    let web = post(server, "WatchRegistration", &[("content-type", "application/grpc-web")], frame(&watch)).await;
    let message = WatchRegistrationResponse::decode(&*grpc_web_message(&web.body)).unwrap();
    assert_eq!(message.registration.unwrap().id, id);

    // Health has messages of its own.
    let health = super::http_client().post(format!("http://{server}/grpc.health.v1.Health/Check"));
    let health = Answer::of(health.header(JSON.0, JSON.1).body("{}")).await;
    assert_eq!(health.json(), json!({ "status": "SERVING" }));
}

#[tokio::test]
async fn an_error_has_the_same_reason_and_details_as_over_grpc() {
    let stack = StackBuilder::on_demand().start().await;
    let server = stack.service.grpc;
    let message = json!({ "documentHash": "0x12", "caseId": "not a case" });
    let answer = call(server, "RegisterDocument", &message).await;
    assert_eq!(answer.error(), (400, "invalid_argument".to_owned(), "INVALID_FIELD"));
    let error = answer.json();
    let detail =
        |name: &str| error["details"].as_array().unwrap().iter().find(|detail| detail["type"] == name).unwrap();
    let fields = detail("google.rpc.BadRequest")["debug"]["fieldViolations"].as_array().unwrap();
    let mut fields: Vec<_> = fields.iter().map(|violation| violation["field"].as_str().unwrap()).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["case_id", "document_hash"]);
    let info = detail("google.rpc.ErrorInfo");
    assert_eq!(info["debug"]["reason"], "INVALID_FIELD");
    let value = info["value"].as_str().unwrap();
    assert!(!value.ends_with('='), "{value}");
    let value = base64::engine::general_purpose::STANDARD_NO_PAD.decode(value).unwrap();
    assert_eq!(ErrorInfo::decode(&*value).unwrap().domain, "registrar.v1");

    // Errors are JSON for clients that send protobuf too, and in the last envelope of a stream.
    let unknown = json!({ "id": "0192e4a0-0000-7000-8000-000000000000" });
    let answer = post(server, "GetRegistration", &[("content-type", "application/proto")], Vec::new()).await;
    assert_eq!(answer.error(), (400, "invalid_argument".to_owned(), "INVALID_FIELD"));
    let answer = call(server, "GetRegistration", &unknown).await;
    assert_eq!(answer.error(), (404, "not_found".to_owned(), "REGISTRATION_NOT_FOUND"));
    let body = raw_frame(0, unknown.to_string().as_bytes());
    let answer = post(server, "WatchRegistration", &[JSON_STREAM], body).await;
    let (messages, end) = json_stream(&answer.body);
    assert_eq!((answer.status, messages.len()), (200, 0));
    assert_eq!(end["error"]["code"], "not_found", "{end}");
    assert_eq!(end["metadata"]["x-error-reason"], json!(["REGISTRATION_NOT_FOUND"]), "{end}");
    assert_eq!(answer.header("x-error-reason"), Some("REGISTRATION_NOT_FOUND"));
    assert_eq!(end["metadata"]["x-trace-id"][0].as_str(), answer.header("x-trace-id"));
    let web = post(server, "GetRegistration", &[("content-type", "application/grpc-web")], raw_frame(0, b"")).await;
    assert_eq!(
        (web.status, web.header("grpc-status"), web.header("x-error-reason")),
        (200, Some("3"), Some("INVALID_FIELD"))
    );
}

#[tokio::test]
async fn the_deadline_of_a_caller_ends_its_wait_with_the_accepted_work() {
    let stack = StackBuilder::on_demand().start().await;
    stack.anvil.stop_mining().await;
    let message = json!({ "documentHash": document(1), "caseId": CASE }).to_string();
    let answer =
        post(stack.service.grpc, "RegisterDocument", &[JSON, ("connect-timeout-ms", "1500")], message.clone()).await;
    assert_eq!(answer.error(), (504, "deadline_exceeded".to_owned(), "WAIT_TIMEOUT"), "{answer:?}");
    let id = stack.client.get_pair(&document(1), CASE).await.unwrap().id;
    assert_eq!(answer.header("x-registration-id"), Some(id.as_str()));
    let details = answer.json()["details"].clone();
    let detail = details.as_array().unwrap().iter().find(|detail| {
        detail["type"] == "registrar.v1.RegistrationErrorDetail" && detail["debug"]["registration"]["id"] == id.as_str()
    });
    assert!(detail.is_some(), "{details}");

    for timeout in ["soon", "-1", "12345678901", "1.5"] {
        let headers = [JSON, ("connect-timeout-ms", timeout)];
        let answer = post(stack.service.grpc, "RegisterDocument", &headers, message.clone()).await;
        assert_eq!(answer.error(), (400, "invalid_argument".to_owned(), "MALFORMED_REQUEST"), "{timeout}");
    }
}

#[tokio::test]
async fn a_compressed_request_is_read() {
    let stack = StackBuilder::on_demand().start().await;
    let message = json!({ "documentHash": document(1), "caseId": CASE, "waitFor": "WAIT_FOR_ACCEPTED" });
    let mut encoder = GzipEncoder::new(Vec::new());
    encoder.write_all(message.to_string().as_bytes()).await.unwrap();
    encoder.shutdown().await.unwrap();
    let headers = [JSON, ("content-encoding", "gzip")];
    let answer = post(stack.service.grpc, "RegisterDocument", &headers, encoder.into_inner()).await;
    let id = answer.json()["registration"]["id"].as_str().unwrap().to_owned();

    let mut encoder = GzipEncoder::new(Vec::new());
    encoder.write_all(json!({ "id": id }).to_string().as_bytes()).await.unwrap();
    encoder.shutdown().await.unwrap();
    let headers = [JSON_STREAM, ("connect-content-encoding", "gzip")];
    let body = raw_frame(1, &encoder.into_inner());
    let answer = post(stack.service.grpc, "WatchRegistration", &headers, body).await;
    assert_eq!(json_stream(&answer.body).1, json!({}), "{answer:?}");
}

#[tokio::test]
async fn a_trace_is_continued_and_the_call_is_measured_as_over_grpc() {
    let stack = StackBuilder::on_demand().start().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traceparent = format!("00-{trace}-00f067aa0ba902b7-01");
    let message = json!({ "documentHash": document(1), "caseId": CASE, "userId": "user-1" }).to_string();
    let headers = [JSON, ("traceparent", traceparent.as_str())];
    let answer = post(stack.service.grpc, "RegisterDocument", &headers, message).await;
    assert_eq!(answer.header("x-trace-id"), Some(trace));
    assert_eq!(answer.json()["registration"]["traceId"], trace);
    call(stack.service.grpc, "RegisterDocument", &json!({})).await;
    let metrics = stack.service.metrics().await;
    let calls = |code| {
        let labels = [("method", "/registrar.v1.RegistrarService/RegisterDocument"), ("code", code)];
        metrics.value("registrar_grpc_request_duration_seconds_count", &labels)
    };
    assert_eq!((calls("ok"), calls("invalid_argument")), (1.0, 1.0));
}

#[tokio::test]
async fn a_connection_serves_one_call_after_the_other_also_after_errors() {
    let stack = StackBuilder::on_demand().start().await;
    let http = super::http_client();
    for _ in 0..3 {
        for (method, body, status) in [
            ("GetServiceInfo", "{}", 200),
            ("GetServiceInfo", "{", 400),
            ("Unknown", "{}", 404),
            ("ListRegistrations", "{}", 200),
        ] {
            let request = http.post(url(stack.service.grpc, method)).header(JSON.0, JSON.1).body(body);
            assert_eq!(Answer::of(request).await.status, status, "{method} {body}");
        }
    }
    let connections = stack.service.metrics().await.value("registrar_connections", &[("port", "grpc")]);
    // One of this client, and one of gRPC.
    assert_eq!(connections, 2.0);
    within("a gRPC call", stack.client.info()).await;
}
