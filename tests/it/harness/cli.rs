//! Runs the `registrar` command line.

use super::{service, wait::within};
use serde_json::Value;
use std::process::Stdio;
use tokio::{io::AsyncWriteExt, process::Command};

#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// Standard output as JSON, one object per line.
    pub fn json(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {self:?}"));
        self.stdout.lines().map(parse).collect()
    }

    /// Standard output as exactly one JSON object.
    pub fn object(&self) -> Value {
        let mut objects = self.json();
        assert_eq!(objects.len(), 1, "not one object: {self:?}");
        objects.remove(0)
    }
}

/// Runs `registrar` with only these environment variables besides those of [`service::command`].
pub async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Run {
    run_with_input(arguments, variables, b"").await
}

/// As [`run`], with this on standard input.
pub async fn run_with_input(arguments: &[&str], variables: &[(&str, &str)], input: &[u8]) -> Run {
    let mut command = Command::from(service::command());
    command.args(arguments).envs(variables.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    // Fails if the command ends without reading it.
    let _ = child.stdin.take().unwrap().write_all(input).await;
    let output = within(&format!("`registrar {}`", arguments.join(" ")), child.wait_with_output()).await.unwrap();
    Run {
        code: output.status.code().unwrap_or_else(|| panic!("`registrar {arguments:?}` was killed: {}", output.status)),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
