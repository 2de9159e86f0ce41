//! Streams that end by themselves, by their connection, by their credentials or by the server.

use super::{JSON_STREAM, SERVICE, json_stream, url};
use crate::{
    auth::caller,
    harness::{
        CASE, Service, StackBuilder, State, WaitFor, certificates::Authority, document, eventually, http2::raw_frame,
        rpc::http_client, tls_client, within,
    },
};
use bytes::BytesMut;
use serde_json::{Value, json};
use std::{fs, net::SocketAddr};
use tokio::{io::AsyncWriteExt, net::TcpStream};

const TOKEN: &str = "rgs_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB";

/// An open stream over HTTP/1.1.
struct Watch {
    response: reqwest::Response,
    received: BytesMut,
}

impl Watch {
    async fn open(server: SocketAddr, id: &str) -> Self {
        let body = raw_frame(0, json!({ "id": id, "until": "WAIT_FOR_FINALIZED" }).to_string().as_bytes());
        let request = http_client().post(url(server, "WatchRegistration")).header(JSON_STREAM.0, JSON_STREAM.1);
        let request = request.header("authorization", format!("Bearer {TOKEN}")).body(body);
        let response = within("the head of the answer", request.send()).await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        let mut watch = Self { response, received: BytesMut::new() };
        while watch.received.is_empty() {
            watch.receive().await.expect("the first message");
        }
        watch
    }

    async fn receive(&mut self) -> Option<()> {
        let part = within("a part", self.response.chunk()).await.unwrap()?;
        self.received.extend_from_slice(&part);
        Some(())
    }

    /// The messages, and the end of the stream.
    async fn end(mut self) -> (Vec<Value>, Value) {
        while self.receive().await.is_some() {}
        json_stream(&self.received)
    }
}

fn assert_ended(end: &Value, code: &str, reason: &str) {
    assert_eq!((&end["error"]["code"], &end["metadata"]["x-error-reason"][0]), (&json!(code), &json!(reason)), "{end}");
    assert!(end["metadata"]["x-trace-id"][0].is_string(), "{end}");
}

#[tokio::test]
async fn each_state_arrives_when_it_is_reached() {
    let stack = StackBuilder::on_demand().start().await;
    stack.anvil.stop_mining().await;
    let id = stack.client.accept(1, CASE).await.id;
    let mut watch = Watch::open(stack.service.grpc, &id).await;
    stack.anvil.mine_on_demand().await;
    let arrived = |watch: &Watch| String::from_utf8_lossy(&watch.received).contains("STATE_CONFIRMED");
    while !arrived(&watch) {
        watch.receive().await.expect("the stream is open");
    }
    drop(watch);
    // Nothing is left of a reader that is gone.
    let open = async || {
        let metrics = stack.service.metrics().await;
        let labels = [("method", "/registrar.v1.RegistrarService/WatchRegistration"), ("code", "cancelled")];
        (metrics.value("registrar_grpc_request_duration_seconds_count", &labels) == 1.0).then_some(())
    };
    eventually("the end of the call", open).await;
}

#[tokio::test]
async fn a_stream_arrives_over_tls() {
    let (dependencies, settings) = StackBuilder::on_demand().prepare().await;
    let authority = Authority::new();
    let files = tempfile::tempdir().unwrap();
    let [certificate, key] = authority.sign("127.0.0.1").write(files.path(), "server");
    let settings = settings.set("REGISTRAR_TLS_CERT_FILE", certificate.display());
    let service = Service::start(&settings.set("REGISTRAR_TLS_KEY_FILE", key.display())).await;
    let id = tls_client::connect(service.grpc, &authority, None).await.confirm(1, CASE).await.id;
    // Installs what reqwest uses for TLS.
    http_client();
    let root = reqwest::Certificate::from_pem(authority.certificate.as_bytes()).unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([root]).build().unwrap();
    let body = raw_frame(0, json!({ "id": id }).to_string().as_bytes());
    let request = client.post(format!("https://{}{SERVICE}WatchRegistration", service.grpc));
    let answer = request.header(JSON_STREAM.0, JSON_STREAM.1).body(body).send();
    let answer = within("the head of the answer", answer).await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    let (messages, end) = json_stream(&within("the stream", answer.bytes()).await.unwrap());
    assert_eq!(messages.last().unwrap()["registration"]["state"], "STATE_CONFIRMED");
    assert_eq!(end["error"], Value::Null, "{end}");
    drop(dependencies);
}

#[tokio::test]
async fn a_stream_ends_with_the_server() {
    let mut stack = StackBuilder::on_demand().start().await;
    let id = stack.client.confirm(1, CASE).await.id;
    let watch = Watch::open(stack.service.grpc, &id).await;
    stack.service.terminate();
    let (messages, end) = watch.end().await;
    assert_eq!(messages.last().unwrap()["registration"]["id"], id.as_str());
    assert_ended(&end, "unavailable", "SHUTTING_DOWN");
    assert_eq!(stack.service.exit_code().await, 0);
}

#[tokio::test]
async fn a_stream_ends_with_its_connection() {
    let builder = StackBuilder::on_demand().set("REGISTRAR_MAX_CONNECTION_AGE", "1s").set("REGISTRAR_MAX_WAIT", "5s");
    let stack = builder.start().await;
    let id = stack.client.confirm(1, CASE).await.id;
    let (_, end) = Watch::open(stack.service.grpc, &id).await.end().await;
    assert_ended(&end, "unavailable", "CONNECTION_AGE");
}

#[tokio::test]
async fn a_stream_ends_with_its_credentials() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("callers.toml");
    fs::write(&file, caller("reads", TOKEN, r#""admin""#, "")).unwrap();
    let builder = StackBuilder::on_demand().set("REGISTRAR_AUTH", "enforce");
    let stack = builder.set("REGISTRAR_CALLERS_FILE", file.display()).start().await;
    let id = stack.client.with_token(TOKEN).confirm(1, CASE).await.id;
    let watch = Watch::open(stack.service.grpc, &id).await;
    let new = folder.path().join("new.toml");
    fs::write(&new, caller("reads", &TOKEN.replace('B', "D"), r#""admin""#, "")).unwrap();
    fs::rename(new, file).unwrap();
    let (_, end) = watch.end().await;
    assert_ended(&end, "unauthenticated", "CREDENTIALS_INVALID");
    assert!(end["metadata"]["www-authenticate"][0].as_str().unwrap().starts_with("Bearer"), "{end}");
}

#[tokio::test]
async fn a_caller_that_hangs_up_over_http_1_frees_its_place_and_its_work_continues() {
    let stack = StackBuilder::on_demand().set("REGISTRAR_MAX_WAITERS", 1).start().await;
    stack.anvil.stop_mining().await;
    let body = json!({ "documentHash": document(1), "caseId": CASE }).to_string();
    let mut stream = TcpStream::connect(stack.service.grpc).await.unwrap();
    let head = format!(
        "POST {SERVICE}RegisterDocument HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let id = eventually("acceptance", async || stack.client.get_pair(&document(1), CASE).await.ok()).await.id;
    let is_full = async || stack.client.watch(&id, WaitFor::Confirmed, 0).await.err();
    assert_eq!(eventually("a full house", is_full).await.reason, "TOO_MANY_WAITERS");
    drop(stream);
    let watch = async || stack.client.watch(&id, WaitFor::Confirmed, 0).await.ok();
    let watch = eventually("a place", watch).await;
    stack.anvil.mine_on_demand().await;
    let mut watch = watch;
    assert_eq!(watch.rest().await.last().unwrap().state(), State::Confirmed);
}
