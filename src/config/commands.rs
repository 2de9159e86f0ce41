//! Validates the settings of the commands that neither serve nor call a service.

use super::{
    ConfigErrors, ContractArgs, Environment, NetworkArgs,
    network::{NeedsSigners, read_chain, read_contract},
    secrets, signers,
};
use crate::{chain, telemetry};
use alloy::primitives::Address;

/// Of commands that deploy the contract, read it or change it.
#[derive(Debug)]
pub struct ContractSettings {
    pub(crate) chain: chain::Settings,
    pub(crate) secrets: telemetry::Secrets,
}

/// Of commands that show signers.
#[derive(Debug)]
pub struct SignerListSettings {
    pub(crate) signers: chain::SignerSettings,
    pub(crate) secrets: telemetry::Secrets,
}

/// Of the command that makes a keystore.
#[derive(Debug)]
pub struct KeystoreSettings {
    pub(crate) password: chain::Password,
    pub(crate) secrets: telemetry::Secrets,
}

impl ContractSettings {
    /// To deploy: the contract's address is not known, and every signer may register.
    ///
    /// # Errors
    /// All invalid settings at once.
    pub fn for_deployment(args: &NetworkArgs, environment: &Environment) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let chain = read_chain(args, Address::ZERO, NeedsSigners::Yes, environment, &mut errors);
        Self::from_chain(chain, environment, errors)
    }

    /// To change it.
    ///
    /// # Errors
    /// All invalid settings at once.
    pub fn for_owner(args: &ContractArgs, environment: &Environment) -> Result<Self, ConfigErrors> {
        Self::with_contract(args, NeedsSigners::Yes, environment)
    }

    /// To read it.
    ///
    /// # Errors
    /// All invalid settings at once.
    pub fn for_reader(args: &ContractArgs, environment: &Environment) -> Result<Self, ConfigErrors> {
        Self::with_contract(args, NeedsSigners::No, environment)
    }

    fn with_contract(
        args: &ContractArgs,
        needs_signers: NeedsSigners,
        environment: &Environment,
    ) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let contract = read_contract(args.contract_address.as_deref(), &mut errors);
        let chain = read_chain(&args.network, contract, needs_signers, environment, &mut errors);
        Self::from_chain(chain, environment, errors)
    }

    fn from_chain(
        chain: chain::Settings,
        environment: &Environment,
        errors: ConfigErrors,
    ) -> Result<Self, ConfigErrors> {
        errors.into_result(Self { chain, secrets: secrets::collect_secrets(environment) })
    }
}

impl SignerListSettings {
    /// The configured signers, or only the one that a URI names.
    ///
    /// # Errors
    /// All invalid settings at once.
    pub fn read(uri: Option<&str>, environment: &Environment) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        // Addresses are public; only a service must not sign with a key that everybody has.
        let signers = match uri {
            Some(uri) => signers::read_one(uri, environment, &mut errors),
            None => signers::read(environment, false, &mut errors),
        };
        errors.into_result(Self { signers, secrets: secrets::collect_secrets(environment) })
    }
}

impl KeystoreSettings {
    /// # Errors
    /// Without a password.
    pub fn read(environment: &Environment) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let password = signers::read_password(environment, &mut errors);
        errors.into_result(Self { password, secrets: secrets::collect_secrets(environment) })
    }
}
