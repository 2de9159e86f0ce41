//! PostgreSQL as the store, and several replicas that share it.

mod diagnoses;
mod lease_failover;
mod outages;
mod pooler;
pub mod replicas;
mod start;
mod switch_over;
mod tls;

use crate::harness::{CASE, Service, StackBuilder, State, account, document};
use serde_json::Value;

/// Waits until this replica holds the first signer's lease.
pub async fn wait_for_lease(service: &mut Service) {
    service.wait_for_log("the lease", |line| is_of_signer(line, "lease acquired")).await;
}

fn is_of_signer(line: &Value, message: &str) -> bool {
    line["message"] == message && line["signer"] == account(1).to_string()
}

#[tokio::test]
async fn registrations_are_confirmed_and_survive_a_crash() {
    let mut stack = StackBuilder::on_demand().postgres().start().await;
    stack.client.confirm(1, CASE).await;
    stack.anvil.stop_mining().await;
    let accepted = stack.client.accept(2, CASE).await;
    stack.client.wait_for_state(&accepted.id, State::Submitted).await;

    stack.crash().await;
    stack.anvil.mine_on_demand().await;

    stack.client.wait_for_state(&accepted.id, State::Confirmed).await;
    stack.registry.assert_registered_exactly([(document(1), CASE.to_owned()), (document(2), CASE.to_owned())]).await;
    assert!(!stack.database().exists(), "an SQLite file was created");
}
