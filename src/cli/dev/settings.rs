//! Development settings, which override those of the user.

use crate::{
    cli::args::DevArgs,
    config::{Environment, NetworkArgs, ServeArgs},
    telemetry::RECOVERED_TARGET,
};
use std::{net::TcpListener, path::Path};

/// Anvil's first three accounts (<https://getfoundry.sh/anvil/reference/anvil/>), without value on any other chain.
const ANVIL_SIGNER_KEYS: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80,\
                           0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d,\
                           0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a";
const DEV_CHAIN_ID: &str = "31337";
const DEV_LISTEN: &str = "127.0.0.1:50051";
const DEV_ADMIN_LISTEN: &str = "127.0.0.1:9464";
const LOOPBACK_ANY_PORT: &str = "127.0.0.1:0";

/// The user's environment with chain, signers and database replaced: a development stack must not use a real key.
pub(super) fn with_dev_variables(user_environment: Environment, rpc_url: &str, data_dir: &Path) -> Environment {
    // Keeps every trace. The option TRACE_SAMPLE_RATE takes precedence over this variable.
    let rate = user_environment.get("SENTRY_TRACES_SAMPLE_RATE").unwrap_or("1.0").to_owned();
    let database = format!("sqlite://{}", data_dir.join("registrar.db").display());
    let variables = [
        ("REGISTRAR_RPC_URLS", rpc_url.to_owned()),
        ("REGISTRAR_SIGNER_KEYS", ANVIL_SIGNER_KEYS.to_owned()),
        ("REGISTRAR_SIGNERS", String::new()),
        ("REGISTRAR_DATABASE_URL", database),
        ("SENTRY_TRACES_SAMPLE_RATE", rate),
    ];
    // An empty variable counts as absent; a secret given twice is an error.
    let file_variables = [
        "REGISTRAR_RPC_URLS_FILE",
        "REGISTRAR_SIGNER_KEYS_FILE",
        "REGISTRAR_SIGNERS_FILE",
        "REGISTRAR_DATABASE_URL_FILE",
    ];
    user_environment.with(variables).with(file_variables.map(|name| (name, String::new())))
}

/// The user's arguments with the development chain and free ports; the contract is added after its deployment.
pub(super) fn with_dev_args(args: &DevArgs) -> ServeArgs {
    let once = args.once.is_some();
    let address = |given: &Option<String>, default: &str| match given {
        Some(given) => Some(given.clone()),
        None if once || TcpListener::bind(default).is_err() => Some(LOOPBACK_ANY_PORT.to_owned()),
        None => Some(default.to_owned()),
    };
    ServeArgs {
        listen: address(&args.serve.listen, DEV_LISTEN),
        admin_listen: address(&args.serve.admin_listen, DEV_ADMIN_LISTEN),
        network: NetworkArgs { chain_id: Some(DEV_CHAIN_ID.to_owned()), ..args.serve.network.clone() },
        // Its own client uses http://.
        tls_cert_file: None,
        tls_key_file: None,
        tls_client_ca_file: None,
        tls_client_auth: None,
        jwt_issuer: None,
        jwt_audience: None,
        jwt_jwks: None,
        // Its ETH is not real.
        daily_budget_eth: Some(args.serve.daily_budget_eth.clone().unwrap_or_else(|| "unlimited".to_owned())),
        log: Some(args.serve.log.clone().unwrap_or_else(|| format!("warn,{RECOVERED_TARGET}=info"))),
        ..args.serve.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli, config::Settings};

    fn args(words: &[&str]) -> DevArgs {
        match cli::parse(["registrar", "dev"].iter().chain(words).map(std::ffi::OsString::from)) {
            Ok(cli::Command::Dev(args)) => *args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn keys_and_database_of_the_user_are_not_used() {
        let data_dir = tempfile::tempdir().unwrap();
        let user_environment = Environment::default().with([
            ("REGISTRAR_SIGNER_KEYS_FILE", "/run/secrets/keys".to_owned()),
            ("REGISTRAR_DATABASE_URL", "postgres://user:password@production/db".to_owned()),
            ("REGISTRAR_RPC_URLS", "https://sepolia.base.org".to_owned()),
        ]);
        let environment = with_dev_variables(user_environment, "http://127.0.0.1:8545", data_dir.path());
        let mut serve = with_dev_args(&args(&["--chain-id", "84532"]));
        serve.contract_address = Some("0x5FbDB2315678afecb367f032d93F642f64180aa3".to_owned());
        let settings = Settings::read(&serve, &environment).unwrap();
        assert_eq!(settings.chain.chain_id, 31337);
        assert_eq!(settings.chain.signers.specs.len(), 3);
        assert_eq!(settings.chain.endpoints.len(), 1);
        assert!(settings.chain.endpoints[0].is_loopback());
        assert!(format!("{:?}", settings.store).find("production").is_none());
    }

    #[test]
    fn every_trace_is_kept_unless_the_user_sets_a_rate() {
        let data_dir = tempfile::tempdir().unwrap();
        let rate = |words: &[&str], variable: Option<&str>| {
            let user_variable = variable.map(|rate| ("SENTRY_TRACES_SAMPLE_RATE", rate.to_owned()));
            let environment = with_dev_variables(
                Environment::default().with(user_variable),
                "http://127.0.0.1:8545",
                data_dir.path(),
            );
            let mut serve = with_dev_args(&args(words));
            serve.contract_address = Some("0x5FbDB2315678afecb367f032d93F642f64180aa3".to_owned());
            Settings::read(&serve, &environment).unwrap().telemetry.sample_rate.get()
        };
        assert_eq!(rate(&[], None), 1.0);
        assert_eq!(rate(&[], Some("0.5")), 0.5);
        assert_eq!(rate(&["--trace-sample-rate", "0.25"], Some("0.5")), 0.25);
    }

    #[test]
    fn a_free_port_is_used_for_one_file_or_if_the_default_is_in_use() {
        assert_eq!(with_dev_args(&args(&["--once", "a.pdf"])).listen.as_deref(), Some(LOOPBACK_ANY_PORT));
        let given = args(&["--once", "a.pdf", "--listen", "127.0.0.1:7000"]);
        assert_eq!(with_dev_args(&given).listen.as_deref(), Some("127.0.0.1:7000"));
        let _taken = TcpListener::bind(DEV_LISTEN);
        assert_eq!(with_dev_args(&args(&[])).listen.as_deref(), Some(LOOPBACK_ANY_PORT));
    }
}
