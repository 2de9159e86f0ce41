//! What the task of a connection and its calls share.

use super::{super::limits::MAX_ACTIVE_CALLS, activity::Activity};
use crate::{auth::PeerCertificate, registration::CallerId, telemetry::ConnectionEnd};
use parking_lot::Mutex;
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// An extension of every request.
#[derive(Debug)]
pub(in crate::api) struct Connection {
    caller: CallerId,
    /// Of a client that has identified itself in the TLS handshake.
    peer_certificate: OnceLock<PeerCertificate>,
    pub(super) activity: Mutex<Activity>,
    /// Cancelled when streams that have no end of their own are to end.
    pub(super) streams_end: CancellationToken,
    /// Cancelled when it is to be closed whatever happens on it, for the reason in `closed_for`.
    pub(super) closed: CancellationToken,
    pub(super) closed_for: OnceLock<ConnectionEnd>,
    active_calls: Arc<Semaphore>,
}

/// Over when its last clone drops.
#[derive(Clone, Debug)]
pub(in crate::api) struct Turn {
    _permit: Option<Arc<OwnedSemaphorePermit>>,
}

/// A call in progress, until the last byte of its answer is handed over.
#[derive(Debug)]
pub(super) struct CallInProgress(Arc<Connection>);

/// A part of an answer that the client has not taken.
#[derive(Debug)]
pub(super) struct Unsent(Arc<Connection>);

impl Connection {
    pub(in crate::api) fn new() -> Arc<Self> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        Arc::new(Self {
            caller: CallerId::of_connection(NEXT_ID.fetch_add(1, Ordering::Relaxed)),
            peer_certificate: OnceLock::new(),
            activity: Mutex::new(Activity::new(Instant::now())),
            streams_end: CancellationToken::new(),
            closed: CancellationToken::new(),
            closed_for: OnceLock::new(),
            active_calls: Arc::new(Semaphore::new(MAX_ACTIVE_CALLS)),
        })
    }

    pub(in crate::api) fn caller(&self) -> CallerId {
        self.caller
    }

    /// `None` without TLS, and if the client has no certificate.
    pub(in crate::api) fn peer_certificate(&self) -> Option<&PeerCertificate> {
        self.peer_certificate.get()
    }

    pub(super) fn set_peer_certificate(&self, certificate: Option<PeerCertificate>) {
        if let Some(certificate) = certificate {
            self.peer_certificate.get_or_init(|| certificate);
        }
    }

    /// A turn among the calls of this connection.
    pub(in crate::api) async fn turn(&self) -> Turn {
        // The semaphore is never closed.
        Turn { _permit: self.active_calls.clone().acquire_owned().await.ok().map(Arc::new) }
    }

    pub(in crate::api) fn streams_end(&self) -> CancellationToken {
        self.streams_end.clone()
    }

    /// A call was cancelled before it was answered.
    pub(in crate::api) fn count_cancel(&self) {
        if !self.activity.lock().count_cancel(Instant::now()) {
            self.close(ConnectionEnd::Cancels);
        }
    }

    pub(super) fn close(&self, reason: ConnectionEnd) {
        self.closed_for.get_or_init(|| reason);
        self.closed.cancel();
    }

    pub(super) fn begin_call(self: &Arc<Self>) -> CallInProgress {
        self.activity.lock().begin_call();
        CallInProgress(self.clone())
    }
}

impl CallInProgress {
    pub(super) fn begin_sending(&self) -> Unsent {
        self.0.activity.lock().begin_sending(Instant::now());
        Unsent(self.0.clone())
    }
}

impl Drop for CallInProgress {
    fn drop(&mut self) {
        self.0.activity.lock().end_call(Instant::now());
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        self.0.activity.lock().end_sending(Instant::now());
    }
}
