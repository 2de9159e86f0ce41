//! Whether pairs are on chain, for callers. Concurrent questions share one call, a registration that was found is shared
//! until the next block, and all of it is within the callers' budget.

use super::{caller_budget::CallerBudget, head::HeadWatch};
use crate::{
    chain::{CallError, Chain, Header, OnChainRecord},
    registration::{Finality, Pair, Timestamp},
    telemetry::{OngoingCondition, spans},
};
use alloy::primitives::{Address, B256};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Semaphore, oneshot},
    time::Instant,
};
use tracing::{info, warn};

/// Pairs of one call: about 13 kB of calldata.
const MAX_PAIRS_PER_CALL: usize = 100;
/// Callers that wait for an answer. More are turned away.
const MAX_WAITING: usize = 1_000;
/// Answers in memory.
const MAX_CACHED: usize = 10_000;
/// A registration is shared for at most this long, also when no block follows. That a pair is not on chain is never
/// shared with later questions: the next block may register it.
const ANSWER_TTL: Duration = Duration::from_secs(1);
/// Logs and header of the registration's block.
const EVENT_CALLS: u32 = 2;
/// The newest, the safe and the finalized head.
const HEAD_CALLS: u32 = 3;

/// The record of a pair on chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnChainRegistration {
    /// The account that registered it.
    pub registrar: Address,
    /// `None` if the node has the record but not its event.
    pub transaction: Option<B256>,
    /// The block's number.
    pub block_number: u64,
    /// The block's hash and time.
    pub block: Option<(B256, Timestamp)>,
    /// The block itself counts as 1.
    pub confirmations: u64,
    /// How final the block is.
    pub finality: Finality,
}

/// `None` if the pair is not on chain.
pub type Verified = Option<OnChainRegistration>;

#[derive(Clone, Debug, thiserror::Error)]
pub enum VerificationError {
    #[error("too many callers ask about the chain")]
    Busy,
    #[error(transparent)]
    Call(#[from] CallError),
}

#[derive(Clone, Debug)]
pub(super) struct Verifier {
    chain: Chain,
    head: HeadWatch,
    budget: CallerBudget,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    waiting: Semaphore,
    /// Held by the caller that asks for all that wait.
    turn: Semaphore,
    questions: Mutex<VecDeque<Question>>,
    cache: Mutex<AnswerCache>,
    failing: OngoingCondition,
}

#[derive(Debug)]
struct Question {
    pair: Pair,
    answer: oneshot::Sender<RecordAnswer>,
}

pub(super) type RecordAnswer = Result<Option<OnChainRecord>, CallError>;

#[derive(Debug, Default)]
struct AnswerCache {
    /// The head of `answers`, and since when they are collected.
    head: Option<(B256, Instant)>,
    answers: HashMap<Pair, OnChainRegistration>,
    /// Registrations in finalized blocks: their events do not change.
    finalized: HashMap<Pair, OnChainRegistration>,
}

impl AnswerCache {
    fn answer(&mut self, pair: &Pair, head: B256, now: Instant) -> Option<OnChainRegistration> {
        let is_current = |(of, since): (B256, Instant)| of == head && now.duration_since(since) < ANSWER_TTL;
        if !self.head.is_some_and(is_current) {
            self.head = Some((head, now));
            self.answers.clear();
        }
        self.answers.get(pair).copied()
    }

    fn insert(&mut self, pair: &Pair, head: B256, found: OnChainRegistration) {
        if self.head.is_some_and(|(of, _)| of == head) && self.answers.len() < MAX_CACHED {
            self.answers.insert(pair.clone(), found);
        }
        if found.finality == Finality::Finalized && found.block.is_some() {
            if self.finalized.len() >= MAX_CACHED {
                self.finalized.clear();
            }
            self.finalized.insert(pair.clone(), found);
        }
    }
}

impl Verifier {
    pub(super) fn new(chain: Chain, head: HeadWatch, budget: CallerBudget) -> Self {
        let shared = Shared {
            waiting: Semaphore::new(MAX_WAITING),
            turn: Semaphore::new(1),
            questions: Mutex::default(),
            cache: Mutex::default(),
            failing: OngoingCondition::new(),
        };
        Self { chain, head, budget, shared: Arc::new(shared) }
    }

    /// Reads the chain, not the store.
    ///
    /// # Errors
    /// When no endpoint responds, or too many callers wait.
    pub(super) async fn verify(&self, pair: &Pair) -> Result<Verified, VerificationError> {
        let _place = self.shared.waiting.try_acquire().map_err(|_| VerificationError::Busy)?;
        let answer = self.find(pair).await;
        match &answer {
            Ok(_) => {
                if let Some(lasted) = self.shared.failing.clear() {
                    info!(seconds = lasted.as_secs(), "documents can be verified again");
                }
            }
            Err(error) if self.shared.failing.start() => {
                warn!(error = %error, "documents cannot be verified; the same failure of later calls is not logged");
            }
            Err(_) => spans::mark_repeated_call(),
        }
        Ok(answer?)
    }

    async fn find(&self, pair: &Pair) -> Result<Verified, CallError> {
        let head = self.newest_head().await?;
        if let Some(cached) = self.shared.cache.lock().answer(pair, head.block.hash, Instant::now()) {
            return Ok(Some(cached));
        }
        let Some(record) = self.record(pair).await? else { return Ok(None) };
        let found = self.describe(pair, record, &head).await?;
        self.shared.cache.lock().insert(pair, head.block.hash, found);
        Ok(Some(found))
    }

    /// Of the follower or of the last probe; no call once there is one.
    async fn newest_head(&self) -> Result<Header, CallError> {
        let known = [self.head.header(), self.chain.last_probed_head()];
        match known.into_iter().flatten().max_by_key(|head| head.block.number) {
            Some(head) => Ok(head),
            None => self.chain.head().await,
        }
    }

    /// The pair's record, by a call that all waiting callers share.
    pub(super) async fn record(&self, pair: &Pair) -> RecordAnswer {
        loop {
            let (sender, mut answer) = oneshot::channel();
            self.shared.questions.lock().push_back(Question { pair: pair.clone(), answer: sender });
            tokio::select! {
                biased;
                answered = &mut answer => match answered {
                    Ok(answered) => return answered,
                    // The caller that asked for all was cancelled.
                    Err(_) => continue,
                },
                _turn = self.shared.turn.acquire() => loop {
                    match answer.try_recv() {
                        Ok(answered) => return answered,
                        Err(oneshot::error::TryRecvError::Empty) => self.ask_for_waiting().await,
                        Err(oneshot::error::TryRecvError::Closed) => break,
                    }
                },
            }
        }
    }

    async fn ask_for_waiting(&self) {
        // While this waits, more callers join.
        let _slot = self.budget.take(1).await;
        let asked: Vec<Question> = {
            let mut questions = self.shared.questions.lock();
            questions.retain(|question| !question.answer.is_closed());
            let count = questions.len().min(MAX_PAIRS_PER_CALL);
            questions.drain(..count).collect()
        };
        let pairs: Vec<Pair> = asked.iter().map(|question| question.pair.clone()).collect();
        let records = self.chain.records(&pairs).await;
        for (position, question) in asked.into_iter().enumerate() {
            let answer = records.as_ref().map(|records| records.get(position).copied().flatten()).map_err(Clone::clone);
            // A caller that does not wait any more needs no answer.
            let _ = question.answer.send(answer);
        }
    }

    async fn describe(
        &self,
        pair: &Pair,
        record: OnChainRecord,
        head: &Header,
    ) -> Result<OnChainRegistration, CallError> {
        let confirmations = |head: &Header| (head.block.number + 1).saturating_sub(record.block_number).max(1);
        let known = self.shared.cache.lock().finalized.get(pair).copied();
        let is_same = |known: &OnChainRegistration| {
            (known.registrar, known.block_number) == (record.registrar, record.block_number)
        };
        if let Some(known) = known.filter(is_same) {
            return Ok(OnChainRegistration { confirmations: confirmations(head), ..known });
        }
        let _slot = self.budget.take(EVENT_CALLS + HEAD_CALLS).await;
        let (original, head, (safe, finalized)) = tokio::try_join!(
            self.chain.find_registration(pair, record),
            self.chain.head(),
            self.chain.finality_heads(),
        )?;
        let at_or_below = |head: Option<Header>| head.is_some_and(|head| record.block_number <= head.block.number);
        let finality = match (at_or_below(finalized), at_or_below(safe)) {
            (true, _) => Finality::Finalized,
            (false, true) => Finality::Safe,
            (false, false) => Finality::Unsafe,
        };
        Ok(OnChainRegistration {
            registrar: record.registrar,
            transaction: original.map(|original| original.transaction),
            block_number: record.block_number,
            block: original.map(|original| (original.block.hash, original.block.time)),
            confirmations: confirmations(&head),
            finality,
        })
    }
}
