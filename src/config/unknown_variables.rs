//! Variables that look like ours and are none: a setting with a slip in its name would be ignored in silence.

use super::{Environment, ServeArgs};
use clap::Args;

/// What the settings are read from besides the options of `serve`; the client commands, the development stack and the tests read the last
/// ones. A secret may stand in a file as well.
const SECRET_VARIABLES: [&str; 4] =
    ["REGISTRAR_RPC_URLS", "REGISTRAR_SIGNER_KEYS", "REGISTRAR_DATABASE_URL", "REGISTRAR_USER_ID_SALT"];
const OTHER_VARIABLES: [&str; 5] = [
    "REGISTRAR_SERVER",
    "REGISTRAR_ANVIL",
    "REGISTRAR_COMMIT",
    "REGISTRAR_SIMULATION_CASES",
    "REGISTRAR_SIMULATION_SEED",
];
/// A name this alike, of at most 1, is taken for the one that was meant.
const MIN_NAME_SIMILARITY: f64 = 0.8;

/// The variables with our prefix that nothing reads, each with the name that was probably meant.
///
/// Kubernetes gives every pod the variables of a service called `registrar` (`REGISTRAR_SERVICE_HOST`, `REGISTRAR_PORT`,
/// `REGISTRAR_PORT_50051_TCP_ADDR`): nobody wrote those.
pub fn unknown_variables(environment: &Environment) -> Vec<(String, Option<String>)> {
    let known = known_variables();
    let injected = |name: &str| {
        name == "REGISTRAR_PORT" || name.starts_with("REGISTRAR_SERVICE_") || name.starts_with("REGISTRAR_PORT_")
    };
    let ours = environment.names().into_iter().filter(|name| name.starts_with("REGISTRAR_") && !injected(name));
    let unknown = ours.filter(|name| !known.iter().any(|known| known == name));
    unknown.map(|name| (name.to_owned(), suggest_name(name, &known))).collect()
}

fn known_variables() -> Vec<String> {
    let options = ServeArgs::augment_args(clap::Command::new("serve"));
    let options = options.get_arguments().filter_map(|option| Some(option.get_env()?.to_str()?.to_owned()));
    let files = SECRET_VARIABLES.iter().map(|name| format!("{name}_FILE"));
    let plain = SECRET_VARIABLES.iter().chain(&OTHER_VARIABLES).map(|name| (*name).to_owned());
    options.chain(plain).chain(files).filter(|name| name.starts_with("REGISTRAR_")).collect()
}

fn suggest_name(name: &str, known: &[String]) -> Option<String> {
    let alike = |other: &&String| strsim::normalized_damerau_levenshtein(name, other);
    let best = known.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)))?;
    (alike(&best) >= MIN_NAME_SIMILARITY).then(|| best.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_in_a_name_is_found_and_what_kubernetes_injects_is_not_one() {
        let of = |name: &str| unknown_variables(&Environment::default().with([(name, "1".to_owned())]));
        for (name, meant) in [
            ("REGISTRAR_CHAIN_IDD", Some("REGISTRAR_CHAIN_ID")),
            ("REGISTRAR_SIGNER_KEY", Some("REGISTRAR_SIGNER_KEYS")),
            ("REGISTRAR_DATABASE_URL_FIEL", Some("REGISTRAR_DATABASE_URL_FILE")),
            ("REGISTRAR_WHATEVER_THIS_IS", None),
        ] {
            assert_eq!(of(name), [(name.to_owned(), meant.map(str::to_owned))]);
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
            assert_eq!(of(name), [], "{name}");
        }
    }
}
