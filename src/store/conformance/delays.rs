//! The queue timeout: what is late, and the episodes in which it is counted.

use super::*;

fn diagnosis(cause: Cause) -> Diagnosis {
    Diagnosis { cause, explanation: "it waits".to_owned(), evidence: BTreeMap::new(), time: at(70) }
}

async fn mark(fixture: &StoreFixture, ids: &[RegistrationId], cause: Cause) -> Delayed {
    fixture.store.mark_delayed(ids, None, &diagnosis(cause), at(70)).await.unwrap()
}

/// As [`mark`]: how many were marked, and how many the episode had before.
async fn count(fixture: &StoreFixture, ids: &[RegistrationId], cause: Cause) -> (usize, u64) {
    let delayed = mark(fixture, ids, cause).await;
    (delayed.marked.len(), delayed.marked_before)
}

async fn late(fixture: &StoreFixture, after: RegistrationId, since: Timestamp) -> Vec<RegistrationId> {
    let page = fixture.store.late_in_queue(after, since, 10).await.unwrap();
    page.iter().map(|registration| registration.id).collect()
}

async fn accept_all(fixture: &StoreFixture, documents: std::ops::Range<u8>) -> Vec<RegistrationId> {
    let mut ids = Vec::new();
    for document in documents {
        ids.push(fixture.accept(document, "a").await.registration.id);
    }
    ids
}

#[tokio::test]
async fn a_delay_is_stored_once_with_its_diagnosis() {
    let fixture = StoreFixture::new(100).await;
    let ids = accept_all(&fixture, 1..6).await;
    let signed = fixture.insert_signed(0, &ids[2..4]).await;
    let sent = fixture.insert_signed(1, &ids[4..]).await;
    fixture.store.mark_submitted(sent, &AcceptedBy::default(), at(13)).await.unwrap();
    let revision = fixture.get(ids[0]).await.revision;

    let delayed = mark(&fixture, &ids, Cause::TooLarge).await;
    assert_eq!(delayed, Delayed { marked: ids[..2].to_vec(), marked_before: 0 }, "only what is queued");
    let delayed = fixture.store.mark_delayed(&ids, Some(signed), &diagnosis(Cause::TooLarge), at(70)).await.unwrap();
    assert_eq!(delayed, Delayed { marked: ids[2..4].to_vec(), marked_before: 2 }, "what is sent is not delayed");
    let stored = fixture.get(ids[0]).await;
    assert_eq!((stored.diagnosis, stored.times.delayed), (Some(diagnosis(Cause::TooLarge)), Some(at(70))));
    assert_eq!(stored.revision, revision + 1);
    assert_eq!(count(&fixture, &ids, Cause::TooLarge).await, (0, 4));
    assert_eq!(fixture.get(ids[0]).await.revision, revision + 1);
    let member = fixture.store.open_transactions(SIGNER).await.unwrap().remove(0).members.remove(0);
    assert_eq!(member.delayed_at, Some(at(70)));
}

#[tokio::test]
async fn an_episode_counts_the_registrations_of_a_cause_until_none_of_them_waits() {
    let fixture = StoreFixture::new(100).await;
    let ids = accept_all(&fixture, 1..8).await;
    assert_eq!(count(&fixture, &ids[..2], Cause::InsufficientFunds).await, (2, 0));
    assert_eq!(count(&fixture, &ids[2..3], Cause::InsufficientFunds).await, (1, 2));
    assert_eq!(count(&fixture, &ids[3..4], Cause::FeeTooLow).await, (1, 0), "another cause");

    let first = fixture.insert_signed(0, &ids[..2]).await;
    fixture.store.mark_submitted(first, &AcceptedBy::default(), at(80)).await.unwrap();
    assert_eq!(count(&fixture, &ids[4..5], Cause::InsufficientFunds).await, (1, 3), "one of them still waits");

    let second = fixture.insert_signed(1, &[ids[2], ids[4]]).await;
    fixture.store.mark_submitted(second, &AcceptedBy::default(), at(90)).await.unwrap();
    assert_eq!(count(&fixture, &ids[5..], Cause::InsufficientFunds).await, (2, 0), "a new episode");
}

#[tokio::test]
async fn the_queue_timeout_of_what_is_queued_again_starts_again() {
    let fixture = StoreFixture::new(100).await;
    let [id] = accept_all(&fixture, 1..2).await[..] else { unreachable!() };
    let lowest = RegistrationId::from_bytes([0; 16]);
    let accepted = fixture.get(id).await.times.created;
    assert_eq!(late(&fixture, lowest, accepted.minus(std::time::Duration::from_micros(1))).await, []);
    assert_eq!(late(&fixture, lowest, accepted).await, [id]);
    assert_eq!(late(&fixture, id, accepted).await, []);
    mark(&fixture, &[id], Cause::Pending).await;
    assert_eq!(late(&fixture, lowest, accepted).await, []);

    let transaction = fixture.insert_signed(0, &[id]).await;
    let again = accepted.plus(std::time::Duration::from_secs(9));
    fixture.store.requeue_members(transaction, None, again).await.unwrap();

    let times = fixture.get(id).await.times;
    assert_eq!((times.created, times.queued, times.delayed), (accepted, again, None));
    assert_eq!(late(&fixture, lowest, again.minus(std::time::Duration::from_micros(1))).await, []);
    assert_eq!(late(&fixture, lowest, again).await, [id]);
    assert_eq!(count(&fixture, &[id], Cause::Pending).await, (1, 0));
}
