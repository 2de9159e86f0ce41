//! Raw JSON-RPC to a node, for what a test asks and does behind the service's back.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::OnceLock;

/// A node's JSON-RPC interface.
#[derive(Clone)]
pub struct Rpc {
    url: String,
    http: reqwest::Client,
}

/// A JSON-RPC error.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message} (data: {data:?})")]
pub struct RpcError {
    /// What the node says.
    pub message: String,
    /// What the contract says: revert data, as `0x` hex.
    pub data: Option<String>,
}

impl Rpc {
    /// The interface at this URL.
    pub fn new(url: &str) -> Self {
        Self { url: url.to_owned(), http: http_client() }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Calls a method.
    ///
    /// # Errors
    /// What the node answers.
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

    /// Calls a method that has to succeed.
    pub async fn call<T: DeserializeOwned>(&self, method: &str, params: Value) -> T {
        self.try_call(method, params).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Calls a method for its effect alone.
    pub async fn run(&self, method: &str, params: Value) {
        self.call::<Value>(method, params).await;
    }
}

/// An HTTP client. reqwest takes the process's TLS provider, and there is none until it is installed.
pub fn http_client() -> reqwest::Client {
    static PROVIDER: OnceLock<()> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        // Somebody else may have installed one.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    reqwest::Client::builder().no_proxy().build().unwrap()
}
