//! Commands and their arguments. The doc comments are the help texts. Secrets are never arguments.

use super::{
    arg_values::{CaseFrom, FinalityArg, StateArg, WaitForArg},
    callers::{CallersCommand, TokenCommand},
    help,
    invocation::Invocation,
    time,
};
pub use super::{
    connection_args::ConnectionArgs,
    healthcheck::HealthcheckArgs,
    verify_args::{VerifyArgs, VerifyCertificateArgs},
};
use crate::{
    config::{ContractArgs, NetworkArgs, ServeArgs, parse_address, parse_duration},
    registration::{CaseId, UserId},
};
use alloy::primitives::Address;
use clap::{Args, Parser, Subcommand};
use prost_types::Timestamp;
use std::{ffi::OsString, path::PathBuf, time::Duration};

/// Registers document hashes on Base Sepolia and tracks each one until it is final.
#[derive(Parser, Debug)]
#[command(name = "registrar", version = env!("REGISTRAR_VERSION"), max_term_width = 80, after_help = help::TOP, subcommand_required = true,
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
    /// Ask the service on this machine whether it is ready, for containers without a shell
    #[command(after_help = help::HEALTHCHECK)]
    Healthcheck(HealthcheckArgs),
    /// Run a local stack for development: chain, contract and service
    #[command(after_help = help::DEV)]
    Dev(Box<DevArgs>),
    /// Deploy the DocumentRegistry contract and print its address
    ///
    /// The first signer pays for it, and owns it unless --owner names another account. Every signer may register.
    #[command(after_help = help::DEPLOY)]
    Deploy(DeployArgs),
    /// Make a token for a caller
    #[command(subcommand, after_help = help::TOKEN)]
    Token(TokenCommand),
    /// Check a callers file
    #[command(subcommand)]
    Callers(CallersCommand),
    /// Make a signer, or show the addresses of signers
    #[command(subcommand)]
    Signer(SignerCommand),
    /// Allow an account to register
    ///
    /// Sent by the contract's owner, who has to be one of the configured signers.
    #[command(after_help = help::ALLOW)]
    Allow(RegistrarArgs),
    /// Take the permission to register from an account; what it registered stays
    ///
    /// Sent by the contract's owner, who has to be one of the configured signers.
    #[command(after_help = help::REVOKE)]
    Revoke(RegistrarArgs),
    /// Show the contract's owner, or hand the contract over to a new one
    #[command(after_help = help::OWNER)]
    Owner(OwnerArgs),
    /// Print a script that completes commands and options in a shell
    #[command(after_help = help::COMPLETIONS)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, of the program or of a command
    #[command(after_help = help::MAN)]
    Man {
        /// A command, for example `register` or `signer new` [default: the program]
        command: Vec<String>,
    },
    /// A command that calls a running service.
    #[command(flatten)]
    Client(ClientCommand),
}

#[derive(Subcommand, Debug)]
pub enum ClientCommand {
    /// Register documents for a case and wait until they are confirmed
    ///
    /// Registering the same document for the same case again is safe: it returns the same registration.
    #[command(after_help = help::REGISTER)]
    Register(Box<RegisterArgs>),
    /// Show a registration, or every case of a document
    #[command(after_help = help::STATUS)]
    Status(StatusArgs),
    /// Follow a registration until it is confirmed
    #[command(after_help = help::WATCH)]
    Watch(WatchArgs),
    /// List registrations, newest first
    #[command(after_help = help::LIST)]
    List(Box<ListArgs>),
    /// Show what changed, of all registrations, and follow further changes
    #[command(after_help = help::CHANGES)]
    Changes(ChangesArgs),
    /// Check on the chain whether a document is registered for a case, or check a certificate without a server
    #[command(after_help = help::VERIFY)]
    Verify(Box<VerifyArgs>),
    /// Get a file that proves a registration without this server
    #[command(after_help = help::CERTIFICATE)]
    Certificate(CertificateArgs),
    /// Explain why a registration is not confirmed yet, with current evidence
    #[command(after_help = help::EXPLAIN)]
    Explain(ExplainArgs),
    /// Show the server's version, network, contract, limits and queue, the balances of its signers and the states of its
    /// endpoints
    Info(InfoArgs),
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

/// `registrar signer`.
#[derive(Subcommand, Debug)]
pub enum SignerCommand {
    /// Make a key, write it to an encrypted keystore, and print its address
    #[command(after_help = help::SIGNER_NEW)]
    New(NewSignerArgs),
    /// Print the addresses of the configured signers
    #[command(after_help = help::SIGNER_ADDRESS)]
    Address(SignerAddressArgs),
}

#[derive(Args, Debug)]
pub struct NewSignerArgs {
    /// File to create; an existing one is never overwritten
    #[arg(long, value_name = "PATH")]
    pub keystore: PathBuf,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct SignerAddressArgs {
    /// Only this signer, as an entry of REGISTRAR_SIGNERS
    #[arg(value_name = "URI")]
    pub uri: Option<String>,
    /// Print one JSON object per line
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `registrar allow` and `registrar revoke`.
#[derive(Args, Debug)]
pub struct RegistrarArgs {
    /// The account
    #[arg(value_name = "ADDRESS", value_parser = parse_address)]
    pub account: Address,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub contract: ContractArgs,
}

#[derive(Args, Debug)]
pub struct OwnerArgs {
    /// Offer the contract to this account, and accept it if the account is one of the configured signers
    #[arg(value_name = "NEW_OWNER", value_parser = parse_address)]
    pub new_owner: Option<Address>,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub contract: ContractArgs,
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
    /// The documents: files, `-` for standard input, sha2-256 hashes (64 hex digits, 0x allowed), or IPFS CIDs with
    /// such a digest
    #[arg(value_name = "FILE-OR-HASH", required_unless_present = "from")]
    pub documents: Vec<OsString>,
    /// Case id. It is public on chain forever: never use personal data
    #[arg(long, value_name = "ID", required_unless_present = "case_from")]
    pub case: Option<CaseId>,
    /// Take the case of each file from its path, instead of --case
    #[arg(long, value_name = "PART", conflicts_with = "case", help_heading = "Many documents")]
    pub case_from: Option<CaseFrom>,
    /// Register every file in the given folders and below
    #[arg(short, long, help_heading = "Many documents")]
    pub recursive: bool,
    /// Register the hashes in a file, or in standard input (`-`), with lines as `sha256sum` prints them
    #[arg(long, value_name = "LIST", help_heading = "Many documents")]
    pub from: Option<PathBuf>,
    /// Register empty files too: almost always they are failed exports
    #[arg(long)]
    pub allow_empty: bool,
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

impl RegisterArgs {
    /// Whether the command shows the steps of one registration, and not a summary of many.
    pub(super) fn names_one_document(&self) -> bool {
        self.documents.len() == 1 && self.from.is_none() && !self.recursive
    }
}

/// Which registration.
#[derive(Args, Debug)]
pub struct TargetArgs {
    /// Registration id, or a document as its hash, CID or file
    #[arg(value_name = "ID-OR-HASH-OR-FILE")]
    pub target: OsString,
    /// This case of the document
    #[arg(long, value_name = "ID")]
    pub case: Option<CaseId>,
}

#[derive(Args, Debug)]
pub struct StatusArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

#[derive(Args, Debug)]
pub struct WatchArgs {
    #[command(flatten)]
    pub target: TargetArgs,
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
    /// Only this end user, as register --user-id has named it
    #[arg(long, value_name = "ID", value_parser = parse_user_id)]
    pub user: Option<UserId>,
    /// Only those blocked for these reasons, such as FEE_CAP, separated by commas or given repeatedly
    #[arg(long, value_name = "REASON", value_delimiter = ',')]
    pub blocked: Vec<String>,
    /// Only those accepted at this time or later: 2026-11-30, 2026-11-30T08:00:00Z, or 2h for two hours ago
    #[arg(long, value_name = "TIME", value_parser = time::parse_time)]
    pub since: Option<Timestamp>,
    /// Only those accepted before this time
    #[arg(long, value_name = "TIME", value_parser = time::parse_time)]
    pub until: Option<Timestamp>,
    /// Only those that this transaction carries
    #[arg(long, value_name = "HASH")]
    pub transaction: Option<String>,
    /// Only what this caller has asked for; needs a caller with the scope admin
    #[arg(long, value_name = "NAME")]
    pub caller: Option<String>,
    /// The oldest first
    #[arg(long)]
    pub oldest: bool,
    /// Whole hashes, the transaction and the end user
    #[arg(long, conflicts_with = "json")]
    pub wide: bool,
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
pub struct ChangesArgs {
    /// Changes after this cursor, which an earlier run printed [default: from now on]
    #[arg(long, value_name = "CURSOR", conflicts_with = "from_beginning")]
    pub from: Option<String>,
    /// Begin with every registration there is, in the order of their latest changes
    #[arg(long)]
    pub from_beginning: bool,
    /// Only changes to these states, separated by commas or given repeatedly
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    pub state: Vec<StateArg>,
    /// Only this case
    #[arg(long, value_name = "ID")]
    pub case: Option<CaseId>,
    /// Wait for further changes, until Ctrl-C; opens the stream again when the server restarts
    #[arg(long)]
    pub follow: bool,
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

#[derive(Args, Debug)]
pub struct CertificateArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// File to write, or `-` for standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// How final the block of the certificate has to be
    #[arg(long, value_name = "LEVEL", default_value = "finalized")]
    pub min_finality: FinalityArg,
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

#[derive(Args, Debug)]
pub struct ExplainArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

#[derive(Args, Debug)]
pub struct InfoArgs {
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

pub(super) fn registration_id_description(invocation: &Invocation) -> String {
    format!("registration id (a UUID, as `{}` shows it)", invocation.local_command("list"))
}

fn parse_user_id(text: &str) -> Result<UserId, String> {
    match UserId::parse_optional(text) {
        Ok(Some(user)) => Ok(user),
        Ok(None) => Err("is empty".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
