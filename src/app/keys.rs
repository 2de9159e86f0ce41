//! What commands do with signers: make one, and show their addresses.

use super::Error;
use crate::{
    chain::{self, Signer},
    config::{KeystoreSettings, SignerListSettings},
    telemetry::redact,
};
use alloy::primitives::Address;
use std::path::Path;

/// Makes a key and writes it to a new file, encrypted with the password.
///
/// # Errors
/// The file exists, or cannot be written.
pub async fn create_keystore(settings: KeystoreSettings, path: &Path) -> Result<Address, Error> {
    redact::install(settings.secrets);
    let (path, shown) = (path.to_owned(), path.display().to_string());
    let creating = tokio::task::spawn_blocking(move || chain::create_keystore(&path, &settings.password));
    let created = creating.await.map_err(|_| Error::TaskExited)?;
    created.map_err(|error| Error::Keystore { path: shown, error })
}

/// Each signer as the settings name it, without credentials, with its address.
///
/// # Errors
/// The address of one does not become known, or it cannot be used.
pub async fn signer_addresses(settings: SignerListSettings) -> Result<Vec<(String, Address)>, Error> {
    redact::install(settings.secrets);
    let signers = chain::open_signers(&settings.signers).await?;
    let names = settings.signers.specs.iter().map(ToString::to_string);
    Ok(names.zip(signers.iter().map(Signer::address)).collect())
}
