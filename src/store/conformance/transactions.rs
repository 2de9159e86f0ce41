//! A transaction from its signature to its end, and the registrations that it carries.

use super::*;

#[tokio::test]
async fn a_batch_goes_through_its_states_and_keeps_what_it_learned() {
    let rig = StoreFixture::new(100).await;
    let ids = [rig.accept(1, "a").await.registration.id, rig.accept(2, "a").await.registration.id];
    let id = rig.insert_signed(4, &ids).await;
    assert!(rig.store.queued(at(1_000), 10).await.unwrap().is_empty());
    rig.store.mark_submitted(id, &AcceptedBy::default(), at(12)).await.unwrap();
    rig.store.mark_included(id, &inclusion(7), &[], false, at(13)).await.unwrap();
    let seen = rig.get(ids[1]).await;
    let carried = seen.transaction.clone().unwrap();
    assert_eq!((seen.state, seen.finality), (State::Included, Some(Finality::Unsafe)));
    assert_eq!((seen.times.submitted, seen.times.included), (Some(at(12)), Some(at(13))));
    assert_eq!(carried.block, Some(inclusion(7).block));
    let ours = carried.own.unwrap();
    assert_eq!((ours.nonce, ours.batch_size, ours.attempts), (4, 2, 1));
    assert_eq!(ours.cost.unwrap().total_fee(), 40_000 * 3 + 7);
    rig.store.mark_confirmed(id, at(14)).await.unwrap();
    rig.store.raise_finality(&[id], Finality::Safe, at(15)).await.unwrap();
    let done = rig.get(ids[0]).await;
    assert_eq!(
        (done.state, done.finality, done.times.confirmed),
        (State::Confirmed, Some(Finality::Safe), Some(at(14)))
    );
    assert_eq!(done.revision, 6);
    assert_eq!(rig.store.unfinished_count(), 0);
    assert_eq!(rig.store.next_nonce(SIGNER).await.unwrap(), Some(5));
    assert_eq!(rig.store.unfinalized_blocks(SIGNER, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_not_queued_any_more_or_a_nonce_that_is_taken_refuses_the_whole_transaction() {
    let rig = StoreFixture::new(100).await;
    let (one, two) = (rig.accept(1, "a").await.registration.id, rig.accept(2, "a").await.registration.id);
    rig.insert_signed(0, &[one]).await;
    assert!(matches!(
        rig.store.insert_signed_transaction(&transaction(1), &[two, one]).await,
        Err(StoreError::Conflict)
    ));
    assert!(matches!(rig.store.insert_signed_transaction(&transaction(0), &[two]).await, Err(StoreError::Conflict)));
    assert_eq!(rig.get(two).await.state, State::Queued);
    assert_eq!(rig.store.open_transactions(SIGNER).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_released_transaction_queues_its_work_and_three_reverts_fail_it() {
    let rig = StoreFixture::new(100).await;
    let id = rig.accept(1, "a").await.registration.id;
    let failure = Failure { reason: FailureReason::TransactionReverted, message: "reverted".into() };
    for (nonce, expected) in [(0, State::Queued), (1, State::Queued), (2, State::Failed)] {
        let transaction = rig.insert_signed(nonce, &[id]).await;
        rig.store.requeue_members(transaction, Some(&failure), at(30)).await.unwrap();
        assert_eq!(rig.get(id).await.state, expected, "after revert {nonce}");
    }
    let failed = rig.get(id).await;
    assert_eq!((failed.failure, failed.times.failed, rig.store.unfinished_count()), (Some(failure), Some(at(30)), 0));
    let again = rig.accept(1, "a").await;
    assert_eq!((again.registration.id, again.registration.state, again.is_new), (id, State::Queued, true));
    assert_eq!((again.registration.failure, rig.store.unfinished_count()), (None, 1));
}

#[tokio::test]
async fn a_duplicate_in_a_batch_goes_back_to_the_queue_and_the_others_go_on() {
    let rig = StoreFixture::new(100).await;
    let ids = [rig.accept(1, "a").await.registration.id, rig.accept(2, "a").await.registration.id];
    let id = rig.insert_signed(0, &ids).await;
    rig.store.mark_included(id, &inclusion(3), &ids[1..], true, at(13)).await.unwrap();
    assert_eq!((rig.get(ids[0]).await.state, rig.get(ids[1]).await.state), (State::Confirmed, State::Queued));
    let found = FoundOnChain {
        id: ids[1],
        hash: B256::repeat_byte(5),
        registrar: SIGNER,
        block: inclusion(2).block,
        own_transaction: None,
    };
    rig.store.mark_found_on_chain(&[found], at(14)).await.unwrap();
    let found = rig.get(ids[1]).await;
    assert_eq!(found.state, State::Confirmed);
    let original = found.transaction.unwrap();
    assert_eq!((original.hash, original.own, rig.store.unfinished_count()), (B256::repeat_byte(5), None, 0));
}

#[tokio::test]
async fn a_reorg_brings_confirmed_work_back() {
    let rig = StoreFixture::new(100).await;
    let id = rig.accept(1, "a").await.registration.id;
    let transaction = rig.insert_signed(0, &[id]).await;
    rig.store.mark_included(transaction, &inclusion(3), &[], true, at(13)).await.unwrap();
    rig.store.mark_reorged(transaction, at(14)).await.unwrap();
    let back = rig.get(id).await;
    assert_eq!((back.state, back.finality, rig.store.unfinished_count()), (State::Submitted, None, 1));
    assert_eq!(rig.store.open_transactions(SIGNER).await.unwrap()[0].attempts.len(), 1);
}

#[tokio::test]
async fn what_blocked_the_sending_is_forgotten_when_the_work_is_queued_again() {
    let rig = StoreFixture::new(100).await;
    let ids = [rig.accept(1, "a").await.registration.id, rig.accept(2, "a").await.registration.id];
    for (nonce, in_part) in [(0, true), (1, false)] {
        let transaction = rig.insert_signed(nonce, &ids[usize::from(!in_part)..]).await;
        let members = if in_part { 2 } else { 1 };
        assert_eq!(rig.store.set_blocked_unsent(transaction, BlockedReason::NoEndpoint, at(5)).await.unwrap(), members);
        if in_part {
            rig.store.mark_included(transaction, &inclusion(3), &ids[1..], true, at(6)).await.unwrap();
        } else {
            rig.store.requeue_members(transaction, None, at(7)).await.unwrap();
        }
        let queued = rig.get(ids[1]).await;
        assert_eq!((queued.state, queued.blocked_reason), (State::Queued, None), "released in part: {in_part}");
    }
}

#[tokio::test]
async fn what_another_lane_has_signed_is_not_touched_by_one_that_looked_before() {
    let rig = StoreFixture::new(100).await;
    let id = rig.accept(1, "a").await.registration.id;
    let failure = Failure { reason: FailureReason::RejectedByContract, message: "refused".into() };
    rig.insert_signed(0, &[id]).await;
    let before = rig.get(id).await;

    assert!(!rig.store.mark_failed(id, &failure, at(20)).await.unwrap());
    assert_eq!(rig.store.set_blocked_queued(&[id], BlockedReason::FeeCap, at(50), at(20)).await.unwrap(), 0);
    let found = FoundOnChain {
        id,
        hash: B256::repeat_byte(5),
        registrar: SIGNER,
        block: inclusion(2).block,
        own_transaction: None,
    };
    assert_eq!(rig.store.mark_found_on_chain(&[found], at(20)).await.unwrap(), []);

    let strangers = rig.store.unfinalized_blocks(UnfinalizedBlock::FOREIGN_LEASE, 10).await.unwrap();
    assert_eq!(strangers, [], "its transaction is not a stranger's");
    assert_eq!(rig.get(id).await, before);
    assert_eq!(rig.store.unfinished_count(), 1);
}

#[tokio::test]
async fn what_is_settled_was_not_late() {
    let rig = StoreFixture::new(100).await;
    let diagnosis =
        Diagnosis { cause: Cause::Pending, explanation: String::new(), evidence: BTreeMap::new(), time: at(40) };
    for (number, settled) in [(1_u8, false), (2, true)] {
        let id = rig.accept(number, "a").await.registration.id;
        let transaction = rig.insert_signed(number.into(), &[id]).await;
        rig.store.mark_included(transaction, &inclusion(3), &[], settled, at(6)).await.unwrap();
        let revision = rig.get(id).await.revision;
        assert_eq!(rig.store.mark_timed_out(transaction, &diagnosis, at(40)).await.unwrap(), !settled);
        let after = rig.get(id).await;
        assert_eq!((after.times.timed_out.is_some(), after.revision > revision), (!settled, !settled));
    }
}

#[tokio::test]
async fn what_a_transaction_did_not_register_stays_with_its_nonce_until_that_is_consumed_for_good() {
    let rig = StoreFixture::new(100).await;
    let ids = [rig.accept(1, "a").await.registration.id, rig.accept(2, "a").await.registration.id];
    let id = rig.insert_signed(0, &ids).await;
    rig.store.mark_submitted(id, &AcceptedBy::default(), at(12)).await.unwrap();

    rig.store.mark_included(id, &inclusion(7), &ids[1..], false, at(13)).await.unwrap();

    assert_eq!(rig.get(ids[0]).await.state, State::Included);
    assert_eq!(rig.get(ids[1]).await.state, State::Submitted);
    assert_eq!(rig.store.mark_confirmed(id, at(14)).await.unwrap(), ids[1..]);
    let released = rig.get(ids[1]).await;
    assert_eq!((released.state, released.transaction), (State::Queued, None));
    assert_eq!(rig.get(ids[0]).await.state, State::Confirmed);
    assert_eq!(rig.store.unfinished_count(), 1);
}

#[tokio::test]
async fn who_only_looks_at_what_is_out_reads_no_bytes_and_of_what_it_carries_the_first() {
    let rig = StoreFixture::new(100).await;
    let mut ids = Vec::new();
    for document in 1..=4 {
        ids.push(rig.accept(document, "a").await.registration.id);
    }
    rig.insert_signed(0, &ids[..2]).await;
    rig.insert_signed(1, &ids[2..]).await;
    let whole = rig.store.open_transactions(SIGNER).await.unwrap();

    let seen = rig.store.open_transaction_summaries(SIGNER, Some(1)).await.unwrap();

    let members = |open: &OpenTransaction| open.members.iter().map(|member| member.id).collect::<Vec<_>>();
    assert_eq!(seen.iter().map(members).collect::<Vec<_>>(), [vec![ids[0]], ids[2..].to_vec()]);
    for (seen, whole) in seen.iter().zip(&whole) {
        let Attempt { hash, raw, fees } = &seen.attempts[0];
        assert_eq!((*hash, *fees, raw.len()), (whole.attempts[0].hash, whole.attempts[0].fees, 0));
        assert_eq!((seen.id, seen.nonce, seen.signed_at), (whole.id, whole.nonce, whole.signed_at));
    }
}
