//! The built service compared with another build of it, such as that of an earlier commit.
//!
//! The two alternate, because the machine's other load varies: each round has one ratio, and the median counts.

use crate::{
    harness::{
        Database,
        service::{command, command_of},
    },
    report::{Bar, Report, progress},
    stack::{BenchChain, BenchStack},
    throughput::{Load, under_load},
};
use std::{path::Path, process::Command, time::Duration};

/// Lost throughput or added processor time that is still explained by noise.
const TOLERANCE: f64 = 0.03;
const TIME: Duration = Duration::from_secs(6);
/// Of 64 clients. What shares a connection shares the reads and writes of its socket.
const CONNECTIONS: [usize; 2] = [64, 4];
/// Microseconds per registration, for each number of connections.
const CPU_BARS: [f64; 2] = [62.0, 50.0];

struct Turn {
    /// On chain, per second.
    rate: f64,
    /// In microseconds per registration; NaN without /proc.
    cpu: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Engine {
    Sqlite,
    Postgres,
}

impl Engine {
    fn connections(self) -> &'static [usize] {
        match self {
            Self::Sqlite => &CONNECTIONS,
            Self::Postgres => &CONNECTIONS[..1],
        }
    }

    /// Before the name of a row.
    fn prefix(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => "PostgreSQL: ",
        }
    }
}

/// Throughput and processor time per registration at full load without telemetry, as ratios to the `other` build.
///
/// The file has to be named `registrar`: the process is found by that name.
pub async fn measure(report: &mut Report, other: &Path, rounds: usize) {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        measure_on(engine, report, other, rounds).await;
    }
}

async fn measure_on(engine: Engine, report: &mut Report, other: &Path, rounds: usize) {
    let mut turns = Vec::new();
    for round in 0..rounds {
        // The position in a round affects the result.
        let other_first = round.is_multiple_of(2);
        let first = if other_first { command_of(other) } else { command() };
        let second = if other_first { command() } else { command_of(other) };
        let (first, second) = (turn(engine, first, report).await, turn(engine, second, report).await);
        turns.push(if other_first { (first, second) } else { (second, first) });
    }
    for (position, connections) in engine.connections().iter().enumerate() {
        let ratios = |of: fn(&Turn) -> f64| {
            turns.iter().map(|(old, new)| of(&new[position]) / of(&old[position])).collect::<Vec<_>>()
        };
        let name = |what| format!("{}{what} / other build, {connections} connections", engine.prefix());
        let (rates, cpus) = (ratios(|turn| turn.rate), ratios(|turn| turn.cpu));
        report.median(name("throughput"), &rates, "", Some(Bar::AtLeast(1.0 - TOLERANCE)));
        report.median(name("CPU per registration"), &cpus, "", Some(Bar::AtMost(1.0 + TOLERANCE)));
    }
}

/// The service's processor time per registration at full load, without telemetry.
pub async fn cpu(report: &mut Report, rounds: usize) {
    let mut turns = Vec::new();
    for _ in 0..rounds {
        turns.push(turn(Engine::Sqlite, command(), report).await);
    }
    for (position, (connections, bar)) in CONNECTIONS.into_iter().zip(CPU_BARS).enumerate() {
        let name = |what| format!("{what}, no telemetry, {connections} connections");
        let each = |of: fn(&Turn) -> f64| turns.iter().map(|turn| of(&turn[position])).collect::<Vec<_>>();
        report.median(name("CPU per registration"), &each(|turn| turn.cpu), "us", Some(Bar::AtMost(bar)));
        report.median(name("registrations on chain"), &each(|turn| turn.rate), "/s", None);
    }
}

/// A new service under the load of each number of connections.
async fn turn(engine: Engine, command: Command, report: &mut Report) -> Vec<Turn> {
    let program = format!("{}{}", engine.prefix(), command.get_program().display());
    let chain = BenchChain::with_block_time(0.2).await;
    let url = if engine == Engine::Postgres { Some(Database::new().await.url()) } else { None };
    let database = url.iter().map(|url| ("REGISTRAR_DATABASE_URL", url.as_str()));
    let settings: Vec<_> = std::iter::once(("TRACING_ENABLED", "false")).chain(database).collect();
    let stack = BenchStack::start_with(command, chain, &settings).await;
    let mut first = 0;
    let mut turns = Vec::new();
    for &connections in engine.connections() {
        let load = Load { connections, time: TIME, first, ..Load::default() };
        let loaded = under_load(&stack, load, &format!("{program}, {connections} connections: "), report).await;
        let cpu = loaded.cpu_each().unwrap_or(f64::NAN);
        progress(format!(
            "{program}, {connections} connections: {:.0} registrations/s, {cpu:.1} us of CPU each",
            loaded.rate
        ));
        first += loaded.requests;
        turns.push(Turn { rate: loaded.rate, cpu });
    }
    turns
}
