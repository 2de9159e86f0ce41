//! The settings of telemetry.

use super::{
    log_settings::{LogFilter, LogFormat},
    propagation::TraceHosts,
    redact::Secrets,
    user_id::Salt,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use sentry::types::Dsn;
use std::{fmt, str::FromStr, time::Duration};
use url::{Host, Url};

/// The settings of logs, spans and reports.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether spans and reports are made. Logs and metrics always are.
    pub(crate) enabled: bool,
    pub(crate) log_format: LogFormat,
    pub(crate) log_filter: LogFilter,
    /// `service` in JSON log lines, `service.name` of spans.
    pub(crate) service_name: String,
    /// `service.version` of spans and the release in Sentry.
    pub(crate) service_version: String,
    /// `environment` in JSON log lines, events and spans.
    pub(crate) environment: String,
    /// The share of traces that is exported without a particular reason.
    pub(crate) sample_rate: Rate,
    pub(crate) sentry: Option<SentrySettings>,
    pub(crate) otlp: Option<OtlpSettings>,
    pub(crate) limits: SpanLimits,
    /// Hosts that get trace headers with our requests.
    pub(crate) trace_hosts: TraceHosts,
    /// Removed from everything that is logged or exported.
    pub(crate) secrets: Secrets,
    /// If set, user ids are exported as keyed hashes.
    pub(crate) user_id_salt: Option<Salt>,
}

#[derive(Clone, Debug)]
pub(crate) struct SentrySettings {
    pub(crate) dsn: SentryDsn,
    pub(crate) error_sample_rate: Rate,
    /// Logs what is sent. The SDK's own debug output is not used: it waits for standard error, and is not redacted.
    pub(crate) debug: bool,
}

/// Headers and compression are read from the standard variables by the exporter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct OtlpSettings {
    pub(crate) endpoint: OtlpEndpoint,
    pub(crate) tls: OtlpTls,
    pub(crate) timeout: Duration,
    /// In spans.
    pub(crate) max_queue_size: usize,
}

/// As PEM.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct OtlpTls {
    /// Trusted instead of the usual root certificates.
    pub(crate) authority: Option<Vec<u8>>,
    pub(crate) client: Option<ClientCertificate>,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ClientCertificate {
    pub(crate) certificate: Vec<u8>,
    /// Secret.
    pub(crate) key: Vec<u8>,
}

impl fmt::Debug for OtlpTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OtlpTls(authority: {}, client: {})", self.authority.is_some(), self.client.is_some())
    }
}

/// Whether the PEM has a certificate.
pub(crate) fn is_certificate(pem: &[u8]) -> bool {
    let mut certificates = CertificateDer::pem_slice_iter(pem).peekable();
    certificates.peek().is_some() && certificates.all(|certificate| certificate.is_ok())
}

pub(crate) fn is_private_key(pem: &[u8]) -> bool {
    PrivateKeyDer::from_pem_slice(pem).is_ok()
}

/// Loopback is never behind a proxy, whatever HTTPS_PROXY and the like say.
pub(crate) fn is_loopback(host: &str) -> bool {
    match Host::parse(host) {
        Ok(Host::Domain(domain)) => domain == "localhost" || domain.ends_with(".localhost"),
        Ok(Host::Ipv4(address)) => address.is_loopback(),
        Ok(Host::Ipv6(address)) => address.is_loopback(),
        Err(_) => false,
    }
}

/// Limits per span (<https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/#span-limits>).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SpanLimits {
    pub(crate) attributes: u32,
    pub(crate) events: u32,
    pub(crate) links: u32,
}

impl Default for SpanLimits {
    fn default() -> Self {
        Self { attributes: 128, events: 128, links: 128 }
    }
}

#[cfg(test)]
impl Settings {
    /// Logs without spans and reports.
    pub(super) fn for_tests() -> Self {
        Self {
            enabled: false,
            log_format: LogFormat::Text,
            log_filter: LogFilter::default(),
            service_name: "registrar".to_owned(),
            service_version: "test".to_owned(),
            environment: "test".to_owned(),
            sample_rate: Rate::ALL,
            sentry: None,
            otlp: None,
            limits: SpanLimits::default(),
            trace_hosts: TraceHosts::default(),
            secrets: Secrets::default(),
            user_id_salt: None,
        }
    }
}

/// A share from 0 to 1.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Rate(f64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a number from 0 to 1, such as 0.01")]
pub(crate) struct InvalidRate;

impl Rate {
    pub(crate) const ALL: Self = Self(1.0);
    pub(crate) const ONE_PERCENT: Self = Self(0.01);

    pub(crate) fn get(self) -> f64 {
        self.0
    }

    pub(super) fn scaled_by(self, factor: f64) -> Self {
        Self((self.0 * factor).clamp(0.0, 1.0))
    }
}

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rate = text.parse::<f64>().ok().filter(|rate| (0.0..=1.0).contains(rate));
        rate.map(Self).ok_or(InvalidRate)
    }
}

/// Holds the project's key.
#[derive(Clone)]
pub(crate) struct SentryDsn(Dsn);

/// Never holds the text, which may be a DSN with a typing mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidDsn {
    #[error("is not a Sentry DSN such as https://<key>@<host>/<project id>; leave it empty to disable Sentry")]
    Form,
    /// Sentry drops events for a project id that is not a number.
    #[error("is not a valid Sentry DSN: the project id, its last part, is not a number")]
    ProjectId,
}

impl SentryDsn {
    pub(super) fn get(&self) -> &Dsn {
        &self.0
    }

    /// The number after `o` at the beginning of the host, as Sentry's SDKs for other languages read it. `Dsn::org_id`
    /// knows only hosts of sentry.io.
    pub(super) fn org_id(&self) -> Option<String> {
        let digits = self.0.host().split('.').next()?.strip_prefix('o')?;
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.to_owned())
    }
}

impl fmt::Debug for SentryDsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SentryDsn({})", self.0.host())
    }
}

impl FromStr for SentryDsn {
    type Err = InvalidDsn;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let dsn: Dsn = text.parse().map_err(|_| InvalidDsn::Form)?;
        if dsn.public_key().is_empty() {
            return Err(InvalidDsn::Form);
        }
        let digits = dsn.project_id().value();
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidDsn::ProjectId);
        }
        Ok(Self(dsn))
    }
}

/// <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OtlpProtocol {
    Grpc,
    HttpProtobuf,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct OtlpEndpoint {
    protocol: OtlpProtocol,
    url: Url,
}

/// Settings that the exporter would accept without sending anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidOtlp {
    #[error("is not a supported OTLP protocol: use grpc or http/protobuf")]
    Protocol,
    #[error("is not an OTLP endpoint: use a URL with http:// or https://, such as http://localhost:4317")]
    Endpoint,
}

impl FromStr for OtlpProtocol {
    type Err = InvalidOtlp;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "grpc" => Ok(Self::Grpc),
            "http/protobuf" => Ok(Self::HttpProtobuf),
            _ => Err(InvalidOtlp::Protocol),
        }
    }
}

impl OtlpEndpoint {
    /// Where collectors accept gRPC.
    const GRPC_PORT: u16 = 4317;
    /// Appended, for HTTP, to an endpoint for all signals.
    const HTTP_PATH: &str = "v1/traces";

    /// An endpoint for traces alone is used unchanged; one for all signals gets the path of traces for HTTP. Without a
    /// protocol, port 4317 means gRPC and any other HTTP.
    pub(crate) fn parse(text: &str, for_traces: bool, protocol: Option<OtlpProtocol>) -> Result<Self, InvalidOtlp> {
        let mut url = Url::parse(text).map_err(|_| InvalidOtlp::Endpoint)?;
        // The exporter accepts `grpc://`, and URLs without a scheme, and sends nothing.
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(InvalidOtlp::Endpoint);
        }
        let by_port = if url.port() == Some(Self::GRPC_PORT) { OtlpProtocol::Grpc } else { OtlpProtocol::HttpProtobuf };
        let protocol = protocol.unwrap_or(by_port);
        if protocol == OtlpProtocol::HttpProtobuf && !for_traces {
            let path = format!("{}/{}", url.path().trim_end_matches('/'), Self::HTTP_PATH);
            url.set_path(&path);
        }
        Ok(Self { protocol, url })
    }

    pub(crate) fn protocol(&self) -> OtlpProtocol {
        self.protocol
    }

    pub(crate) fn as_str(&self) -> &str {
        self.url.as_str()
    }

    pub(crate) fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    pub(crate) fn is_loopback(&self) -> bool {
        self.url.host_str().is_some_and(is_loopback)
    }
}

impl fmt::Debug for OtlpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OtlpEndpoint({}, {:?})", self.url.host_str().unwrap_or_default(), self.protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dsn_is_validated_like_sentry_does_and_never_repeated() {
        const KEY: &str = "e5f1c3a0b2d44f6e8a9b0c1d2e3f4a5b";
        for (text, expected) in [
            (format!("https://{KEY}@o1.ingest.sentry.io/42"), Ok(())),
            ("http://x@localhost:8969/1".to_owned(), Ok(())),
            (format!("https://{KEY}@o1.ingest.sentry.io/shop"), Err(InvalidDsn::ProjectId)),
            (format!("https://{KEY}@o1.ingest.sentry.io/"), Err(InvalidDsn::Form)),
            ("https://o1.ingest.sentry.io/42".to_owned(), Err(InvalidDsn::Form)),
            (format!("{KEY}@o1.ingest.sentry.io/42"), Err(InvalidDsn::Form)),
            ("none".to_owned(), Err(InvalidDsn::Form)),
        ] {
            let parsed = text.parse::<SentryDsn>();
            assert!(!format!("{parsed:?}").contains(KEY), "{parsed:?}");
            assert_eq!(parsed.map(drop), expected, "{text}");
        }
    }

    #[test]
    fn the_organization_is_read_from_the_host() {
        for (host, expected) in [
            ("o123.ingest.sentry.io", Some("123")),
            ("o1.ingest.us.sentry.io", Some("1")),
            ("o42.sentry.example", Some("42")),
            ("sentry.example", None),
            ("o.sentry.example", None),
            ("oabc.sentry.example", None),
            ("o1x.sentry.example", None),
            ("127.0.0.1:9000", None),
        ] {
            let dsn: SentryDsn = format!("https://key@{host}/42").parse().unwrap();
            assert_eq!(dsn.org_id().as_deref(), expected, "{host}");
        }
    }

    #[test]
    fn a_rate_is_a_number_from_0_to_1() {
        for (text, expected) in [("0", Some(0.0)), ("1", Some(1.0)), ("0.01", Some(0.01)), ("1.0", Some(1.0))] {
            assert_eq!(text.parse::<Rate>().ok().map(Rate::get), expected);
        }
        for text in ["", "-0.1", "1.1", "NaN", "inf", "10%", "all"] {
            assert_eq!(text.parse::<Rate>(), Err(InvalidRate), "{text}");
        }
    }

    #[test]
    fn an_endpoint_that_the_exporter_would_ignore_is_rejected() {
        for text in ["grpc://localhost:4317", "localhost:4317", "", "http://"] {
            assert_eq!(OtlpEndpoint::parse(text, false, None), Err(InvalidOtlp::Endpoint), "{text}");
        }
    }

    #[test]
    fn an_endpoint_is_parsed_by_the_specification() {
        use OtlpProtocol::{Grpc, HttpProtobuf};
        for (text, for_traces, given, protocol, url) in [
            ("http://localhost:4317", false, None, Grpc, "http://localhost:4317/"),
            ("http://localhost:4318", false, None, HttpProtobuf, "http://localhost:4318/v1/traces"),
            ("https://otlp.example/base/", false, None, HttpProtobuf, "https://otlp.example/base/v1/traces"),
            ("https://otlp.example/mine", true, None, HttpProtobuf, "https://otlp.example/mine"),
            ("https://otlp.example", false, Some(Grpc), Grpc, "https://otlp.example/"),
            ("http://localhost:4317", false, Some(HttpProtobuf), HttpProtobuf, "http://localhost:4317/v1/traces"),
        ] {
            let endpoint = OtlpEndpoint::parse(text, for_traces, given).unwrap();
            assert_eq!((endpoint.protocol(), endpoint.as_str()), (protocol, url), "{text}");
        }
    }
}
