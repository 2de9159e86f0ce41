//! Client commands and the development stack; talks to the service through its public gRPC only.
//!
//! [`parse`] turns arguments into a [`Command`], [`client`] and [`dev`] do it, and every way a command ends is an [`Exit`].
//! Answers go to standard output; progress, and errors for people, to standard error. With `--json` standard output gets one
//! JSON object a line, a call's error included: `{"error":{"code":…,"reason":…,"message":…}}`.

mod advice;
mod args;
mod blocked;
mod client;
mod complaint;
mod dev;
mod document;
mod exit;
mod help;
mod json;
mod live;
mod program;
mod query;
mod register;
mod screen;
mod signals;
mod stages;
mod summary;
mod time;
mod trouble;
mod usage;
mod waterfall;

pub use args::{ClientCommand, Command, DeployArgs, DevArgs};
pub use dev::run as dev;
pub use exit::{Exit, complain, in_full};
pub use query::run as client;
pub use signals::until_signalled;
pub use usage::{Answer, parse};
