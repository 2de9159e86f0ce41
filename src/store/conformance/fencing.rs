//! Writes of a replica that has lost a lease.

use super::*;

#[tokio::test]
async fn writes_for_a_signer_whose_lease_another_replica_took_are_fenced() {
    let fixture = StoreFixture::new(100).await;
    let ids = [fixture.accept(1, "a").await.registration.id, fixture.accept(2, "a").await.registration.id];
    let id = fixture.insert_signed(0, &ids[..1]).await;
    let before = fixture.get(ids[0]).await;
    // Another replica takes the lease: the token grows.
    query("UPDATE leases SET token = token + 1").execute(&fixture.store.writer).await.unwrap();

    let failure = Failure { reason: FailureReason::TransactionReverted, message: String::new() };
    let diagnosis =
        Diagnosis { cause: Cause::Pending, explanation: String::new(), evidence: BTreeMap::new(), time: at(20) };
    for rejected in [
        fixture.store.insert_signed_transaction(&transaction(1), &ids[1..]).await,
        fixture.store.mark_submitted(id, &AcceptedBy::default(), at(12)).await,
        fixture.store.mark_included(id, &inclusion(7), &[], false, at(13)).await,
        fixture.store.mark_confirmed(id, at(14)).await.map(drop),
        fixture.store.insert_replacement(id, &replacement(2)).await,
        fixture.store.set_blocked_tx(id, Some(BlockedReason::FeeCap), at(14)).await.map(drop),
        fixture.store.set_blocked_unsent(id, BlockedReason::NoEndpoint, at(14)).await.map(drop),
        fixture.store.mark_reorged(id, at(15)).await,
        fixture.store.requeue_members(id, Some(&failure), at(16)).await,
        fixture.store.mark_timed_out(id, &diagnosis, at(17)).await.map(drop),
    ] {
        assert!(matches!(rejected, Err(StoreError::Fenced)), "{rejected:?}");
    }

    assert_eq!(fixture.get(ids[0]).await, before);
    assert_eq!(fixture.get(ids[1]).await.state, State::Queued);
    fixture.store.acquire_lease(SIGNER).await.unwrap().unwrap();
    fixture.store.mark_submitted(id, &AcceptedBy::default(), at(12)).await.unwrap();
    assert_eq!(fixture.get(ids[0]).await.state, State::Submitted);
}
