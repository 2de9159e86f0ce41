//! The client commands, and those that only ask.

use super::{
    ClientCommand, Exit,
    args::{self, ConnectionArgs, ExplainArgs, InfoArgs, ListArgs, StatusArgs, VerifyArgs, WatchArgs},
    client::Client,
    document::{self, DocumentError},
    error::{CliError, CliResult},
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

/// The most that the server puts on one page.
const MAX_PAGE_SIZE: u32 = 500;

/// Runs a client command.
pub async fn run(command: ClientCommand, environment: &Environment) -> Exit {
    let ConnectionArgs { server, json } = connection_args(&command);
    let mut screen = Output::from_process(*json, environment);
    screen.invocation = screen.invocation.with_server(server, environment);
    let ended = match command {
        ClientCommand::Register(args) => register::run(args, &screen).await,
        ClientCommand::Status(args) => status(args, &screen).await,
        ClientCommand::Watch(args) => watch(args, &screen).await,
        ClientCommand::List(args) => list(args, &screen).await,
        ClientCommand::Verify(args) => verify(args, &screen).await,
        ClientCommand::Explain(args) => explain(args, &screen).await,
        ClientCommand::Info(args) => info(args, &screen).await,
    };
    ended.unwrap_or_else(|trouble| trouble.report(&screen))
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

async fn status(args: StatusArgs, screen: &Output) -> CliResult<Exit> {
    if let Some(id) = args.target.to_str().and_then(|text| text.parse::<Uuid>().ok()) {
        let client = Client::connect(&args.connection.server).await?;
        print_registration(&client.get(Key::Id(id.to_string())).await?, screen);
        return Ok(Exit::Done);
    }
    let document = match document::resolve(&args.target, screen.shows_progress).await {
        Err(error @ DocumentError::NotFileOrHash(..)) => {
            return Err(CliError::invalid_arguments(not_id_or_document(&error, &screen.invocation)));
        }
        resolved => resolved?,
    };
    let (document_hash, is_hash) = (document.submitted_as, document.file.is_none());
    let client = Client::connect(&args.connection.server).await?;
    if let Some(case) = args.case {
        let key = DocumentKey { document_hash, case_id: case.to_string() };
        print_registration(&client.get(Key::Document(key)).await?, screen);
        return Ok(Exit::Done);
    }
    let mut request = ListRegistrationsRequest { document_hash, ..Default::default() };
    let mut found = false;
    loop {
        let page = client.list(request.clone()).await?;
        for registration in &page.registrations {
            if found && !screen.json {
                print("\n");
            }
            print_registration(registration, screen);
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
    // A hash that is no document's may be a transaction's, of which one may carry many registrations.
    let by_transaction = if is_hash {
        format!(
            "; if it is a transaction's hash: `{} | grep HASH` finds what it carries",
            screen.invocation.server_command("list --json --limit 10000")
        )
    } else {
        String::new()
    };
    Err(CliError::not_found(&format!("this document is registered for no case{by_transaction}")))
}

/// Why an argument is no document, where it could have been an id as well.
fn not_id_or_document(error: &DocumentError, program: &Invocation) -> String {
    format!("{error}; nor is it a {}", args::registration_id_description(program))
}

fn print_registration(registration: &Registration, screen: &Output) {
    if screen.json {
        print_line(&json::to_line(registration));
        return;
    }
    print(&summary::render_registration(registration, screen.stdout_style));
    let bars = waterfall::render(registration, time::now(), screen.width, screen.stdout_style);
    if !bars.is_empty() {
        print(&format!("\n{bars}"));
    }
}

async fn watch(args: WatchArgs, screen: &Output) -> CliResult<Exit> {
    let until = WaitFor::from(args.until);
    let client = Client::connect(&args.connection.server).await?;
    let request =
        WatchRegistrationRequest { id: args.id.to_string(), until: until.into(), after_revision: args.after_revision };
    let mut last: Option<Registration> = None;
    let mut states = client.watch(request).await?;
    let mut live = ProgressView::new(screen, true);
    let broken = loop {
        match states.try_next().await {
            Ok(Some(registration)) => {
                live.show(&registration);
                if screen.json {
                    print_line(&json::to_line(&registration));
                }
                last = Some(registration);
            }
            Ok(None) => break None,
            Err(trouble) => break Some(trouble),
        }
    };
    drop(live);
    let registration = match (last, &broken) {
        (Some(registration), _) => registration,
        // Every state was left out as known already.
        (None, None) => client.get(Key::Id(args.id.to_string())).await?,
        (None, Some(_)) => return Err(broken.unwrap_or_else(CliError::stream_ended)),
    };
    if !screen.json {
        print_registration(&registration, screen);
    }
    match broken {
        None if progress_steps::has_reached(&registration, until) => Ok(Exit::Done),
        None if registration.state() == State::Failed => Ok(Exit::Failed),
        broken => Err(broken.unwrap_or_else(CliError::stream_ended).with_registration(&registration, until)),
    }
}

async fn list(args: ListArgs, screen: &Output) -> CliResult<Exit> {
    let document_hash = match &args.hash {
        Some(argument) => document::resolve(argument, screen.shows_progress).await?.submitted_as,
        None => String::new(),
    };
    let client = Client::connect(&args.connection.server).await?;
    let mut request = ListRegistrationsRequest {
        page_token: args.page_token.unwrap_or_default(),
        states: args.state.into_iter().map(|stand| State::from(stand).into()).collect(),
        case_id: args.case.map(|case| case.to_string()).unwrap_or_default(),
        document_hash,
        page_size: 0,
    };
    let mut left = args.limit;
    while left > 0 {
        let size = left.min(MAX_PAGE_SIZE);
        request.page_size = i32::try_from(size).unwrap_or_default();
        let page = client.list(request.clone()).await?;
        for registration in &page.registrations {
            if screen.json {
                print_line(&json::to_line(registration));
            } else {
                print_line(&summary::render_list_line(registration, screen.stdout_style));
            }
        }
        left -= u32::try_from(page.registrations.len()).unwrap_or(left).min(left);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            if left == args.limit && !screen.json {
                eprintln!("no registrations");
            }
            return Ok(Exit::Done);
        }
    }
    eprintln!("there are more: --page-token {}", request.page_token);
    Ok(Exit::Done)
}

async fn verify(args: VerifyArgs, screen: &Output) -> CliResult<Exit> {
    let document = document::resolve(&args.document, screen.shows_progress).await?;
    let client = Client::connect(&args.connection.server).await?;
    verify_pair(&client, screen, document.submitted_as, args.case.to_string()).await
}

/// Asks the chain through the service, and prints its answer.
pub(super) async fn verify_pair(
    client: &Client,
    screen: &Output,
    document_hash: String,
    case_id: String,
) -> CliResult<Exit> {
    let answer = client.verify(VerifyDocumentRequest { document_hash, case_id }).await?;
    if screen.json {
        print_line(&json::to_line(&answer));
    } else {
        print(&summary::render_verification(&answer, screen.stdout_style));
    }
    Ok(if answer.registered { Exit::Done } else { Exit::Failed })
}

async fn explain(args: ExplainArgs, screen: &Output) -> CliResult<Exit> {
    let client = Client::connect(&args.connection.server).await?;
    let answer = client.diagnose(args.id.to_string()).await?;
    if screen.json {
        print_line(&json::to_line(&answer));
        return Ok(Exit::Done);
    }
    if let Some(registration) = answer.registration {
        // The diagnosis made now stands below; the one that is stored may be of another time.
        print(&summary::render_registration(&Registration { diagnosis: None, ..registration }, screen.stdout_style));
    }
    match &answer.diagnosis {
        Some(diagnosis) => print(&format!("\n{}", summary::render_diagnosis(diagnosis, screen.stdout_style))),
        None => print("\nThere is nothing to explain: it is settled.\n"),
    }
    Ok(Exit::Done)
}

async fn info(args: InfoArgs, screen: &Output) -> CliResult<Exit> {
    let info = Client::connect(&args.connection.server).await?.info().await?;
    if screen.json {
        print_line(&json::to_line(&info));
    } else {
        print(&summary::render_service_info(&info, screen.stdout_style));
    }
    Ok(Exit::Done)
}
