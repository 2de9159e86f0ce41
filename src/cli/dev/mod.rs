//! `registrar dev`: anvil, contract and service in one foreground process that leaves no data behind.

mod anvil;
mod environment;
mod examples;
mod settings;

use super::{
    args::DevArgs,
    client::Client,
    document::{self, Document},
    error_text::report,
    exit::{Exit, print_error},
    output::{Output, print, print_line},
    read_commands, register,
    server::Server,
    signals::run_until_signal_or_hangup,
};
use crate::{
    api::proto::WaitFor,
    app::{self, BoundAddrs},
    config::Environment,
    registration::CaseId,
    telemetry::{self, stderr},
};
use anvil::Anvil;
use environment::DevEnvironment;
use examples::StackInfo;
use std::time::Duration;
use tokio::{runtime::Handle, sync::oneshot, time::timeout};
use tokio_util::sync::CancellationToken;

/// At the end, output that is not read delays the shutdown by no more.
const PRINT_GRACE: Duration = Duration::from_secs(1);

/// Runs the development stack until a signal, or for one file.
pub async fn run(args: DevArgs, environment: Environment) -> Exit {
    let output = Output::from_process(false, &environment);
    // Hashed first, so that an unreadable file is reported before anything is started.
    let document = match &args.once {
        None => None,
        Some(file) => match document::resolve_to_register(file.as_os_str(), output.shows_progress, false).await {
            Ok(document) => Some(document),
            Err(error) => return print_error(&error, Exit::UsageError),
        },
    };
    run_until_signal_or_hangup(|shutdown| async move {
        let data_dir = match tempfile::tempdir() {
            Ok(data_dir) => data_dir,
            Err(error) => return print_error(&error, Exit::Failed),
        };
        let mut anvil = match Anvil::start(&environment, args.block_time, data_dir.path()).await {
            Ok(anvil) => anvil,
            Err(error) => return print_error(&error, Exit::Failed),
        };
        let exit = match DevEnvironment::deploy(anvil.url(), &args, environment, data_dir).await {
            Ok(environment) => run_with_anvil(&mut anvil, &args, environment, document, &output, shutdown).await,
            Err(exit) => exit,
        };
        anvil.stop().await;
        exit
    })
    .await
}

async fn run_with_anvil(
    anvil: &mut Anvil,
    args: &DevArgs,
    environment: DevEnvironment,
    document: Option<Document>,
    output: &Output,
    shutdown: CancellationToken,
) -> Exit {
    let DevEnvironment { contract, settings, data_dir: _database } = environment;
    let telemetry = match telemetry::init(&settings.telemetry) {
        Ok(telemetry) => telemetry,
        Err(error) => return print_error(&error, Exit::UsageError),
    };
    let flush_timeout = settings.telemetry_flush_timeout();
    let has_page = settings.admin.ui.is_some();

    let (ready, listening) = oneshot::channel();
    let (rpc_url, anvil_pid) = (anvil.url().to_owned(), anvil.pid().unwrap_or_default());
    let service = async {
        let on_ready = |addresses| {
            // Without a receiver the process is shutting down.
            let _ = ready.send(addresses);
        };
        let result = telemetry::with_isolated_hub(app::serve(settings, shutdown.clone(), on_ready)).await;
        telemetry.shutdown(flush_timeout).await;
        shutdown.cancel();
        result
    };
    let client = {
        let (case, output, shutdown) = (args.case.clone(), output.clone(), shutdown.clone());
        async move {
            // Without addresses the service has failed, which is reported below, or is shutting down.
            let Ok(BoundAddrs { grpc, admin }) = listening.await else { return Exit::Interrupted };
            let stack = StackInfo { grpc, admin, has_page, rpc_url, anvil_pid, contract };
            let exit = match document {
                Some(document) => register_once(&stack, document, case, &output, &shutdown).await,
                None => {
                    print(&examples::render(&stack, output.invocation.clone()));
                    shutdown.cancelled().await;
                    Exit::Done
                }
            };
            shutdown.cancel();
            exit
        }
    };
    let client = on_own_thread(client, &shutdown);
    let chain = async {
        anvil.wait_for_exit().await;
        let is_unexpected = !shutdown.is_cancelled();
        shutdown.cancel();
        if is_unexpected {
            stderr::write_urgent("error: anvil exited unexpectedly");
        }
    };
    let service_and_client = async { tokio::join!(service, client) };
    tokio::pin!(service_and_client, chain);
    let ((result, exit), chain_exited) = tokio::select! {
        results = &mut service_and_client => (results, false),
        () = &mut chain => (service_and_client.await, true),
    };
    match result {
        Err(error) => print_error(&error, Exit::from(&error)),
        Ok(()) if chain_exited => Exit::Failed,
        Ok(()) => exit,
    }
}

/// Runs what prints on a thread of its own: a reader that stalls must not stop the service, nor its shutdown.
async fn on_own_thread(client: impl Future<Output = Exit> + Send + 'static, shutdown: &CancellationToken) -> Exit {
    let runtime = Handle::current();
    let mut client = tokio::task::spawn_blocking(move || runtime.block_on(client));
    let finished = tokio::select! {
        finished = &mut client => Ok(finished),
        () = shutdown.cancelled() => timeout(PRINT_GRACE, client).await,
    };
    match finished {
        Ok(Ok(exit)) => exit,
        Ok(Err(_)) => Exit::Failed,
        Err(_) => Exit::Interrupted,
    }
}

/// Registers one file through the public API and verifies it on the chain.
async fn register_once(
    stack: &StackInfo,
    document: Document,
    case: CaseId,
    output: &Output,
    shutdown: &CancellationToken,
) -> Exit {
    let demonstration = async {
        let client = Client::connect(&Server::plaintext(&format!("http://{}", stack.grpc))?).await?;
        let request = register::RegisterRequest {
            document: document.clone(),
            case: case.clone(),
            wait_for: WaitFor::Confirmed,
            wait_timeout: None,
            user_id: String::new(),
        };
        let exit = register::register(&client, output, request).await?;
        if exit != Exit::Done {
            return Ok(exit);
        }
        print_line("\nThe record on the chain:\n");
        let verify = format!("verify {} --case {case}", document.submitted_as);
        print_line(&format!("$ {}", output.invocation.local_command(&verify)));
        read_commands::verify_pair(&client, output, &document, case.to_string()).await
    };
    tokio::select! {
        result = demonstration => match result {
            Ok(exit) => exit,
            // The registration is deleted with this stack, so it cannot be followed.
            Err(error) if error.is_interrupted() => Exit::Interrupted,
            Err(error) if error.exit() == Exit::Unfinished => {
                stderr::write_urgent(&format!(
                    "error: not confirmed before the stack stopped ({})",
                    error.reason.code()
                ));
                Exit::Failed
            }
            Err(error) => report(&error, output),
        },
        () = shutdown.cancelled() => Exit::Interrupted,
    }
}
