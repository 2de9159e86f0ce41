//! The hosts that get trace headers.

use std::str::FromStr;
use url::Host;

/// Empty by default, because an RPC provider is a third party that has no use for them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct TraceHosts(Vec<TraceHost>);

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum TraceHost {
    Exact(String),
    /// With a leading dot. Does not match the domain itself.
    Subdomains(String),
}

/// Never holds the text, which may be an endpoint's URL with its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not a host name: use one such as rpc.example.com, or .example.com for its subdomains, without scheme and port"
)]
pub(crate) struct InvalidTraceHost;

impl TraceHosts {
    /// `host` is written as in a URL, with an IPv6 address in brackets.
    pub(super) fn allows(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        self.0.iter().any(|entry| match entry {
            TraceHost::Exact(name) => *name == host,
            TraceHost::Subdomains(domain) => host.len() > domain.len() && host.ends_with(domain.as_str()),
        })
    }
}

impl FromIterator<TraceHost> for TraceHosts {
    fn from_iter<T: IntoIterator<Item = TraceHost>>(entries: T) -> Self {
        Self(entries.into_iter().collect())
    }
}

impl FromStr for TraceHost {
    type Err = InvalidTraceHost;

    /// Parsed like the host of a URL, with which it is compared: in lower case and IDNA encoded.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, is_domain_suffix) = match text.strip_prefix('.') {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        match (Host::parse(name.trim_end_matches('.')), is_domain_suffix) {
            (Ok(Host::Domain(domain)), _) if !is_domain(&domain) => Err(InvalidTraceHost),
            (Ok(Host::Domain(domain)), true) => Ok(Self::Subdomains(format!(".{domain}"))),
            (Ok(host), false) => Ok(Self::Exact(host.to_string())),
            (Ok(Host::Ipv4(_) | Host::Ipv6(_)), true) | (Err(_), _) => Err(InvalidTraceHost),
        }
    }
}

/// URLs allow almost any character in a host; a `*` would look like a wildcard.
fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(list: &[&str]) -> TraceHosts {
        list.iter().map(|entry| entry.parse::<TraceHost>().unwrap()).collect()
    }

    #[test]
    fn an_entry_is_a_host_or_the_subdomains_of_a_domain() {
        let hosts =
            hosts(&["rpc.example.com", ".internal.example", "10.0.0.7", "[::1]", "localhost", "BÜCHER.example."]);
        for (host, allowed) in [
            ("rpc.example.com", true),
            ("RPC.example.com", true),
            ("rpc.example.com.", true),
            ("a.rpc.example.com", false),
            ("example.com", false),
            ("rpc.example.com.evil.example", false),
            ("node.internal.example", true),
            ("a.b.internal.example", true),
            ("internal.example", false),
            ("notinternal.example", false),
            (".internal.example", false),
            ("10.0.0.7", true),
            ("110.0.0.7", false),
            ("[::1]", true),
            ("localhost", true),
            ("xn--bcher-kva.example", true),
            ("", false),
        ] {
            assert_eq!(hosts.allows(host), allowed, "{host}");
        }
        assert!(!TraceHosts::default().allows("localhost"), "no host by default");
    }

    #[test]
    fn other_texts_are_rejected() {
        for text in [
            "",
            ".",
            "..example",
            "*",
            "*.example.com",
            "https://rpc.example.com",
            "rpc.example.com:8545",
            "rpc.example.com/v2/key",
            "user@rpc.example.com",
            "rpc example",
            "a..b",
            "::1",
            ".10.0.0.7",
            ".[::1]",
        ] {
            assert_eq!(text.parse::<TraceHost>(), Err(InvalidTraceHost), "{text}");
        }
    }
}
