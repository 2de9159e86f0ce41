//! Validates arguments and environment variables, and reports all invalid settings at once. The only reader of the
//! environment.
//!
//! A setting that is not a secret is a command-line argument with an environment variable behind it ([`ServeArgs`]).
//! Secrets come from the environment, or from a file named by the same variable with `_FILE`. No message repeats one.

mod args;
mod auth;
mod commands;
mod environment;
mod jwt;
mod network;
mod otlp_certificates;
mod otlp_proxy;
mod parsers;
mod secrets;
mod settings;
mod signers;
mod telemetry;
mod tls;
mod ui;
mod unknown_variables;

pub(crate) use crate::chain::parse_address;
pub use args::{ContractArgs, NetworkArgs, ServeArgs};
pub use commands::{ContractSettings, KeystoreSettings, SignerListSettings};
pub use environment::{ConfigErrors, Environment};
pub(crate) use parsers::{may_contain_private_key, parse_duration};
pub use settings::{Settings, admin_address};
pub use unknown_variables::{exposed_secret_files, unknown_variables};
