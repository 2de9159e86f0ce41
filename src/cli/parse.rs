//! Arguments that cannot be read. What was typed is never repeated, for it may be a secret: only names of ours, and flags
//! that look like a flag.

use super::{
    Exit,
    args::{Arguments, Command},
    error::CliError,
    invocation::Invocation,
    output::print_line,
};
use clap::{
    CommandFactory, FromArgMatches,
    error::{ContextKind, ContextValue, ErrorKind},
};
use std::{borrow::Cow, error::Error as _, ffi::OsString};

const SECRETS_HINT: &str = "\
Secrets are never arguments: give them in the environment (REGISTRAR_RPC_URLS,
REGISTRAR_SIGNER_KEYS, REGISTRAR_DATABASE_URL), or in a file named by the same
variable with _FILE.";
/// What an option for a secret would have in its name.
const SECRET_OPTION_WORDS: [&str; 8] = ["key", "secret", "private", "password", "mnemonic", "seed", "rpc", "database"];
/// Hex digits of a private key, and words of the shortest mnemonic (BIP-39).
const PRIVATE_KEY_HEX_DIGITS: usize = 64;
const MIN_MNEMONIC_WORDS: usize = 12;
/// The longest flag that is repeated; ours are shorter.
const MAX_FLAG_CHARS: usize = 32;

/// What to print instead of running a command.
#[derive(Debug)]
pub enum EarlyExit {
    /// Help or the version was asked for.
    Help(clap::Error),
    /// What is wrong with the arguments.
    UsageError(String),
    /// The same for a program, which asked for JSON.
    UsageErrorJson(String),
}

impl EarlyExit {
    /// Prints it: help to standard output, faults to standard error.
    pub fn print(&self) -> Exit {
        match self {
            // Fails only when standard output is closed: nobody reads it.
            Self::Help(help) => help.print().map_or(Exit::Failed, |()| Exit::Done),
            Self::UsageError(text) => {
                eprintln!("{text}");
                Exit::UsageError
            }
            Self::UsageErrorJson(line) => {
                print_line(line);
                Exit::UsageError
            }
        }
    }
}

/// Reads the arguments.
///
/// # Errors
/// Help, the version, or what is wrong.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, EarlyExit> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let command = Arguments::command()
        .mut_subcommands(|command| command.mut_args(|arg| arg.hide_env_values(true)))
        // What `dev` sets itself is no option there.
        .mut_subcommand("dev", |dev| {
            dev.mut_arg("contract_address", |arg| arg.hide(true)).mut_arg("chain_id", |arg| arg.hide(true))
        });
    command
        .try_get_matches_from(&arguments)
        .and_then(|matches| Arguments::from_arg_matches(&matches))
        .map(|arguments| arguments.command)
        .map_err(|error| {
            let program = arguments.first().map_or_else(Invocation::from_process, |name| Invocation::from_argv0(name));
            let words: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
            to_early_exit(error, &program, &words)
        })
}

fn to_early_exit(error: clap::Error, program: &Invocation, words: &[Cow<'_, str>]) -> EarlyExit {
    // clap's own words are right for help; for faults they repeat what was typed.
    if error.kind() == ErrorKind::DisplayHelp || error.kind() == ErrorKind::DisplayVersion {
        return EarlyExit::Help(error);
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return EarlyExit::UsageError(error.render().to_string());
    }
    // What was asked for is not known when the arguments cannot be read: but it stands there.
    if words.iter().take_while(|word| *word != "--").any(|word| word == "--json") {
        return EarlyExit::UsageErrorJson(
            CliError::invalid_arguments(describe_error(&error)).to_json(program).to_string(),
        );
    }
    let subcommand = words.get(1).map(AsRef::as_ref);
    let known = Arguments::command().get_subcommands().any(|command| Some(command.get_name()) == subcommand);
    let help = subcommand.filter(|_| known).map_or("--help".to_owned(), |name| format!("{name} --help"));
    let mut text = format!("error: {}\n", describe_error(&error));
    if matches!(subcommand, Some("serve" | "deploy")) || may_contain_secret(&error, words) {
        text.push_str(&format!("\n{SECRETS_HINT}\n"));
    }
    text.push_str(&format!("\nTry `{}`.", program.local_command(&help)));
    EarlyExit::UsageError(text)
}

/// Whether somebody seems to have given a secret, or looked for an option that takes one.
fn may_contain_secret(error: &clap::Error, words: &[Cow<'_, str>]) -> bool {
    let faulty = [ContextKind::InvalidArg, ContextKind::InvalidSubcommand, ContextKind::InvalidValue];
    if faulty.into_iter().filter_map(|kind| error_context(error, kind)).any(|text| looks_like_secret(&text)) {
        return true;
    }
    // clap names an option that it does not know without its value, which hangs on it or follows.
    let Some(option) = error_context(error, ContextKind::InvalidArg).filter(|_| is_unknown_argument(error)) else {
        return false;
    };
    let takes_one = flag_name(&option).is_some_and(|name| SECRET_OPTION_WORDS.iter().any(|word| name.contains(word)));
    takes_one || words.iter().skip_while(|word| !word.starts_with(&option)).take(2).any(|word| looks_like_secret(word))
}

/// A private key, a URL that may hold one, or a mnemonic.
fn looks_like_secret(text: &str) -> bool {
    let key = text.split(|c: char| !c.is_ascii_hexdigit()).any(|digits| digits.len() >= PRIVATE_KEY_HEX_DIGITS);
    key || text.contains("://") || text.split_whitespace().count() >= MIN_MNEMONIC_WORDS
}

fn is_unknown_argument(error: &clap::Error) -> bool {
    error.kind() == ErrorKind::UnknownArgument || error.kind() == ErrorKind::InvalidSubcommand
}

fn error_context(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    }
}

fn describe_error(error: &clap::Error) -> String {
    let text = |kind| error_context(error, kind);
    let named = text(ContextKind::InvalidArg).unwrap_or_default();
    if is_unknown_argument(error) {
        let suggestion = text(ContextKind::SuggestedArg).or_else(|| text(ContextKind::SuggestedSubcommand));
        let suggestion = suggestion.map(|name| format!(": did you mean {name}?")).unwrap_or_default();
        return match flag_name(&named) {
            Some(flag) => format!("there is no option {flag}{suggestion}"),
            None if error.kind() == ErrorKind::InvalidSubcommand => format!("there is no such command{suggestion}"),
            None => format!(
                "an argument belongs to no option (it is not repeated here, for it may be a secret){suggestion}"
            ),
        };
    }
    if error.kind() == ErrorKind::MissingRequiredArgument {
        return format!("missing: {named}");
    }
    if error.kind() == ErrorKind::ArgumentConflict {
        return format!("{named} is given twice, or together with what it excludes");
    }
    let values = text(ContextKind::ValidValue)
        .filter(|values| !values.is_empty())
        .map(|values| format!("takes one of {values}"));
    let given = text(ContextKind::InvalidValue).is_some_and(|value| !value.is_empty());
    let problem = match (values, error.source()) {
        (Some(values), _) => values,
        (None, Some(source)) if given => source.to_string(),
        (None, _) => "needs one value".to_owned(),
    };
    if named.is_empty() { "the arguments cannot be read".to_owned() } else { format!("{named}: {problem}") }
}

/// The name of a flag, without the value that may hang on it. `None` when it does not look like a flag's name.
fn flag_name(text: &str) -> Option<String> {
    let name = text.split('=').next().unwrap_or_default();
    if let Some(long) = name.strip_prefix("--") {
        let plain = !long.is_empty() && long.chars().all(|c| c.is_ascii_lowercase() || c == '-' || c == '_');
        return (plain && long.len() <= MAX_FLAG_CHARS).then(|| name.to_owned());
    }
    // `-kSECRET` hangs its value on the letter.
    let letter = name.strip_prefix('-')?.chars().next()?;
    letter.is_ascii_alphabetic().then(|| format!("-{letter}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";

    fn parse_usage_error(arguments: &[&str]) -> String {
        let arguments = ["registrar"].iter().chain(arguments).map(OsString::from);
        match parse(arguments) {
            Err(EarlyExit::UsageError(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn no_fault_repeats_what_was_typed() {
        let with_value = format!("--signer-keys={SECRET}");
        let hanging = format!("-k{SECRET}");
        let as_flag = format!("--{SECRET}");
        for arguments in [
            vec![SECRET],
            vec!["serve", SECRET],
            vec!["serve", "--signer-keys", SECRET],
            vec!["serve", &with_value],
            vec!["serve", &hanging],
            vec!["serve", &as_flag],
            vec!["deploy", "--private-key", SECRET],
            vec!["deploy", "--owner", SECRET],
            vec!["deploy", "--owner", SECRET, SECRET],
            vec!["dev", "--block-time", SECRET],
            vec!["dev", "--once", "a", SECRET],
            vec!["watch", SECRET],
            vec!["list", "--limit", SECRET],
            vec!["list", "--state", SECRET],
            vec!["register", "a", SECRET, "--case", "1"],
            vec!["register", "a", "--case", "c", "--wait-for", SECRET],
            vec!["register", "a", "--case", "c", "--wait-timeout", SECRET],
        ] {
            let text = parse_usage_error(&arguments);
            assert!(!text.to_lowercase().contains("59c6"), "{arguments:?}: {text}");
        }
    }

    #[test]
    fn an_unknown_flag_is_named_and_the_place_of_secrets_is_told() {
        let text = parse_usage_error(&["serve", "--signer-keys", SECRET]);
        assert!(text.contains("--signer-keys") && text.contains("_FILE"), "{text}");
        let text = parse_usage_error(&["serve", "--lisen=127.0.0.1:1"]);
        assert!(text.contains("--lisen") && text.contains("--listen"), "{text}");
        assert!(parse_usage_error(&["register", "a"]).contains("--case"));
        assert!(parse_usage_error(&["register", "a", "--case"]).contains("needs one value"));
        assert!(parse_usage_error(&["register", "a", "--case", "x", "--wait-for", "soon"]).contains("finalized"));
        assert!(parse_usage_error(&["register", "a", "--case", "a@b"]).contains("--case"));
        assert!(parse_usage_error(&["explain", SECRET]).contains("status` takes a document's"));
        for command in ["watch", "explain"] {
            let text = parse_usage_error(&[command, "foo"]);
            assert!(text.contains("<ID>: is no registration id (a UUID, as `"), "{text}");
        }
        assert!(parse_usage_error(&["frobnicate"]).contains("no such command"));
    }

    #[test]
    fn a_program_that_asked_for_json_gets_the_fault_as_json() {
        for (arguments, words) in [
            (&["explain", "nosuch", "--json"][..], "<ID>: is no registration id"),
            (&["list", "--limit", "0", "--json"], "--limit"),
            (&["register", "a", "--json"], "missing: --case"),
            (&["list", "--json", "--frobnicate"], "no option --frobnicate"),
        ] {
            let answer = parse(["registrar"].iter().chain(arguments).map(OsString::from));
            let Err(EarlyExit::UsageErrorJson(line)) = answer else { panic!("{arguments:?}: {answer:?}") };
            let error: serde_json::Value = serde_json::from_str(&line).unwrap();
            let error = &error["error"];
            assert!(error["message"].as_str().unwrap().contains(words), "{line}");
            assert_eq!((&error["reason"], &error["exitCode"]), (&"INVALID_ARGUMENTS".into(), &64.into()));
        }
        assert!(parse_usage_error(&["register", "a", "--", "--json"]).starts_with("error: "));
    }

    #[test]
    fn secrets_are_spoken_of_where_one_seems_to_be_meant() {
        let url = format!("https://rpc.example/{SECRET}");
        let hanging = format!("--owner={SECRET}");
        for arguments in [
            vec!["serve", "--lisen"],
            vec!["deploy", "--owner", "me"],
            vec!["dev", "--rpc-url", &url],
            vec!["dev", "--signer-keys", "x"],
            vec!["dev", "--once", "a", SECRET],
            vec!["dev", "--block-time", &SECRET[2..]],
            vec!["dev", &hanging],
            vec!["register", "a", "--case", &url],
            vec!["register", "a", "--case", "one two three four five six seven eight nine ten eleven twelve"],
            vec![SECRET],
        ] {
            assert!(parse_usage_error(&arguments).contains("Secrets are never arguments"), "{arguments:?}");
        }
        for arguments in [
            vec!["dev", "--case", "a b"],
            vec!["dev", "--block-time", "soon"],
            vec!["dev", "--blok-time", "5"],
            vec!["register", SECRET],
            vec!["register", SECRET, "--case", "a b"],
            vec!["list", "--page-tokn", "x"],
            vec!["list", "--page-token"],
            vec!["watch", "foo"],
            vec!["frobnicate"],
        ] {
            assert!(!parse_usage_error(&arguments).contains("Secrets are never arguments"), "{arguments:?}");
        }
    }

    #[test]
    fn no_help_is_wider_than_80_columns_or_promises_what_is_not_there() {
        let mut top = Arguments::command();
        top.build();
        for command in std::iter::once(&top).chain(top.get_subcommands()) {
            let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for help in
                [examples, command.clone().render_help().to_string(), command.clone().render_long_help().to_string()]
            {
                for line in help.lines() {
                    assert!(line.chars().count() <= 80, "{}: {line}", command.get_name());
                }
                assert!(!help.contains("failover"), "{}", command.get_name());
            }
        }
    }

    #[test]
    fn help_and_version_are_no_faults() {
        for arguments in [["registrar", "--help"], ["registrar", "--version"]] {
            assert!(matches!(parse(arguments.iter().map(OsString::from)), Err(EarlyExit::Help(_))));
        }
        let of_subcommand = ["registrar", "help", "register"].iter().map(OsString::from);
        assert!(matches!(parse(of_subcommand), Err(EarlyExit::Help(help)) if help.to_string().contains("--wait-for")));
        for command in ["serve", "deploy"] {
            let Err(EarlyExit::Help(help)) = parse(["registrar", command, "--help"].iter().map(OsString::from)) else {
                panic!("no help");
            };
            let help = help.to_string();
            for name in ["REGISTRAR_RPC_URLS", "REGISTRAR_SIGNER_KEYS", "REGISTRAR_DATABASE_URL", "_FILE"] {
                assert!(help.contains(name), "{command}: {name}");
            }
        }
    }
}
