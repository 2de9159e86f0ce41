//! What can be asked for on the command line. Secrets are never arguments.

use super::{
    help,
    invocation::{self, Invocation},
};
use crate::{
    api::proto::{State, WaitFor},
    config::{NetworkArgs, ServeArgs},
    registration::{CaseId, UserId},
};
use alloy::primitives::Address;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{ffi::OsString, path::PathBuf, time::Duration};
use uuid::Uuid;

/// Registers document hashes on Base Sepolia over gRPC, and knows what happened.
#[derive(Parser, Debug)]
#[command(name = "registrar", version, max_term_width = 80, after_help = help::TOP, subcommand_required = true,
          arg_required_else_help = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

/// One command.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the service
    #[command(after_help = help::SERVE)]
    Serve(Box<ServeArgs>),
    /// Try it on this machine: a chain, the contract and the service
    #[command(after_help = help::DEV)]
    Dev(Box<DevArgs>),
    /// Deploy the DocumentRegistry contract and print its address
    ///
    /// The first signer pays for it and owns it, unless --owner names another; every signer is allowed to register.
    #[command(after_help = help::DEPLOY)]
    Deploy(DeployArgs),
    /// A command that talks to a running service.
    #[command(flatten)]
    Client(ClientCommand),
}

/// The commands that talk to a running service.
#[derive(Subcommand, Debug)]
pub enum ClientCommand {
    /// Register a document for a case, and wait until the chain has it
    ///
    /// Registering the same document for the same case again is safe: it answers with the same registration.
    #[command(after_help = help::REGISTER)]
    Register(RegisterArgs),
    /// Show where a registration stands, or every case of a document
    #[command(after_help = help::STATUS)]
    Status(StatusArgs),
    /// Follow a registration until it is confirmed
    #[command(after_help = help::WATCH)]
    Watch(WatchArgs),
    /// List registrations, newest first
    #[command(after_help = help::LIST)]
    List(ListArgs),
    /// Ask the chain itself: is this document registered for this case?
    #[command(after_help = help::VERIFY)]
    Verify(VerifyArgs),
    /// Say why a registration is not confirmed, with the numbers of now
    #[command(after_help = help::EXPLAIN)]
    Explain(ExplainArgs),
    /// Show the server's version, network, contract, signers and rules
    Info(InfoArgs),
}

/// Which server, and for whom the answer is.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Connection")]
pub struct ConnectionArgs {
    /// The service's gRPC address
    #[arg(long, env = "REGISTRAR_SERVER", value_name = "URL", default_value = invocation::DEFAULT_SERVER)]
    pub server: String,
    /// Print one JSON object a line (protobuf's canonical JSON; an error is {"error":{…}}) instead of text
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `registrar deploy`.
#[derive(Args, Debug)]
pub struct DeployArgs {
    /// Who owns the contract: the account that may allow and remove registrars [default: the first signer]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_owner)]
    pub owner: Option<Address>,
    /// The chain to deploy on.
    #[command(flatten)]
    pub network: NetworkArgs,
}

/// The arguments of `registrar dev`.
#[derive(Args, Debug)]
pub struct DevArgs {
    /// Register this file, print its waterfall, and leave
    #[arg(long, value_name = "FILE", help_heading = "Demonstration")]
    pub once: Option<PathBuf>,
    /// The case that --once registers the file for
    #[arg(long, value_name = "ID", default_value = "DEMO-1", help_heading = "Demonstration")]
    pub case: CaseId,
    /// Seconds between two blocks of anvil
    #[arg(long, value_name = "SECS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600),
          help_heading = "Demonstration")]
    pub block_time: u64,
    /// What the service takes; network, contract, signers and database are set by `dev` itself.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// The arguments of `registrar register`.
#[derive(Args, Debug)]
pub struct RegisterArgs {
    /// The document: a file, its sha2-256 (64 hex digits, 0x allowed), or an IPFS CID with that digest
    #[arg(value_name = "FILE-OR-HASH")]
    pub document: OsString,
    /// The case it belongs to. It becomes public on chain: never personal data
    #[arg(long, value_name = "ID")]
    pub case: CaseId,
    /// How far to wait
    #[arg(long, value_name = "LEVEL", default_value = "confirmed")]
    pub wait_for: WaitForArg,
    /// How long to wait at most, as 30s or 2m. It ends the call, never the work [default: the server's]
    #[arg(long, value_name = "DURATION", value_parser = parse_wait_timeout)]
    pub wait_timeout: Option<Duration>,
    /// Your opaque id of the end user, kept with the registration; never an e-mail address
    #[arg(long, value_name = "ID", value_parser = parse_user_id)]
    pub user_id: Option<UserId>,
    /// Which server.
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

/// The arguments of `registrar status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// A registration's id, or a document: its hash, its CID or the file
    #[arg(value_name = "ID-OR-HASH-OR-FILE")]
    pub target: OsString,
    /// Of a document, only this case
    #[arg(long, value_name = "ID")]
    pub case: Option<CaseId>,
    /// Which server.
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

/// The arguments of `registrar watch`.
#[derive(Args, Debug)]
pub struct WatchArgs {
    /// The registration's id
    #[arg(value_parser = parse_registration_id)]
    pub id: Uuid,
    /// Where to stop
    #[arg(long, value_name = "LEVEL", default_value = "confirmed")]
    pub until: WaitForArg,
    /// Leave out every revision up to this one, to go on where another watch ended
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    pub after_revision: i64,
    /// Which server.
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

/// The arguments of `registrar list`.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// Only these states (repeat it, or separate them by commas)
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    pub state: Vec<StateArg>,
    /// Only this case
    #[arg(long, value_name = "ID")]
    pub case: Option<CaseId>,
    /// Only this document: its hash, its CID or the file
    #[arg(long, value_name = "HASH-OR-FILE")]
    pub hash: Option<OsString>,
    /// At most this many
    #[arg(long, visible_alias = "page-size", value_name = "N", default_value_t = 50,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub limit: u32,
    /// Go on where another list ended, with the same filters
    #[arg(long, value_name = "TOKEN")]
    pub page_token: Option<String>,
    /// Which server.
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

/// The arguments of `registrar verify`.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// The document: a file, its sha2-256, or an IPFS CID with that digest
    #[arg(value_name = "FILE-OR-HASH")]
    pub document: OsString,
    /// The case it should be registered for
    #[arg(long, value_name = "ID")]
    pub case: CaseId,
    /// Which server.
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

/// The arguments of `registrar explain`.
#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// The registration's id
    #[arg(value_parser = parse_registration_id)]
    pub id: Uuid,
    /// Which server.
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

/// The arguments of `registrar info`.
#[derive(Args, Debug)]
pub struct InfoArgs {
    /// Which server.
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

/// How far to wait.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitForArg {
    /// On the server's disk: it will be finished, whatever crashes
    Accepted,
    /// A node has taken the transaction
    Submitted,
    /// In a block
    Included,
    /// In a block that is deep enough for the server
    Confirmed,
    /// The block's data is on Ethereum
    Safe,
    /// The Ethereum block is final
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

/// Where a registration stands.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum StateArg {
    /// Accepted, not sent yet
    Queued,
    /// A node has taken the transaction
    Submitted,
    /// In a block that is not deep enough yet
    Included,
    /// Deep enough
    Confirmed,
    /// Cannot succeed as it stands
    Failed,
}

impl From<StateArg> for State {
    fn from(stand: StateArg) -> Self {
        match stand {
            StateArg::Queued => Self::Queued,
            StateArg::Submitted => Self::Submitted,
            StateArg::Included => Self::Included,
            StateArg::Confirmed => Self::Confirmed,
            StateArg::Failed => Self::Failed,
        }
    }
}

/// Hex digits of a document's or a transaction's hash.
const HASH_HEX_DIGITS: usize = 64;

/// What an id looks like, and where there are some.
pub(super) fn registration_id_description(program: &Invocation) -> String {
    format!("registration id (a UUID, as `{}` shows it)", program.local_command("list"))
}

fn parse_registration_id(text: &str) -> Result<Uuid, String> {
    let program = Invocation::from_process();
    text.parse().map_err(|_| {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let is_hash = digits.len() == HASH_HEX_DIGITS && digits.bytes().all(|b| b.is_ascii_hexdigit());
        // The text is not repeated: it may be a key as well.
        let of_hash = is_hash.then(|| {
            let (status, list) = (program.local_command("status"), program.local_command("list --json --limit 10000"));
            format!(
                ", and looks like a hash: `{status}` takes a document's, and `{list} | grep HASH` finds a transaction's"
            )
        });
        format!("is no {}{}", registration_id_description(&program), of_hash.unwrap_or_default())
    })
}

/// The text is not repeated: somebody may have pasted a key.
fn parse_owner(text: &str) -> Result<Address, &'static str> {
    match text.parse::<Address>() {
        Ok(Address::ZERO) => Err("is the zero address"),
        Ok(address) => Ok(address),
        Err(_) => Err("is no address: 0x and 40 hex digits"),
    }
}

fn parse_wait_timeout(text: &str) -> Result<Duration, &'static str> {
    humantime::parse_duration(text).map_err(|_| "is no duration: give one such as 30s, 1m 30s or 500ms")
}

fn parse_user_id(text: &str) -> Result<UserId, String> {
    match UserId::parse_optional(text) {
        Ok(Some(user)) => Ok(user),
        Ok(None) => Err("is empty".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
