//! Requests that cannot be served: each gets its error, with a trace id, and changes nothing.

use super::{Answer, JSON, JSON_STREAM, SERVICE, call, json_stream, post, url};
use crate::harness::{CASE, StackBuilder, document, http2::raw_frame, rpc::http_client, within};
use async_compression::tokio::write::GzipEncoder;
use registrar::api::proto::ListRegistrationsRequest;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test]
async fn json_that_is_not_the_request_is_refused_by_name_and_position() {
    let stack = StackBuilder::on_demand().start().await;
    let valid = json!({ "documentHash": document(1), "caseId": CASE, "waitFor": "WAIT_FOR_ACCEPTED" });
    let with = |name: &str, value: Value| {
        let mut message = valid.clone();
        message[name] = value;
        message.to_string()
    };
    for (body, says) in [
        (String::new(), "its body is empty"),
        ("{".to_owned(), "EOF"),
        ("[]".to_owned(), "map"),
        ("null".to_owned(), "null"),
        ("\"text\"".to_owned(), "text"),
        (format!("{valid}{valid}"), "trailing characters"),
        (with("documenthash", json!("x")), "documenthash"),
        (with("waitFor", json!("WAIT_FOR_EVER")), "WAIT_FOR_EVER"),
        (with("waitTimeout", json!("soon")), "line 1"),
        (with("waitTimeout", json!(5)), "line 1"),
        (with("caseId", json!(5)), "5"),
        (with("caseId", json!(["a"])), "sequence"),
        ("\u{feff}{}".to_owned(), "line 1 column 1"),
    ] {
        let answer = post(stack.service.grpc, "RegisterDocument", &[JSON], body.clone()).await;
        assert_eq!(answer.error(), (400, "invalid_argument".to_owned(), "MALFORMED_REQUEST"), "{body}: {answer:?}");
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(says), "{body}: {message}");
    }
    for body in [&b"\xff\xfe{}"[..], b"{\"caseId\":\"\xc3\x28\"}", &[b'['; 20_000]] {
        let answer = post(stack.service.grpc, "RegisterDocument", &[JSON], body.to_vec()).await;
        assert_eq!(answer.error(), (400, "invalid_argument".to_owned(), "MALFORMED_REQUEST"), "{answer:?}");
    }
    let listed = stack.client.list(ListRegistrationsRequest::default()).await.unwrap();
    assert_eq!(listed.registrations, []);
}

/// <https://protobuf.dev/programming-guides/json/>
#[tokio::test]
async fn json_is_read_as_proto3_says() {
    let stack = StackBuilder::on_demand().start().await;
    let id = stack.client.confirm(1, CASE).await.id;
    for body in [
        json!({ "pageSize": 1 }),
        json!({ "pageSize": "1" }),
        json!({ "page_size": 1.0 }),
        json!({ "pageSize": 1, "caseId": null, "states": ["STATE_CONFIRMED"] }),
        json!({ "states": [4, "STATE_FAILED"] }),
    ] {
        let answer = call(stack.service.grpc, "ListRegistrations", &body).await;
        assert_eq!((answer.status, &answer.json()["registrations"][0]["id"]), (200, &json!(id)), "{body}: {answer:?}");
    }
    for body in [json!({ "pageSize": 1.5 }), json!({ "pageSize": "one" }), json!({ "pageSize": 4_294_967_296_u64 })] {
        let answer = call(stack.service.grpc, "ListRegistrations", &body).await;
        assert_eq!(answer.error(), (400, "invalid_argument".to_owned(), "MALFORMED_REQUEST"), "{body}");
    }
    let registration = &call(stack.service.grpc, "GetRegistration", &json!({ "id": id })).await.json()["registration"];
    // 64-bit numbers are strings, times RFC 3339.
    assert!(registration["revision"].is_string() && registration["transaction"]["blockNumber"].is_string());
    assert!(registration["createTime"].as_str().unwrap().ends_with('Z'), "{registration}");
}

#[tokio::test]
async fn a_request_that_is_no_call_gets_the_status_of_http_and_what_to_do() {
    let stack = StackBuilder::on_demand().start().await;
    let (info, watch) = ("GetServiceInfo", "WatchRegistration");
    for (method, path, content_type, status, code, says) in [
        (Method::GET, info, "", 405, "unknown", "use POST"),
        (Method::GET, info, "application/json", 405, "unknown", "use POST"),
        (Method::DELETE, info, "application/proto", 405, "unknown", "use POST"),
        (Method::OPTIONS, info, "", 405, "unknown", "use POST"),
        (Method::POST, info, "", 415, "unknown", "application/json"),
        (Method::POST, info, "image/jpeg", 415, "unknown", "application/json"),
        (Method::POST, info, "text/plain", 415, "unknown", "application/json"),
        (Method::POST, info, "application/x-www-form-urlencoded", 415, "unknown", "application/json"),
        (Method::POST, info, "application/jsonp", 415, "unknown", "application/json"),
        (Method::POST, info, "application/grpc-web+json", 415, "unknown", "application/grpc-web"),
        (Method::POST, info, "application/connect+json", 415, "unknown", "application/json"),
        (Method::POST, watch, "application/json", 415, "unknown", "application/connect+json"),
        (Method::POST, watch, "application/proto", 415, "unknown", "application/connect+proto"),
        (Method::POST, info, "application/grpc", 505, "unknown", "Connect"),
        (Method::POST, "Unknown", "application/json", 404, "unimplemented", "no such method"),
        (Method::GET, "Unknown", "", 404, "unimplemented", "no such method"),
    ] {
        let mut request = http_client().request(method.clone(), url(stack.service.grpc, path)).body("{}");
        if !content_type.is_empty() {
            request = request.header("content-type", content_type);
        }
        let answer = Answer::of(request).await;
        let name = format!("{method} {path} {content_type}: {answer:?}");
        let (seen, seen_code, reason) = answer.error();
        assert_eq!((seen, seen_code.as_str()), (status, code), "{name}");
        assert_eq!(reason, if status == 404 { "" } else { "MALFORMED_REQUEST" }, "{name}");
        assert!(answer.json()["message"].as_str().unwrap().contains(says), "{name}");
        assert_eq!(answer.header("allow"), (status == 405).then_some("POST"), "{name}");
        assert_eq!(answer.header("accept-post").is_some(), status == 415, "{name}");
    }
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let request = http_client().post(format!("http://{}{reflection}", stack.service.grpc));
    let answer = Answer::of(request.header(JSON.0, JSON.1).body("{}")).await;
    assert_eq!(answer.error().0, 415);
}

#[tokio::test]
async fn headers_of_the_protocol_are_checked() {
    let stack = StackBuilder::on_demand().start().await;
    let server = stack.service.grpc;
    for (headers, status, reason) in [
        (&[][..], 200, None),
        (&[("connect-protocol-version", "1")], 200, None),
        (&[("connect-protocol-version", "2")], 400, Some("MALFORMED_REQUEST")),
        (&[("connect-protocol-version", "")], 400, Some("MALFORMED_REQUEST")),
        (&[("content-encoding", "identity")], 200, None),
        (&[("content-encoding", "br")], 501, None),
        (&[("content-encoding", "gzip")], 400, Some("MALFORMED_REQUEST")),
        // They have a meaning in gRPC alone.
        (&[("grpc-encoding", "br"), ("grpc-timeout", "1n"), ("grpc-accept-encoding", "gzip")], 200, None),
    ] {
        let headers: Vec<_> = [JSON].iter().chain(headers).copied().collect();
        let answer = post(server, "GetServiceInfo", &headers, "{}").await;
        assert_eq!((answer.status, answer.header("x-error-reason")), (status, reason), "{headers:?}: {answer:?}");
    }
}

#[tokio::test]
async fn messages_that_are_cut_off_or_too_large_are_refused() {
    let stack = StackBuilder::on_demand().start().await;
    let server = stack.service.grpc;
    let message = json!({ "id": "x" }).to_string();
    let whole = raw_frame(0, message.as_bytes());
    let two = [&whole[..], &whole[..]].concat();
    let mut encoder = GzipEncoder::new(Vec::new());
    encoder.write_all(&vec![b' '; 10 * 1024 * 1024]).await.unwrap();
    encoder.shutdown().await.unwrap();
    let bomb = encoder.into_inner();
    let (malformed, too_large) = ("MALFORMED_REQUEST", "MESSAGE_TOO_LARGE");
    for (name, headers, body, reason) in [
        ("nothing", &[][..], Vec::new(), malformed),
        ("a part of the header", &[], whole[..3].to_vec(), malformed),
        ("a part of the message", &[], whole[..8].to_vec(), malformed),
        ("two messages", &[], two, malformed),
        ("JSON without an envelope", &[], message.clone().into(), malformed),
        ("a compressed message", &[], raw_frame(1, b"abc").to_vec(), malformed),
        ("not gzip", &[("connect-content-encoding", "gzip")], raw_frame(1, b"abc").to_vec(), malformed),
        ("a gzip bomb", &[("connect-content-encoding", "gzip")], raw_frame(1, &bomb).to_vec(), too_large),
        ("the end of a stream", &[], raw_frame(2, b"{}").to_vec(), malformed),
        ("a large length", &[], b"\0\xff\xff\xff\xff".to_vec(), too_large),
    ] {
        let headers: Vec<_> = [JSON_STREAM].iter().chain(headers).copied().collect();
        let answer = post(server, "WatchRegistration", &headers, body).await;
        let (messages, end) = json_stream(&answer.body);
        assert_eq!(
            (answer.status, messages.len(), &end["metadata"]["x-error-reason"][0]),
            (200, 0, &json!(reason)),
            "{name}: {end}"
        );
        assert_eq!(answer.header("x-trace-id").map(str::len), Some(32), "{name}");
    }
    // Of two messages at once, and of what follows until the client sees its error.
    for size in [64 * 1024 + 1, 900 * 1024] {
        let large = json!({ "id": "x".repeat(size) }).to_string();
        let answer = post(server, "GetRegistration", &[JSON], large).await;
        assert_eq!(answer.error(), (400, "out_of_range".to_owned(), too_large), "{size}");
    }
    let answer = post(server, "GetRegistration", &[JSON, ("content-encoding", "gzip")], bomb).await;
    assert_eq!(answer.error(), (400, "out_of_range".to_owned(), too_large));
    let answer = post(server, "GetRegistration", &[("content-type", "application/proto")], b"\xff\xff".to_vec()).await;
    assert_eq!(answer.error(), (400, "invalid_argument".to_owned(), malformed));
    let text = [("content-type", "application/grpc-web-text")];
    let answer = post(server, "GetRegistration", &text, "this is not base64").await;
    assert_eq!((answer.header("grpc-status"), answer.header("x-error-reason")), (Some("3"), Some(malformed)));
}

#[tokio::test]
async fn a_client_that_stops_in_the_middle_of_its_message_is_answered_in_time() {
    let stack = StackBuilder::on_demand().start().await;
    let mut stream = TcpStream::connect(stack.service.grpc).await.unwrap();
    let head = format!(
        "POST {SERVICE}RegisterDocument HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("not complete after 10 s"), "{answer}");
    let listed = stack.client.list(ListRegistrationsRequest::default()).await.unwrap();
    assert_eq!(listed.registrations, []);
}
