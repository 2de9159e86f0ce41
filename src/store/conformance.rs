//! What every engine's store has to do, on a real database. Compiled as `on_sqlite` and as `on_postgres`.

use super::{testing::Ground, *};
use crate::registration::{
    Block, Blocked, Cost, Diagnosis, Failure, FailureReason, Finality, NewRegistration, Registration, RegistrationId,
    State, Timestamp, TransactionId, diagnosis::Cause, policy::fees::Fees,
};
use alloy::primitives::{Address, B256};
use std::collections::BTreeMap;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const SIGNER: Address = Address::repeat_byte(9);

struct Rig {
    store: Store,
    acceptor: Acceptor,
    settings: Settings,
    _ground: Ground,
}

impl Rig {
    async fn new(queue_limit: u64) -> Self {
        let ground = Ground::of(module_path!()).await;
        let settings = ground.settings();
        let store = Store::open(&settings, queue_limit).await.unwrap();
        store.acquire(SIGNER).await.unwrap().unwrap();
        let (acceptor, intake) = Acceptor::new(store.clone());
        tokio::spawn(intake.run(CancellationToken::new(), || {}));
        Self { store, acceptor, settings, _ground: ground }
    }

    async fn accept(&self, document: u8, case: &str) -> Accepted {
        self.acceptor.accept(asked(document, case)).await.unwrap()
    }

    async fn get(&self, id: RegistrationId) -> Registration {
        self.store.get(id).await.unwrap().unwrap()
    }

    async fn signed(&self, nonce: u64, members: &[RegistrationId]) -> TransactionId {
        let new = transaction(nonce);
        self.store.sign(&new, members).await.unwrap();
        new.id
    }
}

fn asked(document: u8, case: &str) -> NewRegistration {
    NewRegistration {
        document_hash: crate::registration::DocumentHash::new([document; 32]).unwrap(),
        submitted_as: format!("as given {document}"),
        case_id: case.parse().unwrap(),
        user_id: None,
        trace: crate::telemetry::propagation::extract(&http::HeaderMap::new()),
    }
}

fn transaction(nonce: u64) -> NewTransaction {
    let attempt = Attempt {
        hash: B256::from_slice(&[&[1; 24][..], &nonce.to_be_bytes()].concat()),
        raw: vec![nonce as u8; 3].into(),
        fees: Fees { max_fee_per_gas: 5, max_priority_fee_per_gas: 1 },
    };
    let id = TransactionId::from(Uuid::now_v7());
    NewTransaction {
        id,
        signer: SIGNER,
        nonce,
        gas_limit: 50_000,
        prepared_at: at(10),
        signed_at: at(11),
        attempt,
        worst_cost: 251_000,
        allowance: None,
    }
}

fn replacement(number: usize) -> Replacement {
    let attempt = Attempt {
        hash: B256::repeat_byte(100 + number as u8),
        raw: vec![number as u8; 4].into(),
        fees: Fees { max_fee_per_gas: 6, max_priority_fee_per_gas: 2 },
    };
    let (gas_limit, batch_size, signed_at) = (30_000, 1, at(40));
    Replacement { attempt, number, gas_limit, batch_size, signed_at, worst_cost: 181_000, allowance: None }
}

fn inclusion(number: u64) -> Inclusion {
    Inclusion {
        hash: B256::repeat_byte(1),
        block: Block { number, hash: B256::repeat_byte(number as u8), time: at(20) },
        cost: Cost { gas_used: 40_000, effective_gas_price: 3, l1_fee: Some(7) },
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

#[tokio::test]
async fn a_pair_is_one_registration_however_often_it_comes() {
    let rig = Rig::new(100).await;
    let first = rig.accept(1, "a").await;
    let calls = (0..20).map(|_| rig.accept(1, "a"));
    for again in futures_util::future::join_all(calls).await {
        assert_eq!((again.registration.id, again.fresh), (first.registration.id, false));
    }
    assert!(first.fresh);
    assert!(rig.accept(1, "b").await.fresh && rig.accept(2, "a").await.fresh);
    assert_eq!(rig.store.unfinished(), 3);
    assert_eq!(rig.get(first.registration.id).await, first.registration);
}

#[tokio::test]
async fn a_batch_goes_through_its_states_and_keeps_what_it_learned() {
    let rig = Rig::new(100).await;
    let ids = [rig.accept(1, "a").await.registration.id, rig.accept(2, "a").await.registration.id];
    let id = rig.signed(4, &ids).await;
    assert!(rig.store.queued(at(1_000), 10).await.unwrap().is_empty());
    rig.store.sent(id, at(12)).await.unwrap();
    rig.store.included(id, &inclusion(7), &[], false, at(13)).await.unwrap();
    let seen = rig.get(ids[1]).await;
    let carried = seen.transaction.clone().unwrap();
    assert_eq!((seen.state, seen.finality), (State::Included, Some(Finality::Unsafe)));
    assert_eq!((seen.times.submitted, seen.times.included), (Some(at(12)), Some(at(13))));
    assert_eq!(carried.block, Some(inclusion(7).block));
    let ours = carried.ours.unwrap();
    assert_eq!((ours.nonce, ours.batch_size, ours.attempts), (4, 2, 1));
    assert_eq!(ours.cost.unwrap().fee(), 40_000 * 3 + 7);
    rig.store.confirmed(id, at(14)).await.unwrap();
    rig.store.finality(&[id], Finality::Safe, at(15)).await.unwrap();
    let done = rig.get(ids[0]).await;
    assert_eq!(
        (done.state, done.finality, done.times.confirmed),
        (State::Confirmed, Some(Finality::Safe), Some(at(14)))
    );
    assert_eq!(done.revision, 6);
    assert_eq!(rig.store.unfinished(), 0);
    assert_eq!(rig.store.next_nonce(SIGNER).await.unwrap(), Some(5));
    assert_eq!(rig.store.unfinalized_blocks(SIGNER, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_oldest_that_is_queued_is_the_one_that_was_accepted_first() {
    let rig = Rig::new(100).await;
    assert_eq!(rig.store.oldest_queued().await.unwrap(), None);
    let [first, second] = [rig.accept(1, "a").await, rig.accept(2, "a").await].map(|accepted| accepted.registration);
    assert_eq!(rig.store.oldest_queued().await.unwrap(), Some(first.times.created));
    rig.signed(0, &[first.id]).await;
    assert_eq!(rig.store.oldest_queued().await.unwrap(), Some(second.times.created));
    rig.signed(1, &[second.id]).await;
    assert_eq!(rig.store.oldest_queued().await.unwrap(), None);
}

#[tokio::test]
async fn what_is_not_queued_any_more_or_a_nonce_that_is_taken_refuses_the_whole_transaction() {
    let rig = Rig::new(100).await;
    let (one, two) = (rig.accept(1, "a").await.registration.id, rig.accept(2, "a").await.registration.id);
    rig.signed(0, &[one]).await;
    assert!(matches!(rig.store.sign(&transaction(1), &[two, one]).await, Err(StoreError::Conflict)));
    assert!(matches!(rig.store.sign(&transaction(0), &[two]).await, Err(StoreError::Conflict)));
    assert_eq!(rig.get(two).await.state, State::Queued);
    assert_eq!(rig.store.open_transactions(SIGNER).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_released_transaction_queues_its_work_and_three_reverts_fail_it() {
    let rig = Rig::new(100).await;
    let id = rig.accept(1, "a").await.registration.id;
    let failure = Failure { reason: FailureReason::TransactionReverted, message: "reverted".into() };
    for (nonce, expected) in [(0, State::Queued), (1, State::Queued), (2, State::Failed)] {
        let transaction = rig.signed(nonce, &[id]).await;
        rig.store.release(transaction, Some(&failure), at(30)).await.unwrap();
        assert_eq!(rig.get(id).await.state, expected, "after revert {nonce}");
    }
    let failed = rig.get(id).await;
    assert_eq!((failed.failure, failed.times.failed, rig.store.unfinished()), (Some(failure), Some(at(30)), 0));
    let again = rig.accept(1, "a").await;
    assert_eq!((again.registration.id, again.registration.state, again.fresh), (id, State::Queued, true));
    assert_eq!((again.registration.failure, rig.store.unfinished()), (None, 1));
}

#[tokio::test]
async fn a_duplicate_in_a_batch_goes_back_to_the_queue_and_the_others_go_on() {
    let rig = Rig::new(100).await;
    let ids = [rig.accept(1, "a").await.registration.id, rig.accept(2, "a").await.registration.id];
    let id = rig.signed(0, &ids).await;
    rig.store.included(id, &inclusion(3), &ids[1..], true, at(13)).await.unwrap();
    assert_eq!((rig.get(ids[0]).await.state, rig.get(ids[1]).await.state), (State::Confirmed, State::Queued));
    let found =
        Found { id: ids[1], hash: B256::repeat_byte(5), registrar: SIGNER, block: inclusion(2).block, ours: None };
    rig.store.found(&[found], at(14)).await.unwrap();
    let found = rig.get(ids[1]).await;
    assert_eq!(found.state, State::Confirmed);
    let original = found.transaction.unwrap();
    assert_eq!((original.hash, original.ours, rig.store.unfinished()), (B256::repeat_byte(5), None, 0));
}

#[tokio::test]
async fn what_somebody_else_registered_is_queued_again_when_it_is_reorged_out() {
    let rig = Rig::new(100).await;
    let id = rig.accept(1, "a").await.registration.id;
    let found = |number| Found {
        id,
        hash: B256::repeat_byte(5),
        registrar: SIGNER,
        block: inclusion(number).block,
        ours: None,
    };
    let blocks = rig.store.found(&[found(2)], at(14)).await.unwrap();
    assert_eq!(rig.store.unfinalized_blocks(UnfinalizedBlock::STRANGERS, 10).await.unwrap(), blocks);
    assert_eq!(rig.store.lost(blocks[0].id, at(15)).await.unwrap(), [id]);
    let queued = rig.get(id).await;
    assert_eq!((queued.state, queued.transaction, rig.store.unfinished()), (State::Queued, None, 1));
    assert_eq!(rig.store.unfinalized_blocks(UnfinalizedBlock::STRANGERS, 10).await.unwrap(), []);
    rig.store.found(&[found(3)], at(16)).await.unwrap();
    assert_eq!(rig.get(id).await.transaction.unwrap().block, Some(inclusion(3).block));
    assert_eq!(rig.store.unfinished(), 0);
}

#[tokio::test]
async fn what_was_signed_after_it_was_looked_up_stays_with_its_transaction() {
    let rig = Rig::new(100).await;
    let id = rig.accept(1, "a").await.registration.id;
    let transaction = rig.signed(0, &[id]).await;
    let found = Found { id, hash: B256::repeat_byte(5), registrar: SIGNER, block: inclusion(2).block, ours: None };
    rig.store.found(&[found], at(14)).await.unwrap();
    assert_eq!((rig.get(id).await.state, rig.store.unfinished()), (State::Signed, 1));
    assert_eq!(rig.store.members_of(transaction).await.unwrap(), [id]);
}

#[tokio::test]
async fn a_reorg_brings_confirmed_work_back() {
    let rig = Rig::new(100).await;
    let id = rig.accept(1, "a").await.registration.id;
    let transaction = rig.signed(0, &[id]).await;
    rig.store.included(transaction, &inclusion(3), &[], true, at(13)).await.unwrap();
    rig.store.reorged(transaction, at(14)).await.unwrap();
    let back = rig.get(id).await;
    assert_eq!((back.state, back.finality, rig.store.unfinished()), (State::Submitted, None, 1));
    assert_eq!(rig.store.open_transactions(SIGNER).await.unwrap()[0].attempts.len(), 1);
}

#[tokio::test]
async fn blocked_work_says_so_once_and_waits_for_its_time() {
    let rig = Rig::new(100).await;
    let id = rig.accept(1, "a").await.registration.id;
    let ids = [id];
    let block = |until| rig.store.block(&ids, Blocked::FeeCap, at(until), at(5));
    assert_eq!((block(50).await.unwrap(), block(50).await.unwrap()), (1, 0));
    assert!(rig.store.queued(at(49), 10).await.unwrap().is_empty());
    assert_eq!(rig.store.queued(at(50), 10).await.unwrap().len(), 1);
    assert_eq!(rig.get(id).await.blocked, Some(Blocked::FeeCap));
    rig.signed(0, &[id]).await;
    assert_eq!(rig.get(id).await.blocked, None);
}

#[tokio::test]
async fn what_blocked_the_sending_is_forgotten_when_the_work_is_queued_again() {
    let rig = Rig::new(100).await;
    let ids = [rig.accept(1, "a").await.registration.id, rig.accept(2, "a").await.registration.id];
    for (nonce, in_part) in [(0, true), (1, false)] {
        let transaction = rig.signed(nonce, &ids[usize::from(!in_part)..]).await;
        rig.store.block(&ids, Blocked::NoEndpoint, at(5), at(5)).await.unwrap();
        if in_part {
            rig.store.included(transaction, &inclusion(3), &ids[1..], true, at(6)).await.unwrap();
        } else {
            rig.store.release(transaction, None, at(7)).await.unwrap();
        }
        let queued = rig.get(ids[1]).await;
        assert_eq!((queued.state, queued.blocked), (State::Queued, None), "released in part: {in_part}");
    }
}

#[tokio::test]
async fn a_full_queue_takes_what_it_knows_and_nothing_new() {
    let rig = Rig::new(2).await;
    let known = rig.accept(1, "a").await.registration.id;
    rig.accept(2, "a").await;
    let refused = rig.acceptor.accept(asked(3, "a")).await;
    assert!(matches!(refused, Err(AcceptError::QueueFull { limit: 2 })));
    assert_eq!(rig.accept(1, "a").await.registration.id, known);
}

#[tokio::test]
async fn a_reopened_store_has_everything() {
    let rig = Rig::new(100).await;
    let id = rig.accept(1, "a").await.registration.id;
    let transaction = rig.signed(0, &[id]).await;
    let diagnosis = Diagnosis {
        cause: Cause::Pending,
        explanation: "still".into(),
        evidence: BTreeMap::from([("a".into(), "b".into())]),
        time: at(40),
    };
    assert!(rig.store.timed_out(transaction, &diagnosis, at(40)).await.unwrap());
    let before = rig.get(id).await;
    assert_eq!(before.diagnosis, Some(diagnosis));
    let Rig { store, acceptor, settings, _ground } = rig;
    drop(acceptor);
    store.close().await;
    drop(store);
    let store = open_again(&settings).await;
    assert_eq!(store.get(id).await.unwrap().unwrap(), before);
    let open = store.open_transactions(SIGNER).await.unwrap();
    assert_eq!((open.len(), open[0].members.len(), open[0].nonce), (1, 1, 0));
    assert_eq!(open[0].timed_out, Some(at(40)));
}

#[tokio::test]
async fn the_trace_a_caller_named_is_kept_through_a_restart() {
    let rig = Rig::new(100).await;
    let headers = [
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"),
        ("sentry-trace", "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"),
        ("tracestate", "tenant@one@two=1,congo=t61rcWkgMzE"),
        ("baggage", "sentry-trace_id=0af7651916cd43dd8448eb211c80319c,sentry-release=1%2E0"),
    ];
    let headers = headers.map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
    let trace = crate::telemetry::propagation::extract(&headers.into_iter().collect());
    assert!(trace.sampled.is_none() && !trace.tracestate.is_empty() && !trace.baggage.is_empty(), "{trace:?}");
    let queued = rig.acceptor.accept(NewRegistration { trace: trace.clone(), ..asked(1, "a") }).await.unwrap();
    let in_flight = rig.acceptor.accept(NewRegistration { trace: trace.clone(), ..asked(2, "a") }).await.unwrap();
    rig.signed(0, &[in_flight.registration.id]).await;
    let Rig { store, acceptor, settings, _ground } = rig;
    drop(acceptor);
    store.close().await;
    drop(store);

    let store = open_again(&settings).await;

    assert_eq!(store.get(queued.registration.id).await.unwrap().unwrap().asked.trace, trace);
    assert_eq!(store.queued(at(1_000_000_000_000), 10).await.unwrap()[0].trace, trace);
    assert_eq!(store.open_transactions(SIGNER).await.unwrap()[0].members[0].trace, trace);
}

#[tokio::test]
async fn what_is_settled_was_not_late() {
    let rig = Rig::new(100).await;
    let diagnosis =
        Diagnosis { cause: Cause::Pending, explanation: String::new(), evidence: BTreeMap::new(), time: at(40) };
    for (number, settled) in [(1_u8, false), (2, true)] {
        let id = rig.accept(number, "a").await.registration.id;
        let transaction = rig.signed(number.into(), &[id]).await;
        rig.store.included(transaction, &inclusion(3), &[], settled, at(6)).await.unwrap();
        let revision = rig.get(id).await.revision;
        assert_eq!(rig.store.timed_out(transaction, &diagnosis, at(40)).await.unwrap(), !settled);
        let after = rig.get(id).await;
        assert_eq!((after.times.timed_out.is_some(), after.revision > revision), (!settled, !settled));
    }
}

/// The writing task drops its handle on the store a moment after its last acceptor is gone.
async fn open_again(settings: &Settings) -> Store {
    loop {
        match Store::open(settings, 100).await {
            Err(OpenError::InUse(_)) => tokio::task::yield_now().await,
            opened => return opened.unwrap(),
        }
    }
}

#[tokio::test]
async fn what_is_not_final_is_read_down_to_a_depth_and_what_is_below_when_it_is_asked_for() {
    let rig = Rig::new(100).await;
    let mut transactions = Vec::new();
    for nonce in 0..4_u8 {
        let id = rig.accept(nonce + 1, "a").await.registration.id;
        let transaction = rig.signed(nonce.into(), &[id]).await;
        rig.store.included(transaction, &inclusion(u64::from(nonce) * 10), &[], true, at(50)).await.unwrap();
        transactions.push(transaction);
    }
    let ids = |blocks: Vec<UnfinalizedBlock>| {
        let mut ids: Vec<_> = blocks.into_iter().map(|block| block.id).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids(rig.store.unfinalized_blocks(SIGNER, 15).await.unwrap()), transactions[2..]);
    assert_eq!(rig.store.unfinalized_blocks(UnfinalizedBlock::STRANGERS, 15).await.unwrap(), []);
    assert_eq!(ids(rig.store.unfinalized_below(10, 5).await.unwrap()), transactions[..2]);
    assert_eq!(ids(rig.store.unfinalized_below(30, 1).await.unwrap()), transactions[..1]);
    rig.store.finality(&transactions[..1], Finality::Finalized, at(60)).await.unwrap();
    assert_eq!(ids(rig.store.unfinalized_below(30, 1).await.unwrap()), transactions[1..2]);
}

#[tokio::test]
async fn a_transaction_of_ours_that_is_found_on_chain_is_stored_as_if_it_had_been_made_here() {
    let rig = Rig::new(100).await;
    let id = rig.accept(1, "a").await.registration.id;
    let one = |nonce: u64| Recognised {
        signer: SIGNER,
        nonce,
        gas_limit: 50_000,
        batch_size: 7,
        attempt: transaction(nonce).attempt,
        block: inclusion(4).block,
        cost: inclusion(4).cost,
    };
    let Known::New(own) = rig.store.recognise(&one(3), at(30)).await.unwrap() else { panic!("it was not known") };
    assert_eq!(rig.store.recognise(&one(3), at(31)).await.unwrap(), Known::Already(own));
    let found = Found { id, hash: one(3).attempt.hash, registrar: SIGNER, block: inclusion(4).block, ours: Some(own) };
    let blocks = rig.store.found(&[found], at(32)).await.unwrap();
    assert_eq!((blocks[0].id, blocks[0].signer), (own, Some(SIGNER)));
    let carried = rig.get(id).await.transaction.unwrap();
    let ours = carried.ours.unwrap();
    assert_eq!((carried.hash, ours.nonce, ours.batch_size, ours.attempts), (one(3).attempt.hash, 3, 7, 1));
    assert_eq!(ours.cost.unwrap(), inclusion(4).cost);
    assert_eq!(rig.store.nonces_from(SIGNER, 2).await.unwrap(), [3]);
    assert_eq!(
        (rig.store.newest_block(SIGNER).await.unwrap(), rig.store.next_nonce(SIGNER).await.unwrap()),
        (Some(4), Some(4))
    );
    // A reorg sends the very bytes again.
    rig.store.reorged(own, at(33)).await.unwrap();
    assert_eq!(rig.store.open_transactions(SIGNER).await.unwrap()[0].attempts, [one(3).attempt]);
}

#[tokio::test]
async fn what_was_taken_for_a_strangers_transaction_is_known_for_ours_later() {
    let rig = Rig::new(100).await;
    let id = rig.accept(1, "a").await.registration.id;
    let attempt = transaction(3).attempt;
    let found = Found { id, hash: attempt.hash, registrar: SIGNER, block: inclusion(4).block, ours: None };
    let taken = rig.store.found(&[found], at(20)).await.unwrap()[0].id;
    let ours = Recognised {
        signer: SIGNER,
        nonce: 3,
        gas_limit: 50_000,
        batch_size: 7,
        attempt,
        block: inclusion(4).block,
        cost: inclusion(4).cost,
    };

    assert_eq!(rig.store.recognise(&ours, at(30)).await.unwrap(), Known::New(taken));

    let carried = rig.get(id).await.transaction.unwrap().ours.unwrap();
    assert_eq!((carried.nonce, carried.batch_size, carried.attempts), (3, 7, 1));
    assert_eq!(rig.store.unfinalized_blocks(UnfinalizedBlock::STRANGERS, 10).await.unwrap(), []);
    assert_eq!(rig.store.unfinalized_blocks(SIGNER, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_the_store_has_under_a_nonce_of_ours_decides_what_becomes_of_another_version() {
    let rig = Rig::new(100).await;
    let ids = [rig.accept(1, "a").await.registration.id, rig.accept(2, "a").await.registration.id];
    let (open, given_up) = (rig.signed(0, &ids[..1]).await, rig.signed(1, &ids[1..]).await);
    rig.store.release(given_up, None, at(20)).await.unwrap();
    let version = |nonce: u64| Recognised {
        signer: SIGNER,
        nonce,
        gas_limit: 50_000,
        batch_size: 1,
        attempt: transaction(nonce + 10).attempt,
        block: inclusion(4).block,
        cost: inclusion(4).cost,
    };
    assert_eq!(rig.store.recognise(&version(0), at(30)).await.unwrap(), Known::Open);
    assert_eq!(rig.store.recognise(&version(1), at(30)).await.unwrap(), Known::New(given_up));
    assert_eq!(rig.store.unfinalized_blocks(SIGNER, 10).await.unwrap().len(), 1, "it is confirmed after all");
    let third = Recognised { attempt: transaction(50).attempt, ..version(1) };
    assert_eq!(rig.store.recognise(&third, at(31)).await.unwrap(), Known::Otherwise);
    // The one that is open takes the version over, and keeps its own.
    rig.store.recognise_attempt(open, &version(0).attempt, at(32)).await.unwrap();
    rig.store.recognise_attempt(open, &version(0).attempt, at(33)).await.unwrap();
    let attempts = &rig.store.open_transactions(SIGNER).await.unwrap()[0].attempts;
    assert_eq!(attempts[..], [transaction(0).attempt, version(0).attempt]);
    assert_eq!(rig.get(ids[0]).await.transaction.unwrap().ours.unwrap().attempts, 2);
}

#[tokio::test]
async fn bytes_are_removed_only_of_what_is_final_and_old_and_all_else_stays() {
    let rig = Rig::new(100).await;
    let mut carried = Vec::new();
    // Old and final; old and never final; final and young; open.
    for (nonce, confirmed) in [(0, Some(50)), (1, Some(50)), (2, Some(90)), (3, None)] {
        let id = rig.accept(nonce as u8 + 1, "a").await.registration.id;
        let transaction = rig.signed(nonce, &[id]).await;
        if let Some(confirmed) = confirmed {
            rig.store.included(transaction, &inclusion(nonce), &[], true, at(confirmed)).await.unwrap();
        }
        carried.push((id, transaction));
    }
    rig.store.finality(&[carried[0].1, carried[2].1], Finality::Finalized, at(95)).await.unwrap();
    rig.store.finality(&[carried[1].1], Finality::Safe, at(95)).await.unwrap();
    let before = rig.get(carried[0].0).await;

    assert_eq!(rig.store.prune(at(49), 10, at(100)).await.unwrap(), 0, "nothing is old");
    assert_eq!(rig.store.prune(at(60), 10, at(100)).await.unwrap(), 1);
    assert_eq!(rig.store.prune(at(60), 10, at(101)).await.unwrap(), 0, "once");

    let kept = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM attempts WHERE length(raw) = 3");
    assert_eq!(kept.fetch_one(&rig.store.reader).await.unwrap(), 3);
    assert_eq!(rig.get(carried[0].0).await, before, "hash, fees and number stay");
    let open = rig.store.open_transactions(SIGNER).await.unwrap();
    assert_eq!(open.iter().map(|open| open.attempts[0].raw.len()).collect::<Vec<_>>(), [3]);
}

#[tokio::test]
async fn pages_are_newest_first_and_filtered() {
    let rig = Rig::new(100).await;
    for document in 1..=5 {
        rig.accept(document, if document % 2 == 0 { "even" } else { "odd" }).await;
    }
    let filter = Filter { case_id: Some("odd".parse().unwrap()), ..Filter::default() };
    let first = rig.store.list(&filter, None, 2).await.unwrap();
    let documents =
        |page: &[Registration]| page.iter().map(|r| r.asked.document_hash.as_bytes()[0]).collect::<Vec<_>>();
    assert_eq!(documents(&first), [5, 3]);
    assert_eq!(documents(&rig.store.list(&filter, Some(first[1].id), 2).await.unwrap()), [1]);
    let failed = Filter { states: vec![State::Failed], ..Filter::default() };
    assert!(rig.store.list(&failed, None, 5).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_transaction_that_is_signed_again_keeps_every_version_until_one_is_included() {
    let rig = Rig::new(100).await;
    let ids = [rig.accept(1, "a").await.registration.id, rig.accept(2, "a").await.registration.id];
    let id = rig.signed(0, &ids).await;
    rig.store.sent(id, at(12)).await.unwrap();
    assert_eq!(rig.store.hold(id, Some(Blocked::FeeCap), at(13)).await.unwrap(), 2);
    assert_eq!(rig.store.hold(id, Some(Blocked::FeeCap), at(14)).await.unwrap(), 0, "no news");
    assert_eq!(rig.get(ids[0]).await.blocked, Some(Blocked::FeeCap));

    rig.store.replace(id, &replacement(2)).await.unwrap();

    let open = rig.store.open_transaction(id).await.unwrap().unwrap();
    assert_eq!(open.attempts, [transaction(0).attempt, replacement(2).attempt]);
    assert_eq!((open.gas_limit, open.batch_size, open.members.len()), (30_000, 1, 2));
    let seen = rig.get(ids[0]).await;
    assert_eq!((seen.state, seen.blocked), (State::Submitted, None));
    let carried = seen.transaction.unwrap();
    assert_eq!((carried.hash, carried.ours.unwrap().attempts), (replacement(2).attempt.hash, 2));
    assert!(matches!(rig.store.replace(id, &replacement(2)).await, Err(StoreError::Conflict)), "there is a second");
    rig.store.hold(id, Some(Blocked::FeeCap), at(15)).await.unwrap();
    assert_eq!(rig.store.hold(id, None, at(16)).await.unwrap(), 2);
    let first = Inclusion { hash: transaction(0).attempt.hash, ..inclusion(7) };
    rig.store.included(id, &first, &[], false, at(17)).await.unwrap();
    assert!(matches!(rig.store.replace(id, &replacement(3)).await, Err(StoreError::Conflict)), "a block holds it");
    assert_eq!(rig.store.hold(id, Some(Blocked::FeeCap), at(18)).await.unwrap(), 0, "a block holds it");
    assert_eq!(rig.store.open_transaction(id).await.unwrap().unwrap().hash, first.hash);
    rig.store.reorged(id, at(19)).await.unwrap();
    assert_eq!(rig.store.open_transaction(id).await.unwrap().unwrap().hash, replacement(2).attempt.hash);
    assert_eq!(rig.store.transaction_of(SIGNER, 0).await.unwrap(), Some((id, false)));
    assert_eq!(rig.store.transaction_of(SIGNER, 1).await.unwrap(), None);
    rig.store.release(id, None, at(20)).await.unwrap();
    assert_eq!(rig.store.transaction_of(SIGNER, 0).await.unwrap(), Some((id, true)));
    assert!(rig.store.open_transaction(id).await.unwrap().is_none());
    // It is taken back: its bytes count again, and what it carried does not come back to it.
    rig.store.reorged(id, at(21)).await.unwrap();
    assert_eq!(rig.store.open_transaction(id).await.unwrap().unwrap().members.len(), 0);
    assert_eq!(rig.get(ids[0]).await.state, State::Queued);
}

#[tokio::test]
async fn what_a_transaction_did_not_register_stays_with_its_nonce_until_that_is_consumed_for_good() {
    let rig = Rig::new(100).await;
    let ids = [rig.accept(1, "a").await.registration.id, rig.accept(2, "a").await.registration.id];
    let id = rig.signed(0, &ids).await;
    rig.store.sent(id, at(12)).await.unwrap();

    rig.store.included(id, &inclusion(7), &ids[1..], false, at(13)).await.unwrap();

    assert_eq!(rig.get(ids[0]).await.state, State::Included);
    assert_eq!(rig.get(ids[1]).await.state, State::Submitted);
    assert_eq!(rig.store.confirmed(id, at(14)).await.unwrap(), ids[1..]);
    let released = rig.get(ids[1]).await;
    assert_eq!((released.state, released.transaction), (State::Queued, None));
    assert_eq!(rig.get(ids[0]).await.state, State::Confirmed);
    assert_eq!(rig.store.unfinished(), 1);
}

#[tokio::test]
async fn what_a_replica_writes_for_a_signer_that_another_one_acts_for_by_now_is_refused() {
    let rig = Rig::new(100).await;
    let ids = [rig.accept(1, "a").await.registration.id, rig.accept(2, "a").await.registration.id];
    let id = rig.signed(0, &ids[..1]).await;
    let before = rig.get(ids[0]).await;
    // Another replica takes the lease: the token grows.
    sqlx::query("UPDATE leases SET token = token + 1").execute(&rig.store.writer).await.unwrap();

    let failure = Failure { reason: FailureReason::TransactionReverted, message: String::new() };
    let diagnosis =
        Diagnosis { cause: Cause::Pending, explanation: String::new(), evidence: BTreeMap::new(), time: at(20) };
    for refused in [
        rig.store.sign(&transaction(1), &ids[1..]).await,
        rig.store.sent(id, at(12)).await,
        rig.store.included(id, &inclusion(7), &[], false, at(13)).await,
        rig.store.confirmed(id, at(14)).await.map(drop),
        rig.store.replace(id, &replacement(2)).await,
        rig.store.hold(id, Some(Blocked::FeeCap), at(14)).await.map(drop),
        rig.store.reorged(id, at(15)).await,
        rig.store.release(id, Some(&failure), at(16)).await,
        rig.store.timed_out(id, &diagnosis, at(17)).await.map(drop),
    ] {
        assert!(matches!(refused, Err(StoreError::Fenced)), "{refused:?}");
    }

    assert_eq!(rig.get(ids[0]).await, before);
    assert_eq!(rig.get(ids[1]).await.state, State::Queued);
    rig.store.acquire(SIGNER).await.unwrap().unwrap();
    rig.store.sent(id, at(12)).await.unwrap();
    assert_eq!(rig.get(ids[0]).await.state, State::Submitted);
}
