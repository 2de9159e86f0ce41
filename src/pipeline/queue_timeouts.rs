//! The queue timeout: registrations that no node has a transaction for after this time are diagnosed and reported, as a
//! late transaction is by [`super::timeouts`]. It ends waits, never work.
//!
//! A blocked queue may hold very many registrations. One diagnosis serves all with the same blocked reason, and an
//! episode has a bounded number of reports, however many replicas, restarts and registrations it has.

use super::{
    diagnoser::{Diagnoser, DiagnosisRun},
    in_flight::{PendingTx, PendingTxs},
    registration_trace::{ChainInfo, RegistrationTrace},
    tx_state::TxPhase,
    waiters::Waiters,
};
use crate::{
    chain::Chain,
    clock::now,
    registration::{BlockedReason, Registration, RegistrationId, Timestamp},
    store::{BatchMember, Delayed, Store, StoreError},
    telemetry::{DelayedBatch, DelayedRegistration, QueueDelay, UnsentTransaction, events, log_retry},
};
use alloy::primitives::Address;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// In between only registrations that were accepted since the last check are looked at. This finds those that were
/// queued again, and those that were due while the store could not be read.
const FULL_SCAN_INTERVAL: Duration = Duration::from_secs(30);
/// Registrations in one commit.
const PAGE_SIZE: usize = 500;
/// Registrations become late one after the other while the queue is blocked.
const DIAGNOSIS_TTL: Duration = Duration::from_secs(10);
const LOWEST_ID: RegistrationId = RegistrationId::from_bytes([0; 16]);

/// What the watcher uses.
#[derive(Clone, Debug)]
pub(super) struct QueueTimeoutParts {
    pub(super) chain: Chain,
    pub(super) store: Store,
    pub(super) in_flight: Arc<PendingTxs>,
    pub(super) waiters: Waiters,
    pub(super) diagnoser: Diagnoser,
    pub(super) chain_info: Arc<ChainInfo>,
    pub(super) signers: Vec<Address>,
    pub(super) queue_timeout: Duration,
}

#[derive(Debug)]
pub(super) struct QueueTimeoutWatcher {
    parts: QueueTimeoutParts,
    /// Those with ids up to this one are not looked at before the next full scan.
    scanned: RegistrationId,
    full_scan_at: Instant,
    /// The latest diagnosis of each blocked reason.
    diagnoses: HashMap<Option<BlockedReason>, (Instant, Arc<DiagnosisRun>)>,
}

impl QueueTimeoutWatcher {
    pub(super) fn new(parts: QueueTimeoutParts) -> Self {
        Self { parts, scanned: LOWEST_ID, full_scan_at: Instant::now(), diagnoses: HashMap::new() }
    }

    /// Runs until `stop`. A check that has begun is completed, so that every stored delay is reported.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.check().await {
                log_retry!(error, "failed to check the queue for late registrations, retrying");
                self.full_scan_at = Instant::now();
            }
            stop.run_until_cancelled(tokio::time::sleep(CHECK_INTERVAL)).await;
        }
    }

    async fn check(&mut self) -> Result<(), StoreError> {
        let queued_until = now().minus(self.parts.queue_timeout);
        for tx in self.parts.in_flight.all() {
            let late =
                if tx.status().phase() == TxPhase::Signed { late_members(&tx, queued_until) } else { Vec::new() };
            if late.is_empty() {
                continue;
            }
            match self.report_unsent(&tx, &late).await {
                // Fenced: another replica has the signer's lease by now, and reports it.
                Ok(()) | Err(StoreError::Fenced) => {}
                Err(error) => return Err(error),
            }
        }
        self.check_queued(queued_until).await
    }

    /// Members of a transaction that no node has accepted. Only the replica that holds the signer's lease has it.
    async fn report_unsent(&self, tx: &PendingTx, late: &[RegistrationId]) -> Result<(), StoreError> {
        let store = &self.parts.store;
        let Some(first) = store.get(late[0]).await? else { return Ok(()) };
        let blocked = first.blocked_reason;
        let run = self.parts.diagnoser.diagnose_unsent(tx, blocked).await;
        let at = now();
        let Delayed { marked, marked_before } = store.mark_delayed(late, Some(tx.id), &run.diagnosis, at).await?;
        let unsent = UnsentTransaction { id: tx.id, hash: tx.latest().0, from: tx.signer, nonce: tx.nonce };
        let mut batch = DelayedBatch::new(self.delay(&run, blocked, Some(unsent), at));
        let mut position = marked_before;
        for trace in tx.traces().iter_mut() {
            if marked.binary_search(&trace.member.id).is_ok() {
                let span_id = trace.on_delayed(run.diagnosis.cause, at);
                let queued = trace.member.queued_at;
                batch.add(position, DelayedRegistration { affected: trace.affected(span_id), queued });
                position += 1;
            } else if late.contains(&trace.member.id) {
                // Marked before it was signed.
                trace.member.delayed_at = Some(at);
            }
        }
        report(&batch);
        self.parts.waiters.notify_changed(&marked).await;
        Ok(())
    }

    async fn check_queued(&mut self, queued_until: Timestamp) -> Result<(), StoreError> {
        let is_full_scan = Instant::now() >= self.full_scan_at;
        let mut after = if is_full_scan { LOWEST_ID } else { self.scanned };
        let mut batches = HashMap::new();
        let result = loop {
            let page = match self.parts.store.late_in_queue(after, queued_until, PAGE_SIZE).await {
                Ok(page) => page,
                Err(error) => break Err(error),
            };
            let Some(last) = page.last().map(|registration| registration.id) else { break Ok(()) };
            if let Err(error) = self.mark_page(page, &mut batches).await {
                break Err(error);
            }
            after = last;
        };
        batches.values().for_each(report);
        if result.is_ok() {
            self.scanned = RegistrationId::last_at(queued_until);
            if is_full_scan {
                self.full_scan_at = Instant::now() + FULL_SCAN_INTERVAL;
            }
        }
        result
    }

    /// Marks the registrations of a page, and adds them to the batches to be reported.
    async fn mark_page(
        &mut self,
        page: Vec<Registration>,
        batches: &mut HashMap<Option<BlockedReason>, DelayedBatch>,
    ) -> Result<(), StoreError> {
        let mut by_reason: HashMap<_, Vec<Registration>> = HashMap::new();
        for registration in page {
            by_reason.entry(registration.blocked_reason).or_default().push(registration);
        }
        for (blocked, late) in by_reason {
            let run = self.diagnose(blocked, &late[0]).await;
            let (ids, at) = (late.iter().map(|one| one.id).collect::<Vec<_>>(), now());
            let Delayed { marked, marked_before } =
                self.parts.store.mark_delayed(&ids, None, &run.diagnosis, at).await?;
            let batch =
                batches.entry(blocked).or_insert_with(|| DelayedBatch::new(self.delay(&run, blocked, None, at)));
            let newly = late.into_iter().filter(|one| marked.binary_search(&one.id).is_ok());
            for (position, registration) in (marked_before..).zip(newly) {
                let queued = registration.times.queued;
                let mut trace = RegistrationTrace::new(member(registration), &self.parts.chain_info, queued);
                let span_id = trace.on_delayed(run.diagnosis.cause, at);
                batch.add(position, DelayedRegistration { affected: trace.affected(span_id), queued });
            }
            self.parts.waiters.notify_changed(&marked).await;
        }
        Ok(())
    }

    async fn diagnose(&mut self, blocked: Option<BlockedReason>, late: &Registration) -> Arc<DiagnosisRun> {
        if let Some((made_at, run)) = self.diagnoses.get(&blocked)
            && made_at.elapsed() < DIAGNOSIS_TTL
        {
            return run.clone();
        }
        let QueueTimeoutParts { diagnoser, signers, .. } = &self.parts;
        let run = Arc::new(diagnoser.diagnose_queue(blocked, &late.request.pair, signers).await);
        self.diagnoses.insert(blocked, (Instant::now(), run.clone()));
        run
    }

    fn delay(
        &self,
        run: &DiagnosisRun,
        blocked_reason: Option<BlockedReason>,
        unsent: Option<UnsentTransaction>,
        at: Timestamp,
    ) -> QueueDelay {
        let chain = &run.evidence.chain;
        QueueDelay {
            network: self.parts.chain.network().name.clone(),
            contract_address: self.parts.chain.contract(),
            blocked_reason,
            unsent,
            head_block: chain.head.map(|head| head.number),
            base_fee_per_gas: chain.head.map(|head| head.base_fee),
            at,
            diagnosis: run.diagnosis.clone(),
            endpoints: chain.usable.iter().chain(&chain.unusable).cloned().collect(),
        }
    }
}

/// Another replica may have marked all of them.
fn report(batch: &DelayedBatch) {
    if batch.count() > 0 {
        events::registrations_delayed(batch);
    }
}

fn late_members(tx: &PendingTx, queued_until: Timestamp) -> Vec<RegistrationId> {
    let traces = tx.traces();
    let members = traces.iter().map(|trace| &trace.member);
    let late = members.filter(|member| member.delayed_at.is_none() && member.queued_at <= queued_until);
    late.map(|member| member.id).collect()
}

fn member(registration: Registration) -> BatchMember {
    let Registration { id, request, times, .. } = registration;
    BatchMember {
        id,
        pair: request.pair,
        user_id: request.user_id,
        caller: request.caller,
        trace: (*request.trace).clone(),
        created_at: times.created,
        reverts: 0,
        queued_at: times.queued,
        delayed_at: times.delayed,
    }
}
