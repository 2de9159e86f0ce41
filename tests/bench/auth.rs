//! What authentication costs: the service's processor time for a call with a token, compared with a service that
//! identifies no callers.

use crate::{
    cpu_per_call::{CALLS, cpu_per_call},
    harness::client::{Client, channel},
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
    let callers = CallersFile::new(&[("caller", "")]);
    let (mut off, mut enforced) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        progress(format!("{CALLS} calls without, then with authentication, round {round} of {rounds}"));
        let stack = BenchStack::start(BenchChain::with_block_time(1.0).await, &[]).await;
        let connect = async || Client::new(channel(stack.service.grpc).await);
        off.extend(cpu_per_call(connect).await);
        drop(stack);
        let stack = BenchStack::start(BenchChain::with_block_time(1.0).await, &callers.settings()).await;
        let connect = async || Client::new(channel(stack.service.grpc).await).with_token(&token("caller"));
        enforced.extend(cpu_per_call(connect).await);
        stack.note_warnings("auth", report);
    }
    if off.is_empty() || enforced.is_empty() {
        report.note("auth: this system has no /proc to measure processor time with");
        return;
    }
    let added = median(&enforced) - median(&off);
    report.bar("token, CPU per call, added", added, "us", Bar::AtMost(3.0));
    report.figure("CPU per call without authentication", median(&off), "us");
    report.figure("CPU per call with a token", median(&enforced), "us");
    report.note(format!("CPU per call in us, off {}; enforce {}", listed(&off, 1), listed(&enforced, 1)));
}
