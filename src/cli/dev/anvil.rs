//! anvil as a child process that does not outlive this one.

use crate::{config::Environment, telemetry::stderr};
use std::{
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader, Lines},
    process::{Child, Command},
    task::JoinHandle,
    time::timeout,
};

const ANVIL_START_TIMEOUT: Duration = Duration::from_secs(20);
const LISTENING_PREFIX: &str = "Listening on ";
/// States that anvil keeps, in memory alone. Without a limit it writes each older one to disk: 58 GB in 25 minutes of
/// load with blocks of 0.2 s. Finality is 64 blocks deep here.
const KEPT_STATES: &str = "500";

/// Dropping it kills the process.
#[derive(Debug)]
pub(super) struct Anvil {
    child: Child,
    url: String,
    /// Read anvil's output: it would block on a full pipe.
    drains: [JoinHandle<()>; 2],
    cleaner: Option<Child>,
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
    /// On a free loopback port. If this process is killed, `data_dir` is deleted as well.
    pub(super) async fn start(environment: &Environment, block_time: u64, data_dir: &Path) -> Result<Self, AnvilError> {
        let program = find_binary(environment);
        let mut command = Command::new(&program);
        command
            .args(["--host", "127.0.0.1", "--port", "0", "--block-time", &block_time.to_string()])
            .args(["--prune-history", KEPT_STATES])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
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
        let (Some(stdout), Some(errors)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(AnvilError::NotListening(program));
        };
        let cleaner = child.id().and_then(|pid| spawn_cleaner(pid, data_dir));
        // Not inherited: anvil would stop where our own standard error is not read.
        let errors = tokio::spawn(forward_lines(BufReader::new(errors).lines()));
        let mut lines = BufReader::new(stdout).lines();
        match timeout(ANVIL_START_TIMEOUT, read_listen_address(&mut lines)).await {
            Ok(Some(address)) => {
                let output = tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                Ok(Self { child, url: format!("http://{address}"), drains: [output, errors], cleaner })
            }
            Ok(None) | Err(_) => {
                // What it says last.
                let _ = child.kill().await;
                let _ = errors.await;
                Err(AnvilError::NotListening(program))
            }
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
        if let Some(mut cleaner) = self.cleaner.take() {
            let _ = cleaner.kill().await;
        }
        self.drains.iter().for_each(JoinHandle::abort);
    }
}

/// A shell that waits until this process is gone, which it sees by its standard input, also after `kill -9`: then it
/// kills anvil, which would run for ever, and deletes the data. Without it, only that is missing.
#[cfg(unix)]
fn spawn_cleaner(anvil: u32, data_dir: &Path) -> Option<Child> {
    let mut command = Command::new("sh");
    command.args(["-c", "read -r _; kill -9 \"$1\"; rm -rf -- \"$2\"", "sh"]).arg(anvil.to_string()).arg(data_dir);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.kill_on_drop(true).process_group(0).spawn().ok()
}

#[cfg(not(unix))]
fn spawn_cleaner(_anvil: u32, _data_dir: &Path) -> Option<Child> {
    None
}

async fn forward_lines(mut lines: Lines<BufReader<impl AsyncRead + Unpin>>) {
    while let Ok(Some(line)) = lines.next_line().await {
        stderr::write_urgent(&format!("anvil: {line}"));
    }
}

async fn read_listen_address(lines: &mut Lines<BufReader<impl AsyncRead + Unpin>>) -> Option<String> {
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
        let error = Anvil::start(&environment, 1, Path::new("/nonexistent")).await.unwrap_err();
        assert!(error.to_string().contains("npm ci --prefix contracts"), "{error}");
    }
}
