//! The tables of the reference list what the code has, and nothing else.

use super::{code_spans, files, read, section};
use crate::harness::cli;
use registrar::registration::{Cause, ErrorReason};
use std::collections::{BTreeMap, BTreeSet};

/// Set by cargo or Kubernetes, or read only to be redacted (proxies, headers of signals that are not exported).
const NOT_SETTINGS: [&str; 7] = [
    "CARGO_PKG_VERSION",
    "REGISTRAR_PORT",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
    "OTEL_EXPORTER_OTLP_LOGS_HEADERS",
];
/// Codes for values that the store or the API should never hold.
const FALLBACK_CODES: [&str; 1] = ["FAILED"];

/// The values of an enum of the proto, without its prefix and without `UNSPECIFIED`.
fn proto_values(name: &str, prefix: &str) -> Vec<String> {
    let proto = read("proto/registrar/v1/registrar.proto");
    let body = proto.split_once(&format!("enum {name} {{")).unwrap().1.split('}').next().unwrap().to_owned();
    let values = body.lines().filter_map(|line| line.trim().strip_prefix(prefix)?.split(' ').next());
    values.filter(|value| *value != "UNSPECIFIED").map(str::to_owned).collect()
}

/// A source file up to its tests.
fn code(path: &str) -> String {
    read(path).split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned()
}

/// The string literals in the code of these files that consist of capitals, digits and underscores, at least five.
fn constants(paths: &[String]) -> BTreeSet<String> {
    let is_constant = |text: &&str| {
        let allowed = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let (first, last) = (text.chars().next(), text.chars().next_back());
        text.len() >= 5
            && first.is_some_and(|c| c.is_ascii_uppercase())
            && last != Some('_')
            && text.chars().all(allowed)
    };
    let texts: Vec<_> = paths.iter().map(|path| code(path)).collect();
    texts.iter().flat_map(|text| text.split('"')).filter(is_constant).map(str::to_owned).collect()
}

#[test]
fn the_settings_are_those_of_the_code() {
    let page = read("docs/reference/settings.md");
    let is_setting = |name: &String| name.contains('_') || name == "ENVIRONMENT";
    let code: BTreeSet<_> = constants(&files("src/config", "rs"))
        .into_iter()
        .filter(|name| is_setting(name) && !NOT_SETTINGS.contains(&name.as_str()))
        .collect();
    assert!(code.len() > 50, "only {} settings were read from the code", code.len());
    let named = set(code_spans(&page));
    let missing: Vec<_> = code.iter().filter(|name| !named.contains(*name)).collect();
    assert!(missing.is_empty(), "not documented: {missing:?}");
    let read_by_code = |name: &String| code.contains(name) || name == "REGISTRAR_ANVIL";
    let unknown: Vec<_> = column(&page, 0).into_iter().filter(|name| !read_by_code(name)).collect();
    assert!(unknown.is_empty(), "not in the code: {unknown:?}");
}

#[tokio::test]
async fn the_defaults_are_those_of_the_help() {
    let page = read("docs/reference/settings.md");
    let rows: BTreeMap<&str, &str> = page
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            Some((cells.next()?.trim_end_matches('`'), cells.next()?))
        })
        .collect();
    let help = cli::run(&["serve", "--help"], &[]).await;
    let help = help.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut compared = 0;
    for part in help.split("[default: ").skip(1) {
        let (default, rest) = part.split_once(']').unwrap();
        let Some(variable) = rest.trim_start().strip_prefix("[env: ") else { continue };
        let variable = variable.split([']', '=']).next().unwrap();
        let value = default.split([',', ' ']).next().unwrap();
        if value.contains(|c: char| c.is_ascii_digit()) || ["true", "false", "info"].contains(&value) {
            let row = rows.get(variable).unwrap_or_else(|| panic!("{variable} has no row"));
            assert!(row.contains(value), "{variable}: the help says {default}, the page {row}");
            compared += 1;
        }
    }
    assert!(compared > 15, "only {compared} defaults were compared in {help}");
}

#[test]
fn the_error_reasons_and_their_codes_are_those_of_the_code() {
    let page = read("docs/reference/errors.md");
    let reasons = section(&page, "## Reasons");
    let documented: BTreeSet<_> = column(reasons, 0).into_iter().zip(column(reasons, 1)).collect();
    let codes = ErrorReason::CODES.into_iter().filter(|(_, code)| !FALLBACK_CODES.contains(code));
    let expected = codes.map(|(reason, code)| (reason.grpc_code().name().to_owned(), code.to_owned()));
    assert_eq!(documented, expected.collect::<BTreeSet<_>>());
}

#[test]
fn the_runbook_names_no_reason_that_the_code_does_not_have() {
    let errors = read("docs/reference/errors.md");
    let states = read("docs/reference/states.md");
    let proto = read("proto/registrar/v1/registrar.proto");
    let mut known: BTreeSet<_> = ErrorReason::CODES.iter().map(|(_, code)| (*code).to_owned()).collect();
    known.extend(column(section(&errors, "## Reasons"), 0));
    known.extend(column(section(&states, "## Blocked reasons"), 0));
    let is_setting = |name: &str| ["REGISTRAR_", "SENTRY_", "OTEL_", "TRACE_"].iter().any(|p| name.starts_with(p));
    let is_constant = |name: &str| name.len() >= 5 && name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let spans = code_spans(&read("deploy/RUNBOOK.md"));
    let constants: Vec<_> = spans.into_iter().filter(|name| is_constant(name) && !is_setting(name)).collect();
    assert!(constants.len() > 10, "only {constants:?}");
    let unknown: Vec<_> = constants.iter().filter(|name| !known.contains(*name) && !proto.contains(*name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn the_reasons_of_the_command_line_are_those_of_its_code() {
    let page = read("docs/reference/errors.md");
    let documented = set(column(section(&page, "## Reasons of the command line"), 0));
    let source = code("src/cli/reason.rs");
    let codes = source.split("=> \"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
    let reasons: BTreeSet<_> = codes.collect();
    assert!(reasons.len() >= 4, "only {reasons:?}");
    assert_eq!(documented, reasons);
}

#[test]
fn the_blocked_reasons_are_those_of_the_code() {
    let codes = constants(&files("src/registration", "rs"));
    let page = read("docs/reference/states.md");
    let documented = column(section(&page, "## Blocked reasons"), 0);
    assert!(documented.len() >= 8 && documented.iter().all(|reason| codes.contains(reason)), "{documented:?}");
    let proto = read("proto/registrar/v1/registrar.proto");
    let runbook = read("deploy/RUNBOOK.md");
    let in_runbook = set(column(section(&runbook, "### RegistrarQueueOld"), 0));
    for reason in documented {
        assert!(proto.contains(&reason), "{reason} is not in the proto");
        assert!(in_runbook.contains(&reason), "{reason} is not in the runbook");
    }
}

#[test]
fn the_causes_are_those_of_the_code_and_of_the_proto() {
    let page = read("docs/reference/causes.md");
    let documented = column(section(&page, "## Causes"), 0);
    assert_eq!(documented, Cause::CODES.map(|(_, code)| code.to_owned()));
    assert_eq!(documented, proto_values("Cause", "CAUSE_").iter().map(|code| code.to_lowercase()).collect::<Vec<_>>());
}

#[test]
fn the_states_and_methods_are_those_of_the_proto() {
    let states = read("docs/reference/states.md");
    assert_eq!(column(section(&states, "## Registration states"), 0), proto_values("State", "STATE_"));
    assert_eq!(column(section(&states, "## Finality"), 0), proto_values("Finality", "FINALITY_"));
    let proto = read("proto/registrar/v1/registrar.proto");
    let methods = proto.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next());
    assert_eq!(column(section(&read("docs/reference/api.md"), "## Methods"), 0), methods.collect::<Vec<_>>());
}

#[test]
fn the_evidence_keys_are_those_of_the_code() {
    let page = read("docs/reference/causes.md");
    let documented = set(column(section(&page, "## Evidence keys"), 0));
    let mut keys = BTreeSet::new();
    for path in files("src/registration/diagnosis", "rs") {
        let code = code(&path);
        for call in [".field(", ".field_opt("] {
            let arguments = code.split(call).skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"'));
            keys.extend(arguments.map(|rest| rest.split('"').next().unwrap().to_owned()));
        }
    }
    assert!(keys.len() > 45, "only {} keys were read from the code", keys.len());
    assert_eq!(documented, keys);
}

#[test]
fn the_exit_codes_are_those_of_the_command_line() {
    let page = read("docs/reference/errors.md");
    let section = section(&page, "## Exit codes of the command line").to_owned();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse::<u8>().ok());
    let source = code("src/cli/exit.rs");
    let body = source.split_once("fn code(").unwrap().1.split_once("\n    }").unwrap().0;
    let codes = body.lines().filter_map(|line| line.split_once("=> ")?.1.trim_end_matches(',').parse::<u8>().ok());
    assert_eq!(rows.collect::<Vec<_>>(), codes.collect::<Vec<_>>());
}

/// The code spans in one column of a section's tables, headers left out.
fn column(section: &str, number: usize) -> Vec<String> {
    let next = section.lines().skip(1).chain([""]);
    let rows = section.lines().zip(next).filter(|(line, next)| line.starts_with("| ") && !next.starts_with("|---"));
    let rows = rows.map(|(line, _)| line);
    let cells = rows.filter_map(|line| line.trim_matches('|').split(" | ").nth(number));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn set(items: Vec<String>) -> BTreeSet<String> {
    items.into_iter().collect()
}
