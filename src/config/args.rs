//! Settings that are not secrets, as command-line arguments. The doc comments are the help texts.

use clap::Args;

/// Arguments of every command that uses the chain.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Network")]
pub struct NetworkArgs {
    /// EIP-155 chain id; an endpoint that reports another one is not used [default: 84532, Base Sepolia]
    #[arg(long, env = "REGISTRAR_CHAIN_ID", value_name = "ID")]
    pub(crate) chain_id: Option<String>,
    /// Hard cap on the fee per gas, in gwei; never exceeded [default: 5]
    #[arg(long, env = "REGISTRAR_MAX_FEE_GWEI", value_name = "GWEI")]
    pub(crate) max_fee_gwei: Option<String>,
}

/// Arguments of every command that reads or changes the contract.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Network")]
pub struct ContractArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// Address of the DocumentRegistry contract (required)
    #[arg(long, env = "REGISTRAR_CONTRACT_ADDRESS", value_name = "ADDRESS")]
    pub(crate) contract_address: Option<String>,
}

/// Arguments of `registrar serve`.
#[derive(Args, Clone, Debug, Default)]
pub struct ServeArgs {
    /// Address of the server for gRPC, gRPC-Web and Connect [default: 127.0.0.1:50051]
    #[arg(long, env = "REGISTRAR_LISTEN", value_name = "ADDR", help_heading = "Addresses")]
    pub(crate) listen: Option<String>,
    /// Address of the HTTP server for /metrics, /healthz, /readyz and /ui/ [default: 127.0.0.1:9464]
    #[arg(long, env = "REGISTRAR_ADMIN_LISTEN", value_name = "ADDR", help_heading = "Addresses")]
    pub(crate) admin_listen: Option<String>,
    /// Host names, separated by commas, under which the admin server is reached, besides addresses, loopback names and
    /// names without a dot [default: none]
    #[arg(long, env = "REGISTRAR_ADMIN_HOSTS", value_name = "HOSTS", help_heading = "Addresses")]
    pub(crate) admin_hosts: Option<String>,
    /// The operator page at /ui/ of the HTTP server: on or off [default: on]
    #[arg(long, env = "REGISTRAR_UI", value_name = "ON-OFF", help_heading = "Addresses")]
    pub(crate) ui: Option<String>,
    /// Where a trace is shown, with {trace_id} in place of its id, for links of the operator page; for example
    /// https://jaeger.example.com/trace/{trace_id} [default: none]
    #[arg(long, env = "REGISTRAR_TRACE_URL", value_name = "URL", help_heading = "Telemetry")]
    pub(crate) trace_url: Option<String>,
    /// Allow addresses that other machines can reach without TLS and REGISTRAR_AUTH=enforce [default: false]
    #[arg(long, env = "REGISTRAR_ALLOW_INSECURE", value_name = "BOOL", help_heading = "Addresses", num_args = 0..=1,
          default_missing_value = "true")]
    pub(crate) allow_insecure: Option<String>,

    /// Maximum number of connections to the gRPC server; beyond it, idle ones are closed, then new ones refused
    /// [default: 1000]
    #[arg(long, env = "REGISTRAR_MAX_CONNECTIONS", value_name = "N", help_heading = "Addresses")]
    pub(crate) max_connections: Option<String>,
    /// How long a gRPC connection is used; calls in progress continue, new ones go to another connection [default: 10m]
    #[arg(long, env = "REGISTRAR_MAX_CONNECTION_AGE", value_name = "DURATION", help_heading = "Addresses")]
    pub(crate) max_connection_age: Option<String>,
    /// Origins of web pages that may call, separated by commas, for example https://app.example.com [default: none]
    #[arg(long, env = "REGISTRAR_CORS_ORIGINS", value_name = "ORIGINS", help_heading = "Addresses")]
    pub(crate) cors_origins: Option<String>,

    /// Who is refused: off (callers are not identified), audit (calls that enforce would refuse are logged and counted) or
    /// enforce [default: off]
    #[arg(long, env = "REGISTRAR_AUTH", value_name = "MODE", help_heading = "Callers")]
    pub(crate) auth: Option<String>,
    /// TOML file with the callers, their credentials and their limits; read again when it changes [default: none]
    #[arg(long, env = "REGISTRAR_CALLERS_FILE", value_name = "FILE", help_heading = "Callers")]
    pub(crate) callers_file: Option<String>,
    /// File with the certificate of both servers (PEM), followed by those of its intermediate authorities; read again
    /// when it changes [default: none, so no TLS]
    #[arg(long, env = "REGISTRAR_TLS_CERT_FILE", value_name = "FILE", help_heading = "TLS")]
    pub(crate) tls_cert_file: Option<String>,
    /// File with the private key of that certificate (PEM)
    #[arg(long, env = "REGISTRAR_TLS_KEY_FILE", value_name = "FILE", help_heading = "TLS")]
    pub(crate) tls_key_file: Option<String>,
    /// File with the authorities (PEM) that sign the certificates of clients [default: none, so clients are not asked
    /// for a certificate]
    #[arg(long, env = "REGISTRAR_TLS_CLIENT_CA_FILE", value_name = "FILE", help_heading = "TLS")]
    pub(crate) tls_client_ca_file: Option<String>,
    /// Whether clients need a certificate: required or optional [default: required, with
    /// REGISTRAR_TLS_CLIENT_CA_FILE]
    #[arg(long, env = "REGISTRAR_TLS_CLIENT_AUTH", value_name = "MODE", help_heading = "TLS")]
    pub(crate) tls_client_auth: Option<String>,

    /// Issuer (`iss`) whose JSON Web Tokens are accepted; its keys come from its discovery document unless
    /// REGISTRAR_JWT_JWKS is set [default: none]
    #[arg(long, env = "REGISTRAR_JWT_ISSUER", value_name = "URL", help_heading = "Callers")]
    pub(crate) jwt_issuer: Option<String>,
    /// Audience (`aud`) of tokens for this service; required with REGISTRAR_JWT_ISSUER
    #[arg(long, env = "REGISTRAR_JWT_AUDIENCE", value_name = "NAME", help_heading = "Callers")]
    pub(crate) jwt_audience: Option<String>,
    /// Keys of the issuer (JWKS): an https:// URL or a file [default: from the issuer's discovery document]
    #[arg(long, env = "REGISTRAR_JWT_JWKS", value_name = "URL-OR-FILE", help_heading = "Callers")]
    pub(crate) jwt_jwks: Option<String>,

    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// Address of the DocumentRegistry contract (required; `registrar deploy` creates one)
    #[arg(long, env = "REGISTRAR_CONTRACT_ADDRESS", value_name = "ADDRESS", help_heading = "Network")]
    pub(crate) contract_address: Option<String>,

    /// Confirmation depth in blocks; the including block counts as 1 [default: 2, and 1 on chain 31337]
    #[arg(long, env = "REGISTRAR_CONFIRMATIONS", value_name = "BLOCKS", help_heading = "Registrations")]
    pub(crate) confirmations: Option<String>,
    /// Time from submission to confirmation after which a transaction is diagnosed and reported [default: 30s]
    #[arg(long, env = "REGISTRAR_CONFIRMATION_TIMEOUT", value_name = "DURATION", help_heading = "Registrations")]
    pub(crate) confirmation_timeout: Option<String>,
    /// Time in the queue after which a registration is diagnosed and reported, if no node has its transaction
    /// [default: 60s]
    #[arg(long, env = "REGISTRAR_QUEUE_TIMEOUT", value_name = "DURATION", help_heading = "Registrations")]
    pub(crate) queue_timeout: Option<String>,
    /// Maximum time that a call may wait [default: 5m]
    #[arg(long, env = "REGISTRAR_MAX_WAIT", value_name = "DURATION", help_heading = "Registrations")]
    pub(crate) max_wait: Option<String>,
    /// Maximum number of calls and streams that wait at the same time; others are rejected with TOO_MANY_WAITERS
    /// [default: 5000]
    #[arg(long, env = "REGISTRAR_MAX_WAITERS", value_name = "N", help_heading = "Registrations")]
    pub(crate) max_waiters: Option<String>,
    /// Maximum number of unfinished registrations; others are rejected with QUEUE_FULL [default: 100000]
    #[arg(long, env = "REGISTRAR_QUEUE_LIMIT", value_name = "N", help_heading = "Registrations")]
    pub(crate) queue_limit: Option<String>,
    /// Maximum spend per UTC day in ETH, over all replicas of one database, or `unlimited`; beyond it, registrations
    /// wait [default: 0.1]
    #[arg(long, env = "REGISTRAR_DAILY_BUDGET_ETH", value_name = "ETH", help_heading = "Registrations")]
    pub(crate) daily_budget_eth: Option<String>,
    /// How long the signed bytes of a transaction are kept after its confirmation; longer while it is not final
    /// [default: 7d]
    #[arg(long, env = "REGISTRAR_KEEP_SIGNED_BYTES", value_name = "DURATION", help_heading = "Registrations")]
    pub(crate) keep_signed_bytes: Option<String>,
    /// Maximum duration of a shutdown [default: 20s]
    #[arg(long, env = "REGISTRAR_SHUTDOWN_GRACE", value_name = "DURATION", help_heading = "Registrations")]
    pub(crate) shutdown_grace: Option<String>,

    /// Create spans and reports; with `false`, only logs, metrics and trace ids [default: true]
    #[arg(long, env = "TRACING_ENABLED", value_name = "BOOL", help_heading = "Telemetry")]
    pub(crate) tracing_enabled: Option<String>,
    /// Share of successful traces that is kept, 0 to 1; failures are always kept [default: 0.01, and 1 in `dev`]
    #[arg(long, env = "TRACE_SAMPLE_RATE", value_name = "SHARE", help_heading = "Telemetry")]
    pub(crate) trace_sample_rate: Option<String>,
    /// Environment in spans and reports [default: development]
    #[arg(long, env = "TRACE_ENVIRONMENT", value_name = "NAME", help_heading = "Telemetry")]
    pub(crate) trace_environment: Option<String>,
    /// Service name in spans and reports [default: registrar]
    #[arg(long, env = "TRACE_SERVICE_NAME", value_name = "NAME", help_heading = "Telemetry")]
    pub(crate) trace_service_name: Option<String>,
    /// Release in spans and reports [default: this program's version]
    #[arg(long, env = "TRACE_SERVICE_VERSION", value_name = "VERSION", help_heading = "Telemetry")]
    pub(crate) trace_service_version: Option<String>,
    /// Share of error events that is sent to Sentry, 0 to 1 [default: 1]
    #[arg(long, env = "SENTRY_SAMPLE_RATE", value_name = "SHARE", help_heading = "Telemetry")]
    pub(crate) sentry_sample_rate: Option<String>,
    /// Print the Sentry SDK's debug output on standard error [default: false]
    #[arg(long, env = "SENTRY_DEBUG", value_name = "BOOL", help_heading = "Telemetry")]
    pub(crate) sentry_debug: Option<String>,
    /// OTLP collector, for example http://localhost:4317; the other OTEL_EXPORTER_OTLP_* variables are read too
    /// [default: none]
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL", help_heading = "Telemetry")]
    pub(crate) otlp_endpoint: Option<String>,
    /// Hosts that receive trace headers with outgoing requests, separated by commas: rpc.example.com, or .example.com
    /// for all subdomains [default: none]
    #[arg(long, env = "REGISTRAR_TRACE_HOSTS", value_name = "HOSTS", help_heading = "Telemetry")]
    pub(crate) trace_hosts: Option<String>,
    /// Format of log lines: text or json [default: text on a terminal, else json]
    #[arg(long, env = "LOG_FORMAT", value_name = "FORMAT", help_heading = "Telemetry")]
    pub(crate) log_format: Option<String>,
    /// Log filter, for example `registrar=debug,info` [default: info]
    #[arg(long, env = "RUST_LOG", value_name = "FILTER", help_heading = "Telemetry")]
    pub(crate) log: Option<String>,
}
