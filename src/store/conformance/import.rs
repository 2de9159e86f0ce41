//! Registrations and transactions found on chain: foreign ones, and own ones from after a restored backup.

use super::*;

#[tokio::test]
async fn a_foreign_registration_is_queued_again_after_a_reorg() {
    let fixture = StoreFixture::new(100).await;
    let id = fixture.accept(1, "a").await.registration.id;
    let found = |number| FoundOnChain {
        id,
        hash: B256::repeat_byte(5),
        registrar: SIGNER,
        block: inclusion(number).block,
        own_transaction: None,
    };
    let blocks: Vec<_> = fixture
        .store
        .mark_found_on_chain(&[found(2)], at(14))
        .await
        .unwrap()
        .into_iter()
        .map(|(_, block)| block)
        .collect();
    assert_eq!(fixture.store.unfinalized_blocks(UnfinalizedBlock::FOREIGN_LEASE, 10).await.unwrap(), blocks);
    assert_eq!(fixture.store.requeue_foreign_reorged(blocks[0].id, at(15)).await.unwrap(), [id]);
    let queued = fixture.get(id).await;
    assert_eq!((queued.state, queued.transaction, fixture.store.unfinished_count()), (State::Queued, None, 1));
    assert_eq!(fixture.store.unfinalized_blocks(UnfinalizedBlock::FOREIGN_LEASE, 10).await.unwrap(), []);
    fixture.store.mark_found_on_chain(&[found(3)], at(16)).await.unwrap();
    assert_eq!(fixture.get(id).await.transaction.unwrap().block, Some(inclusion(3).block));
    assert_eq!(fixture.store.unfinished_count(), 0);
}

#[tokio::test]
async fn a_registration_signed_after_its_lookup_keeps_its_transaction() {
    let fixture = StoreFixture::new(100).await;
    let id = fixture.accept(1, "a").await.registration.id;
    let transaction = fixture.insert_signed(0, &[id]).await;
    let found = FoundOnChain {
        id,
        hash: B256::repeat_byte(5),
        registrar: SIGNER,
        block: inclusion(2).block,
        own_transaction: None,
    };
    fixture.store.mark_found_on_chain(&[found], at(14)).await.unwrap();
    assert_eq!((fixture.get(id).await.state, fixture.store.unfinished_count()), (State::Signed, 1));
    assert_eq!(fixture.store.member_ids(transaction).await.unwrap(), [id]);
}

#[tokio::test]
async fn an_own_transaction_found_on_chain_is_stored_as_if_signed_here() {
    let fixture = StoreFixture::new(100).await;
    let id = fixture.accept(1, "a").await.registration.id;
    let one = |nonce: u64| ImportedTransaction {
        signer: SIGNER,
        nonce,
        gas_limit: 50_000,
        batch_size: 7,
        attempt: transaction(nonce).attempt,
        block: inclusion(4).block,
        cost: inclusion(4).cost,
    };
    let ImportOutcome::Imported(own) = fixture.store.import_transaction(&one(3), at(30)).await.unwrap() else {
        panic!("not imported")
    };
    assert_eq!(fixture.store.import_transaction(&one(3), at(31)).await.unwrap(), ImportOutcome::Present(own));
    let found = FoundOnChain {
        id,
        hash: one(3).attempt.hash,
        registrar: SIGNER,
        block: inclusion(4).block,
        own_transaction: Some(own),
    };
    let blocks: Vec<_> = fixture
        .store
        .mark_found_on_chain(&[found], at(32))
        .await
        .unwrap()
        .into_iter()
        .map(|(_, block)| block)
        .collect();
    assert_eq!((blocks[0].id, blocks[0].signer), (own, Some(SIGNER)));
    let carried = fixture.get(id).await.transaction.unwrap();
    let ours = carried.own.unwrap();
    assert_eq!((carried.hash, ours.nonce, ours.batch_size, ours.attempts), (one(3).attempt.hash, 3, 7, 1));
    assert_eq!(ours.cost.unwrap(), inclusion(4).cost);
    assert_eq!(fixture.store.nonces_from(SIGNER, 2).await.unwrap(), [3]);
    assert_eq!(
        (fixture.store.newest_block(SIGNER).await.unwrap(), fixture.store.next_nonce(SIGNER).await.unwrap()),
        (Some(4), Some(4))
    );
    // After a reorg the same bytes are rebroadcast.
    fixture.store.mark_reorged(own, at(33)).await.unwrap();
    assert_eq!(fixture.store.open_transactions(SIGNER).await.unwrap()[0].attempts, [one(3).attempt]);
}

#[tokio::test]
async fn a_transaction_stored_as_foreign_can_be_imported_as_own() {
    let fixture = StoreFixture::new(100).await;
    let id = fixture.accept(1, "a").await.registration.id;
    let attempt = transaction(3).attempt;
    let found =
        FoundOnChain { id, hash: attempt.hash, registrar: SIGNER, block: inclusion(4).block, own_transaction: None };
    let stored = fixture.store.mark_found_on_chain(&[found], at(20)).await.unwrap()[0].1.id;
    let ours = ImportedTransaction {
        signer: SIGNER,
        nonce: 3,
        gas_limit: 50_000,
        batch_size: 7,
        attempt,
        block: inclusion(4).block,
        cost: inclusion(4).cost,
    };

    assert_eq!(fixture.store.import_transaction(&ours, at(30)).await.unwrap(), ImportOutcome::Imported(stored));

    let carried = fixture.get(id).await.transaction.unwrap().own.unwrap();
    assert_eq!((carried.nonce, carried.batch_size, carried.attempts), (3, 7, 1));
    assert_eq!(fixture.store.unfinalized_blocks(UnfinalizedBlock::FOREIGN_LEASE, 10).await.unwrap(), []);
    assert_eq!(fixture.store.unfinalized_blocks(SIGNER, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_stored_transaction_of_a_nonce_decides_the_import_outcome() {
    let fixture = StoreFixture::new(100).await;
    let ids = [fixture.accept(1, "a").await.registration.id, fixture.accept(2, "a").await.registration.id];
    let (open, requeued) = (fixture.insert_signed(0, &ids[..1]).await, fixture.insert_signed(1, &ids[1..]).await);
    fixture.store.requeue_members(requeued, None, at(20)).await.unwrap();
    let imported = |nonce: u64| ImportedTransaction {
        signer: SIGNER,
        nonce,
        gas_limit: 50_000,
        batch_size: 1,
        attempt: transaction(nonce + 10).attempt,
        block: inclusion(4).block,
        cost: inclusion(4).cost,
    };
    assert_eq!(fixture.store.import_transaction(&imported(0), at(30)).await.unwrap(), ImportOutcome::StillOpen);
    assert_eq!(
        fixture.store.import_transaction(&imported(1), at(30)).await.unwrap(),
        ImportOutcome::Imported(requeued)
    );
    assert_eq!(fixture.store.unfinalized_blocks(SIGNER, 10).await.unwrap().len(), 1, "it is confirmed");
    let third = ImportedTransaction { attempt: transaction(50).attempt, ..imported(1) };
    assert_eq!(fixture.store.import_transaction(&third, at(31)).await.unwrap(), ImportOutcome::Conflicts);
    // The open transaction gains the attempt, and keeps its own.
    fixture.store.import_attempt(open, &imported(0).attempt, at(32)).await.unwrap();
    fixture.store.import_attempt(open, &imported(0).attempt, at(33)).await.unwrap();
    let attempts = &fixture.store.open_transactions(SIGNER).await.unwrap()[0].attempts;
    assert_eq!(attempts[..], [transaction(0).attempt, imported(0).attempt]);
    assert_eq!(fixture.get(ids[0]).await.transaction.unwrap().own.unwrap().attempts, 2);
}
