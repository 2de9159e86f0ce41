//! The callers: each sends a few requests and then waits until its last one is confirmed, which bounds the queue. After
//! an error without a registration id, or a broken connection, the same pair is requested again.

use super::{
    ledger::{Ledger, Pair},
    replicas::ReplicaAddresses,
};
use crate::harness::{Registration, State, WaitFor, seconds};
use fastrand::Rng;
use registrar::api::proto::{
    DocumentKey, RegisterDocumentRequest, RegisterDocumentsRequest, registrar_service_client::RegistrarServiceClient,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Channel};

const CALLERS: u64 = 8;
/// Documents of one call, where a caller registers several at once.
const MAX_BATCH: u64 = 12;
/// Requests per caller before it waits for a confirmation.
const BURST: u64 = 6;
/// `wait_timeout` of each call.
const WAIT_SECONDS: i64 = 10;
/// Upper bound of a whole call, on a busy machine.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// Real callers back off after an error too.
const RETRY_DELAY: Duration = Duration::from_millis(20);
/// How long a request may stay unaccepted after the last fault.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(30);

enum CallOutcome {
    Registration(Box<Registration>),
    /// An error about an accepted registration.
    AcceptedWithError,
    /// An error, and nothing was accepted.
    Rejected,
    /// The connection broke.
    Disconnected,
    /// No answer on an intact connection.
    TimedOut,
}

/// Runs the callers until `stop`; each then ends once its last request is accepted.
pub async fn run(seed: u64, addresses: ReplicaAddresses, ledger: Arc<Ledger>, stop: CancellationToken) {
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let caller = Caller {
            rng: Rng::with_seed(seed ^ (number + 1)),
            addresses: addresses.clone(),
            connection: None,
            ledger: ledger.clone(),
            stop: stop.clone(),
        };
        callers.spawn(caller.run());
    }
    callers.join_all().await;
}

struct Caller {
    rng: Rng,
    addresses: ReplicaAddresses,
    connection: Option<RegistrarServiceClient<Channel>>,
    ledger: Arc<Ledger>,
    stop: CancellationToken,
}

impl Caller {
    async fn run(mut self) {
        while !self.stop.is_cancelled() {
            for _ in 1..self.rng.u64(1..=BURST) {
                if self.rng.u8(0..3) == 0 {
                    self.ask_for_many().await;
                    continue;
                }
                let early = [WaitFor::Accepted, WaitFor::Accepted, WaitFor::Submitted, WaitFor::Included];
                let wait_for = early[self.rng.usize(..early.len())];
                self.ask(wait_for, |_| true).await;
            }
            let wait_for = if self.rng.u8(0..8) == 0 { WaitFor::Safe } else { WaitFor::Confirmed };
            self.ask(wait_for, |registration| registration.state() == State::Confirmed).await;
        }
    }

    /// Requests a pair until it is accepted and, before `stop`, until `is_it` is true of its registration.
    async fn ask(&mut self, wait_for: WaitFor, is_it: impl Fn(&Registration) -> bool) {
        let pair = self.ledger.choose(&mut self.rng);
        let mut accepted = false;
        let mut accepting_since = None;
        loop {
            match self.call(&pair, wait_for).await {
                CallOutcome::Registration(registration) => {
                    self.ledger.reported(&pair, &registration);
                    accepted = true;
                    // The audit reports failed registrations.
                    if is_it(&registration) || registration.state() == State::Failed {
                        return;
                    }
                }
                CallOutcome::AcceptedWithError => accepted = true,
                CallOutcome::Rejected => {}
                CallOutcome::Disconnected => self.ledger.entries().disconnected += 1,
                CallOutcome::TimedOut => {
                    self.ledger.entries().unanswered.push(format!("{pair:?}: no answer in {CALL_TIMEOUT:?}"))
                }
            }
            if self.stop.is_cancelled() {
                if accepted {
                    return;
                }
                if accepting_since.get_or_insert_with(Instant::now).elapsed() > ACCEPT_TIMEOUT {
                    self.ledger.entries().unanswered.push(format!("{pair:?}: not accepted in {ACCEPT_TIMEOUT:?}"));
                    return;
                }
            }
            sleep(RETRY_DELAY).await;
        }
    }

    /// Requests several pairs in one call until all are accepted.
    async fn ask_for_many(&mut self) {
        let pairs: Vec<_> = (0..self.rng.u64(1..=MAX_BATCH)).map(|_| self.ledger.choose(&mut self.rng)).collect();
        let mut accepting_since = None;
        while !self.call_with_many(&pairs).await {
            if self.stop.is_cancelled() && accepting_since.get_or_insert_with(Instant::now).elapsed() > ACCEPT_TIMEOUT {
                self.ledger.entries().unanswered.push(format!("{pairs:?}: not accepted in {ACCEPT_TIMEOUT:?}"));
                return;
            }
            sleep(RETRY_DELAY).await;
        }
    }

    /// Whether they were accepted.
    async fn call_with_many(&mut self, pairs: &[Pair]) -> bool {
        let Some(mut connection) = self.connection.take() else {
            self.connection = self.addresses.connect(&mut self.rng).await;
            return false;
        };
        let key = |(hash, case): &Pair| DocumentKey { document_hash: hash.clone(), case_id: case.clone() };
        let request = RegisterDocumentsRequest { documents: pairs.iter().map(key).collect(), user_id: String::new() };
        match timeout(CALL_TIMEOUT, connection.register_documents(request)).await {
            Err(_) => {
                self.ledger.entries().unanswered.push(format!("{pairs:?}: no answer in {CALL_TIMEOUT:?}"));
                false
            }
            Ok(Ok(answer)) => {
                self.connection = Some(connection);
                let registrations = answer.into_inner().registrations;
                assert_eq!(registrations.len(), pairs.len(), "one for each document");
                for (pair, registration) in pairs.iter().zip(&registrations) {
                    self.ledger.reported(pair, registration);
                }
                true
            }
            Ok(Err(status)) => {
                match trailer(&status, "x-error-reason") {
                    Some(reason) => {
                        self.connection = (reason != "SHUTTING_DOWN").then_some(connection);
                        *self.ledger.entries().errors.entry(reason).or_default() += 1;
                    }
                    None => self.ledger.entries().disconnected += 1,
                }
                false
            }
        }
    }

    /// Calls any reachable replica.
    async fn call(&mut self, pair: &Pair, wait_for: WaitFor) -> CallOutcome {
        let Some(mut connection) = self.connection.take() else {
            self.connection = self.addresses.connect(&mut self.rng).await;
            return CallOutcome::Rejected;
        };
        let request = RegisterDocumentRequest {
            document_hash: pair.0.clone(),
            case_id: pair.1.clone(),
            wait_for: wait_for.into(),
            wait_timeout: seconds(WAIT_SECONDS),
            ..Default::default()
        };
        match timeout(CALL_TIMEOUT, connection.register_document(request)).await {
            Err(_) => CallOutcome::TimedOut,
            Ok(Ok(answer)) => {
                self.connection = Some(connection);
                CallOutcome::Registration(Box::new(answer.into_inner().registration.unwrap()))
            }
            Ok(Err(status)) => {
                let Some(reason) = trailer(&status, "x-error-reason") else { return CallOutcome::Disconnected };
                // A replica that is shutting down refuses new calls; the caller connects to another one.
                self.connection = (reason != "SHUTTING_DOWN").then_some(connection);
                *self.ledger.entries().errors.entry(reason).or_default() += 1;
                let Some(id) = trailer(&status, "x-registration-id") else { return CallOutcome::Rejected };
                self.ledger.accepted(pair, &id);
                CallOutcome::AcceptedWithError
            }
        }
    }
}

fn trailer(status: &Status, name: &str) -> Option<String> {
    Some(status.metadata().get(name)?.to_str().ok()?.to_owned())
}
