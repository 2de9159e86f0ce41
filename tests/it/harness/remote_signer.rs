//! A remote signer with one of anvil's accounts, in the protocol of web3signer and op-signer.

use super::{
    anvil::{KEYS, account},
    listener::PausableListener,
};
use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope, TypedTransaction},
    eips::eip2718::Encodable2718,
    primitives::{Bytes, Signature, U256, uint},
    rpc::types::TransactionRequest,
    signers::{SignerSync, local::PrivateKeySigner},
};
use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::post,
};
use http::StatusCode;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{net::TcpStream, sync::watch, task::JoinHandle};

/// Order of secp256k1 (SEC 2).
const ORDER: U256 = uint!(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256);
/// The account whose key signs [`Signing::OtherKey`].
const OTHER: usize = 8;

/// How a request to sign is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signing {
    Right,
    /// Right, after this time.
    Slow(Duration),
    OtherNonce,
    OtherCalldata,
    OtherKey,
    HighS,
    Garbage,
    /// JSON-RPC with something else than bytes.
    NotBytes,
    TooManyRequests,
    LimitExceeded,
    Refuses,
    InternalError,
    Silence,
    RefusesConnections,
}

/// What `eth_accounts` answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listed {
    Own,
    Other,
    /// op-signer has no such method.
    NoMethod,
}

pub struct RemoteSigner {
    address: SocketAddr,
    account: usize,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    key: PrivateKeySigner,
    account: usize,
    listed: Mutex<Listed>,
    signing: watch::Sender<Signing>,
    requests: Mutex<Vec<Value>>,
}

impl RemoteSigner {
    /// Has the key of this account of anvil.
    pub fn start(account: usize) -> Self {
        let shared = Arc::new(Shared {
            key: KEYS[account].parse().unwrap(),
            account,
            listed: Mutex::new(Listed::Own),
            signing: watch::Sender::new(Signing::Right),
            requests: Mutex::default(),
        });
        let router = Router::new().route("/", post(answer)).with_state(shared.clone());
        let listener = PausableListener::bind();
        let address = listener.address;
        let state = shared.signing.subscribe();
        let serve = move |stream| serve_connection(stream, router.clone());
        let is_closed = |signing: &Signing| *signing == Signing::RefusesConnections;
        let task = tokio::spawn(listener.serve(state, is_closed, || {}, serve));
        Self { address, account, shared, task }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// An entry of `REGISTRAR_SIGNERS`.
    pub fn uri(&self) -> String {
        format!("web3signer:http://{}/#{}", self.address, account(self.account))
    }

    pub fn set(&self, signing: Signing) {
        self.shared.signing.send_replace(signing);
    }

    pub fn set_listed(&self, listed: Listed) {
        *self.shared.listed.lock().unwrap() = listed;
    }

    /// The requests so far with this method.
    pub fn requests(&self, method: &str) -> Vec<Value> {
        let requests = self.shared.requests.lock().unwrap();
        requests.iter().filter(|request| request["method"] == method).cloned().collect()
    }
}

impl Drop for RemoteSigner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve_connection(stream: TcpStream, router: Router) {
    let service = TowerToHyperService::new(router);
    // An error means that the client was killed, or closed the connection.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(State(shared): State<Arc<Shared>>, body: String) -> Response {
    let request: Value = serde_json::from_str(&body).unwrap();
    shared.requests.lock().unwrap().push(request.clone());
    match request["method"].as_str() {
        Some("eth_accounts") => accounts(&shared, &request),
        Some("eth_signTransaction") => sign(&shared, &request).await,
        method => panic!("a method that no signer has: {method:?}"),
    }
}

fn accounts(shared: &Shared, request: &Value) -> Response {
    match *shared.listed.lock().unwrap() {
        Listed::Own => result(request, json!([account(shared.account)])),
        Listed::Other => result(request, json!([account(OTHER)])),
        Listed::NoMethod => error(request, -32601, "the method eth_accounts does not exist"),
    }
}

async fn sign(shared: &Shared, request: &Value) -> Response {
    let signing = *shared.signing.borrow();
    let asked = asked(shared, request);
    let same = |signature: Signature| signature;
    let high_s = |signature: Signature| Signature::new(signature.r(), ORDER - signature.s(), !signature.v());
    let right = || result(request, json!(signed(asked.clone(), &shared.key, same)));
    match signing {
        Signing::Right => right(),
        Signing::Slow(time) => {
            tokio::time::sleep(time).await;
            right()
        }
        Signing::OtherNonce => {
            let changed = TxEip1559 { nonce: asked.nonce + 1, ..asked };
            result(request, json!(signed(changed, &shared.key, same)))
        }
        Signing::OtherCalldata => {
            let changed = TxEip1559 { input: Bytes::from_static(&[1]), ..asked };
            result(request, json!(signed(changed, &shared.key, same)))
        }
        Signing::OtherKey => result(request, json!(signed(asked, &KEYS[OTHER].parse().unwrap(), same))),
        Signing::HighS => result(request, json!(signed(asked, &shared.key, high_s))),
        Signing::Garbage => "<html>".into_response(),
        Signing::NotBytes => result(request, json!({ "signed": true })),
        Signing::TooManyRequests => StatusCode::TOO_MANY_REQUESTS.into_response(),
        Signing::LimitExceeded => error(request, -32005, "limit exceeded"),
        Signing::Refuses => error(request, -32000, "signing is locked"),
        Signing::InternalError => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Signing::Silence => {
            // Until the behavior changes, because a request whose client gave up is not dropped in all cases.
            let mut state = shared.signing.subscribe();
            let _ = state.wait_for(|signing| *signing != Signing::Silence).await;
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
        Signing::RefusesConnections => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// What web3signer reads from a request, and what op-signer reads, which have to agree.
fn asked(shared: &Shared, request: &Value) -> TxEip1559 {
    let call = &request["params"][0];
    assert_eq!((&call["data"], &call["value"]), (&call["input"], &json!("0x0")), "{call}");
    let request: TransactionRequest = serde_json::from_value(call.clone()).unwrap();
    assert_eq!(request.from, Some(account(shared.account)), "{call}");
    match request.build_typed_tx() {
        Ok(TypedTransaction::Eip1559(transaction)) => transaction,
        other => panic!("not a complete EIP-1559 transaction: {other:?}"),
    }
}

fn signed(transaction: TxEip1559, key: &PrivateKeySigner, change: fn(Signature) -> Signature) -> Bytes {
    let signature = change(key.sign_hash_sync(&transaction.signature_hash()).unwrap());
    TxEnvelope::from(transaction.into_signed(signature)).encoded_2718().into()
}

fn result(request: &Value, result: Value) -> Response {
    json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }).to_string().into_response()
}

fn error(request: &Value, code: i64, message: &str) -> Response {
    let error = json!({ "code": code, "message": message });
    json!({ "jsonrpc": "2.0", "id": request["id"], "error": error }).to_string().into_response()
}
