//! A short chaos run: `kill -9` at random moments under load, with every kind of fault of the chain and its endpoints.
//! `make torture` runs for longer and measures how soon registrations are confirmed after a start.

#[path = "../chaos/mod.rs"]
mod runner;

use crate::harness::{CASE, Finality, Registration, State, document};
use alloy::primitives::B256;
use registrar::api::proto::Transaction;
use runner::{
    Engine, Plan,
    findings::{Findings, Inclusion},
    run,
    schedule::Schedule,
    stall::{Recovery, longest_gap, recovery},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// A process that runs longer than this without a confirmation counts as stalled.
const MAX_STALL: Duration = Duration::from_secs(5);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

async fn assert_survives(engine: Engine, replicas: usize) {
    let seed = fastrand::u64(..=u64::from(u32::MAX));
    let plan = Plan { engine, seed, time: Duration::from_secs(20), kills: 10, replicas };
    let mut directory = tempfile::tempdir().unwrap();
    directory.disable_cleanup(true);
    println!("{plan:?}, logs in {}", directory.path().display());

    let outcome = run(&plan, directory.path()).await;

    assert!(outcome.findings.is_empty(), "{}{}", outcome.report, outcome.findings.join("\n"));
    directory.disable_cleanup(false);
}

#[tokio::test]
async fn ten_kills_under_load_and_faults_lose_and_duplicate_no_registration() {
    assert_survives(Engine::Sqlite, 1).await;
}

#[tokio::test]
async fn killing_two_replicas_in_turn_loses_and_duplicates_no_registration() {
    assert_survives(Engine::Postgres, 2).await;
}

#[test]
fn a_seed_always_gives_the_same_schedule_and_another_seed_another_one() {
    let plan = |seed| Plan { engine: Engine::Sqlite, seed, time: Duration::from_secs(60), kills: 12, replicas: 2 };
    let (first, again, other) = (Schedule::new(&plan(7)), Schedule::new(&plan(7)), Schedule::new(&plan(8)));
    assert_eq!((&first.kills, &first.faults), (&again.kills, &again.faults));
    assert_ne!((&first.kills, &first.faults), (&other.kills, &other.faults));
    assert!(first.kills.iter().any(|kill| kill.1 == 0) && first.kills.iter().any(|kill| kill.1 == 1));
    assert_eq!(first.kills.len(), 12);
}

#[test]
fn the_shortest_schedule_has_every_kind_of_fault() {
    let faults =
        Schedule::new(&Plan { engine: Engine::Sqlite, seed: 7, time: Duration::from_secs(5), kills: 1, replicas: 1 })
            .faults;
    let kinds: BTreeSet<_> = faults.iter().map(|(_, fault)| fault.kind()).collect();
    assert_eq!(kinds.len(), 7, "{kinds:?}");
    assert!(faults.is_sorted_by_key(|(at, _)| *at));
}

#[test]
fn a_stall_is_measured_from_the_start_or_the_end_of_the_last_fault_to_the_next_confirmation() {
    let healthy = |took| Recovery::Healthy(seconds(took));
    let after = |took| Recovery::AfterFault(seconds(took));
    for (lifetime, confirmed, unhealthy, expected) in [
        (10..30, &[9, 12, 13][..], &[][..], healthy(2)),
        (10..30, &[10], &[], healthy(0)),
        // Confirmed by a later process.
        (10..12, &[13], &[], Recovery::TooShort),
        (10..15, &[16], &[], Recovery::TooShort),
        (10..12, &[12], &[], healthy(2)),
        // Long enough to count as stalled.
        (10..16, &[17], &[], healthy(6)),
        (10..30, &[], &[], healthy(20)),
        // A fault that ended before the start, two in between, one during the confirmation, and one after it.
        (10..30, &[12], &[(5, 9)], healthy(2)),
        (10..30, &[14], &[(8, 11), (12, 13)], after(1)),
        (10..30, &[14], &[(12, 18)], after(0)),
        (10..30, &[14], &[(15, 18)], healthy(4)),
        // Killed too soon after a fault to measure, and late enough.
        (10..14, &[], &[(11, 12)], Recovery::TooShort),
        (10..30, &[], &[(11, 12)], after(18)),
    ] {
        let confirmed: Vec<_> = confirmed.iter().copied().map(seconds).collect();
        let unhealthy: Vec<_> = unhealthy.iter().map(|(from, to)| seconds(*from)..seconds(*to)).collect();
        let lifetime = seconds(lifetime.start)..seconds(lifetime.end);
        assert_eq!(
            recovery(&lifetime, &confirmed, &unhealthy, MAX_STALL),
            expected,
            "{lifetime:?} {confirmed:?} {unhealthy:?}"
        );
    }
}

#[test]
fn the_longest_gap_between_confirmations_excludes_the_faults() {
    let run = seconds(0)..seconds(20);
    let unhealthy = [seconds(5)..seconds(9), seconds(17)..seconds(18)];
    assert_eq!(longest_gap(&run, &[seconds(4), seconds(10), seconds(15)], &unhealthy), seconds(5));
    assert_eq!(longest_gap(&run, &[seconds(6), seconds(16)], &unhealthy), seconds(7));
    assert_eq!(longest_gap(&run, &[], &[]), seconds(20));
}

fn inclusion(number: u8) -> Inclusion {
    Inclusion { transaction: B256::repeat_byte(number), block_hash: B256::repeat_byte(number + 100) }
}

/// A stored registration with this inclusion.
fn row(id: &str, state: State, finality: Finality, at: &Inclusion) -> Registration {
    let transaction =
        Transaction { hash: at.transaction.to_string(), block_hash: at.block_hash.to_string(), ..Default::default() };
    Registration {
        id: id.to_owned(),
        document_hash: document(1),
        case_id: CASE.to_owned(),
        state: state.into(),
        finality: finality.into(),
        transaction: Some(transaction),
        ..Default::default()
    }
}

/// Number of findings about one pair: lost, duplicated, stuck, failed, unrequested, misreported. `answered` has the ids
/// that callers got; `None` means the pair was never requested.
fn found(answered: Option<&[&str]>, rows: &[Registration], inclusions: &[Inclusion]) -> [usize; 6] {
    let pair = (document(1), CASE.to_owned());
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
    let requested = answered.map(|answered| (pair.clone(), ids(answered))).into_iter().collect();
    let inclusions =
        if inclusions.is_empty() { BTreeMap::new() } else { BTreeMap::from([(pair, inclusions.to_vec())]) };
    let mut findings = Findings::default();
    findings.compare(rows, &inclusions, &requested);
    let Findings { lost, duplicated, stuck, failed, unrequested, misreported, .. } = findings;
    [lost, duplicated, stuck, failed, unrequested, misreported].map(|found| found.len())
}

fn answered<'a>(ids: &'a [&'a str]) -> Option<&'a [&'a str]> {
    Some(ids)
}

#[test]
fn the_audit_finds_lost_duplicated_stuck_failed_unrequested_and_misreported_registrations() {
    let good = |id| row(id, State::Confirmed, Finality::Finalized, &inclusion(1));
    let is = |state, finality| row("a", state, finality, &inclusion(1));
    // No finding: answered; registered without an answer; requested without being accepted.
    assert_eq!(found(answered(&["a"]), &[good("a")], &[inclusion(1)]), [0; 6]);
    assert_eq!(found(answered(&[]), &[good("a")], &[inclusion(1)]), [0; 6]);
    assert_eq!(found(answered(&[]), &[], &[]), [0; 6]);
    // Lost: accepted but not in the store, or stored under another id; confirmed but not on the chain.
    assert_eq!(found(answered(&["a"]), &[], &[]), [1, 0, 0, 0, 0, 0]);
    assert_eq!(found(answered(&["a"]), &[good("b")], &[inclusion(1)]), [1, 0, 0, 0, 0, 0]);
    assert_eq!(found(answered(&["a"]), &[good("a")], &[]), [1, 0, 0, 0, 0, 0]);
    // Duplicated: two ids, two rows, two events.
    assert_eq!(found(answered(&["a", "b"]), &[good("a")], &[inclusion(1)]), [1, 1, 0, 0, 0, 0]);
    assert_eq!(found(answered(&["a"]), &[good("a"), good("b")], &[inclusion(1)]), [0, 1, 0, 0, 0, 0]);
    assert_eq!(found(answered(&["a"]), &[good("a")], &[inclusion(1), inclusion(2)]), [0, 1, 0, 0, 0, 0]);
    // Unfinished, confirmed but not final, failed.
    assert_eq!(found(answered(&["a"]), &[is(State::Submitted, Finality::Unspecified)], &[]), [0, 0, 1, 0, 0, 0]);
    assert_eq!(found(answered(&["a"]), &[is(State::Confirmed, Finality::Safe)], &[inclusion(1)]), [0, 0, 1, 0, 0, 0]);
    assert_eq!(found(answered(&["a"]), &[is(State::Failed, Finality::Unspecified)], &[]), [0, 0, 0, 1, 0, 0]);
    // Never requested, but on the chain and in the store; and on the chain in another transaction.
    assert_eq!(found(None, &[good("a")], &[inclusion(1)]), [0, 0, 0, 0, 2, 0]);
    assert_eq!(found(answered(&["a"]), &[good("a")], &[inclusion(2)]), [0, 0, 0, 0, 0, 1]);
}
