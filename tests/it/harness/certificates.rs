//! Certificates for one test.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType, date_time_ymd,
};
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tempfile::TempDir;

/// A certificate authority; clients that trust [`Self::root`] trust what it signs.
pub struct Authority {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
    pub certificate: String,
}

/// A certificate and its private key, as PEM.
#[derive(Clone)]
pub struct Certificate {
    pub certificate: String,
    pub key: String,
}

/// A client's certificate and private key.
pub struct ClientFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// When a certificate is valid.
#[derive(Clone, Copy)]
pub enum Valid {
    Now,
    UntilIn(Duration),
    Expired,
    NotYet,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "a root");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ca.crt"), &certificate).unwrap();
        Self { directory, issuer: Issuer::new(params, key), certificate }
    }

    /// The root certificate.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// A certificate for a server at this host name or IP address.
    pub fn sign(&self, host: &str) -> Certificate {
        self.sign_server(host, Valid::Now)
    }

    pub fn sign_server(&self, host: &str, valid: Valid) -> Certificate {
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        self.signed(params, ExtendedKeyUsagePurpose::ServerAuth, valid)
    }

    /// A certificate with which a client identifies itself.
    pub fn sign_client(&self) -> ClientFiles {
        let client = self.sign_caller(&[], &[], Valid::Now);
        let [certificate, key] = client.write(self.directory.path(), "client");
        ClientFiles { certificate, key }
    }

    /// The certificate of a client with these names.
    pub fn sign_caller(&self, uris: &[&str], dns_names: &[&str], valid: Valid) -> Certificate {
        let mut params = CertificateParams::default();
        let uris = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap()));
        let dns_names = dns_names.iter().map(|name| SanType::DnsName((*name).try_into().unwrap()));
        params.subject_alt_names = dns_names.chain(uris).collect();
        self.signed(params, ExtendedKeyUsagePurpose::ClientAuth, valid)
    }

    fn signed(&self, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose, valid: Valid) -> Certificate {
        params.extended_key_usages = vec![usage];
        match valid {
            Valid::Now => {}
            Valid::UntilIn(time) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                params.not_after = date_time_ymd(1970, 1, 1) + now + time;
            }
            Valid::Expired => params.not_after = date_time_ymd(2024, 1, 1),
            Valid::NotYet => params.not_before = date_time_ymd(2100, 1, 1),
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Certificate { certificate, key: key.serialize_pem() }
    }
}

impl Certificate {
    /// The files of certificate and key, each put in its place by a rename.
    pub fn write(&self, directory: &Path, name: &str) -> [PathBuf; 2] {
        [("crt", &self.certificate), ("key", &self.key)].map(|(extension, pem)| {
            let path = directory.join(name).with_extension(extension);
            replace(&path, pem);
            path
        })
    }
}

/// Replaces a file by renaming another one.
pub fn replace(path: &Path, content: impl AsRef<[u8]>) {
    let new = path.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(&new, path).unwrap();
}
