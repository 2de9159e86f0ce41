//! The commands that make signers and show their addresses.

use super::{
    Exit,
    args::{NewSignerArgs, SignerAddressArgs, SignerCommand},
    error::{CliError, CliResult},
    error_text::report,
    output::{Output, print_line},
};
use crate::{
    app,
    config::{Environment, KeystoreSettings, SignerListSettings},
};
use serde_json::json;
use std::path::{Path, absolute};

pub async fn run(command: &SignerCommand, environment: &Environment) -> Exit {
    let (json, result) = match command {
        SignerCommand::New(args) => (args.json, new(args, environment).await),
        SignerCommand::Address(args) => (args.json, addresses(args, environment).await),
    };
    match result {
        Ok(()) => Exit::Done,
        Err(error) => report(&error, &Output::from_process(json, environment)),
    }
}

async fn new(args: &NewSignerArgs, environment: &Environment) -> CliResult<()> {
    let NewSignerArgs { keystore, json } = args;
    let settings = KeystoreSettings::read(environment).map_err(|errors| CliError::invalid_settings(&errors))?;
    let address = app::create_keystore(settings, keystore).await.map_err(|error| CliError::failed(&error))?;
    let uri = format!("keystore:{}", absolute(keystore).as_deref().unwrap_or(Path::new(keystore)).display());
    if *json {
        print_line(&json!({ "address": address.to_string(), "uri": uri }).to_string());
    } else {
        print_line(&address.to_string());
        eprintln!("add {uri} to REGISTRAR_SIGNERS, fund the address, and let the contract's owner allow it");
    }
    Ok(())
}

async fn addresses(args: &SignerAddressArgs, environment: &Environment) -> CliResult<()> {
    let SignerAddressArgs { uri, json } = args;
    let settings =
        SignerListSettings::read(uri.as_deref(), environment).map_err(|errors| CliError::invalid_settings(&errors))?;
    let signers = app::signer_addresses(settings).await.map_err(|error| CliError::failed(&error))?;
    for (signer, address) in signers {
        match (json, uri) {
            (true, _) => print_line(&json!({ "address": address.to_string(), "signer": signer }).to_string()),
            (false, Some(_)) => print_line(&address.to_string()),
            (false, None) => print_line(&format!("{address}  {signer}")),
        }
    }
    Ok(())
}
