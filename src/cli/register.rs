//! `registrar register`: hashes, registers, and shows progress, result and waterfall.

use super::{
    Exit,
    args::RegisterArgs,
    client::Client,
    collect::{self, NamedDocument},
    document::Document,
    error::{CliError, CliResult},
    json,
    output::{Output, print, print_line},
    progress::ProgressView,
    register_many,
    server::Server,
    summary, time, waterfall,
};
use crate::{
    api::proto::{
        ListRegistrationsRequest, RegisterDocumentRequest, Registration, State, WaitFor, WatchRegistrationRequest,
    },
    registration::CaseId,
};
use futures_util::TryStreamExt;
use std::{convert::Infallible, future, time::Duration};

/// Between two looks for a registration that is being accepted.
const FIND_INTERVAL: Duration = Duration::from_millis(100);

pub(super) struct RegisterRequest {
    pub document: Document,
    pub case: CaseId,
    pub wait_for: WaitFor,
    pub wait_timeout: Option<Duration>,
    pub user_id: String,
}

impl RegisterRequest {
    fn to_proto(&self) -> RegisterDocumentRequest {
        // The server rejects what does not fit a protobuf duration, too.
        let max = prost_types::Duration { seconds: i64::MAX, nanos: 0 };
        RegisterDocumentRequest {
            document_hash: self.document.submitted_as.clone(),
            case_id: self.case.to_string(),
            wait_for: self.wait_for.into(),
            wait_timeout: self.wait_timeout.map(|wait| wait.try_into().unwrap_or(max)),
            user_id: self.user_id.clone(),
        }
    }
}

pub(super) async fn run(args: RegisterArgs, server: &Server, output: &Output) -> CliResult<Exit> {
    let mut documents = collect::collect(&args, output.shows_progress).await?;
    let one = if args.names_one_document() { documents.pop() } else { None };
    let Some(NamedDocument { document, case, .. }) = one else {
        let client = Client::connect(server).await?;
        return register_many::register_all(&args, &documents, &client, output).await;
    };
    let client = Client::connect(server).await?;
    let request = RegisterRequest {
        document,
        case,
        wait_for: args.wait_for.into(),
        wait_timeout: args.wait_timeout,
        user_id: args.user_id.map(|user| user.as_str().to_owned()).unwrap_or_default(),
    };
    register(&client, output, request).await
}

/// Registers, and prints what is known of the registration, also after an error.
pub(super) async fn register(client: &Client, output: &Output, request: RegisterRequest) -> CliResult<Exit> {
    if output.shows_progress {
        eprintln!("{}", summary::document_heading(&request.document, &request.case));
    }
    let result = accept_and_wait(client, output, &request).await;
    let known = match &result {
        Ok(registration) => Some(registration),
        Err(error) => error.registration.as_ref(),
    };
    match known {
        Some(registration) if output.json && result.is_ok() => print_line(&json::to_line(registration)),
        Some(registration) if !output.json => {
            if output.shows_progress {
                eprintln!();
            }
            print(&summary::render_registration(registration, &output.stdout_style));
            if registration.trace_id != client.trace_id() {
                print(&summary::labelled_row("this call", client.trace_id(), &output.stdout_style));
            }
            print("\n");
            print(&waterfall::render(registration, time::now(), output.width, &output.stdout_style));
        }
        Some(_) | None => {}
    }
    result.map(|registration| if registration.state() == State::Failed { Exit::Failed } else { Exit::Done })
}

/// One call registers and waits: its trace is that of the registration. Others follow it outside of that trace.
async fn accept_and_wait(client: &Client, output: &Output, request: &RegisterRequest) -> CliResult<Registration> {
    let mut progress = ProgressView::new(output, false);
    let waiting = client.register(request.to_proto());
    if request.wait_for == WaitFor::Accepted {
        let accepted = waiting.await?;
        progress.show(&accepted);
        return Ok(accepted);
    }
    let mut accepted = None;
    let result = {
        let following = follow(client.follower(), request, &mut accepted, &mut progress);
        tokio::select! {
            biased;
            result = waiting => result,
            never = following => match never {},
            _ = tokio::signal::ctrl_c() => Err(CliError::interrupted()),
        }
    };
    match &result {
        Ok(registration) => progress.show(registration),
        Err(error) => accepted = progress.last_shown().cloned().or(accepted).or_else(|| error.registration.clone()),
    }
    result.map_err(|error| match &accepted {
        Some(registration) => error.with_registration(registration, request.wait_for),
        None => error,
    })
}

/// Looks for the registration while another call waits, so that it is known to be accepted if that call is lost, and
/// shows its steps. Errors are ignored: that call reports them.
async fn follow(
    client: Client,
    request: &RegisterRequest,
    accepted: &mut Option<Registration>,
    progress: &mut ProgressView,
) -> Infallible {
    let Some(found) = find_accepted(&client, request).await else { return future::pending().await };
    progress.show(&found);
    let watch = WatchRegistrationRequest {
        id: found.id.clone(),
        until: request.wait_for.into(),
        after_revision: found.revision,
    };
    *accepted = Some(found);
    if progress.is_enabled()
        && let Ok(mut states) = client.watch(watch).await
    {
        while let Ok(Some(registration)) = states.try_next().await {
            progress.show(&registration);
        }
    }
    future::pending().await
}

/// `None` when the caller may not read it, or the server cannot be reached. A failed one is of an earlier call. A list,
/// because it is no error that there is none yet: the server exports the spans of a call with an error.
async fn find_accepted(client: &Client, request: &RegisterRequest) -> Option<Registration> {
    let list = ListRegistrationsRequest {
        document_hash: request.document.hash.to_string(),
        case_id: request.case.to_string(),
        ..Default::default()
    };
    loop {
        tokio::time::sleep(FIND_INTERVAL).await;
        let found = client.list(list.clone()).await.ok()?.registrations.pop();
        if found.as_ref().is_some_and(|found| found.state() != State::Failed) {
            return found;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_does_not_fit_is_the_longest_one() {
        let hash = crate::registration::DocumentHash::new([1; 32]).unwrap();
        let longest = prost_types::Duration { seconds: i64::MAX, nanos: 0 };
        for (wait_timeout, expected) in [
            (None, None),
            (Some(Duration::from_secs(9)), Some(prost_types::Duration { seconds: 9, nanos: 0 })),
            (Some(Duration::MAX), Some(longest)),
        ] {
            let request = RegisterRequest {
                document: Document { submitted_as: hash.to_string(), hash, file: None },
                case: "CASE-1".parse().unwrap(),
                wait_for: WaitFor::Confirmed,
                wait_timeout,
                user_id: "user-1".to_owned(),
            };
            assert_eq!(request.to_proto().wait_timeout, expected);
        }
    }
}
