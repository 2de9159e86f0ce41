//! What the service of a development stack needs: contract, settings and a directory for the database.

use super::settings;
use crate::{
    app,
    cli::{
        args::DevArgs,
        exit::{Exit, print_error},
    },
    config::{ContractSettings, Environment, Settings},
};
use alloy::primitives::Address;
use tempfile::TempDir;

pub(super) struct DevEnvironment {
    pub contract: Address,
    pub settings: Settings,
    /// Contains the database. Dropping it deletes the directory.
    pub data_dir: TempDir,
}

impl DevEnvironment {
    /// Deploys the contract on the chain at `rpc_url`. Prints errors.
    pub(super) async fn deploy(
        rpc_url: &str,
        args: &DevArgs,
        user_environment: Environment,
        data_dir: TempDir,
    ) -> Result<Self, Exit> {
        let environment = settings::with_dev_variables(user_environment, rpc_url, data_dir.path());
        let mut serve = settings::with_dev_args(args);
        let deployment = ContractSettings::for_deployment(&serve.network, &environment);
        let deployment = deployment.map_err(|errors| print_error(&errors, Exit::UsageError))?;
        let contract = app::deploy(deployment, None).await;
        let contract = contract.map_err(|error| print_error(&error, Exit::from(&error)))?;
        serve.contract_address = Some(contract.to_string());
        let settings = Settings::read(&serve, &environment).map_err(|errors| print_error(&errors, Exit::UsageError))?;
        Ok(Self { contract, settings, data_dir })
    }
}
