//! One registration as spans: prepare, send and wait under one `blockchain.register`.
//!
//! A registration outlives its request, and may outlive the process. Only times and numbers are kept until the spans
//! are made: when it ends, and when its queue or confirmation timeout passes. So a trace that sampling drops costs
//! nothing, and a registration that a restart interrupted still gets all its spans, in the same trace and under the
//! same span id. What follows a timeout is another episode, linked to the first. A registration that another
//! transaction carries later starts a new trace of this kind.

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
use std::sync::Arc;

/// The same for every registration of this service.
#[derive(Clone, Debug)]
pub(super) struct ChainInfo {
    pub(super) network: Arc<Network>,
    /// The DocumentRegistry.
    pub(super) contract: Address,
}

#[derive(Debug)]
pub(super) struct RegistrationTrace {
    pub(super) member: BatchMember,
    chain_info: Arc<ChainInfo>,
    prepare_started_at: Timestamp,
    /// Of the root span while no transaction carries the registration.
    provisional_span_id: SpanId,
    tx: Option<TxContext>,
    submitted_at: Option<Timestamp>,
    /// The canonical block, and the gas that the transaction used.
    included: Option<(Block, u64)>,
    /// Until when spans exist already: a timeout, or the reorg of a confirmed block.
    reported_until: Option<Timestamp>,
    resumed: bool,
    saw_failover: bool,
}

/// The transaction that carries a registration, and how it was sent.
#[derive(Clone, Debug)]
struct TxContext {
    tx: TxSummary,
    endpoint: Arc<str>,
    /// The span that prepared the whole batch.
    batch: Option<(TraceId, SpanId)>,
}

/// A transaction with its latest attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct TxSummary {
    pub(super) from: Address,
    pub(super) nonce: u64,
    pub(super) batch_size: usize,
    pub(super) gas_limit: u64,
    pub(super) hash: B256,
    pub(super) fees: Fees,
    /// Counts from 1.
    pub(super) attempt: usize,
    pub(super) signed_at: Timestamp,
}

/// How an episode ended.
struct EpisodeEnd<'a> {
    at: Timestamp,
    status: &'static str,
    cause: Option<Cause>,
    /// The including block, and its depth.
    block: Option<(&'a Block, u64)>,
    /// Of the attempt that the block includes.
    hash: Option<B256>,
    kind: EndKind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum EndKind {
    /// The queue timeout.
    Delayed,
    /// Anything that happens to a transaction.
    Other,
}

/// The root span of a registration in this transaction. It is derived from stored values, so that a restart does not
/// change it; another transaction, or another try after a failure, gives another one.
fn registration_span_id(id: RegistrationId, from: Address, nonce: u64) -> SpanId {
    // The random half of a UUIDv7.
    let [.., a, b, c, d, e, f, g, h] = *id.as_bytes();
    let [.., i, j, k, l, m, n, o, p] = from.into_array();
    let mixed = u64::from_be_bytes([a, b, c, d, e, f, g, h]) ^ u64::from_be_bytes([i, j, k, l, m, n, o, p]) ^ nonce;
    SpanId::from_bytes(mixed.to_be_bytes()).unwrap_or_else(telemetry_spans::new_span_id)
}

/// The root span of a registration that was not sent in time, derived as [`registration_span_id`] is.
fn delay_span_id(id: RegistrationId, queued_at: Timestamp) -> SpanId {
    registration_span_id(id, Address::repeat_byte(0xff), queued_at.micros().cast_unsigned())
}

impl RegistrationTrace {
    /// The registration leaves the queue, and prepare starts.
    pub(super) fn new(member: BatchMember, chain_info: &Arc<ChainInfo>, at: Timestamp) -> Self {
        Self {
            member,
            chain_info: chain_info.clone(),
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

    /// After a restart, in the stage that the transaction has reached.
    pub(super) fn resume(
        member: BatchMember,
        chain_info: &Arc<ChainInfo>,
        tx: TxSummary,
        (prepare_started_at, submitted_at, reported_until): (Timestamp, Option<Timestamp>, Option<Timestamp>),
        endpoint: &Arc<str>,
    ) -> Self {
        let mut trace = Self::new(member, chain_info, prepare_started_at);
        trace.on_signed(tx, endpoint, None);
        Self { submitted_at, reported_until, resumed: true, ..trace }
    }

    /// The transaction is signed and stored, and send starts.
    pub(super) fn on_signed(&mut self, tx: TxSummary, endpoint: &Arc<str>, batch: Option<(TraceId, SpanId)>) {
        self.tx = Some(TxContext { tx, endpoint: endpoint.clone(), batch });
    }

    pub(super) fn on_replaced(&mut self, tx: TxSummary) {
        if let Some(context) = &mut self.tx {
            context.tx = tx;
        }
    }

    /// An endpoint accepted the transaction, and wait starts.
    pub(super) fn on_submitted(&mut self, at: Timestamp) {
        self.submitted_at.get_or_insert(at);
    }

    /// Of the root span, which is made only when the episode ends.
    pub(super) fn span_id(&self) -> SpanId {
        self.tx.as_ref().map_or(self.provisional_span_id, |context| {
            registration_span_id(self.member.id, context.tx.from, context.tx.nonce)
        })
    }

    /// For a report about the span `span_id`.
    pub(super) fn affected(&self, span_id: SpanId) -> AffectedRegistration {
        let member = &self.member;
        AffectedRegistration {
            registration_id: member.id,
            pair: member.pair.clone(),
            trace_id: member.trace.trace_id,
            span_id,
            user_id: member.user_id.clone(),
            caller: member.caller.clone(),
            created: member.created_at,
        }
    }

    pub(super) fn on_failover(&mut self) {
        self.saw_failover = true;
    }

    pub(super) fn on_included(&mut self, block: &Block, cost: &Cost) {
        self.included = Some((*block, cost.gas_used));
    }

    /// Ends the episode, not the trace. Returns the id of the wait span.
    pub(super) fn on_timeout(&mut self, cause: Cause, confirmations: u64, at: Timestamp) -> SpanId {
        let wait_id = telemetry_spans::new_span_id();
        let block = self.included.as_ref().map(|(block, _)| (block, confirmations));
        let kind = EndKind::Other;
        let end = EpisodeEnd { at, status: "deadline_exceeded", cause: Some(cause), block, hash: None, kind };
        self.emit(Some(KeepReason::Timeout), &end, wait_id);
        self.reported_until = Some(at);
        wait_id
    }

    /// Ends the episode of a registration that no node has a transaction for, not the trace. Returns the id of the span
    /// that takes too long: prepare or send.
    pub(super) fn on_delayed(&mut self, cause: Cause, at: Timestamp) -> SpanId {
        let late_id = telemetry_spans::new_span_id();
        let kind = EndKind::Delayed;
        let end = EpisodeEnd { at, status: "deadline_exceeded", cause: Some(cause), block: None, hash: None, kind };
        self.emit(Some(KeepReason::Timeout), &end, late_id);
        self.member.delayed_at = Some(at);
        late_id
    }

    pub(super) fn on_confirmed(self, transaction: B256, block: &Block, confirmations: u64, at: Timestamp) {
        let bumped = self.tx.as_ref().is_some_and(|context| context.tx.attempt > 1);
        let slow = at.since(self.member.created_at) >= telemetry_spans::SLOW_REGISTRATION;
        let reasons = [
            (self.reported_until.or(self.member.delayed_at).is_some(), KeepReason::Timeout),
            (self.saw_failover, KeepReason::Failover),
            (bumped, KeepReason::FeeBump),
            (slow, KeepReason::Slow),
        ];
        let keep = reasons.into_iter().find_map(|(applies, reason)| applies.then_some(reason));
        let block = Some((block, confirmations));
        let kind = EndKind::Other;
        let end = EpisodeEnd { at, status: "ok", cause: None, block, hash: Some(transaction), kind };
        self.emit(keep, &end, telemetry_spans::new_span_id());
    }

    /// A pair that is registered again after this starts a new trace.
    pub(super) fn on_failed(self, at: Timestamp) {
        let kind = EndKind::Other;
        let end = EpisodeEnd { at, status: "failed_precondition", cause: None, block: None, hash: None, kind };
        self.emit(Some(KeepReason::Error), &end, telemetry_spans::new_span_id());
    }

    /// `late_id` is the id of the last span.
    fn emit(&self, keep: Option<KeepReason>, end: &EpisodeEnd<'_>, late_id: SpanId) {
        let batch = self.tx.as_ref().and_then(|context| context.batch);
        telemetry_spans::emit(&self.member.trace, keep, batch.map(|(trace, _)| trace), || self.span_tree(end, late_id));
    }
}
