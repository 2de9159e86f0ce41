//! A JSON-RPC client for the test's own calls to a node.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::OnceLock;

#[derive(Clone)]
pub struct Rpc {
    url: String,
    http: reqwest::Client,
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("{message} (data: {data:?})")]
pub struct RpcError {
    pub message: String,
    /// Revert data as `0x` hex.
    pub data: Option<String>,
}

impl Rpc {
    pub fn new(url: &str) -> Self {
        Self { url: url.to_owned(), http: http_client() }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub async fn try_call<T: DeserializeOwned>(&self, method: &str, params: Value) -> Result<T, RpcError> {
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let request = self.http.post(&self.url).header("content-type", "application/json").body(call.to_string());
        let answer = request.send().await.unwrap_or_else(|error| panic!("{method}: {error}")).bytes().await.unwrap();
        let mut answer: Value = serde_json::from_slice(&answer).unwrap();
        if let Some(error) = answer.get("error") {
            let data = error.get("data").and_then(Value::as_str).map(str::to_owned);
            return Err(RpcError { message: error["message"].as_str().unwrap_or_default().to_owned(), data });
        }
        Ok(serde_json::from_value(answer["result"].take()).unwrap_or_else(|error| panic!("{method}: {error}")))
    }

    /// Calls a method and panics on an error.
    pub async fn call<T: DeserializeOwned>(&self, method: &str, params: Value) -> T {
        self.try_call(method, params).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Calls a method and ignores its result.
    pub async fn run(&self, method: &str, params: Value) {
        self.call::<Value>(method, params).await;
    }
}

/// reqwest uses the process's TLS provider, which has to be installed first.
pub fn http_client() -> reqwest::Client {
    static PROVIDER: OnceLock<()> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        // Another test may have installed one.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    reqwest::Client::builder().no_proxy().build().unwrap()
}
