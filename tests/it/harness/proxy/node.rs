use crate::harness::rpc::http_client;
use http_body_util::Full;
use hyper::{Response, body::Bytes};
use serde_json::{Value, json};

/// Why the caller gets no answer.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error("closed on purpose")]
    Closed,
    #[error("reset on purpose")]
    Reset,
}

pub(super) struct Node {
    url: String,
    http: reqwest::Client,
}

impl Node {
    pub(super) fn at(url: &str) -> Self {
        Self { url: url.to_owned(), http: http_client() }
    }

    /// Forwards a request unchanged.
    pub(super) async fn forward(&self, body: Bytes) -> Result<Response<Full<Bytes>>, Lost> {
        let request = self.http.post(&self.url).header("content-type", "application/json").body(body);
        let answer = request.send().await.map_err(|_| Lost::Closed)?;
        let response = Response::builder().status(answer.status()).header("content-type", "application/json");
        let body = answer.bytes().await.map_err(|_| Lost::Closed)?;
        response.body(Full::new(body)).map_err(|_| Lost::Closed)
    }

    pub(super) async fn ask(&self, call: &Value) -> Result<Value, Lost> {
        let request = self.http.post(&self.url).header("content-type", "application/json").body(call.to_string());
        let answer = request.send().await.map_err(|_| Lost::Closed)?;
        let body = answer.bytes().await.map_err(|_| Lost::Closed)?;
        serde_json::from_slice(&body).map_err(|_| Lost::Closed)
    }

    pub(super) async fn head(&self) -> Result<u64, Lost> {
        let answer = self.ask(&json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": [] })).await?;
        let number: alloy::primitives::U64 =
            serde_json::from_value(answer["result"].clone()).map_err(|_| Lost::Closed)?;
        Ok(number.to())
    }
}

pub(super) fn result(call: &Value, result: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": call["id"], "result": result })
}
