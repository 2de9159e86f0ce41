//! The registrar binary: arguments, settings, telemetry and exit code.

use registrar::{
    app,
    cli::{self, Command, DeployArgs, Exit},
    config::{ContractSettings, Environment, ServeArgs, Settings, exposed_secret_files, unknown_variables},
    telemetry,
};
use std::{process::ExitCode, time::Duration};

/// Most of what is allocated lives for one request; the system's allocator costs a tenth of all processor time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A reader of the log that stalls delays the end of the process by no more.
const LOG_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    telemetry::panic::install();
    // Fails only if a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let command = match cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(early_exit) => return early_exit.print().into(),
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            let exit = cli::print_error(&error, Exit::Failed);
            telemetry::stderr::flush(LOG_FLUSH_TIMEOUT);
            return exit.into();
        }
    };
    let environment = Environment::from_process();
    let exit = runtime.block_on(async {
        match command {
            Command::Serve(args) => serve(&args, &environment).await,
            Command::Healthcheck(args) => cli::healthcheck(&args, &environment).await,
            Command::Dev(args) => cli::dev(*args, environment).await,
            Command::Deploy(args) => deploy(&args, &environment).await,
            Command::Token(command) => cli::token(&command),
            Command::Callers(command) => cli::callers(&command),
            Command::Signer(command) => cli::signer(&command, &environment).await,
            Command::Allow(args) => cli::set_registrar(&args, true, &environment).await,
            Command::Revoke(args) => cli::set_registrar(&args, false, &environment).await,
            Command::Owner(args) => cli::owner(&args, &environment).await,
            Command::Completions { shell } => cli::completions(shell),
            Command::Man { command } => cli::man(&command),
            Command::Client(command) => cli::client(command, &environment).await,
        }
    });
    // After a second signal, running tasks are not waited for.
    runtime.shutdown_background();
    telemetry::stderr::flush(LOG_FLUSH_TIMEOUT);
    exit.into()
}

async fn serve(args: &ServeArgs, environment: &Environment) -> Exit {
    let settings = match Settings::read(args, environment) {
        Ok(settings) => settings,
        Err(errors) => return cli::print_error(&errors, Exit::UsageError),
    };
    let telemetry = match telemetry::init(&settings.telemetry) {
        Ok(telemetry) => telemetry,
        Err(error) => return cli::print_error(&error, Exit::UsageError),
    };
    for (name, suggestion) in unknown_variables(environment) {
        telemetry::events::unknown_setting(&name, suggestion.as_deref());
    }
    for variable in exposed_secret_files(environment) {
        telemetry::events::exposed_secret_file(&variable);
    }
    let flush_timeout = settings.telemetry_flush_timeout();
    cli::run_until_signal(|shutdown| async {
        let exit = telemetry::with_isolated_hub(async {
            match app::serve(settings, shutdown, |_| ()).await {
                Ok(()) => Exit::Done,
                Err(error) => {
                    let exit = Exit::from(&error);
                    telemetry::events::service_failed(&cli::error_chain(&error), exit.code());
                    exit
                }
            }
        })
        .await;
        telemetry.shutdown(flush_timeout).await;
        exit
    })
    .await
}

async fn deploy(args: &DeployArgs, environment: &Environment) -> Exit {
    let settings = match ContractSettings::for_deployment(&args.network, environment) {
        Ok(settings) => settings,
        Err(errors) => return cli::print_error(&errors, Exit::UsageError),
    };
    match app::deploy(settings, args.owner).await {
        Ok(address) => {
            println!("{address}");
            Exit::Done
        }
        Err(error) => cli::print_error(&error, Exit::from(&error)),
    }
}
