//! Client commands and the development stack; talks to the service through its public gRPC only.
//!
//! [`parse`] turns arguments into a [`Command`], [`client`] and [`dev`] do it, and every way a command ends is an [`Exit`].
//! Answers go to standard output; progress, and errors for people, to standard error. With `--json` standard output gets one
//! JSON object a line, a call's error included: `{"error":{"code":…,"reason":…,"message":…}}`.

mod args;
mod blocked_reason;
mod client;
mod dev;
mod document;
mod error;
mod error_text;
mod exit;
mod help;
mod hints;
mod invocation;
mod json;
mod output;
mod parse;
mod progress;
mod progress_steps;
mod read_commands;
mod register;
mod signals;
mod summary;
mod time;
mod waterfall;

pub use args::{ClientCommand, Command, DeployArgs, DevArgs};
pub use dev::run as dev;
pub use exit::{Exit, error_chain, print_error};
pub use parse::{EarlyExit, parse};
pub use read_commands::run as client;
pub use signals::run_until_signal;
