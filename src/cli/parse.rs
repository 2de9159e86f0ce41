//! Reads the arguments. Errors never repeat what was typed, because it may be a secret, except for names of options and
//! of existing files.

use super::{
    Exit,
    args::{Arguments, Command},
    error::CliError,
    error_text::to_json,
    help,
    invocation::Invocation,
    leading_options::move_behind_command,
    output::print_line,
};
use crate::config::may_contain_private_key;
use clap::{
    CommandFactory, FromArgMatches,
    error::{ContextKind, ContextValue, ErrorKind},
};
use std::{borrow::Cow, ffi::OsString, path::Path};

const SECRETS_HINT: &str = "\
Secrets are never arguments: set them in the environment (REGISTRAR_RPC_URLS,
REGISTRAR_SIGNER_KEYS, REGISTRAR_DATABASE_URL), or in a file named by the same
variable with _FILE.";
/// Words in the name of an option that would take a secret.
const SECRET_OPTION_WORDS: [&str; 8] = ["key", "secret", "private", "password", "mnemonic", "seed", "rpc", "database"];
/// Words of the shortest mnemonic (BIP-39).
const MIN_MNEMONIC_WORDS: usize = 12;
/// The longest option that is repeated; ours are shorter.
const MAX_FLAG_CHARS: usize = 32;
const HIDDEN: &str = "[hidden]";
/// What clap fills with our own names and with numbers. Everything else may contain what was typed.
const CONTEXT_WITHOUT_INPUT: [ContextKind; 11] = [
    ContextKind::PriorArg,
    ContextKind::ValidSubcommand,
    ContextKind::ValidValue,
    ContextKind::ActualNumValues,
    ContextKind::ExpectedNumValues,
    ContextKind::MinValues,
    ContextKind::SuggestedSubcommand,
    ContextKind::SuggestedArg,
    ContextKind::SuggestedValue,
    ContextKind::TrailingArg,
    ContextKind::Usage,
];

/// What to print instead of running a command.
#[derive(Debug)]
pub enum EarlyExit {
    /// Help or the version.
    Help(clap::Error),
    /// Invalid arguments, as text.
    UsageError(String),
    /// Invalid arguments, as JSON.
    UsageErrorJson(String),
}

impl EarlyExit {
    /// Prints help and JSON on standard output, text errors on standard error.
    pub fn print(&self) -> Exit {
        match self {
            // Fails only if standard output is closed.
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
/// Help, the version, or a usage error.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, EarlyExit> {
    let arguments = move_behind_command(arguments.into_iter().collect());
    try_parse(&arguments).map_err(|error| {
        let invocation = arguments.first().map_or_else(Invocation::from_process, |name| Invocation::from_argv0(name));
        let words: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
        to_early_exit(error, &invocation, &words)
    })
}

fn try_parse(arguments: &[OsString]) -> Result<Command, clap::Error> {
    let matches = command().try_get_matches_from(arguments)?;
    Ok(Arguments::from_arg_matches(&matches)?.command)
}

/// The program with all its commands.
pub(super) fn command() -> clap::Command {
    Arguments::command()
        .mut_subcommands(|command| with_exit_codes(command.mut_args(|arg| arg.hide_env_values(true))))
        // `dev` sets these itself.
        .mut_subcommand("dev", |dev| {
            dev.mut_arg("contract_address", |arg| arg.hide(true)).mut_arg("chain_id", |arg| arg.hide(true))
        })
}

/// Adds the exit codes to the help of a command whose own text does not state them.
fn with_exit_codes(command: clap::Command) -> clap::Command {
    let command = command.mut_subcommands(with_exit_codes);
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    if text.contains("Exit codes:") {
        return command;
    }
    let calls_service = command.get_arguments().any(|argument| argument.get_id() == "server");
    let codes = if calls_service { help::CLIENT_EXIT_CODES } else { help::EXIT_CODES };
    command.after_help(if text.is_empty() { codes.to_owned() } else { format!("{text}\n\n{codes}") })
}

fn to_early_exit(mut error: clap::Error, invocation: &Invocation, words: &[Cow<'_, str>]) -> EarlyExit {
    if error.kind() == ErrorKind::DisplayHelp || error.kind() == ErrorKind::DisplayVersion {
        return EarlyExit::Help(error);
    }
    let subcommand = words.get(1).map(AsRef::as_ref);
    let needs_secrets_hint = matches!(subcommand, Some("serve" | "deploy")) || may_contain_secret(&error, words);
    hide_input(&mut error);
    let text = error.render().to_string();
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return EarlyExit::UsageError(text);
    }
    // The parsed value of --json is not known if the arguments are invalid.
    if words.iter().take_while(|word| *word != "--").any(|word| word == "--json") {
        let error = CliError::invalid_arguments(message_line(&text));
        return EarlyExit::UsageErrorJson(to_json(&error, invocation).to_string());
    }
    let mut text = text.trim_end().to_owned();
    if needs_secrets_hint {
        text.push_str(&format!("\n\n{SECRETS_HINT}"));
    }
    EarlyExit::UsageError(text)
}

/// The message of a rendered error in one line, without usage.
fn message_line(text: &str) -> String {
    let message = text.split("\n\nUsage: ").next().unwrap_or_default();
    let message = message.split("\n\nFor more information").next().unwrap_or_default();
    message.trim_start_matches("error: ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Removes from the error whatever may repeat what was typed.
fn hide_input(error: &mut clap::Error) {
    let kinds: Vec<_> = error.context().map(|(kind, _)| kind).collect();
    for kind in kinds.into_iter().filter(|kind| !CONTEXT_WITHOUT_INPUT.contains(kind)) {
        let is_unknown = error.kind() == ErrorKind::UnknownArgument;
        match (kind, error.remove(kind)) {
            // The argument's own name, unless clap does not know the argument.
            (ContextKind::InvalidArg, Some(name)) if !is_unknown => {
                error.insert(kind, name);
            }
            (ContextKind::InvalidArg, Some(ContextValue::String(typed))) => {
                error.insert(kind, ContextValue::String(displayable(&typed)));
            }
            // An empty value is one that is missing.
            (ContextKind::InvalidValue, Some(ContextValue::String(typed))) if typed.is_empty() => {
                error.insert(kind, ContextValue::String(typed));
            }
            (ContextKind::InvalidValue | ContextKind::InvalidSubcommand, _) => {
                error.insert(kind, ContextValue::String(HIDDEN.to_owned()));
            }
            _ => {}
        }
    }
}

/// An unknown argument as it may be shown.
fn displayable(typed: &str) -> String {
    let file = || (!looks_like_secret(typed) && Path::new(typed).exists()).then(|| typed.to_owned());
    flag_name(typed).or_else(file).unwrap_or_else(|| HIDDEN.to_owned())
}

/// Whether a secret was probably typed, or an option for one was looked for.
fn may_contain_secret(error: &clap::Error, words: &[Cow<'_, str>]) -> bool {
    let typed = [ContextKind::InvalidArg, ContextKind::InvalidSubcommand, ContextKind::InvalidValue];
    if typed.into_iter().filter_map(|kind| context_text(error, kind)).any(|text| looks_like_secret(&text)) {
        return true;
    }
    // clap names an unknown option without its value, which is attached to it or follows it.
    let is_unknown = error.kind() == ErrorKind::UnknownArgument || error.kind() == ErrorKind::InvalidSubcommand;
    let Some(option) = context_text(error, ContextKind::InvalidArg).filter(|_| is_unknown) else {
        return false;
    };
    let takes_secret =
        flag_name(&option).is_some_and(|name| SECRET_OPTION_WORDS.iter().any(|word| name.contains(word)));
    takes_secret
        || words.iter().skip_while(|word| !word.starts_with(&option)).take(2).any(|word| looks_like_secret(word))
}

/// A private key, a URL that may contain one, or a mnemonic.
fn looks_like_secret(text: &str) -> bool {
    may_contain_private_key(text) || text.contains("://") || text.split_whitespace().count() >= MIN_MNEMONIC_WORDS
}

fn context_text(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
        _ => None,
    }
}

/// The name of an option without an attached value. `None` if it does not look like the name of an option.
fn flag_name(text: &str) -> Option<String> {
    let name = text.split('=').next().unwrap_or_default();
    if let Some(long) = name.strip_prefix("--") {
        let is_plain = !long.is_empty() && long.chars().all(|c| c.is_ascii_lowercase() || c == '-' || c == '_');
        return (is_plain && long.len() <= MAX_FLAG_CHARS).then(|| name.to_owned());
    }
    // In `-kSECRET` the value is attached to the letter.
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
    fn no_error_repeats_what_was_typed() {
        let with_value = format!("--signer-keys={SECRET}");
        let attached = format!("-k{SECRET}");
        let as_flag = format!("--{SECRET}");
        for arguments in [
            vec![SECRET],
            vec!["serve", SECRET],
            vec!["serve", "--signer-keys", SECRET],
            vec!["serve", &with_value],
            vec!["serve", &attached],
            vec!["serve", &as_flag],
            vec!["deploy", "--private-key", SECRET],
            vec!["deploy", "--owner", SECRET],
            vec!["deploy", "--owner", SECRET, SECRET],
            vec!["dev", "--block-time", SECRET],
            vec!["dev", "--once", "a", SECRET],
            vec!["watch", "a", SECRET],
            vec!["list", "--since", SECRET],
            vec!["list", "--limit", SECRET],
            vec!["list", "--state", SECRET],
            vec!["verify", "a", SECRET, "--case", "1"],
            vec!["register", "a", "--case", "c", "--wait-for", SECRET],
            vec!["register", "a", "--case", "c", "--wait-timeout", SECRET],
            vec!["verify", "a", "--case", "c", "--json", SECRET],
            vec!["list", "--json", "--", SECRET],
            vec!["list", "--json=", SECRET],
            vec!["help", SECRET],
            vec!["deploy", "--owner", "a", "--owner", SECRET],
            vec!["regster", SECRET],
            vec!["list", "--stat", SECRET],
        ] {
            let arguments: Vec<_> = ["registrar"].iter().chain(&arguments).map(OsString::from).collect();
            let text = match parse(arguments.clone()) {
                Err(EarlyExit::UsageError(text) | EarlyExit::UsageErrorJson(text)) => text,
                other => panic!("{other:?}"),
            };
            assert!(!text.to_lowercase().contains("59c6"), "{arguments:?}: {text}");
        }
    }

    /// Every kind of clap's errors and every kind of their context, also those that no argument of ours causes today.
    #[test]
    fn no_kind_of_context_repeats_what_was_typed() {
        use ContextKind as C;
        use ErrorKind as E;
        let contexts = [
            C::InvalidSubcommand,
            C::InvalidArg,
            C::PriorArg,
            C::ValidSubcommand,
            C::ValidValue,
            C::InvalidValue,
            C::ActualNumValues,
            C::ExpectedNumValues,
            C::MinValues,
            C::SuggestedCommand,
            C::SuggestedSubcommand,
            C::SuggestedArg,
            C::SuggestedValue,
            C::TrailingArg,
            C::Suggested,
            C::Usage,
            C::Custom,
        ];
        let errors = [
            E::InvalidValue,
            E::UnknownArgument,
            E::InvalidSubcommand,
            E::NoEquals,
            E::ValueValidation,
            E::TooManyValues,
            E::TooFewValues,
            E::WrongNumberOfValues,
            E::ArgumentConflict,
            E::MissingRequiredArgument,
            E::MissingSubcommand,
            E::InvalidUtf8,
        ];
        let values = [
            ContextValue::String(SECRET.to_owned()),
            ContextValue::Strings(vec![SECRET.to_owned()]),
            ContextValue::StyledStr(SECRET.to_owned().into()),
            ContextValue::StyledStrs(vec![SECRET.to_owned().into()]),
        ];
        for (kind, context, value) in all_combinations(&errors, &contexts, &values) {
            // The argument's own name where clap knows the argument.
            let is_name = context == C::InvalidArg && kind != E::UnknownArgument;
            if CONTEXT_WITHOUT_INPUT.contains(&context) || is_name {
                continue;
            }
            let mut error = clap::Error::new(kind).with_cmd(&Arguments::command());
            error.insert(C::InvalidArg, ContextValue::String("--case <ID>".to_owned()));
            error.insert(C::InvalidValue, ContextValue::String("a value".to_owned()));
            error.insert(context, value);
            hide_input(&mut error);
            let text = error.render().to_string();
            assert!(!text.contains(SECRET) && !format!("{error:?}").contains(SECRET), "{kind:?} {context:?}: {text}");
        }
    }

    fn all_combinations<'a>(
        errors: &'a [ErrorKind],
        contexts: &'a [ContextKind],
        values: &'a [ContextValue],
    ) -> impl Iterator<Item = (ErrorKind, ContextKind, ContextValue)> + 'a {
        errors.iter().flat_map(move |kind| {
            contexts.iter().flat_map(move |context| values.iter().map(move |value| (*kind, *context, value.clone())))
        })
    }

    #[test]
    fn an_unexpected_file_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let text = parse_usage_error(&["verify", "a", path, "--case", "1"]);
        assert!(text.contains(&format!("unexpected argument '{path}'")) && text.contains("FILE-OR-HASH"), "{text}");
        assert!(parse_usage_error(&["verify", "a", "hunter2", "--case", "1"]).contains("'[hidden]'"));
    }

    #[test]
    fn an_unknown_option_is_named_and_secrets_are_explained() {
        let text = parse_usage_error(&["serve", "--signer-keys", SECRET]);
        assert!(text.contains("--signer-keys") && text.contains("_FILE"), "{text}");
        let text = parse_usage_error(&["serve", "--lisen=127.0.0.1:1"]);
        assert!(text.contains("--lisen") && text.contains("--listen"), "{text}");
        assert!(parse_usage_error(&["register", "a"]).contains("--case"));
        assert!(parse_usage_error(&["register", "a", "--case"]).contains("a value is required for '--case <ID>'"));
        assert!(parse_usage_error(&["register", "a", "--case", "x", "--wait-for", "soon"]).contains("finalized"));
        assert!(parse_usage_error(&["register", "a", "--case", "a@b"]).contains("--case"));
        assert!(parse_usage_error(&["list", "--since", "noon"]).contains("2h for two hours ago"));
        assert!(parse_usage_error(&["frobnicate"]).contains("unrecognized subcommand"));
    }

    #[test]
    fn usage_errors_are_json_with_json_flag() {
        for (arguments, message) in [
            (&["explain", "--json"][..], "not provided: <ID-OR-HASH-OR-FILE>"),
            (&["list", "--limit", "0", "--json"], "--limit"),
            (&["register", "a", "--json"], "not provided: --case <ID>"),
            (&["list", "--json", "--frobnicate"], "unexpected argument '--frobnicate'"),
        ] {
            let parsed = parse(["registrar"].iter().chain(arguments).map(OsString::from));
            let Err(EarlyExit::UsageErrorJson(line)) = parsed else { panic!("{arguments:?}: {parsed:?}") };
            let error: serde_json::Value = serde_json::from_str(&line).unwrap();
            let error = &error["error"];
            assert!(error["message"].as_str().unwrap().contains(message), "{line}");
            assert_eq!((&error["reason"], &error["exitCode"]), (&"INVALID_ARGUMENTS".into(), &64.into()));
        }
        assert!(parse_usage_error(&["register", "a", "--", "--json"]).starts_with("error: "));
    }

    #[test]
    fn the_hint_about_secrets_is_shown_when_one_was_probably_typed() {
        let url = format!("https://rpc.example/{SECRET}");
        let attached = format!("--owner={SECRET}");
        for arguments in [
            vec!["serve", "--lisen"],
            vec!["deploy", "--owner", "me"],
            vec!["dev", "--rpc-url", &url],
            vec!["dev", "--signer-keys", "x"],
            vec!["dev", "--once", "a", SECRET],
            vec!["dev", "--block-time", &SECRET[2..]],
            vec!["dev", &attached],
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
            vec!["list", "--since", "noon"],
            vec!["frobnicate"],
        ] {
            assert!(!parse_usage_error(&arguments).contains("Secrets are never arguments"), "{arguments:?}");
        }
    }

    #[test]
    fn no_help_is_wider_than_80_columns_or_mentions_failover() {
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
    fn help_and_version_are_not_errors() {
        for arguments in [["registrar", "--help"], ["registrar", "--version"]] {
            assert!(matches!(parse(arguments.iter().map(OsString::from)), Err(EarlyExit::Help(_))));
        }
        let mut commands = vec![command()];
        while let Some(mut command) = commands.pop() {
            let help = command.render_help().to_string();
            // Added by clap when the program is built.
            if command.get_name() == "help" {
                continue;
            }
            assert!(help.contains("Exit codes: 0 "), "{}: {help}", command.get_name());
            commands.extend(command.get_subcommands().cloned());
        }
        let subcommand_help = ["registrar", "help", "register"].iter().map(OsString::from);
        assert!(
            matches!(parse(subcommand_help), Err(EarlyExit::Help(help)) if help.to_string().contains("--wait-for"))
        );
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
