//! From a claim to signed bytes on disk.

use super::{Lane, Tools, purse::ENVELOPE_BYTES, tend::asked};
use crate::{
    chain::{self, CallError, Chain, Fault, Outlook, Pair, Record, Refusal, Unsigned},
    pipeline::{
        flights::{Flight, Phase, Progress, Versions, lock},
        follower::PollError,
        journey::{Journey, Vehicle},
        now,
        queue::Claim,
    },
    registration::{
        Blocked, Failure, FailureReason, RegistrationId, Timestamp, TransactionId,
        diagnosis::{Hindrance, TooLarge},
        policy::{batching, fees},
    },
    store::{Attempt, Found, NewTransaction, QueuedRegistration, StoreError},
    telemetry::{
        events, metrics,
        spans::{self, BatchSpan},
    },
};
use alloy::primitives::{Bytes, hex};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use uuid::Uuid;

/// The gas of a block before the first one is seen: anvil's.
pub(super) const FIRST_BLOCK_GAS: u64 = 30_000_000;
/// How soon a pair that is on chain, but not deep enough, is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// A record so many blocks deeper than it has to be needs no second endpoint to agree.
const OLD: u64 = 1_000;
/// How many endpoints are heard about a nonce that is higher than ours.
const NONCE_WITNESSES: usize = 2;
/// How long they have to answer.
const HEARING: Duration = Duration::from_secs(2);
/// How many original transactions are looked up at once.
const LOOKUPS: usize = 8;

/// What is about to be signed.
pub(super) struct Prepared {
    pub(super) calldata: Bytes,
    pub(super) gas_limit: u64,
    /// When its registrations left the queue.
    pub(super) at: Timestamp,
}

/// What stands between a claim and a transaction.
pub(super) enum Obstacle {
    /// Something an operator can mend.
    Held(Hindrance),
    /// One of several registrations makes the batch revert.
    PoisonedBatch,
    /// The store.
    Store(StoreError),
}

impl From<StoreError> for Obstacle {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::OverBudget(over) => Self::Held(Hindrance::DailyBudget(over)),
            StoreError::Database(_)
            | StoreError::Corrupt(_)
            | StoreError::Conflict
            | StoreError::Fenced
            | StoreError::NotWritten
            | StoreError::Closed => Self::Store(error),
        }
    }
}

impl From<PollError> for Obstacle {
    fn from(error: PollError) -> Self {
        match error {
            PollError::Call(error) => error.into(),
            PollError::Store(error) => error.into(),
        }
    }
}

impl From<CallError> for Obstacle {
    fn from(error: CallError) -> Self {
        Self::Held(match error {
            CallError::Refused { .. } => Hindrance::Other(error.to_string()),
            CallError::Unavailable { .. } | CallError::NoEndpoint { .. } => Hindrance::NoEndpoint(error.to_string()),
        })
    }
}

impl Lane {
    /// Settles what is on chain already and makes a transaction of the rest; `None` when nothing is left to send.
    pub(super) async fn prepare(
        &mut self,
        claim: &mut Claim,
        batch: &BatchSpan,
    ) -> Result<Option<Arc<Flight>>, Obstacle> {
        let prepared_at = now();
        if self.next_nonce.is_none() {
            self.next_nonce = self.tools.store.next_nonce(self.signer.address()).await?;
        }
        let block_gas = self.tools.head().map_or(FIRST_BLOCK_GAS, |head| head.gas_limit);
        claim.truncate(batching::fit(case_lengths(&claim.registrations), block_gas));
        let journeys: Vec<_> =
            claim.registrations.iter().map(|row| Journey::begin(row.clone(), &self.tools.route, prepared_at)).collect();
        let (mut calldata, mut gas_limit) = call_of(&claim.registrations);
        let most = batching::most_gas(block_gas);
        if gas_limit > most {
            // A nonce that no block takes would keep everything behind it waiting.
            return Err(Obstacle::Held(Hindrance::TooLarge(TooLarge { gas: gas_limit, most })));
        }
        let (outlook, simulated) = tokio::join!(
            self.tools.chain.outlook(self.signer.address()),
            self.tools.chain.simulate(self.signer.address(), &calldata, gas_limit)
        );
        let outlook = outlook?;
        metrics().signer_balance(self.signer.address(), outlook.balance);
        let new = match simulated {
            Ok(new) => new,
            Err(error) => return self.refused(claim, journeys, error).await,
        };
        let journeys = if new < claim.registrations.len() {
            let left = self.settle_existing(claim, journeys, &outlook).await?;
            (calldata, gas_limit) = call_of(&claim.registrations);
            left
        } else {
            journeys
        };
        if claim.registrations.is_empty() {
            return Ok(None);
        }
        let prepared = Prepared { calldata, gas_limit, at: prepared_at };
        self.sign(claim, journeys, &outlook, prepared, batch).await.map(Some)
    }

    /// The simulation reverted, or nobody ran it.
    async fn refused(
        &self,
        claim: &Claim,
        journeys: Vec<Journey>,
        error: CallError,
    ) -> Result<Option<Arc<Flight>>, Obstacle> {
        let Some(Refusal::Reverted(data)) = error.refusal() else {
            return Err(Obstacle::Held(untried(&self.tools, &error)));
        };
        if let Some(account) = chain::refused_registrar(data) {
            return Err(Obstacle::Held(Hindrance::NotAllowed(account)));
        }
        let [row] = claim.registrations.as_slice() else { return Err(Obstacle::PoisonedBatch) };
        let failure = Failure {
            reason: FailureReason::RejectedByContract,
            message: format!(
                "the contract {} refuses this registration: {error}, revert data {}",
                self.tools.chain.contract(),
                hex::encode_prefixed(data)
            ),
        };
        if !self.tools.store.fail(row.id, &failure, now()).await? {
            return Ok(None);
        }
        // As many as there are registrations: one.
        for journey in journeys {
            events::failed(&journey.affected(journey.span()), &failure, "prepare");
            journey.failed(now());
        }
        self.tools.waiters.changed(&self.tools.store, &[row.id]).await;
        Ok(None)
    }

    /// Some pairs are on chain: settles those that are deep enough, puts the others off, and keeps the rest in the claim.
    async fn settle_existing(
        &self,
        claim: &mut Claim,
        journeys: Vec<Journey>,
        outlook: &Outlook,
    ) -> Result<Vec<Journey>, Obstacle> {
        let pairs = pairs_of(&claim.registrations);
        let records = self.tools.chain.records(&pairs).await?;
        let head = outlook.head.block.number;
        let confirmations = self.tools.settings.confirmations;
        let deep = |number: u64| (head + 1).saturating_sub(number) >= confirmations;
        let lookups: Vec<_> = claim
            .registrations
            .iter()
            .zip(&records)
            .filter_map(|(row, record)| Some((row.clone(), (*record)?)))
            .filter(|(_, record)| deep(record.block_number))
            .collect();
        let chain = &self.tools.chain;
        let lookups = lookups.into_iter().map(|(row, record)| original(chain.clone(), row, record, confirmations));
        let found: Vec<Option<Found>> = stream::iter(lookups).buffered(LOOKUPS).try_collect().await?;
        let mut found: Vec<Found> = found.into_iter().flatten().collect();
        self.tools.recognise_found(&mut found).await?;
        let (settled, blocks): (Vec<RegistrationId>, Vec<_>) =
            self.tools.store.found(&found, now()).await?.into_iter().unzip();
        lock(&self.tools.found).extend(blocks);

        let mut shallow = Vec::new();
        let mut left = (Vec::new(), Vec::new());
        for ((row, record), journey) in claim.registrations.drain(..).zip(records).zip(journeys) {
            match (found.iter().find(|one| one.id == row.id), record) {
                // Another replica has signed it since it was looked at: it is that one's to tell of.
                (Some(one), _) if !settled.contains(&one.id) => {}
                (Some(one), _) => {
                    events::found_on_chain(row.id, row.trace.trace_id, one.hash, one.registrar);
                    let depth = (head + 1).saturating_sub(one.block.number);
                    journey.confirmed(one.hash, &one.block, depth, now());
                }
                (None, Some(_)) => shallow.push(row.id),
                (None, None) => {
                    left.0.push(row);
                    left.1.push(journey);
                }
            }
        }
        claim.registrations = left.0;
        if !shallow.is_empty() {
            let (now, later) = (now(), now().plus(LOOK_AGAIN));
            self.tools.store.block(&shallow, Blocked::AwaitingConfirmations, later, now).await?;
        }
        let changed = [settled, shallow].concat();
        self.tools.waiters.changed(&self.tools.store, &changed).await;
        Ok(left.1)
    }

    /// Prices, signs, and writes nonce and bytes in one database transaction. No node has seen anything yet.
    async fn sign(
        &mut self,
        claim: &Claim,
        mut journeys: Vec<Journey>,
        outlook: &Outlook,
        prepared: Prepared,
        batch: &BatchSpan,
    ) -> Result<Arc<Flight>, Obstacle> {
        let signer = self.signer.address();
        let cap = self.tools.chain.max_fee_per_gas();
        let asked = asked(Some(outlook.market.clone()), (&outlook.head, false), prepared.gas_limit, cap);
        let tip = fees::priority_fee(asked.suggested, asked.crowd, asked.base_fee, cap);
        let fees = fees::price(asked.base_fee, tip, cap).map_err(|above| Obstacle::Held(Hindrance::FeeCap(above)))?;
        let worst = self.worst_cost(prepared.calldata.len() + ENVELOPE_BYTES, prepared.gas_limit, fees).await?;
        self.check_balance(outlook, &worst)?;
        let Prepared { calldata, gas_limit, at: prepared_at } = prepared;
        let next = self.next_nonce.unwrap_or(0);
        let nonce = if outlook.nonce > next { next.max(self.agreed_nonce(outlook).await) } else { next };
        // What a signer did before the store knew it is nobody's business.
        if let Some(next) = self.next_nonce.filter(|next| *next < nonce) {
            self.tools.explain_nonces(signer, next..nonce, outlook.head.block.number).await;
        }

        let unsigned = Unsigned {
            chain_id: self.tools.chain.network().chain_id,
            nonce,
            to: Some(self.tools.chain.contract()),
            calldata,
            gas_limit,
            fees,
        };
        let (hash, raw) = chain::sign(&self.signer, &unsigned)
            .map_err(|error| Obstacle::Held(Hindrance::Other(format!("the signer {error}"))))?;
        let attempt = Attempt { hash, raw, fees };
        let id = TransactionId::from(Uuid::now_v7());
        let signed_at = now();
        let new = NewTransaction {
            id,
            signer,
            nonce,
            gas_limit,
            prepared_at,
            signed_at,
            attempt: attempt.clone(),
            worst_cost: worst.wei(),
            allowance: self.allowance(),
        };
        spans::db("sign", self.tools.store.sign(&new, &claim.ids())).await?;
        self.next_nonce = Some(nonce + 1);
        events::transaction_signed(id, signer, nonce, hash, journeys.len(), signed_at.since(prepared_at));

        let vehicle = Vehicle {
            from: signer,
            nonce,
            batch_size: journeys.len(),
            gas_limit,
            hash,
            fees,
            number: 1,
            signed: signed_at,
        };
        let (endpoint, id_of_batch) = (Arc::from(self.tools.chain.primary()), batch.id());
        batch.signed(&signer, nonce, &hash, journeys.len());
        for journey in &mut journeys {
            journey.signed(&vehicle, &endpoint, id_of_batch);
            batch.carries(&journey.member.trace, journey.span());
        }
        let progress = Progress::new(Phase::Signed);
        let versions = Versions { attempts: vec![attempt], gas_limit, batch_size: journeys.len() };
        let flight = Arc::new(Flight::new(id, (signer, nonce), signed_at, versions, journeys, progress));
        self.tools.flights.insert(flight.clone());
        self.tools.waiters.changed(&self.tools.store, &flight.members).await;
        Ok(flight)
    }

    /// The signer's nonce is higher than ours: it has sent something that we do not know of. One endpoint alone could leave a gap
    /// that nothing fills, so that the lowest of two counts.
    async fn agreed_nonce(&self, outlook: &Outlook) -> u64 {
        let until = Instant::now() + HEARING;
        let witnesses = self.tools.chain.nonces_everywhere(self.signer.address(), NONCE_WITNESSES, until).await;
        witnesses.into_iter().filter_map(|witness| witness.answer.ok()).fold(outlook.nonce, u64::min)
    }
}

/// A call that nobody ran, or that a node refused to.
pub(super) fn untried(tools: &Tools, error: &CallError) -> Hindrance {
    match error {
        CallError::Unavailable { fault: Fault::NoContract, endpoint, .. } => {
            Hindrance::NoContract { endpoint: endpoint.clone(), contract: tools.chain.contract() }
        }
        CallError::Unavailable { fault: Fault::Unreadable, .. } | CallError::Refused { .. } => {
            Hindrance::Other(error.to_string())
        }
        CallError::Unavailable { .. } | CallError::NoEndpoint { .. } => Hindrance::NoEndpoint(error.to_string()),
    }
}

/// The transaction that registered a pair before us, so many blocks deep; `None` when the nodes do not show it, or do not agree (yet).
async fn original(
    chain: Chain,
    row: QueuedRegistration,
    record: Record,
    confirmations: u64,
) -> Result<Option<Found>, CallError> {
    let Some(original) = chain.registered(row.document_hash, &row.case_id, record).await? else { return Ok(None) };
    let head = chain.probed_head().map_or(0, |head| head.block.number);
    // What is old is in the contract's state, which was asked; some nodes do not keep its block.
    let old = head >= original.block.number + confirmations + OLD;
    let agreed = old || chain.is_agreed(&original.block, confirmations, head).await;
    Ok(agreed.then_some(Found {
        id: row.id,
        hash: original.transaction,
        registrar: original.registrar,
        block: original.block,
        ours: None,
    }))
}

fn pairs_of(rows: &[QueuedRegistration]) -> Vec<Pair> {
    rows.iter().map(|row| (row.document_hash, row.case_id.clone())).collect()
}

fn case_lengths(rows: &[QueuedRegistration]) -> impl Iterator<Item = usize> {
    rows.iter().map(|row| row.case_id.as_str().len())
}

fn call_of(rows: &[QueuedRegistration]) -> (Bytes, u64) {
    let calldata = chain::register_calldata(&pairs_of(rows));
    let gas_limit = batching::gas_limit(&calldata, case_lengths(rows));
    (calldata, gas_limit)
}
