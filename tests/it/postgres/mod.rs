//! On PostgreSQL everything is as on a file, and several replicas share it.

mod backup;
mod diagnoses;
mod outages;
mod replicas;
mod start;
mod tenure;
mod tls;

use crate::harness::{Plan, Service, State, account, document};
use serde_json::Value;

const CASE: &str = "case-1";

/// Waits until this replica acts for the first signer.
async fn leased(service: &mut Service) {
    service.logged("its lease", |line| is_of_signer(line, "lease taken")).await;
}

fn is_of_signer(line: &Value, message: &str) -> bool {
    line["message"] == message && line["signer"] == account(1).to_string()
}

#[tokio::test]
async fn a_registration_goes_all_the_way_and_survives_a_crash() {
    let mut stack = Plan::on_demand().postgres().start().await;
    stack.client.confirm(1, CASE).await;
    stack.anvil.stop_mining().await;
    let accepted = stack.client.accept(2, CASE).await;
    stack.client.reaches(&accepted.id, State::Submitted).await;

    stack.crash().await;
    stack.anvil.mine_on_demand().await;

    stack.client.reaches(&accepted.id, State::Confirmed).await;
    stack.registry.holds_exactly([(document(1), CASE.to_owned()), (document(2), CASE.to_owned())]).await;
    assert!(!stack.database().exists(), "a file was made");
}
