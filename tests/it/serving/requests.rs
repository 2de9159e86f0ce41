//! Requests that are no valid calls are their caller's errors.

use crate::harness::{
    CASE, Client, StackBuilder, WaitFor, document,
    http2::{Http2, frame, http2_request, raw_frame},
    register_request, within,
};
use async_compression::tokio::write::GzipEncoder;
use bytes::Bytes;
use registrar::api::proto::{ListRegistrationsRequest, VerifyDocumentRequest};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::{Code, codec::CompressionEncoding::Gzip};

const SERVICE: &str = "/registrar.v1.RegistrarService/";
const METHODS: [&str; 10] = [
    "/registrar.v1.RegistrarService/RegisterDocument",
    "/registrar.v1.RegistrarService/RegisterDocuments",
    "/registrar.v1.RegistrarService/GetRegistration",
    "/registrar.v1.RegistrarService/ListRegistrations",
    "/registrar.v1.RegistrarService/WatchRegistration",
    "/registrar.v1.RegistrarService/DiagnoseRegistration",
    "/registrar.v1.RegistrarService/VerifyDocument",
    "/registrar.v1.RegistrarService/GetServiceInfo",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
];
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const INVALID_ARGUMENT: Option<i32> = Some(3);
const OUT_OF_RANGE: Option<i32> = Some(11);
const UNIMPLEMENTED: Option<i32> = Some(12);

async fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzipEncoder::new(Vec::new());
    encoder.write_all(data).await.unwrap();
    encoder.shutdown().await.unwrap();
    encoder.into_inner()
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_the_callers_error_in_every_method() {
    let stack = StackBuilder::on_demand().start().await;
    let valid = frame(&VerifyDocumentRequest { document_hash: document(1), case_id: CASE.into() });
    let bomb = gzip(&vec![0; 10 * 1024 * 1024]).await;
    let bodies: [(&str, &str, Bytes, Option<i32>, &str); 11] = [
        ("no message", "", Bytes::new(), INVALID_ARGUMENT, "MALFORMED_REQUEST"),
        ("junk", "", raw_frame(0, b"\xff\xff\xff"), INVALID_ARGUMENT, "MALFORMED_REQUEST"),
        ("an invalid UTF-8 string", "", raw_frame(0, b"\x0a\x02\xc3\x28"), INVALID_ARGUMENT, "MALFORMED_REQUEST"),
        ("JSON", "", Bytes::from_static(b"{\"documentHash\":\"0x\"}"), INVALID_ARGUMENT, "MALFORMED_REQUEST"),
        ("a cut-off header", "", valid.slice(..3), INVALID_ARGUMENT, "MALFORMED_REQUEST"),
        ("a cut-off message", "", valid.slice(..20), INVALID_ARGUMENT, "MALFORMED_REQUEST"),
        ("two messages", "", [&valid[..], &valid[..]].concat().into(), INVALID_ARGUMENT, "MALFORMED_REQUEST"),
        ("compressed without encoding", "", raw_frame(1, b"abc"), INVALID_ARGUMENT, "MALFORMED_REQUEST"),
        ("an unknown flag", "gzip", raw_frame(7, b"abc"), INVALID_ARGUMENT, "MALFORMED_REQUEST"),
        ("invalid gzip", "gzip", raw_frame(1, b"abc"), INVALID_ARGUMENT, "MALFORMED_REQUEST"),
        ("a gzip bomb", "gzip", raw_frame(1, &bomb), OUT_OF_RANGE, "MESSAGE_TOO_LARGE"),
    ];
    let mut http2 = Http2::connect(stack.service.grpc).await;
    for method in METHODS {
        for (name, encoding, body, code, reason) in &bodies {
            // A message of a request without fields may be anything that is protobuf.
            if method.ends_with("GetServiceInfo") && *name == "an invalid UTF-8 string" {
                continue;
            }
            let mut headers = vec![("content-type", "application/grpc"), ("te", "trailers")];
            if !encoding.is_empty() {
                headers.push(("grpc-encoding", encoding));
            }
            let call = http2.send(http2_request("POST", method, &headers)).await.unwrap();
            let answer = call.finish(body.clone()).await;
            let seen = (answer.http, answer.grpc, answer.reason.as_deref());
            assert_eq!(seen, (200, *code, Some(*reason)), "{name} to {method}: {answer:?}");
            assert!(answer.has_trace_id, "{answer:?}");
        }
    }
    let mut call = http2.call(REFLECTION).await.unwrap();
    call.body.send_data(raw_frame(0, b"\xff\xff\xff"), false).unwrap();
    let answer = call.answered().await;
    assert_eq!((answer.grpc, answer.reason.as_deref()), (INVALID_ARGUMENT, Some("MALFORMED_REQUEST")), "{answer:?}");

    // Neither the alert for errors of the service nor its log may see them.
    let metrics = stack.service.metrics().await;
    for code in ["internal", "unknown", "unavailable"] {
        let count = metrics.value("registrar_grpc_request_duration_seconds_count", &[("code", code)]);
        assert_eq!(count, 0.0, "{code}");
    }
    let levels = stack.service.log().into_iter().filter(|line| line["level"] == "ERROR" || line["level"] == "WARN");
    assert_eq!(levels.collect::<Vec<_>>(), Vec::<serde_json::Value>::new());
    stack.client.confirm(1, CASE).await;
}

#[tokio::test]
async fn what_is_no_call_gets_the_status_of_http() {
    let stack = StackBuilder::on_demand().start().await;
    let grpc = ("content-type", "application/grpc");
    let get_info = &format!("{SERVICE}GetServiceInfo");
    let mut http2 = Http2::connect(stack.service.grpc).await;
    for (method, path, headers, http, code) in [
        ("GET", get_info.as_str(), &[][..], 405, None),
        ("GET", get_info, &[grpc], 405, None),
        ("POST", get_info, &[("content-type", "text/plain")], 415, None),
        ("POST", get_info, &[("content-type", "application/json")], 400, None),
        ("POST", get_info, &[], 415, None),
        ("GET", "/", &[], 404, None),
        ("POST", "/unknown", &[("content-type", "text/plain")], 404, None),
        ("POST", "/registrar.v1.RegistrarService/Unknown", &[grpc], 200, UNIMPLEMENTED),
        ("POST", "/unknown.Service/Method", &[grpc], 200, UNIMPLEMENTED),
        ("POST", get_info, &[grpc, ("grpc-encoding", "br")], 200, UNIMPLEMENTED),
    ] {
        let call = http2.send(http2_request(method, path, headers)).await.unwrap();
        let answer = call.finish(raw_frame(0, b"")).await;
        assert_eq!((answer.http, answer.grpc), (http, code), "{method} {path} {headers:?}: {answer:?}");
    }
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "404"),
        (format!("GET {get_info} HTTP/1.1\r\nHost: a\r\n\r\n"), "405"),
        (format!("POST {get_info} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"), "415"),
    ] {
        let line = first_line(stack.service.grpc, &request).await;
        assert!(line.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {line}");
    }
    stack.client.info().await;
}

async fn first_line(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 256];
    let length = within("an answer", stream.read(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn the_admin_port_answers_only_to_addresses_and_local_names() {
    let stack = StackBuilder::on_demand().start().await;
    for (host, status) in [
        ("Host: 127.0.0.1:9464\r\n", "200"),
        ("Host: localhost\r\n", "200"),
        ("Host: [::1]:9464\r\n", "200"),
        ("Host: evil.example\r\n", "421"),
        ("Host: evil.example:9464\r\n", "421"),
        ("Host: localhost.evil.example\r\n", "421"),
        ("Host: localhost\r\nHost: evil.example\r\n", "400"),
    ] {
        for path in ["/metrics", "/readyz", "/nothing"] {
            let line = first_line(stack.service.admin, &format!("GET {path} HTTP/1.1\r\n{host}\r\n")).await;
            let expected = if path == "/nothing" && status == "200" { "404" } else { status };
            assert!(line.starts_with(&format!("HTTP/1.1 {expected}")), "{path} {host}: {line}");
        }
    }
    let absolute = "GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let line = first_line(stack.service.admin, absolute).await;
    assert!(line.starts_with("HTTP/1.1 421"), "{line}");
    let endless = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n", "x".repeat(64 * 1024));
    let line = first_line(stack.service.admin, &endless).await;
    assert!(line.starts_with("HTTP/1.1 431"), "{line}");
}

#[tokio::test]
async fn compressed_requests_are_accepted_and_answered_as_asked() {
    let stack = StackBuilder::on_demand().start().await;
    let mut stub = stack.client.stub().send_compressed(Gzip);
    let request = register_request(1, CASE, WaitFor::Confirmed);
    let plain = within("an answer", stub.register_document(request)).await.unwrap();
    assert_eq!(plain.metadata().get("grpc-encoding"), None);

    let mut stub = stack.client.stub().send_compressed(Gzip).accept_compressed(Gzip);
    let listed = within("an answer", stub.list_registrations(ListRegistrationsRequest::default())).await.unwrap();
    assert_eq!(listed.metadata().get("grpc-encoding").unwrap(), "gzip");
    assert_eq!(listed.into_inner().registrations[0].document_hash, document(1));
    let invalid = register_request(2, "not a case", WaitFor::Confirmed);
    let error = within("an answer", stub.register_document(invalid)).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn headers_that_are_too_large_end_their_call_alone() {
    let stack = StackBuilder::on_demand().start().await;
    let mut http2 = Http2::connect(stack.service.grpc).await;
    let path = format!("{SERVICE}GetServiceInfo");
    let large = "x".repeat(20 * 1024);
    let headers = [("content-type", "application/grpc"), ("baggage", large.as_str())];
    let refused = http2.send(http2_request("POST", &path, &headers)).await.unwrap();
    let status = within("an answer", refused.answer).await.map(|response| response.status().as_u16());
    assert!(!matches!(status, Ok(200)), "{status:?}");

    let answer = http2.call(&path).await.unwrap().finish(raw_frame(0, b"")).await;
    assert_eq!((answer.http, answer.grpc), (200, Some(0)), "{answer:?}");
    Client::connect(stack.service.grpc).await.info().await;
}
