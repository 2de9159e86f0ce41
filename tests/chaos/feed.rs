//! A client of the change feed that reads through every fault. Now and then it loses what it read since its last write,
//! as one that is killed does.

use super::replicas::ReplicaAddresses;
use crate::harness::{Registration, Service, change_feed::Seen, client::Client};
use fastrand::Rng;
use registrar::api::proto::{WatchChangesRequest, watch_changes_response::Change};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

const RETRY_DELAY: Duration = Duration::from_millis(50);
/// Messages between two writes of what was read, at most.
const MAX_UNWRITTEN: usize = 20;
/// A checkpoint comes every 15 s.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Default)]
pub struct FeedClient {
    pub seen: Seen,
    /// Revisions that came in the wrong order.
    pub disordered: Vec<String>,
    /// Streams that were open.
    pub streams: u64,
}

impl FeedClient {
    /// Reads from whichever replica serves, until `stop`.
    pub async fn run(seed: u64, mut addresses: ReplicaAddresses, stop: CancellationToken) -> Self {
        let (mut client, mut rng) = (Self::default(), Rng::with_seed(seed ^ 0xfeed));
        let read = async {
            loop {
                client.read_stream(&mut addresses, &mut rng).await;
                sleep(RETRY_DELAY).await;
            }
        };
        stop.run_until_cancelled(read).await;
        client
    }

    /// Until the stream ends, or the client is killed.
    async fn read_stream(&mut self, addresses: &mut ReplicaAddresses, rng: &mut Rng) -> Option<()> {
        let mut connection = addresses.connect(rng).await?;
        let request = WatchChangesRequest {
            after_cursor: self.seen.cursor.clone(),
            from_beginning: self.seen.cursor.is_empty(),
            ..Default::default()
        };
        let opened = timeout(SILENCE_TIMEOUT, connection.watch_changes(request)).await.ok()?;
        let mut messages = match opened {
            Ok(opened) => opened.into_inner(),
            Err(status) => {
                if format!("{:?}", status.metadata()).contains("CURSOR_FOREIGN") {
                    self.disordered.push(format!("the cursor is foreign: {status:?}"));
                }
                return None;
            }
        };
        self.streams += 1;
        let mut unwritten = self.seen.clone();
        for number in 1_usize.. {
            let message = timeout(SILENCE_TIMEOUT, messages.message()).await.ok()?.ok()??;
            unwritten.cursor = message.cursor;
            if let Some(Change::Registration(registration)) = message.change {
                self.disordered.extend(add(&mut unwritten.revisions, &registration));
            }
            if rng.usize(..400) == 0 {
                return None;
            }
            if number % rng.usize(1..=MAX_UNWRITTEN) == 0 {
                self.seen = unwritten.clone();
            }
        }
        None
    }

    /// What the feed never said, of these registrations that change no more.
    pub async fn compare(mut self, service: &Service, rows: &[Registration]) -> Vec<String> {
        let mut changes = Client::connect(service.grpc).await.resume_changes(self.seen.clone()).await;
        changes.until_caught_up().await;
        self.seen = changes.seen.clone();
        let unseen = rows.iter().filter(|row| self.seen.revisions.get(&row.id) != Some(&row.revision));
        let describe = |row: &Registration| {
            format!("{} has revision {}, {:?} was seen", row.id, row.revision, self.seen.revisions.get(&row.id))
        };
        self.disordered.iter().cloned().chain(unseen.map(describe)).collect()
    }
}

/// A description if it is older than what came before.
fn add(revisions: &mut BTreeMap<String, i64>, registration: &Registration) -> Option<String> {
    let last = revisions.insert(registration.id.clone(), registration.revision);
    let is_older = last > Some(registration.revision);
    is_older.then(|| format!("{}: revision {} came after {last:?}", registration.id, registration.revision))
}
