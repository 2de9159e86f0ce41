//! A child process whose output can be awaited and is printed when the test fails.

use super::wait::{TEST_TIMEOUT, eventually, within};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread::JoinHandle,
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// Lines of output that are printed when a test fails.
const PRINTED_LINES: usize = 120;

/// Time to exit and to stop its own children before it is killed.
const EXIT_GRACE: Duration = Duration::from_secs(10);
const EXIT_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A running child; killed when dropped.
pub struct Process {
    name: String,
    child: Child,
    lines: Lines,
    readers: Vec<JoinHandle<()>>,
    has_children: bool,
}

/// The lines of standard output and standard error so far.
#[derive(Clone)]
pub struct Lines {
    entries: Arc<Mutex<Vec<String>>>,
    count: watch::Sender<usize>,
    stalled: Arc<(Mutex<bool>, Condvar)>,
}

impl Process {
    /// Starts the command with a closed standard input.
    pub fn spawn(name: &str, command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        let lines = Lines { entries: Arc::default(), count: watch::Sender::new(0), stalled: Arc::default() };
        let readers = vec![lines.read(child.stdout.take().unwrap()), lines.read(child.stderr.take().unwrap())];
        Self { name: name.to_owned(), child, lines, readers, has_children: false }
    }

    /// Marks it as having children: it gets SIGTERM and [`EXIT_GRACE`] to stop them before it is killed.
    pub fn with_children(mut self) -> Self {
        self.has_children = true;
        self
    }

    pub fn lines(&self) -> &Lines {
        &self.lines
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Stops or resumes reading the output, as a log driver that stalls: what the child writes fills the pipe.
    pub fn stall_output(&self, stalled: bool) {
        *self.lines.stalled.0.lock().unwrap() = stalled;
        self.lines.stalled.1.notify_all();
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Sends SIGKILL and waits for the exit.
    pub fn kill(&mut self) {
        // It may have exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.drain();
    }

    pub async fn exit(&mut self) -> ExitStatus {
        let name = self.name.clone();
        let status = eventually(&format!("{name} to exit"), async || self.child.try_wait().unwrap()).await;
        self.drain();
        status
    }

    /// The first line, past or future, for which `find` returns something.
    ///
    /// # Panics
    /// When the process exits without such a line, or after [`TEST_TIMEOUT`].
    pub async fn wait_for_line<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
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
                // An exit without further output is noticed after this time.
                let _ = tokio::time::timeout(TEST_TIMEOUT / 300, count.changed()).await;
            }
        })
        .await
    }

    /// Waits until the readers reach the end of the output. A grandchild that was left running would keep the pipes
    /// open.
    fn drain(&mut self) {
        self.stall_output(false);
        let started = Instant::now();
        while started.elapsed() < EXIT_GRACE && !self.readers.iter().all(JoinHandle::is_finished) {
            std::thread::sleep(EXIT_POLL_INTERVAL);
        }
        self.readers.clear();
    }

    /// Sends SIGTERM and waits up to [`EXIT_GRACE`].
    fn terminate_and_wait(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal(Signal::TERM);
            let started = Instant::now();
            while started.elapsed() < EXIT_GRACE && self.child.try_wait().is_ok_and(|status| status.is_none()) {
                std::thread::sleep(EXIT_POLL_INTERVAL);
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.has_children {
            self.terminate_and_wait();
        }
        self.kill();
        if std::thread::panicking() {
            let lines = self.lines.all();
            let from = lines.len().saturating_sub(PRINTED_LINES);
            eprintln!("--- output of {} ({} of {} lines):", self.name, lines.len() - from, lines.len());
            for repeated in lines[from..].chunk_by(|a, b| a == b) {
                let count = if repeated.len() > 1 { format!(" ({} times)", repeated.len()) } else { String::new() };
                eprintln!("{}{count}", repeated[0]);
            }
        }
    }
}

impl Lines {
    pub fn all(&self) -> Vec<String> {
        self.entries.lock().unwrap().clone()
    }

    fn find<T>(&self, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.entries.lock().unwrap().iter().find_map(|line| find(line))
    }

    fn read(&self, output: impl Read + Send + 'static) -> JoinHandle<()> {
        let lines = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let (stalled, changed) = &*lines.stalled;
                drop(changed.wait_while(stalled.lock().unwrap(), |stalled| *stalled).unwrap());
                lines.entries.lock().unwrap().push(line);
                lines.count.send_modify(|count| *count += 1);
            }
        })
    }
}
