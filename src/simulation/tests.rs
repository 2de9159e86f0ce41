//! Random scenarios, and those that once broke an invariant.

use super::{
    scenario::{Event, Event::*, Scenario, Setup, any_scenario},
    world::run_scenario,
};
use crate::chain::simulated::NodeFault;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};
use std::{cell::Cell, env, thread, time::SystemTime};

/// Overridden by `REGISTRAR_SIMULATION_CASES`.
const CASES: u32 = 250;
/// Fixed, so that a run judges the change and not the luck of the draw. With `REGISTRAR_SIMULATION_CASES` the seed is
/// random, unless `REGISTRAR_SIMULATION_SEED` gives one.
const SEED: u64 = 1;
const MAX_EVENTS: usize = 30;
/// Runs of a shrunk scenario before it counts as one that passes: backoff and SQLite's threads are not deterministic.
const SHRINK_RERUNS: u32 = 4;

fn assert_holds<const N: usize>(setup: Setup, events: [Event; N]) {
    let scenario = Scenario { setup, events: events.to_vec() };
    if let Err(error) = run_scenario(&scenario) {
        panic!("{error}");
    }
}

fn from_environment<T: std::str::FromStr>(name: &str) -> Option<T> {
    env::var(name).ok()?.parse().ok()
}

#[test]
fn no_random_scenario_loses_a_registration_or_registers_one_twice() {
    let requested = from_environment("REGISTRAR_SIMULATION_CASES");
    let cases = requested.unwrap_or(CASES);
    let seed = from_environment("REGISTRAR_SIMULATION_SEED");
    let seed = seed.unwrap_or_else(|| if requested.is_some() { any_seed() } else { SEED });
    let threads = thread::available_parallelism().map_or(1, |threads| u32::try_from(threads.get()).unwrap_or(1));
    let started = SystemTime::now();
    let runners: Vec<_> = (0..threads)
        .map(|number| thread::spawn(move || run_many(cases.div_ceil(threads), seed.wrapping_add(number.into()))))
        .collect();
    let failed = runners.into_iter().filter_map(|runner| runner.join().expect("a runner never panics")).next();
    let took = started.elapsed().unwrap_or_default();
    println!("{cases} scenarios from seed {seed} on {threads} threads in {took:?}, one in {:?}", took / cases.max(1));
    if let Some(failed) = failed {
        panic!("{failed}");
    }
}

/// Runs `cases` scenarios. Returns the smallest one that fails, if any.
fn run_many(cases: u32, seed: u64) -> Option<String> {
    let config = Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 4_000,
        max_shrink_time: 60_000,
        ..Config::default()
    };
    let shrinking = Cell::new(false);
    let result = TestRunner::new(config).run(&any_scenario(MAX_EVENTS), |scenario| {
        let runs = if shrinking.get() { SHRINK_RERUNS } else { 1 };
        for _ in 0..runs {
            run_scenario(&scenario).map_err(|error| {
                shrinking.set(true);
                TestCaseError::fail(error)
            })?;
        }
        Ok(())
    });
    match result {
        Ok(()) => None,
        Err(TestError::Fail(reason, scenario)) => Some(format!("seed {seed}: {reason}\n{scenario}")),
        Err(TestError::Abort(reason)) => Some(format!("seed {seed}: {reason}")),
    }
}

fn any_seed() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.subsec_nanos().into())
}

#[test]
fn one_document_is_confirmed() {
    assert_holds(Setup { replicas: 1, endpoints: 2, signers: 1, confirmations: 2 }, [Accept(1), Blocks(3)]);
}

#[test]
fn a_regressed_head_confirms_nothing_before_its_depth() {
    let setup = Setup { replicas: 1, endpoints: 1, signers: 1, confirmations: 2 };
    assert_holds(
        setup,
        [
            Accept(8),                                  // document 8 is accepted
            MineEmpty,                                  // an empty block
            MineEmpty,                                  // an empty block
            MineEmpty,                                  // an empty block
            Reorg { depth: 3, length: 0, keep: false }, // 3 blocks are replaced by 0, and their transactions are dropped
            Mine,                                       // a block with the pending transactions
        ],
    );
}

#[test]
fn an_external_nonce_that_a_reorg_removes_does_not_block_the_signer() {
    let setup = Setup { replicas: 1, endpoints: 1, signers: 1, confirmations: 2 };
    assert_holds(
        setup,
        [
            ExternalTransaction(0),                    // another program sends a transaction of signer 0
            Accept(7),                                 // document 7 is accepted
            Reorg { depth: 4, length: 3, keep: true }, // 4 blocks are replaced by 3, and their transactions return to the mempool
            Accept(12),                                // document 12 is accepted
        ],
    );
}

#[test]
fn a_nonce_reported_too_high_by_the_only_usable_endpoint_does_not_block_the_signer() {
    let setup = Setup { replicas: 1, endpoints: 2, signers: 1, confirmations: 1 };
    assert_holds(
        setup,
        [
            Accept(5),                               // document 5 is accepted
            InjectFault(1, NodeFault::BadGateway),   // endpoint 1 has the fault BadGateway
            InjectFault(0, NodeFault::NonceTooHigh), // endpoint 0 has the fault NonceTooHigh
            Wait(20),                                // 2.0 s pass
            Accept(0),                               // document 0 is accepted
        ],
    );
}

#[test]
fn a_nonce_that_the_only_usable_endpoint_reports_too_high_is_not_used() {
    for fault in [NodeFault::NonceTooHigh, NodeFault::NonceAbsurd] {
        let setup = Setup { replicas: 1, endpoints: 2, signers: 1, confirmations: 1 };
        assert_holds(
            setup,
            [
                Accept(1),                             // document 1 is accepted
                Blocks(2),                             // 2 blocks, a second apart
                InjectFault(1, NodeFault::BadGateway), // endpoint 1 has the fault BadGateway
                InjectFault(0, fault),                 // endpoint 0 reports a nonce that is too high
                Accept(2),                             // document 2 is accepted
                Wait(50),                              // 5.0 s pass
                Wait(50),                              // 5.0 s pass
                ClearFault(0),                         // endpoint 0 works again
                Blocks(3),                             // 3 blocks, a second apart
            ],
        );
    }
}

#[test]
fn an_absurd_suggestion_is_not_paid_although_no_other_endpoint_answers() {
    let setup = Setup { replicas: 1, endpoints: 1, signers: 1, confirmations: 1 };
    assert_holds(setup, [InjectFault(0, NodeFault::AbsurdTip), Accept(1), Blocks(3)]);
    assert_holds(setup, [InjectFault(0, NodeFault::NoFeeMethods), Accept(1), Blocks(3)]);
}

#[test]
fn batches_that_no_block_takes_are_cut() {
    let setup = Setup { replicas: 1, endpoints: 1, signers: 1, confirmations: 1 };
    assert_holds(
        setup,
        [
            LargestTransaction(1), // no block includes a transaction with more than 1 registrations
            Funds(false),          // the signers have no funds
            Accept(1),             // document 1 is accepted
            Accept(2),             // document 2 is accepted
            Accept(3),             // document 3 is accepted
            Accept(4),             // document 4 is accepted
            Accept(5),             // document 5 is accepted
            Funds(true),           // the signers have funds
            Blocks(5),             // 5 blocks, a second apart
        ],
    );
}

#[test]
fn a_registration_that_is_not_sent_in_time_is_reported_and_confirmed_later() {
    for (replicas, endpoints) in [(1, 2), (2, 1)] {
        let setup = Setup { replicas, endpoints, signers: 1, confirmations: 1 };
        assert_holds(
            setup,
            [
                Funds(false), // the signers have no funds
                Accept(1),    // document 1 is accepted
                Wait(70),     // 7.0 s pass
                Delayed(1),   // document 1 is reported as delayed by now
                Crash(0, 5),  // replica 0 crashes after 5 polls
                Funds(true),  // the signers have funds
                Blocks(20),   // 20 blocks, a second apart
                Confirmed(1), // document 1 is confirmed by now
            ],
        );
    }
    let setup = Setup { replicas: 1, endpoints: 1, signers: 1, confirmations: 1 };
    let refused = [InjectFault(0, NodeFault::BadGateway), Accept(1), Wait(90), Wait(90), Delayed(1)];
    assert_holds(setup, refused);
}

#[test]
fn an_endpoint_that_refuses_questions_about_blocks_for_good_stops_nothing() {
    let setup = Setup { replicas: 1, endpoints: 2, signers: 1, confirmations: 2 };
    let refusing = InjectFault(1, NodeFault::RefusesBlocks);
    let blocks = [Blocks(40), Blocks(40)];
    assert_holds(setup, [refusing, Accept(1), blocks[0], blocks[1], Confirmed(1), Accept(2), Blocks(5), Confirmed(2)]);
}

#[test]
fn a_reorg_of_confirmed_work_is_detected_although_blocks_were_mined_since() {
    let setup = Setup { replicas: 1, endpoints: 2, signers: 1, confirmations: 1 };
    assert_holds(
        setup,
        [
            Accept(17),                                // document 17 is accepted
            Mine,                                      // a block with the pending transactions
            Accept(20),                                // document 20 is accepted
            MineEmpty,                                 // an empty block
            MineEmpty,                                 // an empty block
            MineEmpty,                                 // an empty block
            Reorg { depth: 4, length: 1, keep: true }, // 4 blocks are replaced by 1, and their transactions return to the mempool
            Wait(2),                                   // 0.2 s pass
            Mine,                                      // a block with the pending transactions
        ],
    );
}

#[test]
fn a_foreign_registration_on_the_new_chain_does_not_hide_that_a_confirmed_block_was_reorged() {
    let setup = Setup { replicas: 1, endpoints: 1, signers: 1, confirmations: 1 };
    assert_holds(
        setup,
        [
            Accept(0),                                  // document 0 is accepted
            Blocks(1),                                  // 1 blocks, a second apart
            Wait(1),                                    // 0.1 s pass
            Reorg { depth: 1, length: 1, keep: false }, // 1 blocks are replaced by 1, and their transactions are dropped
            ForeignRegistration(4),                     // another sender registers document 4
            Accept(4),                                  // document 4 is accepted
        ],
    );
}

#[test]
fn members_that_a_transaction_did_not_register_get_a_new_nonce_only_at_depth() {
    let setup = Setup { replicas: 1, endpoints: 1, signers: 1, confirmations: 3 };
    assert_holds(
        setup,
        [
            Accept(23),                                 // document 23 is accepted
            ForeignRegistration(23),                    // another sender registers document 23
            Blocks(1),                                  // 1 blocks, a second apart
            Reorg { depth: 2, length: 0, keep: false }, // 2 blocks are replaced by 0, and their transactions are dropped
        ],
    );
}

#[test]
fn a_registration_that_reverts_in_every_block_fails_alone() {
    let setup = Setup { replicas: 1, endpoints: 2, signers: 1, confirmations: 1 };
    assert_holds(
        setup,
        [
            Funds(false),         // the signers have no funds
            RevertOnExecution(1), // document 1 reverts in a block from now on, and in no simulation
            Accept(1),            // document 1 is accepted
            Accept(2),            // document 2 is accepted
            Accept(3),            // document 3 is accepted
            Accept(4),            // document 4 is accepted
            Funds(true),          // the signers have funds
            Blocks(4),            // 4 blocks, a second apart
        ],
    );
}

#[test]
fn a_regressed_head_does_not_confirm_a_foreign_registration() {
    let setup = Setup { replicas: 1, endpoints: 1, signers: 1, confirmations: 2 };
    assert_holds(
        setup,
        [
            Accept(0),                                  // document 0 is accepted
            Reorg { depth: 1, length: 3, keep: false }, // 1 blocks are replaced by 3, and their transactions are dropped
            Reorg { depth: 3, length: 0, keep: false }, // 3 blocks are replaced by 0, and their transactions are dropped
            Accept(13),                                 // document 13 is accepted
            ForeignRegistration(13),                    // another sender registers document 13
        ],
    );
}

#[test]
fn a_nonce_reported_too_high_first_does_not_count_as_consumed_at_depth() {
    let setup = Setup { replicas: 1, endpoints: 2, signers: 1, confirmations: 3 };
    assert_holds(
        setup,
        [
            Accept(0),                               // document 0 is accepted
            InjectFault(0, NodeFault::NonceTooHigh), // endpoint 0 has the fault NonceTooHigh
            Wait(51),                                // 5.1 s pass
            ExternalTransaction(0),                  // another program sends a transaction of signer 0
            Mine,                                    // a block with the pending transactions
            Wait(60),                                // 6.0 s pass
        ],
    );
}

#[test]
fn a_transaction_without_receipts_on_any_endpoint_does_not_block_its_registrations() {
    let setup = Setup { replicas: 1, endpoints: 1, signers: 1, confirmations: 1 };
    assert_holds(
        setup,
        [
            Accept(0),                             // document 0 is accepted
            InjectFault(0, NodeFault::NoReceipts), // endpoint 0 has the fault NoReceipts
            Blocks(5),                             // 5 blocks, a second apart
            Blocks(5),                             // 5 blocks, a second apart
            Accept(0),                             // document 0 is accepted
            Accept(11),                            // document 11 is accepted
            Wait(5),                               // 0.5 s pass
        ],
    );
}

#[test]
fn a_replica_that_freezes_past_its_lease_writes_nothing_when_it_resumes() {
    let setup = Setup { replicas: 2, endpoints: 1, signers: 1, confirmations: 1 };
    // Frozen while it prepares, signs, writes or broadcasts.
    for polls in 10..40 {
        assert_holds(
            setup,
            [
                Freeze(0, polls), // replica 0 freezes after this many polls
                Accept(0),        // document 0 is accepted
                Funds(false),     // the signers have no money
                Blocks(10),       // 10 blocks, a second apart
                Wake(0),          // replica 0 resumes
            ],
        );
    }
}

#[test]
fn a_restored_backup_finds_later_registrations_on_chain() {
    let setup = Setup { replicas: 1, endpoints: 1, signers: 1, confirmations: 1 };
    assert_holds(
        setup,
        [
            Accept(0),     // document 0 is accepted
            TakeBackup,    // the database is backed up
            Accept(1),     // document 1 is accepted
            Blocks(3),     // 3 blocks, a second apart
            RestoreBackup, // the backup is restored, and the caller of document 1 registers it again
        ],
    );
}

#[test]
fn a_missing_block_does_not_delay_confirmation() {
    let setup = Setup { replicas: 1, endpoints: 1, signers: 1, confirmations: 3 };
    assert_holds(
        setup,
        [
            Accept(1),                             // document 1 is accepted
            Mine,                                  // a block with the pending transactions
            InjectFault(0, NodeFault::BadGateway), // endpoint 0 has the fault BadGateway
            MineEmpty,                             // an empty block
            MineEmpty,                             // an empty block, with which it would be at confirmation depth
            MineEmpty,                             // an empty block
            MissingBlock(1),                       // no node serves the block 1 below the head any more, if it is empty
            ClearFault(0),                         // endpoint 0 works again
        ],
    );
}

#[test]
fn a_missing_block_does_not_hide_a_foreign_registration() {
    let setup = Setup { replicas: 1, endpoints: 2, signers: 1, confirmations: 2 };
    assert_holds(
        setup,
        [
            InjectFault(0, NodeFault::BadGateway), // endpoint 0 has the fault BadGateway
            InjectFault(1, NodeFault::BadGateway), // endpoint 1 has the fault BadGateway
            ForeignRegistration(11),               // another sender registers document 11
            MineEmpty,                             // an empty block
            MineEmpty,                             // an empty block
            MissingBlock(1),                       // no node serves the block 1 below the head any more, if it is empty
            Accept(11),                            // document 11 is accepted
            ClearFault(0),                         // endpoint 0 works again
            ClearFault(1),                         // endpoint 1 works again
        ],
    );
}
