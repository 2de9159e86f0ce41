//! Whether a proxy of the environment applies to the collector. The export over gRPC uses none, and would fail behind one
//! without a word.

use super::Environment;
use crate::telemetry::{OtlpEndpoint, OtlpProtocol};
use hyper_util::client::proxy::matcher::Matcher;

/// In the order of curl, and of the export over HTTP.
const HTTP_PROXY: [&str; 4] = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
const HTTPS_PROXY: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// The variable with a proxy that cannot be used.
pub(super) fn unusable_proxy(environment: &Environment, endpoint: &OtlpEndpoint) -> Option<&'static str> {
    if endpoint.protocol() != OtlpProtocol::Grpc || endpoint.is_loopback() {
        return None;
    }
    let names = if endpoint.is_https() { &HTTPS_PROXY } else { &HTTP_PROXY };
    let (name, proxy) = environment.first_set(names)?;
    let excluded = environment.first_set(&NO_PROXY).map(|(_, hosts)| hosts.to_owned()).unwrap_or_default();
    let rules = Matcher::builder().all(proxy.to_owned()).no(excluded).build();
    rules.intercept(&endpoint.as_str().parse().ok()?).map(|_| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_unusable_only_for_grpc_and_for_hosts_that_no_proxy_does_not_name() {
        let proxy = "http://user:s3cr3t@proxy.example:3128";
        for (endpoint, protocol, variables, expected) in [
            ("https://otel.example:4317", OtlpProtocol::Grpc, vec![("HTTPS_PROXY", proxy)], Some("HTTPS_PROXY")),
            ("https://otel.example:4317", OtlpProtocol::Grpc, vec![("https_proxy", proxy)], Some("https_proxy")),
            ("https://otel.example:4317", OtlpProtocol::Grpc, vec![("ALL_PROXY", proxy)], Some("ALL_PROXY")),
            ("https://otel.example:4317", OtlpProtocol::Grpc, vec![("HTTP_PROXY", proxy)], None),
            ("http://otel.example:4317", OtlpProtocol::Grpc, vec![("HTTP_PROXY", proxy)], Some("HTTP_PROXY")),
            ("http://otel.example:4317", OtlpProtocol::Grpc, vec![("HTTPS_PROXY", proxy)], None),
            ("https://otel.example:4318", OtlpProtocol::HttpProtobuf, vec![("HTTPS_PROXY", proxy)], None),
            ("https://localhost:4317", OtlpProtocol::Grpc, vec![("HTTPS_PROXY", proxy)], None),
            (
                "https://otel.example:4317",
                OtlpProtocol::Grpc,
                vec![("HTTPS_PROXY", proxy), ("NO_PROXY", "10.0.0.0/8, .example")],
                None,
            ),
            (
                "https://10.1.2.3:4317",
                OtlpProtocol::Grpc,
                vec![("HTTPS_PROXY", proxy), ("no_proxy", "10.0.0.0/8")],
                None,
            ),
            (
                "https://otel.example:4317",
                OtlpProtocol::Grpc,
                vec![("HTTPS_PROXY", proxy), ("NO_PROXY", "other.example")],
                Some("HTTPS_PROXY"),
            ),
        ] {
            let endpoint_url = OtlpEndpoint::parse(endpoint, false, Some(protocol)).unwrap();
            let owned = variables.iter().map(|(name, value)| (*name, (*value).to_owned()));
            let environment = Environment::default().with(owned);
            assert_eq!(unusable_proxy(&environment, &endpoint_url), expected, "{endpoint} {variables:?}");
        }
    }
}
