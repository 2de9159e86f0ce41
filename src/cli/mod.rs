//! Client commands, which call the service through its public gRPC API only, and the development stack.
//!
//! [`parse`] turns arguments into a [`Command`]; [`client`] and [`dev`] run it and return an [`Exit`]. Results go to
//! standard output, progress and errors to standard error. With `--json` standard output has one JSON object per line,
//! errors of calls included: `{"error":{"code":…,"reason":…,"message":…}}`.

mod arg_values;
mod args;
mod blocked_reason;
mod callers;
mod certificate;
mod changes;
mod client;
mod client_certificate;
mod collect;
mod completions;
mod connection_args;
mod contract_commands;
mod dev;
mod document;
mod error;
mod error_text;
mod exit;
mod format;
mod hash_list;
mod healthcheck;
mod help;
mod hints;
mod invocation;
mod json;
mod leading_options;
mod output;
mod parse;
mod progress;
mod progress_steps;
mod read_commands;
mod reason;
mod register;
mod register_many;
mod server;
mod signals;
mod signer_commands;
mod summary;
mod target;
mod time;
mod tls_problem;
mod verify_args;
mod waterfall;

pub use args::{Command, DeployArgs};
pub use callers::{callers, token};
pub use completions::{completions, man};
pub use contract_commands::{owner, set_registrar};
pub use dev::run as dev;
pub use exit::{Exit, error_chain, print_error};
pub use healthcheck::run as healthcheck;
pub use parse::{EarlyExit, parse};
pub use read_commands::run as client;
pub use signals::run_until_signal;
pub use signer_commands::run as signer;
