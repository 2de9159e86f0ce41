//! The chain, its endpoints and the contract.

use super::{ConfigErrors, Environment, NetworkArgs, parsers::split_list, signers};
use crate::chain::{self, SignerSettings, parse_address};
use alloy::primitives::Address;

const BASE_SEPOLIA_CHAIN_ID: u64 = 84532;
pub(super) const ANVIL_CHAIN_ID: u64 = 31337;
const PUBLIC_BASE_SEPOLIA_RPC_URL: &str = "https://sepolia.base.org";
const BASE_SEPOLIA_RPC_VARIABLES: [&str; 3] =
    ["BASE_SEPOLIA_RPC_PRIMARY", "BASE_SEPOLIA_RPC_BACKUP_1", "BASE_SEPOLIA_RPC_BACKUP_2"];

/// Whether a command signs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NeedsSigners {
    Yes,
    No,
}

pub(super) fn read_contract(text: Option<&str>, errors: &mut ConfigErrors) -> Address {
    const CONTRACT_VARIABLE: &str = "REGISTRAR_CONTRACT_ADDRESS";
    match text.map(str::trim).filter(|text| !text.is_empty()) {
        Some(text) => errors.parse_or_default(CONTRACT_VARIABLE, Some(text), Address::ZERO, parse_contract_address),
        None => {
            errors.add(CONTRACT_VARIABLE, "is required; `registrar deploy` deploys a contract and prints its address");
            Address::ZERO
        }
    }
}

pub(super) fn read_chain(
    args: &NetworkArgs,
    contract: Address,
    needs_signers: NeedsSigners,
    environment: &Environment,
    errors: &mut ConfigErrors,
) -> chain::Settings {
    let chain_id =
        errors.parse_or_default("REGISTRAR_CHAIN_ID", args.chain_id.as_deref(), BASE_SEPOLIA_CHAIN_ID, |text| {
            text.parse::<u64>().ok().filter(|id| *id > 0).ok_or("is not a chain id (a positive integer)")
        });
    let endpoints = read_endpoints(environment, errors);
    let is_public_chain = chain_id != ANVIL_CHAIN_ID && !endpoints.iter().all(chain::EndpointUrl::is_loopback);
    let signers = match needs_signers {
        NeedsSigners::Yes => signers::read(environment, is_public_chain, errors),
        NeedsSigners::No => SignerSettings::default(),
    };
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
    let mut endpoints: Vec<chain::EndpointUrl> = Vec::new();
    for (position, (name, url)) in urls.iter().enumerate() {
        match chain::EndpointUrl::parse(url) {
            Ok(endpoint) if endpoints.iter().any(|known| known.is_same(&endpoint)) => {
                let problem = "repeats an earlier URL; remove it: decisions that need two endpoints need two nodes";
                errors.add(name, format!("entry {} {problem}", position + 1));
            }
            Ok(endpoint) => endpoints.push(endpoint),
            Err(error) => errors.add(name, format!("entry {} {error}", position + 1)),
        }
    }
    chain::disambiguate_hosts(&mut endpoints);
    endpoints
}

fn parse_contract_address(text: &str) -> Result<Address, String> {
    parse_address(text)
        .map_err(|error| format!("{error}; `registrar deploy` deploys a contract and prints its address"))
}
