//! The replicas of the service: each is killed when it is told to be, and started again at once.

use super::{chronicle::Chronicle, ledger::Ledger, stall::Life};
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

/// How long a caller tries one address.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// Where the replicas listen; a replica that is away has no address.
#[derive(Clone)]
pub struct Doors(watch::Receiver<Vec<Option<SocketAddr>>>);

/// The running replicas.
pub struct Fleet {
    doors: watch::Sender<Vec<Option<SocketAddr>>>,
    /// Who wants a replica killed says it here.
    kills: Vec<mpsc::UnboundedSender<()>>,
    replicas: Vec<JoinHandle<Service>>,
    book: Arc<Book>,
}

/// What is written down about the processes.
struct Book {
    ledger: Arc<Ledger>,
    chronicle: Chronicle,
    directory: PathBuf,
    lives: Mutex<Vec<Life>>,
    panics: Mutex<Vec<String>>,
}

/// The processes that a run leaves: one for each replica.
pub struct Survivors {
    /// They serve.
    pub services: Vec<Service>,
    book: Arc<Book>,
}

impl Fleet {
    /// Starts so many replicas with these settings, and returns when they serve. Their logs go to this directory.
    pub async fn start(
        replicas: usize,
        settings: &Settings,
        directory: &Path,
        chronicle: &Chronicle,
        ledger: &Arc<Ledger>,
    ) -> Self {
        let book = Arc::new(Book {
            ledger: ledger.clone(),
            chronicle: chronicle.clone(),
            directory: directory.to_owned(),
            lives: Mutex::default(),
            panics: Mutex::default(),
        });
        let doors = watch::Sender::new(vec![None; replicas]);
        let mut fleet = Self { doors, kills: Vec::new(), replicas: Vec::new(), book };
        for number in 0..replicas {
            let (kill, orders) = mpsc::unbounded_channel();
            let (doors, book) = (fleet.doors.clone(), fleet.book.clone());
            let replica = Replica { number, settings: settings.clone(), doors, book };
            fleet.kills.push(kill);
            fleet.replicas.push(tokio::spawn(replica.live(orders)));
            // The first one makes the tables.
            let serves = fleet.doors.subscribe().wait_for(|doors| doors[number].is_some()).await.is_ok();
            assert!(serves, "replica {number} does not start");
        }
        fleet
    }

    /// Where they are.
    pub fn doors(&self) -> Doors {
        Doors(self.doors.subscribe())
    }

    /// `kill -9`, whatever the replica does just then, and a new start.
    pub fn kill(&self, replica: usize) {
        assert!(self.kills[replica].send(()).is_ok(), "replica {replica} is lost");
    }

    /// No more kills: returns when every replica serves.
    pub async fn rest(self) -> Survivors {
        drop(self.kills);
        let mut services = Vec::new();
        for replica in self.replicas {
            services.push(replica.await.unwrap());
        }
        Survivors { services, book: self.book }
    }
}

impl Survivors {
    /// Every process that was killed, from its start to its kill, and those that live on until now.
    pub fn lives(&self) -> Vec<Life> {
        let now = self.book.ledger.now();
        self.book.lives.lock().unwrap().iter().map(|life| life.start..life.end.min(now)).collect()
    }

    /// Keeps their logs too. Returns every panic that any log tells of.
    pub fn keep_logs(&self) -> Vec<String> {
        for (number, service) in self.services.iter().enumerate() {
            self.book.keep_log(&format!("replica-{number}-last"), service);
        }
        self.book.panics.lock().unwrap().clone()
    }
}

impl Doors {
    /// A connection to any replica that is there; none when it is away by then.
    pub async fn connect(&mut self, rng: &mut Rng) -> Option<RegistrarServiceClient<Channel>> {
        let open = |doors: &Vec<Option<SocketAddr>>| doors.iter().flatten().copied().collect::<Vec<_>>();
        let addresses = open(&*self.0.wait_for(|doors| !open(doors).is_empty()).await.ok()?);
        let address = addresses[rng.usize(..addresses.len())];
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_timeout(CONNECT_LIMIT);
        endpoint.connect().await.ok().map(RegistrarServiceClient::new)
    }
}

/// One replica, process after process.
struct Replica {
    number: usize,
    settings: Settings,
    doors: watch::Sender<Vec<Option<SocketAddr>>>,
    book: Arc<Book>,
}

impl Replica {
    /// Lives until nobody is left who could have it killed; then returns the last process, which serves.
    async fn live(self, mut orders: mpsc::UnboundedReceiver<()>) -> Service {
        for life in 0_u64.. {
            let start = self.book.ledger.now();
            self.book.chronicle.tell(format_args!("replica {}: life {life} begins at {start:.3?}", self.number));
            let serving = tokio::select! {
                service = Service::start(&self.settings) => Some(service),
                // Whoever is killed before it serves is dropped with its start.
                Some(()) = orders.recv() => None,
            };
            if let Some(mut service) = serving {
                self.stands_at(Some(service.grpc));
                self.book.chronicle.tell(format_args!("replica {}: life {life} serves", self.number));
                if orders.recv().await.is_none() {
                    self.book.lived(start..Duration::MAX);
                    return service;
                }
                service.kill();
                self.stands_at(None);
                self.book.keep_log(&format!("replica-{}-life-{life:03}", self.number), &service);
            }
            self.book.chronicle.tell(format_args!("replica {}: life {life} was killed", self.number));
            self.book.lived(start..self.book.ledger.now());
        }
        unreachable!("a replica has no last life but the one it is left in")
    }

    fn stands_at(&self, address: Option<SocketAddr>) {
        self.doors.send_modify(|doors| doors[self.number] = address);
    }
}

impl Book {
    fn lived(&self, life: Life) {
        self.lives.lock().unwrap().push(life);
    }

    fn keep_log(&self, name: &str, service: &Service) {
        let said = service.said();
        let panics = said.iter().filter(|line| line.contains("panicked")).map(|line| format!("{name}: {line}"));
        self.panics.lock().unwrap().extend(panics);
        fs::write(self.directory.join(format!("{name}.log")), said.join("\n")).unwrap();
    }
}
