//! The order of commits on PostgreSQL, restored databases, and replicas of the previous release.

use super::*;
use crate::{
    registration::{DocumentHash, NewRegistration, Pair},
    store::{
        AcceptHandle, Settings, query_plan_tests,
        testing::{TestDatabase, server::Database},
    },
    telemetry::propagation,
};
use sqlx::{AssertSqlSafe, Executor, PgConnection};
use tokio_util::sync::CancellationToken;

async fn open(database: &Database) -> Store {
    Store::open(&Settings::Postgres(database.url()), 1_000).await.unwrap()
}

async fn accept(store: &Store, document: u8) -> RegistrationId {
    let (handle, writer) = AcceptHandle::new(store.clone());
    tokio::spawn(writer.run(CancellationToken::new(), || {}));
    let pair = Pair { document_hash: DocumentHash::new([document; 32]).unwrap(), case_id: "a".parse().unwrap() };
    let trace = propagation::extract(&http::HeaderMap::new()).into();
    let request = NewRegistration { pair, submitted_as: String::new(), user_id: None, caller: None, trace };
    handle.accept(request).await.unwrap().registration.id
}

/// As a replica of the previous release writes it.
fn insert_sql(document: u8) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!(
        "INSERT INTO registrar.registrations (id, document_hash, case_id, submitted_as, state, revision, trace_id, \
         created_at, updated_at) VALUES ('\\x{0}', '\\x{0}{0}', 'a', '', 'queued', 1, '\\x{0}', 1, 1)",
        format!("{document:02x}").repeat(16)
    ))
}

fn id(document: u8) -> RegistrationId {
    RegistrationId::from_bytes([document; 16])
}

async fn changed(store: &Store, after: ChangePosition, waits_for: WaitsFor) -> Vec<RegistrationId> {
    let page = store.changes_after(after, PageSize::Small, waits_for).await.unwrap();
    page.changes.iter().map(|change| change.registration.id).collect()
}

/// All that is committed. Transactions of other tests, which have locked nothing yet or have just ended, hold it back for
/// a moment.
async fn changed_here(store: &Store, after: ChangePosition) -> Vec<RegistrationId> {
    loop {
        let page = store.changes_after(after, PageSize::Small, WaitsFor::ThisDatabase).await.unwrap();
        let last = page.changes.last().map_or(after, |change| change.position);
        if !store.has_changes_after(last).await.unwrap() {
            return page.changes.iter().map(|change| change.registration.id).collect();
        }
        tokio::task::yield_now().await;
    }
}

/// Begins a transaction that has an id.
async fn begin(database: &Database) -> PgConnection {
    let mut connection = database.connect().await;
    connection.execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    connection
}

#[tokio::test]
async fn a_change_that_is_committed_after_a_later_one_is_never_skipped() {
    let database = Database::new().await;
    let store = open(&database).await;
    let start = store.newest_change().await.unwrap().position;
    let mut first = begin(&database).await;
    let second = accept(&store, 2).await;
    for waits_for in [WaitsFor::AllDatabases, WaitsFor::ThisDatabase] {
        assert_eq!(changed(&store, start, waits_for).await, [], "the first transaction may still change something");
    }
    assert_eq!(store.newest_change().await.unwrap().position, start);
    assert!(store.has_changes_after(start).await.unwrap());

    first.execute(insert_sql(1)).await.unwrap();
    first.execute("COMMIT").await.unwrap();

    assert_eq!(changed_here(&store, start).await, [id(1), second]);
}

#[tokio::test]
async fn transactions_of_other_databases_of_the_server_are_not_waited_for() {
    let (database, other) = (Database::new().await, Database::new().await);
    let store = open(&database).await;
    let start = store.newest_change().await.unwrap().position;
    let mut long = begin(&other).await;
    long.execute("CREATE TABLE public.t (n INTEGER)").await.unwrap();
    let accepted = accept(&store, 1).await;
    assert_eq!(changed(&store, start, WaitsFor::AllDatabases).await, []);
    assert_eq!(changed_here(&store, start).await, [accepted]);
    assert!(store.newest_change().await.unwrap().position > start);
}

#[tokio::test]
async fn changes_by_replicas_of_the_previous_release_are_in_the_feed() {
    let database = Database::new().await;
    let store = open(&database).await;
    let start = store.newest_change().await.unwrap().position;
    database.run(insert_sql(1).0.as_str()).await;
    database.run(insert_sql(2).0.as_str()).await;
    assert_eq!(changed_here(&store, start).await, [id(1), id(2)]);
    let read = store.newest_change().await.unwrap().position;
    database.run("UPDATE registrar.registrations SET revision = 2 WHERE document_hash < '\\x02'").await;
    database.run("UPDATE registrar.registrations SET claimed_until = 5").await;
    assert_eq!(changed_here(&store, read).await, [id(1)]);
}

#[tokio::test]
async fn a_dump_from_a_cluster_that_is_ahead_is_read_from_its_beginning() {
    let database = Database::new().await;
    let store = open(&database).await;
    let (first, second) = (accept(&store, 1).await, accept(&store, 2).await);
    database.run("UPDATE registrar.registrations SET change_number = change_number + 1000000000000").await;
    let cursor =
        ChangeCursor { history: store.newest_change().await.unwrap().history, position: ChangePosition::BEGINNING };
    store.close().await;

    let store = open(&database).await;

    assert_eq!(store.check_cursor(&cursor).await.unwrap(), CursorCheck::Foreign);
    assert_eq!(changed_here(&store, ChangePosition::BEGINNING).await, [first, second]);
    let read = store.newest_change().await.unwrap();
    let third = accept(&store, 3).await;
    assert_eq!(changed_here(&store, read.position).await, [third]);
    assert_eq!(store.check_cursor(&read).await.unwrap(), CursorCheck::Known);
}

#[tokio::test]
async fn a_cursor_from_after_the_backup_is_foreign_once_it_is_restored() {
    let folder = tempfile::tempdir().unwrap();
    let (file, backup) = (folder.path().join("r.db"), folder.path().join("backup.db"));
    let settings = Settings::Sqlite(file.clone());
    let store = Store::open(&settings, 100).await.unwrap();
    accept(&store, 1).await;
    let before = store.newest_change().await.unwrap();
    query(format!("VACUUM INTO '{}'", backup.display())).execute(&store.writer).await.unwrap();
    accept(&store, 2).await;
    let after = store.newest_change().await.unwrap();
    store.close().await;
    drop(store);
    for extension in ["db-wal", "db-shm"] {
        let _ = std::fs::remove_file(file.with_extension(extension));
    }
    std::fs::rename(&backup, &file).unwrap();

    let store = Store::open(&settings, 100).await.unwrap();
    // As many changes as were lost.
    accept(&store, 3).await;

    assert_eq!(store.check_cursor(&before).await.unwrap(), CursorCheck::Known);
    assert_eq!(store.check_cursor(&after).await.unwrap(), CursorCheck::Foreign);
}

#[tokio::test]
async fn a_page_is_read_from_its_position_alone() {
    let TestDatabase::Sqlite(folder) = TestDatabase::sqlite() else { unreachable!("it is a file") };
    let store = Store::open(&Settings::Sqlite(folder.path().join("r.db")), 1).await.unwrap();
    let plan = async |sql: String| {
        let plan = query_plan_tests::explain(&sql);
        let steps = plan.fetch_all(&store.reader).await.unwrap();
        let steps = steps.iter().map(|row| row.get::<String>(3).unwrap());
        steps.filter(|step| step.contains("registrations") || step.contains("SORT")).collect::<Vec<_>>()
    };
    let page = plan(changes_sql(ANYTHING_SQL, PageSize::Small)).await;
    assert_eq!(page.len(), 1, "{page:?}");
    assert!(page[0].starts_with("SEARCH r USING INDEX registrations_by_change ((change_number,id)>"), "{page:?}");
    let newest = plan(newest_sql(ANYTHING_SQL)).await;
    assert!(newest.iter().all(|step| step.contains("registrations_by_change")), "{newest:?}");
    let changed = plan(IS_CHANGED_SQL.to_owned()).await;
    assert!(changed.iter().all(|step| step.contains("registrations_by_change")), "{changed:?}");
}
