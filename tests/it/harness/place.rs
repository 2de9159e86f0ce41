//! A place of its own for a test that looks at what is left behind.

use std::{fs, path::Path, process::Command, time::Duration};
use tempfile::TempDir;
use tokio::time::Instant;

/// How long a process may take to be gone, and how often it is looked for.
const LAST_WORDS: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);

/// A folder to work in, and a text by which the processes that work there are known.
pub struct Place {
    directory: TempDir,
    mark: String,
}

impl Place {
    /// An empty one.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mark = format!("registrar-test-{}", directory.path().file_name().unwrap().to_str().unwrap());
        Self { directory, mark }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// What a process that works here has in its environment.
    pub fn variables(&self) -> [(&str, &str); 2] {
        [("REGISTRAR_TEST_MARK", &self.mark), ("TMPDIR", self.directory.path().to_str().unwrap())]
    }

    /// Fails if a process or a file is left.
    pub fn is_as_it_was(&self, files: &[&str]) {
        let begun = Instant::now();
        let mut left = self.processes();
        // What was told to end may take a moment for it on a busy machine.
        while !left.is_empty() && begun.elapsed() < LAST_WORDS {
            std::thread::sleep(LOOK);
            left = self.processes();
        }
        assert!(left.is_empty(), "left behind: {left:?}");
        let there: Vec<_> = fs::read_dir(&self.directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(there, files);
    }

    /// Those that work here.
    fn processes(&self) -> Vec<String> {
        let output = Command::new("ps").args(["axeww", "-o", "pid,command"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.lines().count() > 1, "ps shows nothing");
        text.lines().filter(|line| line.contains(&self.mark)).map(str::to_owned).collect()
    }
}
