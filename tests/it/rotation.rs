//! The steps of `docs/guides/rotation.md`, on a service that registers all the time.

use crate::{
    harness::{
        CASE, Client, Database, OWNER, Service, StackBuilder, TestStack, account,
        anvil::KEYS,
        certificates::{Authority, Certificate, Valid, replace},
        cli, document, eventually,
        stack::Dependencies,
        tls_client::{self, TlsSettings, handshake},
        within,
    },
    postgres::replicas::{pair, register},
};
use alloy::primitives::Address;
use futures_util::future::join_all;
use registrar::api::proto::GetServiceInfoRequest;
use std::{collections::BTreeSet, fs, path::PathBuf, sync::Arc};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinHandle};
use tokio_rustls::rustls::{
    pki_types::{CertificateDer, pem::PemObject},
    version,
};
use tokio_util::sync::CancellationToken;
use tonic::Code;

const HOST: &str = "127.0.0.1";
const URI: &str = "spiffe://prod/ns/aaa/sa/aaa";
const ETHER: u128 = 1_000_000_000_000_000_000;
/// More than one connection carries of a worker with several ones.
const PROOF: u64 = 8;

/// What the caller has, replaced while it calls.
#[derive(Clone)]
struct Credentials {
    certificate: Certificate,
    token: Option<String>,
}

/// A service with TLS, mutual TLS and a callers file.
struct Guarded {
    service: Service,
    server: Arc<Authority>,
    files: TempDir,
    dependencies: Dependencies,
}

impl Guarded {
    async fn start(clients: &Authority, callers: &str) -> Self {
        let (dependencies, settings) = StackBuilder::block_time(0.2).prepare().await;
        let (server, files) = (Arc::new(Authority::new()), TempDir::new().unwrap());
        let path = |name| files.path().join(name);
        let [certificate, key] = server.sign(HOST).write(files.path(), "server");
        fs::write(path("clients.crt"), &clients.certificate).unwrap();
        fs::write(path("callers.toml"), callers).unwrap();
        let settings = settings
            .set("REGISTRAR_TLS_CERT_FILE", certificate.display())
            .set("REGISTRAR_TLS_KEY_FILE", key.display())
            .set("REGISTRAR_TLS_CLIENT_CA_FILE", path("clients.crt").display())
            .set("REGISTRAR_AUTH", "enforce")
            .set("REGISTRAR_CALLERS_FILE", path("callers.toml").display());
        Self { service: Service::start(&settings).await, server, files, dependencies }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Checks new callers with the command, and puts them in place.
    async fn replace_callers(&self, callers: &str) {
        let draft = self.path("draft.toml");
        fs::write(&draft, callers).unwrap();
        let checked = cli::run(&["callers", "check", draft.to_str().unwrap()], &[]).await;
        assert_eq!(checked.code, 0, "{checked:?}");
        fs::rename(draft, self.path("callers.toml")).unwrap();
    }

    /// The code of a call on a new connection; `None` if the connection or the call is refused by TLS.
    async fn code(&self, credentials: &Credentials) -> Option<Code> {
        let channel =
            tls_client::channel(self.service.grpc, &self.server, Some(&credentials.certificate)).await.ok()?;
        let client = authorized(&Client::new(channel), credentials);
        match within("GetServiceInfo", client.stub().get_service_info(GetServiceInfoRequest {})).await {
            Ok(_) => Some(Code::Ok),
            Err(status) => status.metadata().contains_key("x-error-reason").then_some(status.code()),
        }
    }

    async fn until_code(&self, credentials: &Credentials, code: Option<Code>) {
        let is_it = async || (self.code(credentials).await == code).then_some(());
        eventually(&format!("{code:?}"), is_it).await;
    }
}

fn authorized(client: &Client, credentials: &Credentials) -> Client {
    credentials.token.as_ref().map_or_else(|| client.clone(), |token| client.with_token(token))
}

/// Registers all the time: one worker on one connection, the others with a new one for each third call. A call that
/// fails ends the test.
struct Traffic {
    credentials: watch::Sender<Credentials>,
    confirmed: watch::Sender<u64>,
    stop: CancellationToken,
    workers: Vec<JoinHandle<Vec<u64>>>,
}

impl Traffic {
    fn start(guarded: &Guarded, credentials: Credentials) -> Self {
        let (credentials, confirmed, stop) =
            (watch::Sender::new(credentials), watch::Sender::new(0), CancellationToken::new());
        let mut workers = Vec::new();
        for (worker, calls_per_connection) in [(0, usize::MAX), (1, 3), (2, 3)] {
            let (credentials, confirmed, stop) = (credentials.subscribe(), confirmed.clone(), stop.clone());
            let (address, server) = (guarded.service.grpc, guarded.server.clone());
            workers.push(tokio::spawn(async move {
                let mut numbers = Vec::new();
                let mut connection = None;
                while !stop.is_cancelled() {
                    let now = credentials.borrow().clone();
                    let client = match connection.take() {
                        Some(client) if !numbers.len().is_multiple_of(calls_per_connection) => client,
                        _ => tls_client::connect(address, &server, Some(&now.certificate)).await,
                    };
                    let number = worker * 1_000_000 + numbers.len() as u64;
                    authorized(&client, &now).confirm(number, CASE).await;
                    connection = Some(client);
                    numbers.push(number);
                    confirmed.send_modify(|count| *count += 1);
                }
                numbers
            }));
        }
        Self { credentials, confirmed, stop, workers }
    }

    /// Waits until registrations are confirmed that began after this moment.
    async fn continues(&self) {
        let before = *self.confirmed.borrow();
        let mut confirmed = self.confirmed.subscribe();
        let enough = confirmed.wait_for(|count| *count >= before + 3 * PROOF);
        within("registrations after a step", enough).await.unwrap();
    }

    /// Stops, and asserts that each registration is on the chain once.
    async fn end(self, guarded: &Guarded) {
        self.continues().await;
        self.stop.cancel();
        let numbers: Vec<_> = join_all(self.workers).await.into_iter().flat_map(Result::unwrap).collect();
        let pairs = numbers.into_iter().map(|number| (document(number), CASE.to_owned()));
        guarded.dependencies.registry.assert_registered_exactly(pairs).await;
    }
}

fn caller(identity: &str) -> String {
    format!("[[callers]]\nname = \"aaa-service\"\n{identity}\nscopes = [\"register\", \"read\"]\n")
}

/// A token and its hash.
async fn new_token() -> [String; 2] {
    let made = cli::run(&["token", "new", "aaa-service", "--json"], &[]).await.object();
    ["token", "hash"].map(|field| made[field].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_token_is_replaced_without_a_failed_call() {
    let clients = Authority::new();
    let [[old, old_hash], [new, new_hash]] = [new_token().await, new_token().await];
    let guarded = Guarded::start(&clients, &caller(&format!("tokens = [{old_hash:?}]"))).await;
    let certificate = clients.sign_caller(&[URI], &[], Valid::Now);
    let [old, new] = [old, new].map(|token| Credentials { certificate: certificate.clone(), token: Some(token) });
    let traffic = Traffic::start(&guarded, old.clone());
    assert_eq!(guarded.code(&new).await, Some(Code::Unauthenticated));

    guarded.replace_callers(&caller(&format!("tokens = [{old_hash:?}, {new_hash:?}]"))).await;
    guarded.until_code(&new, Some(Code::Ok)).await;
    traffic.continues().await;
    traffic.credentials.send_replace(new.clone());
    traffic.continues().await;
    guarded.replace_callers(&caller(&format!("tokens = [{new_hash:?}]"))).await;
    guarded.until_code(&old, Some(Code::Unauthenticated)).await;

    traffic.end(&guarded).await;
}

#[tokio::test]
async fn the_servers_certificate_and_key_are_replaced_without_a_failed_call() {
    let clients = Authority::new();
    let guarded = Guarded::start(&clients, &caller(&format!("certificates = [{URI:?}]"))).await;
    let certificate = clients.sign_caller(&[URI], &[], Valid::Now);
    let settings = TlsSettings::new(&[&version::TLS13], &["h2"], &guarded.server, Some(&certificate));
    let traffic = Traffic::start(&guarded, Credentials { certificate, token: None });
    traffic.continues().await;

    let renewed = guarded.server.sign(HOST);
    replace(&guarded.path("server.key"), &renewed.key);
    replace(&guarded.path("server.crt"), &renewed.certificate);

    let expected = CertificateDer::from_pem_slice(renewed.certificate.as_bytes()).unwrap();
    eventually("the new certificate", async || {
        let stream = handshake(guarded.service.grpc, &settings).await.unwrap();
        (stream.get_ref().1.peer_certificates().unwrap()[0] == expected).then_some(())
    })
    .await;
    traffic.end(&guarded).await;
}

#[tokio::test]
async fn the_authority_of_clients_is_replaced_without_a_failed_call() {
    let authorities = [Authority::new(), Authority::new()];
    let [old, new] = authorities
        .each_ref()
        .map(|authority| Credentials { certificate: authority.sign_caller(&[URI], &[], Valid::Now), token: None });
    let guarded = Guarded::start(&authorities[0], &caller(&format!("certificates = [{URI:?}]"))).await;
    let traffic = Traffic::start(&guarded, old.clone());
    assert_eq!(guarded.code(&new).await, None);

    let both = authorities.each_ref().map(|authority| authority.certificate.as_str()).concat();
    replace(&guarded.path("clients.crt"), both);
    guarded.until_code(&new, Some(Code::Ok)).await;
    traffic.continues().await;
    traffic.credentials.send_replace(new.clone());
    traffic.continues().await;
    replace(&guarded.path("clients.crt"), &authorities[1].certificate);
    guarded.until_code(&old, None).await;

    // One worker's connection is still the one with the old certificate.
    traffic.end(&guarded).await;
}

/// Runs a command of the contract's owner.
async fn as_owner(stack: &TestStack, arguments: &[&str]) {
    let contract = stack.registry.address.to_string();
    let variables = [
        ("REGISTRAR_RPC_URLS", stack.anvil.url()),
        ("REGISTRAR_CHAIN_ID", "31337"),
        ("REGISTRAR_CONTRACT_ADDRESS", &contract),
        ("REGISTRAR_SIGNER_KEYS", KEYS[OWNER]),
    ];
    let run = cli::run(arguments, &variables).await;
    assert_eq!(run.code, 0, "{run:?}");
}

/// Waits until no unfinished registration is in a transaction of the signer.
async fn drained(stack: &TestStack, signer: Address) {
    let server = format!("http://{}", stack.service.grpc);
    let list = ["list", "--state", "queued,submitted,included", "--limit", "1000", "--json"];
    eventually("the signer to have no pending transaction", async || {
        let listed = cli::run(&list, &[("REGISTRAR_SERVER", &server)]).await;
        assert_eq!(listed.code, 0, "{listed:?}");
        let is_pending = listed.stdout.to_lowercase().contains(&signer.to_string().to_lowercase());
        (!is_pending).then_some(())
    })
    .await;
}

/// Two replicas, and callers that retry `UNAVAILABLE` on the other one as long as `steps` take. Each of their documents
/// has to be on the chain once.
struct Replicas {
    stack: TestStack,
    other: Service,
    clients: watch::Sender<[Client; 2]>,
    confirmed: watch::Sender<u64>,
}

impl Replicas {
    async fn start(builder: StackBuilder) -> Self {
        let (stack, other, client) = pair(builder).await;
        let clients = watch::Sender::new([stack.client.clone(), client]);
        Self { stack, other, clients, confirmed: watch::Sender::new(0) }
    }

    async fn during<T>(&mut self, steps: impl AsyncFnOnce(&mut Self) -> T) -> T {
        let stop = CancellationToken::new();
        let callers = join_all((0..4_u64).map(|caller| {
            let (mut clients, stop) = (self.clients.subscribe(), stop.clone());
            let confirmed = self.confirmed.clone();
            async move {
                let mut numbers = Vec::new();
                while !stop.is_cancelled() {
                    let number = caller * 1_000_000 + numbers.len() as u64;
                    register(&mut clients, number).await;
                    numbers.push(number);
                    confirmed.send_modify(|count| *count += 1);
                }
                numbers
            }
        }));
        let steps = async {
            self.continues().await;
            let done = steps(self).await;
            self.continues().await;
            stop.cancel();
            done
        };
        let (numbers, done) = tokio::join!(callers, steps);
        let pairs = numbers.into_iter().flatten().map(|number| (document(number), CASE.to_owned()));
        self.stack.registry.assert_registered_exactly(pairs).await;
        done
    }

    async fn continues(&self) {
        let before = *self.confirmed.borrow();
        let mut confirmed = self.confirmed.subscribe();
        within("more registrations", confirmed.wait_for(|count| *count >= before + PROOF)).await.unwrap();
    }

    fn set(&mut self, name: &str, value: impl ToString) {
        self.stack.settings = self.stack.settings.clone().set(name, value);
    }

    /// Restarts both replicas with the new settings, one after the other.
    async fn roll(&mut self) {
        self.stack.service.terminate();
        assert_eq!(self.stack.service.exit_code().await, 0);
        self.stack.restart().await;
        self.clients.send_modify(|clients| clients[0] = self.stack.client.clone());
        self.other.terminate();
        assert_eq!(self.other.exit_code().await, 0);
        let (service, client) = self.stack.replica().await;
        self.other = service;
        self.clients.send_modify(|clients| clients[1] = client);
        self.continues().await;
    }
}

#[tokio::test]
async fn a_signer_is_replaced_on_two_replicas_while_callers_retry_unavailable() {
    let files = TempDir::new().unwrap();
    let (keystore, password) = (files.path().join("signer.json"), files.path().join("password"));
    fs::write(&password, "correct horse").unwrap();
    let password = ("REGISTRAR_KEYSTORE_PASSWORD_FILE", password.to_str().unwrap());
    let mut replicas = Replicas::start(StackBuilder::block_time(0.2)).await;
    let old = account(1);

    let new = replicas
        .during(async |replicas| {
            let made = cli::run(&["signer", "new", "--keystore", keystore.to_str().unwrap()], &[password]).await;
            assert_eq!(made.code, 0, "{made:?}");
            let new: Address = made.stdout.trim().parse().unwrap();
            replicas.stack.anvil.set_balance(new, ETHER).await;
            as_owner(&replicas.stack, &["allow", &new.to_string()]).await;
            replicas.set("REGISTRAR_SIGNERS", format!("keystore:{}", keystore.display()));
            replicas.set(password.0, password.1);
            replicas.roll().await;
            as_owner(&replicas.stack, &["revoke", &old.to_string()]).await;
            drained(&replicas.stack, old).await;
            replicas.set("REGISTRAR_SIGNER_KEYS", "");
            replicas.roll().await;
            new
        })
        .await;

    let signers: BTreeSet<_> = replicas.stack.registry.events().await.iter().map(|event| event.registrar).collect();
    assert_eq!(signers, [old, new].into());
    let last = replicas.stack.client.confirm(u64::MAX, CASE).await;
    assert_eq!(last.transaction.unwrap().from_address, new.to_string());
}

#[tokio::test]
async fn the_database_password_is_replaced_on_two_replicas_while_callers_retry_unavailable() {
    let database = Database::new().await;
    let name: String =
        sqlx::query_scalar("SELECT current_database()").fetch_one(&mut database.connect().await).await.unwrap();
    database
        .run(&format!(
            "CREATE ROLE rotation_1 LOGIN PASSWORD 'first word'; GRANT CREATE ON DATABASE {name} TO rotation_1"
        ))
        .await;
    let url = database.url_as("rotation_1", "first%20word");
    let mut replicas = Replicas::start(StackBuilder::block_time(0.2).set("REGISTRAR_DATABASE_URL", url)).await;

    replicas
        .during(async |replicas| {
            database
                .run(
                    "CREATE ROLE rotation_2 LOGIN PASSWORD 'second word' IN ROLE rotation_1; \
                     ALTER ROLE rotation_2 SET role TO rotation_1",
                )
                .await;
            replicas.set("REGISTRAR_DATABASE_URL", database.url_as("rotation_2", "second%20word"));
            replicas.roll().await;
            database.run("ALTER ROLE rotation_1 NOLOGIN").await;
        })
        .await;
}
