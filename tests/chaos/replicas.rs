//! The service's replicas: each can be killed and is started again at once.

use super::{fault_log::FaultLog, ledger::Ledger, stall::Lifetime};
use crate::harness::{Service, service::Settings};
use fastrand::Rng;
use registrar::api::proto::registrar_service_client::RegistrarServiceClient;
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tonic::transport::{Channel, Endpoint};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Addresses of the replicas; `None` while one is down.
#[derive(Clone)]
pub struct ReplicaAddresses(watch::Receiver<Vec<Option<SocketAddr>>>);

pub struct Replicas {
    addresses: watch::Sender<Vec<Option<SocketAddr>>>,
    /// One channel per replica; a message kills its process.
    kills: Vec<mpsc::UnboundedSender<()>>,
    logs_stalled: watch::Sender<bool>,
    replicas: Vec<JoinHandle<Service>>,
    records: Arc<ProcessRecords>,
}

/// What is recorded about every process.
struct ProcessRecords {
    ledger: Arc<Ledger>,
    fault_log: FaultLog,
    directory: PathBuf,
    lifetimes: Mutex<Vec<Lifetime>>,
    panics: Mutex<Vec<String>>,
}

/// The last process of each replica, still serving.
pub struct RemainingProcesses {
    pub services: Vec<Service>,
    records: Arc<ProcessRecords>,
}

impl Replicas {
    /// Starts the replicas one after the other and returns when all serve. Their logs are written to `directory`.
    pub async fn start(
        count: usize,
        settings: &Settings,
        directory: &Path,
        fault_log: &FaultLog,
        ledger: &Arc<Ledger>,
    ) -> Self {
        let records = Arc::new(ProcessRecords {
            ledger: ledger.clone(),
            fault_log: fault_log.clone(),
            directory: directory.to_owned(),
            lifetimes: Mutex::default(),
            panics: Mutex::default(),
        });
        let addresses = watch::Sender::new(vec![None; count]);
        let logs_stalled = watch::Sender::new(false);
        let mut replicas = Self { addresses, kills: Vec::new(), logs_stalled, replicas: Vec::new(), records };
        for number in 0..count {
            let (kill, kill_requests) = mpsc::unbounded_channel();
            let (addresses, records) = (replicas.addresses.clone(), replicas.records.clone());
            let logs_stalled = replicas.logs_stalled.subscribe();
            let replica = Replica { number, settings: settings.clone(), addresses, logs_stalled, records };
            replicas.kills.push(kill);
            replicas.replicas.push(tokio::spawn(replica.run(kill_requests)));
            // The first replica runs the migrations.
            let serves = replicas.addresses.subscribe().wait_for(|addresses| addresses[number].is_some()).await.is_ok();
            assert!(serves, "replica {number} did not start");
        }
        replicas
    }

    pub fn addresses(&self) -> ReplicaAddresses {
        ReplicaAddresses(self.addresses.subscribe())
    }

    /// Sends `kill -9` whatever the replica is doing, and starts it again.
    pub fn kill(&self, replica: usize) {
        assert!(self.kills[replica].send(()).is_ok(), "replica {replica} has ended");
    }

    /// Stops or resumes reading the logs of all replicas that serve.
    pub fn stall_logs(&self, stalled: bool) {
        self.logs_stalled.send_replace(stalled);
    }

    /// Waits until every replica serves; no more kills are accepted.
    pub async fn stop_killing(self) -> RemainingProcesses {
        drop(self.kills);
        let mut services = Vec::new();
        for replica in self.replicas {
            services.push(replica.await.unwrap());
        }
        RemainingProcesses { services, records: self.records }
    }
}

impl RemainingProcesses {
    /// Every process from its start to its kill, or until now.
    pub fn lifetimes(&self) -> Vec<Lifetime> {
        let now = self.records.ledger.now();
        self.records.lifetimes.lock().unwrap().iter().map(|lifetime| lifetime.start..lifetime.end.min(now)).collect()
    }

    /// Saves the last processes' logs and returns every panic in any log.
    pub fn keep_logs(&self) -> Vec<String> {
        for (number, service) in self.services.iter().enumerate() {
            self.records.keep_log(&format!("replica-{number}-last"), service);
        }
        self.records.panics.lock().unwrap().clone()
    }
}

impl ReplicaAddresses {
    /// Connects to a random reachable replica; `None` when it is down by then.
    pub async fn connect(&mut self, rng: &mut Rng) -> Option<RegistrarServiceClient<Channel>> {
        let open = |addresses: &Vec<Option<SocketAddr>>| addresses.iter().flatten().copied().collect::<Vec<_>>();
        let addresses = open(&*self.0.wait_for(|addresses| !open(addresses).is_empty()).await.ok()?);
        let address = addresses[rng.usize(..addresses.len())];
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_timeout(CONNECT_TIMEOUT);
        endpoint.connect().await.ok().map(RegistrarServiceClient::new)
    }
}

/// One replica: a sequence of processes.
struct Replica {
    number: usize,
    settings: Settings,
    addresses: watch::Sender<Vec<Option<SocketAddr>>>,
    logs_stalled: watch::Receiver<bool>,
    records: Arc<ProcessRecords>,
}

impl Replica {
    /// Runs until `kill_requests` closes; returns the last process, which is serving.
    async fn run(mut self, mut kill_requests: mpsc::UnboundedReceiver<()>) -> Service {
        for process in 0_u64.. {
            let start = self.records.ledger.now();
            self.records
                .fault_log
                .record(format_args!("replica {}: process {process} begins at {start:.3?}", self.number));
            let serving = tokio::select! {
                service = Service::start(&self.settings) => Some(service),
                // A process that is killed before it serves is dropped with its start.
                Some(()) = kill_requests.recv() => None,
            };
            if let Some(mut service) = serving {
                self.publish_address(Some(service.grpc));
                self.records.fault_log.record(format_args!("replica {}: process {process} serves", self.number));
                let killed = loop {
                    service.stall_log(*self.logs_stalled.borrow_and_update());
                    tokio::select! {
                        killed = kill_requests.recv() => break killed,
                        Ok(()) = self.logs_stalled.changed() => {}
                    }
                };
                if killed.is_none() {
                    self.records.record_lifetime(start..Duration::MAX);
                    return service;
                }
                service.kill();
                self.publish_address(None);
                self.records.keep_log(&format!("replica-{}-process-{process:03}", self.number), &service);
            }
            self.records.fault_log.record(format_args!("replica {}: process {process} was killed", self.number));
            self.records.record_lifetime(start..self.records.ledger.now());
        }
        unreachable!("the loop ends only by returning the serving process")
    }

    fn publish_address(&self, address: Option<SocketAddr>) {
        self.addresses.send_modify(|addresses| addresses[self.number] = address);
    }
}

impl ProcessRecords {
    fn record_lifetime(&self, lifetime: Lifetime) {
        self.lifetimes.lock().unwrap().push(lifetime);
    }

    fn keep_log(&self, name: &str, service: &Service) {
        let lines = service.output();
        let panics = lines.iter().filter(|line| line.contains("panicked")).map(|line| format!("{name}: {line}"));
        self.panics.lock().unwrap().extend(panics);
        fs::write(self.directory.join(format!("{name}.log")), lines.join("\n")).unwrap();
    }
}
