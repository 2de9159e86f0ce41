//! Detects that no task of the service can proceed until time advances.

use super::replica::Replica;
use crate::store::Audit;
use std::time::Duration;

/// Turns of the runtime in a row without a poll: every task that was woken has been polled.
const QUIET_TURNS: u32 = 4;
/// Length of a turn that waits for SQLite's threads.
const DATABASE_WAIT: Duration = Duration::from_micros(20);
/// A task that waits for SQLite this many turns in a row waits for the clock too: the pool retries a failed connection
/// after a delay.
const STALLED_TURNS: u32 = 2_000;
/// More turns without quiescence mean that a task spins.
const MAX_TURNS: u32 = 500_000;

/// Runs every task that can proceed without advancing the clock.
pub(super) async fn run_until_quiescent(replicas: &[Replica], audit: &Audit) -> Result<(), String> {
    let all_polls = || replicas.iter().map(|replica| replica.life.polls()).sum::<u64>();
    let (mut quiet, mut stalled, mut polls) = (0, 0, all_polls());
    for _ in 0..MAX_TURNS {
        tokio::task::yield_now().await;
        let waits = replicas.iter().any(Replica::is_waiting_for_database) || !audit.is_idle();
        let progressed = std::mem::replace(&mut polls, all_polls()) != polls;
        quiet = if progressed || waits { 0 } else { quiet + 1 };
        stalled = if progressed { 0 } else { stalled + 1 };
        if quiet >= QUIET_TURNS || stalled >= STALLED_TURNS {
            return Ok(());
        }
        if waits {
            std::thread::sleep(DATABASE_WAIT);
        }
    }
    Err("the service never becomes quiescent".to_owned())
}
