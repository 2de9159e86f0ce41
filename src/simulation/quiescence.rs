//! When the service has nothing to do until time goes on: only then may it.

use super::replica::Replica;
use crate::store::Audit;
use std::time::Duration;

/// So many turns of the runtime in a row nothing went on: whatever was woken has had its turn.
const QUIET_TURNS: u32 = 4;
/// A turn that waits for SQLite's threads.
const DATABASE_WAIT: Duration = Duration::from_micros(20);
/// Whatever waits for SQLite so many turns in a row waits for time too: the pool tries again a little later when a connection could
/// not be made.
const STALLED_TURNS: u32 = 2_000;
/// So many turns without any rest are a fault: something spins.
const MAX_TURNS: u32 = 500_000;

/// Lets everything go on that can, without time.
pub(super) async fn run_until_quiescent(replicas: &[Replica], audit: &Audit) -> Result<(), String> {
    let all_polls = || replicas.iter().map(|replica| replica.life.polls()).sum::<u64>();
    let (mut calm, mut still, mut polls) = (0, 0, all_polls());
    for _ in 0..MAX_TURNS {
        tokio::task::yield_now().await;
        let waits = replicas.iter().any(Replica::is_waiting_for_database) || !audit.is_idle();
        let moved = std::mem::replace(&mut polls, all_polls()) != polls;
        calm = if moved || waits { 0 } else { calm + 1 };
        still = if moved { 0 } else { still + 1 };
        if calm >= QUIET_TURNS || still >= STALLED_TURNS {
            return Ok(());
        }
        if waits {
            std::thread::sleep(DATABASE_WAIT);
        }
    }
    Err("the service never comes to rest".to_owned())
}
