//! The built binary as a child process: `registrar serve` with only the environment that the test sets.

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

/// Settings as environment variables.
#[derive(Clone, Debug)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// Settings for one endpoint, this contract, anvil's accounts 1 to `signers` and an SQLite file.
    pub fn new(endpoint: &str, registry: &Registry, signers: usize, database: &Path) -> Self {
        let settings = [
            ("REGISTRAR_LISTEN", "127.0.0.1:0".to_owned()),
            ("REGISTRAR_ADMIN_LISTEN", "127.0.0.1:0".to_owned()),
            ("REGISTRAR_RPC_URLS", endpoint.to_owned()),
            ("REGISTRAR_CHAIN_ID", CHAIN_ID.to_string()),
            ("REGISTRAR_CONTRACT_ADDRESS", registry.address.to_string()),
            ("REGISTRAR_SIGNER_KEYS", KEYS[1..=signers].join(",")),
            ("REGISTRAR_DATABASE_URL", format!("sqlite://{}", database.display())),
            // Its ETH is not real.
            ("REGISTRAR_DAILY_BUDGET_ETH", "unlimited".to_owned()),
            ("LOG_FORMAT", "json".to_owned()),
        ];
        Self(settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// No settings.
    pub fn empty() -> Self {
        Self(BTreeMap::new())
    }

    pub fn variables(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.0.insert(name.to_owned(), value.to_string());
        self
    }
}

pub struct Service {
    process: Process,
    pub grpc: SocketAddr,
    pub admin: SocketAddr,
}

/// A service that exited before it served.
#[derive(Debug)]
pub struct FailedStart {
    pub code: i32,
    /// Standard output and standard error.
    pub output: String,
}

/// A service process that does not serve yet.
pub struct Starting(Process);

impl Starting {
    pub fn new(settings: &Settings) -> Self {
        Self::with_command(command(), settings)
    }

    fn with_command(mut command: Command, settings: &Settings) -> Self {
        Self(Process::spawn("registrar", command.arg("serve").envs(&settings.0)))
    }

    /// The first log line, past or future, that matches.
    pub async fn wait_for_log(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        self.0.wait_for_line(what, |line| serde_json::from_str(line).ok().filter(|line| is_it(line))).await
    }

    pub fn terminate(&self) {
        self.0.signal(Signal::TERM);
    }

    /// Waits until the service listens.
    pub async fn until_serving(self) -> Service {
        let mut process = self.0;
        let (grpc, admin) =
            process.wait_for_line("where it listens", |line| listening(&serde_json::from_str(line).ok()?)).await;
        Service { process, grpc, admin }
    }

    /// Waits until the process exits without having served.
    pub async fn until_exit(self) -> FailedStart {
        let mut process = self.0;
        let status = process.exit().await;
        let output = process.lines().all().join("\n");
        let code = status.code().unwrap_or_else(|| panic!("killed by a signal: {status}: {output}"));
        assert!(!output.contains("panicked at"), "the service panicked: {output}");
        FailedStart { code, output }
    }
}

impl Service {
    pub async fn start(settings: &Settings) -> Self {
        Starting::new(settings).until_serving().await
    }

    /// Starts the service with another command, such as one with resource limits.
    pub async fn start_with(command: Command, settings: &Settings) -> Self {
        Starting::with_command(command, settings).until_serving().await
    }

    /// Starts the service and waits until it exits because it cannot start.
    pub async fn expect_start_failure(settings: &Settings) -> FailedStart {
        Starting::new(settings).until_exit().await
    }

    /// As [`Self::expect_start_failure`], with another command.
    pub async fn expect_start_failure_with(command: Command, settings: &Settings) -> FailedStart {
        Starting::with_command(command, settings).until_exit().await
    }

    /// The log so far; every line has to be JSON.
    pub fn log(&self) -> Vec<Value> {
        let parse = |line: String| serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        self.process.lines().all().into_iter().map(parse).collect()
    }

    /// All output lines so far.
    pub fn output(&self) -> Vec<String> {
        self.process.lines().all()
    }

    /// The first log line, past or future, that matches.
    pub async fn wait_for_log(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        self.process.wait_for_line(what, |line| serde_json::from_str(line).ok().filter(|line| is_it(line))).await
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Stops or resumes reading the log.
    pub fn stall_log(&self, stalled: bool) {
        self.process.stall_output(stalled);
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    pub fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Waits for the exit and returns the exit code.
    pub async fn exit_code(&mut self) -> i32 {
        let status = self.process.exit().await;
        status.code().unwrap_or_else(|| panic!("killed by a signal: {status}"))
    }

    /// Status and body of a page of the admin server.
    pub async fn http(&self, path: &str) -> (u16, String) {
        let response = super::rpc::http_client().get(format!("http://{}{path}", self.admin)).send();
        let response = within(path, response).await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    pub async fn metrics(&self) -> Metrics {
        let (status, text) = self.http("/metrics").await;
        assert_eq!(status, 200, "{text}");
        Metrics::read(&text)
    }
}

/// In every test, the service must not log an endpoint's URL, the Sentry DSN or the database password.
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

/// The built binary with a cleared environment, so that the developer's shell does not affect the tests.
pub fn command() -> Command {
    command_of(Path::new(env!("CARGO_BIN_EXE_registrar")))
}

/// As [`command`], with another build of the binary.
pub fn command_of(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    command.env_clear();
    for name in ["PATH", "HOME", "TMPDIR", "REGISTRAR_ANVIL", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

fn listening(line: &Value) -> Option<(SocketAddr, SocketAddr)> {
    let address = |name: &str| line[name].as_str()?.parse().ok();
    (line["message"] == "listening").then_some(())?;
    Some((address("grpc")?, address("admin")?))
}
