//! `registrar dev`: anvil, the contract and the service in one foreground process, with nothing left behind.

mod anvil;
mod environment;
mod examples;
mod settings;

use super::{
    Exit,
    args::DevArgs,
    client::Client,
    document::{self, Document},
    output::{Output, print, print_line},
    print_error, read_commands, register,
    signals::run_until_signal_or_hangup,
};
use crate::{
    api::proto::WaitFor,
    app::{self, BoundAddrs},
    config::Environment,
    registration::CaseId,
    telemetry,
};
use alloy::primitives::Address;
use anvil::Anvil;
use environment::DevEnvironment;
use std::net::SocketAddr;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// What runs, and where.
struct StackInfo {
    grpc: SocketAddr,
    admin: SocketAddr,
    rpc_url: String,
    anvil_pid: u32,
    contract: Address,
}

/// Runs the development stack until a signal, or for one file.
pub async fn run(args: DevArgs, environment: Environment) -> Exit {
    let screen = Output::from_process(false, &environment);
    // Hashed first: what is wrong with the file is said before anything starts.
    let document = match &args.once {
        None => None,
        Some(file) => match document::resolve(file.as_os_str(), screen.shows_progress).await {
            Ok(document) => Some(document),
            Err(error) => return print_error(&error, Exit::UsageError),
        },
    };
    run_until_signal_or_hangup(|shutdown| async move {
        let mut anvil = match Anvil::start(&environment, args.block_time).await {
            Ok(anvil) => anvil,
            Err(error) => return print_error(&error, Exit::Failed),
        };
        let exit = run_with_anvil(&mut anvil, &args, environment, document, &screen, shutdown).await;
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
    screen: &Output,
    shutdown: CancellationToken,
) -> Exit {
    let DevEnvironment { contract, settings, data_dir: _database } =
        match DevEnvironment::deploy(anvil.url(), args, environment).await {
            Ok(ground) => ground,
            Err(exit) => return exit,
        };
    let telemetry = match telemetry::init(&settings.telemetry) {
        Ok(telemetry) => telemetry,
        Err(error) => return print_error(&error, Exit::UsageError),
    };
    let flush = settings.telemetry_flush_timeout();

    let (ready, listening) = oneshot::channel();
    let (rpc, process) = (anvil.url().to_owned(), anvil.pid().unwrap_or_default());
    let service = async {
        let report = |at| {
            // Nobody waits for it any more when the process was told to end.
            let _ = ready.send(at);
        };
        let ended = telemetry::with_isolated_hub(app::serve(settings, shutdown.clone(), report)).await;
        telemetry.shutdown(flush).await;
        shutdown.cancel();
        ended
    };
    let visit = async {
        // A service that never served either says why itself, or was told to end.
        let Ok(BoundAddrs { grpc, admin }) = listening.await else { return Exit::Interrupted };
        let stack = StackInfo { grpc, admin, rpc_url: rpc, anvil_pid: process, contract };
        let exit = match document {
            Some(document) => register_once(&stack, document, args.case.clone(), screen, &shutdown).await,
            None => {
                print(&examples::render(&stack, screen.invocation.clone()));
                shutdown.cancelled().await;
                Exit::Done
            }
        };
        shutdown.cancel();
        exit
    };
    let chain = async {
        anvil.wait_for_exit().await;
        // A chain that ended before anybody asked for it leaves nothing to show.
        let early = !shutdown.is_cancelled();
        shutdown.cancel();
        if early {
            eprintln!("error: anvil ended by itself");
        }
    };
    let both = async { tokio::join!(service, visit) };
    tokio::pin!(both, chain);
    let ((ended, exit), chain_ended) = tokio::select! {
        done = &mut both => (done, false),
        () = &mut chain => (both.await, true),
    };
    match ended {
        Err(error) => print_error(&error, Exit::from_code(error.exit_code())),
        Ok(()) if chain_ended => Exit::Failed,
        Ok(()) => exit,
    }
}

/// Registers one file through the public API, as anybody would, and asks the chain for it.
async fn register_once(
    stack: &StackInfo,
    document: Document,
    case: CaseId,
    screen: &Output,
    shutdown: &CancellationToken,
) -> Exit {
    let text = document.submitted_as.clone();
    let demonstration = async {
        let client = Client::connect(&format!("http://{}", stack.grpc)).await?;
        let wanted = register::RegisterRequest {
            document,
            case: case.clone(),
            wait_for: WaitFor::Confirmed,
            wait_timeout: None,
            user_id: String::new(),
        };
        let exit = register::register(&client, screen, wanted).await?;
        if exit != Exit::Done {
            return Ok(exit);
        }
        print_line("\nWhat the chain answers to whoever asks:\n");
        print_line(&format!("$ {}", screen.invocation.local_command(&format!("verify {text} --case {case}"))));
        read_commands::verify_pair(&client, screen, text, case.to_string()).await
    };
    tokio::select! {
        ended = demonstration => match ended {
            Ok(exit) => exit,
            // What was accepted goes with this stack: there is nothing to follow.
            Err(trouble) if trouble.is_interrupted() => Exit::Interrupted,
            Err(trouble) if trouble.exit() == Exit::Unfinished => {
                eprintln!("error: it came no further while this stack ran ({})", trouble.reason);
                Exit::Failed
            }
            Err(trouble) => trouble.report(screen),
        },
        () = shutdown.cancelled() => Exit::Interrupted,
    }
}
