//! `registrar register`: hashes, registers, and shows progress, result and waterfall.

use super::{
    Exit,
    args::RegisterArgs,
    client::Client,
    document::{self, Document},
    error::{CliError, CliResult},
    json,
    output::{Output, print, print_line},
    progress::ProgressView,
    progress_steps, summary, time, waterfall,
};
use crate::{
    api::proto::{RegisterDocumentRequest, Registration, State, WaitFor, WatchRegistrationRequest},
    registration::CaseId,
};
use futures_util::TryStreamExt;
use std::{convert::Infallible, future, time::Duration};

pub(super) struct RegisterRequest {
    pub document: Document,
    pub case: CaseId,
    pub wait_for: WaitFor,
    pub wait_timeout: Option<Duration>,
    pub user_id: String,
}

impl RegisterRequest {
    /// All calls have all fields, so that the first one, which registers, is rejected if any field is invalid.
    fn to_proto(&self, wait_for: WaitFor) -> RegisterDocumentRequest {
        // The server rejects what does not fit a protobuf duration, too.
        let max = prost_types::Duration { seconds: i64::MAX, nanos: 0 };
        RegisterDocumentRequest {
            document_hash: self.document.submitted_as.clone(),
            case_id: self.case.to_string(),
            wait_for: wait_for.into(),
            wait_timeout: self.wait_timeout.map(|wait| wait.try_into().unwrap_or(max)),
            user_id: self.user_id.clone(),
        }
    }
}

pub(super) async fn run(args: RegisterArgs, output: &Output) -> CliResult<Exit> {
    let document = document::resolve(&args.document, output.shows_progress).await?;
    let client = Client::connect(&args.connection.server).await?;
    let request = RegisterRequest {
        document,
        case: args.case,
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

/// The first call registers, the second one waits. With a single call, a connection lost before the registration was
/// accepted would look like one lost afterwards. Both have the same pair, so it is registered once.
async fn accept_and_wait(client: &Client, output: &Output, request: &RegisterRequest) -> CliResult<Registration> {
    let mut progress = ProgressView::new(output, false);
    let accepted = client.register(request.to_proto(WaitFor::Accepted)).await?;
    progress.show(&accepted);
    if progress_steps::has_reached(&accepted, request.wait_for) {
        return Ok(accepted);
    }
    let result = {
        let waiting = client.register(request.to_proto(request.wait_for));
        let following = show_progress(client, &accepted, request.wait_for, &mut progress);
        tokio::select! {
            biased;
            result = waiting => result,
            never = following => match never {},
            _ = tokio::signal::ctrl_c() => Err(CliError::interrupted()),
        }
    };
    let result =
        result.map_err(|error| error.with_registration(progress.last_shown().unwrap_or(&accepted), request.wait_for));
    if let Ok(registration) = &result {
        progress.show(registration);
    }
    result
}

/// Shows the steps while another call waits. Errors are ignored: that call reports them.
async fn show_progress(
    client: &Client,
    accepted: &Registration,
    until: WaitFor,
    progress: &mut ProgressView,
) -> Infallible {
    let request =
        WatchRegistrationRequest { id: accepted.id.clone(), until: until.into(), after_revision: accepted.revision };
    if progress.is_enabled()
        && let Ok(mut states) = client.watch(request).await
    {
        while let Ok(Some(registration)) = states.try_next().await {
            progress.show(&registration);
        }
    }
    future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_call_has_all_fields_of_the_second() {
        let hash = crate::registration::DocumentHash::new([1; 32]).unwrap();
        for wait_timeout in [None, Some(Duration::from_secs(36_000)), Some(Duration::MAX)] {
            let request = RegisterRequest {
                document: Document { submitted_as: hash.to_string(), hash, file: None },
                case: "CASE-1".parse().unwrap(),
                wait_for: WaitFor::Confirmed,
                wait_timeout,
                user_id: "user-1".to_owned(),
            };
            let (first, second) = (request.to_proto(WaitFor::Accepted), request.to_proto(WaitFor::Confirmed));
            assert_eq!(first.wait_timeout.is_some(), wait_timeout.is_some());
            assert_eq!(RegisterDocumentRequest { wait_for: WaitFor::Confirmed.into(), ..first }, second);
        }
    }
}
