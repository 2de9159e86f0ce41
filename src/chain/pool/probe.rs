//! Probes: each endpoint is asked for its head every second, whether anybody needs it or not, so that it is known who can take over.

use super::{ChainProof, Pool};
use crate::{
    chain::{
        BlockTag, CallError, EndpointState, Fault, Header,
        wire::{BLOCK_BY_NUMBER, WireHeader, WireSyncing},
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
const EVERY: Duration = Duration::from_secs(1);
/// A second probe follows a good one this soon when an endpoint is coming back.
const SOON: Duration = Duration::from_millis(100);
/// How often the chain id is asked for again: a load balancer may change what is behind it.
const CHAIN_EVERY: Duration = Duration::from_secs(60);
/// How often it is asked whether it is still syncing.
const SYNCING_EVERY: Duration = Duration::from_secs(30);
/// A head that is so many blocks above all others has to show its parent.
const LEAP: u64 = 32;

/// When an endpoint was last asked what is not asked each time.
#[derive(Debug, Default)]
struct Asked {
    chain: Option<Instant>,
    syncing: Option<Instant>,
}

impl Asked {
    fn is_due(asked: Option<Instant>, every: Duration) -> bool {
        asked.is_none_or(|asked| asked.elapsed() >= every)
    }
}

impl Pool {
    /// Asks every endpoint that has not proved its chain yet to do so; those that can take part at once. Who is asked first is told
    /// when all have had their say: the quickest is not the preferred one.
    pub async fn begin(&self) {
        let all = || 0..self.0.members.len();
        join_all(all().map(async |position| {
            if self.0.members[position].health().chain() == ChainProof::Unknown {
                self.check_chain(position).await;
            }
        }))
        .await;
        join_all(all().map(|position| self.begin_one(position))).await;
        self.tell_first("start");
    }

    async fn begin_one(&self, position: usize) {
        let member = &self.0.members[position];
        if member.health().chain() == ChainProof::Right && self.check_head(position).await.is_ok() {
            let mut health = member.health();
            if !health.state().is_usable() {
                health.begin(Instant::now());
                drop(health);
                self.enter(position);
            }
        }
    }

    /// Every endpoint that answered is on another chain: the first one, and its chain.
    pub fn wrong_chain(&self) -> Option<(String, u64)> {
        let wrong = |member: &super::Member| match member.health().chain() {
            ChainProof::Wrong(id) => Some((member.endpoint.name().to_owned(), id)),
            ChainProof::Right | ChainProof::Unknown => None,
        };
        let all: Option<Vec<_>> = self.0.members.iter().map(wrong).collect();
        all?.into_iter().next()
    }

    /// Probes all endpoints until `stop`, each at its own pace: one that hangs holds up none of the others.
    pub async fn watch(&self, stop: &CancellationToken) {
        let watched = (0..self.0.members.len()).map(|position| self.watch_one(position));
        stop.run_until_cancelled(join_all(watched)).await;
    }

    async fn watch_one(&self, position: usize) {
        let mut asked = Asked { chain: Some(Instant::now()), syncing: None };
        loop {
            let pause = self.probe(position, &mut asked).await;
            tokio::time::sleep(pause).await;
        }
    }

    /// One probe; returns how long to wait until the next.
    async fn probe(&self, position: usize, asked: &mut Asked) -> Duration {
        let member = &self.0.members[position];
        let now = Instant::now();
        let (state, throttled, open) = {
            let health = member.health();
            (health.state(), health.is_throttled(now), health.is_open(now))
        };
        // While nobody can be asked, an open circuit helps nobody.
        if state == EndpointState::Quarantined || throttled || (open && !self.route().is_empty()) {
            return EVERY;
        }
        let good = self.check(position, asked).await;
        let mut health = member.health();
        match (health.state(), good) {
            (EndpointState::Down, true) => {
                health.half_open(Instant::now());
                SOON
            }
            (EndpointState::Down, false) => {
                // A probe before its time, because nobody could be asked, makes the next one no later; and one that only wants to
                // be left alone has not failed.
                if state == EndpointState::Down && !open && !health.is_throttled(Instant::now()) {
                    health.open(Instant::now());
                }
                EVERY
            }
            (_, _) => EVERY,
        }
    }

    /// Asks what is due, in one span; whether all of it was answered.
    async fn check(&self, position: usize, asked: &mut Asked) -> bool {
        let member = &self.0.members[position];
        let name = member.endpoint.name();
        let span = spans::health_check(name);
        let checks = async {
            if member.health().chain() == ChainProof::Unknown || Asked::is_due(asked.chain, CHAIN_EVERY) {
                asked.chain = Some(Instant::now());
                self.check_chain(position).await;
                if member.health().chain() != ChainProof::Right {
                    return false;
                }
            }
            if Asked::is_due(asked.syncing, SYNCING_EVERY) {
                asked.syncing = Some(Instant::now());
                if let Ok(WireSyncing(syncing)) = self.call(position, "eth_syncing", (), 1).await {
                    member.health().syncs(syncing);
                }
            }
            self.check_head(position).await.is_ok()
        };
        let good = checks.instrument(span.clone()).await;
        let view = member.health().view(name);
        if let Some(head) = view.head {
            span.record("blockNumber", head.number.cast_signed());
            metrics().rpc_endpoint_head(name, head.number);
        }
        span.record("lag", view.lag.unwrap_or_default().as_secs_f64());
        good
    }

    /// Asks which chain it is on. No answer leaves it as it was.
    pub(super) async fn check_chain(&self, position: usize) {
        let member = &self.0.members[position];
        let Ok(id) = self.probe_call::<_, U64>(position, "eth_chainId", ()).await else { return };
        let id = id.to::<u64>();
        let chain = if id == self.0.chain_id { ChainProof::Right } else { ChainProof::Wrong(id) };
        let change = member.health().proved(member.endpoint.name(), chain, Instant::now());
        self.changed(position, change);
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
            CallError::Refused { .. } => CallError::unavailable(endpoint.name(), method, Fault::Backend),
            CallError::Unavailable { .. } | CallError::NoEndpoint { .. } => error,
        });
        self.account(position, answer.as_ref().err(), begun.elapsed());
        answer
    }

    async fn check_head(&self, position: usize) -> Result<(), CallError> {
        let member = &self.0.members[position];
        let params = (BlockTag::Latest.text(), false);
        let head = Header::from(self.probe_call::<_, WireHeader>(position, BLOCK_BY_NUMBER, params).await?);
        let plausible = self.is_plausible(position, &head).await;
        let change = member.health().probed(member.endpoint.name(), head, plausible, Instant::now());
        self.changed(position, change);
        self.review(position);
        Ok(())
    }

    /// Whether a head is far above those of all other endpoints that count.
    pub(super) fn leaps(&self, position: usize, head: &Header) -> bool {
        let now = Instant::now();
        let others = self.0.members.iter().enumerate().filter(|(other, _)| *other != position);
        let highest = others.filter_map(|(_, member)| Some(member.health().trusted(now)?.0.block.number)).max();
        highest.is_some_and(|highest| head.block.number > highest + LEAP)
    }

    /// Whether an endpoint that shows a head far above all others can show the block before it.
    async fn is_plausible(&self, position: usize, head: &Header) -> bool {
        let leaps = self.leaps(position, head);
        let doubted = self.0.members[position].health().is_doubted();
        !(leaps || doubted) || self.shows_parent(position, head).await
    }
}
