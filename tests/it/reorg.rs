//! A block that is no longer canonical takes back what it held, and nothing is lost by it.

use crate::harness::{Fault, Finality, Plan, Registration, Stack, State, WaitFor, document, eventually};
use serde_json::{Value, json};

const CASE: &str = "case-1";

#[tokio::test]
async fn a_reorg_takes_an_inclusion_back_and_the_same_transaction_is_confirmed_after_all() {
    let stack = Plan::on_demand().set("REGISTRAR_CONFIRMATIONS", 3).start().await;
    let accepted = stack.client.accept(1, CASE).await;
    let included = stack.client.reaches(&accepted.id, State::Included).await;
    stack.anvil.stop_mining().await;
    let mut watch = stack.client.watch(&accepted.id, WaitFor::Confirmed, included.revision).await.unwrap();

    // The newest block is replaced by an empty one, and two more come: deep enough for a confirmation that must not be.
    stack.anvil.rpc().run("anvil_reorg", json!([1, []])).await;
    stack.anvil.mine(2).await;
    assert_eq!(stack.registry.events().await, [], "the chain has forgotten it");

    let taken_back = loop {
        let seen = watch.next().await.unwrap().unwrap();
        if seen.state() != State::Included {
            break seen;
        }
    };
    assert_eq!(taken_back.state(), State::Submitted);
    stack.anvil.mine_on_demand().await;
    let again = |seen: &Registration| seen.state() == State::Included && seen.revision > taken_back.revision;
    stack.client.sees(&accepted.id, "another inclusion", again).await;
    stack.anvil.mine(2).await;
    let confirmed = watch.rest().await.pop().unwrap();
    assert_eq!(confirmed.state(), State::Confirmed);
    let before = included.transaction.unwrap();
    let after = confirmed.transaction.unwrap();
    assert_eq!(after.hash, before.hash, "the same bytes went out again");
    assert_ne!(after.block_hash, before.block_hash);
    stack.registry.holds_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn a_confirmation_that_a_deeper_reorg_takes_back_is_made_again() {
    // Blocks are looked at again when they become safe, which is two blocks behind the head.
    let stack = Plan::on_demand().anvil(&["--slots-in-an-epoch", "2"]).start().await;
    let confirmed = stack.client.confirm(1, CASE).await;
    let mut watch = stack.client.watch(&confirmed.id, WaitFor::Finalized, confirmed.revision).await.unwrap();

    stack.anvil.rpc().run("anvil_reorg", json!([1, []])).await;
    stack.anvil.mine(5).await;

    let before = confirmed.transaction.unwrap();
    let again = loop {
        let seen = watch.next().await.unwrap().unwrap();
        let after = seen.transaction.as_ref().unwrap();
        if seen.state() == State::Confirmed && after.block_hash != before.block_hash {
            break seen;
        }
    };
    assert_eq!(again.transaction.unwrap().hash, before.hash, "the same bytes went out again");
    stack.registry.holds_exactly([(document(1), CASE.into())]).await;
}

#[tokio::test]
async fn what_was_in_a_block_that_nobody_shows_any_more_is_registered_in_another_one() {
    let plan = Plan::on_demand().anvil(&["--slots-in-an-epoch", "2"]).set("REGISTRAR_CONFIRMATIONS", 2);
    let stack = plan.through_proxy().start().await;
    let accepted = stack.client.accept(1, CASE).await;
    let included = stack.client.reaches(&accepted.id, State::Included).await;
    stack.anvil.stop_mining().await;
    let before = included.transaction.unwrap();

    // As anvil does when a block is mined beside the reorg: in the place of the old block there is none.
    let number = format!("\"{:#x}\"", before.block_number.unwrap());
    let _hole = stack.proxy().trap_about("eth_getBlockByNumber", &number, Fault::NULL);
    stack.anvil.rpc().run("anvil_reorg", json!([1, []])).await;
    stack.anvil.mine(2).await;

    let back = |seen: &Registration| seen.state() == State::Submitted;
    stack.client.sees(&accepted.id, "the inclusion taken back", back).await;
    stack.anvil.mine_on_demand().await;
    let mut watch = stack.client.watch(&accepted.id, WaitFor::Finalized, 0).await.unwrap();
    let again = loop {
        let seen = watch.next().await.unwrap().unwrap();
        if seen.state() == State::Included {
            break seen.transaction.unwrap();
        }
    };
    stack.anvil.mine(6).await;
    let done = watch.rest().await.pop().unwrap();
    assert_eq!((done.state(), done.finality()), (State::Confirmed, Finality::Finalized));
    assert_eq!(again.hash, before.hash, "the same bytes went out again");
    assert!(again.block_number > before.block_number);
    stack.registry.holds_exactly([(document(1), CASE.into())]).await;
}

/// Registers some documents, each in a transaction and a block of its own.
async fn confirm_some(stack: &Stack) -> Vec<Registration> {
    let mut confirmed = Vec::new();
    for number in 1..=4 {
        confirmed.push(stack.client.confirm(number, CASE).await);
    }
    confirmed
}

/// Each of these in another block than before, by the same bytes.
async fn confirmed_again(stack: &Stack, before: &[Registration]) {
    // Somebody who waits for finality makes the service look at it every second.
    let _watch = stack.client.watch(&before[0].id, WaitFor::Finalized, 0).await.unwrap();
    for one in before {
        let old = one.transaction.clone().unwrap();
        let again = eventually("confirmed in another block", async || {
            let seen = stack.client.get(&one.id).await.unwrap();
            let new = seen.transaction.clone()?;
            (seen.state() == State::Confirmed && new.block_hash != old.block_hash).then_some(new)
        });
        assert_eq!(again.await.hash, old.hash, "the same bytes went out again");
    }
}

#[tokio::test]
async fn a_deep_reorg_takes_many_confirmations_back_says_so_loudly_and_all_are_made_again() {
    let stack = Plan::on_demand().signers(2).start().await;
    let confirmed = confirm_some(&stack).await;

    stack.anvil.rpc().run("anvil_reorg", json!([4, []])).await;

    confirmed_again(&stack, &confirmed).await;
    let told = stack.service.log();
    let loud = |line: &&Value| line["level"] == "ERROR" && line.to_string().contains("was reorged out");
    assert_eq!(told.iter().filter(loud).count(), 4, "{told:?}");
    stack.registry.holds_exactly((1..=4).map(|number| (document(number), CASE.to_owned()))).await;
}

#[tokio::test]
async fn a_reorg_of_what_was_confirmed_is_found_by_the_next_start() {
    let mut stack = Plan::on_demand().start().await;
    let confirmed = confirm_some(&stack).await;
    stack.service.kill();

    stack.anvil.rpc().run("anvil_reorg", json!([3, []])).await;
    stack.start_again().await;

    confirmed_again(&stack, &confirmed[1..]).await;
    let first = stack.client.get(&confirmed[0].id).await.unwrap();
    assert_eq!(first.revision, confirmed[0].revision, "nothing is told of what was not touched");
    stack.registry.holds_exactly((1..=4).map(|number| (document(number), CASE.to_owned()))).await;
}
