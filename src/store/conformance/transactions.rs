//! The states of a transaction and its members.

use super::*;

#[tokio::test]
async fn a_batch_moves_through_its_states_and_keeps_its_times_block_and_cost() {
    let fixture = StoreFixture::new(100).await;
    let ids = [fixture.accept(1, "a").await.registration.id, fixture.accept(2, "a").await.registration.id];
    let id = fixture.insert_signed(4, &ids).await;
    assert!(fixture.store.queued(at(1_000), 10).await.unwrap().is_empty());
    fixture.store.mark_submitted(id, &AcceptedBy::default(), at(12)).await.unwrap();
    fixture.store.mark_included(id, &inclusion(7), &[], false, at(13)).await.unwrap();
    let seen = fixture.get(ids[1]).await;
    let carried = seen.transaction.clone().unwrap();
    assert_eq!((seen.state, seen.finality), (State::Included, Some(Finality::Unsafe)));
    assert_eq!((seen.times.submitted, seen.times.included), (Some(at(12)), Some(at(13))));
    assert_eq!(carried.block, Some(inclusion(7).block));
    let ours = carried.own.unwrap();
    assert_eq!((ours.nonce, ours.batch_size, ours.attempts), (4, 2, 1));
    assert_eq!(ours.cost.unwrap().total_fee(), 40_000 * 3 + 7);
    fixture.store.mark_confirmed(id, at(14)).await.unwrap();
    fixture.store.raise_finality(&[id], Finality::Safe, at(15)).await.unwrap();
    let done = fixture.get(ids[0]).await;
    assert_eq!(
        (done.state, done.finality, done.times.confirmed),
        (State::Confirmed, Some(Finality::Safe), Some(at(14)))
    );
    assert_eq!(done.revision, 6);
    assert_eq!(fixture.store.unfinished_count(), 0);
    assert_eq!(fixture.store.next_nonce(SIGNER).await.unwrap(), Some(5));
    assert_eq!(fixture.store.unfinalized_blocks(SIGNER, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_member_that_is_not_queued_or_a_used_nonce_is_a_conflict() {
    let fixture = StoreFixture::new(100).await;
    let (one, two) = (fixture.accept(1, "a").await.registration.id, fixture.accept(2, "a").await.registration.id);
    fixture.insert_signed(0, &[one]).await;
    assert!(matches!(
        fixture.store.insert_signed_transaction(&transaction(1), &[two, one]).await,
        Err(StoreError::Conflict)
    ));
    assert!(matches!(
        fixture.store.insert_signed_transaction(&transaction(0), &[two]).await,
        Err(StoreError::Conflict)
    ));
    assert_eq!(fixture.get(two).await.state, State::Queued);
    assert_eq!(fixture.store.open_transactions(SIGNER).await.unwrap().len(), 1);
}

#[tokio::test]
async fn members_of_a_reverted_transaction_are_requeued_and_fail_after_three_reverts() {
    let fixture = StoreFixture::new(100).await;
    let id = fixture.accept(1, "a").await.registration.id;
    let failure = Failure { reason: FailureReason::TransactionReverted, message: "reverted".into() };
    for (nonce, expected) in [(0, State::Queued), (1, State::Queued), (2, State::Failed)] {
        let transaction = fixture.insert_signed(nonce, &[id]).await;
        fixture.store.requeue_members(transaction, Some(&failure), at(30)).await.unwrap();
        assert_eq!(fixture.get(id).await.state, expected, "after revert {nonce}");
    }
    let failed = fixture.get(id).await;
    assert_eq!(
        (failed.failure, failed.times.failed, fixture.store.unfinished_count()),
        (Some(failure), Some(at(30)), 0)
    );
    let again = fixture.accept(1, "a").await;
    assert_eq!((again.registration.id, again.registration.state, again.is_new), (id, State::Queued, true));
    assert_eq!((again.registration.failure, fixture.store.unfinished_count()), (None, 1));
}

#[tokio::test]
async fn a_duplicate_in_a_batch_is_requeued_and_the_others_are_confirmed() {
    let fixture = StoreFixture::new(100).await;
    let ids = [fixture.accept(1, "a").await.registration.id, fixture.accept(2, "a").await.registration.id];
    let id = fixture.insert_signed(0, &ids).await;
    fixture.store.mark_included(id, &inclusion(3), &ids[1..], true, at(13)).await.unwrap();
    assert_eq!((fixture.get(ids[0]).await.state, fixture.get(ids[1]).await.state), (State::Confirmed, State::Queued));
    let found = FoundOnChain {
        id: ids[1],
        hash: B256::repeat_byte(5),
        registrar: SIGNER,
        block: inclusion(2).block,
        own_transaction: None,
    };
    fixture.store.mark_found_on_chain(&[found], at(14)).await.unwrap();
    let found = fixture.get(ids[1]).await;
    assert_eq!(found.state, State::Confirmed);
    let original = found.transaction.unwrap();
    assert_eq!((original.hash, original.own, fixture.store.unfinished_count()), (B256::repeat_byte(5), None, 0));
}

#[tokio::test]
async fn a_reorg_makes_confirmed_registrations_submitted_again() {
    let fixture = StoreFixture::new(100).await;
    let id = fixture.accept(1, "a").await.registration.id;
    let transaction = fixture.insert_signed(0, &[id]).await;
    fixture.store.mark_included(transaction, &inclusion(3), &[], true, at(13)).await.unwrap();
    fixture.store.mark_reorged(transaction, at(14)).await.unwrap();
    let back = fixture.get(id).await;
    assert_eq!((back.state, back.finality, fixture.store.unfinished_count()), (State::Submitted, None, 1));
    assert_eq!(fixture.store.open_transactions(SIGNER).await.unwrap()[0].attempts.len(), 1);
}

#[tokio::test]
async fn requeued_registrations_are_no_longer_blocked() {
    let fixture = StoreFixture::new(100).await;
    let ids = [fixture.accept(1, "a").await.registration.id, fixture.accept(2, "a").await.registration.id];
    for (nonce, in_part) in [(0, true), (1, false)] {
        let transaction = fixture.insert_signed(nonce, &ids[usize::from(!in_part)..]).await;
        let members = if in_part { 2 } else { 1 };
        assert_eq!(
            fixture.store.set_blocked_unsent(transaction, BlockedReason::NoEndpoint, at(5)).await.unwrap(),
            members
        );
        if in_part {
            fixture.store.mark_included(transaction, &inclusion(3), &ids[1..], true, at(6)).await.unwrap();
        } else {
            fixture.store.requeue_members(transaction, None, at(7)).await.unwrap();
        }
        let queued = fixture.get(ids[1]).await;
        assert_eq!((queued.state, queued.blocked_reason), (State::Queued, None), "requeued in part: {in_part}");
    }
}

#[tokio::test]
async fn a_registration_signed_by_another_sender_is_left_unchanged() {
    let fixture = StoreFixture::new(100).await;
    let id = fixture.accept(1, "a").await.registration.id;
    let failure = Failure { reason: FailureReason::RejectedByContract, message: "rejected".into() };
    fixture.insert_signed(0, &[id]).await;
    let before = fixture.get(id).await;

    assert!(!fixture.store.mark_failed(id, &failure, at(20)).await.unwrap());
    assert_eq!(fixture.store.set_blocked_queued(&[id], BlockedReason::FeeCap, at(50), at(20)).await.unwrap(), 0);
    let found = FoundOnChain {
        id,
        hash: B256::repeat_byte(5),
        registrar: SIGNER,
        block: inclusion(2).block,
        own_transaction: None,
    };
    assert_eq!(fixture.store.mark_found_on_chain(&[found], at(20)).await.unwrap(), []);

    let foreign = fixture.store.unfinalized_blocks(UnfinalizedBlock::FOREIGN_LEASE, 10).await.unwrap();
    assert_eq!(foreign, [], "its transaction is not foreign");
    assert_eq!(fixture.get(id).await, before);
    assert_eq!(fixture.store.unfinished_count(), 1);
}

#[tokio::test]
async fn a_confirmed_transaction_does_not_time_out() {
    let fixture = StoreFixture::new(100).await;
    let diagnosis =
        Diagnosis { cause: Cause::Pending, explanation: String::new(), evidence: BTreeMap::new(), time: at(40) };
    for (number, settled) in [(1_u8, false), (2, true)] {
        let id = fixture.accept(number, "a").await.registration.id;
        let transaction = fixture.insert_signed(number.into(), &[id]).await;
        fixture.store.mark_included(transaction, &inclusion(3), &[], settled, at(6)).await.unwrap();
        let revision = fixture.get(id).await.revision;
        assert_eq!(fixture.store.mark_timed_out(transaction, &diagnosis, at(40)).await.unwrap(), !settled);
        let after = fixture.get(id).await;
        assert_eq!((after.times.timed_out.is_some(), after.revision > revision), (!settled, !settled));
    }
}

#[tokio::test]
async fn unregistered_members_stay_with_their_transaction_until_its_block_is_deep() {
    let fixture = StoreFixture::new(100).await;
    let ids = [fixture.accept(1, "a").await.registration.id, fixture.accept(2, "a").await.registration.id];
    let id = fixture.insert_signed(0, &ids).await;
    fixture.store.mark_submitted(id, &AcceptedBy::default(), at(12)).await.unwrap();

    fixture.store.mark_included(id, &inclusion(7), &ids[1..], false, at(13)).await.unwrap();

    assert_eq!(fixture.get(ids[0]).await.state, State::Included);
    assert_eq!(fixture.get(ids[1]).await.state, State::Submitted);
    assert_eq!(fixture.store.mark_confirmed(id, at(14)).await.unwrap(), ids[1..]);
    let released = fixture.get(ids[1]).await;
    assert_eq!((released.state, released.transaction), (State::Queued, None));
    assert_eq!(fixture.get(ids[0]).await.state, State::Confirmed);
    assert_eq!(fixture.store.unfinished_count(), 1);
}

#[tokio::test]
async fn summaries_have_no_signed_bytes_and_only_the_first_member() {
    let fixture = StoreFixture::new(100).await;
    let mut ids = Vec::new();
    for document in 1..=4 {
        ids.push(fixture.accept(document, "a").await.registration.id);
    }
    fixture.insert_signed(0, &ids[..2]).await;
    fixture.insert_signed(1, &ids[2..]).await;
    let whole = fixture.store.open_transactions(SIGNER).await.unwrap();

    let seen = fixture.store.open_transaction_summaries(SIGNER, Some(1)).await.unwrap();

    let members = |open: &OpenTransaction| open.members.iter().map(|member| member.id).collect::<Vec<_>>();
    assert_eq!(seen.iter().map(members).collect::<Vec<_>>(), [vec![ids[0]], ids[2..].to_vec()]);
    for (seen, whole) in seen.iter().zip(&whole) {
        let Attempt { hash, raw, fees } = &seen.attempts[0];
        assert_eq!((*hash, *fees, raw.len()), (whole.attempts[0].hash, whole.attempts[0].fees, 0));
        assert_eq!((seen.id, seen.nonce, seen.signed_at), (whole.id, whole.nonce, whole.signed_at));
    }
}
