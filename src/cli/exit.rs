//! How a command ends, as the shell sees it.

use crate::telemetry::redact;
use std::{error::Error, process::ExitCode};

/// How a command ends. 64, 69 and 75 are those of BSD's sysexits.h.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: failed.
    Failed,
    /// 64: the arguments or the settings are wrong.
    UsageError,
    /// 69: the server is not reachable, and nothing was accepted.
    ServerUnreachable,
    /// 75: accepted, but not there yet; it goes on by itself.
    Unfinished,
    /// 130: interrupted by a signal.
    Interrupted,
}

impl Exit {
    /// The code.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::UsageError => 64,
            Self::ServerUnreachable => 69,
            Self::Unfinished => 75,
            Self::Interrupted => 130,
        }
    }

    /// What a code of the service means: 64 for its settings, anything else for a failure.
    pub fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Done,
            64 => Self::UsageError,
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Says on standard error what went wrong, with the causes beneath, and ends as `exit`.
pub fn print_error(error: &dyn Error, exit: Exit) -> Exit {
    eprintln!("error: {}", redact(&error_chain(error)));
    exit
}

/// What went wrong, with the causes beneath.
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let words = next.to_string();
        // Many errors repeat their source in their own words.
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = next.source();
    }
    text
}
