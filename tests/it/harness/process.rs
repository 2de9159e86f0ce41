//! A child process whose output is kept: awaited while the test runs, printed when it fails.

use super::wait::{PATIENCE, eventually, within};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// How much of a process's output is printed when a test fails.
const PRINTED_LINES: usize = 120;

/// How long a process gets to end and to take its own children along before it is killed.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// How often an end is looked for while nothing else can run.
const LOOK: Duration = Duration::from_millis(5);

/// A running child. Ended when dropped, whether the test passed or not.
pub struct Process {
    name: String,
    child: Child,
    lines: Lines,
    readers: Vec<JoinHandle<()>>,
    has_children: bool,
}

/// What a process has said so far, on both of its outputs.
#[derive(Clone)]
pub struct Lines {
    kept: Arc<Mutex<Vec<String>>>,
    count: watch::Sender<usize>,
}

impl Process {
    /// Starts the command. Its standard input is closed.
    pub fn spawn(name: &str, command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        let lines = Lines { kept: Arc::default(), count: watch::Sender::new(0) };
        let readers = vec![lines.read(child.stdout.take().unwrap()), lines.read(child.stderr.take().unwrap())];
        Self { name: name.to_owned(), child, lines, readers, has_children: false }
    }

    /// Says that it has children of its own: when dropped it is told to end and take them along, not just killed.
    pub fn with_children(mut self) -> Self {
        self.has_children = true;
        self
    }

    /// What it has said.
    pub fn lines(&self) -> &Lines {
        &self.lines
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// SIGKILL: it gets no chance to do or say anything more. Returns when it is gone.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.drain();
    }

    /// Waits for it to end by itself.
    pub async fn exit(&mut self) -> ExitStatus {
        let name = self.name.clone();
        let status = eventually(&format!("{name} to exit"), async || self.child.try_wait().unwrap()).await;
        self.drain();
        status
    }

    /// The first line for which `find` returns something, said already or still to come.
    ///
    /// # Panics
    /// When the process ends without such a line, or time runs out.
    pub async fn said<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let lines = self.lines.clone();
        let name = self.name.clone();
        let mut count = lines.count.subscribe();
        within(&format!("{name} to say {what}"), async {
            loop {
                if let Some(found) = lines.find(&find) {
                    return found;
                }
                if self.child.try_wait().unwrap().is_some() {
                    self.drain();
                    return lines.find(&find).unwrap_or_else(|| panic!("{name} ended without {what}"));
                }
                // An end without a last word is noticed at the next look.
                let _ = tokio::time::timeout(PATIENCE / 300, count.changed()).await;
            }
        })
        .await
    }

    /// Waits for the readers to reach the end, so that nothing said is missed. A child of its own that was left behind
    /// would keep the outputs open for ever.
    fn drain(&mut self) {
        let begun = Instant::now();
        while begun.elapsed() < LAST_WORDS && !self.readers.iter().all(JoinHandle::is_finished) {
            std::thread::sleep(LOOK);
        }
        self.readers.clear();
    }

    /// SIGTERM, and some time to heed it.
    fn end_gently(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal(Signal::TERM);
            let begun = Instant::now();
            while begun.elapsed() < LAST_WORDS && self.child.try_wait().is_ok_and(|status| status.is_none()) {
                std::thread::sleep(LOOK);
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.has_children {
            self.end_gently();
        }
        self.kill();
        if std::thread::panicking() {
            let lines = self.lines.all();
            let from = lines.len().saturating_sub(PRINTED_LINES);
            eprintln!("--- {} said ({} of {} lines):", self.name, lines.len() - from, lines.len());
            lines[from..].iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

impl Lines {
    /// Every line so far.
    pub fn all(&self) -> Vec<String> {
        self.kept.lock().unwrap().clone()
    }

    fn find<T>(&self, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.kept.lock().unwrap().iter().find_map(|line| find(line))
    }

    fn read(&self, output: impl Read + Send + 'static) -> JoinHandle<()> {
        let lines = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                lines.kept.lock().unwrap().push(line);
                lines.count.send_modify(|count| *count += 1);
            }
        })
    }
}
