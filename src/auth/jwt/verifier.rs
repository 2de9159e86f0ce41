//! Checks tokens with the newest keys of their issuer.

use super::{
    fetch::{FetchError, Fetcher, JwksSource},
    keys::{Key, Keys},
    signature,
};
use crate::{
    registration::Timestamp,
    telemetry::{Credentials, OngoingCondition, ReloadOutcome, metrics},
};
use jsonwebtoken::{Algorithm, Validation, decode, decode_header, errors::ErrorKind};
use parking_lot::RwLock;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex, Notify},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Of the clocks of the issuer and of this machine.
const LEEWAY: Duration = Duration::from_secs(30);
const REFRESH_INTERVAL: Duration = Duration::from_secs(300);
/// Between two fetches for keys that are not known: anybody can make up their ids.
const UNKNOWN_KEY_INTERVAL: Duration = Duration::from_secs(30);
/// While the issuer is away.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);
/// How long keys are used that cannot be fetched again.
const MAX_KEY_AGE: Duration = Duration::from_secs(3600);
/// Tokens whose signature is not checked again, at about 300 bytes each.
const MAX_CACHED_TOKENS: usize = 10_000;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct JwtSettings {
    pub(crate) issuer: String,
    pub(crate) audience: String,
    pub(crate) source: JwksSource,
}

/// Who a token is of, by its issuer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct VerifiedJwt {
    pub(crate) issuer: Arc<str>,
    pub(crate) subject: Arc<str>,
    pub(crate) expires_at: Timestamp,
}

/// Why a token is refused. The detail is for the log; it has no part of the token.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum JwtError {
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYetValid,
    /// It may be newer than the keys.
    #[error("the token is signed by a key that its issuer does not have")]
    UnknownKey,
    #[error("{0}")]
    Invalid(&'static str),
}

/// Clones share keys and cache.
#[derive(Clone, Debug)]
pub(crate) struct JwtVerifier(Arc<Shared>);

struct Shared {
    issuer: Arc<str>,
    audience: String,
    fetcher: Fetcher,
    state: RwLock<State>,
    /// When a fetch for an unknown key began last; locked during the fetch.
    unknown_key_fetch: Mutex<Option<Instant>>,
    fetch_wanted: Notify,
    away: OngoingCondition,
}

struct State {
    keys: Keys,
    fetched_at: Instant,
    /// By the hash of the token; of tokens that these keys have verified.
    cache: HashMap<[u8; 32], Verified>,
}

#[derive(Clone)]
struct Verified {
    jwt: VerifiedJwt,
    not_before: Option<Timestamp>,
}

/// `iss` and `aud` are compared by the library.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    /// Seconds, perhaps with a fraction (RFC 7519, section 2).
    exp: f64,
    nbf: Option<f64>,
}

impl JwtVerifier {
    /// Fetches the keys.
    ///
    /// # Errors
    /// When there are none.
    pub(crate) async fn start(settings: JwtSettings) -> Result<Self, FetchError> {
        signature::install();
        let fetcher = Fetcher::new(settings.source, settings.issuer.clone())?;
        let state = State { keys: fetcher.fetch().await?, fetched_at: Instant::now(), cache: HashMap::new() };
        Ok(Self(Arc::new(Shared {
            issuer: settings.issuer.into(),
            audience: settings.audience,
            fetcher,
            state: RwLock::new(state),
            unknown_key_fetch: Mutex::new(None),
            fetch_wanted: Notify::new(),
            away: OngoingCondition::new(),
        })))
    }

    /// Whether a bearer token has the shape of a JWT.
    pub(crate) fn is_jwt(token: &str) -> bool {
        token.split('.').count() == 3
    }

    /// As [`Self::verify`]; for a token with an unknown key, the keys are fetched first, unless they were lately.
    ///
    /// # Errors
    /// When the token is not to be trusted.
    #[cfg(test)]
    pub(crate) async fn verify_or_fetch(&self, token: &str, now: Timestamp) -> Result<VerifiedJwt, JwtError> {
        match self.verify(token, now) {
            Err(JwtError::UnknownKey) => {
                self.fetch_for_unknown_key().await;
                self.verify(token, now)
            }
            result => result,
        }
    }

    /// With the keys that are known. If there is none for the token, [`Self::run`] fetches them.
    ///
    /// # Errors
    /// When the token is not to be trusted.
    pub(crate) fn verify(&self, token: &str, now: Timestamp) -> Result<VerifiedJwt, JwtError> {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let state = self.0.state.read();
        if state.fetched_at.elapsed() > MAX_KEY_AGE {
            return Err(JwtError::Invalid("the keys of the issuer could not be fetched for an hour"));
        }
        if let Some(verified) = state.cache.get(&hash) {
            return verified.at(now);
        }
        let verified = self.verify_with(&state.keys, token);
        let fetched_at = state.fetched_at;
        drop(state);
        let verified = verified.inspect_err(|error| {
            if *error == JwtError::UnknownKey {
                self.0.fetch_wanted.notify_one();
            }
        })?;
        let result = verified.at(now);
        if result.is_ok() {
            let mut state = self.0.state.write();
            // Not with the keys of before.
            if state.fetched_at == fetched_at {
                state.remember(hash, verified, now);
            }
        }
        result
    }

    fn verify_with(&self, keys: &Keys, token: &str) -> Result<Verified, JwtError> {
        let unreadable = |_| JwtError::Invalid("the header of the token cannot be read, or has an unknown algorithm");
        let header = decode_header(token).map_err(unreadable)?;
        if ![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA].contains(&header.alg) {
            return Err(invalid(&ErrorKind::InvalidAlgorithm));
        }
        let key = keys.find(header.kid.as_deref(), header.alg);
        let Key { algorithm, key, .. } = key.ok_or(JwtError::UnknownKey)?;
        let mut validation = Validation::new(*algorithm);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[&self.0.issuer]);
        validation.set_audience(&[&self.0.audience]);
        // By `Verified::at`, also for a token in the cache.
        validation.validate_exp = false;
        let claims = decode::<Claims>(token, key, &validation).map_err(|error| invalid(error.kind()))?.claims;
        if claims.sub.is_empty() {
            return Err(JwtError::Invalid("the token has an empty subject"));
        }
        let expires_at = timestamp(claims.exp);
        let jwt = VerifiedJwt { issuer: self.0.issuer.clone(), subject: claims.sub.into(), expires_at };
        Ok(Verified { jwt, not_before: claims.nbf.map(timestamp) })
    }

    /// Fetches the keys again, regularly and for tokens with unknown keys, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let fetch_repeatedly = async {
            loop {
                match timeout(REFRESH_INTERVAL, self.0.fetch_wanted.notified()).await {
                    Ok(()) => self.fetch_for_unknown_key().await,
                    Err(_) => self.fetch().await,
                }
                while self.0.away.elapsed().is_some() {
                    sleep(RETRY_INTERVAL).await;
                    self.fetch().await;
                }
            }
        };
        stop.run_until_cancelled(fetch_repeatedly).await;
    }

    /// Unless the keys were fetched for one lately.
    pub(crate) async fn fetch_for_unknown_key(&self) {
        let mut last = self.0.unknown_key_fetch.lock().await;
        if last.is_none_or(|last| last.elapsed() >= UNKNOWN_KEY_INTERVAL) {
            *last = Some(Instant::now());
            self.fetch().await;
        }
    }

    async fn fetch(&self) {
        match self.0.fetcher.fetch().await {
            Ok(keys) => {
                *self.0.state.write() = State { keys, fetched_at: Instant::now(), cache: HashMap::new() };
                metrics().count_credentials_reload(Credentials::Jwks, ReloadOutcome::Ok);
                if let Some(away) = self.0.away.clear() {
                    tracing::info!(seconds = away.as_secs(), "the issuer's keys can be fetched again");
                }
            }
            Err(error) => {
                metrics().count_credentials_reload(Credentials::Jwks, ReloadOutcome::Failed);
                if self.0.away.start() {
                    tracing::warn!(%error, "failed to fetch the issuer's keys; those of before are used for an hour");
                }
            }
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JwtVerifier").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl State {
    fn remember(&mut self, hash: [u8; 32], verified: Verified, now: Timestamp) {
        if self.cache.len() >= MAX_CACHED_TOKENS {
            self.cache.retain(|_, verified| verified.jwt.expires_at > now);
        }
        if self.cache.len() >= MAX_CACHED_TOKENS {
            self.cache.clear();
        }
        self.cache.insert(hash, verified);
    }
}

impl Verified {
    fn at(&self, now: Timestamp) -> Result<VerifiedJwt, JwtError> {
        if self.jwt.expires_at.plus(LEEWAY) <= now {
            Err(JwtError::Expired)
        } else if self.not_before.is_some_and(|not_before| not_before.minus(LEEWAY) > now) {
            Err(JwtError::NotYetValid)
        } else {
            Ok(self.jwt.clone())
        }
    }
}

/// What the library found, without what the token has.
#[allow(clippy::wildcard_enum_match_arm, reason = "the library may add errors")]
fn invalid(kind: &ErrorKind) -> JwtError {
    JwtError::Invalid(match kind {
        ErrorKind::InvalidSignature => "the signature of the token is wrong",
        ErrorKind::InvalidIssuer => "the token is of another issuer",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::Json(_) => {
            "the token lacks exp, iss, aud or sub, or has one in another form"
        }
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName | ErrorKind::UnsupportedAlgorithm => {
            "the token is signed by another algorithm than RS256, ES256 and EdDSA, or than its key is for"
        }
        _ => "the token cannot be read",
    })
}

/// Of seconds since the Unix epoch.
fn timestamp(seconds: f64) -> Timestamp {
    // Saturates.
    Timestamp::from_micros((seconds * 1e6) as i64)
}
