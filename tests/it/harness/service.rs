//! The built binary as a child process: `registrar serve` with nothing in its environment but what a test says.

use super::{
    anvil::{CHAIN_ID, KEYS},
    metrics::Metrics,
    postgres::PASSWORDS,
    process::Process,
    proxy,
    receivers::DSN_KEY,
    registry::Registry,
    wait::within,
};
use rustix::process::Signal;
use serde_json::Value;
use std::{collections::BTreeMap, net::SocketAddr, path::Path, process::Command};

/// The settings of a service, as environment variables.
#[derive(Clone, Debug)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// A service for this contract behind this endpoint, that signs as anvil's accounts 1 to `signers`, and keeps what it
    /// accepts in this file.
    pub fn new(endpoint: &str, registry: &Registry, signers: usize, database: &Path) -> Self {
        let settings = [
            ("REGISTRAR_LISTEN", "127.0.0.1:0".to_owned()),
            ("REGISTRAR_ADMIN_LISTEN", "127.0.0.1:0".to_owned()),
            ("REGISTRAR_RPC_URLS", endpoint.to_owned()),
            ("REGISTRAR_CHAIN_ID", CHAIN_ID.to_string()),
            ("REGISTRAR_CONTRACT_ADDRESS", registry.address.to_string()),
            ("REGISTRAR_SIGNER_KEYS", KEYS[1..=signers].join(",")),
            ("REGISTRAR_DATABASE_URL", format!("sqlite://{}", database.display())),
            ("LOG_FORMAT", "json".to_owned()),
        ];
        Self(settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// Not one.
    pub fn none() -> Self {
        Self(BTreeMap::new())
    }

    /// The same with this variable.
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.0.insert(name.to_owned(), value.to_string());
        self
    }
}

/// A running service.
pub struct Service {
    process: Process,
    /// Where its gRPC server listens.
    pub grpc: SocketAddr,
    /// Where its HTTP server listens.
    pub admin: SocketAddr,
}

/// How a service ended that did not want to start.
#[derive(Debug)]
pub struct Refused {
    /// The exit code.
    pub code: i32,
    /// Everything it said.
    pub said: String,
}

/// A service that does not serve yet, and perhaps never will.
pub struct Starting(Process);

impl Starting {
    /// Begins to start the service.
    pub fn of(settings: &Settings) -> Self {
        Self::as_by(command(), settings)
    }

    fn as_by(mut command: Command, settings: &Settings) -> Self {
        Self(Process::spawn("registrar", command.arg("serve").envs(&settings.0)))
    }

    /// The first log line of which this is true, written already or still to come.
    pub async fn logged(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        self.0.said(what, |line| serde_json::from_str(line).ok().filter(|line| is_it(line))).await
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.0.signal(Signal::TERM);
    }

    /// Returns when it serves.
    pub async fn serves(self) -> Service {
        let mut process = self.0;
        let (grpc, admin) = process.said("where it listens", |line| listening(&serde_json::from_str(line).ok()?)).await;
        Service { process, grpc, admin }
    }

    /// Returns when it has ended without having served.
    pub async fn ends(self) -> Refused {
        let mut process = self.0;
        let status = process.exit().await;
        let said = process.lines().all().join("\n");
        let code = status.code().unwrap_or_else(|| panic!("it died of {status}: {said}"));
        assert!(!said.contains("panicked at"), "it panicked: {said}");
        Refused { code, said }
    }
}

impl Service {
    /// Starts the service, and returns when it serves.
    pub async fn start(settings: &Settings) -> Self {
        Starting::of(settings).serves().await
    }

    /// Starts the service by another command than the plain binary.
    pub async fn start_as(command: Command, settings: &Settings) -> Self {
        Starting::as_by(command, settings).serves().await
    }

    /// Starts a service that refuses to run.
    pub async fn refused(settings: &Settings) -> Refused {
        Starting::of(settings).ends().await
    }

    /// Starts, by another command than the plain binary, a service that refuses to run.
    pub async fn refused_as(command: Command, settings: &Settings) -> Refused {
        Starting::as_by(command, settings).ends().await
    }

    /// Its log so far; every line of it has to be JSON.
    pub fn log(&self) -> Vec<Value> {
        let parse = |line: String| serde_json::from_str(&line).unwrap_or_else(|_| panic!("not a line of JSON: {line}"));
        self.process.lines().all().into_iter().map(parse).collect()
    }

    /// Everything it has said so far, as it came.
    pub fn said(&self) -> Vec<String> {
        self.process.lines().all()
    }

    /// The first log line of which this is true, written already or still to come.
    pub async fn logged(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        self.process.said(what, |line| serde_json::from_str(line).ok().filter(|line| is_it(line))).await
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Waits for its end and returns the exit code.
    pub async fn exit_code(&mut self) -> i32 {
        let status = self.process.exit().await;
        status.code().unwrap_or_else(|| panic!("it died of {status}"))
    }

    /// Gets a page of its HTTP server: the status and the body.
    pub async fn http(&self, path: &str) -> (u16, String) {
        let response = super::rpc::http_client().get(format!("http://{}{path}", self.admin)).send();
        let response = within(path, response).await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// What it counts.
    pub async fn metrics(&self) -> Metrics {
        let (status, text) = self.http("/metrics").await;
        assert_eq!(status, 200, "{text}");
        Metrics::read(&text)
    }
}

/// No test, whatever it does, may make the service tell where its endpoints are, its Sentry's DSN, or its database's password.
impl Drop for Service {
    fn drop(&mut self) {
        let secrets = PASSWORDS.iter().chain([&DSN_KEY]);
        let is_leak =
            |line: &String| proxy::leak(line).is_some() || secrets.clone().any(|secret| line.contains(secret));
        let leaks = self.process.lines().all().into_iter().find(is_leak);
        assert!(
            leaks.is_none() || std::thread::panicking(),
            "an endpoint's URL, a DSN or a password is logged: {leaks:?}"
        );
    }
}

/// The built binary, with an environment of its own: nothing of the developer's shell changes what a test sees.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_registrar"));
    command.env_clear();
    for kept in ["PATH", "HOME", "TMPDIR", "REGISTRAR_ANVIL", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command
}

fn listening(line: &Value) -> Option<(SocketAddr, SocketAddr)> {
    let address = |name: &str| line[name].as_str()?.parse().ok();
    (line["message"] == "listening").then_some(())?;
    Some((address("grpc")?, address("admin")?))
}
