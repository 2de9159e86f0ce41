//! Gets the issuer's keys, in bounded time and size.

use super::keys::Keys;
use crate::telemetry::is_loopback;
use reqwest::{Client, Response, redirect::Policy};
use serde::Deserialize;
use std::{error::Error, io::ErrorKind, path::PathBuf, time::Duration};
use tokio::time::timeout;
use url::Url;

/// Of everything that one fetch reads.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// A key set has some KiB.
const MAX_BYTES: usize = 1024 * 1024;
const MAX_REDIRECTS: usize = 3;

/// Where the keys are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum JwksSource {
    /// In the document that the issuer's discovery document names.
    Discovery(Url),
    Url(Url),
    File(PathBuf),
}

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("{host} did not answer within {} s", FETCH_TIMEOUT.as_secs())]
    TimedOut { host: String },
    #[error("{host} cannot be reached: {reason}")]
    Unreachable { host: String, reason: String },
    #[error("{host} answered with HTTP status {status}")]
    Status { host: String, status: u16 },
    #[error("{host} redirects to another host, which is not followed")]
    Redirect { host: String },
    #[error("the answer of {host} is longer than {MAX_BYTES} bytes")]
    TooLarge { host: String },
    #[error("what {from} has is not a discovery document of OpenID Connect")]
    NotDiscovery { from: String },
    #[error("the discovery document of {from} is of another issuer")]
    OtherIssuer { from: String },
    #[error("the keys of {from} are not at an https:// URL")]
    Insecure { from: String },
    #[error("what {from} has is not a JSON Web Key Set")]
    NotKeys { from: String },
    #[error("{from} has no key for RS256, ES256 or EdDSA")]
    NoKeys { from: String },
    #[error("the file with the keys cannot be read: {0}")]
    File(ErrorKind),
    #[error("TLS cannot be set up")]
    Setup,
}

impl FetchError {
    /// Whether it may resolve itself.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::TimedOut { .. } | Self::Unreachable { .. } => true,
            Self::Status { status, .. } => *status >= 500 || *status == 429,
            Self::Redirect { .. }
            | Self::TooLarge { .. }
            | Self::NotDiscovery { .. }
            | Self::OtherIssuer { .. }
            | Self::Insecure { .. }
            | Self::NotKeys { .. }
            | Self::NoKeys { .. }
            | Self::File(_)
            | Self::Setup => false,
        }
    }
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: Url,
}

/// The source, and the connections to it.
#[derive(Debug)]
pub(super) struct Fetcher {
    source: JwksSource,
    issuer: String,
    client: Client,
}

impl Fetcher {
    pub(super) fn new(source: JwksSource, issuer: String) -> Result<Self, FetchError> {
        let on_loopback = match &source {
            JwksSource::Discovery(url) | JwksSource::Url(url) => url.host_str().is_some_and(is_loopback),
            JwksSource::File(_) => false,
        };
        let same_host = Policy::custom(|attempt| {
            let last = attempt.previous().last();
            let is_same = last.is_some_and(|last| last.origin() == attempt.url().origin());
            if is_same && attempt.previous().len() <= MAX_REDIRECTS { attempt.follow() } else { attempt.stop() }
        });
        let client = Client::builder().redirect(same_host).referer(false).timeout(FETCH_TIMEOUT);
        let client = if on_loopback { client.no_proxy() } else { client };
        Ok(Self { source, issuer, client: client.build().map_err(|_| FetchError::Setup)? })
    }

    pub(super) async fn fetch(&self) -> Result<Keys, FetchError> {
        let host = match &self.source {
            JwksSource::Discovery(url) | JwksSource::Url(url) => host(url),
            JwksSource::File(_) => String::new(),
        };
        timeout(FETCH_TIMEOUT, self.fetch_unbounded()).await.unwrap_or(Err(FetchError::TimedOut { host }))
    }

    async fn fetch_unbounded(&self) -> Result<Keys, FetchError> {
        let (json, from) = match &self.source {
            JwksSource::File(path) => {
                let json = tokio::fs::read(path).await.map_err(|error| FetchError::File(error.kind()))?;
                (json, "the file".to_owned())
            }
            JwksSource::Url(url) => (self.get(url).await?, host(url)),
            JwksSource::Discovery(url) => {
                let from = host(url);
                let document = self.get(url).await?;
                let document: Discovery =
                    serde_json::from_slice(&document).map_err(|_| FetchError::NotDiscovery { from: from.clone() })?;
                if document.issuer != self.issuer {
                    return Err(FetchError::OtherIssuer { from });
                }
                if !is_allowed(&document.jwks_uri) {
                    return Err(FetchError::Insecure { from });
                }
                (self.get(&document.jwks_uri).await?, host(&document.jwks_uri))
            }
        };
        let keys = Keys::parse(&json).ok_or_else(|| FetchError::NotKeys { from: from.clone() })?;
        if keys.is_empty() { Err(FetchError::NoKeys { from }) } else { Ok(keys) }
    }

    async fn get(&self, url: &Url) -> Result<Vec<u8>, FetchError> {
        let host = host(url);
        let failed = |error: reqwest::Error| failure(&host, &error.without_url());
        let response = self.client.get(url.clone()).send().await.map_err(failed)?;
        let status = response.status();
        if status.is_redirection() {
            return Err(FetchError::Redirect { host });
        }
        if !status.is_success() {
            return Err(FetchError::Status { host, status: status.as_u16() });
        }
        read_body(response, &host).await
    }
}

/// Whether keys may come from there: on the way of anything else, they can be replaced.
pub(crate) fn is_allowed(url: &Url) -> bool {
    url.scheme() == "https" || url.scheme() == "http" && url.host_str().is_some_and(is_loopback)
}

async fn read_body(mut response: Response, host: &str) -> Result<Vec<u8>, FetchError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failure(host, &error.without_url()))? {
        if body.len() + chunk.len() > MAX_BYTES {
            return Err(FetchError::TooLarge { host: host.to_owned() });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn failure(host: &str, error: &reqwest::Error) -> FetchError {
    let host = host.to_owned();
    if error.is_timeout() {
        return FetchError::TimedOut { host };
    }
    let mut cause: &dyn Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    FetchError::Unreachable { host, reason: cause.to_string() }
}

fn host(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_owned()
}
