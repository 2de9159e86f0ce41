//! Probes every endpoint once a second, so that its health is known before a failover.

use super::{ChainIdCheck, EndpointPool};
use crate::{
    chain::{
        BlockTag, CallError, EndpointFault, EndpointState, Header,
        quantity::Quantity,
        rpc_types::{BLOCK_BY_NUMBER, RpcHeader, RpcSyncing},
    },
    telemetry::{metrics, spans},
};
use alloy::rpc::json_rpc::{RpcRecv, RpcSend};
use futures_util::future::join_all;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// Between two good probes of a recovering endpoint.
const RECOVERY_PROBE_DELAY: Duration = Duration::from_millis(100);
/// A load balancer may change the node behind it.
const CHAIN_ID_CHECK_INTERVAL: Duration = Duration::from_secs(60);
const SYNCING_CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// Blocks above all other heads from which a head needs its parent.
const MAX_HEAD_JUMP: u64 = 32;

#[derive(Debug, Default)]
struct ProbeSchedule {
    chain_id_checked_at: Option<Instant>,
    syncing_checked_at: Option<Instant>,
}

impl ProbeSchedule {
    fn is_due(checked_at: Option<Instant>, interval: Duration) -> bool {
        checked_at.is_none_or(|checked_at| checked_at.elapsed() >= interval)
    }
}

impl EndpointPool {
    /// The primary is reported when all have answered: the fastest endpoint is not the preferred one.
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

    /// The first endpoint and its chain id, when every endpoint is on another chain.
    pub fn chain_id_mismatch(&self) -> Option<(String, u64)> {
        let wrong = |member: &super::PoolMember| match member.health().chain_id_check() {
            ChainIdCheck::Mismatch(id) => Some((member.endpoint.name().to_owned(), id)),
            ChainIdCheck::Match | ChainIdCheck::Unknown => None,
        };
        let all: Option<Vec<_>> = self.0.members.iter().map(wrong).collect();
        all?.into_iter().next()
    }

    /// Each endpoint has its own loop, so that a slow one delays no other.
    pub async fn run_probes(&self, stop: &CancellationToken) {
        let loops = (0..self.0.members.len()).map(|position| self.probe_loop(position));
        stop.run_until_cancelled(join_all(loops)).await;
    }

    async fn probe_loop(&self, position: usize) {
        let mut schedule = ProbeSchedule { chain_id_checked_at: Some(Instant::now()), syncing_checked_at: None };
        loop {
            let pause = self.probe(position, &mut schedule).await;
            tokio::time::sleep(pause).await;
        }
    }

    /// Returns the delay until the next probe.
    async fn probe(&self, position: usize, schedule: &mut ProbeSchedule) -> Duration {
        let member = &self.0.members[position];
        let now = Instant::now();
        let has_alternative = !self.route().is_empty();
        let (state, open, left_alone) = {
            let health = member.health();
            (health.state(), health.is_circuit_open(now), health.is_left_alone(now, has_alternative))
        };
        if left_alone {
            return PROBE_INTERVAL;
        }
        let good = self.run_due_checks(position, schedule).await;
        let mut health = member.health();
        match (health.state(), good) {
            (EndpointState::Down, true) => {
                health.half_open_circuit(Instant::now());
                RECOVERY_PROBE_DELAY
            }
            (EndpointState::Quarantined, true) => RECOVERY_PROBE_DELAY,
            (EndpointState::Down, false) => {
                // A probe through an open circuit must not extend it, and a throttled probe has not failed.
                if state == EndpointState::Down && !open && !health.is_throttled(Instant::now()) {
                    health.open_circuit(Instant::now());
                }
                PROBE_INTERVAL
            }
            (_, _) => PROBE_INTERVAL,
        }
    }

    /// Returns whether all checks succeeded.
    async fn run_due_checks(&self, position: usize, schedule: &mut ProbeSchedule) -> bool {
        let member = &self.0.members[position];
        let name = member.endpoint.name();
        let span = spans::health_check(name);
        let checks = async {
            if member.health().chain_id_check() != ChainIdCheck::Match
                || ProbeSchedule::is_due(schedule.chain_id_checked_at, CHAIN_ID_CHECK_INTERVAL)
            {
                schedule.chain_id_checked_at = Some(Instant::now());
                self.check_chain_id(position).await;
                if member.health().chain_id_check() != ChainIdCheck::Match {
                    return false;
                }
            }
            if ProbeSchedule::is_due(schedule.syncing_checked_at, SYNCING_CHECK_INTERVAL) {
                schedule.syncing_checked_at = Some(Instant::now());
                if let Ok(RpcSyncing(syncing)) = self.call(position, "eth_syncing", (), 1).await {
                    member.health().set_syncing(syncing);
                }
            }
            self.check_head(position).await.is_ok()
        };
        let good = checks.instrument(span.clone()).await;
        let snapshot = member.health().snapshot(name);
        if let Some(head) = snapshot.head {
            span.record("blockNumber", head.cast_signed());
            metrics().set_rpc_endpoint_head(name, head);
        }
        span.record("lag", snapshot.lag.unwrap_or_default().as_secs_f64());
        good
    }

    /// Without an answer the check stays as it was. A wrong chain id counts when a new connection has it too: the
    /// first may have been the answer to another question.
    pub(super) async fn check_chain_id(&self, position: usize) {
        let member = &self.0.members[position];
        let ask = async || self.probe_call::<_, Quantity>(position, "eth_chainId", ()).await.map(Quantity::get);
        let expected = self.0.chain_id;
        let mut id = ask().await;
        if id.as_ref().is_ok_and(|id| *id != expected) {
            member.endpoint.reconnect();
            id = ask().await;
        }
        let Ok(id) = id else { return };
        let check = if id == expected { ChainIdCheck::Match } else { ChainIdCheck::Mismatch(id) };
        let change = member.health().set_chain_id_check(member.endpoint.name(), check, Instant::now());
        self.report_state_change(position, change);
    }

    /// Every node can answer these calls, so a rejection is a failure.
    async fn probe_call<P: RpcSend, R: RpcRecv>(
        &self,
        position: usize,
        method: &'static str,
        params: P,
    ) -> Result<R, CallError> {
        let started = Instant::now();
        let endpoint = &self.0.members[position].endpoint;
        let answer = endpoint.read(method, params, 1).await.map_err(|error| match error {
            CallError::Rejected { .. } => CallError::unavailable(endpoint.name(), method, EndpointFault::Backend),
            CallError::Unavailable { .. } | CallError::NoEndpoint { .. } => error,
        });
        self.record_call(position, answer.as_ref().err(), started.elapsed());
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

    /// Above the trusted heads of all other endpoints.
    pub(super) fn is_far_ahead(&self, position: usize, head: &Header) -> bool {
        let now = Instant::now();
        let others = self.0.members.iter().enumerate().filter(|(other, _)| *other != position);
        let highest = others.filter_map(|(_, member)| Some(member.health().trusted_head(now)?.0.block.number)).max();
        highest.is_some_and(|highest| head.block.number > highest + MAX_HEAD_JUMP)
    }

    async fn is_plausible(&self, position: usize, head: &Header) -> bool {
        let is_far_ahead = self.is_far_ahead(position, head);
        let is_suspect = self.0.members[position].health().is_suspect_head();
        !(is_far_ahead || is_suspect) || self.has_parent(position, head).await
    }
}
