//! Credentials, TLS and shares over the other protocols.

use super::{Answer, JSON, SERVICE, post, url};
use crate::{
    auth::caller,
    harness::{
        CASE, Client, StackBuilder, TestStack, WaitFor, document, eventually, register_request, rpc::http_client,
        within,
    },
};
use futures_util::future::join_all;
use registrar::api::proto::ListRegistrationsRequest;
use serde_json::json;
use std::{fs, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const TOKEN: &str = "rgs_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const MIB: f64 = 1024.0 * 1024.0;

#[tokio::test]
async fn credentials_are_needed_in_every_protocol() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("callers.toml");
    fs::write(&file, caller("registers", TOKEN, r#""register""#, "case_prefixes = [\"A-\"]")).unwrap();
    let builder = StackBuilder::on_demand().set("REGISTRAR_AUTH", "enforce");
    let stack = builder.set("REGISTRAR_CALLERS_FILE", file.display()).start().await;
    let server = stack.service.grpc;
    let body =
        |case: &str| json!({ "documentHash": document(1), "caseId": case, "waitFor": "WAIT_FOR_ACCEPTED" }).to_string();
    let with = |token: &str| format!("Bearer {token}");

    // With a message larger than what is buffered, which is not read.
    for body in [body("A-1"), "x".repeat(300 * 1024)] {
        let answer = post(server, "RegisterDocument", &[JSON], body.clone()).await;
        assert_eq!(answer.error(), (401, "unauthenticated".to_owned(), "CREDENTIALS_MISSING"));
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        let wrong = with(&TOKEN.replace('A', "B"));
        let answer = post(server, "RegisterDocument", &[JSON, ("authorization", &wrong)], body).await;
        assert_eq!(answer.error(), (401, "unauthenticated".to_owned(), "CREDENTIALS_INVALID"));
    }
    let token = with(TOKEN);
    let authorized = [JSON, ("authorization", token.as_str())];
    assert_eq!(post(server, "RegisterDocument", &authorized, body("A-1")).await.status, 200);
    let answer = post(server, "RegisterDocument", &authorized, body("B-1")).await;
    assert_eq!(answer.error(), (403, "permission_denied".to_owned(), "CASE_NOT_ALLOWED"));
    let answer = post(server, "ListRegistrations", &authorized, "{}").await;
    assert_eq!(answer.error(), (403, "permission_denied".to_owned(), "SCOPE_MISSING"));
    let web = [("content-type", "application/grpc-web"), ("authorization", token.as_str())];
    let answer = post(server, "ListRegistrations", &web, vec![0; 5]).await;
    assert_eq!((answer.header("grpc-status"), answer.header("x-error-reason")), (Some("7"), Some("SCOPE_MISSING")));
    let health = http_client().post(format!("http://{server}/grpc.health.v1.Health/Check"));
    assert_eq!(Answer::of(health.header(JSON.0, JSON.1).body("{}")).await.status, 200);
}

async fn resident(stack: &TestStack) -> f64 {
    stack.service.metrics().await.value("process_resident_memory_bytes", &[]) / MIB
}

#[tokio::test]
async fn readers_that_never_read_use_little_memory_and_leave_lists_to_others() {
    let stack = StackBuilder::block_time(0.5).start().await;
    let accepted = (0..500).map(|number| stack.client.register(register_request(number, CASE, WaitFor::Accepted)));
    for answer in join_all(accepted).await {
        answer.unwrap();
    }
    let body = r#"{"pageSize":500}"#;
    let page = post(stack.service.grpc, "ListRegistrations", &[JSON], body).await;
    assert_eq!(page.json()["registrations"].as_array().unwrap().len(), 500);
    let before = resident(&stack).await;
    let mut attackers = Vec::new();
    for _ in 0..10 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(stack.service.grpc).await.unwrap();
        let head = format!(
            "POST {SERVICE}ListRegistrations HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        // A few pages fit into the buffers of the kernel (4 MiB), all of them do not.
        stream.write_all(head.repeat(14).as_bytes()).await.unwrap();
        let mut begin = [0; 12];
        within("the begin of an answer", stream.read_exact(&mut begin)).await.unwrap();
        attackers.push((stream, begin));
    }
    let after = resident(&stack).await;
    assert!(after - before < 60.0, "{before} MiB -> {after} MiB");
    let other = Client::connect(stack.service.grpc).await;
    let request = ListRegistrationsRequest { page_size: 500, ..Default::default() };
    let page = eventually("a page", async || other.list(request.clone()).await.ok()).await;
    assert_eq!(page.registrations.len(), 500);
    // 30 s after the last byte that they took.
    let stalled = async {
        let labels = [("port", "grpc"), ("reason", "stalled")];
        while stack.service.metrics().await.value("registrar_connections_closed_total", &labels) < 8.0 {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(150), stalled).await;
    assert!(ended.is_ok(), "connections whose clients take nothing are open");
}

#[tokio::test]
async fn unfinished_messages_of_many_connections_use_few_places() {
    let stack = StackBuilder::on_demand().start().await;
    let before = resident(&stack).await;
    let mut attackers = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(stack.service.grpc).await.unwrap();
        let part = "x".repeat(50_000);
        let head = format!(
            "POST {SERVICE}RegisterDocument HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
             Content-Length: 60000\r\n\r\n{part}"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        attackers.push(stream);
    }
    let mut refused = 0;
    for stream in &mut attackers {
        let mut answer = vec![0; 2048];
        let length = within("an answer", stream.read(&mut answer)).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..length]);
        refused += usize::from(answer.contains("TOO_MANY_CALLS"));
        assert!(answer.contains("TOO_MANY_CALLS") || answer.contains("MALFORMED_REQUEST"), "{answer}");
    }
    assert!(refused >= 200 - 64, "{refused} of 200 were refused");
    let after = resident(&stack).await;
    assert!(after - before < 30.0, "{before} MiB -> {after} MiB");
    let request = http_client().post(url(stack.service.grpc, "GetServiceInfo")).header(JSON.0, JSON.1).body("{}");
    assert_eq!(Answer::of(request).await.status, 200);
}
