//! What the service stands on: a contract on the new chain, settings for both, and a folder for its database.

use super::{
    super::{DevArgs, Exit, print_error},
    settings,
};
use crate::{
    app,
    config::{DeploySettings, Environment, Settings},
};
use alloy::primitives::Address;
use tempfile::TempDir;

/// What is there before the service starts.
pub(super) struct DevEnvironment {
    pub contract: Address,
    pub settings: Settings,
    /// Dropping it deletes it, with the database inside.
    pub data_dir: TempDir,
}

impl DevEnvironment {
    /// Deploys the contract on the chain at `rpc`. What goes wrong is said.
    pub(super) async fn deploy(rpc: &str, args: &DevArgs, of_user: Environment) -> Result<Self, Exit> {
        let folder = tempfile::tempdir().map_err(|error| print_error(&error, Exit::Failed))?;
        let environment = settings::with_dev_variables(of_user, rpc, folder.path());
        let mut serve = settings::with_dev_args(args);
        let deployment = DeploySettings::read(&serve.network, &environment);
        let deployment = deployment.map_err(|faults| print_error(&faults, Exit::UsageError))?;
        let contract = app::deploy(deployment, None).await;
        let contract = contract.map_err(|error| print_error(&error, Exit::from_code(error.exit_code())))?;
        serve.contract_address = Some(contract.to_string());
        let settings = Settings::read(&serve, &environment).map_err(|faults| print_error(&faults, Exit::UsageError))?;
        Ok(Self { contract, settings, data_dir: folder })
    }
}
