//! Certificates for one test, made with `openssl`.

use std::{fs, path::PathBuf, process::Command};
use tempfile::TempDir;

/// Small keys that are quick to generate.
const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/// A certificate authority; clients that trust [`Self::root`] trust what it signs.
pub struct Authority {
    directory: TempDir,
}

/// A server's certificate and private key, as PEM.
pub struct Certificate {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let authority = Self { directory: tempfile::tempdir().unwrap() };
        authority.run(&[
            &["req", "-x509", "-days", "2", "-subj", "/CN=a root", "-keyout", "ca.key", "-out", "ca.crt"],
            &KEY,
        ]);
        authority
    }

    /// The root certificate.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// A certificate for a server at this IP address.
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
