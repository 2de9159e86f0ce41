//! Probes: each endpoint is asked for its head every second, whether anybody needs it or not, so that it is known who can take over.

use super::{ChainIdCheck, EndpointPool};
use crate::{
    chain::{
        BlockTag, CallError, EndpointFault, EndpointState, Header,
        rpc_types::{BLOCK_BY_NUMBER, RpcHeader, RpcSyncing},
    },
    telemetry::{metrics, spans},
};
use alloy::{
    primitives::U64,
    rpc::json_rpc::{RpcRecv, RpcSend},
};
use futures_util::future::join_all;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// Between probes.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// A second probe follows a good one this soon when an endpoint is coming back.
const RECOVERY_PROBE_DELAY: Duration = Duration::from_millis(100);
/// How often the chain id is asked for again: a load balancer may change what is behind it.
const CHAIN_ID_CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// How often it is asked whether it is still syncing.
const SYNCING_CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// A head that is so many blocks above all others has to show its parent.
const MAX_HEAD_JUMP: u64 = 32;

/// When an endpoint was last asked what is not asked each time.
#[derive(Debug, Default)]
struct ProbeSchedule {
    chain_id_checked_at: Option<Instant>,
    syncing_checked_at: Option<Instant>,
}

impl ProbeSchedule {
    fn is_due(asked: Option<Instant>, every: Duration) -> bool {
        asked.is_none_or(|asked| asked.elapsed() >= every)
    }
}

impl EndpointPool {
    /// Asks every endpoint that has not proved its chain yet to do so; those that can take part at once. Who is asked first is told
    /// when all have had their say: the quickest is not the preferred one.
    pub async fn verify_chain_ids(&self) {
        let all = || 0..self.0.members.len();
        join_all(all().map(async |position| {
            if self.0.members[position].health().chain_id_check() == ChainIdCheck::Unknown {
                self.check_chain_id(position).await;
            }
        }))
        .await;
        join_all(all().map(|position| self.admit(position))).await;
        self.report_primary_change("start");
    }

    async fn admit(&self, position: usize) {
        let member = &self.0.members[position];
        if member.health().chain_id_check() == ChainIdCheck::Match && self.check_head(position).await.is_ok() {
            let mut health = member.health();
            if !health.state().is_usable() {
                health.admit(Instant::now());
                drop(health);
                self.publish_state(position);
            }
        }
    }

    /// Every endpoint that answered is on another chain: the first one, and its chain.
    pub fn chain_id_mismatch(&self) -> Option<(String, u64)> {
        let wrong = |member: &super::PoolMember| match member.health().chain_id_check() {
            ChainIdCheck::Mismatch(id) => Some((member.endpoint.name().to_owned(), id)),
            ChainIdCheck::Match | ChainIdCheck::Unknown => None,
        };
        let all: Option<Vec<_>> = self.0.members.iter().map(wrong).collect();
        all?.into_iter().next()
    }

    /// Probes all endpoints until `stop`, each at its own pace: one that hangs holds up none of the others.
    pub async fn run_probes(&self, stop: &CancellationToken) {
        let watched = (0..self.0.members.len()).map(|position| self.probe_loop(position));
        stop.run_until_cancelled(join_all(watched)).await;
    }

    async fn probe_loop(&self, position: usize) {
        let mut asked = ProbeSchedule { chain_id_checked_at: Some(Instant::now()), syncing_checked_at: None };
        loop {
            let pause = self.probe(position, &mut asked).await;
            tokio::time::sleep(pause).await;
        }
    }

    /// One probe; returns how long to wait until the next.
    async fn probe(&self, position: usize, asked: &mut ProbeSchedule) -> Duration {
        let member = &self.0.members[position];
        let now = Instant::now();
        let (state, throttled, open) = {
            let health = member.health();
            (health.state(), health.is_throttled(now), health.is_circuit_open(now))
        };
        // While nobody can be asked, an open circuit helps nobody.
        if state == EndpointState::Quarantined || throttled || (open && !self.route().is_empty()) {
            return PROBE_INTERVAL;
        }
        let good = self.run_due_checks(position, asked).await;
        let mut health = member.health();
        match (health.state(), good) {
            (EndpointState::Down, true) => {
                health.half_open_circuit(Instant::now());
                RECOVERY_PROBE_DELAY
            }
            (EndpointState::Down, false) => {
                // A probe before its time, because nobody could be asked, makes the next one no later; and one that only wants to
                // be left alone has not failed.
                if state == EndpointState::Down && !open && !health.is_throttled(Instant::now()) {
                    health.open_circuit(Instant::now());
                }
                PROBE_INTERVAL
            }
            (_, _) => PROBE_INTERVAL,
        }
    }

    /// Asks what is due, in one span; whether all of it was answered.
    async fn run_due_checks(&self, position: usize, asked: &mut ProbeSchedule) -> bool {
        let member = &self.0.members[position];
        let name = member.endpoint.name();
        let span = spans::health_check(name);
        let checks = async {
            if member.health().chain_id_check() == ChainIdCheck::Unknown
                || ProbeSchedule::is_due(asked.chain_id_checked_at, CHAIN_ID_CHECK_INTERVAL)
            {
                asked.chain_id_checked_at = Some(Instant::now());
                self.check_chain_id(position).await;
                if member.health().chain_id_check() != ChainIdCheck::Match {
                    return false;
                }
            }
            if ProbeSchedule::is_due(asked.syncing_checked_at, SYNCING_CHECK_INTERVAL) {
                asked.syncing_checked_at = Some(Instant::now());
                if let Ok(RpcSyncing(syncing)) = self.call(position, "eth_syncing", (), 1).await {
                    member.health().set_syncing(syncing);
                }
            }
            self.check_head(position).await.is_ok()
        };
        let good = checks.instrument(span.clone()).await;
        let view = member.health().status(name);
        if let Some(head) = view.head {
            span.record("blockNumber", head.number.cast_signed());
            metrics().set_rpc_endpoint_head(name, head.number);
        }
        span.record("lag", view.lag.unwrap_or_default().as_secs_f64());
        good
    }

    /// Asks which chain it is on. No answer leaves it as it was.
    pub(super) async fn check_chain_id(&self, position: usize) {
        let member = &self.0.members[position];
        let Ok(id) = self.probe_call::<_, U64>(position, "eth_chainId", ()).await else { return };
        let id = id.to::<u64>();
        let chain = if id == self.0.chain_id { ChainIdCheck::Match } else { ChainIdCheck::Mismatch(id) };
        let change = member.health().set_chain_id_check(member.endpoint.name(), chain, Instant::now());
        self.report_state_change(position, change);
    }

    /// What every node can answer: there is nothing wrong with the question, so a refusal is a failure.
    async fn probe_call<P: RpcSend, R: RpcRecv>(
        &self,
        position: usize,
        method: &'static str,
        params: P,
    ) -> Result<R, CallError> {
        let begun = Instant::now();
        let endpoint = &self.0.members[position].endpoint;
        let answer = endpoint.read(method, params, 1).await.map_err(|error| match error {
            CallError::Rejected { .. } => CallError::unavailable(endpoint.name(), method, EndpointFault::Backend),
            CallError::Unavailable { .. } | CallError::NoEndpoint { .. } => error,
        });
        self.record_call(position, answer.as_ref().err(), begun.elapsed());
        answer
    }

    async fn check_head(&self, position: usize) -> Result<(), CallError> {
        let member = &self.0.members[position];
        let params = (BlockTag::Latest.to_param(), false);
        let head = Header::from(self.probe_call::<_, RpcHeader>(position, BLOCK_BY_NUMBER, params).await?);
        let plausible = self.is_plausible(position, &head).await;
        let change = member.health().record_probe(member.endpoint.name(), head, plausible, Instant::now());
        self.report_state_change(position, change);
        self.update_head_statuses(position);
        Ok(())
    }

    /// Whether a head is far above those of all other endpoints that count.
    pub(super) fn is_far_ahead(&self, position: usize, head: &Header) -> bool {
        let now = Instant::now();
        let others = self.0.members.iter().enumerate().filter(|(other, _)| *other != position);
        let highest = others.filter_map(|(_, member)| Some(member.health().trusted_head(now)?.0.block.number)).max();
        highest.is_some_and(|highest| head.block.number > highest + MAX_HEAD_JUMP)
    }

    /// Whether an endpoint that shows a head far above all others can show the block before it.
    async fn is_plausible(&self, position: usize, head: &Header) -> bool {
        let leaps = self.is_far_ahead(position, head);
        let doubted = self.0.members[position].health().is_suspect_head();
        !(leaps || doubted) || self.has_parent(position, head).await
    }
}
