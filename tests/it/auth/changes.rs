//! What callers see of the change feed.

use super::{ADMIN_TOKEN, Guarded, READ_TOKEN, REGISTER_TOKEN, caller};
use registrar::api::proto::ListChangesRequest;
use tonic::Code;

fn callers(prefix: &str) -> String {
    [
        caller("registers", REGISTER_TOKEN, r#""register""#, ""),
        caller("reads", READ_TOKEN, r#""read""#, &format!("case_prefixes = [\"{prefix}\"]")),
        caller("operates", ADMIN_TOKEN, r#""admin""#, ""),
    ]
    .concat()
}

#[tokio::test]
async fn a_caller_sees_the_changes_of_its_cases_as_they_are_now() {
    let guarded = Guarded::start("enforce", &callers("a-")).await;
    let [registers, reads, operates] = [REGISTER_TOKEN, READ_TOKEN, ADMIN_TOKEN].map(|token| guarded.client(token));
    for (number, case) in [(1, "a-1"), (2, "b-1"), (3, "a-2")] {
        registers.accept(number, case).await;
    }
    let request = || ListChangesRequest { from_beginning: true, ..Default::default() };
    let denied = registers.list_changes(request()).await.err().unwrap();
    assert_eq!(denied.kind(), (Code::PermissionDenied, "SCOPE_MISSING"));
    let page = operates.list_changes(request()).await.unwrap();
    assert_eq!(page.registrations.len(), 3);
    assert!(page.registrations.iter().all(|seen| seen.caller == "registers"));
    let page = reads.list_changes(request()).await.unwrap();
    let mut cases: Vec<_> = page.registrations.iter().map(|seen| seen.case_id.as_str()).collect();
    cases.sort_unstable();
    assert_eq!(cases, ["a-1", "a-2"]);
    assert!(page.registrations.iter().all(|seen| seen.caller.is_empty()), "only for admin");

    let mut changes = reads.all_changes().await;
    changes.until_caught_up().await;
    guarded.replace_callers(&callers("b-")).await;
    registers.accept(4, "a-3").await;
    registers.accept(5, "b-2").await;
    let seen = changes.until(|seen| !["a-1", "a-2"].contains(&seen.case_id.as_str())).await;
    assert!(seen.case_id.starts_with("b-"), "{seen:?}");

    let without = callers("b-").replace(r#""read""#, r#""verify""#);
    guarded.replace_callers(&without).await;
    let end = loop {
        if let Err(error) = changes.next().await {
            break error;
        }
    };
    assert_eq!(end.kind(), (Code::PermissionDenied, "SCOPE_MISSING"));
}
