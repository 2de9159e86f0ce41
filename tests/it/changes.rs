//! The change feed: every change at least once and in order, resumable, bounded, and only for those who may see it.

use crate::harness::{CASE, StackBuilder, State, cli::run, eventually, process::Process, retry_timing, service};
use registrar::api::proto::{ListChangesRequest, WatchChangesRequest};
use std::time::Duration;
use tokio::time::Instant;
use tonic::Code;

#[tokio::test]
async fn a_reader_gets_a_checkpoint_at_once_and_then_every_state_in_order() {
    let stack = StackBuilder::on_demand().set("REGISTRAR_CONFIRMATIONS", 2).start().await;
    stack.anvil.stop_mining().await;
    let mut changes = stack.client.watch_changes(WatchChangesRequest::default()).await.unwrap();
    assert_eq!(changes.until_caught_up().await, []);

    let accepted = stack.client.accept(1, CASE).await;
    let mut states = Vec::new();
    for state in [State::Submitted, State::Included, State::Confirmed] {
        let mut seen = changes.until(|seen| seen.id == accepted.id).await;
        states.push(seen.state());
        while seen.state() != state {
            seen = changes.until(|seen| seen.id == accepted.id).await;
            states.push(seen.state());
        }
        stack.anvil.mine(1).await;
    }
    states.dedup();
    assert!(states.ends_with(&[State::Submitted, State::Included, State::Confirmed]), "{states:?}");
    let last = stack.client.get(&accepted.id).await.unwrap();
    assert_eq!(changes.seen.revisions[&accepted.id], last.revision);
}

#[tokio::test]
async fn a_new_reader_gets_the_latest_state_of_everything_and_continues_where_it_stopped() {
    let mut stack = StackBuilder::on_demand().start().await;
    for number in 0..5 {
        stack.client.confirm(number, CASE).await;
    }
    let mut changes = stack.client.all_changes().await;
    let all = changes.until_caught_up().await;
    assert_eq!(all.len(), 5, "one change for each registration");
    assert!(all.iter().all(|seen| seen.state() == State::Confirmed));
    let seen = changes.seen.clone();
    drop(changes);

    let missed = stack.client.accept(5, CASE).await;
    stack.service.kill();
    stack.restart().await;

    let mut changes = stack.client.resume_changes(seen).await;
    let next = changes.until(|_| true).await;
    assert_eq!(next.id, missed.id);
    assert_eq!(changes.until(|seen| seen.state() == State::Confirmed).await.id, missed.id);
    assert_eq!(changes.seen.revisions.len(), 6);
}

#[tokio::test]
async fn pages_have_what_the_stream_has() {
    let stack = StackBuilder::on_demand().start().await;
    let now = stack.client.list_changes(ListChangesRequest::default()).await.unwrap();
    assert_eq!((now.registrations.len(), now.caught_up), (0, true));
    for number in 0..5 {
        stack.client.confirm(number, if number < 3 { "odd" } else { "even" }).await;
    }
    let page = async |after_cursor: &str, page_size, case_id: &str, states: &[State]| {
        let request = ListChangesRequest {
            after_cursor: after_cursor.to_owned(),
            page_size,
            case_id: case_id.to_owned(),
            states: states.iter().map(|state| (*state).into()).collect(),
            ..Default::default()
        };
        stack.client.list_changes(request).await.unwrap()
    };
    let first = page(&now.next_cursor, 3, "", &[]).await;
    assert_eq!((first.registrations.len(), first.caught_up), (3, false));
    let rest = page(&first.next_cursor, 500, "", &[]).await;
    assert_eq!((rest.registrations.len(), rest.caught_up), (2, true));
    let end = page(&rest.next_cursor, 0, "", &[]).await;
    assert_eq!((end.registrations.len(), end.caught_up, end.next_cursor), (0, true, rest.next_cursor.clone()));

    // What does not match is read too: the cursor is behind it.
    let odd = page(&now.next_cursor, 0, "odd", &[State::Confirmed]).await;
    assert_eq!((odd.registrations.len(), odd.caught_up, odd.next_cursor), (3, true, rest.next_cursor.clone()));
    let failed = page(&now.next_cursor, 0, "", &[State::Failed]).await;
    assert_eq!((failed.registrations.len(), failed.next_cursor), (0, rest.next_cursor));
    let beginning = ListChangesRequest { from_beginning: true, ..Default::default() };
    assert_eq!(stack.client.list_changes(beginning).await.unwrap().registrations.len(), 5);
}

#[tokio::test]
async fn what_is_no_cursor_of_this_database_is_refused_and_says_what_to_do() {
    let (stack, other) = tokio::join!(StackBuilder::on_demand().start(), StackBuilder::on_demand().start());
    let theirs = other.client.list_changes(ListChangesRequest::default()).await.unwrap().next_cursor;
    let refused = async |after_cursor: &str, from_beginning| {
        let after_cursor = after_cursor.to_owned();
        let watch = WatchChangesRequest { after_cursor: after_cursor.clone(), from_beginning, ..Default::default() };
        let list = ListChangesRequest { after_cursor, from_beginning, ..Default::default() };
        let watched = stack.client.watch_changes(watch).await.err().unwrap();
        let listed = stack.client.list_changes(list).await.err().unwrap();
        assert_eq!((watched.kind(), &watched.message), (listed.kind(), &listed.message));
        watched
    };
    let foreign = refused(&theirs, false).await;
    assert_eq!(foreign.kind(), (Code::InvalidArgument, "CURSOR_FOREIGN"));
    assert!(foreign.message.contains("from_beginning"), "{}", foreign.message);
    for (cursor, from_beginning) in [("x", false), ("AAAA", false), (theirs.as_str(), true)] {
        let error = refused(cursor, from_beginning).await;
        assert_eq!(
            (error.kind(), error.field_names()),
            ((Code::InvalidArgument, "INVALID_FIELD"), vec!["after_cursor"])
        );
    }
    let request = ListChangesRequest { page_size: -1, case_id: "-".into(), states: vec![99], ..Default::default() };
    let error = stack.client.list_changes(request).await.err().unwrap();
    assert_eq!(error.field_names(), ["case_id", "page_size", "states"]);
}

#[tokio::test]
async fn a_change_reaches_a_reader_on_any_replica_soon() {
    let mut stack = StackBuilder::on_demand().postgres().start().await;
    crate::postgres::wait_for_lease(&mut stack.service).await;
    let (_other, client) = stack.replica().await;
    let mut numbers = 0..;
    for reader in [&client, &stack.client] {
        let mut changes = reader.watch_changes(WatchChangesRequest::default()).await.unwrap();
        changes.until_caught_up().await;
        // By polling, which happens once a second, each would take a second.
        retry_timing("eight changes", async || {
            let started = Instant::now();
            for number in numbers.by_ref().take(8) {
                let confirmed = stack.client.confirm(number, CASE).await;
                changes.until(|seen| seen.id == confirmed.id && seen.state() == State::Confirmed).await;
            }
            if started.elapsed() < Duration::from_secs(5) { Ok(()) } else { Err(format!("{:?}", started.elapsed())) }
        })
        .await;
    }
}

#[tokio::test]
async fn a_reader_of_changes_takes_a_place_among_the_waiting_calls() {
    let stack = StackBuilder::on_demand().set("REGISTRAR_MAX_WAITERS", 2).start().await;
    let mut open = Vec::new();
    let error = loop {
        match stack.client.watch_changes(WatchChangesRequest::default()).await {
            Ok(changes) => open.push(changes),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), (Code::ResourceExhausted, "TOO_MANY_WAITERS"));
    assert!((1..=2).contains(&open.len()), "{}", open.len());
    drop(open);
    eventually("the place", async || stack.client.watch_changes(WatchChangesRequest::default()).await.ok().map(drop))
        .await;
}

#[tokio::test]
async fn a_stream_of_changes_ends_at_the_age_of_its_connection() {
    let stack = StackBuilder::on_demand().set("REGISTRAR_MAX_CONNECTION_AGE", "1s").start().await;
    let mut changes = stack.client.watch_changes(WatchChangesRequest::default()).await.unwrap();
    let end = loop {
        if let Err(error) = changes.next().await {
            break error;
        }
    };
    assert_eq!(end.kind(), (Code::Unavailable, "CONNECTION_AGE"));
}

#[tokio::test]
async fn a_stream_of_changes_ends_at_the_shutdown() {
    let mut stack = StackBuilder::on_demand().start().await;
    let mut changes = stack.client.watch_changes(WatchChangesRequest::default()).await.unwrap();
    changes.until_caught_up().await;
    stack.service.terminate();
    let end = changes.next().await.err().unwrap();
    assert_eq!(end.kind(), (Code::Unavailable, "SHUTTING_DOWN"));
    assert_eq!(stack.service.exit_code().await, 0);
}

#[tokio::test]
async fn the_command_line_prints_changes_and_says_how_to_continue() {
    let stack = StackBuilder::on_demand().start().await;
    for number in 0..2 {
        stack.client.confirm(number, CASE).await;
    }
    let server = format!("http://{}", stack.service.grpc);
    let at = async |arguments: &[&str]| run(arguments, &[("REGISTRAR_SERVER", &server)]).await;
    let cursor = |stderr: &str| {
        stderr.lines().find_map(|line| Some(line.strip_prefix("continue with --from ")?.to_owned())).unwrap()
    };
    let all = at(&["changes", "--from-beginning", "--json"]).await;
    assert_eq!((all.code, all.json().len()), (0, 2), "{all:?}");
    let last = &all.json()[1];
    assert_eq!(last["registration"]["state"], "STATE_CONFIRMED");
    assert_eq!(last["cursor"], cursor(&all.stderr).as_str());
    let text = at(&["changes", "--from-beginning", "--state", "confirmed", "--case", CASE]).await;
    assert!(text.stdout.lines().all(|line| line.contains("CONFIRMED") && line.contains(CASE)), "{text:?}");
    assert_eq!(text.stdout.lines().count(), 2);
    let none = at(&["changes", "--from", &cursor(&all.stderr)]).await;
    assert_eq!((none.code, none.stdout.as_str()), (0, ""), "{none:?}");
    let bad = at(&["changes", "--from", "x"]).await;
    assert!(bad.code == 64 && bad.stderr.contains("after_cursor"), "{bad:?}");

    let mut command = service::command();
    command.args(["changes", "--follow"]).env("REGISTRAR_SERVER", &server);
    let mut following = Process::spawn("registrar changes", &mut command);
    // The stream has to be open before the change.
    eventually("the reader", async || {
        let reading = stack.service.metrics().await.value("registrar_change_readers", &[]);
        (reading > 0.0).then_some(())
    })
    .await;
    let accepted = stack.client.accept(2, CASE).await;
    following.wait_for_line("the change", |line| line.contains(&accepted.id).then_some(())).await;
    following.signal(rustix::process::Signal::INT);
    assert_eq!(following.exit().await.code(), Some(0));
    assert!(following.lines().all().iter().any(|line| line.starts_with("continue with --from ")));
}
