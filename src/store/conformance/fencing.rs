//! A signer that another replica acts for by now.

use super::*;

#[tokio::test]
async fn what_a_replica_writes_for_a_signer_that_another_one_acts_for_by_now_is_refused() {
    let rig = StoreFixture::new(100).await;
    let ids = [rig.accept(1, "a").await.registration.id, rig.accept(2, "a").await.registration.id];
    let id = rig.insert_signed(0, &ids[..1]).await;
    let before = rig.get(ids[0]).await;
    // Another replica takes the lease: the token grows.
    sqlx::query("UPDATE leases SET token = token + 1").execute(&rig.store.writer).await.unwrap();

    let failure = Failure { reason: FailureReason::TransactionReverted, message: String::new() };
    let diagnosis =
        Diagnosis { cause: Cause::Pending, explanation: String::new(), evidence: BTreeMap::new(), time: at(20) };
    for refused in [
        rig.store.insert_signed_transaction(&transaction(1), &ids[1..]).await,
        rig.store.mark_submitted(id, &AcceptedBy::default(), at(12)).await,
        rig.store.mark_included(id, &inclusion(7), &[], false, at(13)).await,
        rig.store.mark_confirmed(id, at(14)).await.map(drop),
        rig.store.insert_replacement(id, &replacement(2)).await,
        rig.store.set_blocked_tx(id, Some(BlockedReason::FeeCap), at(14)).await.map(drop),
        rig.store.set_blocked_unsent(id, BlockedReason::NoEndpoint, at(14)).await.map(drop),
        rig.store.mark_reorged(id, at(15)).await,
        rig.store.requeue_members(id, Some(&failure), at(16)).await,
        rig.store.mark_timed_out(id, &diagnosis, at(17)).await.map(drop),
    ] {
        assert!(matches!(refused, Err(StoreError::Fenced)), "{refused:?}");
    }

    assert_eq!(rig.get(ids[0]).await, before);
    assert_eq!(rig.get(ids[1]).await.state, State::Queued);
    rig.store.acquire_lease(SIGNER).await.unwrap().unwrap();
    rig.store.mark_submitted(id, &AcceptedBy::default(), at(12)).await.unwrap();
    assert_eq!(rig.get(ids[0]).await.state, State::Submitted);
}
