//! Load generators: a closed loop of many clients, and an open loop at a fixed rate.

use crate::{
    harness::{
        State, WaitFor,
        client::{Client, Stub},
        register_request,
    },
    report::progress,
    stack::{BenchStack, case},
};
use registrar::api::proto::{
    GetRegistrationRequest, get_registration_request::Key, registrar_service_client::RegistrarServiceClient,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tonic::{Status, transport::Channel};

/// How long accepted registrations may take to be confirmed after the last request.
const DRAIN_LIMIT: Duration = Duration::from_secs(180);
/// Real callers back off after an error too.
const AFTER_ERROR: Duration = Duration::from_millis(20);

#[derive(Default)]
pub struct Outcome {
    /// Numbers of the accepted documents.
    pub accepted: Vec<u64>,
    /// The last registration of each client.
    pub last_ids: Vec<String>,
    /// Of a closed loop.
    pub requests: u64,
    /// By code and message.
    pub errors: BTreeMap<String, u64>,
}

impl Outcome {
    fn merge(&mut self, other: Self) {
        self.accepted.extend(other.accepted);
        self.last_ids.extend(other.last_ids);
        for (error, count) in other.errors {
            *self.errors.entry(error).or_default() += count;
        }
    }

    /// The errors in one line; empty without any.
    pub fn errors(&self) -> String {
        self.errors.iter().map(|(error, count)| format!("{count} x {error}")).collect::<Vec<_>>().join("; ")
    }
}

#[derive(Clone, Copy)]
pub enum Until {
    Time(Instant),
    /// After this many requests.
    Count(u64),
}

/// Each client sends its next document, with `WaitFor::Accepted`, as soon as the previous one was answered.
pub async fn closed_loop(stack: &BenchStack, clients: usize, first: u64, until: Until) -> Outcome {
    closed_loop_on(&stack.connections(clients).await, clients, first, until).await
}

/// As [`closed_loop`], with clients that share these connections.
pub async fn closed_loop_on(
    connections: &[RegistrarServiceClient<Channel>],
    clients: usize,
    first: u64,
    until: Until,
) -> Outcome {
    let next = Arc::new(AtomicU64::new(first));
    let mut tasks = JoinSet::new();
    for client in connections.iter().cycle().take(clients) {
        tasks.spawn(caller(client.clone(), next.clone(), first, until));
    }
    let mut look = interval(Duration::from_secs(5));
    look.tick().await;
    let mut outcome = Outcome::default();
    loop {
        tokio::select! {
            ended = tasks.join_next() => match ended {
                Some(ended) => outcome.merge(ended.unwrap()),
                None => {
                    outcome.requests = next.load(Ordering::Relaxed) - first;
                    return outcome;
                }
            },
            _ = look.tick() => progress(format!("{} requests sent", next.load(Ordering::Relaxed) - first)),
        }
    }
}

async fn caller(
    mut client: RegistrarServiceClient<Channel>,
    next: Arc<AtomicU64>,
    first: u64,
    until: Until,
) -> Outcome {
    let mut outcome = Outcome::default();
    let mut last = None;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let over = match until {
            Until::Time(end) => Instant::now() >= end,
            Until::Count(count) => number - first >= count,
        };
        if over {
            outcome.last_ids.extend(last);
            return outcome;
        }
        match client.register_document(register_request(number, &case(number), WaitFor::Accepted)).await {
            Ok(answer) => {
                outcome.accepted.push(number);
                last = answer.into_inner().registration.map(|registration| registration.id);
            }
            Err(status) => {
                *outcome.errors.entry(kind(&status)).or_default() += 1;
                sleep(AFTER_ERROR).await;
            }
        }
    }
}

/// Sends one document every `period` without waiting for answers; `measure` gets each answer and the time of its
/// request.
pub async fn open_loop<T: Send + 'static>(
    stack: &BenchStack,
    numbers: std::ops::Range<u64>,
    period: Duration,
    wait_for: WaitFor,
    measure: impl Fn(Instant, &registrar::api::proto::Registration) -> T + Clone + Send + Sync + 'static,
) -> (Vec<T>, Outcome) {
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(Client::connect(stack.service.grpc).await.stub());
    }
    open_loop_on(&clients, numbers, period, wait_for, measure).await
}

/// As [`open_loop`], with these clients in turn.
pub async fn open_loop_on<T: Send + 'static>(
    clients: &[Stub],
    numbers: std::ops::Range<u64>,
    period: Duration,
    wait_for: WaitFor,
    measure: impl Fn(Instant, &registrar::api::proto::Registration) -> T + Clone + Send + Sync + 'static,
) -> (Vec<T>, Outcome) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut tasks = JoinSet::new();
    for number in numbers {
        ticks.tick().await;
        let mut client = clients[number as usize % clients.len()].clone();
        let measure = measure.clone();
        tasks.spawn(async move {
            let request = register_request(number, &case(number), wait_for);
            let started = Instant::now();
            let answer = client.register_document(request).await?.into_inner().registration.unwrap();
            Ok::<_, Status>((number, measure(started, &answer), answer.id))
        });
    }
    let mut outcome = Outcome::default();
    let mut measured = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        match ended.unwrap() {
            Ok((number, value, id)) => {
                outcome.accepted.push(number);
                outcome.last_ids = vec![id];
                measured.push(value);
            }
            Err(status) => *outcome.errors.entry(kind(&status)).or_default() += 1,
        }
    }
    (measured, outcome)
}

/// Waits until the last registration of each client is confirmed or failed; false on timeout.
pub async fn drained(stack: &BenchStack, outcome: &Outcome) -> bool {
    let mut client = stack.connect().await;
    let started = Instant::now();
    let drain = async {
        for id in &outcome.last_ids {
            while !is_finished(&mut client, id).await {
                sleep(Duration::from_millis(200)).await;
            }
        }
    };
    let done = timeout(DRAIN_LIMIT, drain).await.is_ok();
    progress(format!("drained in {:.1} s", started.elapsed().as_secs_f64()));
    done
}

async fn is_finished(client: &mut RegistrarServiceClient<Channel>, id: &str) -> bool {
    let request = GetRegistrationRequest { key: Some(Key::Id(id.to_owned())) };
    let registration = client.get_registration(request).await.unwrap().into_inner().registration.unwrap();
    matches!(registration.state(), State::Confirmed | State::Failed)
}

fn kind(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}
