//! A short torture: under load, `kill -9` at random moments, while the chain and the way there suffer everything once. `make
//! torture` does the same for longer, and measures how soon a start is over.

#[path = "../torture/ordeal/mod.rs"]
mod ordeal;

use ordeal::{Plan, run};
use std::time::Duration;

#[tokio::test]
async fn ten_kills_under_load_in_bad_weather_lose_nothing_and_register_nothing_twice() {
    let plan =
        Plan { seed: fastrand::u64(..=u64::from(u32::MAX)), time: Duration::from_secs(20), kills: 10, replicas: 1 };
    let directory = tempfile::tempdir().unwrap();

    let outcome = run(&plan, directory.path()).await;

    if !outcome.findings.is_empty() {
        let findings = outcome.findings.join("\n");
        panic!("{plan:?}, with its logs in {}:\n{}{findings}", directory.keep().display(), outcome.report);
    }
}
