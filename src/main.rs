//! The registrar binary: arguments, settings, telemetry and exit code.

use registrar::{
    app,
    cli::{self, Command, DeployArgs, Exit},
    config::{DeploySettings, Environment, ServeArgs, Settings, unknown_variables},
    telemetry,
};
use std::process::ExitCode;

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
    // After a second signal, running tasks are not waited for.
    runtime.shutdown_background();
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
    let settings = match DeploySettings::read(&args.network, environment) {
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
