//! Who signs the transactions: a private key, a keystore file, or a remote signer.

mod answer;
#[cfg(feature = "aws-kms")]
mod aws_kms;
mod backend;
mod error;
mod key;
mod keystore;
mod open;
mod spec;
mod unsigned;
mod web3signer;

pub use backend::Signer;
pub use spec::{Password, SignerSettings, SignerSpec};
pub use unsigned::UnsignedTransaction;

pub(crate) use error::SignError;
pub(crate) use key::is_published;
pub(crate) use keystore::{KeystoreError, create_keystore};
pub(crate) use open::{OpenSignersError, open_signers};
pub(crate) use spec::SignerTls;
