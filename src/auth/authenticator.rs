//! Identifies callers, and reads the callers file again when it changes.

use super::{
    Mode,
    callers_file::{Callers, read_text},
    credentials::{Credential, CredentialsError, Identity, bearer_token},
    jwt::{JwtVerifier, VerifiedJwt},
    tls::PeerCertificate,
    token::TokenHash,
};
use crate::{clock, registration::CallerName, telemetry::events};
use http::HeaderMap;
use parking_lot::RwLock;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

/// A change of the file takes effect within this and the time of one reading.
const RELOAD_INTERVAL: Duration = Duration::from_secs(2);

/// The callers, as the files say now. Clones share them.
#[derive(Clone, Debug)]
pub struct Authenticator {
    shared: Arc<Shared>,
    jwt: Option<JwtVerifier>,
}

#[derive(Debug)]
struct Shared {
    mode: Mode,
    file: Option<PathBuf>,
    callers: RwLock<Arc<Callers>>,
    /// Changes with the callers.
    version: watch::Sender<u64>,
}

impl Authenticator {
    /// Identifies no caller.
    pub(crate) fn off() -> Self {
        Self::from_parts(Mode::Off, None, Callers::default())
    }

    /// Takes the content of the file.
    pub(crate) fn new(mode: Mode, file: PathBuf, callers: Callers) -> Self {
        Self::from_parts(mode, Some(file), callers)
    }

    fn from_parts(mode: Mode, file: Option<PathBuf>, callers: Callers) -> Self {
        let shared = Shared { mode, file, callers: RwLock::new(Arc::new(callers)), version: watch::Sender::new(0) };
        Self { shared: Arc::new(shared), jwt: None }
    }

    /// Accepts the tokens of an issuer too.
    pub(super) fn with_jwt(self, jwt: Option<JwtVerifier>) -> Self {
        Self { jwt, ..self }
    }

    pub(crate) fn mode(&self) -> Mode {
        self.shared.mode
    }

    /// The caller of a call with these headers, on a connection with this client certificate. A token comes before a
    /// certificate.
    ///
    /// # Errors
    /// When there are no credentials, or they are not known.
    pub(crate) fn identify(
        &self,
        headers: &HeaderMap,
        certificate: Option<&PeerCertificate>,
    ) -> Result<Identity, CredentialsError> {
        let callers = self.shared.callers.read().clone();
        let Some(token) = bearer_token(headers)? else {
            return match certificate {
                Some(certificate) => by_certificate(&callers, certificate),
                None => Err(CredentialsError::Missing("neither a token nor a client certificate")),
            };
        };
        let hash = TokenHash::of(token);
        match (callers.by_token.get(&hash), &self.jwt) {
            (Some(caller), _) => Ok(Identity { caller: caller.clone(), credential: Credential::Token(hash) }),
            (None, Some(jwt)) if JwtVerifier::is_jwt(token) => by_jwt(&callers, jwt.verify(token, clock::now())?),
            (None, _) => Err(CredentialsError::Invalid("an unknown token")),
        }
    }

    /// Fetches the keys of the issuer, unless they were fetched lately. To be awaited when a key is not known.
    pub(crate) async fn fetch_keys(&self) {
        if let Some(jwt) = &self.jwt {
            jwt.fetch_for_unknown_key().await;
        }
    }

    /// The identity as it is now: the callers file may have changed.
    ///
    /// # Errors
    /// When the credentials have expired, or are not known any more.
    pub(crate) fn check_again(&self, identity: &Identity) -> Result<Identity, CredentialsError> {
        let callers = self.shared.callers.read().clone();
        if identity.expires_at().is_some_and(|end| end <= clock::now()) {
            return Err(CredentialsError::Expired("the credentials of the stream have expired"));
        }
        let caller = match &identity.credential {
            Credential::Token(hash) => callers.by_token.get(hash),
            Credential::Certificate { name, .. } => callers.by_certificate.get(name),
            Credential::Jwt { subject, .. } => callers.by_subject.get(subject),
        };
        let caller = caller.ok_or(CredentialsError::Invalid("the credentials of the stream are not known any more"))?;
        Ok(Identity { caller: caller.clone(), credential: identity.credential.clone() })
    }

    pub(crate) fn identifies_callers(&self) -> bool {
        self.shared.mode != Mode::Off
    }

    /// Of the callers file as it is now, in alphabetical order.
    pub(crate) fn caller_names(&self) -> Vec<CallerName> {
        self.shared.callers.read().names()
    }

    /// Changes with the callers file.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.shared.version.subscribe()
    }

    /// Reads the file again when it has changed, and on SIGHUP, until `stop`. With faults, the callers stay as they were.
    pub(super) async fn run_reload(self, stop: CancellationToken) {
        let keys = async {
            if let Some(jwt) = self.jwt.clone() {
                jwt.run(stop.clone()).await;
            }
        };
        tokio::join!(keys, self.run_file_reload(&stop));
    }

    async fn run_file_reload(&self, stop: &CancellationToken) {
        let Some(path) = self.shared.file.clone() else { return stop.cancelled().await };
        let mut hangup = signal(SignalKind::hangup()).ok();
        // Not what the file has now: it may have changed during the start.
        let mut last = Ok(self.shared.callers.read().text.clone());
        loop {
            let asked = async {
                match &mut hangup {
                    Some(hangup) => hangup.recv().await.is_some(),
                    None => std::future::pending().await,
                }
            };
            let is_asked = tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(RELOAD_INTERVAL) => false,
                is_asked = asked => is_asked,
            };
            let file = path.clone();
            let Ok(text) = tokio::task::spawn_blocking(move || read_text(&file)).await else { continue };
            if text == last && !is_asked {
                continue;
            }
            last = text.clone();
            let previous = self.shared.callers.read().clone();
            match text.and_then(|text| Callers::parse(&text, &previous)) {
                Ok(callers) => {
                    events::callers_reloaded(callers.count());
                    *self.shared.callers.write() = Arc::new(callers);
                    self.shared.version.send_modify(|version| *version += 1);
                }
                Err(error) => events::callers_reload_failed(&path, &error),
            }
        }
    }
}

fn by_certificate(callers: &Callers, certificate: &PeerCertificate) -> Result<Identity, CredentialsError> {
    let not_after = certificate.not_after;
    if not_after <= clock::now() {
        return Err(CredentialsError::Expired("the client certificate has expired"));
    }
    let known = certificate.names.iter().find_map(|name| Some((name, callers.by_certificate.get(name)?)));
    let (name, caller) = known.ok_or(CredentialsError::Invalid("no caller has a name of the client certificate"))?;
    Ok(Identity { caller: caller.clone(), credential: Credential::Certificate { name: name.clone(), not_after } })
}

fn by_jwt(callers: &Callers, jwt: VerifiedJwt) -> Result<Identity, CredentialsError> {
    let subject = format!("{}|{}", jwt.issuer, jwt.subject);
    let caller = callers.by_subject.get(&subject).cloned();
    let caller = caller.ok_or(CredentialsError::Invalid("no caller has the subject of the token"))?;
    Ok(Identity { caller, credential: Credential::Jwt { subject, expires_at: jwt.expires_at } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[tokio::test]
    async fn a_change_of_the_file_during_the_start_takes_effect() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("callers.toml");
        let callers = |name: &str| {
            let hash = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
            format!("[[callers]]\nname = \"{name}\"\ntokens = [\"{hash}\"]\nscopes = [\"read\"]\n")
        };
        fs::write(&file, callers("before")).unwrap();
        let read = Callers::read(&file).unwrap();
        fs::write(&file, callers("after")).unwrap();
        let authenticator = Authenticator::new(Mode::Enforce, file, read);
        let mut changes = authenticator.changes();
        let reloading = tokio::spawn(authenticator.clone().run_reload(CancellationToken::new()));

        tokio::time::timeout(Duration::from_secs(60), changes.changed()).await.unwrap().unwrap();

        let mut headers = HeaderMap::new();
        headers.insert("authorization", "Bearer test".parse().unwrap());
        assert_eq!(authenticator.identify(&headers, None).unwrap().caller.name.as_str(), "after");
        reloading.abort();
    }
}
