//! What was done to the service and when, in a file beside the logs: for whoever looks for the cause of a finding.

use std::{
    fmt,
    fs::File,
    io::Write,
    path::Path,
    sync::{Arc, Mutex},
    time::SystemTime,
};

/// The file. Its times are those of the logs.
#[derive(Clone)]
pub struct Chronicle(Arc<Mutex<File>>);

impl Chronicle {
    /// A new one in this directory.
    pub fn begin(directory: &Path) -> Self {
        Self(Arc::new(Mutex::new(File::create(directory.join("chronicle.log")).unwrap())))
    }

    /// Writes a line.
    pub fn tell(&self, what: impl fmt::Display) {
        let now = humantime::format_rfc3339_micros(SystemTime::now());
        writeln!(self.0.lock().unwrap(), "{now} {what}").unwrap();
    }
}
