//! One registration's story: prepare, send, wait, a span each under one `blockchain.register`.
//!
//! A journey outlives the request that began it, and the process. It remembers a few times and numbers, and its spans are told
//! from them when it ends, or up to then when its confirmation clock runs out: so a journey that nobody wants to see costs
//! nothing, and one that a restart interrupted is told whole, in the trace and under the span id that it always had. What comes
//! after a timeout is a second episode, linked to the first; what is carried by another transaction is a journey of its own.

mod spans;

use crate::{
    chain::Network,
    registration::{Block, Cause, Cost, RegistrationId, SpanId, Timestamp, TraceId, policy::fees::Fees},
    store::BatchMember,
    telemetry::{
        AffectedRegistration,
        spans::{self as telemetry_spans, KeepReason},
    },
};
use alloy::primitives::{Address, B256};
use spans::EpisodeEnd;
use std::sync::Arc;

/// What every journey of this service has in common.
#[derive(Clone, Debug)]
pub struct ChainInfo {
    /// The network.
    pub network: Arc<Network>,
    /// The DocumentRegistry.
    pub contract: Address,
}

/// One registration on its way.
#[derive(Debug)]
pub struct RegistrationTrace {
    /// The registration.
    pub member: BatchMember,
    chain_info: Arc<ChainInfo>,
    /// When prepare began.
    prepare_started_at: Timestamp,
    /// Its span while no transaction carries it.
    provisional_span_id: SpanId,
    tx: Option<TxContext>,
    submitted_at: Option<Timestamp>,
    included: Option<(Block, u64)>,
    /// Up to when it was told already: at a timeout, or when it was confirmed and then reorged out.
    reported_until: Option<Timestamp>,
    resumed: bool,
    saw_failover: bool,
}

/// The transaction that carries a journey, and how it was sent.
#[derive(Clone, Debug)]
struct TxContext {
    tx: TxSummary,
    endpoint: Arc<str>,
    batch: Option<(TraceId, SpanId)>,
}

/// What a transaction is, as the spans tell it.
#[derive(Clone, Copy, Debug)]
pub struct TxSummary {
    /// The signer.
    pub from: Address,
    /// The signer's nonce.
    pub nonce: u64,
    /// How many registrations it carries.
    pub batch_size: usize,
    /// Its gas limit.
    pub gas_limit: u64,
    /// The hash of its latest signed version.
    pub hash: B256,
    /// What that offers.
    pub fees: Fees,
    /// The latest version's number, from 1 on.
    pub attempt: usize,
    /// When it was signed.
    pub signed_at: Timestamp,
}

/// The span of a registration's journey with the transaction that carries it. It is made of what is stored, so that every run of
/// the service gives it the same; and what is carried again, or tried again after a failure, gets another one.
fn registration_span_id(id: RegistrationId, from: Address, nonce: u64) -> SpanId {
    // The random half of a UUIDv7.
    let [.., a, b, c, d, e, f, g, h] = *id.as_bytes();
    let [.., i, j, k, l, m, n, o, p] = from.into_array();
    let mixed = u64::from_be_bytes([a, b, c, d, e, f, g, h]) ^ u64::from_be_bytes([i, j, k, l, m, n, o, p]) ^ nonce;
    SpanId::from_bytes(mixed.to_be_bytes()).unwrap_or_else(telemetry_spans::new_span_id)
}

impl RegistrationTrace {
    /// The registration leaves the queue: prepare begins.
    pub fn new(member: BatchMember, route: &Arc<ChainInfo>, at: Timestamp) -> Self {
        Self {
            member,
            chain_info: route.clone(),
            prepare_started_at: at,
            provisional_span_id: telemetry_spans::new_span_id(),
            tx: None,
            submitted_at: None,
            included: None,
            reported_until: None,
            resumed: false,
            saw_failover: false,
        }
    }

    /// Goes on after a restart, in the stage the transaction is in.
    pub fn resume(
        member: BatchMember,
        route: &Arc<ChainInfo>,
        vehicle: TxSummary,
        (prepared, sent, told_until): (Timestamp, Option<Timestamp>, Option<Timestamp>),
        endpoint: &Arc<str>,
    ) -> Self {
        let mut journey = Self::new(member, route, prepared);
        journey.on_signed(vehicle, endpoint, None);
        Self { submitted_at: sent, reported_until: told_until, resumed: true, ..journey }
    }

    /// Signed and on disk: send begins.
    pub fn on_signed(&mut self, vehicle: TxSummary, endpoint: &Arc<str>, batch: Option<(TraceId, SpanId)>) {
        self.tx = Some(TxContext { tx: vehicle, endpoint: endpoint.clone(), batch });
    }

    /// The transaction was signed again at its nonce.
    pub fn on_replaced(&mut self, vehicle: TxSummary) {
        if let Some(carried) = &mut self.tx {
            carried.tx = vehicle;
        }
    }

    /// A node has the transaction: wait begins.
    pub fn on_submitted(&mut self, at: Timestamp) {
        self.submitted_at.get_or_insert(at);
    }

    /// Its span, or what will be it.
    pub fn span_id(&self) -> SpanId {
        self.tx.as_ref().map_or(self.provisional_span_id, |carried| {
            registration_span_id(self.member.id, carried.tx.from, carried.tx.nonce)
        })
    }

    /// As a report names it; `span_id` is what it is about.
    pub fn affected(&self, span_id: SpanId) -> AffectedRegistration {
        let member = &self.member;
        AffectedRegistration {
            registration_id: member.id,
            pair: member.pair.clone(),
            trace_id: member.trace.trace_id,
            span_id,
            user_id: member.user_id.clone(),
            created: member.created_at,
        }
    }

    /// A request on its way had to be asked of another endpoint.
    pub fn on_failover(&mut self) {
        self.saw_failover = true;
    }

    /// In a canonical block.
    pub fn on_included(&mut self, block: &Block, cost: &Cost) {
        self.included = Some((*block, cost.gas_used));
    }

    /// The confirmation clock ran out: the story so far is told, and the journey goes on. Returns the span of the wait.
    pub fn on_timeout(&mut self, cause: Cause, confirmations: u64, at: Timestamp) -> SpanId {
        let wait = telemetry_spans::new_span_id();
        let block = self.included.as_ref().map(|(block, _)| (block, confirmations));
        let end = EpisodeEnd { at, status: "deadline_exceeded", cause: Some(cause), block, hash: None };
        self.emit(Some(KeepReason::Timeout), &end, wait);
        self.reported_until = Some(at);
        wait
    }

    /// At confirmation depth: the journey ends.
    pub fn on_confirmed(self, transaction: B256, block: &Block, confirmations: u64, at: Timestamp) {
        let bumped = self.tx.as_ref().is_some_and(|carried| carried.tx.attempt > 1);
        let slow = at.since(self.member.created_at) >= telemetry_spans::SLOW_REGISTRATION;
        let reasons = [
            (self.reported_until.is_some(), KeepReason::Timeout),
            (self.saw_failover, KeepReason::Failover),
            (bumped, KeepReason::FeeBump),
            (slow, KeepReason::Slow),
        ];
        let why = reasons.into_iter().find_map(|(holds, reason)| holds.then_some(reason));
        let block = Some((block, confirmations));
        let end = EpisodeEnd { at, status: "ok", cause: None, block, hash: Some(transaction) };
        self.emit(why, &end, telemetry_spans::new_span_id());
    }

    /// Failed for good: the journey ends. One that is registered again begins another journey.
    pub fn on_failed(self, at: Timestamp) {
        let end = EpisodeEnd { at, status: "failed_precondition", cause: None, block: None, hash: None };
        self.emit(Some(KeepReason::Error), &end, telemetry_spans::new_span_id());
    }

    fn emit(&self, why: Option<KeepReason>, end: &EpisodeEnd<'_>, wait: SpanId) {
        let batch = self.tx.as_ref().and_then(|carried| carried.batch);
        telemetry_spans::emit(&self.member.trace, why, batch.map(|(trace, _)| trace), || self.span_tree(end, wait));
    }
}
