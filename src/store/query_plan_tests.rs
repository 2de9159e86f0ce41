//! That no frequent statement scans finished registrations or transactions, however many there are: by SQLite's query
//! plans.

use super::{
    Filter, Order, Settings, Store, accept_batch, caller_usage, daily_budget, delays, handle, list, open_transactions,
    prune,
    query::{Query, query},
    read,
};
use crate::registration::{BlockedReason, DocumentHash, RegistrationId, State, Timestamp, UserId};
use alloy::primitives::B256;

/// With values that are `NULL`.
pub(super) fn explain(statement: &str) -> Query {
    let plan = query(format!("EXPLAIN QUERY PLAN {statement}"));
    let parameters = (1..).take_while(|number| statement.contains(&format!("${number}")));
    parameters.fold(plan, |plan, _| plan.bind(None::<i64>))
}

struct PlanFixture {
    store: Store,
    _folder: tempfile::TempDir,
}

impl PlanFixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::parse(&format!("sqlite://{}/r.db", folder.path().display())).unwrap();
        let store = Store::open(&settings, 1).await.unwrap();
        Self { store, _folder: folder }
    }

    /// The steps that read rows, except for the join with the registration's transaction, which is a look-up by its
    /// key.
    async fn query_plan(&self, statement: &str) -> Vec<String> {
        let plan = explain(statement);
        let steps = plan.fetch_all(&self.store.reader).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
        let steps = steps.iter().map(|row| row.get::<String>(3).unwrap());
        let reads = |step: &String| step.starts_with("SEARCH") || step.starts_with("SCAN");
        let join = "SEARCH t USING INDEX sqlite_autoindex_transactions_1 (id=?) LEFT-JOIN";
        steps.filter(|step| reads(step) && step != join).collect()
    }

    /// Of the first page, and of a later one.
    async fn page_plans(&self, filter: &Filter) -> [Vec<String>; 2] {
        let last = RegistrationId::from_bytes([7; 16]);
        [
            self.query_plan(&list::page(filter, None).sql).await,
            self.query_plan(&list::page(filter, Some(last)).sql).await,
        ]
    }
}

fn filter(states: &[State], case: bool, document: bool) -> Filter {
    Filter {
        states: states.to_vec(),
        case_id: case.then(|| "case-1".parse().unwrap()),
        document_hash: document.then(|| DocumentHash::new([1; 32]).unwrap()),
        ..Filter::default()
    }
}

fn of_user(filter: Filter) -> Filter {
    Filter { user_id: UserId::parse_optional("user-1").unwrap(), ..filter }
}

fn of_caller(filter: Filter) -> Filter {
    Filter { caller: "caller-1".parse().ok(), ..filter }
}

const THREE_STATES: [State; 3] = [State::Queued, State::Confirmed, State::Failed];

#[tokio::test]
async fn a_page_of_everything_is_read_in_the_order_of_ids() {
    let [first, deep] = PlanFixture::new().await.page_plans(&filter(&[], false, false)).await;
    assert_eq!(first, ["SCAN r USING INDEX sqlite_autoindex_registrations_1"]);
    assert_eq!(deep, ["SEARCH r USING INDEX sqlite_autoindex_registrations_1 (id<?)"]);
}

#[tokio::test]
async fn a_page_of_a_case_is_read_from_that_case_alone() {
    let [first, deep] = PlanFixture::new().await.page_plans(&filter(&[], true, false)).await;
    assert_eq!(first, ["SEARCH r USING INDEX registrations_by_case (case_id=?)"]);
    assert_eq!(deep, ["SEARCH r USING INDEX registrations_by_case (case_id=? AND id<?)"]);
}

#[tokio::test]
async fn a_page_of_some_states_is_merged_from_the_newest_of_each() {
    let [first, deep] = PlanFixture::new().await.page_plans(&filter(&THREE_STATES, false, false)).await;
    for (steps, range) in [(first, ""), (deep, " AND id<?")] {
        let newest = format!("SEARCH registrations USING COVERING INDEX registrations_by_state (state=?{range})");
        let page = "SEARCH r USING INDEX sqlite_autoindex_registrations_1 (id=?)".to_owned();
        let [queued, confirmed, failed] = ["queued", "confirmed", "failed"].map(|state| format!("SCAN {state}"));
        assert_eq!(steps, [page, newest.clone(), queued, newest.clone(), confirmed, newest, failed]);
    }
}

#[tokio::test]
async fn a_page_of_a_case_and_some_states_reads_that_case_and_only_its_failures_if_failed() {
    let [first, deep] = PlanFixture::new().await.page_plans(&filter(&THREE_STATES, true, false)).await;
    for (steps, range) in [(first, ""), (deep, " AND id<?")] {
        let of_case = format!("SEARCH registrations USING INDEX registrations_by_case (case_id=?{range})");
        let failures =
            format!("SEARCH registrations USING COVERING INDEX registrations_failed_by_case (case_id=?{range})");
        let read: Vec<_> = steps.iter().filter(|step| step.contains("SEARCH registrations")).collect();
        assert_eq!(read, [&of_case, &of_case, &failures]);
    }
}

#[tokio::test]
async fn a_page_of_a_document_is_read_from_that_document_alone() {
    let fixture = PlanFixture::new().await;
    let states: [&[State]; 3] = [&[], &[State::Confirmed], &THREE_STATES];
    for states in states {
        for steps in fixture.page_plans(&filter(states, false, true)).await {
            let of_document = "SEARCH registrations USING INDEX sqlite_autoindex_registrations_2 (document_hash=?)";
            assert_eq!(steps, ["SEARCH r USING INDEX sqlite_autoindex_registrations_1 (id=?)", of_document]);
        }
        for steps in fixture.page_plans(&filter(states, true, true)).await {
            let pair = "(document_hash=? AND case_id=?)";
            assert!(steps[1].ends_with(&format!("sqlite_autoindex_registrations_2 {pair}")), "{steps:?}");
        }
    }
}

#[tokio::test]
async fn a_page_of_a_user_or_a_caller_is_read_from_its_index_and_of_unfinished_states_from_theirs() {
    let fixture = PlanFixture::new().await;
    for (of_owner, index) in [
        (of_user as fn(Filter) -> Filter, "registrations_by_user (user_id=?"),
        (of_caller, "registrations_by_caller (caller=?"),
    ] {
        let pages = fixture.page_plans(&of_owner(Filter::default())).await;
        for (steps, range) in pages.into_iter().zip(["", " AND id<?"]) {
            assert_eq!(steps, [format!("SEARCH r USING INDEX {index}{range})")]);
        }
        let pages = fixture.page_plans(&of_owner(filter(&THREE_STATES, false, false))).await;
        for (steps, range) in pages.into_iter().zip(["", " AND id<?"]) {
            let read: Vec<_> = steps.iter().filter(|step| step.contains("SEARCH registrations")).collect();
            let by_state = format!("SEARCH registrations USING INDEX registrations_by_state (state=?{range})");
            let by_owner = format!("SEARCH registrations USING INDEX {index}{range})");
            assert_eq!(read, [&by_state, &by_owner, &by_state]);
        }
    }
    // Of several, the first one selects.
    let [first, _] = fixture.page_plans(&of_user(of_caller(filter(&[], true, false)))).await;
    assert_eq!(first, ["SEARCH r USING INDEX registrations_by_case (case_id=?)"]);
    let [first, _] = fixture.page_plans(&of_user(of_caller(filter(&[], false, false)))).await;
    assert_eq!(first, ["SEARCH r USING INDEX registrations_by_user (user_id=?)"]);
    let [first, _] = fixture.page_plans(&of_user(filter(&THREE_STATES, true, true))).await;
    let pair = "SEARCH registrations USING INDEX sqlite_autoindex_registrations_2 (document_hash=? AND case_id=?)";
    assert_eq!(first[1], pair);
}

#[tokio::test]
async fn a_page_of_blocked_registrations_reads_none_that_is_not_blocked() {
    let fixture = PlanFixture::new().await;
    let blocked = |filter| Filter { blocked_reasons: vec![BlockedReason::FeeCap, BlockedReason::NoEndpoint], ..filter };
    for filter in [Filter::default(), filter(&THREE_STATES, true, false), of_user(of_caller(Filter::default()))] {
        let pages = fixture.page_plans(&blocked(filter)).await;
        for (steps, range) in pages.into_iter().zip(["", " AND id<?"]) {
            let read: Vec<_> = steps.iter().filter(|step| step.contains("SEARCH registrations")).collect();
            let by_reason = format!("INDEX registrations_blocked (blocked=?{range})");
            assert!(read.len() == 2 && read.iter().all(|step| step.ends_with(&by_reason)), "{steps:?}");
        }
    }
}

#[tokio::test]
async fn a_page_of_a_transaction_is_read_from_that_transaction_alone() {
    let fixture = PlanFixture::new().await;
    let of_transaction = |filter| Filter { transaction_hash: Some(B256::repeat_byte(1)), ..filter };
    for filter in [Filter::default(), of_user(of_caller(filter(&THREE_STATES, true, false)))] {
        for steps in fixture.page_plans(&of_transaction(filter)).await {
            assert_eq!(
                steps,
                [
                    "SEARCH r USING INDEX sqlite_autoindex_registrations_1 (id=?)",
                    "SEARCH registrations USING INDEX registrations_by_transaction (transaction_id=?)",
                    "SEARCH transactions USING INDEX transactions_by_hash (hash=?)",
                    "SEARCH attempts USING INDEX sqlite_autoindex_attempts_1 (hash=?)",
                ]
            );
        }
    }
}

#[tokio::test]
async fn a_time_is_one_place_in_each_index_and_the_oldest_come_from_its_other_end() {
    let fixture = PlanFixture::new().await;
    let at = |seconds| Some(Timestamp::from_seconds(seconds));
    for order in [Order::NewestFirst, Order::OldestFirst] {
        let between = |filter| Filter { created_from: at(5), created_before: at(9), order, ..filter };
        for steps in fixture.page_plans(&between(Filter::default())).await {
            assert_eq!(steps, ["SEARCH r USING INDEX sqlite_autoindex_registrations_1 (id>? AND id<?)"]);
        }
        for steps in fixture.page_plans(&between(of_user(Filter::default()))).await {
            assert_eq!(steps, ["SEARCH r USING INDEX registrations_by_user (user_id=? AND id>? AND id<?)"]);
        }
        for steps in fixture.page_plans(&between(filter(&[State::Failed], false, false))).await {
            assert!(steps[1].ends_with("registrations_by_state (state=? AND id>? AND id<?)"), "{steps:?}");
        }
    }
    let oldest = Filter { order: Order::OldestFirst, ..Filter::default() };
    let [first, deep] = fixture.page_plans(&oldest).await;
    assert_eq!(first, ["SCAN r USING INDEX sqlite_autoindex_registrations_1"]);
    assert_eq!(deep, ["SEARCH r USING INDEX sqlite_autoindex_registrations_1 (id>?)"]);
    let sorted = explain(&list::page(&oldest, None).sql);
    let steps = sorted.fetch_all(&fixture.store.reader).await.unwrap();
    assert!(!steps.iter().any(|step| step.get::<String>(3).unwrap().contains("TEMP B-TREE")), "nothing is sorted");
}

#[tokio::test]
async fn frequent_statements_never_scan_finished_rows() {
    let fixture = PlanFixture::new().await;
    let by_state = "SEARCH registrations USING INDEX registrations_by_state (state=?)";
    let counted = "SEARCH registrations USING COVERING INDEX registrations_by_state (state=?)";
    for (statement, expected) in [
        (read::OLDEST_QUEUED_SQL, by_state),
        (&delays::late_sql(), "SEARCH r USING INDEX registrations_by_state (state=? AND id>? AND id<?)"),
        (delays::HAS_DELAYED_SQL, "SEARCH registrations USING INDEX registrations_delayed (delay_cause=?)"),
        (&read::queued_sql(), by_state),
        (handle::COUNT_UNFINISHED_SQL, counted),
        (read::UNFINISHED_BY_STATE_SQL, counted),
        (&caller_usage::count_unfinished_sql(), by_state),
        (prune::PRUNABLE_SQL, "SEARCH transactions USING INDEX transactions_with_bytes (confirmed_at<?)"),
        (&open_transactions::open_count_by_signer_sql(), "SCAN transactions USING INDEX transactions_open"),
        (
            &open_transactions::open_transactions_sql("signer = $1"),
            "SEARCH transactions USING INDEX transactions_open (signer=?)",
        ),
        (
            &open_transactions::unfinalized_up_to_sql(),
            "SEARCH transactions USING INDEX transactions_not_final (block_number<?)",
        ),
        (
            open_transactions::HIGHEST_NONCE_SQL,
            "SEARCH transactions USING COVERING INDEX sqlite_autoindex_transactions_2 (signer=?)",
        ),
        (
            open_transactions::MEMBER_IDS_SQL,
            "SEARCH registrations USING INDEX registrations_by_transaction (transaction_id=?)",
        ),
    ] {
        assert_eq!(fixture.query_plan(statement).await, [expected], "{statement}");
    }
}

/// What the operator page asks for: the latest, the latest failures, and a page of the registrations with one key.
#[tokio::test]
async fn the_operator_page_reads_about_as_many_rows_as_it_shows() {
    let fixture = PlanFixture::new().await;
    let hash = B256::repeat_byte(1);
    for (filter, index) in [
        (Filter::default(), "sqlite_autoindex_registrations_1"),
        (filter(&[State::Failed], false, false), "registrations_by_state (state=?"),
        (filter(&[], true, false), "registrations_by_case (case_id=?"),
        (filter(&[], false, true), "sqlite_autoindex_registrations_2 (document_hash=?"),
        (
            Filter { transaction_hash: Some(hash), ..Filter::default() },
            "registrations_by_transaction (transaction_id=?",
        ),
    ] {
        for steps in fixture.page_plans(&filter).await {
            assert!(steps.iter().any(|step| step.contains(index)), "{index}: {steps:?}");
            // In the order of an index, up to the limit; or the few ids of a subquery.
            let scans = |step: &&String| step.starts_with("SCAN ") && !step.contains("USING INDEX");
            let scanned: Vec<_> = steps.iter().filter(scans).collect();
            assert!(scanned.iter().all(|step| *step == "SCAN failed"), "{index}: {steps:?}");
        }
    }
}

#[tokio::test]
async fn pairs_are_looked_up_one_by_one_in_their_index() {
    let plan = PlanFixture::new().await.query_plan(&accept_batch::by_pairs_sql(128)).await;
    assert_eq!(
        plan,
        vec!["SEARCH r USING INDEX sqlite_autoindex_registrations_2 (document_hash=? AND case_id=?)"; 128]
    );
}

#[tokio::test]
async fn a_start_reads_only_open_transactions_and_unfinalized_blocks() {
    let fixture = PlanFixture::new().await;
    let open = "SEARCH transactions USING INDEX transactions_open (signer=?)";
    let which = "signer = $1";
    for (statement, expected) in [
        (
            open_transactions::open_attempts_sql(which, open_transactions::Detail::Full),
            "attempts USING INDEX sqlite_autoindex_attempts_2 (transaction_id=?)",
        ),
        (
            open_transactions::open_members_sql(which),
            "registrations USING INDEX registrations_by_transaction (transaction_id=?)",
        ),
    ] {
        assert_eq!(fixture.query_plan(&statement).await, [&format!("SEARCH {expected}"), open], "{statement}");
    }
    let newest = "SEARCH transactions USING INDEX transactions_not_final";
    let blocks = "SEARCH transactions USING INDEX transactions_not_final (block_number>?)";
    assert_eq!(fixture.query_plan(&open_transactions::unfinalized_within_depth_sql()).await, [blocks, newest]);
}

#[tokio::test]
async fn spending_is_summed_from_this_day_and_open_transactions_only() {
    let fixture = PlanFixture::new().await;
    let plan = fixture.query_plan(daily_budget::SPENDING_SQL).await;
    let [open, versions, today] = plan.as_slice() else { panic!("{plan:?}") };
    assert_eq!(open, "SCAN t USING INDEX transactions_open");
    assert!(versions.starts_with("SEARCH a USING INDEX"), "{versions}");
    assert_eq!(today, "SEARCH transactions USING INDEX transactions_by_inclusion (included_at>?)");
    let earlier = "SEARCH transactions USING INDEX transactions_by_inclusion (included_at>? AND included_at<?)";
    assert_eq!(fixture.query_plan(daily_budget::SPENT_BETWEEN_SQL).await, [earlier]);
}
