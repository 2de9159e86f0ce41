//! One endpoint onto the simulated chain: an alloy transport without a network, with a fault of its own while the story says so.

use super::{
    BroadcastHook, SimulatedChain,
    mempool::SimulatedTransaction,
    rpc::{self, NodeView, RpcResult},
};
use crate::chain::transport::HttpError;
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
pub(crate) enum NodeFault {
    /// It answers with HTTP status 502.
    BadGateway,
    /// It takes nothing and never answers.
    Unresponsive,
    /// It does what it is asked, and its answers are lost.
    LosesResponses,
    /// It wants to be left alone.
    Throttled,
    /// Its head is so many blocks behind.
    Lagging(u8),
    /// It stays at the head that it had, also when that is canonical no more.
    FrozenHead,
    /// It has no receipts.
    NoReceipts,
    /// It says that accounts have sent more than they have.
    NonceTooHigh,
    /// It says that accounts have sent less than they have.
    NonceTooLow,
    /// It says that it takes transactions, and keeps none.
    DropsTransactions,
}

/// How its fault stands.
#[derive(Clone, Copy, Default)]
struct FaultState {
    fault: Option<NodeFault>,
    /// The block that it takes for the head for ever.
    frozen_at: Option<usize>,
}

/// An endpoint.
#[derive(Clone)]
pub(crate) struct Node {
    name: Arc<str>,
    chain: SimulatedChain,
    fault_state: Arc<Mutex<FaultState>>,
    on_broadcast: BroadcastHook,
}

enum Reply {
    Answer(RpcResult),
    Silence,
    Status(u16),
}

impl Node {
    /// A node of this name, without faults.
    pub(crate) fn new(name: &str, chain: &SimulatedChain, on_broadcast: BroadcastHook) -> Self {
        Self { name: name.into(), chain: chain.clone(), fault_state: Arc::default(), on_broadcast }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What is wrong with it.
    pub(crate) fn fault(&self) -> Option<NodeFault> {
        self.fault_state().fault
    }

    /// From now on it has this fault, and no other; `None` mends it.
    pub(crate) fn set_fault(&self, fault: Option<NodeFault>) {
        let stuck_at = (fault == Some(NodeFault::FrozenHead)).then(|| self.chain.ledger().head);
        *self.fault_state() = FaultState { fault, frozen_at: stuck_at };
    }

    fn fault_state(&self) -> MutexGuard<'_, FaultState> {
        self.fault_state.lock().unwrap_or_else(PoisonError::into_inner)
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
                let refusal = HttpError { status, retry_after: None, payload: None };
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
        let FaultState { fault, frozen_at: stuck_at } = *self.fault_state();
        let ledger = self.chain.ledger();
        let newest = ledger.blocks[ledger.head].number;
        let head = match fault {
            Some(NodeFault::BadGateway) => return Reply::Status(502),
            Some(NodeFault::Unresponsive | NodeFault::LosesResponses) => return Reply::Silence,
            Some(NodeFault::Throttled) => return Reply::Status(429),
            Some(NodeFault::Lagging(blocks)) => {
                ledger.block_index(ledger.head, newest.saturating_sub(blocks.into()).max(1))
            }
            Some(NodeFault::FrozenHead) => stuck_at.unwrap_or(ledger.head),
            Some(
                NodeFault::NoReceipts | NodeFault::NonceTooHigh | NodeFault::NonceTooLow | NodeFault::DropsTransactions,
            )
            | None => ledger.head,
        };
        let answer = rpc::read(NodeView { ledger: &ledger, head }, method, params);
        let lie = |answer: Value, by: fn(u64) -> u64| {
            let nonce: alloy::primitives::U64 = serde_json::from_value(answer).unwrap_or_default();
            json!(alloy::primitives::U64::from(by(nonce.to())))
        };
        Reply::Answer(match (fault, method) {
            (Some(NodeFault::NoReceipts), "eth_getTransactionReceipt") => answer.map(|_| Value::Null),
            (Some(NodeFault::NonceTooHigh), "eth_getTransactionCount") => {
                answer.map(|value| lie(value, |nonce| nonce + 2))
            }
            (Some(NodeFault::NonceTooLow), "eth_getTransactionCount") => {
                answer.map(|value| lie(value, |nonce| nonce.saturating_sub(1)))
            }
            (_, _) => answer,
        })
    }

    async fn broadcast(&self, params: &Value) -> Reply {
        let fault = self.fault_state().fault;
        let Ok(raw) = serde_json::from_value::<Bytes>(params[0].clone()) else { return Reply::Status(400) };
        // Whatever becomes of them, the bytes have left the service.
        (self.on_broadcast)(raw.clone()).await;
        let mut ledger = self.chain.ledger();
        if let Some(signed) = SimulatedTransaction::decode(&raw).filter(|signed| !ledger.broadcasts.contains(signed)) {
            ledger.broadcasts.push(signed);
        }
        match fault {
            Some(NodeFault::BadGateway) => Reply::Status(502),
            Some(NodeFault::Unresponsive) => Reply::Silence,
            Some(NodeFault::Throttled) => Reply::Status(429),
            Some(NodeFault::LosesResponses) => {
                // Taken or refused, nobody hears of it.
                let _ = rpc::broadcast(&mut ledger, &raw);
                Reply::Silence
            }
            Some(NodeFault::DropsTransactions) => Reply::Answer(Ok(json!(alloy::primitives::keccak256(&raw)))),
            Some(
                NodeFault::Lagging(_)
                | NodeFault::FrozenHead
                | NodeFault::NoReceipts
                | NodeFault::NonceTooHigh
                | NodeFault::NonceTooLow,
            )
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
