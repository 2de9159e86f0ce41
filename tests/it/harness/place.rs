//! A place of its own for a test that looks at what is left behind.

use std::{fs, path::Path, process::Command};
use tempfile::TempDir;

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
        let output = Command::new("ps").args(["axeww", "-o", "pid,command"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.lines().count() > 1, "ps shows nothing");
        let left: Vec<&str> = text.lines().filter(|line| line.contains(&self.mark)).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        let there: Vec<_> = fs::read_dir(&self.directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(there, files);
    }
}
