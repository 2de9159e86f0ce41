//! A transaction that is signed again, and what its versions cost.

use super::*;

#[tokio::test]
async fn a_transaction_that_is_signed_again_keeps_every_version_until_one_is_included() {
    let rig = StoreFixture::new(100).await;
    let ids = [rig.accept(1, "a").await.registration.id, rig.accept(2, "a").await.registration.id];
    let id = rig.insert_signed(0, &ids).await;
    rig.store.mark_submitted(id, &AcceptedBy::default(), at(12)).await.unwrap();
    assert_eq!(rig.store.set_blocked_tx(id, Some(BlockedReason::FeeCap), at(13)).await.unwrap(), 2);
    assert_eq!(rig.store.set_blocked_tx(id, Some(BlockedReason::FeeCap), at(14)).await.unwrap(), 0, "no news");
    assert_eq!(rig.get(ids[0]).await.blocked_reason, Some(BlockedReason::FeeCap));

    rig.store.insert_replacement(id, &replacement(2)).await.unwrap();

    let open = rig.store.open_transaction(id).await.unwrap().unwrap();
    assert_eq!(open.attempts, [transaction(0).attempt, replacement(2).attempt]);
    assert_eq!((open.gas_limit, open.batch_size, open.members.len()), (30_000, 1, 2));
    let seen = rig.get(ids[0]).await;
    assert_eq!((seen.state, seen.blocked_reason), (State::Submitted, None));
    let carried = seen.transaction.unwrap();
    assert_eq!((carried.hash, carried.own.unwrap().attempts), (replacement(2).attempt.hash, 2));
    assert!(
        matches!(rig.store.insert_replacement(id, &replacement(2)).await, Err(StoreError::Conflict)),
        "there is a second"
    );
    rig.store.set_blocked_tx(id, Some(BlockedReason::FeeCap), at(15)).await.unwrap();
    assert_eq!(rig.store.set_blocked_tx(id, None, at(16)).await.unwrap(), 2);
    let first = Inclusion { hash: transaction(0).attempt.hash, ..inclusion(7) };
    rig.store.mark_included(id, &first, &[], false, at(17)).await.unwrap();
    assert!(
        matches!(rig.store.insert_replacement(id, &replacement(3)).await, Err(StoreError::Conflict)),
        "a block holds it"
    );
    assert_eq!(rig.store.set_blocked_tx(id, Some(BlockedReason::FeeCap), at(18)).await.unwrap(), 0, "a block holds it");
    assert_eq!(rig.store.open_transaction(id).await.unwrap().unwrap().hash, first.hash);
    rig.store.mark_reorged(id, at(19)).await.unwrap();
    assert_eq!(rig.store.open_transaction(id).await.unwrap().unwrap().hash, replacement(2).attempt.hash);
    assert_eq!(rig.store.find_transaction_by_nonce(SIGNER, 0).await.unwrap(), Some((id, false)));
    assert_eq!(rig.store.find_transaction_by_nonce(SIGNER, 1).await.unwrap(), None);
    rig.store.requeue_members(id, None, at(20)).await.unwrap();
    assert_eq!(rig.store.find_transaction_by_nonce(SIGNER, 0).await.unwrap(), Some((id, true)));
    assert!(rig.store.open_transaction(id).await.unwrap().is_none());
    // It is taken back: its bytes count again, and what it carried does not come back to it.
    rig.store.mark_reorged(id, at(21)).await.unwrap();
    assert_eq!(rig.store.open_transaction(id).await.unwrap().unwrap().members.len(), 0);
    assert_eq!(rig.get(ids[0]).await.state, State::Queued);
}
