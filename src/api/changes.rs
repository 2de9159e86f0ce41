//! The change feed: a stream, and pages.

use super::{
    access::Access,
    change_cursor,
    decode::ChangeFilter,
    encode::ProtoEncoder,
    error::ApiError,
    proto::{Checkpoint, ListChangesResponse, Registration, WatchChangesResponse, watch_changes_response},
};
use crate::{
    auth::Scope,
    pipeline::{Change, ChangeCursor, ChangeReader, FeedError, FeedStep, PageSize, Registrar},
    registration::TraceId,
};
use futures_util::{Stream, stream};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};
use tonic::Status;

/// So that silence can be distinguished from a stream that is stuck.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(15);
/// For a filter that few of very many changes match, a page ends here.
const MAX_READ: usize = 10_000;

impl From<FeedError> for ApiError {
    fn from(error: FeedError) -> Self {
        match error {
            FeedError::ForeignCursor => Self::ForeignCursor,
            FeedError::Store(error) => error.into(),
        }
    }
}

/// What a caller may see of the feed, and wants to.
pub(super) struct View {
    pub(super) registrar: Arc<Registrar>,
    pub(super) access: Access,
    pub(super) filter: ChangeFilter,
}

impl View {
    /// `None` if it is not to be sent.
    fn show(&self, change: &Change) -> Option<Registration> {
        let registration = &change.registration;
        let is_shown = self.access.sees(&registration.request.pair.case_id) && self.filter.matches(registration);
        is_shown.then(|| self.encoder().registration(registration))
    }

    fn encoder(&self) -> ProtoEncoder {
        ProtoEncoder::new(&self.registrar).showing_callers(self.access.sees_callers())
    }
}

/// Thousands may be open: what it holds is small.
pub(super) struct ChangeStream {
    view: View,
    reader: ChangeReader,
    /// Read and not sent; the cursor is that of the last one sent.
    taken: VecDeque<Arc<Change>>,
    cursor: ChangeCursor,
    /// Whether a checkpoint has reported to the client that it has caught up.
    is_caught_up_known: bool,
    next_checkpoint: Instant,
    trace_id: TraceId,
    is_over: bool,
}

impl ChangeStream {
    pub(super) fn new(view: View, reader: ChangeReader, trace_id: TraceId) -> Self {
        let cursor = reader.cursor();
        Self {
            view,
            reader,
            taken: VecDeque::new(),
            cursor,
            is_caught_up_known: false,
            next_checkpoint: Instant::now() + CHECKPOINT_INTERVAL,
            trace_id,
            is_over: false,
        }
    }

    pub(super) fn messages(self) -> impl Stream<Item = Result<WatchChangesResponse, Status>> + Send {
        stream::unfold(self, |mut stream| async move {
            if stream.is_over {
                return None;
            }
            let message = stream.next_message().await.map_err(|error| {
                stream.is_over = true;
                stream.status(error)
            });
            Some((message, stream))
        })
    }

    async fn next_message(&mut self) -> Result<WatchChangesResponse, ApiError> {
        loop {
            while let Some(change) = self.taken.pop_front() {
                self.cursor.position = change.position;
                if let Some(registration) = self.view.show(&change) {
                    return Ok(self.message(watch_changes_response::Change::Registration(registration)));
                }
            }
            self.cursor = self.reader.cursor();
            let has_caught_up = self.reader.has_caught_up();
            let is_first = has_caught_up && !self.is_caught_up_known;
            if is_first || self.next_checkpoint <= Instant::now() {
                self.is_caught_up_known |= has_caught_up;
                return Ok(self.checkpoint(has_caught_up));
            }
            // Boxed, because a query is large and seldom runs.
            match timeout_at(self.next_checkpoint, Box::pin(self.reader.next())).await {
                Ok(Ok(FeedStep::Changes(changes))) => {
                    // What the caller may see may have changed.
                    self.view.access = self.view.access.refreshed(Scope::Read)?;
                    self.cursor.history = self.reader.cursor().history;
                    self.taken.extend(changes);
                }
                Ok(Ok(FeedStep::CaughtUp)) | Err(_) => {}
                Ok(Err(error)) => return Err(error.into()),
            }
        }
    }

    fn checkpoint(&mut self, caught_up: bool) -> WatchChangesResponse {
        self.next_checkpoint = Instant::now() + CHECKPOINT_INTERVAL;
        self.message(watch_changes_response::Change::Checkpoint(Checkpoint { caught_up }))
    }

    fn message(&self, change: watch_changes_response::Change) -> WatchChangesResponse {
        WatchChangesResponse { cursor: change_cursor::encode(self.cursor), change: Some(change) }
    }

    fn status(&self, error: ApiError) -> Status {
        self.view.access.audit_error(&error);
        error.into_stream_status(&self.view.encoder(), self.trace_id)
    }
}

/// At most `size` changes after `cursor`.
pub(super) async fn page(view: &View, mut cursor: ChangeCursor, size: usize) -> Result<ListChangesResponse, ApiError> {
    let page_size = if size <= PageSize::Small.rows() { PageSize::Small } else { PageSize::Large };
    let (mut registrations, mut read) = (Vec::new(), 0);
    loop {
        let found = view.registrar.list_changes(&cursor, page_size).await?;
        read += found.changes.len();
        cursor.history = found.history.unwrap_or(cursor.history);
        for change in &found.changes {
            let shown = view.show(change);
            if shown.is_some() && registrations.len() == size {
                return Ok(response(registrations, cursor, false));
            }
            cursor.position = change.position;
            registrations.extend(shown);
        }
        if !found.is_full {
            let caught_up = !view.registrar.has_changes_after(&cursor).await?;
            return Ok(response(registrations, cursor, caught_up));
        }
        if read >= MAX_READ {
            return Ok(response(registrations, cursor, false));
        }
    }
}

fn response(registrations: Vec<Registration>, cursor: ChangeCursor, caught_up: bool) -> ListChangesResponse {
    ListChangesResponse { registrations, next_cursor: change_cursor::encode(cursor), caught_up }
}
