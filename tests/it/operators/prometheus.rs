//! A Prometheus with the rules under `deploy/`, and the tools that come with it.

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

/// A tool of the operators.
///
/// # Panics
/// When it is not installed: a check that is left out in silence is none.
pub fn tool(name: &str, folder: &Path, arguments: &[&str]) -> Output {
    let output = Command::new(name).args(arguments).current_dir(folder).output();
    output.unwrap_or_else(|error| {
        panic!("{name} cannot be run ({error}): `make test` installs it, from Debian's prometheus and prometheus-alertmanager")
    })
}

/// What a tool says that finds nothing wrong.
pub fn checked(name: &str, folder: &Path, arguments: &[&str]) -> String {
    let output = tool(name, folder, arguments);
    let said = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
    assert!(output.status.success(), "{name} {}:\n{said}", arguments.join(" "));
    String::from_utf8(output.stdout).unwrap()
}

/// A running Prometheus.
pub struct Prometheus {
    _process: Process,
    address: SocketAddr,
    _directory: TempDir,
}

/// A rule as it was read.
#[derive(Clone, Debug)]
pub struct Rule(Value);

impl Prometheus {
    /// With the example's configuration, which looks at `target` once a second and sends its alerts to nobody.
    pub async fn watching(target: SocketAddr) -> Self {
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
        let address = process.said("where it listens", listening).await;
        process.said("that it is ready", |line| line.contains("ready to receive").then_some(())).await;
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

    /// What an expression is now: so many series or numbers.
    ///
    /// # Panics
    /// When it cannot be reckoned.
    pub async fn query(&self, expression: &str) -> Vec<Value> {
        let data = self.get("query", &[("query", expression)]).await;
        match data["result"].as_array() {
            Some(result) if data["resultType"] == "vector" => result.clone(),
            _ => vec![data["result"].clone()],
        }
    }

    /// The rules.
    pub async fn rules(&self) -> Vec<Rule> {
        let data = self.get("rules", &[]).await;
        let groups = data["groups"].as_array().unwrap().iter();
        groups.flat_map(|group| group["rules"].as_array().unwrap().clone()).map(Rule).collect()
    }
}

impl Rule {
    /// The alert's or the series' name.
    pub fn name(&self) -> &str {
        self.0["name"].as_str().unwrap()
    }

    /// Whether it is an alert.
    pub fn is_alert(&self) -> bool {
        self.0["type"] == "alerting"
    }

    /// What it asks for.
    pub fn expression(&self) -> &str {
        self.0["query"].as_str().unwrap()
    }

    /// Whether it has been reckoned without an error.
    pub fn is_well(&self) -> bool {
        self.0["health"] == "ok"
    }

    /// `firing`, `pending` or `inactive`.
    pub fn state(&self) -> &str {
        self.0["state"].as_str().unwrap()
    }

    /// A label of the alert.
    pub fn label(&self, name: &str) -> &str {
        self.0["labels"][name].as_str().unwrap_or_else(|| panic!("{} has no label {name}", self.name()))
    }

    /// A text that goes with the alert.
    pub fn annotation(&self, name: &str) -> &str {
        self.0["annotations"][name].as_str().unwrap_or_else(|| panic!("{} has no {name}", self.name()))
    }
}

fn listening(line: &str) -> Option<SocketAddr> {
    line.contains("Listening on").then_some(())?;
    line.split_once("address=")?.1.split_whitespace().next()?.parse().ok()
}
