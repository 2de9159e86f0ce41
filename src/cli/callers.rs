//! The commands for callers of the service: a token for one, and a check of the file of all.

use super::{
    exit::{Exit, print_error},
    help,
};
use crate::{
    auth::{Callers, NewToken},
    registration::CallerName,
};
use clap::Subcommand;
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Subcommand, Debug)]
pub enum TokenCommand {
    /// Print a fresh token, once, and the entry for the callers file
    #[command(after_help = help::TOKEN)]
    New {
        /// Name of the caller: 1 to 63 characters of a-z, 0-9 and -
        name: CallerName,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand, Debug)]
pub enum CallersCommand {
    /// Report every fault of a callers file; the service does the same when it starts
    Check {
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Runs `registrar token`.
pub fn token(command: &TokenCommand) -> Exit {
    let TokenCommand::New { name, json } = command;
    match NewToken::generate() {
        Ok(token) => {
            println!("{}", if *json { token_json(name, &token) } else { token_text(name, &token) });
            Exit::Done
        }
        Err(error) => print_error(&error, Exit::Failed),
    }
}

fn token_json(name: &CallerName, token: &NewToken) -> String {
    json!({"name": name.as_str(), "token": token.token, "hash": token.hash}).to_string()
}

fn token_text(name: &CallerName, NewToken { token, hash }: &NewToken) -> String {
    format!(
        "Token of {name}, shown once; the caller keeps it secret:

  {token}

Entry for the callers file, which holds its hash alone:

  [[callers]]
  name = \"{name}\"
  tokens = [\"{hash}\"]
  scopes = [\"register\", \"read\", \"verify\"]"
    )
}

/// Runs `registrar callers`.
pub fn callers(command: &CallersCommand) -> Exit {
    let CallersCommand::Check { file, json } = command;
    check(file, *json)
}

fn check(file: &Path, json: bool) -> Exit {
    match Callers::read(file) {
        Ok(callers) => {
            let count = callers.count();
            println!("{}", if json { json!({"callers": count}).to_string() } else { format!("ok: {count} callers") });
            Exit::Done
        }
        Err(error) if json => {
            println!("{}", json!({"faults": error.faults()}));
            Exit::UsageError
        }
        Err(error) => {
            eprintln!("{}: {} faults:", file.display(), error.faults().len());
            error.faults().iter().for_each(|fault| eprintln!("  {fault}"));
            Exit::UsageError
        }
    }
}
