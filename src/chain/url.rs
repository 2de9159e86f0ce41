//! Endpoint URLs. They often contain an API key, so only the host is ever shown.

use std::{fmt, net::IpAddr};
use url::{Host, Url};

/// Shorter parts of a URL, such as `v2`, are not keys and occur in ordinary text.
const MIN_SECRET_LEN: usize = 6;

/// The URL of a JSON-RPC endpoint; shown by its host only.
#[derive(Clone, PartialEq, Eq)]
pub struct EndpointUrl {
    url: Url,
    name: String,
}

/// Never contains the text, which may hold a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpointUrl {
    /// Cannot be parsed.
    #[error("is not a URL, such as https://sepolia.base.org")]
    NotAUrl,
    /// Neither http nor https.
    #[error("has a scheme other than http or https")]
    Scheme,
    /// No host.
    #[error("has no host")]
    Host,
}

impl EndpointUrl {
    /// Accepts http and https.
    ///
    /// # Errors
    /// When the text is not such a URL, or has no host.
    pub fn parse(text: &str) -> Result<Self, InvalidEndpointUrl> {
        let url = Url::parse(text).map_err(|_| InvalidEndpointUrl::NotAUrl)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(InvalidEndpointUrl::Scheme);
        }
        let name = url.host_str().filter(|host| !host.is_empty()).ok_or(InvalidEndpointUrl::Host)?.to_owned();
        Ok(Self { url, name })
    }

    /// The host, numbered where hosts repeat. Identifies the endpoint in logs, spans, metrics and errors.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn is_loopback(&self) -> bool {
        match self.url.host() {
            Some(Host::Domain(domain)) => domain == "localhost",
            Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
            Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
            None => false,
        }
    }

    /// Every part of path, query and user info that a node might repeat in a message, and the user info as it is sent.
    /// Ordinary words are among them.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let path = self.url.path_segments().into_iter().flatten().map(str::to_owned);
        let query = self.url.query_pairs().flat_map(|(name, value)| [name.into_owned(), value.into_owned()]);
        let (user, password) = (self.url.username(), self.url.password().unwrap_or_default());
        let both = if password.is_empty() { String::new() } else { format!("{user}:{password}") };
        let user = [user.to_owned(), password.to_owned(), both];
        path.chain(query).chain(user).filter(|piece| piece.len() >= MIN_SECRET_LEN).collect()
    }

    /// Equal for two spellings of one URL.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.normalized() == other.normalized()
    }

    fn normalized(&self) -> (String, String, Option<u16>, String, Option<&str>, &str, Option<&str>) {
        let host = if self.is_loopback() { "localhost" } else { self.url.host_str().unwrap_or_default() };
        (
            self.url.scheme().to_owned(),
            host.trim_end_matches('.').to_owned(),
            self.url.port_or_known_default(),
            self.url.path().trim_end_matches('/').to_owned(),
            self.url.query().filter(|query| !query.is_empty()),
            self.url.username(),
            self.url.password(),
        )
    }

    pub(super) fn expose_url(&self) -> &Url {
        &self.url
    }
}

impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Numbers endpoints that share a host, in order: `host#1`, `host#2`.
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
    fn an_endpoint_is_named_by_host_and_number_without_its_key() {
        let mut endpoints: Vec<_> =
            ["https://base.example/v2/k3y", "https://u:k3y@base.example/", "http://127.0.0.1:8545?key=k3y"]
                .map(|url| EndpointUrl::parse(url).unwrap())
                .into();
        disambiguate_hosts(&mut endpoints);
        assert_eq!(format!("{endpoints:?}"), "[base.example#1, base.example#2, 127.0.0.1]");
    }

    #[test]
    fn every_part_that_may_be_a_key_is_a_secret() {
        let url = EndpointUrl::parse("https://someone:pass-word@base.example/v2/secretkey?apikey=another-key").unwrap();
        assert_eq!(url.secrets(), ["secretkey", "apikey", "another-key", "someone", "pass-word", "someone:pass-word"]);
    }

    #[test]
    fn two_spellings_of_a_url_are_the_same() {
        let url = |text| EndpointUrl::parse(text).unwrap();
        for (a, b, expected) in [
            ("https://base.example/v2/k3y", "https://base.example/v2/k3y", true),
            ("https://base.example/v2/k3y", "HTTPS://Base.Example.:443/v2/k3y/?#top", true),
            ("http://127.0.0.1:8545", "http://localhost:8545/", true),
            ("http://127.0.0.1:8545", "http://[::1]:8545", true),
            ("http://127.0.0.1:8545", "http://127.0.0.1:8546", false),
            ("https://base.example/v2/k3y", "http://base.example/v2/k3y", false),
            ("https://base.example/v2/k3y", "https://base.example/v2/K3y", false),
            ("https://base.example/?key=1", "https://base.example/?key=2", false),
            ("https://a:1@base.example", "https://b:1@base.example", false),
        ] {
            assert_eq!(url(a).is_same(&url(b)), expected, "{a} {b}");
        }
    }

    #[test]
    fn only_http_urls_with_a_host_are_accepted() {
        use InvalidEndpointUrl::*;
        for (text, fault) in [("", NotAUrl), ("base", NotAUrl), ("ws://base.example", Scheme), ("http://", NotAUrl)] {
            assert_eq!(EndpointUrl::parse(text), Err(fault), "{text}");
        }
    }
}
