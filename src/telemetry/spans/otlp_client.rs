//! The exporter's connection to the collector: TLS, proxies and time limits.

use crate::telemetry::settings::{OtlpProtocol, OtlpSettings, OtlpTls};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
    tonic_types::transport::{Certificate, ClientTlsConfig, Identity},
};
use reqwest::{blocking::Client, redirect::Policy};

/// On a thread of its own, because a blocking HTTP client must not be made on a runtime thread, but inside the runtime,
/// which gRPC needs.
pub(super) fn build_exporter(settings: &OtlpSettings) -> Result<SpanExporter, ExporterBuildError> {
    let runtime = tokio::runtime::Handle::try_current().ok();
    let build = || {
        let _guard = runtime.as_ref().map(tokio::runtime::Handle::enter);
        match settings.endpoint.protocol() {
            OtlpProtocol::Grpc => grpc_exporter(settings),
            OtlpProtocol::HttpProtobuf => http_exporter(settings),
        }
    };
    std::thread::scope(|scope| scope.spawn(build).join())
        .unwrap_or_else(|_| Err(ExporterBuildError::InternalFailure("the exporter could not be built".to_owned())))
}

/// The exporter reads no certificates from the environment, and its default TLS has no roots. Uses no proxy.
fn grpc_exporter(
    OtlpSettings { endpoint, tls, timeout, .. }: &OtlpSettings,
) -> Result<SpanExporter, ExporterBuildError> {
    let builder = SpanExporter::builder().with_tonic().with_endpoint(endpoint.as_str()).with_timeout(*timeout);
    if !endpoint.is_https() {
        return builder.build();
    }
    let config = match &tls.authority {
        Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
        None => ClientTlsConfig::new().with_enabled_roots(),
    };
    let config = match &tls.client {
        Some(client) => config.identity(Identity::from_pem(&client.certificate, &client.key)),
        None => config,
    };
    builder.with_tls_config(config).build()
}

/// Follows no redirects, because the request's headers may hold a key. Uses the proxies of HTTPS_PROXY and the like,
/// except for loopback.
fn http_exporter(settings: &OtlpSettings) -> Result<SpanExporter, ExporterBuildError> {
    let OtlpSettings { endpoint, tls, timeout, .. } = settings;
    let client = Client::builder().timeout(*timeout).redirect(Policy::none()).referer(false);
    let client = if endpoint.is_loopback() { client.no_proxy() } else { client };
    let client = with_tls(client, tls).and_then(reqwest::blocking::ClientBuilder::build);
    // The error's own text could hold the URL.
    let client = client.map_err(|error| ExporterBuildError::InternalFailure(error.without_url().to_string()))?;
    let builder = SpanExporter::builder().with_http().with_http_client(client).with_protocol(Protocol::HttpBinary);
    builder.with_endpoint(endpoint.as_str()).with_timeout(*timeout).build()
}

fn with_tls(
    client: reqwest::blocking::ClientBuilder,
    tls: &OtlpTls,
) -> reqwest::Result<reqwest::blocking::ClientBuilder> {
    let client = match &tls.authority {
        Some(pem) => client.tls_certs_only(reqwest::Certificate::from_pem_bundle(pem)?),
        None => client,
    };
    Ok(match &tls.client {
        Some(identity) => {
            let pem = [identity.key.as_slice(), b"\n", &identity.certificate].concat();
            client.identity(reqwest::Identity::from_pem(&pem)?)
        }
        None => client,
    })
}
