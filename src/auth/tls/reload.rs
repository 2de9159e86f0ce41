//! New certificates, keys and authorities are used without a restart.

use super::{
    files::{Contents, Identity, TlsFault},
    server::ServerTls,
};
use crate::{
    clock,
    registration::Timestamp,
    telemetry::{Credentials, ReloadOutcome, metrics},
};
use std::time::{Duration, UNIX_EPOCH};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// The files are small, and reading them shows every kind of change: in place, by rename, and by a symbolic link to
/// another directory, as Kubernetes does.
const READ_INTERVAL: Duration = Duration::from_secs(1);

impl ServerTls {
    /// Uses each change of the files once it has been the same for [`READ_INTERVAL`], since the files are not replaced
    /// in one step. Runs until `stop`.
    pub(crate) async fn run_reload(self, stop: CancellationToken) {
        report_validity(&self.parts().identity);
        let mut used = self.first.as_ref().clone();
        let mut seen = used.clone();
        let mut reads = interval(READ_INTERVAL);
        reads.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = reads.tick() => {}
            }
            let files = self.files.clone();
            let Ok(read) = tokio::task::spawn_blocking(move || files.read()).await else { continue };
            if read == seen && read != used {
                self.apply(&used, &read);
                used = read;
            } else {
                seen = read;
            }
        }
    }

    /// Contents that cannot be used are reported once: they are compared with those of before, whether used or not.
    fn apply(&self, before: &Contents, now: &Contents) {
        let mut parts = self.parts();
        let mut is_new = false;
        if !now.has_same_identity(before)
            && let Some(identity) = reported(Credentials::Certificate, now.identity())
        {
            report_validity(&identity);
            parts.identity = identity;
            is_new = true;
        }
        if !now.has_same_client_ca(before)
            && let Some(verifier) = reported(Credentials::ClientCa, now.verifier().map_err(|fault| vec![fault]))
        {
            parts.verifier = verifier;
            is_new = true;
        }
        if is_new {
            self.replace(parts);
        }
    }
}

/// `None` if it cannot be used.
fn reported<T>(what: Credentials, read: Result<T, Vec<TlsFault>>) -> Option<T> {
    match read {
        Ok(new) => {
            metrics().count_credentials_reload(what, ReloadOutcome::Ok);
            tracing::info!(what = what.code(), "TLS files reloaded");
            Some(new)
        }
        Err(faults) => {
            metrics().count_credentials_reload(what, ReloadOutcome::Failed);
            let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
            tracing::warn!(
                what = what.code(),
                error = faults.join("; "),
                "new TLS files cannot be used, those of before stay in use"
            );
            None
        }
    }
}

fn report_validity(identity: &Identity) {
    let (validity, now) = (identity.validity, clock::now());
    metrics().set_tls_certificate_expiry(validity.not_after);
    let not_after = rfc3339(validity.not_after);
    if validity.not_after < now {
        tracing::warn!(not_after, "the TLS certificate has expired; clients refuse it until it is replaced");
    } else if validity.not_before > now {
        let not_before = rfc3339(validity.not_before);
        tracing::warn!(not_before, "the TLS certificate is not valid yet; clients refuse it");
    } else {
        tracing::info!(not_after, "TLS certificate in use");
    }
}

fn rfc3339(time: Timestamp) -> String {
    let since_epoch = time.since(Timestamp::from_micros(0));
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since_epoch).to_string()
}
