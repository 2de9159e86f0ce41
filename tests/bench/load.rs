//! Callers: a closed loop of many, or an open one at a fixed rate.

use crate::{
    harness::{State, WaitFor, registering},
    report::progress,
    stack::{Stack, case},
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

/// How long what was accepted may take to be confirmed after the last request.
const DRAIN_LIMIT: Duration = Duration::from_secs(180);
/// After an error a caller holds back for a moment, as a real one would.
const AFTER_ERROR: Duration = Duration::from_millis(20);

/// What became of the calls.
#[derive(Default)]
pub struct Outcome {
    /// The numbers of the documents that were accepted.
    pub accepted: Vec<u64>,
    /// The last registration that each caller got.
    pub last_ids: Vec<String>,
    /// Errors by code and message.
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

/// When a closed loop ends.
#[derive(Clone, Copy)]
pub enum Until {
    /// At this moment.
    Time(Instant),
    /// When this many documents were asked for.
    Count(u64),
}

/// Every client sends its next document, to be accepted, as soon as the last one was answered.
pub async fn closed_loop(stack: &Stack, clients: usize, first: u64, until: Until) -> Outcome {
    let next = Arc::new(AtomicU64::new(first));
    let mut tasks = JoinSet::new();
    for client in stack.connections(clients).await {
        tasks.spawn(caller(client, next.clone(), first, until));
    }
    let mut look = interval(Duration::from_secs(5));
    look.tick().await;
    let mut outcome = Outcome::default();
    loop {
        tokio::select! {
            ended = tasks.join_next() => match ended {
                Some(ended) => outcome.merge(ended.unwrap()),
                None => return outcome,
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
        match client.register_document(registering(number, &case(number), WaitFor::Accepted)).await {
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

/// One document every `period`, whatever became of those before; each call's answer is given to `measure`.
pub async fn open_loop<T: Send + 'static>(
    stack: &Stack,
    numbers: std::ops::Range<u64>,
    period: Duration,
    wait_for: WaitFor,
    measure: impl Fn(Instant, &registrar::api::proto::Registration) -> T + Clone + Send + Sync + 'static,
) -> (Vec<T>, Outcome) {
    let clients = stack.connections(8).await;
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut tasks = JoinSet::new();
    for number in numbers {
        ticks.tick().await;
        let mut client = clients[number as usize % clients.len()].clone();
        let measure = measure.clone();
        tasks.spawn(async move {
            let request = registering(number, &case(number), wait_for);
            let begun = Instant::now();
            let answer = client.register_document(request).await?.into_inner().registration.unwrap();
            Ok::<_, Status>((number, measure(begun, &answer), answer.id))
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

/// Waits until the last registrations of all callers are settled; false when that takes too long.
pub async fn drained(stack: &Stack, outcome: &Outcome) -> bool {
    let mut client = stack.connect().await;
    let begun = Instant::now();
    let drain = async {
        for id in &outcome.last_ids {
            while !settled(&mut client, id).await {
                sleep(Duration::from_millis(200)).await;
            }
        }
    };
    let done = timeout(DRAIN_LIMIT, drain).await.is_ok();
    progress(format!("drained in {:.1} s", begun.elapsed().as_secs_f64()));
    done
}

async fn settled(client: &mut RegistrarServiceClient<Channel>, id: &str) -> bool {
    let request = GetRegistrationRequest { key: Some(Key::Id(id.to_owned())) };
    let registration = client.get_registration(request).await.unwrap().into_inner().registration.unwrap();
    matches!(registration.state(), State::Confirmed | State::Failed)
}

fn kind(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}
