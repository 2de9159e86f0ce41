//! Development settings, over the ones the user gives.

use crate::{
    cli::DevArgs,
    config::{Environment, NetworkArgs, ServeArgs},
    telemetry::RECOVERED_TARGET,
};
use std::{net::TcpListener, path::Path};

/// Anvil's first three accounts, published at <https://getfoundry.sh/anvil/reference/anvil/>. Worth nothing anywhere else.
const ANVIL_SIGNER_KEYS: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80,\
                           0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d,\
                           0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a";
const DEV_CHAIN_ID: &str = "31337";
const DEV_LISTEN: &str = "127.0.0.1:50051";
const DEV_ADMIN_LISTEN: &str = "127.0.0.1:9464";
const LOOPBACK_ANY_PORT: &str = "127.0.0.1:0";

/// The user's environment, with our chain, signers and database in it: a real key must not get near a development stack.
pub(super) fn with_dev_variables(of_user: Environment, rpc: &str, folder: &Path) -> Environment {
    // Whoever tries things out wants to see each of them. TRACE_SAMPLE_RATE, which is an option, goes before this one.
    let rate = of_user.get("SENTRY_TRACES_SAMPLE_RATE").unwrap_or("1.0").to_owned();
    let database = format!("sqlite://{}", folder.join("registrar.db").display());
    let set = [
        ("REGISTRAR_RPC_URLS", rpc.to_owned()),
        ("REGISTRAR_SIGNER_KEYS", ANVIL_SIGNER_KEYS.to_owned()),
        ("REGISTRAR_DATABASE_URL", database),
        ("SENTRY_TRACES_SAMPLE_RATE", rate),
    ];
    // An empty variable counts as absent, and a secret may not be given twice.
    let files = ["REGISTRAR_RPC_URLS_FILE", "REGISTRAR_SIGNER_KEYS_FILE", "REGISTRAR_DATABASE_URL_FILE"];
    of_user.with(set).with(files.map(|name| (name, String::new())))
}

/// The user's arguments, with what only `dev` can know; the contract is added once it is deployed.
pub(super) fn with_dev_args(args: &DevArgs) -> ServeArgs {
    let once = args.once.is_some();
    let address = |given: &Option<String>, usual: &str| match given {
        Some(given) => Some(given.clone()),
        None if once || TcpListener::bind(usual).is_err() => Some(LOOPBACK_ANY_PORT.to_owned()),
        None => Some(usual.to_owned()),
    };
    ServeArgs {
        listen: address(&args.serve.listen, DEV_LISTEN),
        admin_listen: address(&args.serve.admin_listen, DEV_ADMIN_LISTEN),
        network: NetworkArgs { chain_id: Some(DEV_CHAIN_ID.to_owned()), ..args.serve.network.clone() },
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
    fn the_users_keys_and_database_stay_out_of_a_development_stack() {
        let folder = tempfile::tempdir().unwrap();
        let of_user = Environment::default().with([
            ("REGISTRAR_SIGNER_KEYS_FILE", "/run/secrets/keys".to_owned()),
            ("REGISTRAR_DATABASE_URL", "postgres://user:password@production/db".to_owned()),
            ("REGISTRAR_RPC_URLS", "https://sepolia.base.org".to_owned()),
        ]);
        let environment = with_dev_variables(of_user, "http://127.0.0.1:8545", folder.path());
        let mut serve = with_dev_args(&args(&["--chain-id", "84532"]));
        serve.contract_address = Some("0x5FbDB2315678afecb367f032d93F642f64180aa3".to_owned());
        let settings = Settings::read(&serve, &environment).unwrap();
        assert_eq!(settings.chain.chain_id, 31337);
        assert_eq!(settings.chain.signers.len(), 3);
        assert_eq!(settings.chain.endpoints.len(), 1);
        assert!(settings.chain.endpoints[0].is_loopback());
        assert!(format!("{:?}", settings.store).find("production").is_none());
    }

    #[test]
    fn a_development_stack_keeps_every_trace_unless_the_user_names_a_rate() {
        let folder = tempfile::tempdir().unwrap();
        let rate = |words: &[&str], variable: Option<&str>| {
            let named = variable.map(|rate| ("SENTRY_TRACES_SAMPLE_RATE", rate.to_owned()));
            let environment =
                with_dev_variables(Environment::default().with(named), "http://127.0.0.1:8545", folder.path());
            let mut serve = with_dev_args(&args(words));
            serve.contract_address = Some("0x5FbDB2315678afecb367f032d93F642f64180aa3".to_owned());
            Settings::read(&serve, &environment).unwrap().telemetry.sample_rate.get()
        };
        assert_eq!(rate(&[], None), 1.0);
        assert_eq!(rate(&[], Some("0.5")), 0.5);
        assert_eq!(rate(&["--trace-sample-rate", "0.25"], Some("0.5")), 0.25);
    }

    #[test]
    fn one_file_takes_any_port_and_a_taken_port_is_avoided() {
        assert_eq!(with_dev_args(&args(&["--once", "a.pdf"])).listen.as_deref(), Some(LOOPBACK_ANY_PORT));
        let given = args(&["--once", "a.pdf", "--listen", "127.0.0.1:7000"]);
        assert_eq!(with_dev_args(&given).listen.as_deref(), Some("127.0.0.1:7000"));
        let _taken = TcpListener::bind(DEV_LISTEN);
        assert_eq!(with_dev_args(&args(&[])).listen.as_deref(), Some(LOOPBACK_ANY_PORT));
    }
}
