//! Validates the settings of `registrar serve`.

use super::{
    ConfigErrors, Environment, ServeArgs,
    auth::read_auth,
    jwt::read_jwt,
    network::{self, ANVIL_CHAIN_ID, NeedsSigners, read_contract},
    parsers::{parse_bool, parse_duration_setting, parse_duration_up_to, parse_integer_in},
    telemetry::read_telemetry,
    tls::read_tls,
    ui::read_admin,
};
use crate::{api, auth::Protection, chain, pipeline, store, telemetry};
use std::{net::SocketAddr, time::Duration};

const DEFAULT_LISTEN: SocketAddr = loopback(50051);
const DEFAULT_ADMIN_LISTEN: SocketAddr = loopback(9464);
/// A slow receiver must not delay the shutdown by more.
const MAX_TELEMETRY_FLUSH: Duration = Duration::from_secs(3);
/// A week: longer than a confirmed transaction is diagnosed.
const DEFAULT_SIGNED_BYTES_RETENTION: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const MAX_SIGNED_BYTES_RETENTION: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// 0.1 ETH: tens of thousands of documents on a day of usual fees, and a bearable loss on another one.
const DEFAULT_DAILY_BUDGET_WEI: u128 = 100_000_000_000_000_000;

/// The settings of `registrar serve`.
#[derive(Debug)]
pub struct Settings {
    pub(crate) api: api::Settings,
    pub(crate) admin_listen: SocketAddr,
    pub(crate) admin: api::AdminSettings,
    /// Of both listeners.
    pub(crate) protection: Protection,
    /// `None`: no JSON Web Token is accepted.
    pub(crate) chain: chain::Settings,
    pub(crate) store: store::Settings,
    pub(crate) pipeline: pipeline::Settings,
    pub(crate) shutdown_grace: Duration,
    /// Logs, spans and reports.
    pub telemetry: telemetry::Settings,
}

impl Settings {
    /// Validates the arguments and the environment.
    ///
    /// # Errors
    /// All invalid settings at once.
    pub fn read(args: &ServeArgs, environment: &Environment) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let allow_insecure =
            errors.parse_or_default("REGISTRAR_ALLOW_INSECURE", args.allow_insecure.as_deref(), false, parse_bool);
        let protection = Protection {
            tls: read_tls(args, &mut errors),
            authenticator: read_auth(args, &mut errors),
            jwt: read_jwt(args, &mut errors),
        };
        let is_protected = allow_insecure || protection.is_complete();
        let api = read_api(args, is_protected, &mut errors);
        let admin_listen = read_listen(
            "REGISTRAR_ADMIN_LISTEN",
            args.admin_listen.as_deref(),
            DEFAULT_ADMIN_LISTEN,
            is_protected,
            &mut errors,
        );
        let contract = read_contract(args.contract_address.as_deref(), &mut errors);
        let chain = network::read_chain(&args.network, contract, NeedsSigners::Yes, environment, &mut errors);
        let store = read_store(environment, &mut errors);
        let pipeline = read_pipeline(args, chain.chain_id, &mut errors);
        let shutdown_grace = errors.parse_or_default(
            "REGISTRAR_SHUTDOWN_GRACE",
            args.shutdown_grace.as_deref(),
            Duration::from_secs(20),
            parse_duration_setting,
        );
        let settings = Self {
            api,
            admin_listen,
            admin: read_admin(args, &mut errors),
            protection,
            chain,
            store,
            pipeline,
            shutdown_grace,
            telemetry: read_telemetry(args, environment, &mut errors),
        };
        errors.into_result(settings)
    }

    /// The part of the shutdown grace that is reserved for exporting telemetry.
    pub fn telemetry_flush_timeout(&self) -> Duration {
        if self.telemetry.enabled { (self.shutdown_grace / 4).min(MAX_TELEMETRY_FLUSH) } else { Duration::ZERO }
    }
}

fn read_api(args: &ServeArgs, is_protected: bool, errors: &mut ConfigErrors) -> api::Settings {
    api::Settings {
        listen: read_listen("REGISTRAR_LISTEN", args.listen.as_deref(), DEFAULT_LISTEN, is_protected, errors),
        max_wait: errors.parse_or_default(
            "REGISTRAR_MAX_WAIT",
            args.max_wait.as_deref(),
            Duration::from_secs(300),
            parse_duration_setting,
        ),
        max_waiters: errors.parse_or_default(
            "REGISTRAR_MAX_WAITERS",
            args.max_waiters.as_deref(),
            // About 6 KiB each: together as much as the service without a call.
            5_000,
            parse_integer_in(1, 1_000_000),
        ),
        max_connections: errors.parse_or_default(
            "REGISTRAR_MAX_CONNECTIONS",
            args.max_connections.as_deref(),
            1_000,
            parse_integer_in(1, 1_000_000),
        ),
        max_connection_age: errors.parse_or_default(
            "REGISTRAR_MAX_CONNECTION_AGE",
            args.max_connection_age.as_deref(),
            Duration::from_secs(600),
            parse_duration_setting,
        ),
        cors_origins: errors.parse_or_default(
            "REGISTRAR_CORS_ORIGINS",
            args.cors_origins.as_deref(),
            api::AllowedOrigins::default(),
            str::parse,
        ),
    }
}

/// Where the HTTP server of a service with this setting listens.
pub fn admin_address(admin_listen: Option<&str>) -> Result<SocketAddr, ConfigErrors> {
    let mut errors = ConfigErrors::default();
    let address = read_listen("REGISTRAR_ADMIN_LISTEN", admin_listen, DEFAULT_ADMIN_LISTEN, true, &mut errors);
    errors.into_result(address)
}

fn read_listen(
    name: &'static str,
    text: Option<&str>,
    default: SocketAddr,
    is_protected: bool,
    errors: &mut ConfigErrors,
) -> SocketAddr {
    let address = errors.parse_or_default(name, text, default, |text| {
        text.replace("localhost:", "127.0.0.1:")
            .parse::<SocketAddr>()
            .map_err(|_| "is not an address with a port; use for example 127.0.0.1:50051")
    });
    if !address.ip().is_loopback() && !is_protected {
        let problem = format!(
            "{address} is reachable from other machines without TLS and authentication; set REGISTRAR_TLS_CERT_FILE, \
             REGISTRAR_TLS_KEY_FILE and REGISTRAR_AUTH=enforce, or REGISTRAR_ALLOW_INSECURE=true to allow this"
        );
        errors.add(name, problem);
    }
    address
}

fn read_pipeline(args: &ServeArgs, chain_id: u64, errors: &mut ConfigErrors) -> pipeline::Settings {
    let default_confirmations = if chain_id == ANVIL_CHAIN_ID { 1 } else { 2 };
    pipeline::Settings {
        confirmations: errors.parse_or_default(
            "REGISTRAR_CONFIRMATIONS",
            args.confirmations.as_deref(),
            default_confirmations,
            parse_integer_in(1, 10_000),
        ),
        confirmation_timeout: errors.parse_or_default(
            "REGISTRAR_CONFIRMATION_TIMEOUT",
            args.confirmation_timeout.as_deref(),
            Duration::from_secs(30),
            parse_duration_setting,
        ),
        queue_timeout: errors.parse_or_default(
            "REGISTRAR_QUEUE_TIMEOUT",
            args.queue_timeout.as_deref(),
            Duration::from_secs(60),
            parse_duration_setting,
        ),
        queue_limit: errors.parse_or_default(
            "REGISTRAR_QUEUE_LIMIT",
            args.queue_limit.as_deref(),
            100_000,
            parse_integer_in(1, 100_000_000),
        ),
        daily_budget: errors.parse_or_default(
            "REGISTRAR_DAILY_BUDGET_ETH",
            args.daily_budget_eth.as_deref(),
            Some(DEFAULT_DAILY_BUDGET_WEI),
            parse_daily_budget,
        ),
        keep_signed_bytes: errors.parse_or_default(
            "REGISTRAR_KEEP_SIGNED_BYTES",
            args.keep_signed_bytes.as_deref(),
            DEFAULT_SIGNED_BYTES_RETENTION,
            parse_duration_up_to(MAX_SIGNED_BYTES_RETENTION, "is longer than the maximum of ten years"),
        ),
    }
}

fn read_store(environment: &Environment, errors: &mut ConfigErrors) -> store::Settings {
    const DATABASE_URL_VARIABLE: &str = "REGISTRAR_DATABASE_URL";
    let url = environment.secret(DATABASE_URL_VARIABLE, errors).unwrap_or_else(|| "sqlite://registrar.db".to_owned());
    store::Settings::parse(&url).unwrap_or_else(|error| {
        errors.add(DATABASE_URL_VARIABLE, error.to_string());
        store::Settings::default()
    })
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}

fn parse_daily_budget(text: &str) -> Result<Option<u128>, &'static str> {
    if text.eq_ignore_ascii_case("unlimited") {
        return Ok(None);
    }
    chain::parse_ether(text)
        .map(Some)
        .map_err(|_| "is neither a positive amount of ETH, such as 0.1 or 2, nor unlimited")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NetworkArgs;

    const KEY: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
    const OWN_KEY: &str = "0x1111111111111111111111111111111111111111111111111111111111111111";
    const CONTRACT: &str = "0x5FbDB2315678afecb367f032d93F642f64180aa3";

    fn environment(variables: &[(&'static str, &str)]) -> Environment {
        Environment::default().with(variables.iter().map(|(name, value)| (*name, (*value).to_owned())))
    }

    fn args() -> ServeArgs {
        ServeArgs { contract_address: Some(CONTRACT.into()), ..Default::default() }
    }

    #[test]
    fn the_defaults_are_safe() {
        let settings = Settings::read(&args(), &environment(&[("REGISTRAR_SIGNER_KEYS", OWN_KEY)])).unwrap();
        assert_eq!(settings.api.listen.to_string(), "127.0.0.1:50051");
        assert_eq!(settings.admin_listen.to_string(), "127.0.0.1:9464");
        assert_eq!(settings.chain.chain_id, 84532);
        assert_eq!(settings.pipeline.confirmations, 2);
        assert_eq!(settings.pipeline.confirmation_timeout, Duration::from_secs(30));
        assert_eq!(settings.pipeline.queue_timeout, Duration::from_secs(60));
        assert_eq!(settings.pipeline.daily_budget, Some(100_000_000_000_000_000));
        assert_eq!(settings.api.max_connection_age, Duration::from_secs(600));
        assert_eq!(settings.pipeline.keep_signed_bytes, Duration::from_secs(7 * 24 * 60 * 60));
        assert_eq!(settings.chain.max_fee_per_gas, 5_000_000_000);
        assert_eq!(settings.chain.endpoints[0].name(), "sepolia.base.org");
    }

    #[test]
    fn all_errors_are_reported_at_once_without_secrets() {
        let args = ServeArgs {
            listen: Some("0.0.0.0:1".into()),
            admin_listen: Some("nonsense".into()),
            confirmations: Some("0".into()),
            confirmation_timeout: Some("soon".into()),
            queue_timeout: Some("later".into()),
            max_wait: Some("0s".into()),
            queue_limit: Some("-1".into()),
            network: NetworkArgs { chain_id: Some("base".into()), max_fee_gwei: Some("free".into()) },
            tracing_enabled: Some("maybe".into()),
            trace_hosts: Some("rpc.example,https://rpc.example/s3cr3t".into()),
            log_format: Some("xml".into()),
            ..Default::default()
        };
        let secrets = environment(&[
            ("REGISTRAR_SIGNER_KEYS", "0xnotakey_s3cr3t"),
            ("REGISTRAR_RPC_URLS", "ftp://user:s3cr3t@host/s3cr3t"),
            ("REGISTRAR_DATABASE_URL", "mysql://user:s3cr3t@host/db"),
        ]);
        let text = Settings::read(&args, &secrets).unwrap_err().to_string();
        for name in [
            "REGISTRAR_LISTEN",
            "REGISTRAR_ADMIN_LISTEN",
            "REGISTRAR_CONFIRMATIONS",
            "REGISTRAR_CONFIRMATION_TIMEOUT",
            "REGISTRAR_QUEUE_TIMEOUT",
            "REGISTRAR_MAX_WAIT",
            "REGISTRAR_QUEUE_LIMIT",
            "REGISTRAR_CHAIN_ID",
            "REGISTRAR_MAX_FEE_GWEI",
            "TRACING_ENABLED",
            "REGISTRAR_TRACE_HOSTS: entry 2 is not a host name",
            "LOG_FORMAT",
            "REGISTRAR_CONTRACT_ADDRESS",
            "REGISTRAR_SIGNER_KEYS",
            "REGISTRAR_RPC_URLS",
            "REGISTRAR_DATABASE_URL",
        ] {
            assert!(text.contains(name), "{name} is missing in:\n{text}");
        }
        assert!(!text.contains("s3cr3t"), "{text}");
    }

    #[test]
    fn the_daily_budget_is_an_amount_or_unlimited() {
        assert_eq!(parse_daily_budget("0.5"), Ok(Some(500_000_000_000_000_000)));
        assert_eq!((parse_daily_budget("unlimited"), parse_daily_budget("Unlimited")), (Ok(None), Ok(None)));
        for text in ["0", "-1", "none", "infinite", ""] {
            assert!(parse_daily_budget(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_published_key_is_rejected_on_public_chains_and_accepted_on_anvil() {
        let secrets = environment(&[("REGISTRAR_SIGNER_KEYS", KEY)]);
        assert!(Settings::read(&args(), &secrets).unwrap_err().to_string().contains("published"));
        let on_anvil =
            ServeArgs { network: NetworkArgs { chain_id: Some("31337".into()), max_fee_gwei: None }, ..args() };
        assert_eq!(Settings::read(&on_anvil, &secrets).unwrap().pipeline.confirmations, 1);
        let local = environment(&[("REGISTRAR_SIGNER_KEYS", KEY), ("REGISTRAR_RPC_URLS", "http://127.0.0.1:8545")]);
        assert!(Settings::read(&args(), &local).is_ok());
    }

    #[test]
    fn one_endpoint_is_not_given_twice() {
        let error = |urls| {
            let environment = environment(&[("REGISTRAR_SIGNER_KEYS", OWN_KEY), ("REGISTRAR_RPC_URLS", urls)]);
            Settings::read(&args(), &environment).err().map(|errors| errors.to_string())
        };
        let text = error("https://a.example/s3cr3t,https://b.example,https://A.example:443/s3cr3t/").unwrap();
        assert!(text.contains("REGISTRAR_RPC_URLS: entry 3 repeats an earlier URL"), "{text}");
        assert!(!text.contains("s3cr3t"), "{text}");
        assert_eq!(error("https://a.example/one,https://a.example/two"), None);
    }

    #[test]
    fn a_secret_is_read_from_a_file_but_not_from_both() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{OWN_KEY}\n")).unwrap();
        let path = file.path().to_str().unwrap();
        let from_file = environment(&[("REGISTRAR_SIGNER_KEYS_FILE", path)]);
        assert_eq!(Settings::read(&args(), &from_file).unwrap().chain.signers.specs.len(), 1);
        let both = environment(&[("REGISTRAR_SIGNER_KEYS_FILE", path), ("REGISTRAR_SIGNER_KEYS", OWN_KEY)]);
        assert!(Settings::read(&args(), &both).unwrap_err().to_string().contains("set only one of them"));
        let missing = environment(&[("REGISTRAR_SIGNER_KEYS_FILE", "/nonexistent")]);
        assert!(Settings::read(&args(), &missing).unwrap_err().to_string().contains("cannot be read"));
    }
}
