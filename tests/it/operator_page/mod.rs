//! The operator page in a real browser, on the built service and a real node.

mod behavior;
mod panels;
mod protection;

use crate::harness::{CASE, Client, Registration, StackBuilder, State, TestStack, browser, document};
use alloy::primitives::U256;
use serde_json::{Value, json};

const GWEI: u64 = 1_000_000_000;

fn url(stack: &TestStack) -> String {
    format!("http://{}", stack.service.admin)
}

fn page_of(registration: &Registration) -> String {
    format!("/ui/registrations/{}", registration.id)
}

async fn check(stack: &TestStack, name: &str, given: Value) -> Value {
    browser::check(name, &url(stack), &given).await
}

/// A service with a confirmed registration, and one whose transaction offers less than the base fee.
struct Stuck {
    stack: TestStack,
    confirmed: Registration,
    stuck: Registration,
}

impl Stuck {
    async fn start(builder: StackBuilder) -> Self {
        let stack = builder
            .set("REGISTRAR_CONFIRMATION_TIMEOUT", "6s")
            .set("REGISTRAR_TRACE_URL", "https://traces.example/trace/{trace_id}")
            .start()
            .await;
        Self::on(&stack.client.clone(), stack).await
    }

    async fn on(client: &Client, stack: TestStack) -> Self {
        let confirmed = client.confirm(1, CASE).await;
        stack.anvil.stop_mining().await;
        let accepted = client.accept(2, "case-2").await;
        client.wait_for_state(&accepted.id, State::Submitted).await;
        stack.anvil.rpc().run("anvil_setNextBlockBaseFeePerGas", json!([U256::from(100 * GWEI)])).await;
        stack.anvil.mine(1).await;
        let stuck = client
            .wait_until(&accepted.id, "a diagnosis", |one| one.diagnosis.is_some() && one.blocked_reason == "FEE_CAP")
            .await;
        Self { stack, confirmed, stuck }
    }

    fn paths(&self) -> Value {
        json!([
            "/ui/",
            page_of(&self.stuck),
            page_of(&self.confirmed),
            format!("/ui/search?q={}", document(99)),
            "/ui/search?q=",
        ])
    }
}
