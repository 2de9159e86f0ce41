//! A key of AWS KMS (`ECC_SECG_P256K1`, for signing).

use super::{error::SignerFault, spec::KmsKey};
use crate::{chain::error::sanitize_node_message, telemetry::redact::Redactor};
use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope},
    eips::eip2718::Encodable2718,
    primitives::{Address, Bytes},
    signers::{
        Signer as _,
        aws::{AwsSigner, AwsSignerError},
    },
};
use aws_config::{BehaviorVersion, Region, retry::RetryConfig};
use aws_sdk_kms::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};

/// That the rate of calls is limited
/// (<https://docs.aws.amazon.com/kms/latest/developerguide/throttling.html>).
const THROTTLING_CODES: [&str; 3] = ["ThrottlingException", "LimitExceededException", "RequestLimitExceeded"];
/// What KMS says of itself, not of the request.
const TRANSIENT_CODES: [&str; 4] =
    ["KMSInternalException", "DependencyTimeoutException", "KeyUnavailableException", "ServiceUnavailable"];

pub(super) struct AwsKms {
    signer: AwsSigner,
}

impl AwsKms {
    /// Asks for the public key, with the credentials and settings that the AWS SDK finds.
    pub(super) async fn open(key: &KmsKey) -> Result<Self, SignerFault> {
        // The SDK's own provider of TLS would bring another cryptography library.
        let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let config = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(key.region.clone()))
            .http_client(http)
            // The service tries again itself.
            .retry_config(RetryConfig::disabled());
        let open = async {
            let client = Client::new(&config.load().await);
            AwsSigner::new(client, key.arn.clone(), None).await
        };
        let signer = quietly(open).await.map_err(|error| describe(&error))?;
        Ok(Self { signer })
    }

    pub(super) fn address(&self) -> Address {
        self.signer.address()
    }

    /// The signed bytes, not looked at.
    pub(super) async fn sign(&self, transaction: &TxEip1559) -> Result<Bytes, SignerFault> {
        let signing = async { self.signer.sign_hash(&transaction.signature_hash()).await };
        let signature = quietly(signing).await.map_err(|error| match error {
            alloy::signers::Error::Other(cause) => match cause.downcast_ref::<AwsSignerError>() {
                Some(error) => describe(error),
                None => SignerFault::Unreadable,
            },
            _ => SignerFault::Unreadable,
        })?;
        Ok(TxEnvelope::from(transaction.clone().into_signed(signature)).encoded_2718().into())
    }
}

/// The SDK's and alloy's own spans and error events would reach the log and Sentry, each error several times.
async fn quietly<T>(call: impl Future<Output = T>) -> T {
    call.with_subscriber(NoSubscriber::default()).await
}

fn describe(error: &AwsSignerError) -> SignerFault {
    match error {
        AwsSignerError::Sign(error) => describe_call(error),
        AwsSignerError::GetPublicKey(error) => describe_call(error),
        AwsSignerError::K256(_)
        | AwsSignerError::Spki(_)
        | AwsSignerError::Hex(_)
        | AwsSignerError::PublicKeyNotFound => {
            SignerFault::Refused("the key is not of the kind ECC_SECG_P256K1".to_owned())
        }
        AwsSignerError::SignatureNotFound | AwsSignerError::SignatureRecoveryFailed => SignerFault::Unreadable,
    }
}

/// The SDK's own text is only "service error".
fn describe_call<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> SignerFault {
    match error {
        SdkError::TimeoutError(_) => SignerFault::Timeout,
        SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_) => {
            SignerFault::Unreachable("no connection or no credentials")
        }
        SdkError::ServiceError(_) => {
            let code = error.code().unwrap_or("an error without a code");
            if THROTTLING_CODES.contains(&code) {
                return SignerFault::Throttled;
            }
            if TRANSIENT_CODES.contains(&code) {
                return SignerFault::Unreachable("KMS has an internal error");
            }
            let message = error.message().unwrap_or_default();
            SignerFault::Refused(sanitize_node_message(&format!("{code}: {message}"), &Redactor::new([""; 0])))
        }
        _ => SignerFault::Unreadable,
    }
}
