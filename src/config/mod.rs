//! The only reader of the environment. Raw text becomes validated settings, and everything wrong is said at once, by name.
//!
//! What is no secret is a command-line argument with an environment variable behind it ([`ServeArgs`]). Secrets come from
//! the environment, or from a file named by the same variable with `_FILE`; no message here repeats one.

mod args;
mod environment;
mod secrets;
mod settings;
mod telemetry;
mod unknown_variables;

pub use args::{NetworkArgs, ServeArgs};
pub use environment::{ConfigError, ConfigErrors, Environment};
pub use settings::{DeploySettings, Settings};
pub use unknown_variables::unknown_variables;

use settings::split_list;
