//! How a receiver treats requests: normally, slowly, not at all, or with an error.

use crate::harness::listener::PausableListener;
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

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Behavior {
    Accept,
    /// Accepts and delays the answer.
    Slow(Duration),
    /// Records nothing and never answers; connections stay open until the behavior changes.
    Hang,
    /// Open connections end and new ones are refused.
    RefuseConnections,
    /// Records nothing and answers with this.
    Reject(Reply),
    /// Accepts and answers with this.
    AcceptWith(Reply),
}

/// A response without a body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new() }
    }

    pub fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    /// 429 with Sentry's header, such as `60:transaction:key`
    /// (<https://develop.sentry.dev/sdk/expected-features/rate-limiting/>).
    pub fn rate_limits(limits: &str) -> Self {
        Self::status(429).header("x-sentry-rate-limits", limits)
    }

    /// 429 with `Retry-After`, in seconds.
    pub fn retry_after(seconds: u64) -> Self {
        Self::status(429).header("retry-after", seconds)
    }

    fn response(&self) -> Response {
        let builder = Response::builder().status(self.status);
        let builder = self.headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, value));
        builder.body(Body::empty()).unwrap()
    }
}

/// Extension of a request that the receiver does not accept.
#[derive(Clone, Copy, Debug)]
pub struct Discarded;

pub struct Receiver {
    pub address: SocketAddr,
    behavior: watch::Sender<Behavior>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// Starts a receiver with [`Behavior::Accept`], over HTTP/1.1 and HTTP/2.
    pub fn start(router: Router) -> Self {
        let behavior = watch::Sender::new(Behavior::Accept);
        let listener = PausableListener::bind();
        let address = listener.address;
        let router = router.layer(middleware::from_fn_with_state(behavior.subscribe(), apply_behavior));
        let served = behavior.subscribe();
        let task = tokio::spawn(async move {
            let serve_connection = |stream| serve_connection(stream, router.clone(), served.clone());
            listener
                .serve(served.clone(), |behavior| *behavior == Behavior::RefuseConnections, || {}, serve_connection)
                .await;
        });
        Self { address, behavior, task }
    }

    pub fn set_behavior(&self, behavior: Behavior) {
        self.behavior.send_replace(behavior);
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn apply_behavior(
    State(behavior): State<watch::Receiver<Behavior>>,
    mut request: Request,
    next: Next,
) -> Response {
    // A copy, because the borrow's lock must not be held across an await.
    let now = behavior.borrow().clone();
    match now {
        Behavior::Accept => next.run(request).await,
        Behavior::Slow(time) => {
            let response = next.run(request).await;
            tokio::time::sleep(time).await;
            response
        }
        Behavior::Hang | Behavior::RefuseConnections => {
            request.extensions_mut().insert(Discarded);
            next.run(request).await;
            std::future::pending().await
        }
        Behavior::Reject(reply) => {
            request.extensions_mut().insert(Discarded);
            next.run(request).await;
            reply.response()
        }
        Behavior::AcceptWith(reply) => {
            next.run(request).await;
            reply.response()
        }
    }
}

async fn serve_connection(stream: TcpStream, router: Router, mut behavior: watch::Receiver<Behavior>) {
    let builder = auto::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let released = async {
        let hung = behavior.wait_for(|behavior| *behavior == Behavior::Hang).await.is_ok();
        if !hung || behavior.wait_for(|behavior| *behavior != Behavior::Hang).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        // An error means that the client was killed or disconnected.
        _ = connection => {}
        () = released => {}
    }
}
