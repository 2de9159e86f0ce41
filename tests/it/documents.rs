//! The documents match the code: tables list what the code has and nothing else, links and paths exist, programs run.
//!
//! The metrics' table is compared with a running service in `metrics.rs`, and the pages for operators in `operators`.

use crate::harness::{Plan, cli, document, within};
use registrar::registration::Cause;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

const MAX_README_LINES: usize = 200;
const MAX_PROSE_CHARS: usize = 120;
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
const FALLBACK_CODES: [&str; 2] = ["UNKNOWN", "FAILED"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn read(path: &str) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files with this extension below a folder, by their path in the repository.
fn files(folder: &str, extension: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "node_modules" && name != ".venv") {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Every page, by its path in the repository.
pub fn pages() -> Vec<String> {
    let top = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"].map(str::to_owned);
    [top.to_vec(), files("docs", "md"), files("deploy", "md")].concat()
}

pub fn outside_code(page: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    page.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    })
}

/// The blocks of this language, each as it is written.
fn code_blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let opening = format!("```{language}\n");
    page.split(&opening).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

pub fn code_spans(page: &str) -> Vec<String> {
    let text: String = outside_code(page).collect::<Vec<_>>().join("\n");
    text.split('`').skip(1).step_by(2).map(|span| span.replace('\n', " ")).collect()
}

/// The anchors of a page's headings, as GitHub and GitLab derive them.
pub fn anchors(page: &str) -> BTreeSet<String> {
    let headings =
        outside_code(page).filter_map(|line| line.strip_prefix('#').map(|line| line.trim_start_matches('#')));
    let anchor = |heading: &str| {
        let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

/// The text below a heading, up to the next heading of the same or a higher level.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let rest = page.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no section {heading}")).1;
    let level = heading.chars().take_while(|c| *c == '#').count();
    let ends = (1..=level).filter_map(|level| rest.find(&format!("\n{} ", "#".repeat(level)))).min();
    &rest[..ends.unwrap_or(rest.len())]
}

/// The code spans in one column of a section's tables, headers left out.
fn column(section: &str, number: usize) -> Vec<String> {
    let next = section.lines().skip(1).chain([""]);
    let rows = section.lines().zip(next).filter(|(line, next)| line.starts_with("| ") && !next.starts_with("|---"));
    let rows = rows.map(|(line, _)| line);
    let cells = rows.filter_map(|line| line.trim_matches('|').split(" | ").nth(number));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
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

fn set(items: Vec<String>) -> BTreeSet<String> {
    items.into_iter().collect()
}

/// The values of an enum of the proto, without its prefix and without `UNSPECIFIED`.
fn proto_values(name: &str, prefix: &str) -> Vec<String> {
    let proto = read("proto/registrar/v1/registrar.proto");
    let body = proto.split_once(&format!("enum {name} {{")).unwrap().1.split('}').next().unwrap().to_owned();
    let values = body.lines().filter_map(|line| line.trim().strip_prefix(prefix)?.split(' ').next());
    values.filter(|value| *value != "UNSPECIFIED").map(str::to_owned).collect()
}

#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= MAX_README_LINES, "{lines} lines");
}

#[test]
fn no_line_of_prose_is_longer_than_120_characters() {
    let mut long = Vec::new();
    for page in pages() {
        let text = read(&page);
        let prose = outside_code(&text).filter(|line| !line.trim_start().starts_with('|'));
        long.extend(prose.filter(|line| line.chars().count() > MAX_PROSE_CHARS).map(|line| format!("{page}: {line}")));
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn every_link_and_anchor_exists() {
    let mut links = 0;
    let mut broken = Vec::new();
    for page in pages() {
        let folder = root().join(&page).parent().unwrap().to_owned();
        let text = read(&page);
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if link.starts_with("http") {
                continue;
            }
            links += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { root().join(&page) } else { folder.join(file) };
            let found = target.exists()
                && (anchor.is_empty() || anchors(&fs::read_to_string(&target).unwrap()).contains(anchor));
            if !found {
                broken.push(format!("{page} links to {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(links > 120, "only {links} links were read");
}

#[test]
fn every_page_is_linked_from_another_one() {
    let mut linked = BTreeSet::new();
    for page in pages() {
        let folder = root().join(&page).parent().unwrap().to_owned();
        for link in read(&page).split("](").skip(1).map(|rest| rest.split([')', '#']).next().unwrap()) {
            if let Ok(target) = folder.join(link).canonicalize() {
                linked.insert(target);
            }
        }
    }
    let unlinked: Vec<_> = pages()
        .into_iter()
        .filter(|page| page != "README.md" && !linked.contains(&root().join(page).canonicalize().unwrap()))
        .collect();
    assert!(unlinked.is_empty(), "{unlinked:?}");
}

#[test]
fn every_path_that_a_page_names_exists() {
    let mut missing = Vec::new();
    let folders = ["src/", "tests/", "docs/", "deploy/", "contracts/src/", "proto/"];
    for page in pages() {
        for span in code_spans(&read(&page)) {
            let is_path = folders.iter().any(|folder| span.starts_with(folder)) && !span.contains([' ', '*', '…']);
            // The changelog names what was.
            if is_path && page != "CHANGELOG.md" && !root().join(&span).exists() {
                missing.push(format!("{page} names {span}"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
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
fn the_error_reasons_are_those_of_the_code() {
    let page = read("docs/reference/errors.md");
    let documented = set(column(section(&page, "## Reasons"), 1));
    let codes = constants(&files("src/registration", "rs"));
    let blocked = set(column(section(&read("docs/reference/states.md"), "## Blocked reasons"), 0));
    let failures = codes.iter().filter(|code| !blocked.contains(*code));
    let reasons: BTreeSet<_> = constants(&files("src/api", "rs"))
        .into_iter()
        .chain(failures.cloned())
        .filter(|reason| !FALLBACK_CODES.contains(&reason.as_str()))
        // Variables, of the service and of its build.
        .filter(|name| !name.starts_with("REGISTRAR_") && !name.starts_with("CARGO_") && name != "OUT_DIR")
        .collect();
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
        for call in [".note(", ".note_some(", ".field(", ".field_opt("] {
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

#[test]
fn the_programs_in_the_client_guide_are_those_that_are_tested() {
    let guide = read("docs/guides/clients.md");
    assert_eq!(code_blocks(&guide, "python"), [read("tests/foreign/register.py")]);
    assert_eq!(code_blocks(&guide, "js"), [read("tests/foreign/register.mjs")]);
}

async fn run(program: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let mut command = tokio::process::Command::new(program);
    command.current_dir(root()).args(arguments).envs(variables.iter().copied());
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = within("the program", command.output()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[tokio::test]
async fn the_program_in_python_registers_and_shows_what_is_wrong() {
    let stack = Plan::block_time(0.2).start().await;
    let server = stack.service.grpc.to_string();
    let stubs = tempfile::tempdir().unwrap();
    let stubs = stubs.path().to_str().unwrap();
    let python = root().join("tests/foreign/.venv/bin/python");
    assert!(python.exists(), "{} is missing: `make test` installs it", python.display());
    let (plain, grpc) = (format!("--python_out={stubs}"), format!("--grpc_python_out={stubs}"));
    let generate = ["-m", "grpc_tools.protoc", "-Iproto", &plain, &grpc, "registrar/v1/registrar.proto"];
    run(&python, &generate, &[]).await;
    let call = |case| ["tests/foreign/register.py", &server, &document(1), case].map(str::to_owned);

    let registered = call("case-1");
    let registered = run(&python, &registered.each_ref().map(String::as_str), &[("PYTHONPATH", stubs)]).await;
    let invalid = call("not a case");
    let invalid = run(&python, &invalid.each_ref().map(String::as_str), &[("PYTHONPATH", stubs)]).await;

    assert!(registered.contains(" STATE_CONFIRMED 0x"), "{registered}");
    assert!(invalid.starts_with("INVALID_ARGUMENT INVALID_FIELD") && invalid.contains("case_id"), "{invalid}");
}

#[tokio::test]
async fn the_program_in_node_registers_and_shows_what_is_wrong() {
    let stack = Plan::block_time(0.2).start().await;
    let server = stack.service.grpc.to_string();
    let installed = root().join("tests/foreign/node_modules/@grpc/grpc-js");
    assert!(installed.exists(), "{} is missing: `make test` installs it", installed.display());
    let node = PathBuf::from("node");
    let call = |case| ["tests/foreign/register.mjs", &server, "proto", &document(1), case].map(str::to_owned);

    let registered = call("case-1");
    let registered = run(&node, &registered.each_ref().map(String::as_str), &[]).await;
    let invalid = call("not a case");
    let invalid = run(&node, &invalid.each_ref().map(String::as_str), &[]).await;

    assert!(registered.contains(" STATE_CONFIRMED 0x"), "{registered}");
    assert!(invalid.starts_with("INVALID_ARGUMENT INVALID_FIELD") && invalid.contains("case_id"), "{invalid}");
}
