//! A temporary directory for tests that check which files and processes remain afterwards.

use std::{fs, path::Path, process::Command, time::Duration};
use tempfile::TempDir;
use tokio::time::Instant;

/// Processes that were asked to stop may need this long on a busy machine.
const PROCESS_EXIT_GRACE: Duration = Duration::from_secs(10);
const PROCESS_LIST_INTERVAL: Duration = Duration::from_millis(50);

/// A directory and the environment marker by which `ps` finds the processes that were started in it.
pub struct ScratchDir {
    directory: TempDir,
    marker: String,
}

impl ScratchDir {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let marker = format!("registrar-test-{}", directory.path().file_name().unwrap().to_str().unwrap());
        Self { directory, marker }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Environment variables for every process that is started here.
    pub fn variables(&self) -> [(&str, &str); 2] {
        [("REGISTRAR_TEST_MARK", &self.marker), ("TMPDIR", self.directory.path().to_str().unwrap())]
    }

    /// Asserts that no process remains, and no file other than `files`.
    pub fn assert_unchanged(&self, files: &[&str]) {
        let started = Instant::now();
        let mut remaining = self.processes();
        while !remaining.is_empty() && started.elapsed() < PROCESS_EXIT_GRACE {
            std::thread::sleep(PROCESS_LIST_INTERVAL);
            remaining = self.processes();
        }
        assert!(remaining.is_empty(), "processes still running: {remaining:?}");
        let found: Vec<_> = fs::read_dir(&self.directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(found, files);
    }

    fn processes(&self) -> Vec<String> {
        let output = Command::new("ps").args(["axeww", "-o", "pid,command"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.lines().count() > 1, "ps lists no process");
        text.lines().filter(|line| line.contains(&self.marker)).map(str::to_owned).collect()
    }
}
