//! The promise: a registration is on disk before anybody hears of it.
//!
//! Requests that arrive while a commit is being made share the next one, so that a thousand of them cost a few `fsync`s and
//! not a thousand.

use super::{
    Store, StoreError,
    db_transaction::DbTransaction,
    rows,
    sql::{chunks, value_placeholders},
    transaction_state::state_guard,
};
use crate::{
    clock,
    registration::{NewRegistration, Registration, RegistrationId, State, StateEvent, StateTimes, Timestamp},
};
use sqlx::{AssertSqlSafe, Row};
use std::collections::HashSet;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How many requests may stand before the writer; more wait for a place.
const ACCEPT_QUEUE_CAPACITY: usize = 4096;
/// How many share a commit at most, so that no commit takes long.
const MAX_ACCEPT_BATCH: usize = 256;
/// How often a commit is tried again that other replicas stood in the way of.
const MAX_CONFLICT_RETRIES: usize = 3;

/// An accepted registration.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The registration as it stands.
    pub registration: Registration,
    /// Whether this request began a journey: a new pair, or a failed one that starts again.
    pub is_new: bool,
}

/// Why nothing was accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// Too many registrations are unfinished.
    #[error("{limit} registrations are unfinished already")]
    QueueFull {
        /// How many may be.
        limit: u64,
    },
    /// The database cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

type AcceptReply = oneshot::Sender<Result<Accepted, AcceptError>>;

/// Hands registrations to the task that writes them.
#[derive(Clone, Debug)]
pub struct AcceptHandle(mpsc::Sender<(NewRegistration, AcceptReply)>);

/// The task's end of an [`Acceptor`].
#[derive(Debug)]
pub struct AcceptWriter {
    store: Store,
    requests: mpsc::Receiver<(NewRegistration, AcceptReply)>,
}

impl AcceptHandle {
    /// An acceptor and the task that serves it; the task is spawned by whoever owns the store.
    pub fn new(store: Store) -> (Self, AcceptWriter) {
        let (sender, requests) = mpsc::channel(ACCEPT_QUEUE_CAPACITY);
        (Self(sender), AcceptWriter { store, requests })
    }

    /// Writes the registration, or finds the one with the same pair. When this returns `Ok`, it is on disk.
    ///
    /// # Errors
    /// When nothing was accepted.
    pub async fn accept(&self, asked: NewRegistration) -> Result<Accepted, AcceptError> {
        let (answer, answered) = oneshot::channel();
        self.0.send((asked, answer)).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }
}

impl AcceptWriter {
    /// Writes until every [`Acceptor`] is gone, or until `close`: then what has come is written, and nothing more is taken.
    /// Calls `committed` after each commit that brought new work.
    pub async fn run(mut self, close: CancellationToken, committed: impl Fn()) {
        let mut batch = Vec::with_capacity(MAX_ACCEPT_BATCH);
        loop {
            match close.run_until_cancelled(self.requests.recv_many(&mut batch, MAX_ACCEPT_BATCH)).await {
                Some(0) => return,
                Some(_) => {}
                None => {
                    self.requests.close();
                    if self.requests.recv_many(&mut batch, MAX_ACCEPT_BATCH).await == 0 {
                        return;
                    }
                }
            }
            let (asked, answers): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
            match self.accept_with_retries(asked).await {
                Ok(results) => {
                    if results.iter().flatten().any(|accepted| accepted.is_new) {
                        committed();
                    }
                    for (answer, result) in answers.into_iter().zip(results) {
                        // A caller that hung up is not told; the work stands.
                        let _ = answer.send(result);
                    }
                }
                Err(error) => {
                    if error.is_reported_elsewhere() {
                        tracing::debug!(error = %error, requests = answers.len(), "registrations could not be written");
                    } else {
                        tracing::error!(error = %error, requests = answers.len(), "registrations could not be written");
                    }
                    for answer in answers {
                        let _ = answer.send(Err(StoreError::BatchFailed.into()));
                    }
                }
            }
        }
    }
}

impl AcceptWriter {
    /// Accepts some, again when other replicas were in the way.
    async fn accept_with_retries(
        &self,
        asked: Vec<NewRegistration>,
    ) -> Result<Vec<Result<Accepted, AcceptError>>, StoreError> {
        for _ in 0..MAX_CONFLICT_RETRIES {
            match self.store.accept_batch(&asked).await {
                Err(error) if error.is_serialization_conflict() => {
                    tracing::debug!(error = %error, "registrations are written again");
                }
                done => return done,
            }
        }
        self.store.accept_batch(&asked).await
    }
}

impl Store {
    /// Accepts some in one commit; the results stand in the order of the requests.
    async fn accept_batch(&self, asked: &[NewRegistration]) -> Result<Vec<Result<Accepted, AcceptError>>, StoreError> {
        let now = clock::now();
        let room = usize::try_from(self.queue_limit.saturating_sub(self.unfinished_count())).unwrap_or(usize::MAX);
        // Two replicas that write the same pairs wait for each other's rows: in one order, so that neither waits for ever.
        let mut order: Vec<usize> = (0..asked.len()).collect();
        order.sort_by_cached_key(|index| pair_key(&asked[*index]));
        let mut transaction = DbTransaction::begin(&self.writer).await?;
        let ids: Vec<_> = asked.iter().map(|_| RegistrationId::from(Uuid::now_v7())).collect();
        let new: Vec<_> =
            order.iter().filter(|index| **index < room).map(|index| (ids[*index], &asked[*index])).collect();
        let mut inserted = HashSet::with_capacity(new.len());
        for chunk in chunks(&new) {
            inserted.extend(insert_registrations(&mut transaction, chunk, now).await?);
        }
        let mut begun = inserted.len() as u64;
        let mut results: Vec<Option<Result<Accepted, AcceptError>>> = asked.iter().map(|_| None).collect();
        for index in order {
            results[index] = Some(if inserted.contains(&ids[index]) {
                Ok(Accepted { registration: queued_registration(ids[index], asked[index].clone(), now), is_new: true })
            } else {
                let result = self.find_or_restart(&mut transaction, &asked[index], begun, now).await?;
                begun += u64::from(matches!(&result, Ok(Accepted { is_new: true, .. })));
                result
            });
        }
        transaction.commit_then(|| self.add_unfinished(begun)).await?;
        results
            .into_iter()
            .map(|result| result.ok_or_else(|| StoreError::corrupt("a request without a result")))
            .collect()
    }

    /// A pair that is there already: as it stands, or started again when it failed.
    async fn find_or_restart(
        &self,
        transaction: &mut DbTransaction,
        asked: &NewRegistration,
        begun: u64,
        now: Timestamp,
    ) -> Result<Result<Accepted, AcceptError>, StoreError> {
        let full = self.unfinished_count() + begun >= self.queue_limit;
        let Some(found) = select_by_pair(transaction, asked).await? else {
            return Ok(Err(AcceptError::QueueFull { limit: self.queue_limit }));
        };
        if found.state.next(StateEvent::Retry).is_none() {
            return Ok(Ok(Accepted { registration: found, is_new: false }));
        }
        if full {
            return Ok(Err(AcceptError::QueueFull { limit: self.queue_limit }));
        }
        // Another replica may have begun it again since it was looked at.
        let moved = sqlx::query(AssertSqlSafe(format!(
            "UPDATE registrations SET state = $1, revision = revision + 1, blocked = '', retry_at = 0, reverts = 0, \
             transaction_id = NULL, failure_reason = NULL, failure_message = NULL, failed_at = NULL, updated_at = $2 \
             WHERE id = $3 AND {}",
            state_guard(StateEvent::Retry)
        )))
        .bind(StateEvent::Retry.target().code())
        .bind(now.micros())
        .bind(found.id.as_bytes().to_vec())
        .execute(&mut **transaction)
        .await?;
        let restarted = select_by_pair(transaction, asked).await?.ok_or(StoreError::Conflict)?;
        Ok(Ok(Accepted { registration: restarted, is_new: moved.rows_affected() > 0 }))
    }
}

/// What makes a registration one and the same.
fn pair_key(asked: &NewRegistration) -> (Vec<u8>, String) {
    (asked.pair.document_hash.as_bytes().to_vec(), asked.pair.case_id.as_str().to_owned())
}

async fn insert_registrations(
    transaction: &mut DbTransaction,
    chunk: &[(RegistrationId, &NewRegistration)],
    now: Timestamp,
) -> Result<Vec<RegistrationId>, StoreError> {
    let sql = format!(
        "INSERT INTO registrations (id, document_hash, case_id, submitted_as, user_id, state, revision, trace_id, parent_span_id, \
         sampled, baggage, tracestate, created_at, updated_at) VALUES {} ON CONFLICT (document_hash, case_id) DO NOTHING RETURNING id",
        value_placeholders(1, chunk.len(), 14)
    );
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for (id, asked) in chunk {
        query = query
            .bind(id.as_bytes().to_vec())
            .bind(asked.pair.document_hash.as_bytes().to_vec())
            .bind(asked.pair.case_id.as_str().to_owned())
            .bind(asked.submitted_as.clone())
            .bind(asked.user_id.as_ref().map(|user| user.as_str().to_owned()))
            .bind(State::Queued.code())
            .bind(1_i64)
            .bind(asked.trace.trace_id.to_bytes().to_vec())
            .bind(asked.trace.parent.map(|span| span.to_bytes().to_vec()))
            .bind(asked.trace.sampled.map(i64::from))
            .bind(asked.trace.baggage.clone())
            .bind(asked.trace.tracestate.clone())
            .bind(now.micros())
            .bind(now.micros());
    }
    let rows = query.fetch_all(&mut **transaction).await?;
    rows.iter().map(|row| super::open::fixed_bytes(row.try_get(0)?).map(RegistrationId::from_bytes)).collect()
}

async fn select_by_pair(
    transaction: &mut DbTransaction,
    asked: &NewRegistration,
) -> Result<Option<Registration>, StoreError> {
    let sql = format!("{} WHERE r.document_hash = $1 AND r.case_id = $2", rows::SELECT_REGISTRATION);
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(asked.pair.document_hash.as_bytes().to_vec())
        .bind(asked.pair.case_id.as_str().to_owned())
        .fetch_optional(&mut **transaction)
        .await?;
    row.as_ref().map(rows::read_registration).transpose()
}

fn queued_registration(id: RegistrationId, asked: NewRegistration, now: Timestamp) -> Registration {
    let times = StateTimes {
        created: now,
        submitted: None,
        included: None,
        confirmed: None,
        failed: None,
        timed_out: None,
        updated: now,
    };
    Registration {
        id,
        request: asked,
        state: State::Queued,
        finality: None,
        revision: 1,
        blocked_reason: None,
        transaction: None,
        failure: None,
        diagnosis: None,
        times,
    }
}
