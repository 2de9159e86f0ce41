//! `registrar dev`: anvil, the contract and the service in one foreground process, with nothing left behind.

mod anvil;
mod calls;
mod ground;
mod settings;

use super::{
    Exit,
    args::DevArgs,
    client::Client,
    complain,
    document::{self, Document},
    query, register,
    screen::{Screen, say, say_line},
    signals::until_hung_up,
};
use crate::{
    api::proto::WaitFor,
    app::{self, Listening},
    config::Environment,
    registration::CaseId,
    telemetry,
};
use alloy::primitives::Address;
use anvil::Anvil;
use ground::Ground;
use std::net::SocketAddr;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// What runs, and where.
struct Stack {
    grpc: SocketAddr,
    admin: SocketAddr,
    rpc: String,
    anvil: u32,
    contract: Address,
}

/// Runs the development stack until a signal, or for one file.
pub async fn run(args: DevArgs, environment: Environment) -> Exit {
    let screen = Screen::of_process(false, &environment);
    // Hashed first: what is wrong with the file is said before anything starts.
    let document = match &args.once {
        None => None,
        Some(file) => match document::resolve(file.as_os_str(), screen.live).await {
            Ok(document) => Some(document),
            Err(error) => return complain(&error, Exit::Usage),
        },
    };
    until_hung_up(|shutdown| async move {
        let mut anvil = match Anvil::start(&environment, args.block_time).await {
            Ok(anvil) => anvil,
            Err(error) => return complain(&error, Exit::Failed),
        };
        let exit = with_anvil(&mut anvil, &args, environment, document, &screen, shutdown).await;
        anvil.stop().await;
        exit
    })
    .await
}

async fn with_anvil(
    anvil: &mut Anvil,
    args: &DevArgs,
    environment: Environment,
    document: Option<Document>,
    screen: &Screen,
    shutdown: CancellationToken,
) -> Exit {
    let Ground { contract, settings, folder: _database } = match Ground::lay(anvil.url(), args, environment).await {
        Ok(ground) => ground,
        Err(exit) => return exit,
    };
    let telemetry = match telemetry::init(&settings.telemetry) {
        Ok(telemetry) => telemetry,
        Err(error) => return complain(&error, Exit::Usage),
    };
    let flush = settings.flush();

    let (ready, listening) = oneshot::channel();
    let (rpc, process) = (anvil.url().to_owned(), anvil.id().unwrap_or_default());
    let service = async {
        let report = |at| {
            // Nobody waits for it any more when the process was told to end.
            let _ = ready.send(at);
        };
        let ended = telemetry::apart(app::serve(settings, shutdown.clone(), report)).await;
        telemetry.shutdown(flush).await;
        shutdown.cancel();
        ended
    };
    let visit = async {
        // A service that never served either says why itself, or was told to end.
        let Ok(Listening { grpc, admin }) = listening.await else { return Exit::Interrupted };
        let stack = Stack { grpc, admin, rpc, anvil: process, contract };
        let exit = match document {
            Some(document) => once(&stack, document, args.case.clone(), screen, &shutdown).await,
            None => {
                say(&calls::screen(&stack, screen.program.clone()));
                shutdown.cancelled().await;
                Exit::Done
            }
        };
        shutdown.cancel();
        exit
    };
    let chain = async {
        anvil.ended().await;
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
        Err(error) => complain(&error, Exit::from_code(error.exit_code())),
        Ok(()) if chain_ended => Exit::Failed,
        Ok(()) => exit,
    }
}

/// Registers one file through the public API, as anybody would, and asks the chain for it.
async fn once(stack: &Stack, document: Document, case: CaseId, screen: &Screen, shutdown: &CancellationToken) -> Exit {
    let text = document.text.clone();
    let demonstration = async {
        let client = Client::connect(&format!("http://{}", stack.grpc)).await?;
        let wanted = register::Wanted {
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
        say_line("\nWhat the chain answers to whoever asks:\n");
        say_line(&format!("$ {}", screen.program.run(&format!("verify {text} --case {case}"))));
        query::verify_with(&client, screen, text, case.to_string()).await
    };
    tokio::select! {
        ended = demonstration => match ended {
            Ok(exit) => exit,
            // What was accepted goes with this stack: there is nothing to follow.
            Err(trouble) if trouble.was_interrupted() => Exit::Interrupted,
            Err(trouble) if trouble.exit() == Exit::Unfinished => {
                eprintln!("error: it came no further while this stack ran ({})", trouble.reason);
                Exit::Failed
            }
            Err(trouble) => trouble.report(screen),
        },
        () = shutdown.cancelled() => Exit::Interrupted,
    }
}
