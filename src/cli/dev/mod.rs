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
    signals::run_until_signal_or_hangup,
};
use crate::{
    api::proto::WaitFor,
    app::{self, BoundAddrs},
    config::Environment,
    registration::CaseId,
    telemetry,
};
use anvil::Anvil;
use environment::DevEnvironment;
use examples::StackInfo;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Runs the development stack until a signal, or for one file.
pub async fn run(args: DevArgs, environment: Environment) -> Exit {
    let output = Output::from_process(false, &environment);
    // Hashed first, so that an unreadable file is reported before anything is started.
    let document = match &args.once {
        None => None,
        Some(file) => match document::resolve(file.as_os_str(), output.shows_progress).await {
            Ok(document) => Some(document),
            Err(error) => return print_error(&error, Exit::UsageError),
        },
    };
    run_until_signal_or_hangup(|shutdown| async move {
        let mut anvil = match Anvil::start(&environment, args.block_time).await {
            Ok(anvil) => anvil,
            Err(error) => return print_error(&error, Exit::Failed),
        };
        let exit = run_with_anvil(&mut anvil, &args, environment, document, &output, shutdown).await;
        anvil.stop().await;
        exit
    })
    .await
}

async fn run_with_anvil(
    anvil: &mut Anvil,
    args: &DevArgs,
    environment: Environment,
    document: Option<Document>,
    output: &Output,
    shutdown: CancellationToken,
) -> Exit {
    let DevEnvironment { contract, settings, data_dir: _database } =
        match DevEnvironment::deploy(anvil.url(), args, environment).await {
            Ok(environment) => environment,
            Err(exit) => return exit,
        };
    let telemetry = match telemetry::init(&settings.telemetry) {
        Ok(telemetry) => telemetry,
        Err(error) => return print_error(&error, Exit::UsageError),
    };
    let flush_timeout = settings.telemetry_flush_timeout();

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
    let client = async {
        // Without addresses the service has failed, which is reported below, or is shutting down.
        let Ok(BoundAddrs { grpc, admin }) = listening.await else { return Exit::Interrupted };
        let stack = StackInfo { grpc, admin, rpc_url, anvil_pid, contract };
        let exit = match document {
            Some(document) => register_once(&stack, document, args.case.clone(), output, &shutdown).await,
            None => {
                print(&examples::render(&stack, output.invocation.clone()));
                shutdown.cancelled().await;
                Exit::Done
            }
        };
        shutdown.cancel();
        exit
    };
    let chain = async {
        anvil.wait_for_exit().await;
        let is_unexpected = !shutdown.is_cancelled();
        shutdown.cancel();
        if is_unexpected {
            eprintln!("error: anvil exited unexpectedly");
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

/// Registers one file through the public API and verifies it on the chain.
async fn register_once(
    stack: &StackInfo,
    document: Document,
    case: CaseId,
    output: &Output,
    shutdown: &CancellationToken,
) -> Exit {
    let hash = document.submitted_as.clone();
    let demonstration = async {
        let client = Client::connect(&format!("http://{}", stack.grpc)).await?;
        let request = register::RegisterRequest {
            document,
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
        print_line(&format!("$ {}", output.invocation.local_command(&format!("verify {hash} --case {case}"))));
        read_commands::verify_pair(&client, output, hash, case.to_string()).await
    };
    tokio::select! {
        result = demonstration => match result {
            Ok(exit) => exit,
            // The registration is deleted with this stack, so it cannot be followed.
            Err(error) if error.is_interrupted() => Exit::Interrupted,
            Err(error) if error.exit() == Exit::Unfinished => {
                eprintln!("error: not confirmed before the stack stopped ({})", error.reason.code());
                Exit::Failed
            }
            Err(error) => report(&error, output),
        },
        () = shutdown.cancelled() => Exit::Interrupted,
    }
}
