//! For whom the output is: a person at a terminal, a file, a program; and how wide and how colourful it may be.

use super::program::Program;
use crate::config::Environment;
use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
};

/// Where the output is no terminal, and nobody knows how wide it will be shown.
const PLAIN_WIDTH: usize = 80;
/// A waterfall that is wider is no easier to read.
const WIDEST: usize = 120;

/// For whom the output is.
#[derive(Clone, Debug)]
pub(super) struct Screen {
    /// JSON for a program.
    pub json: bool,
    /// Whether progress may be drawn on standard error.
    pub live: bool,
    /// Columns of standard output.
    pub width: usize,
    /// The colours of standard output.
    pub out: Paint,
    /// The colours of standard error.
    pub err: Paint,
    /// How a reader calls this program again.
    pub program: Program,
}

/// Colours, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Paint(bool);

/// The colours that mean something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Colour {
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
pub(super) fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// The same, with a line's end.
pub(super) fn say_line(text: &str) {
    say(&format!("{text}\n"));
}

impl Screen {
    /// Looks at the process's streams. `NO_COLOR` is honoured (<https://no-color.org>).
    pub(super) fn of_process(json: bool, environment: &Environment) -> Self {
        let colour = environment.get("NO_COLOR").is_none() && environment.get("TERM") != Some("dumb");
        let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        let width = console::Term::stdout().size_checked().map_or(PLAIN_WIDTH, |(_, columns)| usize::from(columns));
        Self {
            json,
            live: err && !json,
            width: width.min(WIDEST),
            out: Paint(colour && out && !json),
            err: Paint(colour && err && !json),
            program: Program::of_process(),
        }
    }
}

impl Paint {
    #[cfg(test)]
    pub(super) const PLAIN: Self = Self(false);

    /// The text in a colour. Pad it before: the codes have a length.
    pub(super) fn paint(self, colour: Colour, text: impl Display) -> String {
        if !self.0 {
            return text.to_string();
        }
        let code = match colour {
            Colour::Green => 32,
            Colour::Yellow => 33,
            Colour::Red => 31,
            Colour::Cyan => 36,
            Colour::Blue => 34,
            Colour::Dim => 2,
            Colour::Bold => 1,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}
