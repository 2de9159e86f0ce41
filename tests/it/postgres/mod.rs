//! On PostgreSQL everything is as on a file, and several replicas share it.

use crate::harness::{Plan, State, document};

const CASE: &str = "case-1";

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
