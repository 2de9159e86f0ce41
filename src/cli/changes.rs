//! `registrar changes`: the change feed, one line a change.

use super::{
    Exit,
    args::ChangesArgs,
    client::Client,
    error::{CliError, CliResult},
    error_text::report,
    json,
    output::{Output, print_line_if_read},
    server::Server,
    signals::run_until_signal,
    summary,
};
use crate::api::proto::{
    Checkpoint, State, WatchChangesRequest, WatchChangesResponse,
    watch_changes_response::Change::{Checkpoint as CheckpointChange, Registration as RegistrationChange},
};
use futures_util::TryStreamExt;
use std::time::Duration;
use tonic::Code;

/// Before the stream is opened again, unless the server names another time.
const REOPEN_DELAY: Duration = Duration::from_secs(1);

/// Why a stream was left.
enum End {
    CaughtUp,
    /// The output is not read any more.
    OutputClosed,
}

pub(super) async fn run(args: ChangesArgs, server: &Server, output: &Output) -> CliResult<Exit> {
    let request = WatchChangesRequest {
        after_cursor: args.from.unwrap_or_default(),
        from_beginning: args.from_beginning,
        states: args.state.into_iter().map(|state| State::from(state).into()).collect(),
        case_id: args.case.map(|case| case.to_string()).unwrap_or_default(),
    };
    // The first connection fails at once, so that a wrong address is not waited for.
    let client = Client::connect(server).await?;
    let mut feed = Feed { request, follows: args.follow, server, output };
    Ok(run_until_signal(|shutdown| async move {
        let exit = match shutdown.run_until_cancelled(feed.print(client)).await {
            // The usual end of --follow.
            None | Some(Ok(End::CaughtUp | End::OutputClosed)) => Exit::Done,
            Some(Err(error)) => report(&error, output),
        };
        if !feed.request.after_cursor.is_empty() {
            eprintln!("continue with --from {}", feed.request.after_cursor);
        }
        exit
    })
    .await)
}

struct Feed<'a> {
    /// Resumes after what was printed.
    request: WatchChangesRequest,
    follows: bool,
    server: &'a Server,
    output: &'a Output,
}

impl Feed<'_> {
    /// Opens the stream again when the server or the connection ends it.
    async fn print(&mut self, mut client: Client) -> CliResult<End> {
        loop {
            let error = match self.print_stream(&client).await {
                Ok(end) => return Ok(end),
                Err(error) if self.follows && is_transient(&error) => error,
                Err(error) => return Err(error),
            };
            if !self.output.json {
                eprintln!("{}; opening the stream again", error.message);
            }
            client = loop {
                tokio::time::sleep(error.retry_after.unwrap_or_default().max(REOPEN_DELAY)).await;
                match Client::connect(self.server).await {
                    Ok(client) => break client,
                    Err(error) if is_transient(&error) => {}
                    Err(error) => return Err(error),
                }
            };
        }
    }

    async fn print_stream(&mut self, client: &Client) -> CliResult<End> {
        let mut messages = client.watch_changes(self.request.clone()).await?;
        while let Some(message) = messages.try_next().await? {
            let cursor = message.cursor.clone();
            match &message.change {
                Some(RegistrationChange(_)) if !self.print_change(&message) => return Ok(End::OutputClosed),
                Some(CheckpointChange(Checkpoint { caught_up: true })) if !self.follows => {
                    self.resume_after(cursor);
                    return Ok(End::CaughtUp);
                }
                Some(RegistrationChange(_) | CheckpointChange(_)) | None => self.resume_after(cursor),
            }
        }
        Err(CliError::stream_ended().mark_read_only())
    }

    fn resume_after(&mut self, cursor: String) {
        self.request.after_cursor = cursor;
        self.request.from_beginning = false;
    }

    /// Whether the output is still read.
    fn print_change(&self, message: &WatchChangesResponse) -> bool {
        let Some(RegistrationChange(registration)) = &message.change else { return true };
        if self.output.json {
            print_line_if_read(&json::to_line(message))
        } else {
            print_line_if_read(&summary::render_change_line(registration, &self.output.stdout_style))
        }
    }
}

fn is_transient(error: &CliError) -> bool {
    matches!(error.code, Code::Unavailable | Code::ResourceExhausted)
}
