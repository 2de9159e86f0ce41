//! A reader of the change feed that checks what holds for every stream.

use super::{
    client::{CallError, Client},
    wait::within,
};
use registrar::api::proto::{
    Checkpoint, ListChangesRequest, ListChangesResponse, Registration, WatchChangesRequest, WatchChangesResponse,
    watch_changes_response::Change,
};
use std::collections::BTreeMap;
use tonic::Streaming;

/// A stream, and what was read from it.
pub struct Changes {
    messages: Streaming<WatchChangesResponse>,
    trace_id: String,
    pub seen: Seen,
}

/// What a client of the feed stores. It outlives its streams.
#[derive(Clone, Default, Debug)]
pub struct Seen {
    pub cursor: String,
    /// The latest revision of each registration.
    pub revisions: BTreeMap<String, i64>,
}

/// A message of the stream.
#[derive(Debug)]
pub enum Message {
    Changed(Box<Registration>),
    Checkpoint(Checkpoint),
}

impl Client {
    pub async fn watch_changes(&self, request: WatchChangesRequest) -> Result<Changes, CallError> {
        let cursor = request.after_cursor.clone();
        let response = within("WatchChanges", self.stub().watch_changes(request)).await?;
        let trace_id = super::client::trace_id(response.metadata());
        Ok(Changes { messages: response.into_inner(), trace_id, seen: Seen { cursor, ..Seen::default() } })
    }

    /// Changes from the beginning.
    pub async fn all_changes(&self) -> Changes {
        self.watch_changes(WatchChangesRequest { from_beginning: true, ..Default::default() }).await.unwrap()
    }

    /// Continues after what was seen.
    pub async fn resume_changes(&self, seen: Seen) -> Changes {
        let request = WatchChangesRequest {
            from_beginning: seen.cursor.is_empty(),
            after_cursor: seen.cursor.clone(),
            ..Default::default()
        };
        Changes { seen, ..self.watch_changes(request).await.unwrap() }
    }

    pub async fn list_changes(&self, request: ListChangesRequest) -> Result<ListChangesResponse, CallError> {
        Ok(within("ListChanges", self.stub().list_changes(request)).await?.into_inner())
    }
}

impl Changes {
    /// The next message, or the error that ends the stream.
    pub async fn next(&mut self) -> Result<Message, CallError> {
        match within("the next change", self.messages.message()).await {
            Ok(Some(message)) => {
                assert!(!message.cursor.is_empty());
                self.seen.cursor = message.cursor;
                Ok(match message.change.unwrap() {
                    Change::Registration(registration) => {
                        self.seen.add(&registration);
                        Message::Changed(Box::new(registration))
                    }
                    Change::Checkpoint(checkpoint) => Message::Checkpoint(checkpoint),
                })
            }
            Ok(None) => panic!("the stream of changes ended without an error"),
            Err(status) => Err(CallError::of(&status, self.trace_id.clone())),
        }
    }

    /// The next change, whatever checkpoints are before it.
    pub async fn next_change(&mut self) -> Registration {
        loop {
            if let Message::Changed(registration) = self.next().await.unwrap() {
                return *registration;
            }
        }
    }

    /// All changes until a checkpoint says that there are no more.
    pub async fn until_caught_up(&mut self) -> Vec<Registration> {
        let mut changes = Vec::new();
        loop {
            match self.next().await.unwrap() {
                Message::Changed(registration) => changes.push(*registration),
                Message::Checkpoint(Checkpoint { caught_up: true }) => return changes,
                Message::Checkpoint(Checkpoint { caught_up: false }) => {}
            }
        }
    }

    /// Reads until a change has this property.
    pub async fn until(&mut self, is_it: impl Fn(&Registration) -> bool) -> Registration {
        loop {
            let registration = self.next_change().await;
            if is_it(&registration) {
                return registration;
            }
        }
    }
}

impl Seen {
    /// Revisions come in order. One may come again after a resume, since what was read may not have been stored.
    pub fn add(&mut self, registration: &Registration) {
        let last = self.revisions.insert(registration.id.clone(), registration.revision);
        assert!(last <= Some(registration.revision), "revision {last:?} came before: {registration:?}");
    }
}
