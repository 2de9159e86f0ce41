//! Runs the client commands; all but `register` only read.

use super::{
    Exit,
    args::{self, ClientCommand, ConnectionArgs, ExplainArgs, InfoArgs, ListArgs, StatusArgs, VerifyArgs, WatchArgs},
    client::Client,
    document::{self, DocumentError},
    error::{CliError, CliResult},
    error_text::report,
    invocation::Invocation,
    json,
    output::{Output, print, print_line},
    progress::ProgressView,
    progress_steps, register, summary, time, waterfall,
};
use crate::{
    api::proto::{
        DocumentKey, ListRegistrationsRequest, Registration, State, VerifyDocumentRequest, WaitFor,
        WatchRegistrationRequest, get_registration_request::Key,
    },
    config::Environment,
};
use futures_util::TryStreamExt;
use uuid::Uuid;

/// The server's maximum.
const MAX_PAGE_SIZE: u32 = 500;

pub async fn run(command: ClientCommand, environment: &Environment) -> Exit {
    let ConnectionArgs { server, json } = connection_args(&command);
    let mut output = Output::from_process(*json, environment);
    output.invocation = output.invocation.with_server(server, environment);
    let result = match command {
        ClientCommand::Register(args) => register::run(args, &output).await,
        ClientCommand::Status(args) => status(args, &output).await,
        ClientCommand::Watch(args) => watch(args, &output).await,
        ClientCommand::List(args) => list(args, &output).await,
        ClientCommand::Verify(args) => verify(args, &output).await,
        ClientCommand::Explain(args) => explain(args, &output).await,
        ClientCommand::Info(args) => info(args, &output).await,
    };
    result.unwrap_or_else(|error| report(&error, &output))
}

fn connection_args(command: &ClientCommand) -> &ConnectionArgs {
    match command {
        ClientCommand::Register(args) => &args.connection,
        ClientCommand::Status(args) => &args.connection,
        ClientCommand::Watch(args) => &args.connection,
        ClientCommand::List(args) => &args.connection,
        ClientCommand::Verify(args) => &args.connection,
        ClientCommand::Explain(args) => &args.connection,
        ClientCommand::Info(args) => &args.connection,
    }
}

async fn status(args: StatusArgs, output: &Output) -> CliResult<Exit> {
    if let Some(id) = args.target.to_str().and_then(|text| text.parse::<Uuid>().ok()) {
        let client = Client::connect(&args.connection.server).await?;
        print_registration(&client.get(Key::Id(id.to_string())).await?, output);
        return Ok(Exit::Done);
    }
    let document = match document::resolve(&args.target, output.shows_progress).await {
        Err(error @ DocumentError::NotFileOrHash(..)) => {
            return Err(CliError::invalid_arguments(not_id_or_document(&error, &output.invocation)));
        }
        resolved => resolved?,
    };
    let (document_hash, is_hash) = (document.submitted_as, document.file.is_none());
    let client = Client::connect(&args.connection.server).await?;
    if let Some(case) = args.case {
        let key = DocumentKey { document_hash, case_id: case.to_string() };
        print_registration(&client.get(Key::Document(key)).await?, output);
        return Ok(Exit::Done);
    }
    let mut request = ListRegistrationsRequest { document_hash, ..Default::default() };
    let mut found = false;
    loop {
        let page = client.list(request.clone()).await?;
        for registration in &page.registrations {
            if found && !output.json {
                print("\n");
            }
            print_registration(registration, output);
            found = true;
        }
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    if found {
        return Ok(Exit::Done);
    }
    // The hash may be that of a transaction, which may contain many registrations.
    let hint = if is_hash {
        format!(
            "; if this is the hash of a transaction, `{} | grep HASH` finds its registrations",
            output.invocation.server_command("list --json --limit 10000")
        )
    } else {
        String::new()
    };
    Err(CliError::not_found(&format!("this document is not registered for any case{hint}")))
}

fn not_id_or_document(error: &DocumentError, invocation: &Invocation) -> String {
    format!("{error}; also not a {}", args::registration_id_description(invocation))
}

fn print_registration(registration: &Registration, output: &Output) {
    if output.json {
        print_line(&json::to_line(registration));
        return;
    }
    print(&summary::render_registration(registration, &output.stdout_style));
    let waterfall = waterfall::render(registration, time::now(), output.width, &output.stdout_style);
    if !waterfall.is_empty() {
        print(&format!("\n{waterfall}"));
    }
}

async fn watch(args: WatchArgs, output: &Output) -> CliResult<Exit> {
    let until = WaitFor::from(args.until);
    let client = Client::connect(&args.connection.server).await?;
    let request =
        WatchRegistrationRequest { id: args.id.to_string(), until: until.into(), after_revision: args.after_revision };
    let mut last: Option<Registration> = None;
    let mut states = client.watch(request).await?;
    let mut progress = ProgressView::new(output, true);
    let stream_error = loop {
        match states.try_next().await {
            Ok(Some(registration)) => {
                progress.show(&registration);
                if output.json {
                    print_line(&json::to_line(&registration));
                }
                last = Some(registration);
            }
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    drop(progress);
    let registration = match (last, &stream_error) {
        (Some(registration), _) => registration,
        // All revisions were skipped because of --after-revision.
        (None, None) => client.get(Key::Id(args.id.to_string())).await?,
        (None, Some(_)) => return Err(stream_error.unwrap_or_else(CliError::stream_ended)),
    };
    if !output.json {
        print_registration(&registration, output);
    }
    match stream_error {
        None if progress_steps::has_reached(&registration, until) => Ok(Exit::Done),
        None if registration.state() == State::Failed => Ok(Exit::Failed),
        stream_error => {
            Err(stream_error.unwrap_or_else(CliError::stream_ended).with_registration(&registration, until))
        }
    }
}

async fn list(args: ListArgs, output: &Output) -> CliResult<Exit> {
    let document_hash = match &args.hash {
        Some(argument) => document::resolve(argument, output.shows_progress).await?.submitted_as,
        None => String::new(),
    };
    let client = Client::connect(&args.connection.server).await?;
    let mut request = ListRegistrationsRequest {
        page_token: args.page_token.unwrap_or_default(),
        states: args.state.into_iter().map(|state| State::from(state).into()).collect(),
        case_id: args.case.map(|case| case.to_string()).unwrap_or_default(),
        document_hash,
        page_size: 0,
    };
    let mut remaining = args.limit;
    while remaining > 0 {
        let size = remaining.min(MAX_PAGE_SIZE);
        request.page_size = i32::try_from(size).unwrap_or_default();
        let page = client.list(request.clone()).await?;
        for registration in &page.registrations {
            if output.json {
                print_line(&json::to_line(registration));
            } else {
                print_line(&summary::render_list_line(registration, &output.stdout_style));
            }
        }
        remaining -= u32::try_from(page.registrations.len()).unwrap_or(remaining).min(remaining);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            if remaining == args.limit && !output.json {
                eprintln!("no registrations found");
            }
            return Ok(Exit::Done);
        }
    }
    eprintln!("more registrations: continue with --page-token {}", request.page_token);
    Ok(Exit::Done)
}

async fn verify(args: VerifyArgs, output: &Output) -> CliResult<Exit> {
    let document = document::resolve(&args.document, output.shows_progress).await?;
    let client = Client::connect(&args.connection.server).await?;
    verify_pair(&client, output, document.submitted_as, args.case.to_string()).await
}

/// Prints the on-chain record of a pair, read through the service.
pub(super) async fn verify_pair(
    client: &Client,
    output: &Output,
    document_hash: String,
    case_id: String,
) -> CliResult<Exit> {
    let response = client.verify(VerifyDocumentRequest { document_hash, case_id }).await?;
    if output.json {
        print_line(&json::to_line(&response));
    } else {
        print(&summary::render_verification(&response, &output.stdout_style));
    }
    Ok(if response.registered { Exit::Done } else { Exit::Failed })
}

async fn explain(args: ExplainArgs, output: &Output) -> CliResult<Exit> {
    let client = Client::connect(&args.connection.server).await?;
    let response = client.diagnose(args.id.to_string()).await?;
    if output.json {
        print_line(&json::to_line(&response));
        return Ok(Exit::Done);
    }
    let state = response.registration.as_ref().map(Registration::state);
    if let Some(registration) = response.registration {
        // The current diagnosis follows; the stored one may be outdated.
        let registration = Registration { diagnosis: None, ..registration };
        print(&summary::render_registration(&registration, &output.stdout_style));
    }
    match (&response.diagnosis, state) {
        (Some(diagnosis), _) => print(&format!("\n{}", summary::render_diagnosis(diagnosis, &output.stdout_style))),
        (None, Some(State::Failed)) => print("\nNothing to explain: it has failed for the reason above.\n"),
        (None, _) => print("\nNothing to explain: it is confirmed.\n"),
    }
    Ok(Exit::Done)
}

async fn info(args: InfoArgs, output: &Output) -> CliResult<Exit> {
    let info = Client::connect(&args.connection.server).await?.info().await?;
    if output.json {
        print_line(&json::to_line(&info));
    } else {
        print(&summary::render_service_info(&info, &output.stdout_style));
    }
    Ok(Exit::Done)
}
