//! What telemetry is told: how much is kept, where it goes, as whom.

use super::{LogFilter, LogFormat, Secrets, propagation::TraceHosts, user_id::Salt};
use sentry::types::Dsn;
use std::{fmt, str::FromStr};
use url::Url;

/// Logs, spans and reports.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether anything but log lines and metrics is made at all.
    pub enabled: bool,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines are written.
    pub log_filter: LogFilter,
    /// `service` in every JSON log line, `service.name` of every span.
    pub service_name: String,
    /// The release: `service.version` of every span.
    pub service_version: String,
    /// `environment` in every JSON log line, event and span.
    pub environment: String,
    /// The share of good traces that is kept.
    pub sample_rate: Rate,
    /// Where to report to; `None` reports nothing.
    pub sentry: Option<SentrySettings>,
    /// How spans go by OTLP; `None` sends none.
    pub otlp: Option<OtlpSettings>,
    /// How large a span may become.
    pub limits: SpanLimits,
    /// Who gets trace headers with our requests.
    pub trace_hosts: TraceHosts,
    /// What must not be told: taken out of whatever leaves.
    pub secrets: Secrets,
    /// With it, user ids leave as a keyed hash and never as given.
    pub(crate) user_id_salt: Option<Salt>,
}

/// Sentry.
#[derive(Clone, Debug)]
pub struct SentrySettings {
    /// The project.
    pub dsn: SentryDsn,
    /// The share of error events that is sent.
    pub error_sample_rate: Rate,
    /// Whether the SDK says on standard error what it does.
    pub debug: bool,
}

/// OTLP. Headers, compression and how long it may take the exporter takes from the standard variables; it trusts the roots of Mozilla.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OtlpSettings {
    /// Where to.
    pub endpoint: OtlpEndpoint,
    /// Spans that may wait.
    pub max_queue_size: usize,
}

/// The standard limits (<https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/#span-limits>).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpanLimits {
    /// Attributes of one span.
    pub attributes: u32,
    /// Events of one span.
    pub events: u32,
    /// Links of one span.
    pub links: u32,
}

impl Default for SpanLimits {
    fn default() -> Self {
        Self { attributes: 128, events: 128, links: 128 }
    }
}

#[cfg(test)]
impl Settings {
    /// Logs alone.
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

/// A share, from 0 to 1.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rate(f64);

/// Not a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no share: give a number from 0 to 1, such as 0.01")]
pub struct InvalidRate;

impl Rate {
    /// All of it.
    pub const ALL: Self = Self(1.0);
    /// One in a hundred.
    pub const ONE_PERCENT: Self = Self(0.01);

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }

    /// This share of this share.
    pub fn scaled_by(self, share: f64) -> Self {
        Self((self.0 * share).clamp(0.0, 1.0))
    }
}

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rate = text.parse::<f64>().ok().filter(|rate| (0.0..=1.0).contains(rate));
        rate.map(Self).ok_or(InvalidRate)
    }
}

/// A Sentry project's address, which holds its key.
#[derive(Clone)]
pub struct SentryDsn(Dsn);

/// Not a DSN. Never holds the text, for it may be one with a typing mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDsn {
    /// Not of the form.
    #[error("is no Sentry DSN: give one such as https://<key>@<host>/<project id>, or leave it empty")]
    Form,
    /// Sentry's project ids are numbers, and it drops whatever comes for another one.
    #[error("is no Sentry DSN: its project id, the last part, is no number")]
    ProjectId,
}

impl SentryDsn {
    pub(super) fn get(&self) -> &Dsn {
        &self.0
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

/// How OTLP is spoken (<https://opentelemetry.io/docs/specs/otel/protocol/exporter/>).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OtlpProtocol {
    /// gRPC.
    Grpc,
    /// Protobuf over HTTP.
    HttpProtobuf,
}

/// Where spans go by OTLP, and how it is spoken there.
#[derive(Clone, PartialEq, Eq)]
pub struct OtlpEndpoint {
    protocol: OtlpProtocol,
    url: Url,
}

/// Something about OTLP that the exporter would take in silence, and then send nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOtlp {
    /// Neither of the two.
    #[error("is no OTLP protocol that is spoken here: give grpc or http/protobuf")]
    Protocol,
    /// Not a URL that the exporter can use.
    #[error("is no address for OTLP: give one with http:// or https://, such as http://localhost:4317")]
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
    /// The port that collectors speak gRPC on.
    const GRPC_PORT: u16 = 4317;
    /// What is appended for HTTP to an endpoint that stands for all signals.
    const HTTP_PATH: &str = "v1/traces";

    /// Reads an endpoint: one for traces alone is taken as it is; one for all signals gets the path of traces, for HTTP. Where no
    /// protocol is given, the port says it: 4317 is gRPC, anything else HTTP.
    ///
    /// # Errors
    /// When it is no `http://` or `https://` URL with a host: the exporter takes `grpc://`, and what has no scheme, and sends nowhere.
    pub fn parse(text: &str, for_traces: bool, protocol: Option<OtlpProtocol>) -> Result<Self, InvalidOtlp> {
        let mut url = Url::parse(text).map_err(|_| InvalidOtlp::Endpoint)?;
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

    /// How it is spoken.
    pub fn protocol(&self) -> OtlpProtocol {
        self.protocol
    }

    pub(super) fn as_str(&self) -> &str {
        self.url.as_str()
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
    fn a_dsn_is_checked_as_sentry_would_and_never_repeated() {
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
            let read = text.parse::<SentryDsn>();
            assert!(!format!("{read:?}").contains(KEY), "{read:?}");
            assert_eq!(read.map(drop), expected, "{text}");
        }
    }

    #[test]
    fn a_rate_is_a_share() {
        for (text, expected) in [("0", Some(0.0)), ("1", Some(1.0)), ("0.01", Some(0.01)), ("1.0", Some(1.0))] {
            assert_eq!(text.parse::<Rate>().ok().map(Rate::get), expected);
        }
        for text in ["", "-0.1", "1.1", "NaN", "inf", "10%", "all"] {
            assert_eq!(text.parse::<Rate>(), Err(InvalidRate), "{text}");
        }
    }

    #[test]
    fn an_endpoint_that_goes_nowhere_is_refused() {
        for text in ["grpc://localhost:4317", "localhost:4317", "", "http://"] {
            assert_eq!(OtlpEndpoint::parse(text, false, None), Err(InvalidOtlp::Endpoint), "{text}");
        }
    }

    #[test]
    fn an_endpoint_is_read_as_the_specification_says() {
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
