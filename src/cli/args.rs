//! Commands and their arguments. The doc comments are the help texts. Secrets are never arguments.

use super::{
    help,
    invocation::{self, Invocation},
};
use crate::{
    api::proto::{State, WaitFor},
    config::{NetworkArgs, ServeArgs, parse_address, parse_duration},
    registration::{CaseId, UserId},
};
use alloy::primitives::Address;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{ffi::OsString, path::PathBuf, time::Duration};
use uuid::Uuid;

/// Registers document hashes on Base Sepolia and tracks each one until it is final.
#[derive(Parser, Debug)]
#[command(name = "registrar", version, max_term_width = 80, after_help = help::TOP, subcommand_required = true,
          arg_required_else_help = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

/// A command of `registrar`.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the service
    #[command(after_help = help::SERVE)]
    Serve(Box<ServeArgs>),
    /// Run a local stack for development: chain, contract and service
    #[command(after_help = help::DEV)]
    Dev(Box<DevArgs>),
    /// Deploy the DocumentRegistry contract and print its address
    ///
    /// The first signer pays for it, and owns it unless --owner names another account. Every signer may register.
    #[command(after_help = help::DEPLOY)]
    Deploy(DeployArgs),
    /// A command that calls a running service.
    #[command(flatten)]
    Client(ClientCommand),
}

#[derive(Subcommand, Debug)]
pub enum ClientCommand {
    /// Register a document for a case and wait until it is confirmed
    ///
    /// Registering the same document for the same case again is safe: it returns the same registration.
    #[command(after_help = help::REGISTER)]
    Register(RegisterArgs),
    /// Show a registration, or every case of a document
    #[command(after_help = help::STATUS)]
    Status(StatusArgs),
    /// Follow a registration until it is confirmed
    #[command(after_help = help::WATCH)]
    Watch(WatchArgs),
    /// List registrations, newest first
    #[command(after_help = help::LIST)]
    List(ListArgs),
    /// Check on the chain whether a document is registered for a case
    #[command(after_help = help::VERIFY)]
    Verify(VerifyArgs),
    /// Explain why a registration is not confirmed yet, with current evidence
    #[command(after_help = help::EXPLAIN)]
    Explain(ExplainArgs),
    /// Show the server's version, network, contract, signers and limits
    Info(InfoArgs),
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Connection")]
pub struct ConnectionArgs {
    /// gRPC address of the service
    #[arg(long, env = "REGISTRAR_SERVER", value_name = "URL", default_value = invocation::DEFAULT_SERVER)]
    pub server: String,
    /// Print one JSON object per line (canonical protobuf JSON; an error is {"error":{…}})
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `registrar deploy`.
#[derive(Args, Debug)]
pub struct DeployArgs {
    /// Owner of the contract, who may add and remove registrars [default: the first signer]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    pub owner: Option<Address>,
    #[command(flatten)]
    pub network: NetworkArgs,
}

#[derive(Args, Debug)]
pub struct DevArgs {
    /// Register this file, print its waterfall and exit
    #[arg(long, value_name = "FILE", help_heading = "Demonstration")]
    pub once: Option<PathBuf>,
    /// Case for the file of --once
    #[arg(long, value_name = "ID", default_value = "DEMO-1", help_heading = "Demonstration")]
    pub case: CaseId,
    /// Block interval of the chain in seconds
    #[arg(long, value_name = "SECS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600),
          help_heading = "Demonstration")]
    pub block_time: u64,
    /// Chain, contract, signers and database are set by `dev` itself.
    #[command(flatten)]
    pub serve: ServeArgs,
}

#[derive(Args, Debug)]
pub struct RegisterArgs {
    /// The document: a file, its sha2-256 (64 hex digits, 0x allowed), or an IPFS CID with that digest
    #[arg(value_name = "FILE-OR-HASH")]
    pub document: OsString,
    /// Case id. It is public on chain forever: never use personal data
    #[arg(long, value_name = "ID")]
    pub case: CaseId,
    /// State to wait for
    #[arg(long, value_name = "LEVEL", default_value = "confirmed")]
    pub wait_for: WaitForArg,
    /// Maximum wait, for example 30s or 2m; processing continues afterwards [default: the server's]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub wait_timeout: Option<Duration>,
    /// Opaque id of your end user, stored with the registration; never an e-mail address
    #[arg(long, value_name = "ID", value_parser = parse_user_id)]
    pub user_id: Option<UserId>,
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

#[derive(Args, Debug)]
pub struct StatusArgs {
    /// Registration id, or a document as its hash, CID or file
    #[arg(value_name = "ID-OR-HASH-OR-FILE")]
    pub target: OsString,
    /// Only this case of the document
    #[arg(long, value_name = "ID")]
    pub case: Option<CaseId>,
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

#[derive(Args, Debug)]
pub struct WatchArgs {
    /// Registration id
    #[arg(value_parser = parse_registration_id)]
    pub id: Uuid,
    /// State to stop at
    #[arg(long, value_name = "LEVEL", default_value = "confirmed")]
    pub until: WaitForArg,
    /// Skip revisions up to this one, to continue an earlier watch
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    pub after_revision: i64,
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

#[derive(Args, Debug)]
pub struct ListArgs {
    /// Only these states, separated by commas or given repeatedly
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    pub state: Vec<StateArg>,
    /// Only this case
    #[arg(long, value_name = "ID")]
    pub case: Option<CaseId>,
    /// Only this document, as its hash, CID or file
    #[arg(long, value_name = "HASH-OR-FILE")]
    pub hash: Option<OsString>,
    /// Maximum number of registrations
    #[arg(long, visible_alias = "page-size", value_name = "N", default_value_t = 50,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub limit: u32,
    /// Continue an earlier list that had the same filters
    #[arg(long, value_name = "TOKEN")]
    pub page_token: Option<String>,
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// The document: a file, its sha2-256, or an IPFS CID with that digest
    #[arg(value_name = "FILE-OR-HASH")]
    pub document: OsString,
    /// Case id
    #[arg(long, value_name = "ID")]
    pub case: CaseId,
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// Registration id
    #[arg(value_parser = parse_registration_id)]
    pub id: Uuid,
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

#[derive(Args, Debug)]
pub struct InfoArgs {
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitForArg {
    /// Stored on the server's disk; survives a crash
    Accepted,
    /// A node has accepted the transaction
    Submitted,
    /// In a block
    Included,
    /// In a block at the server's confirmation depth
    Confirmed,
    /// The block's data is on Ethereum
    Safe,
    /// That Ethereum block is final
    Finalized,
}

impl From<WaitForArg> for WaitFor {
    fn from(level: WaitForArg) -> Self {
        match level {
            WaitForArg::Accepted => Self::Accepted,
            WaitForArg::Submitted => Self::Submitted,
            WaitForArg::Included => Self::Included,
            WaitForArg::Confirmed => Self::Confirmed,
            WaitForArg::Safe => Self::Safe,
            WaitForArg::Finalized => Self::Finalized,
        }
    }
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum StateArg {
    /// Accepted, not sent yet
    Queued,
    /// A node has accepted the transaction
    Submitted,
    /// In a block that is not at the confirmation depth yet
    Included,
    /// In a block at the confirmation depth
    Confirmed,
    /// Cannot succeed without a fix
    Failed,
}

impl From<StateArg> for State {
    fn from(state: StateArg) -> Self {
        match state {
            StateArg::Queued => Self::Queued,
            StateArg::Submitted => Self::Submitted,
            StateArg::Included => Self::Included,
            StateArg::Confirmed => Self::Confirmed,
            StateArg::Failed => Self::Failed,
        }
    }
}

const HASH_HEX_DIGITS: usize = 64;

pub(super) fn registration_id_description(invocation: &Invocation) -> String {
    format!("registration id (a UUID, as `{}` shows it)", invocation.local_command("list"))
}

/// The text is not repeated in the error: it may be a private key.
fn parse_registration_id(text: &str) -> Result<Uuid, String> {
    let invocation = Invocation::from_process();
    text.parse().map_err(|_| {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let is_hash = digits.len() == HASH_HEX_DIGITS && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let hint = if is_hash {
            let (status, list) =
                (invocation.local_command("status"), invocation.local_command("list --json --limit 10000"));
            format!(
                "; it looks like a hash: `{status} HASH` finds the registrations of a document, `{list} | grep HASH` \
                 those of a transaction"
            )
        } else {
            String::new()
        };
        format!("not a {}{hint}", registration_id_description(&invocation))
    })
}

fn parse_user_id(text: &str) -> Result<UserId, String> {
    match UserId::parse_optional(text) {
        Ok(Some(user)) => Ok(user),
        Ok(None) => Err("is empty".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
