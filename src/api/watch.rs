//! A stream of the changes of one registration.

use super::{access::Access, encode::ProtoEncoder, error::ApiError, proto::WatchRegistrationResponse};
use crate::{
    pipeline::{Registrar, Subscription},
    registration::{Registration, RegistrationId, State, TraceId, policy::wait_deadline::WaitFor},
};
use futures_util::{Stream, stream};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// A watched registration that does not change is read again this often.
const WATCH_REFRESH_INTERVAL: Duration = Duration::from_secs(15);

/// Thousands may be open: what it holds is small.
pub(super) struct Watch {
    pub(super) registrar: Arc<Registrar>,
    pub(super) access: Access,
    pub(super) waiter: Subscription,
    pub(super) until: WaitFor,
    /// The revision of the last update sent to the client.
    pub(super) last_revision: i64,
    pub(super) trace_id: TraceId,
    pub(super) id: RegistrationId,
    pub(super) stop: CancellationToken,
}

enum Step {
    Next(Arc<Registration>),
    Wait(Arc<Registration>),
    Done,
}

impl Watch {
    pub(super) fn updates(
        self,
        current: Registration,
    ) -> impl Stream<Item = Result<WatchRegistrationResponse, Status>> + Send {
        stream::unfold((self, Step::Next(Arc::new(current))), |(mut watch, step)| async move {
            let (update, step) = watch.next_update(step).await?;
            Some((update, (watch, step)))
        })
    }

    /// `None` at the end of the stream.
    async fn next_update(&mut self, mut step: Step) -> Option<(Result<WatchRegistrationResponse, Status>, Step)> {
        loop {
            let current = match step {
                Step::Next(current) => current,
                Step::Wait(last) => match self.next_change().await {
                    Some(changed) => changed,
                    None => return Some((Err(self.shutting_down_status(last)), Step::Done)),
                },
                Step::Done => return None,
            };
            let is_over = self.until.is_reached(current.state, current.finality) || current.state == State::Failed;
            let update = (current.revision > self.last_revision).then(|| {
                self.last_revision = current.revision;
                let registration = Some(self.encoder().registration(&current));
                Ok(WatchRegistrationResponse { registration })
            });
            step = if is_over { Step::Done } else { Step::Wait(current) };
            if let Some(update) = update {
                return Some((update, step));
            }
        }
    }

    /// `None` at the shutdown.
    async fn next_change(&mut self) -> Option<Arc<Registration>> {
        loop {
            tokio::select! {
                changed = self.waiter.next_change() => return Some(changed),
                // A change whose notification was lost is in the store.
                () = tokio::time::sleep(WATCH_REFRESH_INTERVAL) => {
                    // Boxed, because a query is large and seldom runs.
                    if let Ok(Some(registration)) = Box::pin(self.registrar.get(self.id)).await {
                        return Some(Arc::new(registration));
                    }
                }
                () = self.stop.cancelled() => return None,
            }
        }
    }

    fn encoder(&self) -> ProtoEncoder {
        ProtoEncoder::new(&self.registrar).showing_callers(self.access.sees_callers())
    }

    fn shutting_down_status(&self, last: Arc<Registration>) -> Status {
        ApiError::ShuttingDown(Some(last)).into_stream_status(&self.encoder(), self.trace_id)
    }
}
