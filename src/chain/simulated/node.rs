//! One endpoint of the simulated chain: an alloy transport without a network, with its own fault.

use super::{
    BroadcastHook, SimulatedChain,
    mempool::SimulatedTransaction,
    rpc::{self, NodeView, RpcResult},
};
use crate::chain::transport::GatewayError;
use alloy::{
    primitives::Bytes,
    rpc::json_rpc::{ErrorPayload, Id, RequestPacket, Response, ResponsePacket, ResponsePayload, SerializedRequest},
    transports::{TransportError, TransportErrorKind, TransportFut},
};
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json, value::to_raw_value};
use std::{
    sync::Arc,
    task::{Context, Poll},
};
use tower::Service;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NodeFault {
    /// HTTP status 502.
    BadGateway,
    /// Processes nothing and never answers.
    Unresponsive,
    /// Processes requests and never answers.
    LosesResponses,
    /// HTTP status 429.
    Throttled,
    /// By this many blocks.
    Lagging(u8),
    /// Keeps the head of the time when the fault began, even after a reorg of that block.
    FrozenHead,
    NoReceipts,
    /// By 2.
    NonceTooHigh,
    /// By 1.
    NonceTooLow,
    /// By more than any account can have sent.
    NonceAbsurd,
    /// Accepts transactions and drops them.
    DropsTransactions,
    /// Refuses questions about a block by its number.
    RefusesBlocks,
    /// Does not know the tag `safe`.
    NoSafeTag,
    /// Suggests a priority fee of 2^100 wei.
    AbsurdTip,
    /// Offers no method about fees.
    NoFeeMethods,
    /// Each answer has the id of another request.
    ForeignIds,
    /// Refuses every transaction, as if the signer had no funds.
    RefusesSends,
    /// Reports every call as reverted.
    InventsReverts,
}

impl NodeFault {
    /// Only another endpoint can contradict it.
    pub(crate) fn is_lie(self) -> bool {
        matches!(self, Self::NonceTooHigh | Self::InventsReverts)
    }
}

#[derive(Clone, Copy, Default)]
struct FaultState {
    fault: Option<NodeFault>,
    /// The position of the head of [`NodeFault::FrozenHead`].
    frozen_at: Option<usize>,
}

#[derive(Clone)]
pub(crate) struct Node {
    name: Arc<str>,
    chain: SimulatedChain,
    fault_state: Arc<Mutex<FaultState>>,
    on_broadcast: BroadcastHook,
}

enum Reply {
    Answer(RpcResult),
    NoResponse,
    Status(u16),
}

impl Node {
    pub(crate) fn new(name: &str, chain: &SimulatedChain, on_broadcast: BroadcastHook) -> Self {
        Self { name: name.into(), chain: chain.clone(), fault_state: Arc::default(), on_broadcast }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn fault(&self) -> Option<NodeFault> {
        self.fault_state().fault
    }

    /// Replaces the previous fault.
    pub(crate) fn set_fault(&self, fault: Option<NodeFault>) {
        let frozen_at = (fault == Some(NodeFault::FrozenHead)).then(|| self.chain.ledger().head);
        *self.fault_state() = FaultState { fault, frozen_at };
    }

    fn fault_state(&self) -> MutexGuard<'_, FaultState> {
        self.fault_state.lock()
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
            Reply::NoResponse => std::future::pending().await,
            Reply::Status(status) => {
                let error = GatewayError { status: Some(status), retry_after: None, payload: None, addressed: false };
                return Err(TransportErrorKind::custom(error));
            }
        };
        let payload = match answer {
            Ok(value) => ResponsePayload::Success(to_raw_value(&value).map_err(TransportError::ser_err)?),
            Err((code, message, data)) => {
                let data = data.map(|data| to_raw_value(&data)).transpose().map_err(TransportError::ser_err)?;
                ResponsePayload::Failure(ErrorPayload { code, message: message.into(), data })
            }
        };
        let id = match self.fault() {
            Some(NodeFault::ForeignIds) => Id::Number(u64::MAX),
            Some(_) | None => request.id().clone(),
        };
        Ok(Response { id, payload })
    }

    fn read(&self, method: &str, params: &Value) -> Reply {
        let FaultState { fault, frozen_at } = *self.fault_state();
        let ledger = self.chain.ledger();
        let newest = ledger.blocks[ledger.head].number;
        let head = match fault {
            Some(NodeFault::BadGateway) => return Reply::Status(502),
            Some(NodeFault::Unresponsive | NodeFault::LosesResponses) => return Reply::NoResponse,
            Some(NodeFault::Throttled) => return Reply::Status(429),
            Some(NodeFault::Lagging(blocks)) => {
                ledger.block_index(ledger.head, newest.saturating_sub(blocks.into()).max(1))
            }
            Some(NodeFault::FrozenHead) => frozen_at.unwrap_or(ledger.head),
            Some(
                NodeFault::NoReceipts
                | NodeFault::NonceTooHigh
                | NodeFault::NonceTooLow
                | NodeFault::NonceAbsurd
                | NodeFault::DropsTransactions
                | NodeFault::RefusesBlocks
                | NodeFault::NoSafeTag
                | NodeFault::AbsurdTip
                | NodeFault::NoFeeMethods
                | NodeFault::ForeignIds
                | NodeFault::RefusesSends
                | NodeFault::InventsReverts,
            )
            | None => ledger.head,
        };
        let answer = rpc::read(NodeView { ledger: &ledger, head }, method, params);
        let change_nonce = |answer: Value, change: fn(u64) -> u64| {
            let nonce: alloy::primitives::U64 = serde_json::from_value(answer).unwrap_or_default();
            json!(alloy::primitives::U64::from(change(nonce.to())))
        };
        Reply::Answer(match (fault, method) {
            (Some(NodeFault::NoReceipts), "eth_getTransactionReceipt") => answer.map(|_| Value::Null),
            (Some(NodeFault::NonceTooHigh), "eth_getTransactionCount") => {
                answer.map(|value| change_nonce(value, |nonce| nonce + 2))
            }
            (Some(NodeFault::NonceTooLow), "eth_getTransactionCount") => {
                answer.map(|value| change_nonce(value, |nonce| nonce.saturating_sub(1)))
            }
            (Some(NodeFault::NonceAbsurd), "eth_getTransactionCount") => {
                answer.map(|value| change_nonce(value, |nonce| nonce + (1 << 62)))
            }
            (Some(NodeFault::RefusesBlocks), "eth_getBlockByNumber")
                if params[0].as_str().is_some_and(|number| number.starts_with("0x")) =>
            {
                Err((30, "Request timeout on the free tier".to_owned(), None))
            }
            (Some(NodeFault::NoSafeTag), "eth_getBlockByNumber") if params[0] == "safe" => {
                Err((-32602, "unsupported block tag".to_owned(), None))
            }
            (Some(NodeFault::InventsReverts), "eth_call") => {
                Err((3, "execution reverted".to_owned(), Some(Bytes::from_static(&[0x08, 0xc3, 0x79, 0xa0]))))
            }
            (Some(NodeFault::AbsurdTip), "eth_maxPriorityFeePerGas") => {
                answer.map(|_| json!(alloy::primitives::U128::from(1_u128 << 100)))
            }
            (Some(NodeFault::NoFeeMethods), "eth_maxPriorityFeePerGas" | "eth_feeHistory" | "eth_gasPrice") => {
                Err((-32601, format!("the method {method} does not exist"), None))
            }
            (_, _) => answer,
        })
    }

    async fn broadcast(&self, params: &Value) -> Reply {
        let fault = self.fault_state().fault;
        let Ok(raw) = serde_json::from_value::<Bytes>(params[0].clone()) else { return Reply::Status(400) };
        // With every fault, the bytes have left the service.
        (self.on_broadcast)(raw.clone()).await;
        let mut ledger = self.chain.ledger();
        if let Some(signed) = SimulatedTransaction::decode(&raw).filter(|signed| !ledger.broadcasts.contains(signed)) {
            ledger.broadcasts.push(signed);
        }
        match fault {
            Some(NodeFault::BadGateway) => Reply::Status(502),
            Some(NodeFault::Unresponsive) => Reply::NoResponse,
            Some(NodeFault::Throttled) => Reply::Status(429),
            Some(NodeFault::LosesResponses) => {
                // Acceptance and rejection are lost alike.
                let _ = rpc::broadcast(&mut ledger, &raw);
                Reply::NoResponse
            }
            Some(NodeFault::RefusesSends) => {
                Reply::Answer(Err((-32000, "insufficient funds for gas * price + value".to_owned(), None)))
            }
            Some(NodeFault::DropsTransactions) => Reply::Answer(Ok(json!(alloy::primitives::keccak256(&raw)))),
            Some(
                NodeFault::Lagging(_)
                | NodeFault::FrozenHead
                | NodeFault::NoReceipts
                | NodeFault::NonceTooHigh
                | NodeFault::NonceTooLow
                | NodeFault::NonceAbsurd
                | NodeFault::RefusesBlocks
                | NodeFault::NoSafeTag
                | NodeFault::AbsurdTip
                | NodeFault::NoFeeMethods
                | NodeFault::ForeignIds
                | NodeFault::InventsReverts,
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
