//! Closing and opening a store.

use super::*;
use std::sync::Arc;

#[tokio::test]
async fn a_reopened_store_has_everything() {
    let fixture = StoreFixture::new(100).await;
    let id = fixture.accept(1, "a").await.registration.id;
    let transaction = fixture.insert_signed(0, &[id]).await;
    let diagnosis = Diagnosis {
        cause: Cause::Pending,
        explanation: "still".into(),
        evidence: BTreeMap::from([("a".into(), "b".into())]),
        time: at(40),
    };
    assert!(fixture.store.mark_timed_out(transaction, &diagnosis, at(40)).await.unwrap());
    let before = fixture.get(id).await;
    assert_eq!(before.diagnosis, Some(diagnosis));
    let StoreFixture { store, accept_handle: handle, settings, _database: _kept } = fixture;
    drop(handle);
    store.close().await;
    drop(store);
    let store = reopen(&settings).await;
    assert_eq!(store.get(id).await.unwrap().unwrap(), before);
    let open = store.open_transactions(SIGNER).await.unwrap();
    assert_eq!((open.len(), open[0].members.len(), open[0].nonce), (1, 1, 0));
    assert_eq!(open[0].timed_out_at, Some(at(40)));
}

#[tokio::test]
async fn the_callers_trace_survives_a_restart() {
    let fixture = StoreFixture::new(100).await;
    let headers = [
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"),
        ("sentry-trace", "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"),
        ("tracestate", "tenant@one@two=1,congo=t61rcWkgMzE"),
        ("baggage", "sentry-trace_id=0af7651916cd43dd8448eb211c80319c,sentry-release=1%2E0"),
    ];
    let headers = headers.map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
    let trace = Arc::new(crate::telemetry::propagation::extract(&headers.into_iter().collect()));
    assert!(trace.sampled.is_none() && !trace.tracestate.is_empty() && !trace.baggage.is_empty(), "{trace:?}");
    let queued =
        fixture.accept_handle.accept(NewRegistration { trace: trace.clone(), ..request(1, "a") }).await.unwrap();
    let in_flight =
        fixture.accept_handle.accept(NewRegistration { trace: trace.clone(), ..request(2, "a") }).await.unwrap();
    fixture.insert_signed(0, &[in_flight.registration.id]).await;
    let StoreFixture { store, accept_handle: handle, settings, _database: _kept } = fixture;
    drop(handle);
    store.close().await;
    drop(store);

    let store = reopen(&settings).await;

    assert_eq!(store.get(queued.registration.id).await.unwrap().unwrap().request.trace, trace);
    assert_eq!(store.queued(at(1_000_000_000_000), 10).await.unwrap()[0].trace, *trace);
    assert_eq!(store.open_transactions(SIGNER).await.unwrap()[0].members[0].trace, *trace);
}

/// The writer task drops its store shortly after its last handle is dropped.
pub(super) async fn reopen(settings: &Settings) -> Store {
    loop {
        match Store::open(settings, 100).await {
            Err(OpenError::InUse(_)) => tokio::task::yield_now().await,
            opened => return opened.unwrap(),
        }
    }
}
