//! `make torture`: kills the built service at random moments under load, in the worst weather that a chain has, and then audits
//! chain against store. Exits with 1 if anything was lost, duplicated or stuck, or a bar was missed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::wildcard_enum_match_arm, clippy::result_large_err)]

// Shared with the tests, which use more of it.
#[allow(dead_code, unused_imports)]
#[path = "../it/harness/mod.rs"]
mod harness;
mod ordeal;

use clap::Parser;
use ordeal::{Outcome, Plan, run};
use std::{fs, path::PathBuf, process::ExitCode, time::Duration};
use tokio::signal::unix::{SignalKind, signal};

/// Kills the registrar under load in bad weather, and audits chain against store.
#[derive(Parser)]
#[command(name = "make torture", bin_name = "cargo test --test torture --")]
struct Args {
    /// How often a process is killed
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    kills: usize,
    /// How long there are troubles
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Repeats the troubles of the run that printed it
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Keep every log and the database here, whatever comes of it
    #[arg(long, value_name = "DIRECTORY")]
    keep: Option<PathBuf>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..=u64::from(u32::MAX)));
    let mut interrupted = signal(SignalKind::interrupt()).unwrap();
    let mut terminated = signal(SignalKind::terminate()).unwrap();
    let plan = Plan { seed, time: Duration::from_secs(args.seconds), kills: args.kills, replicas: 1 };
    eprintln!("torture: {} kills in {} s, seed {seed} (--seed {seed} repeats the troubles)", plan.kills, args.seconds);
    let mut directory = tempfile::Builder::new().prefix(&format!("torture-{seed}-")).tempdir().unwrap();
    if let Some(keep) = &args.keep {
        fs::create_dir_all(keep).unwrap();
        directory = tempfile::Builder::new().prefix(&format!("torture-{seed}-")).tempdir_in(keep).unwrap();
    }
    // Whichever way this ends, dropping the run kills the node and the service that it started.
    let Outcome { report, findings } = tokio::select! {
        outcome = run(&plan, directory.path()) => outcome,
        _ = interrupted.recv() => return ExitCode::from(130),
        _ = terminated.recv() => return ExitCode::from(143),
    };
    if args.json {
        println!("{}", report.json());
    } else {
        print!("{report}");
    }
    if !findings.is_empty() {
        eprintln!("torture: {} things are not as they must be", findings.len());
    }
    if args.keep.is_some() || !report.passes() {
        eprintln!("torture: the logs and the database are in {}", directory.keep().display());
    }
    if report.passes() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
