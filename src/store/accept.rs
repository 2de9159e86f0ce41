//! Durable acceptance: a registration is on disk before its caller gets an answer.
//!
//! Requests that arrive during a commit share the next one, so that a thousand of them need a few `fsync`s and not a
//! thousand. A request has one registration or many, which are accepted together or not at all.

use super::{
    Store, StoreError,
    caller_usage::{CallerLimit, UnfinishedCounts},
};
use crate::{
    registration::{CallerName, CallerQuota, NewRegistration, Registration},
    telemetry::spans,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Requests that wait for the writer; further callers wait for room.
const ACCEPT_QUEUE_CAPACITY: usize = 4096;
/// Requests of a commit.
const MAX_COMMIT_REQUESTS: usize = 256;
/// Registrations of a commit, unless its only request has more. Keeps commits short.
const MAX_COMMIT_REGISTRATIONS: usize = 512;
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
    /// Registering an existing pair still succeeds.
    #[error("the caller has reached its limit")]
    CallerLimit(CallerLimit),
    /// The database cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One for each registration of the request, in its order.
pub(super) type AcceptResult = Result<Vec<Accepted>, AcceptError>;
type AcceptReply = oneshot::Sender<AcceptResult>;

/// Registrations of one caller, to be written together.
#[derive(Debug)]
pub(super) struct AcceptRequest {
    pub(super) registrations: Vec<NewRegistration>,
    /// Of their caller.
    pub(super) quota: CallerQuota,
}

impl AcceptRequest {
    pub(super) fn caller(&self) -> Option<&CallerName> {
        self.registrations.first()?.caller.as_ref()
    }
}

/// Passes registrations to the [`AcceptWriter`].
#[derive(Clone, Debug)]
pub struct AcceptHandle(mpsc::Sender<(AcceptRequest, AcceptReply)>);

/// The task that writes registrations.
#[derive(Debug)]
pub struct AcceptWriter {
    store: Store,
    requests: mpsc::Receiver<(AcceptRequest, AcceptReply)>,
    unfinished_counts: UnfinishedCounts,
}

impl AcceptHandle {
    /// The caller spawns [`AcceptWriter::run`].
    pub fn new(store: Store) -> (Self, AcceptWriter) {
        let (sender, requests) = mpsc::channel(ACCEPT_QUEUE_CAPACITY);
        (Self(sender), AcceptWriter { store, requests, unfinished_counts: UnfinishedCounts::default() })
    }

    /// Of a caller without a quota.
    #[cfg(test)]
    pub async fn accept(&self, registration: NewRegistration) -> Result<Accepted, AcceptError> {
        self.accept_within(registration, CallerQuota::default()).await
    }

    #[cfg(test)]
    pub async fn accept_within(
        &self,
        registration: NewRegistration,
        quota: CallerQuota,
    ) -> Result<Accepted, AcceptError> {
        self.accept_all(vec![registration], quota).await.map(|mut accepted| accepted.remove(0))
    }

    /// Writes the registrations, or finds those with the same pairs: all of them in one commit, or none. When this
    /// returns `Ok`, they are on disk; the results are in the order of the registrations. `quota` is their caller's.
    pub async fn accept_all(
        &self,
        registrations: Vec<NewRegistration>,
        quota: CallerQuota,
    ) -> Result<Vec<Accepted>, AcceptError> {
        let reply = async {
            let (reply, replied) = oneshot::channel();
            self.0.send((AcceptRequest { registrations, quota }, reply)).await.map_err(|_| StoreError::Closed)?;
            replied.await.map_err(|_| StoreError::Closed)?
        };
        spans::db("accept", reply).await
    }
}

impl AcceptWriter {
    /// Writes until every [`AcceptHandle`] is dropped, or until `close`: then the requests that have arrived are
    /// written, and no more are taken. Calls `committed` after each commit that queued something.
    pub async fn run(mut self, close: CancellationToken, committed: impl Fn()) {
        let mut arrived = Vec::with_capacity(MAX_COMMIT_REQUESTS);
        loop {
            match close.run_until_cancelled(self.requests.recv_many(&mut arrived, MAX_COMMIT_REQUESTS)).await {
                Some(0) => return,
                Some(_) => {}
                None => {
                    self.requests.close();
                    if self.requests.recv_many(&mut arrived, MAX_COMMIT_REQUESTS).await == 0 {
                        return;
                    }
                }
            }
            while !arrived.is_empty() {
                let (requests, replies) = arrived.drain(..commit_size(&arrived)).unzip();
                self.write(requests, replies, &committed).await;
            }
        }
    }

    async fn write(&self, requests: Vec<AcceptRequest>, replies: Vec<AcceptReply>, committed: impl Fn()) {
        match self.accept_with_retries(&requests).await {
            Ok(results) => {
                if results.iter().flatten().flatten().any(|accepted| accepted.is_new) {
                    committed();
                }
                for (reply, result) in replies.into_iter().zip(results) {
                    // Fails if the caller has gone; the registrations are kept.
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

    async fn accept_with_retries(&self, requests: &[AcceptRequest]) -> Result<Vec<AcceptResult>, StoreError> {
        for _ in 0..MAX_CONFLICT_RETRIES {
            match self.store.accept_batch(requests, &self.unfinished_counts).await {
                Err(error) if error.is_serialization_conflict() => {
                    tracing::debug!(error = %error, "write conflict, retrying");
                }
                done => return done,
            }
        }
        self.store.accept_batch(requests, &self.unfinished_counts).await
    }
}

/// How many of the first requests share a commit.
fn commit_size(arrived: &[(AcceptRequest, AcceptReply)]) -> usize {
    let mut registrations = 0;
    let fits = |(request, _): &&(AcceptRequest, AcceptReply)| {
        registrations += request.registrations.len();
        registrations <= MAX_COMMIT_REGISTRATIONS
    };
    arrived.iter().take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        registration::{DocumentHash, Pair},
        telemetry::propagation,
    };

    #[test]
    fn a_commit_takes_the_first_requests_up_to_its_limit_and_at_least_one() {
        let registration = NewRegistration {
            pair: Pair { document_hash: DocumentHash::new([1; 32]).unwrap(), case_id: "a".parse().unwrap() },
            submitted_as: String::new(),
            user_id: None,
            caller: None,
            trace: propagation::extract(&http::HeaderMap::new()).into(),
        };
        for (sizes, expected) in [
            (&[1; 256][..], 256),
            (&[200, 200, 200], 2),
            (&[512, 1], 1),
            (&[1, 512], 1),
            (&[1_000, 1], 1),
            (&[1_000], 1),
        ] {
            let request = |size: &usize| AcceptRequest {
                registrations: vec![registration.clone(); *size],
                quota: CallerQuota::default(),
            };
            let arrived: Vec<_> = sizes.iter().map(|size| (request(size), oneshot::channel().0)).collect();
            assert_eq!(commit_size(&arrived), expected, "{sizes:?}");
        }
    }
}
