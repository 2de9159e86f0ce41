//! Output for a terminal, a file or another program: width, colors and progress.

use super::invocation::Invocation;
use crate::config::Environment;
use console::{Style, Term};
use std::io::{self, IsTerminal, Write};

/// Where standard output is not a terminal.
const DEFAULT_COLUMNS: usize = 80;
/// A wider waterfall is not easier to read.
const MAX_COLUMNS: usize = 120;

#[derive(Clone, Debug)]
pub(super) struct Output {
    pub json: bool,
    /// Whether progress is drawn on standard error.
    pub shows_progress: bool,
    pub stdout_is_terminal: bool,
    /// Columns of standard output.
    pub width: usize,
    /// Base style of standard output; plain where colors are off.
    pub stdout_style: Style,
    /// The same for standard error.
    pub stderr_style: Style,
    pub invocation: Invocation,
}

/// Writes to standard output. Ignores a reader that closed it early, like `head`.
pub(super) fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Whether standard output is still read. For a command that has no other end.
pub(super) fn print_line_if_read(text: &str) -> bool {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).is_ok()
}

pub(super) fn print_line(text: &str) {
    print(&format!("{text}\n"));
}

impl Output {
    /// Honours `NO_COLOR` (<https://no-color.org>).
    pub(super) fn from_process(json: bool, environment: &Environment) -> Self {
        let color = environment.get("NO_COLOR").is_none() && environment.get("TERM") != Some("dumb");
        let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        let width = Term::stdout().size_checked().map_or(DEFAULT_COLUMNS, |(_, columns)| usize::from(columns));
        Self {
            json,
            shows_progress: err && !json,
            stdout_is_terminal: out,
            width: width.min(MAX_COLUMNS),
            stdout_style: Style::new().force_styling(color && out && !json),
            stderr_style: Style::new().force_styling(color && err && !json),
            invocation: Invocation::from_process(),
        }
    }
}
