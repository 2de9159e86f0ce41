//! One endpoint onto the simulated chain: an alloy transport without a network, with a fault of its own while the story says so.

use super::{
    OnBroadcast, Simulated,
    mempool::Signed,
    rpc::{self, Answer, View},
};
use crate::chain::transport::HttpRefusal;
use alloy::{
    primitives::Bytes,
    rpc::json_rpc::{ErrorPayload, RequestPacket, Response, ResponsePacket, ResponsePayload, SerializedRequest},
    transports::{TransportError, TransportErrorKind, TransportFut},
};
use serde_json::{Value, json, value::to_raw_value};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};
use tower::Service;

/// What is wrong with an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// It answers with HTTP status 502.
    Away,
    /// It takes nothing and never answers.
    Silent,
    /// It does what it is asked, and its answers are lost.
    Mute,
    /// It wants to be left alone.
    Throttled,
    /// Its head is so many blocks behind.
    Behind(u8),
    /// It stays at the head that it had, also when that is canonical no more.
    Stuck,
    /// It has no receipts.
    NoReceipts,
    /// It says that accounts have sent more than they have.
    NonceTooHigh,
    /// It says that accounts have sent less than they have.
    NonceTooLow,
    /// It says that it takes transactions, and keeps none.
    Forgetful,
}

/// How its fault stands.
#[derive(Clone, Copy, Default)]
struct Trouble {
    fault: Option<Fault>,
    /// The block that it takes for the head for ever.
    stuck_at: Option<usize>,
}

/// An endpoint.
#[derive(Clone)]
pub(crate) struct Node {
    name: Arc<str>,
    chain: Simulated,
    trouble: Arc<Mutex<Trouble>>,
    on_broadcast: OnBroadcast,
}

enum Reply {
    Answer(Answer),
    Silence,
    Status(u16),
}

impl Node {
    /// A node of this name, without faults.
    pub(crate) fn new(name: &str, chain: &Simulated, on_broadcast: OnBroadcast) -> Self {
        Self { name: name.into(), chain: chain.clone(), trouble: Arc::default(), on_broadcast }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What is wrong with it.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.trouble().fault
    }

    /// From now on it has this fault, and no other; `None` mends it.
    pub(crate) fn suffer(&self, fault: Option<Fault>) {
        let stuck_at = (fault == Some(Fault::Stuck)).then(|| self.chain.ledger().head);
        *self.trouble() = Trouble { fault, stuck_at };
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(self, packet: RequestPacket) -> Result<ResponsePacket, TransportError> {
        match packet {
            RequestPacket::Single(request) => Ok(ResponsePacket::Single(self.answer(&request).await?)),
            RequestPacket::Batch(requests) => {
                let mut answers = Vec::with_capacity(requests.len());
                for request in &requests {
                    answers.push(self.answer(request).await?);
                }
                Ok(ResponsePacket::Batch(answers))
            }
        }
    }

    async fn answer(&self, request: &SerializedRequest) -> Result<Response, TransportError> {
        let params = request.params().and_then(|params| serde_json::from_str(params.get()).ok()).unwrap_or_default();
        let reply = match request.method() {
            "eth_sendRawTransaction" => self.broadcast(&params).await,
            method => self.read(method, &params),
        };
        let answer = match reply {
            Reply::Answer(answer) => answer,
            Reply::Silence => std::future::pending().await,
            Reply::Status(status) => {
                let refusal = HttpRefusal { status, retry_after: None, payload: None };
                return Err(TransportErrorKind::custom(refusal));
            }
        };
        let payload = match answer {
            Ok(value) => ResponsePayload::Success(to_raw_value(&value).map_err(TransportError::ser_err)?),
            Err((code, words, data)) => {
                let data = data.map(|data| to_raw_value(&data)).transpose().map_err(TransportError::ser_err)?;
                ResponsePayload::Failure(ErrorPayload { code, message: words.into(), data })
            }
        };
        Ok(Response { id: request.id().clone(), payload })
    }

    fn read(&self, method: &str, params: &Value) -> Reply {
        let Trouble { fault, stuck_at } = *self.trouble();
        let ledger = self.chain.ledger();
        let newest = ledger.blocks[ledger.head].number;
        let head = match fault {
            Some(Fault::Away) => return Reply::Status(502),
            Some(Fault::Silent | Fault::Mute) => return Reply::Silence,
            Some(Fault::Throttled) => return Reply::Status(429),
            Some(Fault::Behind(blocks)) => ledger.position(ledger.head, newest.saturating_sub(blocks.into()).max(1)),
            Some(Fault::Stuck) => stuck_at.unwrap_or(ledger.head),
            Some(Fault::NoReceipts | Fault::NonceTooHigh | Fault::NonceTooLow | Fault::Forgetful) | None => ledger.head,
        };
        let answer = rpc::read(View { ledger: &ledger, head }, method, params);
        let lie = |answer: Value, by: fn(u64) -> u64| {
            let nonce: alloy::primitives::U64 = serde_json::from_value(answer).unwrap_or_default();
            json!(alloy::primitives::U64::from(by(nonce.to())))
        };
        Reply::Answer(match (fault, method) {
            (Some(Fault::NoReceipts), "eth_getTransactionReceipt") => answer.map(|_| Value::Null),
            (Some(Fault::NonceTooHigh), "eth_getTransactionCount") => answer.map(|value| lie(value, |nonce| nonce + 2)),
            (Some(Fault::NonceTooLow), "eth_getTransactionCount") => {
                answer.map(|value| lie(value, |nonce| nonce.saturating_sub(1)))
            }
            (_, _) => answer,
        })
    }

    async fn broadcast(&self, params: &Value) -> Reply {
        let fault = self.trouble().fault;
        let Ok(raw) = serde_json::from_value::<Bytes>(params[0].clone()) else { return Reply::Status(400) };
        // Whatever becomes of them, the bytes have left the service.
        (self.on_broadcast)(raw.clone()).await;
        let mut ledger = self.chain.ledger();
        if let Some(signed) = Signed::read(&raw).filter(|signed| !ledger.seen.contains(signed)) {
            ledger.seen.push(signed);
        }
        match fault {
            Some(Fault::Away) => Reply::Status(502),
            Some(Fault::Silent) => Reply::Silence,
            Some(Fault::Throttled) => Reply::Status(429),
            Some(Fault::Mute) => {
                // Taken or refused, nobody hears of it.
                let _ = rpc::broadcast(&mut ledger, &raw);
                Reply::Silence
            }
            Some(Fault::Forgetful) => Reply::Answer(Ok(json!(alloy::primitives::keccak256(&raw)))),
            Some(Fault::Behind(_) | Fault::Stuck | Fault::NoReceipts | Fault::NonceTooHigh | Fault::NonceTooLow)
            | None => Reply::Answer(rpc::broadcast(&mut ledger, &raw)),
        }
    }
}

impl Service<RequestPacket> for Node {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: RequestPacket) -> Self::Future {
        Box::pin(self.clone().serve(request))
    }
}
