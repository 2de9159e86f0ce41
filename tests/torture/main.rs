//! `make torture`: kills the built service at random moments under load, in the worst weather that a chain has, and then audits
//! chain against store. Exits with 1 if anything was lost, duplicated or stuck, or a bar was missed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::wildcard_enum_match_arm, clippy::result_large_err)]

// Shared with the tests, which use more of it.
#[allow(dead_code, unused_imports)]
#[path = "../it/harness/mod.rs"]
mod harness;
mod ordeal;

use clap::{CommandFactory, Parser, ValueEnum, error::ErrorKind};
use ordeal::{Engine, Outcome, Plan, run};
use std::{fs, path::PathBuf, process::ExitCode, time::Duration};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

/// Kills the registrar under load in bad weather, and audits chain against store.
#[derive(Parser)]
#[command(name = "make torture", bin_name = "cargo test --test torture --")]
struct Args {
    /// Where the service keeps what it accepts; both, one after the other
    #[arg(long, value_enum, default_value_t = Engines::Both)]
    engine: Engines,
    /// How many processes share the work; several need PostgreSQL
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=4))]
    replicas: u8,
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
    /// Print one JSON object for each engine instead of a table
    #[arg(long)]
    json: bool,
}

/// Which engines are tortured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Engines {
    Sqlite,
    Postgres,
    Both,
}

impl Engines {
    fn all(self) -> &'static [Engine] {
        match self {
            Self::Sqlite => &[Engine::Sqlite],
            Self::Postgres => &[Engine::Postgres],
            Self::Both => &[Engine::Sqlite, Engine::Postgres],
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    if args.replicas > 1 && args.engine != Engines::Postgres {
        let told = "several replicas need --engine postgres: a file belongs to one process";
        Args::command().error(ErrorKind::ArgumentConflict, told).exit();
    }
    let mut interrupted = signal(SignalKind::interrupt()).unwrap();
    let mut terminated = signal(SignalKind::terminate()).unwrap();
    // Whichever way this ends, dropping the run kills the node and the service that it started.
    tokio::select! {
        passes = torture(&args) => if passes { ExitCode::SUCCESS } else { ExitCode::FAILURE },
        _ = interrupted.recv() => ExitCode::from(130),
        _ = terminated.recv() => ExitCode::from(143),
    }
}

/// Does it to each engine, and says whether all is as it must be.
async fn torture(args: &Args) -> bool {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..=u64::from(u32::MAX)));
    let mut all_pass = true;
    for engine in args.engine.all() {
        let (time, replicas) = (Duration::from_secs(args.seconds), usize::from(args.replicas));
        let plan = Plan { engine: *engine, seed, time, kills: args.kills, replicas };
        eprintln!(
            "torture: {} kills of {replicas} processes on {engine:?} in {} s, seed {seed} (--seed {seed} repeats the troubles)",
            plan.kills, args.seconds
        );
        // What is there stays when this panics or is interrupted.
        let mut directory = place(args, seed);
        directory.disable_cleanup(true);
        eprintln!("torture: the logs go to {}", directory.path().display());
        let Outcome { report, findings } = run(&plan, directory.path()).await;
        if args.json {
            println!("{}", report.json());
        } else {
            print!("{report}");
        }
        if !findings.is_empty() {
            eprintln!("torture: {} things are not as they must be", findings.len());
        }
        directory.disable_cleanup(args.keep.is_some() || !report.passes());
        if args.keep.is_some() || !report.passes() {
            eprintln!("torture: the logs, and the database if it is a file, are in {}", directory.path().display());
        }
        all_pass &= report.passes();
    }
    all_pass
}

/// Where the logs go.
fn place(args: &Args, seed: u64) -> TempDir {
    let mut builder = tempfile::Builder::new();
    let prefix = format!("torture-{seed}-");
    match &args.keep {
        Some(keep) => {
            fs::create_dir_all(keep).unwrap();
            builder.prefix(&prefix).tempdir_in(keep).unwrap()
        }
        None => builder.prefix(&prefix).tempdir().unwrap(),
    }
}
