//! Readers and the tail on a real store.

use super::{
    ChangeFeed, ChangeReader, ChangeStart, FeedStep, Tail,
    window::{Ahead, MAX_WINDOW, Window},
};
use crate::{
    pipeline::places::Places,
    registration::{CallerId, DocumentHash, NewRegistration, Pair, RegistrationId},
    store::{AcceptHandle, Change, ChangeCursor, ChangePage, ChangePosition, Settings, Store},
    telemetry::propagation,
};
use futures_util::future::try_join_all;
use std::collections::BTreeSet;
use tokio_util::sync::CancellationToken;

struct FeedFixture {
    store: Store,
    accept_handle: AcceptHandle,
    feed: ChangeFeed,
    slots: Places,
    _folder: tempfile::TempDir,
}

impl FeedFixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::parse(&format!("sqlite://{}/r.db", folder.path().display())).unwrap();
        let store = Store::open(&settings, 10_000).await.unwrap();
        let (accept_handle, writer) = AcceptHandle::new(store.clone());
        tokio::spawn(writer.run(CancellationToken::new(), || {}));
        let feed = ChangeFeed::new(store.clone());
        tokio::spawn(Tail::new(feed.clone()).run(CancellationToken::new()));
        Self { store, accept_handle, feed, slots: Places::new(100), _folder: folder }
    }

    async fn accept(&self, numbers: std::ops::Range<u32>) -> BTreeSet<RegistrationId> {
        let accepted = try_join_all(numbers.map(|number| self.accept_handle.accept(request(number)))).await.unwrap();
        accepted.into_iter().map(|accepted| accepted.registration.id).collect()
    }

    async fn reader(&self, start: ChangeStart) -> ChangeReader {
        let slot = self.slots.take(CallerId::of_connection(1)).unwrap();
        ChangeReader::new(self.feed.clone(), self.feed.start(start).await.unwrap(), slot)
    }
}

fn request(number: u32) -> NewRegistration {
    let mut document = [1; 32];
    document[..4].copy_from_slice(&number.to_be_bytes());
    NewRegistration {
        pair: Pair { document_hash: DocumentHash::new(document).unwrap(), case_id: "a".parse().unwrap() },
        submitted_as: String::new(),
        user_id: None,
        caller: None,
        trace: propagation::extract(&http::HeaderMap::new()).into(),
    }
}

/// Reads until this many registrations were seen.
async fn read(reader: &mut ChangeReader, count: usize) -> BTreeSet<RegistrationId> {
    let mut seen = BTreeSet::new();
    while seen.len() < count {
        if let FeedStep::Changes(changes) = reader.next().await.unwrap() {
            assert!(changes.windows(2).all(|pair| pair[0].position < pair[1].position));
            for change in changes {
                assert!(seen.insert(change.registration.id), "read twice");
            }
        }
    }
    seen
}

async fn until_caught_up(reader: &mut ChangeReader) {
    while !reader.has_caught_up() {
        reader.next().await.unwrap();
    }
}

#[tokio::test]
async fn a_reader_from_the_beginning_reaches_the_others_and_misses_nothing() {
    let fixture = FeedFixture::new().await;
    let old = fixture.accept(0..300).await;
    let mut current = fixture.reader(ChangeStart::Now).await;
    until_caught_up(&mut current).await;
    let mut late = fixture.reader(ChangeStart::Beginning).await;
    let (seen, new) = tokio::join!(read(&mut late, 600), fixture.accept(300..600));
    assert_eq!(read(&mut current, 300).await, new);
    assert_eq!(seen, old.union(&new).copied().collect());
    for reader in [&mut current, &mut late] {
        until_caught_up(reader).await;
        assert_eq!(reader.cursor(), fixture.store.newest_change().await.unwrap());
    }

    let stopped = late.cursor();
    drop((current, late));
    let missed = fixture.accept(600..620).await;
    let mut resumed = fixture.reader(ChangeStart::After(stopped)).await;
    assert_eq!(read(&mut resumed, 20).await, missed);
}

#[tokio::test]
async fn a_wait_for_changes_that_is_given_up_loses_none() {
    let fixture = FeedFixture::new().await;
    let mut reader = fixture.reader(ChangeStart::Now).await;
    until_caught_up(&mut reader).await;
    let accepting = fixture.accept(0..200);
    let reading = async {
        let mut seen = BTreeSet::new();
        while seen.len() < 200 {
            tokio::select! {
                biased;
                () = tokio::task::yield_now() => {}
                step = reader.next() => {
                    if let FeedStep::Changes(changes) = step.unwrap() {
                        seen.extend(changes.iter().map(|change| change.registration.id));
                    }
                }
            }
            tokio::task::yield_now().await;
        }
        seen
    };
    let (accepted, seen) = tokio::join!(accepting, reading);
    assert_eq!(seen, accepted);
}

/// Registrations that changed one after the other.
async fn changes(count: u32) -> Vec<Change> {
    let fixture = FeedFixture::new().await;
    fixture.accept(0..count).await;
    let mut changes = Vec::new();
    let mut reader = fixture.reader(ChangeStart::Beginning).await;
    while changes.len() < count as usize {
        if let FeedStep::Changes(read) = reader.next().await.unwrap() {
            changes.extend(read.iter().map(|change| Change::clone(change)));
        }
    }
    changes
}

#[tokio::test]
async fn a_window_has_what_is_after_its_beginning_and_forgets_the_oldest() {
    let all = changes(10).await;
    let start = ChangeCursor { history: [1; 8], position: ChangePosition::BEGINNING };
    let mut window = Window::new(start);
    let positions: Vec<_> = all.iter().map(|change| change.position).collect();
    let page = |changes: &[Change]| ChangePage { changes: changes.to_vec(), history: Some([2; 8]), is_full: false };
    assert_eq!(window.after(ChangePosition::BEGINNING, 5), Ahead::Nothing);
    window.push(page(&all[..6]));
    let after = |window: &Window, position, limit| match window.after(position, limit) {
        Ahead::Changes(changes) => changes.iter().map(|change| change.position).collect(),
        Ahead::Nothing | Ahead::Later => Vec::new(),
    };
    assert_eq!(after(&window, ChangePosition::BEGINNING, 4), positions[..4]);
    assert_eq!(after(&window, positions[3], 4), positions[4..6]);
    assert_eq!((window.history(), window.end()), ([2; 8], positions[5]));
    assert_eq!(window.after(positions[7], 4), Ahead::Nothing, "a reader may be ahead");
}

#[tokio::test]
async fn a_window_that_is_full_sends_slow_readers_to_the_store() {
    let all = changes(MAX_WINDOW as u32 + 1).await;
    let mut window = Window::new(ChangeCursor { history: [1; 8], position: ChangePosition::BEGINNING });
    window.push(ChangePage { changes: all[..MAX_WINDOW].to_vec(), history: None, is_full: true });
    assert!(matches!(window.after(ChangePosition::BEGINNING, 1), Ahead::Changes(_)));
    window.push(ChangePage { changes: all[MAX_WINDOW..].to_vec(), history: None, is_full: false });
    assert_eq!(window.after(ChangePosition::BEGINNING, 1), Ahead::Later);
    assert_eq!(window.begin().position, all[0].position);
    assert!(matches!(window.after(all[0].position, 1), Ahead::Changes(_)));
}
