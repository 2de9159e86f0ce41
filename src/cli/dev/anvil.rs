//! anvil as a child process that does not outlive this one.

use crate::config::Environment;
use std::{
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    task::JoinHandle,
    time::timeout,
};

const ANVIL_START_TIMEOUT: Duration = Duration::from_secs(20);
const LISTENING_PREFIX: &str = "Listening on ";

/// Dropping it kills the process.
#[derive(Debug)]
pub(super) struct Anvil {
    child: Child,
    url: String,
    /// Drains anvil's output: it would block on a full pipe.
    stdout_drain: JoinHandle<()>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum AnvilError {
    #[error(
        "anvil is not installed; run `make demo` or `npm ci --prefix contracts`, or set REGISTRAR_ANVIL to its path"
    )]
    NotInstalled,
    #[error("{0} cannot be started")]
    SpawnFailed(PathBuf, #[source] io::Error),
    #[error("{0} did not start listening; see its output above")]
    NotListening(PathBuf),
}

impl Anvil {
    /// On a free loopback port.
    pub(super) async fn start(environment: &Environment, block_time: u64) -> Result<Self, AnvilError> {
        let program = find_binary(environment);
        let mut command = Command::new(&program);
        command
            .args(["--host", "127.0.0.1", "--port", "0", "--block-time", &block_time.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        // Ctrl-C reaches the terminal's process group; the chain has to outlive the service's shutdown.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command.spawn().map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                AnvilError::NotInstalled
            } else {
                AnvilError::SpawnFailed(program.clone(), error)
            }
        })?;
        let stdout = child.stdout.take().ok_or_else(|| AnvilError::NotListening(program.clone()))?;
        let mut lines = BufReader::new(stdout).lines();
        match timeout(ANVIL_START_TIMEOUT, read_listen_address(&mut lines)).await {
            Ok(Some(address)) => {
                let output = tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                Ok(Self { child, url: format!("http://{address}"), stdout_drain: output })
            }
            Ok(None) | Err(_) => Err(AnvilError::NotListening(program)),
        }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// `None` after the process has exited.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    pub(super) async fn wait_for_exit(&mut self) {
        // An error means that the process is gone.
        let _ = self.child.wait().await;
    }

    pub(super) async fn stop(mut self) {
        // It has no data on disk, and an error means that it is gone.
        let _ = self.child.kill().await;
        self.stdout_drain.abort();
    }
}

async fn read_listen_address(lines: &mut Lines<BufReader<ChildStdout>>) -> Option<String> {
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(address) = line.trim().strip_prefix(LISTENING_PREFIX) {
            return Some(address.to_owned());
        }
    }
    None
}

/// `REGISTRAR_ANVIL`, else the npm package in this directory or above, else the PATH.
fn find_binary(environment: &Environment) -> PathBuf {
    if let Some(path) = environment.get("REGISTRAR_ANVIL") {
        return path.into();
    }
    let working_dir = std::env::current_dir().unwrap_or_default();
    find_npm_binary(&working_dir).unwrap_or_else(|| "anvil".into())
}

fn find_npm_binary(directory: &Path) -> Option<PathBuf> {
    let binary = npm_binary_path(std::env::consts::OS, std::env::consts::ARCH);
    directory.ancestors().map(|parent| parent.join(&binary)).find(|path| path.is_file())
}

/// The native binary of the npm package, whose name has Node's names of systems.
fn npm_binary_path(os: &str, arch: &str) -> PathBuf {
    let (os, file) = match os {
        "macos" => ("darwin", "anvil"),
        "windows" => ("win32", "anvil.exe"),
        other => (other, "anvil"),
    };
    let arch = match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    PathBuf::from(format!("contracts/node_modules/@foundry-rs/anvil-{os}-{arch}/bin/{file}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_npm_binary_is_found_from_any_subdirectory() {
        let root = tempfile::tempdir().unwrap();
        let binary = root.path().join(npm_binary_path(std::env::consts::OS, std::env::consts::ARCH));
        std::fs::create_dir_all(binary.parent().unwrap()).unwrap();
        std::fs::write(&binary, "").unwrap();
        let subdirectory = root.path().join("src/cli");
        assert_eq!(find_npm_binary(&subdirectory), Some(binary));
        assert!(npm_binary_path("linux", "x86_64").ends_with("anvil-linux-amd64/bin/anvil"));
        assert!(npm_binary_path("macos", "aarch64").ends_with("anvil-darwin-arm64/bin/anvil"));
    }

    #[tokio::test]
    async fn the_error_for_a_missing_anvil_says_how_to_install_it() {
        let environment = Environment::default().with([("REGISTRAR_ANVIL", "/nonexistent/anvil".to_owned())]);
        let error = Anvil::start(&environment, 1).await.unwrap_err();
        assert!(error.to_string().contains("npm ci --prefix contracts"), "{error}");
    }
}
