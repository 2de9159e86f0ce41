//! Registers many documents, up to a thousand in one call, and waits for all of them.

use super::{
    Exit,
    args::RegisterArgs,
    client::Client,
    collect::NamedDocument,
    error::{CliError, CliResult},
    json,
    output::{Output, print, print_line},
    progress_steps::has_reached,
    summary::{self, DocumentCounts},
};
use crate::api::proto::{
    DocumentKey, RegisterDocumentsRequest, Registration, State, WaitFor, WatchRegistrationRequest,
    get_registration_request::Key,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::Code;

/// The server's maximum.
const MAX_DOCUMENTS_PER_CALL: usize = 1_000;
/// Registrations that are followed at a time. A server gives as many places to every caller.
const MAX_FOLLOWED: usize = 16;
/// While the server has no room, calls are repeated this long.
const MAX_TIME_WITHOUT_ROOM: Duration = Duration::from_secs(60);
/// Those that did not get there in time are read again, so that the summary names what they wait for.
const MAX_READ_AGAIN: usize = 500;
const MIN_RETRY_DELAY: Duration = Duration::from_millis(100);
/// The server asks for a longer delay if a limit is that of a day.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(10);

/// Those that were accepted, and why the others were not.
struct Acceptance {
    registrations: Vec<Registration>,
    error: Option<Box<CliError>>,
}

/// Registers the documents and prints one summary, or one line for each.
pub(super) async fn register_all(
    args: &RegisterArgs,
    documents: &[NamedDocument],
    client: &Client,
    output: &Output,
) -> CliResult<Exit> {
    let until = WaitFor::from(args.wait_for);
    let user_id = args.user_id.as_ref().map(|user| user.as_str().to_owned()).unwrap_or_default();
    let Acceptance { mut registrations, error } = accept_all(documents, &user_id, client, output).await;
    let accepted = &documents[..registrations.len()];
    let mut waited = Ok(());
    if error.is_none() {
        waited = wait_for_all(&mut registrations, until, args.wait_timeout, client, output).await;
    }
    if output.json {
        for (named, registration) in accepted.iter().zip(&registrations) {
            print_line(&json::to_line_with(registration, "name", &named.name));
        }
    } else if !registrations.is_empty() {
        let names: Vec<_> = accepted.iter().map(|named| named.name.as_str()).collect();
        let counts = DocumentCounts::new(&registrations, client.trace_id());
        print(&summary::render_documents(&names, &registrations, &counts, until, &output.stdout_style));
        print(&summary::labelled_row("trace", client.trace_id(), &output.stdout_style));
    }
    if let Some(error) = error {
        return Err(error.with_accepted(registrations.len(), documents.len()));
    }
    waited?;
    let is_unfinished = |registration: &Registration| !has_reached(registration, until);
    if registrations.iter().any(|registration| registration.state() == State::Failed) {
        Ok(Exit::Failed)
    } else if registrations.iter().any(is_unfinished) {
        if !output.json {
            eprintln!(
                "not finished: processing continues; run the same command again to wait for the others, which \
                 registers nothing twice"
            );
        }
        Ok(Exit::Unfinished)
    } else {
        Ok(Exit::Done)
    }
}

async fn accept_all(documents: &[NamedDocument], user_id: &str, client: &Client, output: &Output) -> Acceptance {
    let bar = bar(output, documents.len(), "accepting");
    let mut registrations = Vec::with_capacity(documents.len());
    for chunk in documents.chunks(MAX_DOCUMENTS_PER_CALL) {
        let key = |named: &NamedDocument| DocumentKey {
            document_hash: named.document.submitted_as.clone(),
            case_id: named.case.to_string(),
        };
        let request =
            RegisterDocumentsRequest { documents: chunk.iter().map(key).collect(), user_id: user_id.to_owned() };
        let accepted = tokio::select! {
            accepted = accept(&request, client, &bar) => accepted,
            _ = tokio::signal::ctrl_c() => Err(CliError::interrupted()),
        };
        match accepted {
            Ok(accepted) => registrations.extend(accepted),
            Err(mut error) => {
                for (field, _) in &mut error.fields {
                    name_document(field, chunk);
                }
                return Acceptance { registrations, error: Some(error) };
            }
        }
        bar.set_position(registrations.len() as u64);
    }
    bar.finish_and_clear();
    Acceptance { registrations, error: None }
}

/// Repeats the call while the server has no room for it.
async fn accept(
    request: &RegisterDocumentsRequest,
    client: &Client,
    bar: &ProgressBar,
) -> CliResult<Vec<Registration>> {
    let started = Instant::now();
    loop {
        match client.register_all(request.clone()).await {
            Err(error) if error.code == Code::ResourceExhausted && started.elapsed() < MAX_TIME_WITHOUT_ROOM => {
                let Some(delay) = error.retry_after.filter(|delay| *delay <= MAX_RETRY_DELAY) else {
                    return Err(error);
                };
                bar.set_message(format!("waiting for room ({})", error.reason.code()));
                sleep(delay.max(MIN_RETRY_DELAY)).await;
                bar.set_message("accepting");
            }
            done => return done,
        }
    }
}

/// `documents[3].case_id` to `case_id of a.pdf`.
fn name_document(field: &mut String, documents: &[NamedDocument]) {
    let parts = field.strip_prefix("documents[").and_then(|rest| rest.split_once("]."));
    let Some((index, name)) = parts else { return };
    if let Some(named) = index.parse::<usize>().ok().and_then(|index| documents.get(index)) {
        *field = format!("{name} of {}", named.name);
    }
}

/// Ends when each has reached the state, has failed or is late, or when the time is over. Without a time, that is when
/// none has advanced for the server's longest wait.
async fn wait_for_all(
    registrations: &mut [Registration],
    until: WaitFor,
    wait_timeout: Option<Duration>,
    client: &Client,
    output: &Output,
) -> CliResult<()> {
    let bar = bar(output, registrations.len(), "waiting");
    let is_done =
        |registration: &Registration| has_reached(registration, until) || registration.state() == State::Failed;
    let mut followed = HashSet::new();
    let unfinished = registrations.iter().filter(|one| !is_done(one) && followed.insert(one.id.clone()));
    let unfinished: Vec<_> = unfinished.map(|one| one.id.clone()).collect();
    if unfinished.is_empty() {
        return Ok(());
    }
    let longest = match wait_timeout {
        Some(longest) => longest,
        None => client.info().await?.max_wait.and_then(|wait| wait.try_into().ok()).unwrap_or(Duration::MAX),
    };
    let end = || Instant::now().checked_add(longest);
    let mut ends_at = end();
    let mut reached: HashMap<String, Registration> = HashMap::new();
    let mut following = stream::iter(unfinished).map(|id| follow(client, id, until)).buffer_unordered(MAX_FOLLOWED);
    bar.set_position((registrations.len() - followed.len()) as u64);
    let result = loop {
        let next = async {
            match ends_at {
                Some(ends_at) => timeout_at(ends_at, following.next()).await.ok().flatten(),
                None => following.next().await,
            }
        };
        let next = tokio::select! {
            next = next => next,
            _ = tokio::signal::ctrl_c() => break Err(CliError::interrupted()),
        };
        match next {
            Some(Ok(registration)) => {
                reached.insert(registration.id.clone(), registration);
                bar.inc(1);
                if wait_timeout.is_none() {
                    ends_at = end();
                }
            }
            Some(Err(error)) => break Err(error),
            None => break Ok(()),
        }
    };
    bar.finish_and_clear();
    for registration in &mut *registrations {
        if let Some(newer) = reached.get(&registration.id) {
            registration.clone_from(newer);
        }
    }
    if result.is_ok() {
        read_again(registrations.iter_mut().filter(|one| !is_done(one)).take(MAX_READ_AGAIN), client).await;
    }
    result
}

/// Until a call fails: then the older states are shown.
async fn read_again(registrations: impl Iterator<Item = &mut Registration>, client: &Client) {
    for registration in registrations {
        let Ok(newer) = client.get(Key::Id(registration.id.clone())).await else { return };
        *registration = newer;
    }
}

/// Returns when it has reached the state, has failed, or is diagnosed as late.
async fn follow(client: &Client, id: String, until: WaitFor) -> CliResult<Registration> {
    let mut seen = 0;
    loop {
        match watch(client, &id, until, &mut seen).await {
            Ok(Some(registration)) => return Ok(registration),
            // It had reached the state with the last revision that was seen.
            Ok(None) => seen = 0,
            // No place to wait, or a connection that has reached its age.
            Err(error) if error.retry_after.is_some_and(|delay| delay <= MAX_RETRY_DELAY) => {
                sleep(error.retry_after.unwrap_or_default().max(MIN_RETRY_DELAY)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// `None` if the stream ends before; `seen` is the last revision.
async fn watch(client: &Client, id: &str, until: WaitFor, seen: &mut i64) -> CliResult<Option<Registration>> {
    let request = WatchRegistrationRequest { id: id.to_owned(), until: until.into(), after_revision: *seen };
    let mut states = client.watch(request).await?;
    while let Some(registration) = states.try_next().await? {
        *seen = registration.revision;
        let is_late = registration.diagnosis.is_some() && !has_reached(&registration, WaitFor::Confirmed);
        if has_reached(&registration, until) || registration.state() == State::Failed || is_late {
            return Ok(Some(registration));
        }
    }
    Ok(None)
}

fn bar(output: &Output, documents: usize, message: &'static str) -> ProgressBar {
    if !output.shows_progress {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("  {msg} {wide_bar} {pos}/{len} ({elapsed})");
    let bar = ProgressBar::new(documents as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(message);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::document::Document, registration::DocumentHash};

    #[test]
    fn an_invalid_field_is_named_by_its_document() {
        let hash = DocumentHash::new([1; 32]).unwrap();
        let named = |name: &str| NamedDocument {
            name: name.to_owned(),
            document: Document { submitted_as: hash.to_string(), hash, file: None },
            case: "CASE-1".parse().unwrap(),
        };
        let documents = [named("a.pdf"), named("b.pdf")];
        for (field, expected) in [
            ("documents[1].case_id", "case_id of b.pdf"),
            ("documents[2].case_id", "documents[2].case_id"),
            ("documents", "documents"),
            ("user_id", "user_id"),
        ] {
            let mut field = field.to_owned();
            name_document(&mut field, &documents);
            assert_eq!(field, expected);
        }
    }
}
