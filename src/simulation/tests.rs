//! The stories: any, and those that once ended badly.

use super::{
    scenario::{Event, Event::*, Scenario, Setup, any_scenario},
    world::run_scenario,
};
use crate::chain::simulated::NodeFault;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};
use std::{cell::Cell, env, thread, time::SystemTime};

/// How many stories are told, unless `REGISTRAR_SIMULATION_CASES` says otherwise.
const CASES: u32 = 250;
/// Which those are, so that a change is judged by itself and not by its luck. Whoever asks for a number of them gets others each time,
/// unless `REGISTRAR_SIMULATION_SEED` says which.
const SEED: u64 = 1;
/// How many events a story has at most.
const MAX_EVENTS: usize = 30;
/// How often a shortened story is told before it counts as one that ends well: delays are random, and so is what SQLite's threads
/// do.
const SHRINK_RERUNS: u32 = 4;

fn assert_holds<const N: usize>(setup: Setup, events: [Event; N]) {
    let story = Scenario { setup, events: events.to_vec() };
    if let Err(error) = run_scenario(&story) {
        panic!("{error}");
    }
}

fn from_environment<T: std::str::FromStr>(name: &str) -> Option<T> {
    env::var(name).ok()?.parse().ok()
}

#[test]
fn whatever_happens_nothing_is_lost_and_nothing_is_registered_twice() {
    let asked = from_environment("REGISTRAR_SIMULATION_CASES");
    let cases = asked.unwrap_or(CASES);
    let seed = from_environment("REGISTRAR_SIMULATION_SEED");
    let seed = seed.unwrap_or_else(|| if asked.is_some() { any_seed() } else { SEED });
    let threads = thread::available_parallelism().map_or(1, |threads| u32::try_from(threads.get()).unwrap_or(1));
    let begun = SystemTime::now();
    let tellers: Vec<_> = (0..threads)
        .map(|number| thread::spawn(move || run_many(cases.div_ceil(threads), seed.wrapping_add(number.into()))))
        .collect();
    let failed = tellers.into_iter().filter_map(|teller| teller.join().expect("a teller never panics")).next();
    let took = begun.elapsed().unwrap_or_default();
    println!("{cases} stories from seed {seed} on {threads} threads in {took:?}, one in {:?}", took / cases.max(1));
    if let Some(failed) = failed {
        panic!("{failed}");
    }
}

/// Tells so many stories, and says how the shortest goes that ends badly, if there is one.
fn run_many(cases: u32, seed: u64) -> Option<String> {
    let config = Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 4_000,
        max_shrink_time: 60_000,
        ..Config::default()
    };
    let shortening = Cell::new(false);
    let result = TestRunner::new(config).run(&any_scenario(MAX_EVENTS), |story| {
        let tellings = if shortening.get() { SHRINK_RERUNS } else { 1 };
        for _ in 0..tellings {
            run_scenario(&story).map_err(|error| {
                shortening.set(true);
                TestCaseError::fail(error)
            })?;
        }
        Ok(())
    });
    match result {
        Ok(()) => None,
        Err(TestError::Fail(reason, story)) => Some(format!("seed {seed}: {reason}\n{story}")),
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
fn a_head_that_has_fallen_confirms_nothing_too_soon() {
    let setup = Setup { replicas: 1, endpoints: 1, signers: 1, confirmations: 2 };
    assert_holds(
        setup,
        [
            Accept(8),                                  // document 8 is accepted
            MineEmpty,                                  // an empty block
            MineEmpty,                                  // an empty block
            MineEmpty,                                  // an empty block
            Reorg { depth: 3, length: 0, keep: false }, // 3 blocks are replaced by 0, and their transactions are forgotten
            Mine,                                       // a block takes what pends
        ],
    );
}

#[test]
fn a_strangers_nonce_that_a_reorg_takes_away_stops_nothing_for_ever() {
    let setup = Setup { replicas: 1, endpoints: 1, signers: 1, confirmations: 2 };
    assert_holds(
        setup,
        [
            ExternalTransaction(0),                    // signer 0 sends something that we know nothing of
            Accept(7),                                 // document 7 is accepted
            Reorg { depth: 4, length: 3, keep: true }, // 4 blocks are replaced by 3, and their transactions go back to the pool
            Accept(12),                                // document 12 is accepted
        ],
    );
}

#[test]
fn an_endpoint_that_says_too_much_of_a_nonce_while_it_is_alone_stops_nothing_for_ever() {
    let setup = Setup { replicas: 1, endpoints: 2, signers: 1, confirmations: 1 };
    assert_holds(
        setup,
        [
            Accept(5),                               // document 5 is accepted
            InjectFault(1, NodeFault::BadGateway),   // endpoint 1 suffers from Away
            InjectFault(0, NodeFault::NonceTooHigh), // endpoint 0 suffers from NonceTooHigh
            Wait(20),                                // 2.0 s pass
            Accept(0),                               // document 0 is accepted
        ],
    );
}

#[test]
fn what_was_confirmed_before_a_fall_is_found_although_more_was_mined_until_it_was_noticed() {
    let setup = Setup { replicas: 1, endpoints: 2, signers: 1, confirmations: 1 };
    assert_holds(
        setup,
        [
            Accept(17),                                // document 17 is accepted
            Mine,                                      // a block takes what pends
            Accept(20),                                // document 20 is accepted
            MineEmpty,                                 // an empty block
            MineEmpty,                                 // an empty block
            MineEmpty,                                 // an empty block
            Reorg { depth: 4, length: 1, keep: true }, // 4 blocks are replaced by 1, and their transactions go back to the pool
            Wait(2),                                   // 0.2 s pass
            Mine,                                      // a block takes what pends
        ],
    );
}

#[test]
fn what_somebody_else_registered_on_the_new_chain_does_not_speak_for_what_was_confirmed_on_the_old() {
    let setup = Setup { replicas: 1, endpoints: 1, signers: 1, confirmations: 1 };
    assert_holds(
        setup,
        [
            Accept(0),                                  // document 0 is accepted
            Blocks(1),                                  // 1 blocks, a second apart
            Wait(1),                                    // 0.1 s pass
            Reorg { depth: 1, length: 1, keep: false }, // 1 blocks are replaced by 1, and their transactions are forgotten
            ForeignRegistration(4),                     // somebody else registers document 4
            Accept(4),                                  // document 4 is accepted
        ],
    );
}

#[test]
fn what_a_transaction_carried_for_nothing_gets_a_new_nonce_only_at_depth() {
    let setup = Setup { replicas: 1, endpoints: 1, signers: 1, confirmations: 3 };
    assert_holds(
        setup,
        [
            Accept(23),                                 // document 23 is accepted
            ForeignRegistration(23),                    // somebody else registers document 23
            Blocks(1),                                  // 1 blocks, a second apart
            Reorg { depth: 2, length: 0, keep: false }, // 2 blocks are replaced by 0, and their transactions are forgotten
        ],
    );
}

#[test]
fn one_that_reverts_in_every_block_takes_no_other_with_it() {
    let setup = Setup { replicas: 1, endpoints: 2, signers: 1, confirmations: 1 };
    assert_holds(
        setup,
        [
            Funds(false),         // the signers have no money
            RevertOnExecution(1), // document 1 reverts in a block from now on, and in no call
            Accept(1),            // document 1 is accepted
            Accept(2),            // document 2 is accepted
            Accept(3),            // document 3 is accepted
            Accept(4),            // document 4 is accepted
            Funds(true),          // the signers have money
            Blocks(4),            // 4 blocks, a second apart
        ],
    );
}

#[test]
fn what_somebody_else_registered_is_not_confirmed_by_a_head_that_has_fallen() {
    let setup = Setup { replicas: 1, endpoints: 1, signers: 1, confirmations: 2 };
    assert_holds(
        setup,
        [
            Accept(0),                                  // document 0 is accepted
            Reorg { depth: 1, length: 3, keep: false }, // 1 blocks are replaced by 3, and their transactions are forgotten
            Reorg { depth: 3, length: 0, keep: false }, // 3 blocks are replaced by 0, and their transactions are forgotten
            Accept(13),                                 // document 13 is accepted
            ForeignRegistration(13),                    // somebody else registers document 13
        ],
    );
}

#[test]
fn a_liar_who_was_first_to_say_so_does_not_make_a_nonce_consumed_at_depth() {
    let setup = Setup { replicas: 1, endpoints: 2, signers: 1, confirmations: 3 };
    assert_holds(
        setup,
        [
            Accept(0),                               // document 0 is accepted
            InjectFault(0, NodeFault::NonceTooHigh), // endpoint 0 suffers from NonceTooHigh
            Wait(51),                                // 5.1 s pass
            ExternalTransaction(0),                  // signer 0 sends something that we know nothing of
            Mine,                                    // a block takes what pends
            Wait(60),                                // 6.0 s pass
        ],
    );
}

#[test]
fn a_transaction_of_ours_that_no_endpoint_shows_any_more_does_not_keep_its_work_waiting_for_ever() {
    let setup = Setup { replicas: 1, endpoints: 1, signers: 1, confirmations: 1 };
    assert_holds(
        setup,
        [
            Accept(0),                             // document 0 is accepted
            InjectFault(0, NodeFault::NoReceipts), // endpoint 0 suffers from NoReceipts
            Blocks(5),                             // 5 blocks, a second apart
            Blocks(5),                             // 5 blocks, a second apart
            Accept(0),                             // document 0 is accepted
            Accept(11),                            // document 11 is accepted
            Wait(5),                               // 0.5 s pass
        ],
    );
}

#[test]
fn a_holder_that_froze_and_was_followed_writes_nothing_when_it_goes_on() {
    let setup = Setup { replicas: 2, endpoints: 1, signers: 1, confirmations: 1 };
    // While it prepares, signs, writes or sends.
    for polls in 10..40 {
        assert_holds(
            setup,
            [
                Freeze(0, polls), // replica 0 freezes so many steps from now
                Accept(0),        // document 0 is accepted
                Funds(false),     // the signers have no money
                Blocks(10),       // 10 blocks, a second apart
                Wake(0),          // replica 0 goes on where it froze
            ],
        );
    }
}

#[test]
fn a_database_that_is_put_back_finds_on_chain_what_it_has_lost() {
    let setup = Setup { replicas: 1, endpoints: 1, signers: 1, confirmations: 1 };
    assert_holds(
        setup,
        [
            Accept(0),     // document 0 is accepted
            TakeBackup,    // the database is copied
            Accept(1),     // document 1 is accepted
            Blocks(3),     // 3 blocks, a second apart
            RestoreBackup, // the database is put back to the copy, and who registered document 1 asks again
        ],
    );
}

#[test]
fn a_number_that_no_block_has_keeps_nothing_from_being_confirmed() {
    let setup = Setup { replicas: 1, endpoints: 1, signers: 1, confirmations: 3 };
    assert_holds(
        setup,
        [
            Accept(1),                             // document 1 is accepted
            Mine,                                  // a block takes what pends
            InjectFault(0, NodeFault::BadGateway), // endpoint 0 suffers from Away
            MineEmpty,                             // an empty block
            MineEmpty,                             // an empty block, with which it would be deep enough
            MineEmpty,                             // an empty block
            MissingBlock(1),                       // nobody shows the block 1 below the head any more, if it is empty
            ClearFault(0),                         // endpoint 0 is well again
        ],
    );
}

#[test]
fn a_number_that_no_block_has_keeps_nothing_from_being_found() {
    let setup = Setup { replicas: 1, endpoints: 2, signers: 1, confirmations: 2 };
    assert_holds(
        setup,
        [
            InjectFault(0, NodeFault::BadGateway), // endpoint 0 suffers from Away
            InjectFault(1, NodeFault::BadGateway), // endpoint 1 suffers from Away
            ForeignRegistration(11),               // somebody else registers document 11
            MineEmpty,                             // an empty block
            MineEmpty,                             // an empty block
            MissingBlock(1),                       // nobody shows the block 1 below the head any more, if it is empty
            Accept(11),                            // document 11 is accepted
            ClearFault(0),                         // endpoint 0 is well again
            ClearFault(1),                         // endpoint 1 is well again
        ],
    );
}
