//! The Connect protocol with JSON over HTTP/1.1 compared with gRPC: accepted calls per second, and the service's
//! processor time for each. The signer has no funds, so that nothing else is measured.

use crate::{
    harness::{account, document},
    load::{self, Until},
    process::Cpu,
    report::{Bar, Report, listed, median, progress},
    stack::{BenchChain, BenchStack, case},
};
use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use std::{
    mem::take,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpStream, time::Instant};

const PATH: &str = "/registrar.v1.RegistrarService/RegisterDocument";
/// Each of them has one call at a time.
const CONNECTIONS: usize = 16;
const WARM_UP: Duration = Duration::from_secs(1);
const TIME: Duration = Duration::from_secs(5);

type Sender = http1::SendRequest<Full<Bytes>>;

/// What one protocol reached.
struct Reached {
    per_second: f64,
    /// Of the service, in microseconds per call; NaN without /proc.
    cpu: f64,
}

pub async fn measure(report: &mut Report, rounds: usize) {
    let (mut grpc, mut json) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        progress(format!("calls by gRPC and by Connect with JSON, round {} of {rounds}", round + 1));
        // The position in a round affects the result.
        if round.is_multiple_of(2) {
            grpc.push(by_grpc().await);
            json.push(by_json().await);
        } else {
            json.push(by_json().await);
            grpc.push(by_grpc().await);
        }
    }
    let pairs = || json.iter().zip(&grpc);
    let rates: Vec<f64> = pairs().map(|(json, grpc)| json.per_second / grpc.per_second).collect();
    let added: Vec<f64> = pairs().map(|(json, grpc)| json.cpu - grpc.cpu).collect();
    report.bar("Connect with JSON over HTTP/1.1: calls per second / gRPC", median(&rates), "", Bar::AtLeast(0.8));
    if added.iter().all(|cpu| cpu.is_finite()) {
        report.bar("Connect with JSON over HTTP/1.1: CPU per call, added", median(&added), "us", Bar::AtMost(6.0));
    }
    for (name, reached) in [("gRPC", &grpc), ("Connect with JSON", &json)] {
        let rates: Vec<f64> = reached.iter().map(|reached| reached.per_second).collect();
        let cpus: Vec<f64> = reached.iter().map(|reached| reached.cpu).collect();
        report.note(format!("{name}: calls per second {}; CPU in us {}", listed(&rates, 0), listed(&cpus, 1)));
    }
}

async fn start() -> BenchStack {
    let stack = BenchStack::start(BenchChain::with_block_time(1.0).await, &[]).await;
    stack.chain.anvil.set_balance(account(1), 0).await;
    stack
}

async fn by_grpc() -> Reached {
    let stack = start().await;
    let mut first = 0;
    reached(async |time| {
        let outcome = load::closed_loop(&stack, CONNECTIONS, first, Until::Time(Instant::now() + time)).await;
        assert!(outcome.errors.is_empty(), "{}", outcome.errors());
        let accepted = outcome.accepted.len() as u64;
        // Numbers that were not used: each connection took one more than it sent.
        first += accepted + CONNECTIONS as u64;
        accepted
    })
    .await
}

async fn by_json() -> Reached {
    let stack = start().await;
    let next = Arc::new(AtomicU64::new(0));
    let mut connections = join_all((0..CONNECTIONS).map(|_| connect(stack.service.grpc))).await;
    reached(async |time| {
        let end = Instant::now() + time;
        let callers = take(&mut connections).into_iter().map(|sender| tokio::spawn(caller(sender, next.clone(), end)));
        let ended = join_all(callers.collect::<Vec<_>>()).await.into_iter().map(Result::unwrap);
        let (senders, calls): (Vec<_>, Vec<u64>) = ended.unzip();
        connections = senders;
        calls.into_iter().sum()
    })
    .await
}

/// Calls until `end` and returns the connection and the number of calls.
async fn caller(mut sender: Sender, next: Arc<AtomicU64>, end: Instant) -> (Sender, u64) {
    let mut calls = 0;
    while Instant::now() < end {
        sender.ready().await.unwrap();
        let answer = sender.send_request(request(next.fetch_add(1, Ordering::Relaxed))).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.into_body().collect().await.unwrap();
        calls += 1;
    }
    (sender, calls)
}

/// `call` calls for a time and returns the number of answers.
async fn reached(mut call: impl AsyncFnMut(Duration) -> u64) -> Reached {
    call(WARM_UP).await;
    let (started, before) = (Instant::now(), Cpu::now());
    let calls = call(TIME).await as f64;
    let per_second = calls / started.elapsed().as_secs_f64();
    let used = before.zip(Cpu::now()).map(|(before, after)| after - before);
    Reached { per_second, cpu: used.map_or(f64::NAN, |used| used.service.as_secs_f64() * 1e6 / calls) }
}

async fn connect(address: SocketAddr) -> Sender {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn request(number: u64) -> Request<Full<Bytes>> {
    let (hash, case) = (document(number), case(number));
    let body = format!(r#"{{"documentHash":"{hash}","caseId":"{case}","waitFor":"WAIT_FOR_ACCEPTED"}}"#);
    Request::post(PATH)
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json")
        .header("connect-protocol-version", "1")
        .body(Full::new(body.into()))
        .unwrap()
}
