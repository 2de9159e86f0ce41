//! What the service stands on: a contract on the new chain, settings for both, and a folder for its database.

use super::{
    super::{DevArgs, Exit, complain},
    settings,
};
use crate::{
    app,
    config::{DeploySettings, Environment, Settings},
};
use alloy::primitives::Address;
use tempfile::TempDir;

/// What is there before the service starts.
pub(super) struct Ground {
    pub contract: Address,
    pub settings: Settings,
    /// Dropping it deletes it, with the database inside.
    pub folder: TempDir,
}

impl Ground {
    /// Deploys the contract on the chain at `rpc`. What goes wrong is said.
    pub(super) async fn lay(rpc: &str, args: &DevArgs, of_user: Environment) -> Result<Self, Exit> {
        let folder = tempfile::tempdir().map_err(|error| complain(&error, Exit::Failed))?;
        let environment = settings::environment(of_user, rpc, folder.path());
        let mut serve = settings::serve_args(args);
        let deployment = DeploySettings::read(&serve.network, &environment);
        let deployment = deployment.map_err(|faults| complain(&faults, Exit::Usage))?;
        let contract = app::deploy(deployment, None).await;
        let contract = contract.map_err(|error| complain(&error, Exit::from_code(error.exit_code())))?;
        serve.contract_address = Some(contract.to_string());
        let settings = Settings::read(&serve, &environment).map_err(|faults| complain(&faults, Exit::Usage))?;
        Ok(Self { contract, settings, folder })
    }
}
