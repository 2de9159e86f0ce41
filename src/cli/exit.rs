//! Exit codes, and errors without a reason code.

use crate::{
    app,
    telemetry::{redact, stderr},
};
use std::{error::Error, process::ExitCode};

/// Exit code of a command. 64, 69 and 75 are those of sysexits.h.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: failed.
    Failed,
    /// 64: invalid arguments or settings.
    UsageError,
    /// 69: server not reachable, nothing accepted.
    ServerUnreachable,
    /// 75: accepted but not finished; processing continues.
    Unfinished,
    /// 130: interrupted by a signal.
    Interrupted,
}

impl Exit {
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
}

impl From<&app::Error> for Exit {
    fn from(error: &app::Error) -> Self {
        if error.is_configuration_error() { Self::UsageError } else { Self::Failed }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Prints the error with its causes on standard error, without waiting for it: main does so at the end.
pub fn print_error(error: &dyn Error, exit: Exit) -> Exit {
    stderr::write_urgent(&format!("error: {}", redact(&error_chain(error))));
    exit
}

/// The error with its causes.
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let message = next.to_string();
        // Many errors contain the message of their source.
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = next.source();
    }
    text
}
