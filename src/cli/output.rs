//! For whom the output is: a person at a terminal, a file, a program; and how wide and how colourful it may be.

use super::invocation::Invocation;
use crate::config::Environment;
use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
};

/// Where the output is no terminal, and nobody knows how wide it will be shown.
const DEFAULT_COLUMNS: usize = 80;
/// A waterfall that is wider is no easier to read.
const MAX_COLUMNS: usize = 120;

/// For whom the output is.
#[derive(Clone, Debug)]
pub(super) struct Output {
    /// JSON for a program.
    pub json: bool,
    /// Whether progress may be drawn on standard error.
    pub shows_progress: bool,
    /// Columns of standard output.
    pub width: usize,
    /// The colours of standard output.
    pub stdout_style: Style,
    /// The colours of standard error.
    pub stderr_style: Style,
    /// How a reader calls this program again.
    pub invocation: Invocation,
}

/// Colours, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Style(bool);

/// The colours that mean something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Color {
    /// What is good and done.
    Green,
    /// What is under way or to be noticed.
    Yellow,
    /// What failed.
    Red,
    /// What is prepared.
    Cyan,
    /// What is queued.
    Blue,
    /// What stands back.
    Dim,
    /// What stands out.
    Bold,
}

/// Writes to standard output. A reader that went away, as `head` does, is no failure of the command.
pub(super) fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// The same, with a line's end.
pub(super) fn print_line(text: &str) {
    print(&format!("{text}\n"));
}

impl Output {
    /// Looks at the process's streams. `NO_COLOR` is honoured (<https://no-color.org>).
    pub(super) fn from_process(json: bool, environment: &Environment) -> Self {
        let colour = environment.get("NO_COLOR").is_none() && environment.get("TERM") != Some("dumb");
        let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        let width = console::Term::stdout().size_checked().map_or(DEFAULT_COLUMNS, |(_, columns)| usize::from(columns));
        Self {
            json,
            shows_progress: err && !json,
            width: width.min(MAX_COLUMNS),
            stdout_style: Style(colour && out && !json),
            stderr_style: Style(colour && err && !json),
            invocation: Invocation::from_process(),
        }
    }
}

impl Style {
    #[cfg(test)]
    pub(super) const PLAIN: Self = Self(false);

    /// The text in a colour. Pad it before: the codes have a length.
    pub(super) fn apply(self, colour: Color, text: impl Display) -> String {
        if !self.0 {
            return text.to_string();
        }
        let code = match colour {
            Color::Green => 32,
            Color::Yellow => 33,
            Color::Red => 31,
            Color::Cyan => 36,
            Color::Blue => 34,
            Color::Dim => 2,
            Color::Bold => 1,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}
