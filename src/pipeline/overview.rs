//! How the service is doing, for the operator page: read from memory and by two small queries, at most once a second
//! however many pages are open.

use super::{
    blockers::SenderBlockers,
    head::HeadWatch,
    in_flight::{PendingTx, PendingTxs},
    tx_state::TxPhase,
};
use crate::{
    chain::{Chain, Header},
    clock::now,
    registration::{
        Registration, RegistrationId, State, Timestamp,
        diagnosis::{Blocker, ChainSnapshot, NodeRejection},
        policy::fees::Fees,
    },
    store::{Filter, Store},
    telemetry::{RecentActivity, SignerReading, metrics},
};
use alloy::primitives::{Address, B256};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

/// Pages that are opened within this time show the same.
const OVERVIEW_TTL: Duration = Duration::from_secs(1);
/// What the database does not answer in this time is left out.
const QUERY_TIMEOUT: Duration = Duration::from_millis(500);
/// Of the latest registrations, and of the latest failures.
const LISTED: u32 = 10;

const UNFINISHED_STATES: [State; 4] = [State::Queued, State::Signed, State::Submitted, State::Included];

#[derive(Clone, Debug)]
pub(crate) struct Overview {
    pub(crate) at: Timestamp,
    /// Whether the database can be read and written, as last found out.
    pub(crate) is_store_usable: bool,
    /// The newest block that an endpoint has reported.
    pub(crate) head: Option<Header>,
    pub(crate) chain: ChainSnapshot,
    pub(crate) signers: Vec<SignerOverview>,
    /// Of the signers whose leases this replica holds, by signer and nonce.
    pub(crate) pending: Vec<PendingOverview>,
    /// Of all replicas; empty before the first count.
    pub(crate) unfinished: Vec<(State, u64)>,
    pub(crate) oldest_queued: Option<Timestamp>,
    pub(crate) activity: RecentActivity,
    /// Newest first; `None` if the database did not answer in time.
    pub(crate) latest: Option<Vec<Registration>>,
    pub(crate) failed: Option<Vec<Registration>>,
}

#[derive(Clone, Debug)]
pub(crate) struct SignerOverview {
    pub(crate) address: Address,
    pub(crate) reading: SignerReading,
    /// Why its sender cannot send.
    pub(crate) blocker: Option<Blocker>,
}

/// A transaction that is signed, and neither confirmed nor requeued.
#[derive(Clone, Debug)]
pub(crate) struct PendingOverview {
    pub(crate) signer: Address,
    pub(crate) nonce: u64,
    /// Of the latest attempt.
    pub(crate) hash: B256,
    pub(crate) fees: Fees,
    pub(crate) gas_limit: u64,
    pub(crate) attempts: usize,
    pub(crate) registrations: usize,
    /// One of them.
    pub(crate) first: Option<RegistrationId>,
    /// Signed, submitted or included.
    pub(crate) state: State,
    pub(crate) signed_at: Timestamp,
    pub(crate) submitted_at: Option<Timestamp>,
    pub(crate) last_rejection: Option<NodeRejection>,
    /// What happened to it since this process knows it.
    pub(crate) history: Vec<(Timestamp, String)>,
}

impl PendingOverview {
    fn new(tx: &PendingTx) -> Self {
        let summary = tx.summary();
        let status = tx.status();
        Self {
            signer: tx.signer,
            nonce: tx.nonce,
            hash: summary.hash,
            fees: summary.fees,
            gas_limit: summary.gas_limit,
            attempts: summary.attempt,
            registrations: tx.members.len(),
            first: tx.members.first().copied(),
            state: match status.phase() {
                TxPhase::Signed => State::Signed,
                TxPhase::Submitted => State::Submitted,
                TxPhase::Included { .. } => State::Included,
            },
            signed_at: tx.signed_at,
            submitted_at: status.submitted_at(),
            last_rejection: status.last_rejection().cloned(),
            history: status.history().to_vec(),
        }
    }
}

/// An overview, and when it was read.
type Read = (Instant, Arc<Overview>);

/// Reads an overview, and shares it.
#[derive(Clone, Debug)]
pub(super) struct OverviewReader {
    pub(super) chain: Chain,
    pub(super) store: Store,
    pub(super) in_flight: Arc<PendingTxs>,
    pub(super) head: HeadWatch,
    pub(super) blockers: SenderBlockers,
    pub(super) signers: Vec<Address>,
    pub(super) cached: Arc<Mutex<Option<Read>>>,
}

impl OverviewReader {
    pub(super) async fn get(&self) -> Arc<Overview> {
        // Those that come meanwhile wait for this reading.
        let mut cached = self.cached.lock().await;
        if let Some((read_at, overview)) = &*cached
            && read_at.elapsed() < OVERVIEW_TTL
        {
            return overview.clone();
        }
        let overview = Arc::new(self.read().await);
        *cached = Some((Instant::now(), overview.clone()));
        overview
    }

    pub(super) fn pending(&self, signer: Address, nonce: u64) -> Option<PendingOverview> {
        self.in_flight.get(signer, nonce).map(|tx| PendingOverview::new(&tx))
    }

    async fn read(&self) -> Overview {
        let (all, failed) = (Filter::default(), Filter { states: vec![State::Failed], ..Filter::default() });
        let (is_store_usable, latest, failed) =
            tokio::join!(timeout(QUERY_TIMEOUT, self.store.is_usable()), self.list(&all), self.list(&failed),);
        let probed = self.chain.last_probed_head();
        let heads = self.head.header().into_iter().chain(probed);
        let signer = |address: &Address| SignerOverview {
            address: *address,
            reading: metrics().signer_now(*address),
            blocker: self.blockers.get(*address),
        };
        Overview {
            at: now(),
            // A probe that takes longer has not failed yet.
            is_store_usable: is_store_usable.unwrap_or_else(|_| metrics().is_store_up_now()),
            head: heads.max_by_key(|header| header.block.number),
            chain: self.chain.snapshot(None),
            signers: self.signers.iter().map(signer).collect(),
            pending: self.in_flight.all().iter().map(|tx| PendingOverview::new(tx)).collect(),
            unfinished: UNFINISHED_STATES
                .into_iter()
                .filter_map(|state| Some((state, metrics().in_flight_now(state)?)))
                .collect(),
            oldest_queued: metrics().oldest_queued_now(),
            activity: metrics().recent_activity(),
            latest,
            failed,
        }
    }

    async fn list(&self, filter: &Filter) -> Option<Vec<Registration>> {
        timeout(QUERY_TIMEOUT, self.store.list(filter, None, LISTED)).await.ok()?.ok()
    }
}
