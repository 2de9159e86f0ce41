//! Raw text in, validated settings out.

use super::telemetry::read_telemetry;
use super::{ConfigErrors, Environment, NetworkArgs, ServeArgs, secrets};
use crate::{api, chain, pipeline, store, telemetry};
use alloy::primitives::Address;
use std::{net::SocketAddr, time::Duration};

const DEFAULT_LISTEN: SocketAddr = loopback(50051);
const DEFAULT_ADMIN_LISTEN: SocketAddr = loopback(9464);
const BASE_SEPOLIA_CHAIN_ID: u64 = 84532;
/// A receiver that takes longer is not waited for.
const MAX_TELEMETRY_FLUSH: Duration = Duration::from_secs(3);
const ANVIL_CHAIN_ID: u64 = 31337;
const PUBLIC_BASE_SEPOLIA_RPC_URL: &str = "https://sepolia.base.org";
/// A week: longer than any diagnosis of what was confirmed takes.
const DEFAULT_SIGNED_BYTES_RETENTION: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const MAX_SIGNED_BYTES_RETENTION: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// Nobody waits longer, and every duration stays far from overflow.
const MAX_DURATION_SETTING: Duration = Duration::from_secs(24 * 60 * 60);
const BASE_SEPOLIA_RPC_VARIABLES: [&str; 3] =
    ["BASE_SEPOLIA_RPC_PRIMARY", "BASE_SEPOLIA_RPC_BACKUP_1", "BASE_SEPOLIA_RPC_BACKUP_2"];

/// Everything `registrar serve` needs to know.
#[derive(Debug)]
pub struct Settings {
    /// The gRPC server.
    pub api: api::Settings,
    /// The HTTP server for metrics and health.
    pub admin_listen: SocketAddr,
    /// The chain.
    pub chain: chain::Settings,
    /// The database.
    pub store: store::Settings,
    /// What moves registrations along.
    pub pipeline: pipeline::Settings,
    /// How long shutting down may take.
    pub shutdown_grace: Duration,
    /// Logs and spans.
    pub telemetry: telemetry::Settings,
}

/// Everything `registrar deploy` needs to know.
#[derive(Debug)]
pub struct DeploySettings {
    /// The chain; its contract address is not used.
    pub chain: chain::Settings,
    /// What must not be told.
    pub secrets: telemetry::Secrets,
}

impl Settings {
    /// Validates the arguments and the environment.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn read(args: &ServeArgs, environment: &Environment) -> Result<Self, ConfigErrors> {
        let mut faults = ConfigErrors::default();
        let allow_insecure =
            faults.parse_or_default("REGISTRAR_ALLOW_INSECURE", args.allow_insecure.as_deref(), false, parse_bool);
        let api = read_api(args, allow_insecure, &mut faults);
        let admin_listen = read_listen(
            "REGISTRAR_ADMIN_LISTEN",
            args.admin_listen.as_deref(),
            DEFAULT_ADMIN_LISTEN,
            allow_insecure,
            &mut faults,
        );
        let contract = match args.contract_address.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
            Some(text) => {
                faults.parse_or_default("REGISTRAR_CONTRACT_ADDRESS", Some(text), Address::ZERO, parse_contract_address)
            }
            None => {
                faults.add(
                    "REGISTRAR_CONTRACT_ADDRESS",
                    "is required: `registrar deploy` deploys one and prints its address",
                );
                Address::ZERO
            }
        };
        let chain = read_chain(&args.network, contract, environment, &mut faults);
        let store = read_store(environment, &mut faults);
        let default_confirmations = if chain.chain_id == ANVIL_CHAIN_ID { 1 } else { 2 };
        let pipeline = pipeline::Settings {
            confirmations: faults.parse_or_default(
                "REGISTRAR_CONFIRMATIONS",
                args.confirmations.as_deref(),
                default_confirmations,
                parse_integer_in(1, 10_000),
            ),
            confirmation_timeout: faults.parse_or_default(
                "REGISTRAR_CONFIRMATION_TIMEOUT",
                args.confirmation_timeout.as_deref(),
                Duration::from_secs(30),
                parse_duration,
            ),
            queue_limit: faults.parse_or_default(
                "REGISTRAR_QUEUE_LIMIT",
                args.queue_limit.as_deref(),
                100_000,
                parse_integer_in(1, 100_000_000),
            ),
            daily_budget: faults.parse_or_default(
                "REGISTRAR_DAILY_BUDGET_ETH",
                args.daily_budget_eth.as_deref(),
                None,
                |text| chain::parse_ether(text).map(Some),
            ),
            keep_signed_bytes: faults.parse_or_default(
                "REGISTRAR_KEEP_SIGNED_BYTES",
                args.keep_signed_bytes.as_deref(),
                DEFAULT_SIGNED_BYTES_RETENTION,
                parse_duration_up_to(MAX_SIGNED_BYTES_RETENTION, "is longer than ten years"),
            ),
        };
        let shutdown_grace = faults.parse_or_default(
            "REGISTRAR_SHUTDOWN_GRACE",
            args.shutdown_grace.as_deref(),
            Duration::from_secs(20),
            parse_duration,
        );
        let telemetry = read_telemetry(args, environment, &mut faults);
        let settings = Self { api, admin_listen, chain, store, pipeline, shutdown_grace, telemetry };
        if faults.is_empty() { Ok(settings) } else { Err(faults) }
    }
}

impl Settings {
    /// How much of the grace is left for sending what telemetry still has.
    pub fn telemetry_flush_timeout(&self) -> Duration {
        if self.telemetry.enabled { (self.shutdown_grace / 4).min(MAX_TELEMETRY_FLUSH) } else { Duration::ZERO }
    }
}

impl DeploySettings {
    /// Validates the arguments and the environment.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn read(args: &NetworkArgs, environment: &Environment) -> Result<Self, ConfigErrors> {
        let mut faults = ConfigErrors::default();
        let chain = read_chain(args, Address::ZERO, environment, &mut faults);
        if faults.is_empty() { Ok(Self { chain, secrets: secrets::collect_secrets(environment) }) } else { Err(faults) }
    }
}

fn read_api(args: &ServeArgs, allow_insecure: bool, faults: &mut ConfigErrors) -> api::Settings {
    api::Settings {
        listen: read_listen("REGISTRAR_LISTEN", args.listen.as_deref(), DEFAULT_LISTEN, allow_insecure, faults),
        max_wait: faults.parse_or_default(
            "REGISTRAR_MAX_WAIT",
            args.max_wait.as_deref(),
            Duration::from_secs(300),
            parse_duration,
        ),
        max_waiters: faults.parse_or_default(
            "REGISTRAR_MAX_WAITERS",
            args.max_waiters.as_deref(),
            10_000,
            parse_integer_in(1, 1_000_000),
        ),
    }
}

fn read_listen(
    name: &'static str,
    text: Option<&str>,
    default: SocketAddr,
    allow_insecure: bool,
    faults: &mut ConfigErrors,
) -> SocketAddr {
    let address = faults.parse_or_default(name, text, default, |text| {
        text.replace("localhost:", "127.0.0.1:")
            .parse::<SocketAddr>()
            .map_err(|_| "is no address with a port, such as 127.0.0.1:50051")
    });
    if !address.ip().is_loopback() && !allow_insecure {
        let problem = format!(
            "`{address}` is off loopback, and there is neither TLS nor a token: set REGISTRAR_ALLOW_INSECURE=true if it is meant"
        );
        faults.add(name, problem);
    }
    address
}

fn read_chain(
    args: &NetworkArgs,
    contract: Address,
    environment: &Environment,
    faults: &mut ConfigErrors,
) -> chain::Settings {
    let chain_id =
        faults.parse_or_default("REGISTRAR_CHAIN_ID", args.chain_id.as_deref(), BASE_SEPOLIA_CHAIN_ID, |text| {
            text.parse::<u64>().ok().filter(|id| *id > 0).ok_or("is no chain id: a whole number above zero")
        });
    let endpoints = read_endpoints(environment, faults);
    let signers = read_signers(environment, faults);
    let published = chain_id != ANVIL_CHAIN_ID && !endpoints.iter().all(chain::EndpointUrl::is_loopback);
    for signer in signers.iter().filter(|signer| published && signer.is_anvil_key()) {
        let problem = format!(
            "the key of {} is published with anvil, and anybody can spend its funds: it is taken only on chain {ANVIL_CHAIN_ID} or with an \
             endpoint on loopback",
            signer.address()
        );
        faults.add("REGISTRAR_SIGNER_KEYS", problem);
    }
    let max_fee_per_gas = faults.parse_or_default(
        "REGISTRAR_MAX_FEE_GWEI",
        args.max_fee_gwei.as_deref(),
        5_000_000_000,
        chain::parse_gwei,
    );
    chain::Settings { chain_id, endpoints, signers, contract, max_fee_per_gas }
}

fn read_endpoints(environment: &Environment, faults: &mut ConfigErrors) -> Vec<chain::EndpointUrl> {
    let listed = environment.secret("REGISTRAR_RPC_URLS", faults);
    let urls: Vec<(&'static str, String)> = match listed {
        Some(list) => split_list(&list).map(|url| ("REGISTRAR_RPC_URLS", url.to_owned())).collect(),
        None => BASE_SEPOLIA_RPC_VARIABLES
            .into_iter()
            .filter_map(|name| Some((name, environment.secret(name, faults)?)))
            .collect(),
    };
    let urls =
        if urls.is_empty() { vec![("REGISTRAR_RPC_URLS", PUBLIC_BASE_SEPOLIA_RPC_URL.to_owned())] } else { urls };
    let mut endpoints = Vec::new();
    for (position, (name, url)) in urls.iter().enumerate() {
        match chain::EndpointUrl::parse(url) {
            Ok(endpoint) => endpoints.push(endpoint),
            Err(error) => faults.add(name, format!("entry {} {error}", position + 1)),
        }
    }
    chain::disambiguate_hosts(&mut endpoints);
    endpoints
}

fn read_signers(environment: &Environment, faults: &mut ConfigErrors) -> Vec<chain::Signer> {
    const SIGNER_KEYS_VARIABLE: &str = "REGISTRAR_SIGNER_KEYS";
    let before = faults.clone();
    let Some(list) = environment.secret(SIGNER_KEYS_VARIABLE, faults) else {
        if *faults == before {
            faults.add(
                SIGNER_KEYS_VARIABLE,
                "is required: a comma list of private keys, or REGISTRAR_SIGNER_KEYS_FILE that names a file with it",
            );
        }
        return Vec::new();
    };
    let mut signers: Vec<chain::Signer> = Vec::new();
    for (position, key) in split_list(&list).enumerate() {
        match chain::Signer::parse(key) {
            Ok(signer) if signers.iter().any(|known| known.address() == signer.address()) => {
                faults.add(SIGNER_KEYS_VARIABLE, format!("entry {} is the same key as an earlier one", position + 1));
            }
            Ok(signer) => signers.push(signer),
            Err(error) => faults.add(SIGNER_KEYS_VARIABLE, format!("entry {} {error}", position + 1)),
        }
    }
    signers
}

fn read_store(environment: &Environment, faults: &mut ConfigErrors) -> store::Settings {
    const DATABASE_URL_VARIABLE: &str = "REGISTRAR_DATABASE_URL";
    let url = environment.secret(DATABASE_URL_VARIABLE, faults).unwrap_or_else(|| "sqlite://registrar.db".to_owned());
    store::Settings::parse(&url).unwrap_or_else(|error| {
        faults.add(DATABASE_URL_VARIABLE, error.to_string());
        store::Settings::default()
    })
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}

/// The entries of a list.
pub(super) fn split_list(list: &str) -> impl Iterator<Item = &str> {
    list.split([',', '\n']).map(str::trim).filter(|entry| !entry.is_empty())
}

pub(super) fn parse_bool(text: &str) -> Result<bool, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("is neither true nor false"),
    }
}

pub(super) fn parse_integer_in(least: u64, most: u64) -> impl Fn(&str) -> Result<u64, String> {
    move |text| {
        text.parse()
            .ok()
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| format!("is no whole number from {least} to {most}"))
    }
}

fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    parse_duration_up_to(MAX_DURATION_SETTING, "is longer than a day")(text)
}

fn parse_duration_up_to(longest: Duration, too_long: &'static str) -> impl Fn(&str) -> Result<Duration, &'static str> {
    move |text| match humantime::parse_duration(text) {
        Ok(duration) if duration.is_zero() => Err("is zero: give a duration such as 30s or 5m"),
        Ok(duration) if duration > longest => Err(too_long),
        Ok(duration) => Ok(duration),
        Err(_) => Err("is no duration: give one such as 30s, 1m 30s or 500ms"),
    }
}

fn parse_contract_address(text: &str) -> Result<Address, &'static str> {
    match text.parse::<Address>() {
        Ok(Address::ZERO) => Err("is the zero address: `registrar deploy` deploys a contract and prints its address"),
        Ok(address) => Ok(address),
        Err(_) => Err("is no address: 0x and 40 hex digits"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_defaults_are_safe_and_stated() {
        let settings = Settings::read(&args(), &environment(&[("REGISTRAR_SIGNER_KEYS", OWN_KEY)])).unwrap();
        assert_eq!(settings.api.listen.to_string(), "127.0.0.1:50051");
        assert_eq!(settings.admin_listen.to_string(), "127.0.0.1:9464");
        assert_eq!(settings.chain.chain_id, 84532);
        assert_eq!(settings.pipeline.confirmations, 2);
        assert_eq!(settings.pipeline.confirmation_timeout, Duration::from_secs(30));
        assert_eq!(settings.pipeline.keep_signed_bytes, Duration::from_secs(7 * 24 * 60 * 60));
        assert_eq!(settings.chain.max_fee_per_gas, 5_000_000_000);
        assert_eq!(settings.chain.endpoints[0].name(), "sepolia.base.org");
    }

    #[test]
    fn everything_wrong_is_said_at_once_and_no_secret_is_repeated() {
        let args = ServeArgs {
            listen: Some("0.0.0.0:1".into()),
            admin_listen: Some("nonsense".into()),
            confirmations: Some("0".into()),
            confirmation_timeout: Some("soon".into()),
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
    fn a_published_key_is_refused_off_anvil_and_taken_on_it() {
        let secrets = environment(&[("REGISTRAR_SIGNER_KEYS", KEY)]);
        assert!(Settings::read(&args(), &secrets).unwrap_err().to_string().contains("published"));
        let on_anvil =
            ServeArgs { network: NetworkArgs { chain_id: Some("31337".into()), max_fee_gwei: None }, ..args() };
        assert_eq!(Settings::read(&on_anvil, &secrets).unwrap().pipeline.confirmations, 1);
        let local = environment(&[("REGISTRAR_SIGNER_KEYS", KEY), ("REGISTRAR_RPC_URLS", "http://127.0.0.1:8545")]);
        assert!(Settings::read(&args(), &local).is_ok());
    }

    #[test]
    fn a_secret_comes_from_a_file_and_not_from_both() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{OWN_KEY}\n")).unwrap();
        let path = file.path().to_str().unwrap();
        let from_file = environment(&[("REGISTRAR_SIGNER_KEYS_FILE", path)]);
        assert_eq!(Settings::read(&args(), &from_file).unwrap().chain.signers.len(), 1);
        let both = environment(&[("REGISTRAR_SIGNER_KEYS_FILE", path), ("REGISTRAR_SIGNER_KEYS", OWN_KEY)]);
        assert!(Settings::read(&args(), &both).unwrap_err().to_string().contains("set one of them"));
        let missing = environment(&[("REGISTRAR_SIGNER_KEYS_FILE", "/nonexistent")]);
        assert!(Settings::read(&args(), &missing).unwrap_err().to_string().contains("cannot be read"));
    }
}
