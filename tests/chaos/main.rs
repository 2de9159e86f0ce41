//! `make torture`: kills the built service at random moments under load while the chain and its endpoints fail, and
//! then audits chain against store. Exits with 1 if a registration was lost, duplicated or stuck, or if a limit was
//! missed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::wildcard_enum_match_arm, clippy::result_large_err)]

#[allow(dead_code, unused_imports)]
#[path = "../it/harness/mod.rs"]
mod harness;
#[path = "mod.rs"]
mod runner;

use clap::{CommandFactory, Parser, ValueEnum, error::ErrorKind};
use runner::{Engine, Outcome, Plan, run};
use std::{fs, path::PathBuf, process::ExitCode, time::Duration};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

/// Kills the registrar under load and injected faults, then audits chain against store.
#[derive(Parser)]
#[command(name = "make torture", bin_name = "cargo test --test chaos --")]
struct Args {
    /// Database engine of the service; `both` runs one after the other
    #[arg(long, value_enum, default_value_t = Engines::Both)]
    engine: Engines,
    /// Number of service processes; more than one needs PostgreSQL
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=4))]
    replicas: u8,
    /// Number of kills
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    kills: usize,
    /// How long faults are injected
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Seed of an earlier run, to repeat its faults
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Directory that keeps all logs and the database, also when the run passes
    #[arg(long, value_name = "DIRECTORY")]
    keep: Option<PathBuf>,
    /// Print one JSON object for each engine instead of a table
    #[arg(long)]
    json: bool,
}

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
        let message = "several replicas need --engine postgres: one process owns an SQLite file";
        Args::command().error(ErrorKind::ArgumentConflict, message).exit();
    }
    let mut interrupted = signal(SignalKind::interrupt()).unwrap();
    let mut terminated = signal(SignalKind::terminate()).unwrap();
    // However this ends, dropping the run kills the node and the service that it started.
    tokio::select! {
        passes = run_engines(&args) => if passes { ExitCode::SUCCESS } else { ExitCode::FAILURE },
        _ = interrupted.recv() => ExitCode::from(130),
        _ = terminated.recv() => ExitCode::from(143),
    }
}

/// Runs each engine; true when every check passes.
async fn run_engines(args: &Args) -> bool {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..=u64::from(u32::MAX)));
    let mut all_pass = true;
    for engine in args.engine.all() {
        let (time, replicas) = (Duration::from_secs(args.seconds), usize::from(args.replicas));
        let plan = Plan { engine: *engine, seed, time, kills: args.kills, replicas };
        eprintln!(
            "chaos: {} kills of {replicas} processes on {engine:?} in {} s, seed {seed} (--seed {seed} repeats the \
             faults)",
            plan.kills, args.seconds
        );
        // The logs survive a panic or an interrupt.
        let mut directory = log_directory(args, seed);
        directory.disable_cleanup(true);
        eprintln!("chaos: logs are written to {}", directory.path().display());
        let Outcome { report, findings } = run(&plan, directory.path()).await;
        if args.json {
            println!("{}", report.json());
        } else {
            print!("{report}");
        }
        if !findings.is_empty() {
            eprintln!("chaos: {} violations", findings.len());
        }
        directory.disable_cleanup(args.keep.is_some() || !report.passes());
        if args.keep.is_some() || !report.passes() {
            eprintln!("chaos: logs and an SQLite database are kept in {}", directory.path().display());
        }
        all_pass &= report.passes();
    }
    all_pass
}

fn log_directory(args: &Args, seed: u64) -> TempDir {
    let mut builder = tempfile::Builder::new();
    let prefix = format!("chaos-{seed}-");
    match &args.keep {
        Some(keep) => {
            fs::create_dir_all(keep).unwrap();
            builder.prefix(&prefix).tempdir_in(keep).unwrap()
        }
        None => builder.prefix(&prefix).tempdir().unwrap(),
    }
}
