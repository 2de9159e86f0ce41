//! The settings that are no secrets, as command-line arguments.

use clap::Args;

/// Which chain and how to speak to it.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Network")]
pub struct NetworkArgs {
    /// EIP-155 chain id. An endpoint that answers another one is never used [default: 84532, Base Sepolia]
    #[arg(long, env = "REGISTRAR_CHAIN_ID", value_name = "ID")]
    pub chain_id: Option<String>,
    /// Hard cap on what is paid per gas, in gwei; never exceeded [default: 5]
    #[arg(long, env = "REGISTRAR_MAX_FEE_GWEI", value_name = "GWEI")]
    pub max_fee_gwei: Option<String>,
}

/// The settings of `registrar serve`.
#[derive(Args, Clone, Debug, Default)]
pub struct ServeArgs {
    /// Address of the gRPC server [default: 127.0.0.1:50051]
    #[arg(long, env = "REGISTRAR_LISTEN", value_name = "ADDR", help_heading = "Addresses")]
    pub listen: Option<String>,
    /// Address of the HTTP server for /metrics, /healthz and /readyz [default: 127.0.0.1:9464]
    #[arg(long, env = "REGISTRAR_ADMIN_LISTEN", value_name = "ADDR", help_heading = "Addresses")]
    pub admin_listen: Option<String>,
    /// Allow addresses off loopback although there is neither TLS nor a token yet [default: false]
    #[arg(long, env = "REGISTRAR_ALLOW_INSECURE", value_name = "BOOL", help_heading = "Addresses", num_args = 0..=1, default_missing_value = "true")]
    pub allow_insecure: Option<String>,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub network: NetworkArgs,
    /// Address of the DocumentRegistry contract (required; `registrar deploy` makes one)
    #[arg(long, env = "REGISTRAR_CONTRACT_ADDRESS", value_name = "ADDRESS", help_heading = "Network")]
    pub contract_address: Option<String>,

    /// Depth at which a registration is confirmed; the including block counts as 1 [default: 2, and 1 on chain 31337]
    #[arg(long, env = "REGISTRAR_CONFIRMATIONS", value_name = "BLOCKS", help_heading = "Registrations")]
    pub confirmations: Option<String>,
    /// How long a transaction may take from being sent to being confirmed before it is diagnosed and reported [default: 30s]
    #[arg(long, env = "REGISTRAR_CONFIRMATION_TIMEOUT", value_name = "DURATION", help_heading = "Registrations")]
    pub confirmation_timeout: Option<String>,
    /// The longest a call may wait [default: 5m]
    #[arg(long, env = "REGISTRAR_MAX_WAIT", value_name = "DURATION", help_heading = "Registrations")]
    pub max_wait: Option<String>,
    /// How many calls and streams may wait at once before TOO_MANY_WAITERS [default: 10000]
    #[arg(long, env = "REGISTRAR_MAX_WAITERS", value_name = "N", help_heading = "Registrations")]
    pub max_waiters: Option<String>,
    /// How many registrations may be unfinished before QUEUE_FULL [default: 100000]
    #[arg(long, env = "REGISTRAR_QUEUE_LIMIT", value_name = "N", help_heading = "Registrations")]
    pub queue_limit: Option<String>,
    /// How much may be spent in a day of UTC, in ETH; what would pass it waits until what is out lands for less, fees fall, or the next day begins [default: no limit]
    #[arg(long, env = "REGISTRAR_DAILY_BUDGET_ETH", value_name = "ETH", help_heading = "Registrations")]
    pub daily_budget_eth: Option<String>,
    /// How long a transaction's signed bytes are kept after its confirmation; longer while it is not final. All else is kept [default: 7d]
    #[arg(long, env = "REGISTRAR_KEEP_SIGNED_BYTES", value_name = "DURATION", help_heading = "Registrations")]
    pub keep_signed_bytes: Option<String>,
    /// How long shutting down may take [default: 20s]
    #[arg(long, env = "REGISTRAR_SHUTDOWN_GRACE", value_name = "DURATION", help_heading = "Registrations")]
    pub shutdown_grace: Option<String>,

    /// Whether spans and reports are made at all; logs and metrics stay either way [default: true]
    #[arg(long, env = "TRACING_ENABLED", value_name = "BOOL", help_heading = "Telemetry")]
    pub tracing_enabled: Option<String>,
    /// Share of good traces that is kept, from 0 to 1; failures are always kept [default: 0.01, and 1 in `dev`]
    #[arg(long, env = "TRACE_SAMPLE_RATE", value_name = "SHARE", help_heading = "Telemetry")]
    pub trace_sample_rate: Option<String>,
    /// The environment, as it is told with everything [default: development]
    #[arg(long, env = "TRACE_ENVIRONMENT", value_name = "NAME", help_heading = "Telemetry")]
    pub trace_environment: Option<String>,
    /// The service's name [default: registrar]
    #[arg(long, env = "TRACE_SERVICE_NAME", value_name = "NAME", help_heading = "Telemetry")]
    pub trace_service_name: Option<String>,
    /// The release [default: this program's version]
    #[arg(long, env = "TRACE_SERVICE_VERSION", value_name = "VERSION", help_heading = "Telemetry")]
    pub trace_service_version: Option<String>,
    /// Share of error events that goes to Sentry, from 0 to 1 [default: 1]
    #[arg(long, env = "SENTRY_SAMPLE_RATE", value_name = "SHARE", help_heading = "Telemetry")]
    pub sentry_sample_rate: Option<String>,
    /// Whether Sentry's SDK says on standard error what it does [default: false]
    #[arg(long, env = "SENTRY_DEBUG", value_name = "BOOL", help_heading = "Telemetry")]
    pub sentry_debug: Option<String>,
    /// Address of an OTLP collector, as http://localhost:4317; its family of variables is honoured too [default: none]
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL", help_heading = "Telemetry")]
    pub otlp_endpoint: Option<String>,
    /// Hosts that get trace headers with our requests: names, or .example.com for all below it, separated by commas [default: none]
    #[arg(long, env = "REGISTRAR_TRACE_HOSTS", value_name = "HOSTS", help_heading = "Telemetry")]
    pub trace_hosts: Option<String>,
    /// How log lines look: text or json [default: text on a terminal, else json]
    #[arg(long, env = "LOG_FORMAT", value_name = "FORMAT", help_heading = "Telemetry")]
    pub log_format: Option<String>,
    /// Which log lines are written, as `info` or `registrar=debug,info` [default: info]
    #[arg(long, env = "RUST_LOG", value_name = "FILTER", help_heading = "Telemetry")]
    pub log: Option<String>,
}
