//! The change feed: every change is read, and every position stays readable.

use super::*;
use std::collections::HashMap;

/// Reads the feed as a client would, and remembers what it saw.
struct Client {
    cursor: ChangeCursor,
    revisions: HashMap<RegistrationId, i64>,
}

impl Client {
    async fn from_beginning(store: &Store) -> Self {
        let ChangeCursor { history, .. } = newest(store).await;
        Self { cursor: ChangeCursor { history, position: ChangePosition::BEGINNING }, revisions: HashMap::new() }
    }

    /// Until nothing is held back: other tests may be writing to the same server.
    async fn read_all(&mut self, store: &Store) {
        loop {
            let page =
                store.changes_after(self.cursor.position, PageSize::Small, WaitsFor::ThisDatabase).await.unwrap();
            for Change { position, registration } in page.changes {
                assert!(position > self.cursor.position, "not in order");
                self.cursor = ChangeCursor { history: page.history.unwrap(), position };
                let seen = self.revisions.insert(registration.id, registration.revision);
                assert!(seen < Some(registration.revision), "revision {seen:?} came first: {registration:?}");
            }
            if !page.is_full && !store.has_changes_after(self.cursor.position).await.unwrap() {
                return;
            }
        }
    }

    /// Whether the latest revision of each registration was seen.
    async fn assert_up_to_date(&mut self, store: &Store, after: &str) {
        self.read_all(store).await;
        let all = store.list(&Filter::default(), None, 1_000).await.unwrap();
        let revisions = all.iter().map(|registration| (registration.id, registration.revision)).collect();
        assert_eq!(self.revisions, revisions, "after {after}");
    }
}

async fn newest(store: &Store) -> ChangeCursor {
    store.newest_change().await.unwrap()
}

#[tokio::test]
async fn every_change_of_a_registration_is_in_the_feed() {
    let fixture = StoreFixture::new(100).await;
    let store = &fixture.store;
    let mut client = Client::from_beginning(store).await;
    client.assert_up_to_date(store, "the start").await;
    let ids = [fixture.accept(1, "a").await.registration.id, fixture.accept(2, "a").await.registration.id];
    client.assert_up_to_date(store, "accept").await;
    store.set_blocked_queued(&ids, BlockedReason::FeeCap, at(5), at(5)).await.unwrap();
    client.assert_up_to_date(store, "set_blocked_queued").await;
    let tx = fixture.insert_signed(0, &ids).await;
    client.assert_up_to_date(store, "insert_signed_transaction").await;
    store.set_blocked_unsent(tx, BlockedReason::NoEndpoint, at(6)).await.unwrap();
    client.assert_up_to_date(store, "set_blocked_unsent").await;
    store.mark_submitted(tx, &AcceptedBy::default(), at(7)).await.unwrap();
    client.assert_up_to_date(store, "mark_submitted").await;
    store.set_blocked_tx(tx, Some(BlockedReason::FeeCap), at(8)).await.unwrap();
    client.assert_up_to_date(store, "set_blocked_tx").await;
    store.insert_replacement(tx, &replacement(2)).await.unwrap();
    client.assert_up_to_date(store, "insert_replacement").await;
    let diagnosis =
        Diagnosis { cause: Cause::Pending, explanation: String::new(), evidence: BTreeMap::new(), time: at(9) };
    assert!(store.mark_timed_out(tx, &diagnosis, at(9)).await.unwrap());
    client.assert_up_to_date(store, "mark_timed_out").await;
    store.mark_included(tx, &inclusion(7), &ids[1..], false, at(10)).await.unwrap();
    client.assert_up_to_date(store, "mark_included").await;
    assert_eq!(store.mark_confirmed(tx, at(11)).await.unwrap(), ids[1..]);
    client.assert_up_to_date(store, "mark_confirmed").await;
    store.raise_finality(&[tx], Finality::Safe, at(12)).await.unwrap();
    client.assert_up_to_date(store, "raise_finality").await;
    store.mark_reorged(tx, at(13)).await.unwrap();
    client.assert_up_to_date(store, "mark_reorged").await;
    let failure = Failure { reason: FailureReason::TransactionReverted, message: "reverted".into() };
    store.requeue_members(tx, Some(&failure), at(14)).await.unwrap();
    client.assert_up_to_date(store, "requeue_members").await;
    assert!(store.mark_failed(ids[0], &failure, at(15)).await.unwrap());
    client.assert_up_to_date(store, "mark_failed").await;
    assert!(fixture.accept(1, "a").await.is_new);
    client.assert_up_to_date(store, "accept of a failed one").await;
    let tx = fixture.insert_signed(1, &ids[..1]).await;
    store.mark_included(tx, &inclusion(8), &ids[..1], true, at(16)).await.unwrap();
    client.assert_up_to_date(store, "a requeued duplicate").await;
    for nonce in 2..5 {
        let tx = fixture.insert_signed(nonce, &ids[..1]).await;
        store.requeue_members(tx, Some(&failure), at(17)).await.unwrap();
        client.assert_up_to_date(store, "a revert").await;
    }
    assert_eq!(fixture.get(ids[0]).await.state, State::Failed);
    let (id, hash) = (ids[1], B256::repeat_byte(5));
    let found = FoundOnChain { id, hash, registrar: SIGNER, block: inclusion(2).block, own_transaction: None };
    let found = store.mark_found_on_chain(&[found], at(18)).await.unwrap();
    client.assert_up_to_date(store, "mark_found_on_chain").await;
    assert_eq!(store.requeue_foreign_reorged(found[0].1.id, at(19)).await.unwrap(), [id]);
    client.assert_up_to_date(store, "requeue_foreign_reorged").await;
    assert_eq!(client.cursor, newest(store).await);
}

#[tokio::test]
async fn whoever_reads_later_sees_the_latest_state_of_each_registration_once() {
    let fixture = StoreFixture::new(1_000).await;
    for document in 1..=120 {
        fixture.accept(document, "a").await;
    }
    let first = fixture.accept(1, "a").await.registration.id;
    fixture.insert_signed(0, &[first]).await;

    let mut client = Client::from_beginning(&fixture.store).await;
    client.assert_up_to_date(&fixture.store, "120 documents").await;
    let last = fixture.store.get(first).await.unwrap().unwrap();
    assert_eq!((client.revisions[&first], client.revisions.len()), (last.revision, 120));

    let mut late = Client { cursor: client.cursor, revisions: HashMap::new() };
    late.read_all(&fixture.store).await;
    assert!(late.revisions.is_empty(), "nothing is sent again");
}

#[tokio::test]
async fn a_cursor_outlives_a_restart_and_belongs_to_its_database() {
    let fixture = StoreFixture::new(100).await;
    fixture.accept(1, "a").await;
    let cursor = newest(&fixture.store).await;
    assert_eq!(ChangeCursor::from_bytes(cursor.to_bytes()), cursor);
    let other = StoreFixture::new(100).await;
    other.accept(1, "a").await;
    assert_eq!(other.store.check_cursor(&cursor).await.unwrap(), CursorCheck::Foreign);

    let StoreFixture { store, accept_handle, settings, _database: _kept } = fixture;
    drop(accept_handle);
    store.close().await;
    drop(store);
    let store = super::reopen::reopen(&settings).await;
    assert_eq!(store.check_cursor(&cursor).await.unwrap(), CursorCheck::Known);
    let ChangeCursor { history, .. } = newest(&store).await;
    assert_ne!(history, cursor.history);
    let mut ahead = cursor.to_bytes();
    ahead[8] = 1;
    let ahead = ChangeCursor::from_bytes(ahead);
    assert_eq!(store.check_cursor(&ahead).await.unwrap(), CursorCheck::Foreign, "its number was never given");

    let (accept_handle, writer) = AcceptHandle::new(store.clone());
    tokio::spawn(writer.run(CancellationToken::new(), || {}));
    let accepted = accept_handle.accept(request(2, "a")).await.unwrap().registration.id;
    let mut client = Client { cursor, revisions: HashMap::new() };
    client.read_all(&store).await;
    assert_eq!(client.revisions.into_keys().collect::<Vec<_>>(), [accepted]);
}
