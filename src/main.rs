//! The registrar binary: arguments, settings, telemetry, run, exit code.

use registrar::{
    app,
    cli::{self, Command, DeployArgs, Exit},
    config::{DeploySettings, Environment, ServeArgs, Settings, unknown_variables},
    telemetry,
};
use std::process::ExitCode;

fn main() -> ExitCode {
    telemetry::panic::install();
    // Fails only when a provider is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let command = match cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(answer) => return answer.print().into(),
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return cli::print_error(&error, Exit::Failed).into(),
    };
    let environment = Environment::from_process();
    let exit = runtime.block_on(async {
        match command {
            Command::Serve(args) => serve(&args, &environment).await,
            Command::Dev(args) => cli::dev(*args, environment).await,
            Command::Deploy(args) => deploy(&args, &environment).await,
            Command::Client(command) => cli::client(command, &environment).await,
        }
    });
    // A second signal asks to leave at once: nothing that still runs is waited for.
    runtime.shutdown_background();
    exit.into()
}

async fn serve(args: &ServeArgs, environment: &Environment) -> Exit {
    let settings = match Settings::read(args, environment) {
        Ok(settings) => settings,
        Err(faults) => return cli::print_error(&faults, Exit::UsageError),
    };
    let telemetry = match telemetry::init(&settings.telemetry) {
        Ok(telemetry) => telemetry,
        Err(error) => return cli::print_error(&error, Exit::UsageError),
    };
    for (name, meant) in unknown_variables(environment) {
        telemetry::events::unknown_setting(&name, meant.as_deref());
    }
    let flush = settings.telemetry_flush_timeout();
    cli::run_until_signal(|shutdown| async {
        let exit = telemetry::with_isolated_hub(async {
            match app::serve(settings, shutdown, |_| ()).await {
                Ok(()) => Exit::Done,
                Err(error) => {
                    telemetry::events::service_failed(&cli::error_chain(&error), error.exit_code());
                    Exit::from_code(error.exit_code())
                }
            }
        })
        .await;
        telemetry.shutdown(flush).await;
        exit
    })
    .await
}

async fn deploy(args: &DeployArgs, environment: &Environment) -> Exit {
    let settings = match DeploySettings::read(&args.network, environment) {
        Ok(settings) => settings,
        Err(faults) => return cli::print_error(&faults, Exit::UsageError),
    };
    match app::deploy(settings, args.owner).await {
        Ok(address) => {
            println!("{address}");
            Exit::Done
        }
        Err(error) => cli::print_error(&error, Exit::from_code(error.exit_code())),
    }
}
