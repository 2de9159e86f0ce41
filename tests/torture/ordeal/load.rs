//! The callers: each sends a few requests and then waits until its last one is confirmed, so that the queue has an end. An error
//! that says nothing was accepted, and a connection that breaks, mean: the same pair again.

use super::{
    fleet::Doors,
    ledger::{Ledger, Pair},
};
use crate::harness::{Registration, State, WaitFor, seconds};
use fastrand::Rng;
use registrar::api::proto::{RegisterDocumentRequest, registrar_service_client::RegistrarServiceClient};
use std::{sync::Arc, time::Duration};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Channel};

/// How many callers there are.
const CALLERS: u64 = 8;
/// How many requests one sends before it waits.
const BURST: u64 = 6;
/// How long the service is asked to wait.
const WAIT_SECONDS: i64 = 10;
/// How long a call may take in all, on a busy machine.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// A caller that was refused holds back for a moment, as real ones do.
const AFTER_ERROR: Duration = Duration::from_millis(20);
/// How long a request may go without being accepted when all is well again.
const LAST_CHANCE: Duration = Duration::from_secs(30);

/// How a call ended.
enum Told {
    /// With an answer.
    Registration(Box<Registration>),
    /// With an error about accepted work.
    Accepted,
    /// With an error, and nothing is accepted.
    Refused,
    /// Not at all: the connection broke.
    BrokenOff,
    /// Not at all, and nobody broke the connection.
    Nothing,
}

/// Runs the callers until `stop`; each is done then when its last request was accepted.
pub async fn run(seed: u64, doors: Doors, ledger: Arc<Ledger>, stop: CancellationToken) {
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let caller = Caller {
            rng: Rng::with_seed(seed ^ (number + 1)),
            doors: doors.clone(),
            line: None,
            ledger: ledger.clone(),
            stop: stop.clone(),
        };
        callers.spawn(caller.run());
    }
    callers.join_all().await;
}

struct Caller {
    rng: Rng,
    doors: Doors,
    line: Option<RegistrarServiceClient<Channel>>,
    ledger: Arc<Ledger>,
    stop: CancellationToken,
}

impl Caller {
    async fn run(mut self) {
        while !self.stop.is_cancelled() {
            for _ in 1..self.rng.u64(1..=BURST) {
                let early = [WaitFor::Accepted, WaitFor::Accepted, WaitFor::Submitted, WaitFor::Included];
                let wait_for = early[self.rng.usize(..early.len())];
                self.ask(wait_for, |_| true).await;
            }
            let wait_for = if self.rng.u8(0..8) == 0 { WaitFor::Safe } else { WaitFor::Confirmed };
            self.ask(wait_for, |registration| registration.state() == State::Confirmed).await;
        }
    }

    /// Asks for a pair until it is accepted and, while the run goes on, `is_it` is true of its registration.
    async fn ask(&mut self, wait_for: WaitFor, is_it: impl Fn(&Registration) -> bool) {
        let pair = self.ledger.choose(&mut self.rng);
        let mut accepted = false;
        let mut last_chance = None;
        loop {
            match self.call(&pair, wait_for).await {
                Told::Registration(registration) => {
                    self.ledger.told(&pair, &registration);
                    accepted = true;
                    // What has failed is for the audit to judge.
                    if is_it(&registration) || registration.state() == State::Failed {
                        return;
                    }
                }
                Told::Accepted => accepted = true,
                Told::Refused => {}
                Told::BrokenOff => self.ledger.kept().broken_off += 1,
                Told::Nothing => self.ledger.kept().unanswered.push(format!("{pair:?}: no answer in {ANSWER_LIMIT:?}")),
            }
            if self.stop.is_cancelled() {
                if accepted {
                    return;
                }
                if last_chance.get_or_insert_with(Instant::now).elapsed() > LAST_CHANCE {
                    self.ledger.kept().unanswered.push(format!("{pair:?}: not accepted in {LAST_CHANCE:?}"));
                    return;
                }
            }
            sleep(AFTER_ERROR).await;
        }
    }

    /// One call, to any replica that is there.
    async fn call(&mut self, pair: &Pair, wait_for: WaitFor) -> Told {
        let Some(mut line) = self.line.take() else {
            self.line = self.doors.connect(&mut self.rng).await;
            return Told::Refused;
        };
        let request = RegisterDocumentRequest {
            document_hash: pair.0.clone(),
            case_id: pair.1.clone(),
            wait_for: wait_for.into(),
            wait_timeout: seconds(WAIT_SECONDS),
            ..Default::default()
        };
        match timeout(ANSWER_LIMIT, line.register_document(request)).await {
            Err(_) => Told::Nothing,
            Ok(Ok(answer)) => {
                self.line = Some(line);
                Told::Registration(Box::new(answer.into_inner().registration.unwrap()))
            }
            Ok(Err(status)) => {
                let Some(reason) = trailer(&status, "x-error-reason") else { return Told::BrokenOff };
                // A replica that goes away says so; the others are asked from then on.
                self.line = (reason != "SHUTTING_DOWN").then_some(line);
                *self.ledger.kept().refusals.entry(reason).or_default() += 1;
                let Some(id) = trailer(&status, "x-registration-id") else { return Told::Refused };
                self.ledger.accepted(pair, &id);
                Told::Accepted
            }
        }
    }
}

fn trailer(status: &Status, name: &str) -> Option<String> {
    Some(status.metadata().get(name)?.to_str().ok()?.to_owned())
}
