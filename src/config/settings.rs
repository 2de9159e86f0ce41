//! Validates the settings of `registrar serve` and `registrar deploy`.

use super::{
    ConfigErrors, Environment, NetworkArgs, ServeArgs,
    parsers::{parse_address, parse_bool, parse_duration_setting, parse_duration_up_to, parse_integer_in, split_list},
    secrets,
    telemetry::read_telemetry,
};
use crate::{api, chain, pipeline, store, telemetry};
use alloy::primitives::Address;
use std::{net::SocketAddr, time::Duration};

const DEFAULT_LISTEN: SocketAddr = loopback(50051);
const DEFAULT_ADMIN_LISTEN: SocketAddr = loopback(9464);
const BASE_SEPOLIA_CHAIN_ID: u64 = 84532;
/// A slow receiver must not delay the shutdown by more.
const MAX_TELEMETRY_FLUSH: Duration = Duration::from_secs(3);
const ANVIL_CHAIN_ID: u64 = 31337;
const PUBLIC_BASE_SEPOLIA_RPC_URL: &str = "https://sepolia.base.org";
/// A week: longer than a confirmed transaction is diagnosed.
const DEFAULT_SIGNED_BYTES_RETENTION: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const MAX_SIGNED_BYTES_RETENTION: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
const BASE_SEPOLIA_RPC_VARIABLES: [&str; 3] =
    ["BASE_SEPOLIA_RPC_PRIMARY", "BASE_SEPOLIA_RPC_BACKUP_1", "BASE_SEPOLIA_RPC_BACKUP_2"];

/// The settings of `registrar serve`.
#[derive(Debug)]
pub struct Settings {
    pub(crate) api: api::Settings,
    pub(crate) admin_listen: SocketAddr,
    pub(crate) chain: chain::Settings,
    pub(crate) store: store::Settings,
    pub(crate) pipeline: pipeline::Settings,
    pub(crate) shutdown_grace: Duration,
    /// Logs, spans and reports.
    pub telemetry: telemetry::Settings,
}

/// The settings of `registrar deploy`.
#[derive(Debug)]
pub struct DeploySettings {
    /// The contract address is not used.
    pub(crate) chain: chain::Settings,
    pub(crate) secrets: telemetry::Secrets,
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
        let api = read_api(args, allow_insecure, &mut errors);
        let admin_listen = read_listen(
            "REGISTRAR_ADMIN_LISTEN",
            args.admin_listen.as_deref(),
            DEFAULT_ADMIN_LISTEN,
            allow_insecure,
            &mut errors,
        );
        let contract = match args.contract_address.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
            Some(text) => {
                errors.parse_or_default("REGISTRAR_CONTRACT_ADDRESS", Some(text), Address::ZERO, parse_contract_address)
            }
            None => {
                errors.add(
                    "REGISTRAR_CONTRACT_ADDRESS",
                    "is required; `registrar deploy` deploys a contract and prints its address",
                );
                Address::ZERO
            }
        };
        let chain = read_chain(&args.network, contract, environment, &mut errors);
        let store = read_store(environment, &mut errors);
        let default_confirmations = if chain.chain_id == ANVIL_CHAIN_ID { 1 } else { 2 };
        let pipeline = pipeline::Settings {
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
            queue_limit: errors.parse_or_default(
                "REGISTRAR_QUEUE_LIMIT",
                args.queue_limit.as_deref(),
                100_000,
                parse_integer_in(1, 100_000_000),
            ),
            daily_budget: errors.parse_or_default(
                "REGISTRAR_DAILY_BUDGET_ETH",
                args.daily_budget_eth.as_deref(),
                None,
                |text| chain::parse_ether(text).map(Some),
            ),
            keep_signed_bytes: errors.parse_or_default(
                "REGISTRAR_KEEP_SIGNED_BYTES",
                args.keep_signed_bytes.as_deref(),
                DEFAULT_SIGNED_BYTES_RETENTION,
                parse_duration_up_to(MAX_SIGNED_BYTES_RETENTION, "is longer than the maximum of ten years"),
            ),
        };
        let shutdown_grace = errors.parse_or_default(
            "REGISTRAR_SHUTDOWN_GRACE",
            args.shutdown_grace.as_deref(),
            Duration::from_secs(20),
            parse_duration_setting,
        );
        let telemetry = read_telemetry(args, environment, &mut errors);
        let settings = Self { api, admin_listen, chain, store, pipeline, shutdown_grace, telemetry };
        if errors.is_empty() { Ok(settings) } else { Err(errors) }
    }

    /// The part of the shutdown grace that is reserved for exporting telemetry.
    pub fn telemetry_flush_timeout(&self) -> Duration {
        if self.telemetry.enabled { (self.shutdown_grace / 4).min(MAX_TELEMETRY_FLUSH) } else { Duration::ZERO }
    }
}

impl DeploySettings {
    /// Validates the arguments and the environment.
    ///
    /// # Errors
    /// All invalid settings at once.
    pub fn read(args: &NetworkArgs, environment: &Environment) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let chain = read_chain(args, Address::ZERO, environment, &mut errors);
        if errors.is_empty() { Ok(Self { chain, secrets: secrets::collect_secrets(environment) }) } else { Err(errors) }
    }
}

fn read_api(args: &ServeArgs, allow_insecure: bool, errors: &mut ConfigErrors) -> api::Settings {
    api::Settings {
        listen: read_listen("REGISTRAR_LISTEN", args.listen.as_deref(), DEFAULT_LISTEN, allow_insecure, errors),
        max_wait: errors.parse_or_default(
            "REGISTRAR_MAX_WAIT",
            args.max_wait.as_deref(),
            Duration::from_secs(300),
            parse_duration_setting,
        ),
        max_waiters: errors.parse_or_default(
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
    errors: &mut ConfigErrors,
) -> SocketAddr {
    let address = errors.parse_or_default(name, text, default, |text| {
        text.replace("localhost:", "127.0.0.1:")
            .parse::<SocketAddr>()
            .map_err(|_| "is not an address with a port; use for example 127.0.0.1:50051")
    });
    if !address.ip().is_loopback() && !allow_insecure {
        let problem = format!(
            "{address} is reachable from other machines without TLS or authentication; set \
             REGISTRAR_ALLOW_INSECURE=true to allow this"
        );
        errors.add(name, problem);
    }
    address
}

fn read_chain(
    args: &NetworkArgs,
    contract: Address,
    environment: &Environment,
    errors: &mut ConfigErrors,
) -> chain::Settings {
    let chain_id =
        errors.parse_or_default("REGISTRAR_CHAIN_ID", args.chain_id.as_deref(), BASE_SEPOLIA_CHAIN_ID, |text| {
            text.parse::<u64>().ok().filter(|id| *id > 0).ok_or("is not a chain id (a positive integer)")
        });
    let endpoints = read_endpoints(environment, errors);
    let signers = read_signers(environment, errors);
    let is_public_chain = chain_id != ANVIL_CHAIN_ID && !endpoints.iter().all(chain::EndpointUrl::is_loopback);
    for signer in signers.iter().filter(|signer| is_public_chain && signer.is_anvil_key()) {
        let problem = format!(
            "the private key of {} is published with anvil, so anyone can spend its funds; use a key of your own \
             (accepted only on chain {ANVIL_CHAIN_ID} or with endpoints on loopback)",
            signer.address()
        );
        errors.add("REGISTRAR_SIGNER_KEYS", problem);
    }
    let max_fee_per_gas = errors.parse_or_default(
        "REGISTRAR_MAX_FEE_GWEI",
        args.max_fee_gwei.as_deref(),
        5_000_000_000,
        chain::parse_gwei,
    );
    chain::Settings { chain_id, endpoints, signers, contract, max_fee_per_gas }
}

fn read_endpoints(environment: &Environment, errors: &mut ConfigErrors) -> Vec<chain::EndpointUrl> {
    let listed = environment.secret("REGISTRAR_RPC_URLS", errors);
    let urls: Vec<(&'static str, String)> = match listed {
        Some(list) => split_list(&list).map(|url| ("REGISTRAR_RPC_URLS", url.to_owned())).collect(),
        None => BASE_SEPOLIA_RPC_VARIABLES
            .into_iter()
            .filter_map(|name| Some((name, environment.secret(name, errors)?)))
            .collect(),
    };
    let urls =
        if urls.is_empty() { vec![("REGISTRAR_RPC_URLS", PUBLIC_BASE_SEPOLIA_RPC_URL.to_owned())] } else { urls };
    let mut endpoints = Vec::new();
    for (position, (name, url)) in urls.iter().enumerate() {
        match chain::EndpointUrl::parse(url) {
            Ok(endpoint) => endpoints.push(endpoint),
            Err(error) => errors.add(name, format!("entry {} {error}", position + 1)),
        }
    }
    chain::disambiguate_hosts(&mut endpoints);
    endpoints
}

fn read_signers(environment: &Environment, errors: &mut ConfigErrors) -> Vec<chain::Signer> {
    const SIGNER_KEYS_VARIABLE: &str = "REGISTRAR_SIGNER_KEYS";
    let before = errors.clone();
    let Some(list) = environment.secret(SIGNER_KEYS_VARIABLE, errors) else {
        if *errors == before {
            errors.add(
                SIGNER_KEYS_VARIABLE,
                "is required: private keys separated by commas; or set REGISTRAR_SIGNER_KEYS_FILE to a file with them",
            );
        }
        return Vec::new();
    };
    let mut signers: Vec<chain::Signer> = Vec::new();
    for (position, key) in split_list(&list).enumerate() {
        match chain::Signer::parse(key) {
            Ok(signer) if signers.iter().any(|known| known.address() == signer.address()) => {
                errors.add(SIGNER_KEYS_VARIABLE, format!("entry {} repeats an earlier key; remove it", position + 1));
            }
            Ok(signer) => signers.push(signer),
            Err(error) => errors.add(SIGNER_KEYS_VARIABLE, format!("entry {} {error}", position + 1)),
        }
    }
    signers
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

fn parse_contract_address(text: &str) -> Result<Address, String> {
    parse_address(text)
        .map_err(|error| format!("{error}; `registrar deploy` deploys a contract and prints its address"))
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
    fn the_defaults_are_safe() {
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
    fn all_errors_are_reported_at_once_without_secrets() {
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
    fn a_secret_is_read_from_a_file_but_not_from_both() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{OWN_KEY}\n")).unwrap();
        let path = file.path().to_str().unwrap();
        let from_file = environment(&[("REGISTRAR_SIGNER_KEYS_FILE", path)]);
        assert_eq!(Settings::read(&args(), &from_file).unwrap().chain.signers.len(), 1);
        let both = environment(&[("REGISTRAR_SIGNER_KEYS_FILE", path), ("REGISTRAR_SIGNER_KEYS", OWN_KEY)]);
        assert!(Settings::read(&args(), &both).unwrap_err().to_string().contains("set only one of them"));
        let missing = environment(&[("REGISTRAR_SIGNER_KEYS_FILE", "/nonexistent")]);
        assert!(Settings::read(&args(), &missing).unwrap_err().to_string().contains("cannot be read"));
    }
}
