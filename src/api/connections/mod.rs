//! The connections of a port: how many there may be, how long each is used, and when one makes room for another.
//!
//! The HTTP library serves each connection; what it does not bound is bounded here. TLS begins with the first byte of a
//! connection ([`transport`]): a handshake that is not finished is a connection that never called.

mod activity;
mod answer;
mod bounded_read;
mod connection;
mod transport;

pub(super) use answer::HeldUntilSent;
pub(super) use connection::{Connection, Turn};
pub(super) use transport::Transport;

use super::limits::Timeouts;
use crate::telemetry::{ConnectionEnd, OngoingCondition, Port, metrics};
use activity::{Phase, Step};
use answer::track_answer;
use bounded_read::BoundedRead;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use std::{collections::HashMap, convert::Infallible, error::Error, io, pin::pin, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::{Id, JoinError, JoinSet},
    time::{Instant, interval, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};
use transport::Opened;

pub(super) type Http = Builder<TokioExecutor>;

/// The pause after a failed accept doubles from here: without a free descriptor every attempt fails at once.
const MIN_ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const MAX_ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// Without a descriptor, each connection that is closed lets one in: the condition is over when none has failed for
/// this long.
const ACCEPT_RECOVERY: Duration = Duration::from_secs(30);
/// Of all connections, those that never called may be this share: 1 / 4.
const UNUSED_SHARE: usize = 4;
const UNUSED_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A port and its limits.
pub(super) struct Connections {
    pub(super) port: Port,
    pub(super) transport: Transport,
    pub(super) http: Http,
    pub(super) max: usize,
    pub(super) timeouts: Timeouts,
    pub(super) stop: CancellationToken,
}

/// The open connections of a port.
#[derive(Default)]
struct Open {
    tasks: JoinSet<()>,
    by_task: HashMap<Id, Arc<Connection>>,
}

impl Connections {
    /// Serves until `stop`; then calls in progress are finished, and this returns when all connections are closed.
    pub(super) async fn serve<S, B>(self, listener: TcpListener, service: S)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let this = Arc::new(self);
        let mut open = Open::default();
        let (full, unavailable) = (OngoingCondition::new(), OngoingCondition::new());
        let (mut pause, mut failed_at) = (MIN_ACCEPT_PAUSE, None);
        let mut unused_check = interval(UNUSED_CHECK_INTERVAL);
        loop {
            metrics().set_connections(this.port, open.by_task.len());
            tokio::select! {
                () = this.stop.cancelled() => break,
                Some(ended) = open.tasks.join_next_with_id() => open.remove(&ended),
                _ = unused_check.tick() => this.close_unused(&mut open),
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        pause = MIN_ACCEPT_PAUSE;
                        if failed_at.is_some_and(|at: Instant| at.elapsed() >= ACCEPT_RECOVERY)
                            && unavailable.clear().is_some()
                        {
                            tracing::info!(port = this.port.code(), "connections are accepted again");
                        }
                        if this.make_room(&mut open, &full) {
                            let connection = Connection::new();
                            let task = serve_tcp(this.clone(), stream, connection.clone(), service.clone());
                            let task = open.tasks.spawn(task);
                            open.by_task.insert(task.id(), connection);
                        } else {
                            count_end(&this, Some(ConnectionEnd::Rejected));
                        }
                    }
                    // The client went away while it waited.
                    Err(error) if is_of_one_connection(&error) => {}
                    Err(error) => {
                        failed_at = Some(Instant::now());
                        if unavailable.start() {
                            tracing::warn!(
                                error = %error,
                                port = this.port.code(),
                                connections = open.by_task.len(),
                                "failed to accept a connection; closing idle ones and retrying. The limit of open \
                                 files (ulimit -n, LimitNOFILE) may be too low"
                            );
                        }
                        this.evict(&mut open, |_| true);
                        this.stop.run_until_cancelled(sleep(pause)).await;
                        pause = (pause * 2).min(MAX_ACCEPT_PAUSE);
                    }
                },
            }
        }
        drop(listener);
        while let Some(ended) = open.tasks.join_next_with_id().await {
            open.remove(&ended);
            metrics().set_connections(this.port, open.by_task.len());
        }
    }

    /// Returns whether there is room for one more.
    fn make_room(&self, open: &mut Open, full: &OngoingCondition) -> bool {
        if open.by_task.len() < self.max {
            if open.by_task.len() < self.max / 2 && full.clear().is_some() {
                tracing::info!(port = self.port.code(), "the number of connections is below its limit again");
            }
            return true;
        }
        if full.start() {
            tracing::warn!(
                port = self.port.code(),
                limit = self.max,
                "too many connections; idle ones are closed, and new ones are refused if none is idle"
            );
        }
        self.evict(open, |_| true)
    }

    /// Closes connections that never called, as far as there are more than their share.
    fn close_unused(&self, open: &mut Open) {
        let now = Instant::now();
        let unused = open.by_task.values().filter(|connection| connection.activity.lock().is_unused(now)).count();
        for _ in (self.max / UNUSED_SHARE).max(1)..unused {
            self.evict(open, |activity| activity.is_unused(now));
        }
    }

    /// Closes the connection that is missed least. Returns whether there was one.
    fn evict(&self, open: &mut Open, may: impl Fn(&activity::Activity) -> bool) -> bool {
        let order = |(id, connection): (&Id, &Arc<Connection>)| {
            let activity = *connection.activity.lock();
            may(&activity).then(|| activity.eviction_order()).flatten().map(|order| (order, *id))
        };
        let Some((_, id)) = open.by_task.iter().filter_map(order).min_by_key(|(order, _)| *order) else { return false };
        if let Some(connection) = open.by_task.remove(&id) {
            connection.close(ConnectionEnd::Evicted);
        }
        true
    }
}

impl Open {
    fn remove(&mut self, ended: &Result<(Id, ()), JoinError>) {
        let task = ended.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
        self.by_task.remove(&task);
    }
}

/// A failed accept that says nothing about the next one.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::TimedOut
            | io::ErrorKind::Interrupted
            | io::ErrorKind::WouldBlock
    )
}

/// A connection costs little until its first byte arrives.
async fn serve_tcp<S, B>(port: Arc<Connections>, stream: TcpStream, connection: Arc<Connection>, service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let first_byte = async {
        let mut first = [0];
        matches!(stream.peek(&mut first).await, Ok(1..)).then_some(first[0])
    };
    let first_byte = tokio::select! {
        () = port.stop.cancelled() => return,
        () = connection.closed.cancelled() => return count_end(&port, connection.closed_for.get().copied()),
        first_byte = timeout(port.timeouts.first_byte, first_byte) => match first_byte {
            Ok(Some(first_byte)) => first_byte,
            Ok(None) => return,
            Err(_) => return count_end(&port, Some(ConnectionEnd::NoCall)),
        },
    };
    // A response is small and the last of its call: waiting to fill a packet costs 40 ms with a client that delays its
    // ACKs.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let opened = tokio::select! {
        () = port.stop.cancelled() => return,
        () = connection.closed.cancelled() => return count_end(&port, connection.closed_for.get().copied()),
        opened = port.transport.open(port.port, stream, first_byte) => opened,
    };
    let end = match opened {
        Opened::Plain(stream) => serve_connection(&port, stream, &connection, service).await,
        Opened::Tls(stream, certificate) => {
            connection.set_peer_certificate(certificate);
            if let Some(certificate) = connection.peer_certificate() {
                tracing::debug!(port = port.port.code(), names = ?certificate.names, "client certificate accepted");
            }
            // A connection without TLS does not pay for its size.
            Box::pin(serve_connection(&port, stream, &connection, service)).await
        }
        Opened::Refused => Some(ConnectionEnd::Handshake),
    };
    count_end(&port, end);
}

fn count_end(port: &Connections, end: Option<ConnectionEnd>) {
    if let Some(end) = end {
        metrics().count_connection_end(port.port, end);
    }
}

/// `None` if the client has closed it.
async fn serve_connection<S, B, I>(
    port: &Connections,
    stream: I,
    connection: &Arc<Connection>,
    service: S,
) -> Option<ConnectionEnd>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let of_calls = connection.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let call = of_calls.begin_call();
        request.extensions_mut().insert(of_calls.clone());
        let answer = service.clone().oneshot(request);
        async move { answer.await.map(|response| track_answer(response, call)) }
    });
    let mut served = pin!(port.http.serve_connection(TokioIo::new(BoundedRead::new(stream)), service));
    let mut phase = Phase::Open { drain_at: Instant::now() + jittered(port.timeouts.max_age) };
    loop {
        let now = Instant::now();
        let step = connection.activity.lock().next_step(phase, &port.timeouts, now);
        let until = match step {
            Step::Wait { until } => until,
            Step::Drain => {
                phase = Phase::Aged { since: now };
                served.as_mut().graceful_shutdown();
                continue;
            }
            Step::Expire => {
                phase = Phase::Expired { since: now };
                connection.streams_end.cancel();
                continue;
            }
            Step::Close(end) => return Some(end),
        };
        let is_stopping = matches!(phase, Phase::ShuttingDown { .. });
        tokio::select! {
            ended = &mut served => {
                let Err(error) = ended else { return None };
                tracing::debug!(error = %error, port = port.port.code(), "connection ended with an error");
                return (!is_transport_error(&*error)).then_some(ConnectionEnd::Protocol);
            }
            () = port.stop.cancelled(), if !is_stopping => {
                phase = Phase::ShuttingDown { since: Instant::now() };
                connection.streams_end.cancel();
                served.as_mut().graceful_shutdown();
            }
            () = connection.closed.cancelled() => return connection.closed_for.get().copied(),
            () = sleep_until(until) => {}
        }
    }
}

/// Whether the client was gone, and has violated nothing.
fn is_transport_error(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |&error| error.source()).any(|error| error.is::<io::Error>())
}

/// By at most a tenth more or less.
fn jittered(age: Duration) -> Duration {
    // Random enough, and no library is needed for it.
    let random = uuid::Uuid::new_v4().as_u128() as u8;
    age.mul_f64(0.9 + 0.2 * f64::from(random) / f64::from(u8::MAX))
}
