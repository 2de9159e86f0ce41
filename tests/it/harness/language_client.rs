//! Clients in other languages: grpcio and grpc-js, with stubs generated at run time from the proto.

use super::wait::within;
use serde_json::Value;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::process::Command;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Language {
    /// grpcio
    Python,
    /// grpc-js
    Node,
}

impl Language {
    /// Registers a document. The request is in the proto's JSON form, the deadline in seconds; returns the answer or
    /// the error.
    pub async fn register(self, server: SocketAddr, request: &Value, deadline: f64) -> Value {
        self.register_with(server, request, deadline, &[]).await
    }

    /// As [`Self::register`], with these request headers.
    pub async fn register_with(
        self,
        server: SocketAddr,
        request: &Value,
        deadline: f64,
        headers: &[(&str, &str)],
    ) -> Value {
        let mut command = self.command();
        command.arg(server.to_string()).arg(root().join("proto")).arg(request.to_string()).arg(deadline.to_string());
        command.arg(serde_json::json!(headers).to_string());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let child = command.spawn().unwrap();
        let output = within(&format!("the {self:?} client"), child.wait_with_output()).await.unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the {self:?} client fails: {complaint}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {complaint}"))
    }

    fn command(self) -> Command {
        let folder = root().join("tests/foreign");
        let (program, needs, script) = match self {
            Self::Python => (folder.join(".venv/bin/python"), ".venv/bin/python", "client.py"),
            Self::Node => (PathBuf::from("node"), "node_modules/@grpc/grpc-js", "client.mjs"),
        };
        let needed = folder.join(needs);
        assert!(needed.exists(), "{} is missing: `make test` installs it", needed.display());
        let mut command = Command::new(program);
        command.arg(folder.join(script));
        command
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
