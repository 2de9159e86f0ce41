//! A well-behaved caller while another one attacks: its accept latency and the service's memory, compared with before.

use crate::{
    harness::{
        WaitFor, document,
        http2::{Http2, Http2Call, frame, raw_frame},
        register_request,
    },
    load, process,
    report::{Bar, Report, percentile, progress},
    stack::{BenchChain, BenchStack, case},
};
use bytes::Bytes;
use h2::{Reason, client::Builder};
use registrar::api::proto::{ListRegistrationsRequest, VerifyDocumentRequest, WatchRegistrationRequest};
use std::{net::SocketAddr, thread, time::Duration};
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::oneshot, time::sleep};

/// 100 requests a second for five seconds.
const PERIOD: Duration = Duration::from_millis(10);
const REQUESTS: u64 = 500;
/// Not counted: includes opening connections and filling caches.
const WARM_UP: u64 = 200;
/// For an attack to reach its full strength.
const BUILD_UP: Duration = Duration::from_secs(2);
const MEMORY_INTERVAL: Duration = Duration::from_millis(200);
/// Numbers that the well-behaved caller does not use.
const ATTACKER_FIRST: u64 = 1_000_000;
/// Streams that a connection may have.
const STREAMS: usize = 1_000;

#[derive(Clone, Copy, Debug)]
enum Attack {
    UnfinishedMessages,
    AcceptFlood,
    VerifyLoop,
    IdleConnections,
    Watches,
    Cancels,
    UnreadPages,
}

impl Attack {
    const ALL: [(Self, &str); 7] = [
        (Self::UnfinishedMessages, "unfinished messages"),
        (Self::AcceptFlood, "flood of accepts"),
        (Self::VerifyLoop, "verify loop"),
        (Self::IdleConnections, "idle connections"),
        (Self::Watches, "watches"),
        (Self::Cancels, "cancels"),
        (Self::UnreadPages, "unread pages"),
    ];

    /// Attacks until it is dropped.
    async fn run(self, address: SocketAddr, id: &str) {
        let service = "/registrar.v1.RegistrarService";
        match self {
            Self::UnfinishedMessages => {
                let part = raw_frame(0, &vec![b'x'; 60_000]).slice(..50_000);
                hold(address, 8, &format!("{service}/RegisterDocument"), &part, false, &Builder::new()).await;
            }
            Self::AcceptFlood => flood(address).await,
            Self::VerifyLoop => {
                let mut http2 = Http2::connect(address).await;
                for number in ATTACKER_FIRST.. {
                    let request = VerifyDocumentRequest { document_hash: document(number), case_id: case(number) };
                    let Ok(call) = http2.call(&format!("{service}/VerifyDocument")).await else { return };
                    call.finish(frame(&request)).await;
                }
            }
            Self::IdleConnections => {
                let mut idle = Vec::new();
                for number in 0..1_074 {
                    let Ok(mut stream) = TcpStream::connect(address).await else { continue };
                    if number % 2 == 0 {
                        let handshake = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
                        let _ = stream.write_all(handshake).await;
                    }
                    idle.push(stream);
                }
                std::future::pending().await
            }
            Self::Watches => {
                let request =
                    WatchRegistrationRequest { id: id.to_owned(), until: WaitFor::Finalized.into(), after_revision: 0 };
                hold(address, 10, &format!("{service}/WatchRegistration"), &frame(&request), true, &Builder::new())
                    .await;
            }
            Self::Cancels => cancel(address, &format!("{service}/RegisterDocument")).await,
            Self::UnreadPages => {
                let request = frame(&ListRegistrationsRequest { page_size: 500, ..Default::default() });
                let path = format!("{service}/ListRegistrations");
                hold(address, 4, &path, &request, true, Builder::new().initial_window_size(1)).await;
            }
        }
    }
}

/// Keeps as many calls open as it can, on several connections.
async fn hold(address: SocketAddr, connections: usize, path: &str, data: &Bytes, is_end: bool, builder: &Builder) {
    let mut held: Vec<(Http2, Vec<Http2Call>)> = Vec::new();
    loop {
        held.retain(|(http2, _)| !http2.is_closed());
        if held.len() < connections
            && let Some(http2) = Http2::try_connect_with(address, builder).await
        {
            held.push((http2, Vec::new()));
        }
        for (http2, calls) in &mut held {
            // Calls that were answered are replaced after a while.
            if calls.len() >= STREAMS {
                continue;
            }
            for _ in 0..100 {
                let Ok(mut call) = http2.call(path).await else { break };
                let _ = call.body.send_data(data.clone(), is_end);
                calls.push(call);
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// One connection with as many unanswered registrations as it may have.
async fn flood(address: SocketAddr) {
    let mut http2 = Http2::connect(address).await;
    let mut calls = tokio::task::JoinSet::new();
    for number in ATTACKER_FIRST.. {
        let request = frame(&register_request(number, &case(number), WaitFor::Accepted));
        let Ok(call) = http2.call("/registrar.v1.RegistrarService/RegisterDocument").await else { return };
        calls.spawn(call.finish(request));
        while calls.len() >= STREAMS {
            calls.join_next().await;
        }
    }
}

/// Opens and cancels calls as fast as it can, and connects again when it is thrown out.
async fn cancel(address: SocketAddr, path: &str) {
    loop {
        let Some(mut http2) = Http2::try_connect_with(address, &Builder::new()).await else { continue };
        while !http2.is_closed() {
            let Ok(mut call) = http2.call(path).await else { break };
            call.body.send_reset(Reason::CANCEL);
            tokio::task::yield_now().await;
        }
    }
}

/// Attacks from a thread of its own until it is dropped.
struct Attacker {
    _stop: oneshot::Sender<()>,
}

impl Attacker {
    fn start(attack: Attack, address: SocketAddr, id: String) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = attack.run(address, &id) => eprintln!("bench: the attacker was thrown out for good"),
                    _ = stopped => {}
                }
            });
        });
        Self { _stop: stop }
    }
}

/// `only` is part of the names of the attacks that are measured.
pub async fn measure(report: &mut Report, only: &str) {
    for (attack, name) in Attack::ALL.into_iter().filter(|(_, name)| name.contains(only)) {
        progress(format!("attack: {name}"));
        measure_attack(attack, name, report).await;
    }
}

async fn measure_attack(attack: Attack, name: &str, report: &mut Report) {
    let settings = [("REGISTRAR_QUEUE_LIMIT", "100000")];
    let stack = BenchStack::start(BenchChain::with_block_time(1.0).await, &settings).await;
    let id = load::open_loop(&stack, 0..WARM_UP, PERIOD, WaitFor::Accepted, |_, registration| registration.id.clone())
        .await
        .0
        .remove(0);
    let (before, _) = well_behaved(&stack, WARM_UP).await;
    let memory_before = memory();

    let attacker = Attacker::start(attack, stack.service.grpc, id);
    sleep(BUILD_UP).await;
    let (during, errors) = well_behaved(&stack, WARM_UP + REQUESTS).await;
    drop(attacker);

    report.figure(format!("{name}: accept p95 before"), before.p95, "ms");
    report.bar(format!("{name}: accept p95, of before"), during.p95 / before.p95, "", Bar::AtMost(2.0));
    if let (Some(before), Some(during)) = (memory_before, during.memory) {
        report.figure(format!("{name}: memory before"), before, "MiB");
        report.bar(format!("{name}: memory, of before"), during / before, "", Bar::AtMost(2.0));
    }
    if !errors.is_empty() {
        report.note(format!("{name}: errors of the well-behaved caller: {errors}"));
    }
    stack.note_warnings(name, report);
}

struct Measured {
    p95: f64,
    /// The most, in MiB.
    memory: Option<f64>,
}

/// Accepts at a steady rate on connections of its own.
async fn well_behaved(stack: &BenchStack, first: u64) -> (Measured, String) {
    let elapsed = |started: tokio::time::Instant, _: &_| started.elapsed().as_secs_f64() * 1e3;
    let requests = load::open_loop(stack, first..first + REQUESTS, PERIOD, WaitFor::Accepted, elapsed);
    let mut most: Option<f64> = None;
    let watch_memory = async {
        loop {
            most = most.into_iter().chain(memory()).reduce(f64::max);
            sleep(MEMORY_INTERVAL).await;
        }
    };
    let (mut took, outcome) = tokio::select! {
        done = requests => done,
        () = watch_memory => unreachable!("it never ends"),
    };
    took.sort_by(f64::total_cmp);
    (Measured { p95: percentile(&took, 0.95), memory: most }, outcome.errors())
}

fn memory() -> Option<f64> {
    process::memory(process::child("registrar")?).map(|(resident, _)| resident)
}
