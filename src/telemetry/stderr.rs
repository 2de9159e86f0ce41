//! Standard error, written by a thread of its own, so that a reader that stalls never stops the work.
//!
//! Lines wait in a bounded queue. What does not fit, or cannot be written, is dropped and counted
//! (`registrar_log_dropped_total`), and the log says so once lines are written again. Urgent lines (why the process ends,
//! panics) have room of their own and overtake the others, and [`flush`] waits for all, for a limited time.
//!
//! The crate tracing-appender does not do this: it drops the newest lines first, so also the fatal one, cannot be
//! flushed before a panic ends the process, limits lines and not bytes, and reports problems on standard output.

use super::{events, metrics::metrics, targets};
use parking_lot::{Condvar, Mutex};
use std::{
    io::{self, ErrorKind, Write},
    sync::LazyLock,
    thread,
    time::Duration,
};
use tokio::time::Instant;
use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

/// About ten thousand lines: two seconds at 1,000 registrations per second.
const MAX_QUEUED_BYTES: usize = 4 << 20;
/// Room for urgent lines beyond that.
const URGENT_BYTES: usize = 256 << 10;
/// Lines accumulate for this long: to wake the thread for each line costs more than to write it.
const WRITE_DELAY: Duration = Duration::from_millis(10);
/// The capacity of a pipe on Linux: what is urgent waits behind no more than this.
const MAX_WRITE_BYTES: usize = 64 << 10;
/// Another process may have made the pipe non-blocking.
const RETRY_DELAY: Duration = Duration::from_millis(5);

static STDERR: LazyLock<&'static LineQueue> = LazyLock::new(|| {
    let queue: &'static LineQueue = Box::leak(Box::default());
    // If the thread cannot start, lines fill the queue and count as dropped.
    let _ = thread::Builder::new().name("log".to_owned()).spawn(|| queue.write_to(unlocked_stderr()));
    queue
});

/// Not the standard library's handle, whose lock the thread would hold while it waits for the reader.
fn unlocked_stderr() -> Box<dyn Write> {
    #[cfg(unix)]
    {
        use std::os::fd::AsFd;
        if let Ok(descriptor) = io::stderr().as_fd().try_clone_to_owned() {
            return Box::new(std::fs::File::from(descriptor));
        }
    }
    Box::new(io::stderr())
}

/// Writes a line, also if the queue is full. Never waits; [`flush`] follows where the process ends.
pub(crate) fn write_urgent(line: &str) {
    STDERR.push(format!("{line}\n").as_bytes(), Priority::Urgent);
}

/// Waits until everything is written, at most for `timeout`.
pub fn flush(timeout: Duration) {
    STDERR.flush(timeout);
}

/// For the log's layer.
pub(super) struct StderrLines;

pub(super) struct LineWriter(Priority);

impl MakeWriter<'_> for StderrLines {
    type Writer = LineWriter;

    fn make_writer(&self) -> LineWriter {
        LineWriter(Priority::Normal)
    }

    fn make_writer_for(&self, metadata: &Metadata<'_>) -> LineWriter {
        let is_urgent = [targets::FATAL_TARGET, targets::PANIC_TARGET].contains(&metadata.target());
        LineWriter(if is_urgent { Priority::Urgent } else { Priority::Normal })
    }
}

impl Write for LineWriter {
    /// Gets whole lines.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        STDERR.push(lines, self.0);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Priority {
    Normal,
    Urgent,
}

#[derive(Default)]
struct LineQueue {
    state: Mutex<State>,
    pushed: Condvar,
    written: Condvar,
}

#[derive(Default)]
struct State {
    normal: Vec<u8>,
    /// Written before the others.
    urgent: Vec<u8>,
    /// Bytes ever accepted, and of these the ones that are written or lost.
    accepted: u64,
    done: u64,
    /// Whether the thread waits and has to be woken.
    is_idle: bool,
    /// Callers of [`LineQueue::flush`], for whom the thread does not let lines accumulate.
    flushing: usize,
    /// Lines lost since the last report.
    dropped: u64,
}

impl State {
    fn queued(&self) -> usize {
        usize::try_from(self.accepted - self.done).unwrap_or(usize::MAX)
    }
}

impl LineQueue {
    fn push(&self, lines: &[u8], priority: Priority) {
        let mut state = self.state.lock();
        let limit = match priority {
            Priority::Normal => MAX_QUEUED_BYTES,
            Priority::Urgent => MAX_QUEUED_BYTES + URGENT_BYTES,
        };
        if state.queued() + lines.len() > limit {
            return record_dropped(&mut state, lines);
        }
        state.accepted += lines.len() as u64;
        match priority {
            Priority::Normal => state.normal.extend_from_slice(lines),
            Priority::Urgent => state.urgent.extend_from_slice(lines),
        }
        if state.is_idle {
            state.is_idle = false;
            self.pushed.notify_one();
        }
    }

    fn flush(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let mut state = self.state.lock();
        let target = state.accepted;
        state.flushing += 1;
        self.pushed.notify_one();
        while state.done < target {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.written.wait_for(&mut state, left).timed_out() {
                break;
            }
        }
        state.flushing -= 1;
    }

    fn write_to(&self, out: impl Write) {
        let mut out = LineOutput { out, is_line_open: false };
        loop {
            let mut lines = self.next_lines();
            let mut rest = lines.as_mut_slice();
            while !rest.is_empty() {
                self.write_urgent(&mut out);
                let (now, later) = rest.split_at_mut(chunk_length(rest));
                self.write(&mut out, now);
                rest = later;
            }
            self.write_urgent(&mut out);
            self.report_dropped(&out);
        }
    }

    /// Waits for lines and lets more accumulate.
    fn next_lines(&self) -> Vec<u8> {
        let mut state = self.state.lock();
        while state.queued() == 0 {
            state.is_idle = true;
            self.pushed.wait(&mut state);
        }
        state.is_idle = false;
        // Only a flush ends it earlier.
        while state.flushing == 0 && !self.pushed.wait_for(&mut state, WRITE_DELAY).timed_out() {}
        std::mem::take(&mut state.normal)
    }

    fn write_urgent(&self, out: &mut LineOutput<impl Write>) {
        let lines = std::mem::take(&mut self.state.lock().urgent);
        if !lines.is_empty() {
            self.write(out, &lines);
        }
    }

    fn write(&self, out: &mut LineOutput<impl Write>, lines: &[u8]) {
        let written = out.write(lines);
        let mut state = self.state.lock();
        state.done += lines.len() as u64;
        record_dropped(&mut state, &lines[written..]);
        self.written.notify_all();
    }

    /// The report is a line as well; it is written next. Where nothing can be written, it would be lost too.
    fn report_dropped(&self, out: &LineOutput<impl Write>) {
        let dropped = if out.is_line_open { 0 } else { std::mem::take(&mut self.state.lock().dropped) };
        if dropped > 0 {
            events::log_lines_dropped(dropped);
        }
    }
}

fn record_dropped(state: &mut State, lines: &[u8]) {
    let count = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
    state.dropped += count;
    metrics().log_dropped.inc_by(count);
}

/// Whole lines, if one of them ends in time.
fn chunk_length(lines: &[u8]) -> usize {
    if lines.len() <= MAX_WRITE_BYTES {
        return lines.len();
    }
    lines[..MAX_WRITE_BYTES].iter().rposition(|byte| *byte == b'\n').map_or(MAX_WRITE_BYTES, |end| end + 1)
}

struct LineOutput<W> {
    out: W,
    /// The last write failed, perhaps in the middle of a line.
    is_line_open: bool,
}

impl<W: Write> LineOutput<W> {
    /// Returns how many bytes were written. The next write after a failure begins a new line.
    fn write(&mut self, lines: &[u8]) -> usize {
        if self.is_line_open && self.write_all(b"\n") == 0 {
            return 0;
        }
        let written = self.write_all(lines);
        self.is_line_open = written < lines.len();
        written
    }

    fn write_all(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            match self.out.write(&bytes[written..]) {
                Ok(0) => break,
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY_DELAY),
                // The reader is gone, or the disk is full.
                Err(_) => break,
            }
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, mpsc};

    const LONG: Duration = Duration::from_secs(20);

    fn queue(out: impl Write + Send + 'static) -> &'static LineQueue {
        let queue: &'static LineQueue = Box::leak(Box::default());
        thread::spawn(|| queue.write_to(out));
        queue
    }

    /// A reader that stalls until it is released.
    struct Stalled {
        released: mpsc::Receiver<()>,
        text: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // The sender is dropped to release it.
            let _ = self.released.recv();
            // As a pipe: fewer bytes than asked for.
            let count = bytes.len().min(5_000);
            self.text.lock().extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_queue_drops_lines_and_urgent_ones_overtake() {
        let (release, released) = mpsc::channel();
        let text = Arc::<Mutex<Vec<u8>>>::default();
        let queue = queue(Stalled { released, text: text.clone() });
        let line = |number: usize| format!("{number:06} {}\n", "x".repeat(1_000));
        let mut pushed = 0;
        while queue.state.lock().dropped == 0 {
            queue.push(line(pushed).as_bytes(), Priority::Normal);
            pushed += 1;
        }
        queue.push(b"why it ends\n", Priority::Urgent);
        let started = Instant::now();
        queue.flush(Duration::from_millis(50));
        assert!((50..5_000).contains(&started.elapsed().as_millis()), "waited for {:?}", started.elapsed());

        drop(release);
        queue.flush(LONG);

        let text = String::from_utf8(text.lock().clone()).unwrap();
        let urgent = text.find("why it ends\n").unwrap();
        assert!(urgent <= 2 * MAX_WRITE_BYTES, "at {urgent}");
        let rest = text.replacen("why it ends\n", "", 1);
        assert_eq!(rest, (0..pushed - 1).map(line).collect::<String>(), "lines are cut, lost or out of order");
        assert!(rest.len() <= MAX_QUEUED_BYTES && rest.len() > MAX_QUEUED_BYTES - 2_000, "{} bytes", rest.len());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn lines_that_cannot_be_written_are_dropped_and_counted() {
        let full_disk = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let (reader, closed_pipe) = std::io::pipe().unwrap();
        drop(reader);
        for queue in [queue(full_disk), queue(closed_pipe)] {
            for _ in 0..3 {
                queue.push(b"one\ntwo\n", Priority::Normal);
            }
            queue.flush(LONG);
            let state = queue.state.lock();
            assert_eq!((state.dropped, state.queued()), (6, 0));
        }
    }

    #[test]
    fn a_line_that_was_cut_is_ended_before_the_next() {
        struct Failing(Vec<u8>, usize);
        impl Write for Failing {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let count = bytes.len().min(self.1);
                self.1 -= count;
                self.0.extend_from_slice(&bytes[..count]);
                if count == 0 { Err(ErrorKind::StorageFull.into()) } else { Ok(count) }
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut output = LineOutput { out: Failing(Vec::new(), 4), is_line_open: false };
        assert_eq!(output.write(b"a line\n"), 4);
        assert_eq!(output.write(b"lost\n"), 0);
        output.out.1 = 100;
        assert_eq!(output.write(b"next\n"), 5);
        assert_eq!(output.out.0, b"a li\nnext\n");
    }
}
