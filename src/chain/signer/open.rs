//! Makes signers of the settings at the start, when each address has to become known.

#[cfg(feature = "aws-kms")]
use super::aws_kms::AwsKms;
use super::{
    backend::{Backend, Signer},
    error::SignerFault,
    key::is_published,
    keystore::{KeystoreError, read_keystore},
    spec::{SignerSettings, SignerSpec},
    web3signer::{Accounts, Web3Signer},
};
use crate::chain::backoff::Backoff;
use alloy::primitives::Address;
use futures_util::future::join_all;
use std::{fmt, time::Duration};
use tokio::time::{Instant, timeout_at};

const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
const TRY_TIMEOUT: Duration = Duration::from_secs(2);

/// All signers that cannot be used.
#[derive(Debug)]
pub struct OpenSignersError(Vec<(String, OpenProblem)>);

#[derive(Debug, thiserror::Error)]
enum OpenProblem {
    #[error("does not have the key of this address; it has {0}")]
    NoSuchKey(String),
    #[error("is the same account as {0}; remove one of them")]
    Repeated(String),
    #[error(
        "is an account whose private key is published, so anyone can spend its funds; use a key of your own (accepted \
         only on chain 31337 or with endpoints on loopback)"
    )]
    Published,
    #[error("is not usable with these certificates; see REGISTRAR_SIGNER_TLS_CA_FILE, _CERT_FILE and _KEY_FILE")]
    Certificates,
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    #[error("needs a password; set REGISTRAR_KEYSTORE_PASSWORD or REGISTRAR_KEYSTORE_PASSWORD_FILE")]
    NoPassword,
    #[cfg(not(feature = "aws-kms"))]
    #[error("{}", super::spec::InvalidSignerUri::NoAwsKms)]
    NoAwsKms,
    #[error("was not read: the program is ending")]
    Aborted,
    #[error("is not usable: {0}")]
    Refused(SignerFault),
    #[error("is not usable after {OPEN_TIMEOUT:?}: {0}")]
    Silent(SignerFault),
}

impl OpenSignersError {
    /// Whether other settings would fix it. What may resolve itself is not.
    pub(crate) fn is_configuration_error(&self) -> bool {
        self.0.iter().any(|(_, problem)| match problem {
            OpenProblem::NoSuchKey(_)
            | OpenProblem::Repeated(_)
            | OpenProblem::Published
            | OpenProblem::Certificates
            | OpenProblem::Keystore(_)
            | OpenProblem::NoPassword
            | OpenProblem::Refused(_) => true,
            #[cfg(not(feature = "aws-kms"))]
            OpenProblem::NoAwsKms => true,
            OpenProblem::Silent(_) | OpenProblem::Aborted => false,
        })
    }
}

impl fmt::Display for OpenSignersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problems: Vec<_> = self.0.iter().map(|(signer, problem)| format!("{signer} {problem}")).collect();
        f.write_str(&problems.join("; "))
    }
}

impl std::error::Error for OpenSignersError {}

/// In the order of the settings.
///
/// # Errors
/// When the address of one does not become known in time, or it cannot be used.
pub async fn open_signers(settings: &SignerSettings) -> Result<Vec<Signer>, OpenSignersError> {
    let deadline = Instant::now() + OPEN_TIMEOUT;
    let opened = join_all(settings.specs.iter().map(|spec| open(spec, settings, deadline))).await;
    let (mut signers, mut problems) = (Vec::<(&SignerSpec, Signer)>::new(), Vec::new());
    for (spec, opened) in settings.specs.iter().zip(opened) {
        let same = |address: Address| signers.iter().find(|(_, known)| known.address() == address);
        match opened {
            Ok(signer) if is_published(signer.address()) && !settings.allow_published_keys => {
                problems.push((spec.to_string(), OpenProblem::Published));
            }
            Ok(signer) => match same(signer.address()) {
                Some((first, _)) => problems.push((spec.to_string(), OpenProblem::Repeated(first.to_string()))),
                None => signers.push((spec, signer)),
            },
            Err(problem) => problems.push((spec.to_string(), problem)),
        }
    }
    if problems.is_empty() {
        Ok(signers.into_iter().map(|(_, signer)| signer).collect())
    } else {
        Err(OpenSignersError(problems))
    }
}

async fn open(spec: &SignerSpec, settings: &SignerSettings, deadline: Instant) -> Result<Signer, OpenProblem> {
    match spec {
        SignerSpec::Key(key) => Ok(Signer::from_key(key.clone())),
        SignerSpec::Keystore(path) => {
            let Some(password) = settings.keystore_password.clone() else { return Err(OpenProblem::NoPassword) };
            let path = path.clone();
            let reading = tokio::task::spawn_blocking(move || read_keystore(&path, &password));
            let key = reading.await.map_err(|_| OpenProblem::Aborted)??;
            Ok(Signer::new(key.address(), Backend::Keystore(key)))
        }
        #[cfg(not(feature = "aws-kms"))]
        SignerSpec::AwsKms(_) => Err(OpenProblem::NoAwsKms),
        #[cfg(feature = "aws-kms")]
        SignerSpec::AwsKms(key) => {
            let kms = ask_until(deadline, async || AwsKms::open(key).await).await?;
            Ok(Signer::new(kms.address(), Backend::AwsKms(kms)))
        }
        SignerSpec::Web3Signer { url, address } => {
            let remote = Web3Signer::new(url.clone(), &settings.tls).map_err(|_| OpenProblem::Certificates)?;
            match ask_until(deadline, async || remote.accounts().await).await? {
                Accounts::Listed(accounts) if !accounts.contains(address) => {
                    Err(OpenProblem::NoSuchKey(describe_accounts(&accounts)))
                }
                Accounts::Listed(_) | Accounts::NotListed => Ok(Signer::new(*address, Backend::Web3Signer(remote))),
            }
        }
    }
}

/// Machines that start together do not become ready in order.
async fn ask_until<T>(
    deadline: Instant,
    mut ask: impl AsyncFnMut() -> Result<T, SignerFault>,
) -> Result<T, OpenProblem> {
    let mut backoff = Backoff::new();
    loop {
        let answer = timeout_at(deadline.min(Instant::now() + TRY_TIMEOUT), ask()).await;
        match answer.unwrap_or(Err(SignerFault::Timeout)) {
            Ok(answer) => return Ok(answer),
            Err(fault) if !fault.is_transient() => return Err(OpenProblem::Refused(fault)),
            Err(fault) => {
                let next = Instant::now() + backoff.next_delay();
                if next >= deadline {
                    return Err(OpenProblem::Silent(fault));
                }
                tokio::time::sleep_until(next).await;
            }
        }
    }
}

fn describe_accounts(accounts: &[Address]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<_> = accounts.iter().take(SHOWN).map(Address::to_string).collect();
    match accounts.len() {
        0 => "none".to_owned(),
        count if count > SHOWN => format!("{} and {} others", shown.join(", "), count - SHOWN),
        _ => shown.join(", "),
    }
}
