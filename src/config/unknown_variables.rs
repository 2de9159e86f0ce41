//! Variables with our prefix that are not settings: a misspelt setting would be ignored silently.

use super::{Environment, ServeArgs};
use clap::Args;

/// Each may also be given as a file by the same name with `_FILE`.
const SECRET_VARIABLES: [&str; 4] =
    ["REGISTRAR_RPC_URLS", "REGISTRAR_SIGNER_KEYS", "REGISTRAR_DATABASE_URL", "REGISTRAR_USER_ID_SALT"];
/// Read by the client commands, the development stack, the build and the tests.
const OTHER_VARIABLES: [&str; 5] = [
    "REGISTRAR_SERVER",
    "REGISTRAR_ANVIL",
    "REGISTRAR_COMMIT",
    "REGISTRAR_SIMULATION_CASES",
    "REGISTRAR_SIMULATION_SEED",
];
/// From 0 to 1. A name at least this similar is suggested.
const MIN_NAME_SIMILARITY: f64 = 0.8;

/// The variables with our prefix that are not settings, each with the setting that was probably meant.
///
/// Excludes the variables that Kubernetes adds to every pod beside a service called `registrar`, such as
/// `REGISTRAR_SERVICE_HOST`, `REGISTRAR_PORT` and `REGISTRAR_PORT_50051_TCP_ADDR`.
pub fn unknown_variables(environment: &Environment) -> Vec<(String, Option<String>)> {
    let known = known_variables();
    let injected = |name: &str| {
        name == "REGISTRAR_PORT" || name.starts_with("REGISTRAR_SERVICE_") || name.starts_with("REGISTRAR_PORT_")
    };
    let candidates = environment.names().into_iter().filter(|name| name.starts_with("REGISTRAR_") && !injected(name));
    let unknown = candidates.filter(|name| !known.iter().any(|known| known == name));
    unknown.map(|name| (name.to_owned(), suggest_name(name, &known))).collect()
}

fn known_variables() -> Vec<String> {
    let options = ServeArgs::augment_args(clap::Command::new("serve"));
    let options = options.get_arguments().filter_map(|option| Some(option.get_env()?.to_str()?.to_owned()));
    let files = SECRET_VARIABLES.iter().map(|name| format!("{name}_FILE"));
    let plain = SECRET_VARIABLES.iter().chain(&OTHER_VARIABLES).map(|name| (*name).to_owned());
    options.chain(plain).chain(files).filter(|name| name.starts_with("REGISTRAR_")).collect()
}

/// A setting that begins with this name, such as one whose unit was left out; else the most similar one.
fn suggest_name(name: &str, known: &[String]) -> Option<String> {
    let beginning = format!("{name}_");
    if let Some(longer) = known.iter().filter(|other| other.starts_with(&beginning)).min_by_key(|other| other.len()) {
        return Some(longer.clone());
    }
    let similarity = |other: &&String| strsim::normalized_damerau_levenshtein(name, other);
    let best = known.iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)))?;
    (similarity(&best) >= MIN_NAME_SIMILARITY).then(|| best.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_setting_is_found_and_kubernetes_variables_are_ignored() {
        let unknown = |name: &str| unknown_variables(&Environment::default().with([(name, "1".to_owned())]));
        for (name, meant) in [
            ("REGISTRAR_CHAIN_IDD", Some("REGISTRAR_CHAIN_ID")),
            ("REGISTRAR_MAX_FEE", Some("REGISTRAR_MAX_FEE_GWEI")),
            ("REGISTRAR_SIGNER_KEY", Some("REGISTRAR_SIGNER_KEYS")),
            ("REGISTRAR_DATABASE_URL_FIEL", Some("REGISTRAR_DATABASE_URL_FILE")),
            ("REGISTRAR_WHATEVER_THIS_IS", None),
        ] {
            assert_eq!(unknown(name), [(name.to_owned(), meant.map(str::to_owned))]);
        }
        for name in [
            "REGISTRAR_CHAIN_ID",
            "REGISTRAR_USER_ID_SALT_FILE",
            "REGISTRAR_SERVER",
            "REGISTRAR_PORT",
            "REGISTRAR_PORT_50051_TCP_ADDR",
            "REGISTRAR_SERVICE_HOST",
            "REGISTRAR_SERVICE_PORT_GRPC",
            "PATH",
        ] {
            assert_eq!(unknown(name), [], "{name}");
        }
    }
}
