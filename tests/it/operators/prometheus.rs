//! A Prometheus with the rules under `deploy/`, and its command line tools.

use super::{deploy, text};
use crate::harness::{process::Process, rpc::http_client, within};
use serde_json::Value;
use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Output},
};
use tempfile::TempDir;

/// Runs a tool.
///
/// # Panics
/// When the tool is not installed, because skipping the check would hide failures.
pub fn tool(name: &str, folder: &Path, arguments: &[&str]) -> Output {
    let output = Command::new(name).args(arguments).current_dir(folder).output();
    output.unwrap_or_else(|error| {
        panic!(
            "{name} cannot be run ({error}): `make test` installs it from Debian's prometheus and \
             prometheus-alertmanager"
        )
    })
}

/// Runs a check that has to pass and returns its output.
pub fn checked(name: &str, folder: &Path, arguments: &[&str]) -> String {
    let output = tool(name, folder, arguments);
    let combined = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
    assert!(output.status.success(), "{name} {}:\n{combined}", arguments.join(" "));
    String::from_utf8(output.stdout).unwrap()
}

pub struct Prometheus {
    _process: Process,
    address: SocketAddr,
    _directory: TempDir,
}

#[derive(Clone, Debug)]
pub struct Rule(Value);

impl Prometheus {
    /// With the example configuration, but scraping `target` once a second and without an Alertmanager.
    pub async fn scraping(target: SocketAddr) -> Self {
        let directory = TempDir::new().unwrap();
        for file in ["alerts.yml", "recording.rules.yml"] {
            fs::copy(deploy("prometheus").join(file), directory.path().join(file)).unwrap();
        }
        let example = text("prometheus/prometheus.yml");
        for replaced in ["127.0.0.1:9464", "127.0.0.1:9093", "interval: 15s"] {
            assert!(example.contains(replaced), "{replaced} is not in the example");
        }
        let configuration = example
            .replace("127.0.0.1:9464", &target.to_string())
            .replace("127.0.0.1:9093", "127.0.0.1:1")
            .replace("interval: 15s", "interval: 1s");
        fs::write(directory.path().join("prometheus.yml"), configuration).unwrap();
        let mut command = Command::new("prometheus");
        command.current_dir(directory.path());
        command.args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0"]);
        let mut process = Process::spawn("prometheus", &mut command);
        let address = process.wait_for_line("its address", listening).await;
        process.wait_for_line("that it is ready", |line| line.contains("ready to receive").then_some(())).await;
        Self { _process: process, address, _directory: directory }
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let mut url = url::Url::parse(&format!("http://{}/api/v1/{path}", self.address)).unwrap();
        url.query_pairs_mut().extend_pairs(query);
        let answer = within(path, http_client().get(url).send()).await.unwrap().text().await.unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error} in {answer}"));
        assert_eq!(answer["status"], "success", "{query:?}: {answer}");
        answer["data"].clone()
    }

    /// The current series of an expression.
    ///
    /// # Panics
    /// When the expression cannot be evaluated.
    pub async fn query(&self, expression: &str) -> Vec<Value> {
        let data = self.get("query", &[("query", expression)]).await;
        match data["result"].as_array() {
            Some(result) if data["resultType"] == "vector" => result.clone(),
            _ => vec![data["result"].clone()],
        }
    }

    pub async fn rules(&self) -> Vec<Rule> {
        let data = self.get("rules", &[]).await;
        let groups = data["groups"].as_array().unwrap().iter();
        groups.flat_map(|group| group["rules"].as_array().unwrap().clone()).map(Rule).collect()
    }
}

impl Rule {
    /// The name of the alert or of the recorded series.
    pub fn name(&self) -> &str {
        self.0["name"].as_str().unwrap()
    }

    pub fn is_alert(&self) -> bool {
        self.0["type"] == "alerting"
    }

    pub fn expression(&self) -> &str {
        self.0["query"].as_str().unwrap()
    }

    /// Whether it was evaluated without an error.
    pub fn is_healthy(&self) -> bool {
        self.0["health"] == "ok"
    }

    /// `firing`, `pending` or `inactive`.
    pub fn state(&self) -> &str {
        self.0["state"].as_str().unwrap()
    }

    pub fn label(&self, name: &str) -> &str {
        self.0["labels"][name].as_str().unwrap_or_else(|| panic!("{} has no label {name}", self.name()))
    }

    pub fn annotation(&self, name: &str) -> &str {
        self.0["annotations"][name].as_str().unwrap_or_else(|| panic!("{} has no {name}", self.name()))
    }
}

fn listening(line: &str) -> Option<SocketAddr> {
    line.contains("Listening on").then_some(())?;
    line.split_once("address=")?.1.split_whitespace().next()?.parse().ok()
}
