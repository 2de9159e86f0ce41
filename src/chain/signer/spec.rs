//! Where the signers are, as the settings name them.

use super::key::{InvalidKey, Key};
use crate::chain::{
    address::parse_address,
    url::{EndpointUrl, InvalidEndpointUrl},
};
use alloy::primitives::Address;
use std::{fmt, path::PathBuf};

/// One signer. Shown without credentials.
#[derive(Clone)]
pub enum SignerSpec {
    Key(Key),
    /// A file of Web3 Secret Storage, version 3.
    Keystore(PathBuf),
    /// JSON-RPC `eth_signTransaction`, of web3signer or op-signer.
    Web3Signer {
        url: EndpointUrl,
        address: Address,
    },
    AwsKms(KmsKey),
}

/// A key of AWS KMS by its ARN.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KmsKey {
    pub(super) arn: String,
    pub(super) region: String,
}

/// Never contains the text, which may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSignerUri {
    #[error(
        "is not a signer; use keystore:/path/to/file.json, web3signer:https://host:port/#0xADDRESS or \
         aws-kms:arn:aws:kms:REGION:ACCOUNT:key/ID"
    )]
    UnknownKind,
    #[error("has no path; use keystore:/path/to/file.json")]
    NoPath,
    #[error("names a web3signer whose URL {0}")]
    Url(#[from] InvalidEndpointUrl),
    #[error("names a web3signer without the address of its key; append it as #0xADDRESS")]
    NoAddress,
    #[error("names a web3signer with an address that {0}")]
    Address(&'static str),
    #[error(
        "names a web3signer on another machine by http://, where anyone on the way can change what is signed; use https://"
    )]
    Plaintext,
    #[error("names a key of AWS KMS by an alias, which may come to mean another key; use the ARN of the key")]
    Alias,
    #[error("is not the ARN of a key of AWS KMS; use aws-kms:arn:aws:kms:REGION:ACCOUNT:key/ID")]
    Arn,
    #[error("needs a registrar built with the cargo feature aws-kms, which this one lacks")]
    NoAwsKms,
}

impl SignerSpec {
    /// A private key in hex, with or without `0x`.
    ///
    /// # Errors
    /// When it is not one.
    pub fn parse_key(text: &str) -> Result<Self, InvalidKey> {
        Key::parse(text).map(Self::Key)
    }

    /// # Errors
    /// When it names no signer that this build supports.
    pub(crate) fn parse_uri(text: &str) -> Result<Self, InvalidSignerUri> {
        match text.split_once(':') {
            Some(("keystore", "")) => Err(InvalidSignerUri::NoPath),
            Some(("keystore", path)) => Ok(Self::Keystore(path.into())),
            Some(("web3signer", url)) => parse_web3signer(url),
            Some(("aws-kms", arn)) => parse_aws_kms(arn),
            Some(_) | None => Err(InvalidSignerUri::UnknownKind),
        }
    }

    /// Without asking anyone.
    pub(crate) fn known_address(&self) -> Option<Address> {
        match self {
            Self::Key(key) => Some(key.address()),
            Self::Web3Signer { address, .. } => Some(*address),
            Self::Keystore(_) | Self::AwsKms(_) => None,
        }
    }
}

fn parse_web3signer(text: &str) -> Result<SignerSpec, InvalidSignerUri> {
    let (url, address) = text.split_once('#').unwrap_or((text, ""));
    let url = EndpointUrl::parse(url)?;
    if address.is_empty() {
        return Err(InvalidSignerUri::NoAddress);
    }
    let address = parse_address(address).map_err(InvalidSignerUri::Address)?;
    if url.expose_url().scheme() != "https" && !url.is_loopback() {
        return Err(InvalidSignerUri::Plaintext);
    }
    Ok(SignerSpec::Web3Signer { url, address })
}

/// `arn:PARTITION:kms:REGION:ACCOUNT:key/ID`
/// (<https://docs.aws.amazon.com/kms/latest/developerguide/concepts.html#key-id-key-ARN>).
fn parse_aws_kms(arn: &str) -> Result<SignerSpec, InvalidSignerUri> {
    let parts: Vec<_> = arn.splitn(6, ':').collect();
    let ["arn", _, "kms", region, _, resource] = parts.as_slice() else { return Err(InvalidSignerUri::Arn) };
    match resource.split_once('/') {
        Some(("key", id)) if !id.is_empty() && !region.is_empty() => match cfg!(feature = "aws-kms") {
            true => Ok(SignerSpec::AwsKms(KmsKey { arn: arn.to_owned(), region: (*region).to_owned() })),
            false => Err(InvalidSignerUri::NoAwsKms),
        },
        Some(("alias", _)) => Err(InvalidSignerUri::Alias),
        Some(_) | None => Err(InvalidSignerUri::Arn),
    }
}

impl fmt::Display for SignerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(f, "the key of {}", key.address()),
            Self::Keystore(path) => write!(f, "keystore {}", path.display()),
            Self::AwsKms(key) => write!(f, "key {} of AWS KMS", key.arn),
            Self::Web3Signer { url, address } => write!(f, "web3signer at {} for {address}", url.name()),
        }
    }
}

impl fmt::Debug for SignerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The signers, and what opens them.
#[derive(Clone, Default)]
pub struct SignerSettings {
    /// The first one deploys, and owns what it deploys.
    pub specs: Vec<SignerSpec>,
    /// Of every keystore.
    pub(crate) keystore_password: Option<Password>,
    /// For every web3signer.
    pub(crate) tls: SignerTls,
    /// Accounts whose keys are published, such as anvil's.
    pub(crate) allow_published_keys: bool,
}

/// Never shown.
#[derive(Clone)]
pub struct Password(String);

impl Password {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// PEM.
#[derive(Clone, Default)]
pub(crate) struct SignerTls {
    /// Trusted instead of the system's authorities.
    pub(crate) authority: Option<Vec<u8>>,
    /// Certificate and private key of the client.
    pub(crate) client: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for SignerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SignerSettings").field(&self.specs).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_names_a_signer_or_says_what_is_wrong_with_it() {
        use InvalidSignerUri::{Address, Alias, Arn, NoAddress, NoAwsKms, NoPath, Plaintext, UnknownKind, Url};
        let signer = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
        let lower = signer.to_lowercase();
        for (uri, expected) in [
            ("keystore:/run/keys/a.json".to_owned(), "keystore /run/keys/a.json".to_owned()),
            ("keystore:keys/a b.json".to_owned(), "keystore keys/a b.json".to_owned()),
            (format!("web3signer:https://s.example:9000/#{signer}"), format!("web3signer at s.example for {signer}")),
            (format!("web3signer:https://u:p@s.example/k/#{lower}"), format!("web3signer at s.example for {signer}")),
            (format!("web3signer:http://127.0.0.1:9000#{lower}"), format!("web3signer at 127.0.0.1 for {signer}")),
        ] {
            assert_eq!(SignerSpec::parse_uri(&uri).map(|spec| spec.to_string()), Ok(expected), "{uri}");
        }
        for (uri, expected) in [
            ("", UnknownKind),
            ("/run/keys/a.json", UnknownKind),
            ("vault:https://x", UnknownKind),
            ("keystore:", NoPath),
            ("web3signer:", Url(InvalidEndpointUrl::NotAUrl)),
            ("web3signer:ftp://s.example/#0x70997970C51812dc3A010C7d01b50e0d17dc79C8", Url(InvalidEndpointUrl::Scheme)),
            ("web3signer:https://s.example/", NoAddress),
            ("web3signer:https://s.example/#", NoAddress),
            ("web3signer:https://s.example/#0x12", Address("is not an address (0x and 40 hex digits)")),
            ("web3signer:http://s.example/#0x70997970C51812dc3A010C7d01b50e0d17dc79C8", Plaintext),
            ("aws-kms:arn:aws:kms:eu-central-1:111122223333:alias/mine", Alias),
            ("aws-kms:1234abcd", Arn),
            ("aws-kms:arn:aws:s3:eu-central-1:111122223333:key/1234abcd", Arn),
        ] {
            assert_eq!(SignerSpec::parse_uri(uri).map(|spec| spec.to_string()), Err(expected), "{uri}");
        }
        let key = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd";
        let parsed = SignerSpec::parse_uri(&format!("aws-kms:{key}")).map(|spec| spec.to_string());
        match cfg!(feature = "aws-kms") {
            true => assert_eq!(parsed, Ok(format!("key {key} of AWS KMS"))),
            false => assert_eq!(parsed, Err(NoAwsKms)),
        }
    }
}
