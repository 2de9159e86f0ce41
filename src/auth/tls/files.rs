//! The files of the server's TLS: what is in them, and what is wrong with them.

use super::certificate::Validity;
use rustls::{
    Error, InconsistentKeys, RootCertStore,
    crypto::ring::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SigningKey},
};
use std::{fmt, io::ErrorKind, path::PathBuf, sync::Arc};

const CERTIFICATE_SETTING: &str = "REGISTRAR_TLS_CERT_FILE";
const KEY_SETTING: &str = "REGISTRAR_TLS_KEY_FILE";
const CLIENT_CA_SETTING: &str = "REGISTRAR_TLS_CLIENT_CA_FILE";

/// Whether a client without a certificate may connect. One with an invalid certificate never may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ClientAuth {
    Required,
    Optional,
}

/// Paths of PEM files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TlsFiles {
    /// The server's certificate, followed by those of its intermediate authorities.
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// The authorities that sign the certificates of clients.
    pub(crate) client_ca: Option<(PathBuf, ClientAuth)>,
}

/// A file that cannot be used, and why. The content is not repeated: it may be a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TlsFault {
    /// The setting that names the file.
    pub(crate) setting: &'static str,
    pub(crate) problem: FileProblem,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum FileProblem {
    #[error("the file cannot be read: {}", reason(*.0))]
    Unreadable(ErrorKind),
    #[error("the file has no certificate (PEM, `-----BEGIN CERTIFICATE-----`)")]
    NoCertificate,
    #[error("the file has an invalid certificate")]
    InvalidCertificate,
    #[error("the file has no private key (PEM, `-----BEGIN PRIVATE KEY-----`)")]
    NoKey,
    #[error("the private key is encrypted; store it without a password, in a file that only this service can read")]
    EncryptedKey,
    #[error(
        "the private key is of an unsupported kind; use ECDSA P-256 or P-384, Ed25519, or RSA of 2048 bits or more"
    )]
    UnsupportedKey,
    #[error("the private key does not belong to the certificate of {CERTIFICATE_SETTING}")]
    WrongKey,
}

/// The content of a file, or why there is none. It may be a key, so it is never shown.
pub(super) type Content = Result<Vec<u8>, ErrorKind>;

/// The contents of all files at one moment.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) certificate: Content,
    pub(super) key: Content,
    pub(super) client_ca: Option<(Content, ClientAuth)>,
}

/// What the server identifies itself with.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) validity: Validity,
}

/// Checks the certificates of clients.
pub(super) type Verifier = Arc<dyn ClientCertVerifier>;

impl TlsFiles {
    pub(super) fn read(&self) -> Contents {
        let read = |path: &PathBuf| std::fs::read(path).map_err(|error| error.kind());
        Contents {
            certificate: read(&self.certificate),
            key: read(&self.key),
            client_ca: self.client_ca.as_ref().map(|(path, auth)| (read(path), *auth)),
        }
    }
}

impl Contents {
    pub(super) fn has_same_identity(&self, other: &Self) -> bool {
        self.certificate == other.certificate && self.key == other.key
    }

    pub(super) fn has_same_client_ca(&self, other: &Self) -> bool {
        self.client_ca == other.client_ca
    }

    pub(super) fn identity(&self) -> Result<Identity, Vec<TlsFault>> {
        let chain = read_certificates(&self.certificate).and_then(|chain| {
            let validity = Validity::of_chain(&chain).ok().flatten().ok_or(FileProblem::InvalidCertificate)?;
            Ok((chain, validity))
        });
        let key = read_key(&self.key);
        match (chain, key) {
            (Ok((chain, validity)), Ok(key)) => {
                let certified = CertifiedKey::new(chain, key);
                match certified.keys_match() {
                    // Unknown: the public half cannot be derived from the key.
                    Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {
                        Ok(Identity { key: Arc::new(certified), validity })
                    }
                    Err(Error::InconsistentKeys(_)) => Err(vec![TlsFault::new(KEY_SETTING, FileProblem::WrongKey)]),
                    Err(_) => Err(vec![TlsFault::new(CERTIFICATE_SETTING, FileProblem::InvalidCertificate)]),
                }
            }
            (chain, key) => {
                let chain = chain.err().map(|problem| TlsFault::new(CERTIFICATE_SETTING, problem));
                let key = key.err().map(|problem| TlsFault::new(KEY_SETTING, problem));
                Err(chain.into_iter().chain(key).collect())
            }
        }
    }

    /// `None` if clients are not asked for a certificate.
    pub(super) fn verifier(&self) -> Result<Option<Verifier>, TlsFault> {
        let Some((content, auth)) = &self.client_ca else { return Ok(None) };
        let fault = |problem| TlsFault::new(CLIENT_CA_SETTING, problem);
        let mut roots = RootCertStore::empty();
        for authority in read_certificates(content).map_err(fault)? {
            roots.add(authority).map_err(|_| fault(FileProblem::InvalidCertificate))?;
        }
        let builder = WebPkiClientVerifier::builder(Arc::new(roots));
        let builder = match auth {
            ClientAuth::Required => builder,
            ClientAuth::Optional => builder.allow_unauthenticated(),
        };
        // Fails without a root, and for revocation lists, which are not used.
        builder.build().map(Some).map_err(|_| fault(FileProblem::NoCertificate))
    }
}

impl TlsFault {
    fn new(setting: &'static str, problem: FileProblem) -> Self {
        Self { setting, problem }
    }
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.problem)
    }
}

fn read_certificates(content: &Content) -> Result<Vec<CertificateDer<'static>>, FileProblem> {
    let pem = content.as_ref().map_err(|kind| FileProblem::Unreadable(*kind))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(FileProblem::NoCertificate),
        Ok(certificates) => Ok(certificates),
        Err(_) => Err(FileProblem::InvalidCertificate),
    }
}

fn read_key(content: &Content) -> Result<Arc<dyn SigningKey>, FileProblem> {
    let pem = content.as_ref().map_err(|kind| FileProblem::Unreadable(*kind))?;
    if is_encrypted(pem) {
        return Err(FileProblem::EncryptedKey);
    }
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| FileProblem::NoKey)?;
    any_supported_type(&key).map_err(|_| FileProblem::UnsupportedKey)
}

/// As PKCS#8, or in the older way of OpenSSL.
fn is_encrypted(pem: &[u8]) -> bool {
    let text = String::from_utf8_lossy(pem);
    text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || text.contains("Proc-Type: 4,ENCRYPTED")
}

fn reason(kind: ErrorKind) -> String {
    if kind == ErrorKind::NotFound { "no such file".to_owned() } else { kind.to_string() }
}
