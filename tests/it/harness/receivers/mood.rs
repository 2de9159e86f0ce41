//! How a receiver is today: well, slow, silent, gone, or of another opinion.

use crate::harness::door::Door;
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    middleware::{self, Next},
    response::Response,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use std::{net::SocketAddr, time::Duration};
use tokio::{net::TcpStream, sync::watch, task::JoinHandle};

/// What a receiver does with requests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mood {
    /// It takes them.
    Takes,
    /// It takes them, and says so so much later.
    Slow(Duration),
    /// It takes nothing, and never answers: connections stay open until it is in another mood.
    Hangs,
    /// Nobody listens: open connections end, and new ones are refused.
    Refuses,
    /// It takes nothing, and this is its answer.
    Answers(Reply),
    /// It takes them, and this is its answer.
    TakesWith(Reply),
}

/// An answer without a body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
}

impl Reply {
    /// This status.
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new() }
    }

    /// With this header.
    pub fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    /// 429 with Sentry's own header, such as `60:transaction:key`
    /// (<https://develop.sentry.dev/sdk/expected-features/rate-limiting/>).
    pub fn rate_limits(limits: &str) -> Self {
        Self::status(429).header("x-sentry-rate-limits", limits)
    }

    /// 429 for everything, for so many seconds.
    pub fn retry_after(seconds: u64) -> Self {
        Self::status(429).header("retry-after", seconds)
    }

    fn response(&self) -> Response {
        let builder = Response::builder().status(self.status);
        let builder = self.headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, value));
        builder.body(Body::empty()).unwrap()
    }
}

/// In the extensions of a request that the receiver does not take: it only looks at it.
#[derive(Clone, Copy, Debug)]
pub struct NotTaken;

/// A running HTTP server, gone when dropped.
pub struct Receiver {
    /// Where it listens.
    pub address: SocketAddr,
    mood: watch::Sender<Mood>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// Starts one that is well. It speaks HTTP/1.1 and HTTP/2.
    pub fn start(router: Router) -> Self {
        let mood = watch::Sender::new(Mood::Takes);
        let door = Door::open();
        let address = door.address;
        let router = router.layer(middleware::from_fn_with_state(mood.subscribe(), suffer));
        let served = mood.subscribe();
        let task = tokio::spawn(async move {
            let converse = |stream| converse(stream, router.clone(), served.clone());
            door.serve(served.clone(), |mood| *mood == Mood::Refuses, || {}, converse).await;
        });
        Self { address, mood, task }
    }

    /// From now on it is in this mood.
    pub fn is(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn suffer(State(mood): State<watch::Receiver<Mood>>, mut request: Request, next: Next) -> Response {
    // In a variable of its own: the lock of a borrow must not be held while anything is awaited.
    let now = mood.borrow().clone();
    match now {
        Mood::Takes => next.run(request).await,
        Mood::Slow(time) => {
            let response = next.run(request).await;
            tokio::time::sleep(time).await;
            response
        }
        Mood::Hangs | Mood::Refuses => {
            request.extensions_mut().insert(NotTaken);
            next.run(request).await;
            std::future::pending().await
        }
        Mood::Answers(reply) => {
            request.extensions_mut().insert(NotTaken);
            next.run(request).await;
            reply.response()
        }
        Mood::TakesWith(reply) => {
            next.run(request).await;
            reply.response()
        }
    }
}

async fn converse(stream: TcpStream, router: Router, mut mood: watch::Receiver<Mood>) {
    let builder = auto::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let no_longer_hung = async {
        let hung = mood.wait_for(|mood| *mood == Mood::Hangs).await.is_ok();
        if !hung || mood.wait_for(|mood| *mood != Mood::Hangs).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        // An error is a caller that was killed, or that went away.
        _ = connection => {}
        () = no_longer_hung => {}
    }
}
