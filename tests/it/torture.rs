//! A short torture: under load, `kill -9` at random moments, while the chain and the way there suffer everything once. `make
//! torture` does the same for longer, and measures how soon a start is over.

#[path = "../torture/ordeal/mod.rs"]
mod ordeal;

use crate::harness::{Finality, Registration, State, document};
use alloy::primitives::B256;
use ordeal::{
    Engine, Plan,
    findings::{Findings, Place},
    run,
    schedule::Schedule,
    stall::{Recovery, longest_gap, recovery},
};
use registrar::api::proto::Transaction;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// A life without a confirmation is a stall when it is longer.
const PATIENCE: Duration = Duration::from_secs(5);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Ten kills in twenty seconds.
async fn survives(engine: Engine, replicas: usize) {
    let seed = fastrand::u64(..=u64::from(u32::MAX));
    let plan = Plan { engine, seed, time: Duration::from_secs(20), kills: 10, replicas };
    let mut directory = tempfile::tempdir().unwrap();
    directory.disable_cleanup(true);
    println!("{plan:?}, with its logs in {}", directory.path().display());

    let outcome = run(&plan, directory.path()).await;

    assert!(outcome.findings.is_empty(), "{}{}", outcome.report, outcome.findings.join("\n"));
    directory.disable_cleanup(false);
}

#[tokio::test]
async fn ten_kills_under_load_in_bad_weather_lose_nothing_and_register_nothing_twice() {
    survives(Engine::Sqlite, 1).await;
}

#[tokio::test]
async fn two_replicas_that_are_killed_in_turn_lose_nothing_and_register_nothing_twice() {
    survives(Engine::Postgres, 2).await;
}

#[test]
fn a_seed_tells_the_same_story_again_and_another_seed_another_one() {
    let plan = |seed| Plan { engine: Engine::Sqlite, seed, time: Duration::from_secs(60), kills: 12, replicas: 2 };
    let (first, again, other) = (Schedule::of(&plan(7)), Schedule::of(&plan(7)), Schedule::of(&plan(8)));
    assert_eq!((&first.kills, &first.troubles), (&again.kills, &again.troubles));
    assert_ne!((&first.kills, &first.troubles), (&other.kills, &other.troubles));
    assert!(first.kills.iter().any(|kill| kill.1 == 0) && first.kills.iter().any(|kill| kill.1 == 1));
    assert_eq!(first.kills.len(), 12);
}

#[test]
fn the_shortest_story_has_every_kind_of_trouble_in_it() {
    let troubles =
        Schedule::of(&Plan { engine: Engine::Sqlite, seed: 7, time: Duration::from_secs(5), kills: 1, replicas: 1 })
            .troubles;
    let kinds: BTreeSet<_> = troubles.iter().map(|(_, trouble)| trouble.kind()).collect();
    assert_eq!(kinds.len(), 5, "{kinds:?}");
    assert!(troubles.is_sorted_by_key(|(at, _)| *at));
}

#[test]
fn a_stall_lasts_from_the_start_or_the_end_of_a_trouble_to_the_next_confirmation() {
    let well = |took| Recovery::Well(seconds(took));
    let after = |took| Recovery::AfterTrouble(seconds(took));
    for (life, confirmed, unwell, expected) in [
        (10..30, &[9, 12, 13][..], &[][..], well(2)),
        (10..30, &[10], &[], well(0)),
        // Others confirm what this one does not live to see.
        (10..12, &[13], &[], Recovery::CutShort),
        (10..15, &[16], &[], Recovery::CutShort),
        (10..12, &[12], &[], well(2)),
        // Long enough to tell.
        (10..16, &[17], &[], well(6)),
        (10..30, &[], &[], well(20)),
        // A trouble that is over by then, one in its middle, one that it ends in, and one that comes later.
        (10..30, &[12], &[(5, 9)], well(2)),
        (10..30, &[14], &[(8, 11), (12, 13)], after(1)),
        (10..30, &[14], &[(12, 18)], after(0)),
        (10..30, &[14], &[(15, 18)], well(4)),
        // Killed after a trouble, too soon to tell, and late enough.
        (10..14, &[], &[(11, 12)], Recovery::CutShort),
        (10..30, &[], &[(11, 12)], after(18)),
    ] {
        let confirmed: Vec<_> = confirmed.iter().copied().map(seconds).collect();
        let unwell: Vec<_> = unwell.iter().map(|(from, to)| seconds(*from)..seconds(*to)).collect();
        let life = seconds(life.start)..seconds(life.end);
        assert_eq!(recovery(&life, &confirmed, &unwell, PATIENCE), expected, "{life:?} {confirmed:?} {unwell:?}");
    }
}

#[test]
fn a_gap_is_what_is_left_of_the_time_between_two_confirmations_without_the_troubles() {
    let run = seconds(0)..seconds(20);
    let unwell = [seconds(5)..seconds(9), seconds(17)..seconds(18)];
    assert_eq!(longest_gap(&run, &[seconds(4), seconds(10), seconds(15)], &unwell), seconds(5));
    assert_eq!(longest_gap(&run, &[seconds(6), seconds(16)], &unwell), seconds(7));
    assert_eq!(longest_gap(&run, &[], &[]), seconds(20));
}

const CASE: &str = "case-1";

/// Where the chain has something.
fn place(number: u8) -> Place {
    Place { transaction: B256::repeat_byte(number), block_hash: B256::repeat_byte(number + 100) }
}

/// A row in the store, said to be in this place.
fn row(id: &str, state: State, finality: Finality, at: &Place) -> Registration {
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

/// How many findings of each kind there are about one pair: lost, duplicated, stuck, failed, unasked, misreported.
fn found(told: Option<&[&str]>, rows: &[Registration], places: &[Place]) -> [usize; 6] {
    let pair = (document(1), CASE.to_owned());
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
    let asked = told.map(|told| (pair.clone(), ids(told))).into_iter().collect();
    let places = if places.is_empty() { BTreeMap::new() } else { BTreeMap::from([(pair, places.to_vec())]) };
    let mut findings = Findings::default();
    findings.compare(rows, &places, &asked);
    let Findings { lost, duplicated, stuck, failed, unasked, misreported, .. } = findings;
    [lost, duplicated, stuck, failed, unasked, misreported].map(|found| found.len())
}

/// The callers were told of these ids.
fn told<'a>(ids: &'a [&'a str]) -> Option<&'a [&'a str]> {
    Some(ids)
}

#[test]
fn the_audit_finds_what_is_lost_duplicated_stuck_failed_unasked_and_misreported() {
    let good = |id| row(id, State::Confirmed, Finality::Finalized, &place(1));
    let is = |state, finality| row("a", state, finality, &place(1));
    // All is well: answered, not answered although it was done, and asked without ever being accepted.
    assert_eq!(found(told(&["a"]), &[good("a")], &[place(1)]), [0; 6]);
    assert_eq!(found(told(&[]), &[good("a")], &[place(1)]), [0; 6]);
    assert_eq!(found(told(&[]), &[], &[]), [0; 6]);
    // Accepted, and not in the store, or as another one; confirmed, and not on the chain.
    assert_eq!(found(told(&["a"]), &[], &[]), [1, 0, 0, 0, 0, 0]);
    assert_eq!(found(told(&["a"]), &[good("b")], &[place(1)]), [1, 0, 0, 0, 0, 0]);
    assert_eq!(found(told(&["a"]), &[good("a")], &[]), [1, 0, 0, 0, 0, 0]);
    // Two ids, two rows, two events.
    assert_eq!(found(told(&["a", "b"]), &[good("a")], &[place(1)]), [1, 1, 0, 0, 0, 0]);
    assert_eq!(found(told(&["a"]), &[good("a"), good("b")], &[place(1)]), [0, 1, 0, 0, 0, 0]);
    assert_eq!(found(told(&["a"]), &[good("a")], &[place(1), place(2)]), [0, 1, 0, 0, 0, 0]);
    // Not finished, finished but not for good, and given up.
    assert_eq!(found(told(&["a"]), &[is(State::Submitted, Finality::Unspecified)], &[]), [0, 0, 1, 0, 0, 0]);
    assert_eq!(found(told(&["a"]), &[is(State::Confirmed, Finality::Safe)], &[place(1)]), [0, 0, 1, 0, 0, 0]);
    assert_eq!(found(told(&["a"]), &[is(State::Failed, Finality::Unspecified)], &[]), [0, 0, 0, 1, 0, 0]);
    // Nobody asked, and it is on the chain and in the store; and the chain has it elsewhere.
    assert_eq!(found(None, &[good("a")], &[place(1)]), [0, 0, 0, 0, 2, 0]);
    assert_eq!(found(told(&["a"]), &[good("a")], &[place(2)]), [0, 0, 0, 0, 0, 1]);
}
