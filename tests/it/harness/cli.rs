//! The registrar's commands, run as a person or a script runs them.

use super::{service, wait::within};
use serde_json::Value;
use std::process::Stdio;
use tokio::process::Command;

/// What a command left.
#[derive(Debug)]
pub struct Run {
    /// Its exit code.
    pub code: i32,
    /// Its answer.
    pub stdout: String,
    /// Its progress and complaints.
    pub stderr: String,
}

impl Run {
    /// The answer as JSON, one object a line.
    pub fn json(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {self:?}"));
        self.stdout.lines().map(parse).collect()
    }

    /// The answer as one JSON object.
    pub fn object(&self) -> Value {
        let mut objects = self.json();
        assert_eq!(objects.len(), 1, "not one object: {self:?}");
        objects.remove(0)
    }
}

/// Runs `registrar` with these arguments and these variables, and no others of ours.
pub async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Run {
    let mut command = Command::from(service::command());
    command.args(arguments).envs(variables.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let child = command.spawn().unwrap();
    let output = within(&format!("`registrar {}`", arguments.join(" ")), child.wait_with_output()).await.unwrap();
    Run {
        code: output.status.code().unwrap_or_else(|| panic!("`registrar {arguments:?}` died of {}", output.status)),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
