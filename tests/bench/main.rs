//! `make bench`: the service under load, beside what its node can do alone, in one run on one machine.
//!
//! Absolute figures belong to the machine they were measured on. What counts is the table's last columns: each figure against
//! the bar that the project holds itself to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::wildcard_enum_match_arm, clippy::result_large_err)]

mod accept;
mod answer;
mod failover;
mod fill;
mod gas;
mod growth;
// Shared with the tests, which use more of it.
#[allow(dead_code, unused_imports)]
#[path = "../it/harness/mod.rs"]
mod harness;
mod load;
mod memory;
mod observer;
mod process;
mod raw;
mod report;
mod rpc_calls;
mod stack;
mod telemetry;
mod throughput;

use clap::{Parser, ValueEnum};
use report::Report;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Measures the registrar on a local node and prints each figure beside its bar.
#[derive(Parser)]
#[command(name = "make bench", bin_name = "cargo bench --bench registrar --")]
struct Args {
    /// Measure this alone; may be given several times
    #[arg(long, value_name = "ROW")]
    only: Vec<Section>,
    /// How often whatever is compared with itself takes turns
    #[arg(long, value_name = "ROUNDS", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Exit with 1 when a bar is missed
    #[arg(long)]
    strict: bool,
    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// What can be measured by itself.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Section {
    /// Registrations on chain per second on SQLite and on PostgreSQL, beside the node's own limit
    Throughput,
    /// RPC calls per registration under load, and per minute with nothing to do
    Calls,
    /// From a request to the answer that it is on disk
    Accept,
    /// From the block that confirms to the answer
    Answer,
    /// Memory with 10,000 registrations in flight
    Memory,
    /// A million finished registrations in the store, beside a thousand; and a start with 10,000 unfinished
    Growth,
    /// Gas per document
    Gas,
    /// A primary endpoint that dies or hangs under load
    Failover,
    /// Everything that telemetry costs, beside the service without it
    Telemetry,
    /// Of that, processor time at 200 registrations a second, and whether all of it is delivered
    TelemetryCpu,
    /// Of that, throughput
    TelemetryThroughput,
    /// Of that, latency at ten requests a second
    TelemetryLatency,
    /// Of that, memory while nobody takes what is sent
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
    // Whichever way this ends, dropping the measurement kills the node and the service that it started.
    let report = tokio::select! {
        report = measure(&args.only, usize::from(args.rounds)) => report,
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

async fn measure(only: &[Section], rounds: usize) -> Report {
    let wanted = |section| only.is_empty() || only.contains(&section);
    let mut report = Report::default();
    if wanted(Section::Gas) {
        gas::measure(&mut report).await;
    }
    if wanted(Section::Accept) {
        accept::measure(&mut report).await;
    }
    if wanted(Section::Answer) {
        answer::measure(&mut report).await;
    }
    if wanted(Section::Memory) {
        memory::measure(&mut report).await;
    }
    if wanted(Section::Growth) {
        growth::measure(&mut report, rounds).await;
    }
    if wanted(Section::Failover) {
        failover::measure(&mut report).await;
    }
    let (throughput, calls) = (wanted(Section::Throughput), wanted(Section::Calls));
    if throughput || calls {
        throughput::measure(&mut report, throughput, calls).await;
    }
    let of_telemetry = |section| wanted(Section::Telemetry) || wanted(section);
    if of_telemetry(Section::TelemetryCpu) {
        telemetry::cpu(&mut report, rounds).await;
    }
    if of_telemetry(Section::TelemetryThroughput) {
        telemetry::throughput(&mut report, rounds).await;
    }
    if of_telemetry(Section::TelemetryLatency) {
        telemetry::latency(&mut report, rounds).await;
    }
    if of_telemetry(Section::TelemetryMemory) {
        telemetry::memory(&mut report).await;
    }
    report
}
