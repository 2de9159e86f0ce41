//! `registrar register`: hash, register, show the stages, say where the time went.

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

/// What to register, and how long to stay.
pub(super) struct RegisterRequest {
    pub document: Document,
    pub case: CaseId,
    pub wait_for: WaitFor,
    pub wait_timeout: Option<Duration>,
    pub user_id: String,
}

impl RegisterRequest {
    /// The call that waits as far as `wait_for`. Every field is in each of them, so that the first one, which has the work
    /// accepted, is refused for whatever is wrong with any.
    fn to_proto(&self, wait_for: WaitFor) -> RegisterDocumentRequest {
        // More seconds than protobuf can count are for the server to refuse, too.
        let longest = prost_types::Duration { seconds: i64::MAX, nanos: 0 };
        RegisterDocumentRequest {
            document_hash: self.document.submitted_as.clone(),
            case_id: self.case.to_string(),
            wait_for: wait_for.into(),
            wait_timeout: self.wait_timeout.map(|wait| wait.try_into().unwrap_or(longest)),
            user_id: self.user_id.clone(),
        }
    }
}

/// `registrar register`.
pub(super) async fn run(args: RegisterArgs, screen: &Output) -> CliResult<Exit> {
    let document = document::resolve(&args.document, screen.shows_progress).await?;
    let client = Client::connect(&args.connection.server).await?;
    let wanted = RegisterRequest {
        document,
        case: args.case,
        wait_for: args.wait_for.into(),
        wait_timeout: args.wait_timeout,
        user_id: args.user_id.map(|user| user.as_str().to_owned()).unwrap_or_default(),
    };
    register(&client, screen, wanted).await
}

/// Registers and reports: the answer and the waterfall, or what went wrong with as much of both as there is.
pub(super) async fn register(client: &Client, screen: &Output, wanted: RegisterRequest) -> CliResult<Exit> {
    if screen.shows_progress {
        eprintln!("{}", summary::document_heading(&wanted.document, &wanted.case));
    }
    let answer = accept_and_wait(client, screen, &wanted).await;
    let known = match &answer {
        Ok(registration) => Some(registration),
        Err(trouble) => trouble.registration.as_ref(),
    };
    match known {
        Some(registration) if screen.json && answer.is_ok() => print_line(&json::to_line(registration)),
        Some(registration) if !screen.json => {
            if screen.shows_progress {
                eprintln!();
            }
            print(&summary::render_registration(registration, screen.stdout_style));
            if registration.trace_id != client.trace_id() {
                print(&summary::labelled_row("this call", client.trace_id(), screen.stdout_style));
            }
            print("\n");
            print(&waterfall::render(registration, time::now(), screen.width, screen.stdout_style));
        }
        Some(_) | None => {}
    }
    answer.map(|registration| if registration.state() == State::Failed { Exit::Failed } else { Exit::Done })
}

/// Two calls, for one could not tell a connection that broke before the work was accepted from one that broke after: the
/// first has it accepted, the second waits. Both name the same pair, so it is registered once.
async fn accept_and_wait(client: &Client, screen: &Output, wanted: &RegisterRequest) -> CliResult<Registration> {
    let mut live = ProgressView::new(screen, false);
    let accepted = client.register(wanted.to_proto(WaitFor::Accepted)).await?;
    live.show(&accepted);
    if progress_steps::has_reached(&accepted, wanted.wait_for) {
        return Ok(accepted);
    }
    let answer = {
        let waiting = client.register(wanted.to_proto(wanted.wait_for));
        let following = show_progress(client, &accepted, wanted.wait_for, &mut live);
        tokio::select! {
            biased;
            answer = waiting => answer,
            never = following => match never {},
            _ = tokio::signal::ctrl_c() => Err(CliError::interrupted()),
        }
    };
    let answer =
        answer.map_err(|trouble| trouble.with_registration(live.last_shown().unwrap_or(&accepted), wanted.wait_for));
    if let Ok(registration) = &answer {
        live.show(registration);
    }
    answer
}

/// Shows the stages while another call waits. What goes wrong here is no trouble: that call says so itself.
async fn show_progress(
    client: &Client,
    accepted: &Registration,
    until: WaitFor,
    live: &mut ProgressView,
) -> Infallible {
    let request =
        WatchRegistrationRequest { id: accepted.id.clone(), until: until.into(), after_revision: accepted.revision };
    if live.is_enabled()
        && let Ok(mut states) = client.watch(request).await
    {
        while let Ok(Some(registration)) = states.try_next().await {
            live.show(&registration);
        }
    }
    future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_that_accepts_is_refused_for_whatever_the_call_that_waits_would_be() {
        let hash = crate::registration::DocumentHash::new([1; 32]).unwrap();
        for wait_timeout in [None, Some(Duration::from_secs(36_000)), Some(Duration::MAX)] {
            let wanted = RegisterRequest {
                document: Document { submitted_as: hash.to_string(), hash, file: None },
                case: "CASE-1".parse().unwrap(),
                wait_for: WaitFor::Confirmed,
                wait_timeout,
                user_id: "user-1".to_owned(),
            };
            let (accepting, waiting) = (wanted.to_proto(WaitFor::Accepted), wanted.to_proto(WaitFor::Confirmed));
            assert_eq!(accepting.wait_timeout.is_some(), wait_timeout.is_some());
            assert_eq!(RegisterDocumentRequest { wait_for: WaitFor::Confirmed.into(), ..accepting }, waiting);
        }
    }
}
