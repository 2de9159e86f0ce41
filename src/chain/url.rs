//! Where an endpoint is. The URL often holds an API key, so only the host ever leaves this file in words.

use std::{fmt, net::IpAddr};
use url::{Host, Url};

/// Shorter pieces of a URL, such as `v2`, are no keys, and stand in many a sentence.
const MIN_SECRET_LEN: usize = 6;

/// The URL of a JSON-RPC endpoint, known to everybody else by its host.
#[derive(Clone, PartialEq, Eq)]
pub struct EndpointUrl {
    url: Url,
    name: String,
}

/// A text that is no endpoint URL. Never repeats it, for it may hold a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpointUrl {
    /// Not a URL at all.
    #[error("is no URL: give one such as https://sepolia.base.org")]
    NotAUrl,
    /// Neither http nor https.
    #[error("has another scheme than http or https")]
    Scheme,
    /// No host.
    #[error("has no host")]
    Host,
}

impl EndpointUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// When it is no http(s) URL with a host.
    pub fn parse(text: &str) -> Result<Self, InvalidEndpointUrl> {
        let url = Url::parse(text).map_err(|_| InvalidEndpointUrl::NotAUrl)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(InvalidEndpointUrl::Scheme);
        }
        let name = url.host_str().filter(|host| !host.is_empty()).ok_or(InvalidEndpointUrl::Host)?.to_owned();
        Ok(Self { url, name })
    }

    /// The host, with a number where hosts repeat. This is what logs, spans, metrics and errors call the endpoint.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the endpoint is on this machine.
    pub fn is_loopback(&self) -> bool {
        match self.url.host() {
            Some(Host::Domain(domain)) => domain == "localhost",
            Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
            Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
            None => false,
        }
    }

    /// What a node might repeat of the URL, and nobody else may read: its path, query and user, piece by piece, and user and
    /// password as they are sent. Plain words are among them.
    pub fn secrets(&self) -> Vec<String> {
        let path = self.url.path_segments().into_iter().flatten().map(str::to_owned);
        let query = self.url.query_pairs().flat_map(|(name, value)| [name.into_owned(), value.into_owned()]);
        let (user, password) = (self.url.username(), self.url.password().unwrap_or_default());
        let both = if password.is_empty() { String::new() } else { format!("{user}:{password}") };
        let user = [user.to_owned(), password.to_owned(), both];
        path.chain(query).chain(user).filter(|piece| piece.len() >= MIN_SECRET_LEN).collect()
    }

    /// The URL itself, for the client that connects to it.
    pub(super) fn expose_url(&self) -> &Url {
        &self.url
    }
}

impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Gives endpoints that share a host a number, in order: `host#1`, `host#2`.
pub fn disambiguate_hosts(endpoints: &mut [EndpointUrl]) {
    let hosts: Vec<String> = endpoints.iter().map(|endpoint| endpoint.name.clone()).collect();
    for (position, endpoint) in endpoints.iter_mut().enumerate() {
        if hosts.iter().filter(|host| **host == hosts[position]).count() > 1 {
            let number = hosts[..=position].iter().filter(|host| **host == hosts[position]).count();
            endpoint.name = format!("{}#{number}", hosts[position]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_known_by_its_host_and_number_and_never_by_its_key() {
        let mut endpoints: Vec<_> =
            ["https://base.example/v2/k3y", "https://u:k3y@base.example/", "http://127.0.0.1:8545?key=k3y"]
                .map(|url| EndpointUrl::parse(url).unwrap())
                .into();
        disambiguate_hosts(&mut endpoints);
        assert_eq!(format!("{endpoints:?}"), "[base.example#1, base.example#2, 127.0.0.1]");
    }

    #[test]
    fn whatever_may_be_a_key_is_known_as_one() {
        let url = EndpointUrl::parse("https://someone:pass-word@base.example/v2/secretkey?apikey=another-key").unwrap();
        assert_eq!(url.secrets(), ["secretkey", "apikey", "another-key", "someone", "pass-word", "someone:pass-word"]);
    }

    #[test]
    fn what_is_no_http_url_is_refused() {
        use InvalidEndpointUrl::*;
        for (text, fault) in [("", NotAUrl), ("base", NotAUrl), ("ws://base.example", Scheme), ("http://", NotAUrl)] {
            assert_eq!(EndpointUrl::parse(text), Err(fault), "{text}");
        }
    }
}
