//! Node scripts of the repository, some of which look at pages in Chromium.

use super::{service::command, wait::within};
use serde_json::Value;
use std::{
    path::Path,
    process::{Command, Stdio},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::Child,
};

/// Runs a Node script of the repository with a minimal environment.
pub fn node(script: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = root.join(script);
    let installed = script.with_file_name("node_modules");
    assert!(installed.is_dir(), "{} is missing: `make test` installs it", installed.display());
    let mut node = Command::new("node");
    node.env_clear().envs(command().get_envs().filter_map(|(name, value)| Some((name, value?))));
    node.current_dir(root).arg(script);
    node
}

/// A check of `tests/browser/operator-page.mjs` that runs.
pub struct Check(Child);

impl Check {
    /// `given` is what the check needs to know.
    pub fn start(name: &str, url: &str, given: &Value) -> Self {
        let mut command = tokio::process::Command::from(node("tests/browser/operator-page.mjs"));
        command.args([name, url, &given.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        Self(command.spawn().unwrap())
    }

    /// Waits until it writes a line on standard error, which says that it waits for something.
    pub async fn until_ready(&mut self) {
        let output = self.0.stderr.as_mut().unwrap();
        let mut line = String::new();
        within("the browser", BufReader::new(output).read_line(&mut line)).await.unwrap();
        assert_eq!(line.trim(), "ready");
    }

    /// What it saw. No page violates its policy, has a script that fails, or asks another site.
    pub async fn seen(self) -> Value {
        let mut child = self.0;
        let (mut output, mut complaint) = (String::new(), String::new());
        let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let reading =
            async { tokio::join!(out.read_to_string(&mut output), err.read_to_string(&mut complaint), child.wait()) };
        let (_, _, status) = within("the browser", reading).await;
        assert!(status.unwrap().success(), "the browser script failed: {complaint}");
        let mut answer: Value = serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {complaint}"));
        assert_eq!(answer["complaints"], serde_json::json!([]));
        answer["seen"].take()
    }
}

/// Runs a check to its end.
pub async fn check(name: &str, url: &str, given: &Value) -> Value {
    Check::start(name, url, given).seen().await
}
