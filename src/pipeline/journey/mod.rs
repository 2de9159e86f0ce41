//! One registration's story: prepare, send, wait, a span each under one `blockchain.register`.
//!
//! A journey outlives the request that began it, and the process. It remembers a few times and numbers, and its spans are told
//! from them when it ends, or up to then when its confirmation clock runs out: so a journey that nobody wants to see costs
//! nothing, and one that a restart interrupted is told whole, in the trace and under the span id that it always had. What comes
//! after a timeout is a second episode, linked to the first; what is carried by another transaction is a journey of its own.

mod story;

use crate::{
    chain::Network,
    registration::{Block, Cause, Cost, RegistrationId, SpanId, Timestamp, TraceId, policy::fees::Fees},
    store::Member,
    telemetry::{
        Affected,
        spans::{self, Reason},
    },
};
use alloy::primitives::{Address, B256};
use std::sync::Arc;
use story::End;

/// What every journey of this service has in common.
#[derive(Clone, Debug)]
pub struct Route {
    /// The network.
    pub network: Arc<Network>,
    /// The DocumentRegistry.
    pub contract: Address,
}

/// One registration on its way.
#[derive(Debug)]
pub struct Journey {
    /// The registration.
    pub member: Member,
    route: Arc<Route>,
    /// When prepare began.
    began: Timestamp,
    /// Its span while no transaction carries it.
    unsigned: SpanId,
    carried: Option<Carried>,
    sent: Option<Timestamp>,
    included: Option<(Block, u64)>,
    /// Up to when it was told already: at a timeout, or when it was confirmed and then reorged out.
    told_until: Option<Timestamp>,
    resumed: bool,
    felt_failover: bool,
}

/// The transaction that carries a journey, as its spans tell it.
#[derive(Clone, Debug)]
struct Carried {
    from: Address,
    nonce: u64,
    batch_size: usize,
    gas_limit: u64,
    hash: B256,
    fees: Fees,
    number: usize,
    signed: Timestamp,
    endpoint: Arc<str>,
    batch: Option<(TraceId, SpanId)>,
}

/// What a transaction is, as the spans tell it.
#[derive(Clone, Copy, Debug)]
pub struct Vehicle {
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
    pub number: usize,
    /// When it was signed.
    pub signed: Timestamp,
}

/// The span of a registration's journey with the transaction that carries it. It is made of what is stored, so that every run of
/// the service gives it the same; and what is carried again, or tried again after a failure, gets another one.
fn span_of(id: RegistrationId, from: Address, nonce: u64) -> SpanId {
    // The random half of a UUIDv7.
    let [.., a, b, c, d, e, f, g, h] = *id.as_bytes();
    let [.., i, j, k, l, m, n, o, p] = from.into_array();
    let mixed = u64::from_be_bytes([a, b, c, d, e, f, g, h]) ^ u64::from_be_bytes([i, j, k, l, m, n, o, p]) ^ nonce;
    SpanId::from_bytes(mixed.to_be_bytes()).unwrap_or_else(spans::new_span_id)
}

impl Journey {
    /// The registration leaves the queue: prepare begins.
    pub fn begin(member: Member, route: &Arc<Route>, at: Timestamp) -> Self {
        Self {
            member,
            route: route.clone(),
            began: at,
            unsigned: spans::new_span_id(),
            carried: None,
            sent: None,
            included: None,
            told_until: None,
            resumed: false,
            felt_failover: false,
        }
    }

    /// Goes on after a restart, in the stage the transaction is in.
    pub fn resume(
        member: Member,
        route: &Arc<Route>,
        vehicle: &Vehicle,
        (prepared, sent, told_until): (Timestamp, Option<Timestamp>, Option<Timestamp>),
        endpoint: &Arc<str>,
    ) -> Self {
        let mut journey = Self::begin(member, route, prepared);
        journey.signed(vehicle, endpoint, None);
        Self { sent, told_until, resumed: true, ..journey }
    }

    /// Signed and on disk: send begins.
    pub fn signed(&mut self, vehicle: &Vehicle, endpoint: &Arc<str>, batch: Option<(TraceId, SpanId)>) {
        self.carried = Some(Carried {
            from: vehicle.from,
            nonce: vehicle.nonce,
            batch_size: vehicle.batch_size,
            gas_limit: vehicle.gas_limit,
            hash: vehicle.hash,
            fees: vehicle.fees,
            number: vehicle.number,
            signed: vehicle.signed,
            endpoint: endpoint.clone(),
            batch,
        });
    }

    /// The transaction was signed again at its nonce.
    pub fn replaced(&mut self, vehicle: &Vehicle) {
        if let Some(carried) = &mut self.carried {
            (carried.hash, carried.fees, carried.number) = (vehicle.hash, vehicle.fees, vehicle.number);
            (carried.gas_limit, carried.batch_size) = (vehicle.gas_limit, vehicle.batch_size);
        }
    }

    /// A node has the transaction: wait begins.
    pub fn sent(&mut self, at: Timestamp) {
        self.sent.get_or_insert(at);
    }

    /// Its span, or what will be it.
    pub fn span(&self) -> SpanId {
        self.carried.as_ref().map_or(self.unsigned, |carried| span_of(self.member.id, carried.from, carried.nonce))
    }

    /// As a report names it; `span_id` is what it is about.
    pub fn affected(&self, span_id: SpanId) -> Affected {
        let member = &self.member;
        Affected {
            registration_id: member.id,
            document_hash: member.document_hash,
            case_id: member.case_id.clone(),
            trace_id: member.trace.trace_id,
            span_id,
            user_id: member.user_id.clone(),
            created: member.created,
        }
    }

    /// A request on its way had to be asked of another endpoint.
    pub fn felt_failover(&mut self) {
        self.felt_failover = true;
    }

    /// In a canonical block.
    pub fn included(&mut self, block: &Block, cost: &Cost) {
        self.included = Some((*block, cost.gas_used));
    }

    /// The confirmation clock ran out: the story so far is told, and the journey goes on. Returns the span of the wait.
    pub fn late(&mut self, cause: Cause, confirmations: u64, at: Timestamp) -> SpanId {
        let wait = spans::new_span_id();
        let block = self.included.as_ref().map(|(block, _)| (block, confirmations));
        let end = End { at, status: "deadline_exceeded", cause: Some(cause), block, hash: None };
        self.tell(Some(Reason::Timeout), &end, wait);
        self.told_until = Some(at);
        wait
    }

    /// At confirmation depth: the journey ends.
    pub fn confirmed(self, transaction: B256, block: &Block, confirmations: u64, at: Timestamp) {
        let bumped = self.carried.as_ref().is_some_and(|carried| carried.number > 1);
        let slow = at.since(self.member.created) >= spans::SLOW_JOURNEY;
        let reasons = [
            (self.told_until.is_some(), Reason::Timeout),
            (self.felt_failover, Reason::Failover),
            (bumped, Reason::FeeBump),
            (slow, Reason::Slow),
        ];
        let why = reasons.into_iter().find_map(|(holds, reason)| holds.then_some(reason));
        let block = Some((block, confirmations));
        let end = End { at, status: "ok", cause: None, block, hash: Some(transaction) };
        self.tell(why, &end, spans::new_span_id());
    }

    /// Failed for good: the journey ends. One that is registered again begins another journey.
    pub fn failed(self, at: Timestamp) {
        let end = End { at, status: "failed_precondition", cause: None, block: None, hash: None };
        self.tell(Some(Reason::Error), &end, spans::new_span_id());
    }

    fn tell(&self, why: Option<Reason>, end: &End<'_>, wait: SpanId) {
        let batch = self.carried.as_ref().and_then(|carried| carried.batch);
        spans::tell(&self.member.trace, why, batch.map(|(trace, _)| trace), || self.story(end, wait));
    }
}
