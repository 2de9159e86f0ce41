//! `make bench`: measures the service under load and, for comparison, its node alone, in one run on one machine.
//!
//! Absolute figures depend on the machine. The last columns of the table compare each figure with the project's limit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::wildcard_enum_match_arm, clippy::result_large_err)]

mod accept;
mod answer;
mod auth;
mod batches;
mod certificate;
mod changes;
mod compare;
mod connect;
mod cpu_per_call;
mod failover;
mod gas;
mod large_store;
mod seed_database;
// Shared with the tests, which use more of it.
#[allow(dead_code, unused_imports)]
#[path = "../it/harness/mod.rs"]
mod harness;
mod hostile;
mod load;
mod memory;
mod node_baseline;
mod observer;
mod operators;
mod process;
mod rate;
mod report;
mod rpc_calls;
mod signer;
mod stack;
mod telemetry;
mod throughput;
mod tls;
mod upgrade;

use clap::{Parser, ValueEnum};
use report::Report;
use std::{path::PathBuf, process::ExitCode};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};

/// Measures the registrar on a local node and prints each figure with its limit.
#[derive(Parser)]
#[command(name = "make bench", bin_name = "cargo bench --bench registrar --")]
struct Args {
    /// Measure only this section; may be repeated
    #[arg(long, value_name = "ROW")]
    only: Vec<Section>,
    /// Compare throughput and processor time with this build of the binary, in a file named `registrar`
    #[arg(long, value_name = "OLD_BINARY")]
    compare: Option<PathBuf>,
    /// Of the section `hostile`, measure only the attacks whose names contain this
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    attack: String,
    /// Of the section `growth`, finished registrations in the large store
    #[arg(long, value_name = "ROWS", default_value_t = large_store::FINISHED_MANY)]
    finished: u64,
    /// Rounds of each comparison that alternates between variants; 1 by default, 3 with --compare
    #[arg(long, value_name = "ROUNDS", value_parser = clap::value_parser!(u8).range(1..))]
    rounds: Option<u8>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Exit with 1 when a limit is missed
    #[arg(long)]
    strict: bool,
    /// Passed by cargo to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Section {
    /// Registrations on chain per second on SQLite and PostgreSQL, compared with the node's own limit
    Throughput,
    /// Processor time per registration at full load, with many and with few connections
    Cpu,
    /// RPC calls per registration under load, and per minute when idle
    Calls,
    /// Time from a request to its durable acceptance
    Accept,
    /// Calls with a hundred documents: accepted documents per second, and processor time for each
    Batches,
    /// The Connect protocol with JSON over HTTP/1.1: calls per second and processor time, compared with gRPC
    Connect,
    /// The change feed: throughput with readers, time from a commit to a reader, memory of readers that wait
    Changes,
    /// Certificates: time to make one, size, time to verify one
    Certificate,
    /// Time from the confirming block to the answer
    Answer,
    /// Memory with 10,000 registrations in flight
    Memory,
    /// A store with a million finished registrations compared with a thousand, and a start with 10,000 unfinished
    Growth,
    /// A start that upgrades a million registrations of an earlier version
    Upgrade,
    /// The operator page on a store with a million finished registrations: answers, first paint, cost
    Operators,
    /// Gas per document
    Gas,
    /// A primary endpoint that dies or hangs under load
    Failover,
    /// A well-behaved caller under each attack: accept latency and memory, compared with before
    Hostile,
    /// TLS: processor time for a call on a warm connection, compared with plaintext
    Tls,
    /// Authentication: processor time for a call with a token, compared with a call to a service without authentication
    Auth,
    /// A caller at ten times its rate: accept latency of another caller, compared with before
    Rate,
    /// Throughput with a remote signer that takes 100 ms for a signature, compared with a key in memory
    Signer,
    /// All costs of telemetry, compared with the service without it
    Telemetry,
    /// Telemetry: processor time at 200 registrations a second, and the share that is delivered
    TelemetryCpu,
    /// Telemetry: throughput
    TelemetryThroughput,
    /// Telemetry: latency at ten requests a second
    TelemetryLatency,
    /// Telemetry: memory while the receivers accept nothing
    TelemetryMemory,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    if cfg!(debug_assertions) {
        eprintln!("warning: this is a debug build; `cargo bench` makes an optimised one");
    }
    let mut interrupted = signal(SignalKind::interrupt()).unwrap();
    let mut terminated = signal(SignalKind::terminate()).unwrap();
    // However this ends, dropping the measurement kills the node and the service that it started.
    let report = tokio::select! {
        report = measure(&args) => report,
        _ = interrupted.recv() => return ExitCode::from(130),
        _ = terminated.recv() => return ExitCode::from(143),
    };
    if args.json {
        println!("{}", report.json());
    } else {
        print!("{report}");
    }
    if args.strict && !report.passes() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

async fn measure(args: &Args) -> Report {
    let mut report = Report::default();
    let rounds = |default| usize::from(args.rounds.unwrap_or(default));
    if let Some(other) = &args.compare {
        compare::measure(&mut report, other, rounds(3)).await;
    }
    // `--compare` without `--only` measures the comparison alone.
    let all = args.only.is_empty() && args.compare.is_none();
    let sections = Section::value_variants().iter().filter(|section| **section != Section::Telemetry);
    for section in sections {
        let of_telemetry = section.is_of_telemetry() && args.only.contains(&Section::Telemetry);
        if all || args.only.contains(section) || of_telemetry {
            let started = Instant::now();
            section.measure(args, rounds(1), &mut report).await;
            let name = section.to_possible_value().unwrap();
            report.note(format!("section {}: {:.0} s", name.get_name(), started.elapsed().as_secs_f64()));
        }
    }
    report
}

impl Section {
    /// Whether [`Section::Telemetry`] includes it.
    fn is_of_telemetry(self) -> bool {
        matches!(self, Self::TelemetryCpu | Self::TelemetryThroughput | Self::TelemetryLatency | Self::TelemetryMemory)
    }

    async fn measure(self, args: &Args, rounds: usize, report: &mut Report) {
        match self {
            Self::Throughput => throughput::measure(report).await,
            Self::Cpu => compare::cpu(report, rounds).await,
            Self::Calls => throughput::calls(report).await,
            Self::Accept => accept::measure(report).await,
            Self::Batches => batches::measure(report, rounds).await,
            Self::Connect => connect::measure(report, rounds).await,
            Self::Changes => changes::measure(report, rounds).await,
            Self::Certificate => certificate::measure(report).await,
            Self::Answer => answer::measure(report).await,
            Self::Memory => memory::measure(report).await,
            Self::Growth => large_store::measure(report, args.finished, rounds).await,
            Self::Upgrade => upgrade::measure(report).await,
            Self::Operators => operators::measure(report).await,
            Self::Gas => gas::measure(report).await,
            Self::Failover => failover::measure(report).await,
            Self::Hostile => hostile::measure(report, &args.attack).await,
            Self::Tls => tls::measure(report, rounds).await,
            Self::Auth => auth::measure(report, rounds).await,
            Self::Rate => rate::measure(report, rounds).await,
            Self::Signer => signer::measure(report, rounds).await,
            // Stands for the sections of telemetry.
            Self::Telemetry => {}
            Self::TelemetryCpu => telemetry::cpu(report, rounds).await,
            Self::TelemetryThroughput => telemetry::throughput(report, rounds).await,
            Self::TelemetryLatency => telemetry::latency(report, rounds).await,
            Self::TelemetryMemory => telemetry::memory(report).await,
        }
    }
}
