//! To whom trace headers go.

use std::str::FromStr;
use url::Host;

/// The hosts that get trace headers with our requests. An RPC provider is a stranger that has no use for them, so nobody is
/// among them but whom the settings name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TraceHosts(Vec<TraceHost>);

/// One entry: a host, or all hosts below a domain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TraceHost {
    /// This host alone.
    Exact(String),
    /// With its leading dot: every host below this domain, and not the domain itself.
    Subdomains(String),
}

/// Not an entry. Never holds the text: somebody may have pasted an endpoint's URL with its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no host name: give one such as rpc.example.com, or .example.com for all below it, without scheme and port")]
pub struct InvalidTraceHost;

impl TraceHosts {
    /// Whether this host is among them. It is written as a URL's host is: an IPv6 address in brackets.
    pub fn allows(&self, host: &str) -> bool {
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

    /// Names are compared as URLs write them, so they are read as URLs read them: in lower case, IDNA encoded.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, below) = match text.strip_prefix('.') {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        match (Host::parse(name.trim_end_matches('.')), below) {
            (Ok(Host::Domain(domain)), _) if !is_domain(&domain) => Err(InvalidTraceHost),
            (Ok(Host::Domain(domain)), true) => Ok(Self::Subdomains(format!(".{domain}"))),
            (Ok(host), false) => Ok(Self::Exact(host.to_string())),
            (Ok(Host::Ipv4(_) | Host::Ipv6(_)), true) | (Err(_), _) => Err(InvalidTraceHost),
        }
    }
}

/// URLs allow nearly anything in a host; a `*` would look as if it meant something.
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
    fn an_entry_is_a_host_or_what_is_below_a_domain() {
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
        assert!(!TraceHosts::default().allows("localhost"), "nobody by default");
    }

    #[test]
    fn what_is_no_host_is_refused() {
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
