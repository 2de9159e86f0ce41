//! Runs the client commands; all but `register` only read.

use super::{
    Exit,
    args::{ClientCommand, ConnectionArgs, ExplainArgs, ListArgs, StatusArgs, TargetArgs, VerifyArgs, WatchArgs},
    certificate, changes,
    client::Client,
    document::{self, Document},
    error::{CliError, CliResult},
    error_text::report,
    json,
    output::{Output, print, print_line},
    progress::ProgressView,
    progress_steps, register,
    server::Server,
    summary,
    target::{self, OTHER_HASH_HINT, Target},
    time, waterfall,
};
use crate::{
    api::proto::{
        ListOrder, ListRegistrationsRequest, Registration, State, VerifyDocumentRequest, WaitFor,
        WatchRegistrationRequest, get_registration_request::Key,
    },
    config::Environment,
    registration::CaseId,
};
use futures_util::TryStreamExt;
use uuid::Uuid;

/// The server's maximum.
const MAX_PAGE_SIZE: u32 = 500;

pub async fn run(command: ClientCommand, environment: &Environment) -> Exit {
    let connection = connection_args(&command);
    let mut output = Output::from_process(connection.json, environment);
    output.invocation = output.invocation.with_server(&connection.server, environment);
    if let ClientCommand::Verify(args) = &command
        && args.certificate.certificate.is_some()
    {
        return verify_certificate(args, &output).await;
    }
    let server = match Server::new(connection, environment) {
        Ok(server) => server,
        Err(error) => return report(&error, &output),
    };
    let result = match command {
        ClientCommand::Register(args) => register::run(*args, &server, &output).await,
        ClientCommand::Status(args) => status(args, &server, &output).await,
        ClientCommand::Watch(args) => watch(args, &server, &output).await,
        ClientCommand::List(args) => list(*args, &server, &output).await,
        ClientCommand::Changes(args) => changes::run(args, &server, &output).await,
        ClientCommand::Verify(args) => verify(*args, &server, &output).await,
        ClientCommand::Certificate(args) => certificate::fetch(args, &server, &output).await,
        ClientCommand::Explain(args) => explain(args, &server, &output).await,
        ClientCommand::Info(_) => info(&server, &output).await,
    };
    result.unwrap_or_else(|error| report(&error, &output))
}

fn connection_args(command: &ClientCommand) -> &ConnectionArgs {
    match command {
        ClientCommand::Register(args) => &args.connection,
        ClientCommand::Status(args) => &args.connection,
        ClientCommand::Watch(args) => &args.connection,
        ClientCommand::List(args) => &args.connection,
        ClientCommand::Changes(args) => &args.connection,
        ClientCommand::Verify(args) => &args.connection,
        ClientCommand::Certificate(args) => &args.connection,
        ClientCommand::Explain(args) => &args.connection,
        ClientCommand::Info(args) => &args.connection,
    }
}

async fn status(args: StatusArgs, server: &Server, output: &Output) -> CliResult<Exit> {
    let target = Target::resolve(&args.target, output).await?;
    let client = Client::connect(server).await?;
    let found = match (target, args.target.case) {
        (Target::Id(id), _) => vec![client.get(Key::Id(id.to_string())).await?],
        (Target::Document(document), Some(case)) => {
            vec![client.get(target::pair_key(&document, case.to_string())).await?]
        }
        (Target::Document(document), None) => target::find_all(&document, &client, output).await?,
    };
    for (index, registration) in found.iter().enumerate() {
        if index > 0 && !output.json {
            print("\n");
        }
        print_registration(registration, output);
    }
    Ok(Exit::Done)
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

/// An id is not looked up: the call that uses it is.
async fn registration_id(args: &TargetArgs, client: &Client, output: &Output) -> CliResult<String> {
    match args.target.to_str().and_then(|text| text.parse::<Uuid>().ok()) {
        Some(id) => Ok(id.to_string()),
        None => Ok(target::find_one(args, client, output).await?.id),
    }
}

async fn watch(args: WatchArgs, server: &Server, output: &Output) -> CliResult<Exit> {
    let until = WaitFor::from(args.until);
    let client = Client::connect(server).await?;
    let id = registration_id(&args.target, &client, output).await?;
    let request = WatchRegistrationRequest { id: id.clone(), until: until.into(), after_revision: args.after_revision };
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
        (None, None) => client.get(Key::Id(id)).await?,
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

async fn list(args: ListArgs, server: &Server, output: &Output) -> CliResult<Exit> {
    let document_hash = match &args.hash {
        Some(argument) => document::resolve(argument, output.shows_progress).await?.submitted_as,
        None => String::new(),
    };
    let client = Client::connect(server).await?;
    let mut request = ListRegistrationsRequest {
        page_token: args.page_token.unwrap_or_default(),
        states: args.state.into_iter().map(|state| State::from(state).into()).collect(),
        case_id: args.case.map(|case| case.to_string()).unwrap_or_default(),
        document_hash,
        caller: args.caller.unwrap_or_default(),
        page_size: 0,
        user_id: args.user.map(|user| user.as_str().to_owned()).unwrap_or_default(),
        blocked_reasons: args.blocked.iter().map(|reason| reason.to_uppercase()).collect(),
        create_time_from: args.since,
        create_time_to: args.until,
        transaction_hash: args.transaction.unwrap_or_default(),
        order: if args.oldest { ListOrder::OldestFirst } else { ListOrder::NewestFirst }.into(),
    };
    let mut needs_header = output.stdout_is_terminal && !output.json;
    let mut remaining = args.limit;
    while remaining > 0 {
        let size = remaining.min(MAX_PAGE_SIZE);
        request.page_size = i32::try_from(size).unwrap_or_default();
        let page = client.list(request.clone()).await?;
        for registration in &page.registrations {
            if std::mem::take(&mut needs_header) {
                print_line(&summary::list_header(args.wide, &output.stdout_style));
            }
            if output.json {
                print_line(&json::to_line(registration));
            } else {
                print_line(&summary::render_list_line(registration, args.wide, &output.stdout_style));
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

async fn verify(args: VerifyArgs, server: &Server, output: &Output) -> CliResult<Exit> {
    // Both are there without --certificate.
    let document = document::resolve(&args.document.unwrap_or_default(), output.shows_progress).await?;
    let client = Client::connect(server).await?;
    verify_pair(&client, output, &document, args.case.map(|case| case.to_string()).unwrap_or_default()).await
}

async fn verify_certificate(args: &VerifyArgs, output: &Output) -> Exit {
    let document = args.document.as_deref().or(args.certificate.certified_document.as_deref());
    let case = args.case.as_ref().map(CaseId::as_str);
    let verified = certificate::verify(document, case, &args.certificate, output).await;
    verified.unwrap_or_else(|error| report(&error, output))
}

/// Prints the on-chain record of a pair, read through the service.
pub(super) async fn verify_pair(
    client: &Client,
    output: &Output,
    document: &Document,
    case_id: String,
) -> CliResult<Exit> {
    let request = VerifyDocumentRequest { document_hash: document.submitted_as.clone(), case_id };
    let mut response = client.verify(request).await?;
    if !response.registered && response.warning.is_empty() && document.file.is_some() {
        OTHER_HASH_HINT.clone_into(&mut response.warning);
    }
    if output.json {
        print_line(&json::to_line(&response));
    } else {
        print(&summary::render_verification(&response, &output.stdout_style));
    }
    Ok(if response.registered { Exit::Done } else { Exit::Failed })
}

async fn explain(args: ExplainArgs, server: &Server, output: &Output) -> CliResult<Exit> {
    let client = Client::connect(server).await?;
    let id = registration_id(&args.target, &client, output).await?;
    let response = client.diagnose(id).await?;
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

async fn info(server: &Server, output: &Output) -> CliResult<Exit> {
    let info = Client::connect(server).await?.info().await?;
    if output.json {
        print_line(&json::to_line(&info));
    } else {
        print(&summary::render_service_info(&info, &output.stdout_style));
    }
    Ok(Exit::Done)
}
