//! Readiness writes.

use super::*;

#[tokio::test]
async fn a_probe_writes_and_keeps_one_row_for_each_process() {
    let fixture = StoreFixture::new(100).await;
    let store = &fixture.store;
    query("INSERT INTO write_probes (holder, probed_at, padding) VALUES ($1, 1, $1)")
        .bind(vec![1_u8])
        .execute(&store.writer)
        .await
        .unwrap();

    assert!(store.is_usable().await);

    let rows = query("SELECT holder FROM write_probes").fetch_all(&store.reader).await.unwrap();
    let holders: Vec<Vec<u8>> = rows.iter().map(|row| row.get(0).unwrap()).collect();
    assert_eq!(holders, [store.leases.holder_id()], "without the row of a process that ended long ago");
}

#[tokio::test]
async fn a_database_that_cannot_be_written_is_not_usable_although_it_can_be_read() {
    let fixture = StoreFixture::new(100).await;
    let store = &fixture.store;
    query("DROP TABLE write_probes").execute(&store.writer).await.unwrap();
    assert!(!store.is_usable().await);
    assert!(store.queued(at(1), 1).await.unwrap().is_empty());
}
