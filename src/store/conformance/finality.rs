//! What is not final yet, and what may go when it is.

use super::*;

#[tokio::test]
async fn what_is_not_final_is_read_down_to_a_depth_and_what_is_below_when_it_is_asked_for() {
    let rig = StoreFixture::new(100).await;
    let mut transactions = Vec::new();
    for nonce in 0..4_u8 {
        let id = rig.accept(nonce + 1, "a").await.registration.id;
        let transaction = rig.insert_signed(nonce.into(), &[id]).await;
        rig.store.mark_included(transaction, &inclusion(u64::from(nonce) * 10), &[], true, at(50)).await.unwrap();
        transactions.push(transaction);
    }
    let ids = |blocks: Vec<UnfinalizedBlock>| {
        let mut ids: Vec<_> = blocks.into_iter().map(|block| block.id).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids(rig.store.unfinalized_blocks(SIGNER, 15).await.unwrap()), transactions[2..]);
    assert_eq!(rig.store.unfinalized_blocks(UnfinalizedBlock::FOREIGN_LEASE, 15).await.unwrap(), []);
    assert_eq!(ids(rig.store.unfinalized_up_to(10, 5).await.unwrap()), transactions[..2]);
    assert_eq!(ids(rig.store.unfinalized_up_to(30, 1).await.unwrap()), transactions[..1]);
    rig.store.raise_finality(&transactions[..1], Finality::Finalized, at(60)).await.unwrap();
    assert_eq!(ids(rig.store.unfinalized_up_to(30, 1).await.unwrap()), transactions[1..2]);
}

#[tokio::test]
async fn bytes_are_removed_only_of_what_is_final_and_old_and_all_else_stays() {
    let rig = StoreFixture::new(100).await;
    let mut carried = Vec::new();
    // Old and final; old and never final; final and young; open.
    for (nonce, confirmed) in [(0, Some(50)), (1, Some(50)), (2, Some(90)), (3, None)] {
        let id = rig.accept(nonce as u8 + 1, "a").await.registration.id;
        let transaction = rig.insert_signed(nonce, &[id]).await;
        if let Some(confirmed) = confirmed {
            rig.store.mark_included(transaction, &inclusion(nonce), &[], true, at(confirmed)).await.unwrap();
        }
        carried.push((id, transaction));
    }
    rig.store.raise_finality(&[carried[0].1, carried[2].1], Finality::Finalized, at(95)).await.unwrap();
    rig.store.raise_finality(&[carried[1].1], Finality::Safe, at(95)).await.unwrap();
    let before = rig.get(carried[0].0).await;

    assert_eq!(rig.store.prune(at(49), 10, at(100)).await.unwrap(), 0, "nothing is old");
    assert_eq!(rig.store.prune(at(60), 10, at(100)).await.unwrap(), 1);
    assert_eq!(rig.store.prune(at(60), 10, at(101)).await.unwrap(), 0, "once");

    let kept = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM attempts WHERE length(raw) = 3");
    assert_eq!(kept.fetch_one(&rig.store.reader).await.unwrap(), 3);
    assert_eq!(rig.get(carried[0].0).await, before, "hash, fees and number stay");
    let open = rig.store.open_transactions(SIGNER).await.unwrap();
    assert_eq!(open.iter().map(|open| open.attempts[0].raw.len()).collect::<Vec<_>>(), [3]);
}
