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
        Err(error) => return cli::complain(&error, Exit::Failed).into(),
    };
    let environment = Environment::of_process();
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
        Err(faults) => return cli::complain(&faults, Exit::Usage),
    };
    let telemetry = match telemetry::init(&settings.telemetry) {
        Ok(telemetry) => telemetry,
        Err(error) => return cli::complain(&error, Exit::Usage),
    };
    for (name, meant) in unknown_variables(environment) {
        telemetry::events::unknown_setting(&name, meant.as_deref());
    }
    let flush = settings.flush();
    let listening = |at: app::Listening| tracing::info!(grpc = %at.grpc, admin = %at.admin, "listening");
    cli::until_signalled(|shutdown| async {
        let ended = telemetry::apart(app::serve(settings, shutdown, listening)).await;
        telemetry.shutdown(flush).await;
        match ended {
            Ok(()) => Exit::Done,
            Err(error) => cli::complain(&error, Exit::from_code(error.exit_code())),
        }
    })
    .await
}

async fn deploy(args: &DeployArgs, environment: &Environment) -> Exit {
    let settings = match DeploySettings::read(&args.network, environment) {
        Ok(settings) => settings,
        Err(faults) => return cli::complain(&faults, Exit::Usage),
    };
    match app::deploy(settings, args.owner).await {
        Ok(address) => {
            println!("{address}");
            Exit::Done
        }
        Err(error) => cli::complain(&error, Exit::from_code(error.exit_code())),
    }
}
