//! Signs transactions with any backend, and tries a remote one again.

#[cfg(feature = "aws-kms")]
use super::aws_kms::AwsKms;
use super::{
    answer::check_answer,
    error::{SignError, SignerFault},
    key::{InvalidKey, Key},
    unsigned::UnsignedTransaction,
    web3signer::Web3Signer,
};
use crate::{
    chain::backoff::Backoff,
    telemetry::{metrics, spans},
};
use alloy::{
    consensus::TxEip1559,
    primitives::{Address, B256, Bytes},
};
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout};
use tracing::Instrument;

const TRY_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_TRIES: u32 = 3;
/// Between two tries.
const MAX_RETRY_DELAY: Duration = Duration::from_millis(500);

/// An account that signs. Shown by its address only.
#[derive(Clone)]
pub struct Signer {
    address: Address,
    backend: Arc<Backend>,
}

pub(super) enum Backend {
    Key(Key),
    Keystore(Key),
    Web3Signer(Web3Signer),
    #[cfg(feature = "aws-kms")]
    AwsKms(AwsKms),
}

impl Signer {
    pub(super) fn new(address: Address, backend: Backend) -> Self {
        Self { address, backend: Arc::new(backend) }
    }

    /// A private key in hex, with or without `0x`.
    ///
    /// # Errors
    /// When it is not one.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        Key::parse(text).map(Self::from_key)
    }

    pub(super) fn from_key(key: Key) -> Self {
        Self::new(key.address(), Backend::Key(key))
    }

    pub fn address(&self) -> Address {
        self.address
    }

    /// Returns hash and EIP-2718 bytes. Ends within seven seconds, and never blocks.
    ///
    /// # Errors
    /// When a remote signer does not sign.
    pub async fn sign(&self, unsigned: &UnsignedTransaction) -> Result<(B256, Bytes), SignError> {
        self.sign_within(MAX_TRIES, unsigned).await
    }

    /// Whether it signs now, in one try.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) async fn check_signs(&self, unsigned: &UnsignedTransaction) -> Result<(), SignError> {
        self.sign_within(1, unsigned).await.map(drop)
    }

    async fn sign_within(&self, tries: u32, unsigned: &UnsignedTransaction) -> Result<(B256, Bytes), SignError> {
        let transaction = unsigned.to_eip1559();
        let span = spans::sign(&self.address, self.backend.label());
        let result = self.try_repeatedly(tries, &transaction).instrument(span.clone()).await;
        span.record("outcome", result.as_ref().map_or_else(SignerFault::label, |_| "ok"));
        if result.is_err() {
            span.record("otel.status_code", "error");
        }
        let backend = || self.backend.describe();
        result.map_err(|fault| SignError { address: self.address, backend: backend(), fault })
    }

    async fn try_repeatedly(&self, tries: u32, transaction: &TxEip1559) -> Result<(B256, Bytes), SignerFault> {
        let mut backoff = Backoff::with_max_delay(MAX_RETRY_DELAY);
        for _ in 1..tries {
            match self.try_once(transaction).await {
                Err(fault) if fault.is_transient() => tokio::time::sleep(backoff.next_delay()).await,
                result => return result,
            }
        }
        self.try_once(transaction).await
    }

    async fn try_once(&self, transaction: &TxEip1559) -> Result<(B256, Bytes), SignerFault> {
        let start = Instant::now();
        let result = match self.backend.as_ref() {
            Backend::Key(key) | Backend::Keystore(key) => key.sign(transaction.clone()),
            Backend::Web3Signer(remote) => self.check(remote.sign(self.address, transaction), transaction).await,
            #[cfg(feature = "aws-kms")]
            Backend::AwsKms(kms) => self.check(kms.sign(transaction), transaction).await,
        };
        let outcome = result.as_ref().map_or_else(SignerFault::label, |_| "ok");
        metrics().observe_sign(self.address, self.backend.label(), outcome, start.elapsed());
        result
    }
}

impl Signer {
    /// What a remote signer answers in time, if it is what was asked for.
    async fn check(
        &self,
        answer: impl Future<Output = Result<Bytes, SignerFault>>,
        asked: &TxEip1559,
    ) -> Result<(B256, Bytes), SignerFault> {
        let raw = timeout(TRY_TIMEOUT, answer).await.unwrap_or(Err(SignerFault::Timeout))?;
        check_answer(&raw, asked, self.address).map_err(SignerFault::WrongAnswer)
    }
}

impl Backend {
    /// For metrics and spans.
    fn label(&self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::Keystore(_) => "keystore",
            Self::Web3Signer(_) => "web3signer",
            #[cfg(feature = "aws-kms")]
            Self::AwsKms(_) => "aws_kms",
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Key(_) | Self::Keystore(_) => self.label().to_owned(),
            Self::Web3Signer(remote) => format!("web3signer at {}", remote.host()),
            #[cfg(feature = "aws-kms")]
            Self::AwsKms(_) => "AWS KMS".to_owned(),
        }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.address)
    }
}
