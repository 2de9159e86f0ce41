//! Signers whose keys are not in the environment.

#[cfg(feature = "aws-kms")]
mod aws_kms;
mod keystore;
mod web3signer;
