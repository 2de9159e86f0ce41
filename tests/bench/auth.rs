//! What authentication costs: the service's processor time for a call with a token, and with a JSON Web Token that it has
//! verified before, compared with a service that identifies no callers.

use crate::{
    cpu_per_call::{CALLS, cpu_per_call},
    harness::{
        client::{Client, channel},
        issuer::{AUDIENCE, Issuer, SigningKey},
    },
    report::{Bar, Report, listed, median, progress},
    stack::{BenchChain, BenchStack},
};
use sha2::{Digest, Sha256};
use std::{fs, path::PathBuf};
use tempfile::TempDir;

/// A callers file with a token per caller.
pub struct CallersFile {
    path: PathBuf,
    _folder: TempDir,
}

impl CallersFile {
    /// `callers` are names, and the lines with their limits.
    pub fn new(callers: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("callers.toml");
        let entry = |(name, limits): &(&str, &str)| {
            let hash = alloy::primitives::hex::encode(Sha256::digest(token(name)));
            format!("[[callers]]\nname = \"{name}\"\ntokens = [\"sha256:{hash}\"]\nscopes = [\"register\"]\n{limits}\n")
        };
        fs::write(&path, callers.iter().map(entry).collect::<String>()).unwrap();
        Self { path, _folder: folder }
    }

    pub fn settings(&self) -> [(&str, &str); 2] {
        [("REGISTRAR_AUTH", "enforce"), ("REGISTRAR_CALLERS_FILE", self.path.to_str().unwrap())]
    }
}

/// In the form that `registrar token new` makes.
pub fn token(caller: &str) -> String {
    format!("rgs_{caller:A<43}")
}

pub async fn measure(report: &mut Report, rounds: usize) {
    let key = SigningKey::es256();
    let issuer = Issuer::start(vec![key.jwk("one")]);
    let jwt = key.token("one", &issuer.claims("caller"));
    let callers = CallersFile::new(&[("caller", &format!("subjects = [\"{}|caller\"]", issuer.url()))]);
    let url = issuer.url();
    let [auth, file] = callers.settings();
    let settings = [auth, file, ("REGISTRAR_JWT_ISSUER", url.as_str()), ("REGISTRAR_JWT_AUDIENCE", AUDIENCE)];
    let (mut off, mut enforced, mut signed) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        progress(format!("{CALLS} calls without authentication, with a token, with a JWT, round {round} of {rounds}"));
        let stack = BenchStack::start(BenchChain::with_block_time(1.0).await, &[]).await;
        let connect = async || Client::new(channel(stack.service.grpc).await);
        off.extend(cpu_per_call(connect).await);
        drop(stack);
        for (credentials, used) in [(&token("caller"), &mut enforced), (&jwt, &mut signed)] {
            let stack = BenchStack::start(BenchChain::with_block_time(1.0).await, &settings).await;
            let connect = async || Client::new(channel(stack.service.grpc).await).with_token(credentials);
            used.extend(cpu_per_call(connect).await);
            stack.note_warnings("auth", report);
        }
    }
    if off.is_empty() {
        report.note("auth: this system has no /proc to measure processor time with");
        return;
    }
    let added = median(&enforced) - median(&off);
    report.bar("token, CPU per call, added", added, "us", Bar::AtMost(3.0));
    report.bar("JWT, CPU per call, added", median(&signed) - median(&off), "us", Bar::AtMost(5.0));
    report.figure("CPU per call without authentication", median(&off), "us");
    report.figure("CPU per call with a token", median(&enforced), "us");
    let [off, enforced, signed] = [off, enforced, signed].map(|each| listed(&each, 1));
    report.note(format!("CPU per call in us, off {off}; token {enforced}; JWT {signed}"));
}
