//! Who may call, and what each caller may do, on the built service.

mod audit;
mod callers;
mod changes;
mod jwt;
mod limits;

use crate::harness::{Client, Service, StackBuilder, TestStack, eventually};
use sha2::{Digest, Sha256};
use std::{fs, path::PathBuf};

/// Tokens as `registrar token new` makes them.
const REGISTER_TOKEN: &str = "rgs_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const READ_TOKEN: &str = "rgs_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB";
const ADMIN_TOKEN: &str = "rgs_CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC";

fn hash(token: &str) -> String {
    format!("sha256:{}", alloy::primitives::hex::encode(Sha256::digest(token)))
}

/// An entry of the callers file; `more` are further lines.
pub fn caller(name: &str, token: &str, scopes: &str, more: &str) -> String {
    format!("[[callers]]\nname = \"{name}\"\ntokens = [\"{}\"]\nscopes = [{scopes}]\n{more}\n", hash(token))
}

/// One that registers, one that reads, and an operator.
fn three_callers() -> String {
    [
        caller("registers", REGISTER_TOKEN, r#""register""#, ""),
        caller("reads", READ_TOKEN, r#""read", "verify""#, ""),
        caller("operates", ADMIN_TOKEN, r#""admin""#, ""),
    ]
    .concat()
}

/// A service with a callers file.
struct Guarded {
    stack: TestStack,
    file: PathBuf,
    folder: tempfile::TempDir,
}

impl Guarded {
    async fn start(mode: &str, callers: &str) -> Self {
        Self::start_with(StackBuilder::on_demand(), mode, callers).await
    }

    async fn start_with(builder: StackBuilder, mode: &str, callers: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("callers.toml");
        fs::write(&file, callers).unwrap();
        let builder = builder.set("REGISTRAR_AUTH", mode).set("REGISTRAR_CALLERS_FILE", file.display());
        Self { stack: builder.start().await, file, folder }
    }

    fn client(&self, token: &str) -> Client {
        self.stack.client.with_token(token)
    }

    /// Replaces the file as editors and Kubernetes do, and waits until it is read.
    async fn replace_callers(&self, callers: &str) {
        let reloads = async || reloads(&self.stack.service).await;
        let before = reloads().await;
        let new = self.folder.path().join("new.toml");
        fs::write(&new, callers).unwrap();
        fs::rename(new, &self.file).unwrap();
        eventually("the new callers", async || (reloads().await > before).then_some(())).await;
    }
}

async fn reloads(service: &Service) -> f64 {
    let metrics = service.metrics().await;
    let of = |outcome| {
        let labels = [("what", "callers"), ("outcome", outcome)];
        metrics.value("registrar_credentials_reload_total", &labels)
    };
    of("ok") + of("failed")
}
