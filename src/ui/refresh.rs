//! Server-sent events, at which an open page fetches itself again
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>). An event has no content: pages are shared for a
//! second, so that many that are open cost one reading, and a stream holds next to nothing.

use super::page::respond;
use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::Response,
};
use bytes::Bytes;
use futures_util::stream;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// Of one process. The admin port has 64 connections, which scrapers and probes need too.
const MAX_STREAMS: usize = 32;
const INTERVAL: Duration = Duration::from_secs(2);
/// Then the browser connects again, and its credentials are checked again.
const EVENTS: u32 = 30;
/// A browser connects again after this time.
const FIRST: &str = "retry: 1000\n\n";
const EVENT: &str = "event: refresh\ndata:\n\n";
const RETRY_SECONDS: &str = "30";

/// The open streams of a process.
#[derive(Clone, Debug)]
pub(super) struct Streams(Arc<Semaphore>);

struct Stream {
    sent: u32,
    next: Instant,
    stop: Vec<CancellationToken>,
    _place: OwnedSemaphorePermit,
}

impl Streams {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_STREAMS)))
    }

    /// A stream until one of `stop`, or for a minute.
    pub(super) fn open(&self, stop: Vec<CancellationToken>) -> Response {
        let Ok(place) = self.0.clone().try_acquire_owned() else {
            let text = format!("{MAX_STREAMS} pages are refreshed already; reload this one by hand\n");
            let mut response = respond(StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", text);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(RETRY_SECONDS));
            return response;
        };
        let stream = Stream { sent: 0, next: Instant::now(), stop, _place: place };
        respond(StatusCode::OK, "text/event-stream", Body::from_stream(stream::unfold(stream, Stream::next_event)))
    }
}

impl Stream {
    async fn next_event(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if self.sent > EVENTS {
            return None;
        }
        let stopped = futures_util::future::select_all(self.stop.iter().map(|stop| Box::pin(stop.cancelled())));
        tokio::select! {
            () = sleep_until(self.next) => {}
            _ = stopped => return None,
        }
        let event = if self.sent == 0 { FIRST } else { EVENT };
        self.sent += 1;
        self.next += INTERVAL;
        Some((Ok(Bytes::from_static(event.as_bytes())), self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn next(response: &mut Response) -> Option<Bytes> {
        response.body_mut().frame().await.map(|frame| frame.unwrap().into_data().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_after_a_minute_and_streams_are_limited() {
        let (streams, stop) = (Streams::new(), CancellationToken::new());
        let mut open: Vec<_> = (0..MAX_STREAMS).map(|_| streams.open(vec![stop.clone()])).collect();
        assert!(open.iter().all(|response| response.status() == 200));
        let refused = streams.open(vec![stop.clone()]);
        assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"30".parse().unwrap()));

        let started = Instant::now();
        let mut first = open.remove(0);
        assert_eq!(next(&mut first).await.unwrap(), FIRST.as_bytes());
        let mut events = 0;
        while let Some(event) = next(&mut first).await {
            assert_eq!(event, EVENT.as_bytes());
            events += 1;
        }
        assert_eq!((events, started.elapsed()), (EVENTS, Duration::from_secs(60)));
        drop(first);
        assert_eq!(streams.open(vec![stop]).status(), 200, "its place is free");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_with_the_service() {
        let stop = CancellationToken::new();
        let mut response = Streams::new().open(vec![CancellationToken::new(), stop.clone()]);
        next(&mut response).await.unwrap();
        stop.cancel();
        assert_eq!(next(&mut response).await, None);
    }
}
