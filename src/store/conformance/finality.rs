//! Unfinalized blocks, and pruning once they are final.

use super::*;

#[tokio::test]
async fn unfinalized_blocks_are_read_down_to_a_depth_or_up_to_a_number() {
    let fixture = StoreFixture::new(100).await;
    let mut transactions = Vec::new();
    for nonce in 0..4_u8 {
        let id = fixture.accept(nonce + 1, "a").await.registration.id;
        let transaction = fixture.insert_signed(nonce.into(), &[id]).await;
        fixture.store.mark_included(transaction, &inclusion(u64::from(nonce) * 10), &[], true, at(50)).await.unwrap();
        transactions.push(transaction);
    }
    let ids = |blocks: Vec<UnfinalizedBlock>| {
        let mut ids: Vec<_> = blocks.into_iter().map(|block| block.id).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids(fixture.store.unfinalized_blocks(SIGNER, 15).await.unwrap()), transactions[2..]);
    assert_eq!(fixture.store.unfinalized_blocks(UnfinalizedBlock::FOREIGN_LEASE, 15).await.unwrap(), []);
    assert_eq!(ids(fixture.store.unfinalized_up_to(10, 5).await.unwrap()), transactions[..2]);
    assert_eq!(ids(fixture.store.unfinalized_up_to(30, 1).await.unwrap()), transactions[..1]);
    fixture.store.raise_finality(&transactions[..1], Finality::Finalized, at(60)).await.unwrap();
    assert_eq!(ids(fixture.store.unfinalized_up_to(30, 1).await.unwrap()), transactions[1..2]);
}

#[tokio::test]
async fn only_the_signed_bytes_of_old_final_transactions_are_pruned() {
    let fixture = StoreFixture::new(100).await;
    let mut carried = Vec::new();
    // Old and final; old and never final; final and young; open.
    for (nonce, confirmed) in [(0, Some(50)), (1, Some(50)), (2, Some(90)), (3, None)] {
        let id = fixture.accept(nonce as u8 + 1, "a").await.registration.id;
        let transaction = fixture.insert_signed(nonce, &[id]).await;
        if let Some(confirmed) = confirmed {
            fixture.store.mark_included(transaction, &inclusion(nonce), &[], true, at(confirmed)).await.unwrap();
        }
        carried.push((id, transaction));
    }
    fixture.store.raise_finality(&[carried[0].1, carried[2].1], Finality::Finalized, at(95)).await.unwrap();
    fixture.store.raise_finality(&[carried[1].1], Finality::Safe, at(95)).await.unwrap();
    let before = fixture.get(carried[0].0).await;

    assert_eq!(fixture.store.prune(at(49), 10, at(100)).await.unwrap(), 0, "none is old enough");
    assert_eq!(fixture.store.prune(at(60), 10, at(100)).await.unwrap(), 1);
    assert_eq!(fixture.store.prune(at(60), 10, at(101)).await.unwrap(), 0, "already pruned");

    let kept = query("SELECT COUNT(*) FROM attempts WHERE length(raw) = 3").fetch_one(&fixture.store.reader).await;
    assert_eq!(kept.unwrap().get::<i64>(0).unwrap(), 3);
    assert_eq!(fixture.get(carried[0].0).await, before, "hash, fees and number are kept");
    let open = fixture.store.open_transactions(SIGNER).await.unwrap();
    assert_eq!(open.iter().map(|open| open.attempts[0].raw.len()).collect::<Vec<_>>(), [3]);
}
