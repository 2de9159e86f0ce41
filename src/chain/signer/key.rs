//! A private key in memory, which is never printed.

use super::error::SignerFault;
use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope},
    eips::eip2718::Encodable2718,
    primitives::{Address, B256, Bytes, address},
    signers::{SignerSync, local::PrivateKeySigner},
};
use std::fmt;

/// The first ten accounts of the mnemonic `test test … junk`, whose keys are public
/// (<https://getfoundry.sh/anvil/reference/anvil/>).
const ANVIL_ACCOUNTS: [Address; 10] = [
    address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266"),
    address!("70997970C51812dc3A010C7d01b50e0d17dc79C8"),
    address!("3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"),
    address!("90F79bf6EB2c4f870365E785982E1f101E93b906"),
    address!("15d34AAf54267DB7D7c367839AAf71A00a2C6A65"),
    address!("9965507D1a55bcC2695C58ba16FB37d819B0A4dc"),
    address!("976EA74026E726554dB657fA54763abd0C3a0aa9"),
    address!("14dC79964da2C08b23698B3D3cc7Ca32193d9955"),
    address!("23618e81E3f5cdF7f54C3d65f7FBc0aBf5B21E8f"),
    address!("a0Ee7A142d267C1f36714E4a8F75612F20a79720"),
];

#[derive(Clone)]
pub struct Key(PrivateKeySigner);

/// Never contains the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a private key: expected 64 hex digits, not all zero, with or without 0x")]
pub struct InvalidKey;

impl Key {
    /// In hex, with or without `0x`.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        text.parse().map(Self).map_err(|_| InvalidKey)
    }

    /// 32 bytes.
    pub(super) fn from_secret(secret: &[u8]) -> Result<Self, InvalidKey> {
        PrivateKeySigner::from_slice(secret).map(Self).map_err(|_| InvalidKey)
    }

    /// With its secret.
    pub(super) fn random() -> (Self, B256) {
        let key = PrivateKeySigner::random();
        let secret = key.to_bytes();
        (Self(key), secret)
    }

    pub fn address(&self) -> Address {
        self.0.address()
    }

    pub(super) fn sign(&self, transaction: TxEip1559) -> Result<(B256, Bytes), SignerFault> {
        let signature = self.0.sign_hash_sync(&transaction.signature_hash());
        let signature = signature.map_err(|_| SignerFault::Refused("the key cannot sign".to_owned()))?;
        let envelope = TxEnvelope::from(transaction.into_signed(signature));
        Ok((*envelope.tx_hash(), envelope.encoded_2718().into()))
    }
}

/// Anyone can spend the funds of such an account.
pub fn is_published(account: Address) -> bool {
    ANVIL_ACCOUNTS.contains(&account)
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.address())
    }
}
