//! Certificates for one test, made by the program `openssl`: an authority, and what it signs.

use std::{fs, path::PathBuf, process::Command};
use tempfile::TempDir;

/// Keys are small, quick to make, and known to everybody.
const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/// Signs certificates. Whoever trusts [`Self::root`] trusts them.
pub struct Authority {
    directory: TempDir,
}

/// A server's certificate and the key to it, as PEM.
pub struct Certificate {
    /// What everybody sees.
    pub certificate: String,
    /// What the server alone knows.
    pub key: String,
}

impl Authority {
    /// A new one, whom nobody trusts yet.
    ///
    /// # Panics
    /// When `openssl` is not installed.
    pub fn new() -> Self {
        let authority = Self { directory: tempfile::tempdir().unwrap() };
        authority.run(&[
            &["req", "-x509", "-days", "2", "-subj", "/CN=a root", "-keyout", "ca.key", "-out", "ca.crt"],
            &KEY,
        ]);
        authority
    }

    /// The certificate that has to be trusted.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// A certificate for a server at this address.
    pub fn sign(&self, address: &str) -> Certificate {
        fs::write(self.directory.path().join("names"), format!("subjectAltName = IP:{address}\n")).unwrap();
        self.run(&[&["req", "-subj", "/CN=a server", "-keyout", "server.key", "-out", "server.csr"], &KEY]);
        self.run(&[
            &["x509", "-req", "-in", "server.csr", "-days", "2", "-CA", "ca.crt", "-CAkey", "ca.key"],
            &["-CAcreateserial", "-extfile", "names", "-out", "server.crt"],
        ]);
        let read = |name: &str| fs::read_to_string(self.directory.path().join(name)).unwrap();
        Certificate { certificate: read("server.crt"), key: read("server.key") }
    }

    fn run(&self, arguments: &[&[&str]]) {
        let mut command = Command::new("openssl");
        let output = command.args(arguments.concat()).current_dir(&self.directory).output();
        let output = output.unwrap_or_else(|error| panic!("openssl cannot be run ({error}): apt-get install openssl"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
