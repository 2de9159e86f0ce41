//! Replacing a transaction.

use super::*;

#[tokio::test]
async fn a_replaced_transaction_keeps_every_attempt_until_one_is_included() {
    let fixture = StoreFixture::new(100).await;
    let ids = [fixture.accept(1, "a").await.registration.id, fixture.accept(2, "a").await.registration.id];
    let id = fixture.insert_signed(0, &ids).await;
    fixture.store.mark_submitted(id, &AcceptedBy::default(), at(12)).await.unwrap();
    assert_eq!(fixture.store.set_blocked_tx(id, Some(BlockedReason::FeeCap), at(13)).await.unwrap(), 2);
    assert_eq!(fixture.store.set_blocked_tx(id, Some(BlockedReason::FeeCap), at(14)).await.unwrap(), 0, "unchanged");
    assert_eq!(fixture.get(ids[0]).await.blocked_reason, Some(BlockedReason::FeeCap));

    fixture.store.insert_replacement(id, &replacement(2)).await.unwrap();

    let open = fixture.store.open_transaction(id).await.unwrap().unwrap();
    assert_eq!(open.attempts, [transaction(0).attempt, replacement(2).attempt]);
    assert_eq!((open.gas_limit, open.batch_size, open.members.len()), (30_000, 1, 2));
    let seen = fixture.get(ids[0]).await;
    assert_eq!((seen.state, seen.blocked_reason), (State::Submitted, None));
    let carried = seen.transaction.unwrap();
    assert_eq!((carried.hash, carried.own.unwrap().attempts), (replacement(2).attempt.hash, 2));
    assert!(
        matches!(fixture.store.insert_replacement(id, &replacement(2)).await, Err(StoreError::Conflict)),
        "attempt 2 exists"
    );
    fixture.store.set_blocked_tx(id, Some(BlockedReason::FeeCap), at(15)).await.unwrap();
    assert_eq!(fixture.store.set_blocked_tx(id, None, at(16)).await.unwrap(), 2);
    let first = Inclusion { hash: transaction(0).attempt.hash, ..inclusion(7) };
    fixture.store.mark_included(id, &first, &[], false, at(17)).await.unwrap();
    assert!(
        matches!(fixture.store.insert_replacement(id, &replacement(3)).await, Err(StoreError::Conflict)),
        "it is included"
    );
    assert_eq!(
        fixture.store.set_blocked_tx(id, Some(BlockedReason::FeeCap), at(18)).await.unwrap(),
        0,
        "it is included"
    );
    assert_eq!(fixture.store.open_transaction(id).await.unwrap().unwrap().hash, first.hash);
    fixture.store.mark_reorged(id, at(19)).await.unwrap();
    assert_eq!(fixture.store.open_transaction(id).await.unwrap().unwrap().hash, replacement(2).attempt.hash);
    assert_eq!(fixture.store.find_transaction_by_nonce(SIGNER, 0).await.unwrap(), Some((id, false)));
    assert_eq!(fixture.store.find_transaction_by_nonce(SIGNER, 1).await.unwrap(), None);
    fixture.store.requeue_members(id, None, at(20)).await.unwrap();
    assert_eq!(fixture.store.find_transaction_by_nonce(SIGNER, 0).await.unwrap(), Some((id, true)));
    assert!(fixture.store.open_transaction(id).await.unwrap().is_none());
    // It is open again, without the members that were requeued.
    fixture.store.mark_reorged(id, at(21)).await.unwrap();
    assert_eq!(fixture.store.open_transaction(id).await.unwrap().unwrap().members.len(), 0);
    assert_eq!(fixture.get(ids[0]).await.state, State::Queued);
}
