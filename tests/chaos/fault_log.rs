//! A file beside the service's logs with every fault and kill, for finding the cause of a violation.

use std::{
    fmt,
    fs::File,
    io::Write,
    path::Path,
    sync::{Arc, Mutex},
    time::SystemTime,
};

/// Its timestamps use the same clock as the service's logs.
#[derive(Clone)]
pub struct FaultLog(Arc<Mutex<File>>);

impl FaultLog {
    pub fn create(directory: &Path) -> Self {
        Self(Arc::new(Mutex::new(File::create(directory.join("faults.log")).unwrap())))
    }

    pub fn record(&self, event: impl fmt::Display) {
        let now = humantime::format_rfc3339_micros(SystemTime::now());
        writeln!(self.0.lock().unwrap(), "{now} {event}").unwrap();
    }
}
