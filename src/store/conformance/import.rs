//! What is found on chain and was not expected there: by somebody else, or by us before a backup was restored.

use super::*;

#[tokio::test]
async fn what_somebody_else_registered_is_queued_again_when_it_is_reorged_out() {
    let rig = StoreFixture::new(100).await;
    let id = rig.accept(1, "a").await.registration.id;
    let found = |number| FoundOnChain {
        id,
        hash: B256::repeat_byte(5),
        registrar: SIGNER,
        block: inclusion(number).block,
        own_transaction: None,
    };
    let blocks: Vec<_> =
        rig.store.mark_found_on_chain(&[found(2)], at(14)).await.unwrap().into_iter().map(|(_, block)| block).collect();
    assert_eq!(rig.store.unfinalized_blocks(UnfinalizedBlock::FOREIGN_LEASE, 10).await.unwrap(), blocks);
    assert_eq!(rig.store.requeue_foreign_reorged(blocks[0].id, at(15)).await.unwrap(), [id]);
    let queued = rig.get(id).await;
    assert_eq!((queued.state, queued.transaction, rig.store.unfinished_count()), (State::Queued, None, 1));
    assert_eq!(rig.store.unfinalized_blocks(UnfinalizedBlock::FOREIGN_LEASE, 10).await.unwrap(), []);
    rig.store.mark_found_on_chain(&[found(3)], at(16)).await.unwrap();
    assert_eq!(rig.get(id).await.transaction.unwrap().block, Some(inclusion(3).block));
    assert_eq!(rig.store.unfinished_count(), 0);
}

#[tokio::test]
async fn what_was_signed_after_it_was_looked_up_stays_with_its_transaction() {
    let rig = StoreFixture::new(100).await;
    let id = rig.accept(1, "a").await.registration.id;
    let transaction = rig.insert_signed(0, &[id]).await;
    let found = FoundOnChain {
        id,
        hash: B256::repeat_byte(5),
        registrar: SIGNER,
        block: inclusion(2).block,
        own_transaction: None,
    };
    rig.store.mark_found_on_chain(&[found], at(14)).await.unwrap();
    assert_eq!((rig.get(id).await.state, rig.store.unfinished_count()), (State::Signed, 1));
    assert_eq!(rig.store.member_ids(transaction).await.unwrap(), [id]);
}

#[tokio::test]
async fn a_transaction_of_ours_that_is_found_on_chain_is_stored_as_if_it_had_been_made_here() {
    let rig = StoreFixture::new(100).await;
    let id = rig.accept(1, "a").await.registration.id;
    let one = |nonce: u64| ImportedTransaction {
        signer: SIGNER,
        nonce,
        gas_limit: 50_000,
        batch_size: 7,
        attempt: transaction(nonce).attempt,
        block: inclusion(4).block,
        cost: inclusion(4).cost,
    };
    let ImportOutcome::Imported(own) = rig.store.import_transaction(&one(3), at(30)).await.unwrap() else {
        panic!("it was not known")
    };
    assert_eq!(rig.store.import_transaction(&one(3), at(31)).await.unwrap(), ImportOutcome::Present(own));
    let found = FoundOnChain {
        id,
        hash: one(3).attempt.hash,
        registrar: SIGNER,
        block: inclusion(4).block,
        own_transaction: Some(own),
    };
    let blocks: Vec<_> =
        rig.store.mark_found_on_chain(&[found], at(32)).await.unwrap().into_iter().map(|(_, block)| block).collect();
    assert_eq!((blocks[0].id, blocks[0].signer), (own, Some(SIGNER)));
    let carried = rig.get(id).await.transaction.unwrap();
    let ours = carried.own.unwrap();
    assert_eq!((carried.hash, ours.nonce, ours.batch_size, ours.attempts), (one(3).attempt.hash, 3, 7, 1));
    assert_eq!(ours.cost.unwrap(), inclusion(4).cost);
    assert_eq!(rig.store.nonces_from(SIGNER, 2).await.unwrap(), [3]);
    assert_eq!(
        (rig.store.newest_block(SIGNER).await.unwrap(), rig.store.next_nonce(SIGNER).await.unwrap()),
        (Some(4), Some(4))
    );
    // A reorg sends the very bytes again.
    rig.store.mark_reorged(own, at(33)).await.unwrap();
    assert_eq!(rig.store.open_transactions(SIGNER).await.unwrap()[0].attempts, [one(3).attempt]);
}

#[tokio::test]
async fn what_was_taken_for_a_strangers_transaction_is_known_for_ours_later() {
    let rig = StoreFixture::new(100).await;
    let id = rig.accept(1, "a").await.registration.id;
    let attempt = transaction(3).attempt;
    let found =
        FoundOnChain { id, hash: attempt.hash, registrar: SIGNER, block: inclusion(4).block, own_transaction: None };
    let taken = rig.store.mark_found_on_chain(&[found], at(20)).await.unwrap()[0].1.id;
    let ours = ImportedTransaction {
        signer: SIGNER,
        nonce: 3,
        gas_limit: 50_000,
        batch_size: 7,
        attempt,
        block: inclusion(4).block,
        cost: inclusion(4).cost,
    };

    assert_eq!(rig.store.import_transaction(&ours, at(30)).await.unwrap(), ImportOutcome::Imported(taken));

    let carried = rig.get(id).await.transaction.unwrap().own.unwrap();
    assert_eq!((carried.nonce, carried.batch_size, carried.attempts), (3, 7, 1));
    assert_eq!(rig.store.unfinalized_blocks(UnfinalizedBlock::FOREIGN_LEASE, 10).await.unwrap(), []);
    assert_eq!(rig.store.unfinalized_blocks(SIGNER, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_the_store_has_under_a_nonce_of_ours_decides_what_becomes_of_another_version() {
    let rig = StoreFixture::new(100).await;
    let ids = [rig.accept(1, "a").await.registration.id, rig.accept(2, "a").await.registration.id];
    let (open, given_up) = (rig.insert_signed(0, &ids[..1]).await, rig.insert_signed(1, &ids[1..]).await);
    rig.store.requeue_members(given_up, None, at(20)).await.unwrap();
    let version = |nonce: u64| ImportedTransaction {
        signer: SIGNER,
        nonce,
        gas_limit: 50_000,
        batch_size: 1,
        attempt: transaction(nonce + 10).attempt,
        block: inclusion(4).block,
        cost: inclusion(4).cost,
    };
    assert_eq!(rig.store.import_transaction(&version(0), at(30)).await.unwrap(), ImportOutcome::StillOpen);
    assert_eq!(rig.store.import_transaction(&version(1), at(30)).await.unwrap(), ImportOutcome::Imported(given_up));
    assert_eq!(rig.store.unfinalized_blocks(SIGNER, 10).await.unwrap().len(), 1, "it is confirmed after all");
    let third = ImportedTransaction { attempt: transaction(50).attempt, ..version(1) };
    assert_eq!(rig.store.import_transaction(&third, at(31)).await.unwrap(), ImportOutcome::Conflicts);
    // The one that is open takes the version over, and keeps its own.
    rig.store.import_attempt(open, &version(0).attempt, at(32)).await.unwrap();
    rig.store.import_attempt(open, &version(0).attempt, at(33)).await.unwrap();
    let attempts = &rig.store.open_transactions(SIGNER).await.unwrap()[0].attempts;
    assert_eq!(attempts[..], [transaction(0).attempt, version(0).attempt]);
    assert_eq!(rig.get(ids[0]).await.transaction.unwrap().own.unwrap().attempts, 2);
}
