//! Connect and gRPC-Web on the same port as gRPC: the same handlers, limits, errors and traces.

mod bad_input;
mod calls;
mod clients;
mod cors;
mod guards;
mod streams;

use crate::harness::{rpc::http_client, within};
use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;
use std::net::SocketAddr;

const SERVICE: &str = "/registrar.v1.RegistrarService/";
const JSON: (&str, &str) = ("content-type", "application/json");
const JSON_STREAM: (&str, &str) = ("content-type", "application/connect+json");

/// An answer over HTTP/1.1.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    async fn of(request: reqwest::RequestBuilder) -> Self {
        let response = within("an answer", request.send()).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, body: within("a body", response.bytes()).await.unwrap() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// HTTP status, code and reason of an error, whose other parts are checked.
    fn error(&self) -> (u16, String, &str) {
        let error = self.json();
        assert!(!error["message"].as_str().unwrap().is_empty(), "{error}");
        assert_eq!(self.header("x-trace-id").map(str::len), Some(32), "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"));
        let reason = self.header("x-error-reason").unwrap_or_default();
        (self.status, error["code"].as_str().unwrap().to_owned(), reason)
    }
}

fn url(server: SocketAddr, method: &str) -> String {
    format!("http://{server}{SERVICE}{method}")
}

async fn post(server: SocketAddr, method: &str, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> Answer {
    let request = http_client().post(url(server, method)).body(body);
    Answer::of(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
}

/// A call with one message in JSON.
async fn call(server: SocketAddr, method: &str, message: &Value) -> Answer {
    post(server, method, &[JSON], message.to_string()).await
}

/// The flag and the message of each envelope.
fn envelopes(body: &[u8]) -> Vec<(u8, Bytes)> {
    let mut envelopes = Vec::new();
    let mut rest = body;
    while let [flag, a, b, c, d, after @ ..] = rest {
        let (message, next) = after.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        envelopes.push((*flag, Bytes::copy_from_slice(message)));
        rest = next;
    }
    assert!(rest.is_empty(), "an envelope is cut off");
    envelopes
}

/// The messages of a stream in JSON, and the message of its last envelope.
fn json_stream(body: &[u8]) -> (Vec<Value>, Value) {
    let mut envelopes = envelopes(body);
    let (flag, end) = envelopes.pop().expect("a stream has an end");
    assert_eq!(flag, 2);
    let parse = |message: &Bytes| serde_json::from_slice(message).unwrap();
    (
        envelopes
            .iter()
            .map(|(flag, message)| {
                assert_eq!(*flag, 0);
                parse(message)
            })
            .collect(),
        parse(&end),
    )
}
