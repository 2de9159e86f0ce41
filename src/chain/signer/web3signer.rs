//! The JSON-RPC client of a remote signer: web3signer
//! (<https://docs.web3signer.consensys.io/reference/api/json-rpc>) or op-signer. Both have `eth_signTransaction`, and
//! answer with the signed bytes.

use super::{error::SignerFault, spec::SignerTls};
use crate::{
    chain::{
        error::sanitize_node_message,
        json_rpc::{self, Answer, ErrorObject},
        transport::{BodyError, read_body},
        url::EndpointUrl,
    },
    telemetry::{propagation, redact::Redactor},
};
use alloy::{
    consensus::TxEip1559,
    primitives::{Address, Bytes},
    rpc::types::{TransactionInput, TransactionRequest},
};
use reqwest::{Certificate, Client, Identity, redirect};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
};

/// In bytes. A transaction has at most 128 KiB (geth's `txMaxSize`), and twice as many hex digits.
const MAX_ANSWER: usize = 512 << 10;
/// JSON-RPC and EIP-1474.
const METHOD_NOT_FOUND: i64 = -32601;
const LIMIT_EXCEEDED: i64 = -32005;
const TOO_MANY_REQUESTS: u16 = 429;

pub(super) struct Web3Signer {
    client: Client,
    url: EndpointUrl,
    redactor: Redactor,
    next_id: AtomicU64,
}

/// What a signer says about the accounts that it signs for.
pub(super) enum Accounts {
    Listed(Vec<Address>),
    /// op-signer chooses the account by the client's certificate.
    NotListed,
}

impl Web3Signer {
    /// Does not connect.
    pub(super) fn new(url: EndpointUrl, tls: &SignerTls) -> Result<Self, reqwest::Error> {
        let mut builder = Client::builder()
            .tcp_nodelay(true)
            // Another host would see what is signed, or sign it.
            .redirect(redirect::Policy::none())
            .no_proxy()
            .referer(false);
        if let Some(authority) = &tls.authority {
            builder = builder.tls_certs_only(Certificate::from_pem_bundle(authority)?);
        }
        if let Some((certificate, key)) = &tls.client {
            builder = builder.identity(Identity::from_pem(&[key.as_slice(), b"\n", certificate].concat())?);
        }
        let redactor = Redactor::new(url.secrets());
        Ok(Self { client: builder.build()?, url, redactor, next_id: AtomicU64::new(1) })
    }

    pub(super) fn host(&self) -> &str {
        self.url.name()
    }

    pub(super) async fn accounts(&self) -> Result<Accounts, SignerFault> {
        match self.call("eth_accounts", json!([])).await? {
            Ok(accounts) => Ok(Accounts::Listed(accounts)),
            Err(error) if error.code == METHOD_NOT_FOUND => Ok(Accounts::NotListed),
            Err(error) => Err(self.refusal(&error)),
        }
    }

    /// The bytes as answered, not looked at.
    pub(super) async fn sign(&self, from: Address, transaction: &TxEip1559) -> Result<Bytes, SignerFault> {
        let request = TransactionRequest {
            // web3signer reads `data`, op-signer prefers `input`.
            input: TransactionInput::both(transaction.input.clone()),
            ..TransactionRequest::from_transaction_with_sender(transaction.clone(), from)
        };
        self.call("eth_signTransaction", json!([request])).await?.map_err(|error| self.refusal(&error))
    }

    fn refusal(&self, error: &ErrorObject) -> SignerFault {
        if error.code == LIMIT_EXCEEDED || error.code == i64::from(TOO_MANY_REQUESTS) {
            return SignerFault::Throttled;
        }
        let message = sanitize_node_message(&error.message, &self.redactor);
        SignerFault::Refused(format!("{message} (code {})", error.code))
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: serde_json::Value,
    ) -> Result<Result<T, ErrorObject>, SignerFault> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let url = self.url.expose_url();
        let trace = propagation::headers_for(url.host_str().unwrap_or_default());
        let post = self.client.post(url.clone()).json(&request).headers(trace);
        let response = post.send().await.map_err(|error| describe(&error))?;
        let status = response.status();
        if status.as_u16() == TOO_MANY_REQUESTS {
            return Err(SignerFault::Throttled);
        }
        let body = read_body(response, MAX_ANSWER).await.map_err(|error| match error {
            BodyError::TooLarge => SignerFault::Unreadable,
            BodyError::Lost(error) => describe(&error),
        })?;
        match json_rpc::read(&body, id) {
            Ok(Answer::Result(result)) if status.is_success() => {
                serde_json::from_str(result.get()).map(Ok).map_err(|_| SignerFault::Unreadable)
            }
            Ok(Answer::Error(error) | Answer::Unaddressed(error)) => Ok(Err(error)),
            Ok(Answer::Result(_)) | Err(_) if !status.is_success() => Err(SignerFault::Status(status.as_u16())),
            Ok(Answer::Result(_)) | Err(_) => Err(SignerFault::Unreadable),
        }
    }
}

/// I/O errors hide what is inside of them from [`std::error::Error::source`].
fn is_of_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error.is::<rustls::Error>() || inner.is_some_and(|inner| is_of_tls(inner))
}

/// reqwest's own messages contain the URL.
fn describe(error: &reqwest::Error) -> SignerFault {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if is_of_tls(cause) {
            return SignerFault::Unreachable("TLS fails: see REGISTRAR_SIGNER_TLS_CA_FILE, _CERT_FILE and _KEY_FILE");
        }
        source = cause.source();
    }
    match error {
        error if error.is_timeout() => SignerFault::Timeout,
        error if error.is_connect() => SignerFault::Unreachable("no connection"),
        _ => SignerFault::Unreachable("connection lost"),
    }
}
