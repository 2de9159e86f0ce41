//! The commands of the contract's owner. They use the chain, not a service.

use super::{
    Exit,
    args::{OwnerArgs, RegistrarArgs},
    error::CliError,
    error_text::report,
    output::{Output, print_line},
};
use crate::{
    app,
    config::{ConfigErrors, ContractArgs, ContractSettings, Environment},
};
use alloy::primitives::{Address, B256};
use serde_json::json;

/// Allows an account to register, or no longer.
pub async fn set_registrar(args: &RegistrarArgs, allowed: bool, environment: &Environment) -> Exit {
    let RegistrarArgs { account, json, contract } = args;
    let output = Output::from_process(*json, environment);
    let changed = async {
        let settings =
            ContractSettings::for_owner(contract, environment).map_err(|errors| CliError::invalid_settings(&errors))?;
        app::set_registrar(settings, *account, allowed).await.map_err(|error| CliError::failed(&error))
    };
    match changed.await {
        Ok(transaction) if *json => {
            let changed = transaction.is_some();
            print_line(
                &json!({ "account": account.to_string(), "allowed": allowed, "changed": changed, "transactionHash": transaction })
                    .to_string(),
            );
        }
        Ok(Some(transaction)) => {
            print_line(&format!("{account} {} (transaction {transaction})", may_register(allowed)));
        }
        Ok(None) => print_line(&format!("{account} {} already; nothing was sent", may_register(allowed))),
        Err(error) => return report(&error, &output),
    }
    Exit::Done
}

fn may_register(allowed: bool) -> &'static str {
    if allowed { "may register" } else { "may not register" }
}

/// Shows the owner, and hands the contract over if there is a new one.
pub async fn owner(args: &OwnerArgs, environment: &Environment) -> Exit {
    let OwnerArgs { new_owner, json, contract } = args;
    let output = Output::from_process(*json, environment);
    let result = async {
        let settings =
            owner_settings(contract, *new_owner, environment).map_err(|errors| CliError::invalid_settings(&errors))?;
        app::ownership(settings, *new_owner).await.map_err(|error| CliError::failed(&error))
    };
    match result.await {
        Ok((ownership, transactions)) if *json => {
            let (owner, pending) = (ownership.owner.to_string(), ownership.pending.map(|account| account.to_string()));
            print_line(
                &json!({ "owner": owner, "pendingOwner": pending, "transactionHashes": transactions }).to_string(),
            );
        }
        Ok((ownership, transactions)) => print_ownership(ownership.owner, ownership.pending, &transactions, &output),
        Err(error) => return report(&error, &output),
    }
    Exit::Done
}

fn owner_settings(
    contract: &ContractArgs,
    new_owner: Option<Address>,
    environment: &Environment,
) -> Result<ContractSettings, ConfigErrors> {
    match new_owner {
        Some(_) => ContractSettings::for_owner(contract, environment),
        None => ContractSettings::for_reader(contract, environment),
    }
}

fn print_ownership(owner: Address, pending: Option<Address>, transactions: &[B256], output: &Output) {
    for transaction in transactions {
        print_line(&format!("transaction {transaction}"));
    }
    print_line(&format!("owner {owner}"));
    if let Some(pending) = pending {
        let accept = output.invocation.local_command(&format!("owner {pending}"));
        print_line(&format!("offered to {pending}, which accepts with `{accept}`"));
    }
}
