//! Validates arguments and environment variables, and reports all invalid settings at once. The only reader of the
//! environment.
//!
//! A setting that is not a secret is a command-line argument with an environment variable behind it ([`ServeArgs`]).
//! Secrets come from the environment, or from a file named by the same variable with `_FILE`. No message repeats one.

mod args;
mod environment;
mod parsers;
mod secrets;
mod settings;
mod telemetry;
mod unknown_variables;

pub use args::{NetworkArgs, ServeArgs};
pub use environment::{ConfigErrors, Environment};
pub(crate) use parsers::{may_contain_private_key, parse_address, parse_duration};
pub use settings::{DeploySettings, Settings};
pub use unknown_variables::unknown_variables;
