//! Durable acceptance: a registration is on disk before its caller gets an answer.
//!
//! Requests that arrive during a commit share the next one, so that a thousand of them need a few `fsync`s and not a
//! thousand.

use super::{
    Store, StoreError,
    db_transaction::DbTransaction,
    rows::{self, RowReader},
    sql::{chunks, state_guard, value_placeholders},
    transact::Fence,
};
use crate::{
    clock,
    registration::{NewRegistration, Registration, RegistrationId, State, StateEvent, StateTimes, Timestamp},
    telemetry::spans,
};
use sqlx::AssertSqlSafe;
use std::collections::HashSet;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Requests that wait for the writer; further callers wait for room.
const ACCEPT_QUEUE_CAPACITY: usize = 4096;
/// Keeps commits short.
const MAX_ACCEPT_BATCH: usize = 256;
const MAX_CONFLICT_RETRIES: usize = 3;

#[derive(Clone, Debug)]
pub struct Accepted {
    pub registration: Registration,
    /// Whether this request queued it: a new pair, or a failed one that is restarted.
    pub is_new: bool,
}

/// Why a registration was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// Registering an existing pair still succeeds.
    #[error("the queue is full: {limit} registrations are unfinished")]
    QueueFull {
        /// The configured maximum of unfinished registrations.
        limit: u64,
    },
    /// The database cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

type AcceptReply = oneshot::Sender<Result<Accepted, AcceptError>>;

/// Passes registrations to the [`AcceptWriter`].
#[derive(Clone, Debug)]
pub struct AcceptHandle(mpsc::Sender<(NewRegistration, AcceptReply)>);

/// The task that writes registrations.
#[derive(Debug)]
pub struct AcceptWriter {
    store: Store,
    requests: mpsc::Receiver<(NewRegistration, AcceptReply)>,
}

impl AcceptHandle {
    /// The caller spawns [`AcceptWriter::run`].
    pub fn new(store: Store) -> (Self, AcceptWriter) {
        let (sender, requests) = mpsc::channel(ACCEPT_QUEUE_CAPACITY);
        (Self(sender), AcceptWriter { store, requests })
    }

    /// Writes the registration, or finds the one with the same pair. When this returns `Ok`, it is on disk.
    pub async fn accept(&self, request: NewRegistration) -> Result<Accepted, AcceptError> {
        let reply = async {
            let (reply, replied) = oneshot::channel();
            self.0.send((request, reply)).await.map_err(|_| StoreError::Closed)?;
            replied.await.map_err(|_| StoreError::Closed)?
        };
        spans::db("accept", reply).await
    }
}

impl AcceptWriter {
    /// Writes until every [`AcceptHandle`] is dropped, or until `close`: then the requests that have arrived are
    /// written, and no more are taken. Calls `committed` after each commit that queued something.
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
            let (requests, replies): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
            match self.accept_with_retries(requests).await {
                Ok(results) => {
                    if results.iter().flatten().any(|accepted| accepted.is_new) {
                        committed();
                    }
                    for (reply, result) in replies.into_iter().zip(results) {
                        // Fails if the caller has gone; the registration is kept.
                        let _ = reply.send(result);
                    }
                }
                Err(error) => {
                    if error.is_reported_elsewhere() {
                        tracing::debug!(error = %error, requests = replies.len(), "failed to write registrations");
                    } else {
                        tracing::error!(error = %error, requests = replies.len(), "failed to write registrations");
                    }
                    for reply in replies {
                        let _ = reply.send(Err(StoreError::BatchFailed.into()));
                    }
                }
            }
        }
    }

    async fn accept_with_retries(
        &self,
        requests: Vec<NewRegistration>,
    ) -> Result<Vec<Result<Accepted, AcceptError>>, StoreError> {
        for _ in 0..MAX_CONFLICT_RETRIES {
            match self.store.accept_batch(&requests).await {
                Err(error) if error.is_serialization_conflict() => {
                    tracing::debug!(error = %error, "write conflict, retrying");
                }
                done => return done,
            }
        }
        self.store.accept_batch(&requests).await
    }
}

impl Store {
    /// Accepts several in one commit; the results are in the order of the requests.
    async fn accept_batch(
        &self,
        requests: &[NewRegistration],
    ) -> Result<Vec<Result<Accepted, AcceptError>>, StoreError> {
        let now = clock::now();
        let room = usize::try_from(self.queue_limit.saturating_sub(self.unfinished_count())).unwrap_or(usize::MAX);
        // Two replicas that write the same pairs wait for each other's rows: in one order, so that they cannot
        // deadlock.
        let mut order: Vec<usize> = (0..requests.len()).collect();
        order.sort_by_cached_key(|index| pair_key(&requests[*index]));
        let ids: Vec<_> = requests.iter().map(|_| RegistrationId::from(Uuid::now_v7())).collect();
        let new: Vec<_> =
            order.iter().filter(|index| **index < room).map(|index| (ids[*index], &requests[*index])).collect();
        let mut results: Vec<Option<Result<Accepted, AcceptError>>> = requests.iter().map(|_| None).collect();
        self.transact("accept_batch", Fence::None, async |tx| {
            let mut inserted = HashSet::with_capacity(new.len());
            for chunk in chunks(&new) {
                inserted.extend(insert_registrations(tx, chunk, now).await?);
            }
            tx.unfinished.added = inserted.len() as u64;
            for index in order {
                results[index] = Some(if inserted.contains(&ids[index]) {
                    let registration = queued_registration(ids[index], requests[index].clone(), now);
                    Ok(Accepted { registration, is_new: true })
                } else {
                    self.find_or_restart(tx, &requests[index], now).await?
                });
            }
            Ok(())
        })
        .await?;
        results
            .into_iter()
            .map(|result| result.ok_or_else(|| StoreError::corrupt("a request without a result")))
            .collect()
    }

    /// The existing registration of the pair, restarted if it has failed.
    async fn find_or_restart(
        &self,
        tx: &mut DbTransaction,
        request: &NewRegistration,
        now: Timestamp,
    ) -> Result<Result<Accepted, AcceptError>, StoreError> {
        let full = self.unfinished_count() + tx.unfinished.added >= self.queue_limit;
        let Some(found) = select_by_pair(tx, request).await? else {
            return Ok(Err(AcceptError::QueueFull { limit: self.queue_limit }));
        };
        if found.state.next(StateEvent::Retry).is_none() {
            return Ok(Ok(Accepted { registration: found, is_new: false }));
        }
        if full {
            return Ok(Err(AcceptError::QueueFull { limit: self.queue_limit }));
        }
        // Another replica may have restarted it since it was read.
        let moved = sqlx::query(AssertSqlSafe(format!(
            "UPDATE registrations SET state = $1, revision = revision + 1, blocked = '', retry_at = 0, reverts = 0, \
             transaction_id = NULL, failure_reason = NULL, failure_message = NULL, failed_at = NULL, updated_at = $2 \
             WHERE id = $3 AND {}",
            state_guard(StateEvent::Retry)
        )))
        .bind(StateEvent::Retry.target().code())
        .bind(now)
        .bind(found.id)
        .execute(&mut **tx)
        .await?;
        tx.unfinished.added += moved.rows_affected();
        let restarted = select_by_pair(tx, request).await?.ok_or(StoreError::Conflict)?;
        Ok(Ok(Accepted { registration: restarted, is_new: moved.rows_affected() > 0 }))
    }
}

/// The order in which every replica writes pairs.
fn pair_key(request: &NewRegistration) -> (Vec<u8>, String) {
    (request.pair.document_hash.as_bytes().to_vec(), request.pair.case_id.as_str().to_owned())
}

async fn insert_registrations(
    tx: &mut DbTransaction,
    chunk: &[(RegistrationId, &NewRegistration)],
    now: Timestamp,
) -> Result<Vec<RegistrationId>, StoreError> {
    let sql = format!(
        "INSERT INTO registrations (id, document_hash, case_id, submitted_as, user_id, state, revision, trace_id, \
         parent_span_id, sampled, baggage, tracestate, created_at, updated_at) VALUES {} ON CONFLICT (document_hash, \
         case_id) DO NOTHING RETURNING id",
        value_placeholders(1, chunk.len(), 14)
    );
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for (id, request) in chunk {
        query = query
            .bind(*id)
            .bind(request.pair.document_hash)
            .bind(request.pair.case_id.clone())
            .bind(request.submitted_as.clone())
            .bind(request.user_id.as_ref().map(|user| user.as_str().to_owned()))
            .bind(State::Queued.code())
            .bind(1_i64)
            .bind(request.trace.trace_id.to_bytes().to_vec())
            .bind(request.trace.parent.map(|span| span.to_bytes().to_vec()))
            .bind(request.trace.sampled.map(i64::from))
            .bind(request.trace.baggage.clone())
            .bind(request.trace.tracestate.clone())
            .bind(now)
            .bind(now);
    }
    query.fetch_all(&mut **tx).await?.iter().map(|row| RowReader::new(row).registration_id()).collect()
}

async fn select_by_pair(tx: &mut DbTransaction, request: &NewRegistration) -> Result<Option<Registration>, StoreError> {
    let sql = format!("{} WHERE r.document_hash = $1 AND r.case_id = $2", rows::SELECT_REGISTRATION);
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(request.pair.document_hash)
        .bind(request.pair.case_id.clone())
        .fetch_optional(&mut **tx)
        .await?;
    row.as_ref().map(rows::read_registration).transpose()
}

fn queued_registration(id: RegistrationId, request: NewRegistration, now: Timestamp) -> Registration {
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
        request,
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
