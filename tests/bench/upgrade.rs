//! Time of a start that upgrades a large database of an earlier version.

use crate::{
    harness::{Client, Service, State, earlier_version::EarlierVersion},
    report::{Bar, Report, progress},
    seed_database,
};
use tempfile::TempDir;
use tokio::time::Instant;

const FROM_VERSION: u32 = 8;
const ROWS: u64 = 1_000_000;

/// From the start of the process until it accepts, which is how long callers are refused.
pub async fn measure(report: &mut Report) {
    let left = EarlierVersion::load(FROM_VERSION, "sqlite").await;
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("registrar.db");
    left.write_sqlite(&file).await;
    progress("adding 1,000,000 finished registrations to a database of schema version 8");
    seed_database::finished(&file, ROWS).await;
    let started = Instant::now();
    let service = Service::start(&left.settings(&file)).await;
    let client = Client::connect(service.grpc).await;
    client.accept(7, "UPGRADE-2").await;
    let taken = started.elapsed().as_secs_f64();
    for id in left.registrations.keys() {
        client.wait_for_state(id, State::Confirmed).await;
    }
    report.bar("upgrade of 1,000,000 rows: start to the first acceptance", taken, "s", Bar::AtMost(30.0));
}
