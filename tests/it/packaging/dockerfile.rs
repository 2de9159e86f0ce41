//! The Dockerfile: what a linter says, and whether it agrees with the program.

use super::{checked, is_pinned, python_tool, read, root, setting_names, settings, text_of};
use crate::harness::cli;
use std::process::Command;

/// An instruction of the Dockerfile, on one line.
struct Instruction {
    /// Number of the stage, from 0.
    stage: usize,
    name: String,
    arguments: String,
}

fn instructions() -> Vec<Instruction> {
    let text = read("Dockerfile");
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let text = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    let mut stages = 0;
    let mut found = Vec::new();
    for (name, arguments) in text.lines().filter_map(|line| line.trim().split_once(' ')) {
        stages += usize::from(name == "FROM");
        found.push(Instruction { stage: stages - 1, name: name.to_owned(), arguments: arguments.trim().to_owned() });
    }
    assert!(stages == 2 && found.len() > 15, "{stages} stages with {} instructions were read", found.len());
    found
}

/// The arguments of an instruction of a stage, each as it is written.
fn arguments(stage: usize, name: &str) -> Vec<String> {
    let instructions = instructions().into_iter().filter(|found| found.stage == stage && found.name == name);
    instructions.flat_map(|found| found.arguments.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// The environment that the image sets.
pub fn environment() -> Vec<(String, String)> {
    let split = |variable: &String| variable.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    arguments(1, "ENV").iter().map(|variable| split(variable).unwrap()).collect()
}

/// The image that a stage begins with.
fn base(stage: usize) -> String {
    arguments(stage, "FROM").remove(0)
}

/// The version of Rust that the image is built with.
pub(super) fn rust_version() -> String {
    let version = base(0).split_once("/rust:").unwrap().1.split('-').next().unwrap().to_owned();
    assert_eq!(version.split('.').count(), 3, "{version} is not a whole version");
    version
}

#[test]
fn hadolint_finds_nothing_in_the_dockerfile() {
    checked(python_tool("hadolint"), &["--no-color", "Dockerfile"]);
}

#[test]
fn both_bases_are_of_one_debian_and_pinned_by_digest() {
    let (builder, runtime) = (base(0), base(1));
    assert!(is_pinned(&builder) && is_pinned(&runtime), "{builder}, {runtime}");
    // A binary of a newer Debian would not find its glibc.
    assert!(builder.contains("-bookworm@") && runtime.contains("-debian12:"), "{builder}, {runtime}");
    let numbers = |version: &str| version.split('.').map(|part| part.parse::<u32>().unwrap()).collect::<Vec<_>>();
    assert!(numbers(&rust_version()) >= numbers(env!("CARGO_PKG_RUST_VERSION")), "{builder} is too old");
}

#[tokio::test]
async fn the_settings_and_ports_of_the_image_are_those_of_the_program() {
    let known = settings();
    let unknown: Vec<_> = setting_names(&read("Dockerfile"))
        .into_iter()
        .filter(|name| !known.contains(*name))
        .map(str::to_owned)
        .collect();
    assert!(unknown.is_empty(), "not in the reference of the settings: {unknown:?}");

    let variables = environment();
    let names: Vec<_> = variables.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["REGISTRAR_LISTEN", "REGISTRAR_ADMIN_LISTEN", "LOG_FORMAT"]);
    assert!(names.iter().all(|name| known.contains(*name)), "{names:?}");
    let ports: Vec<_> = variables.iter().filter_map(|(_, value)| value.strip_prefix("0.0.0.0:")).collect();
    assert_eq!(arguments(1, "EXPOSE"), ports);
    let help = cli::run(&["serve", "--help"], &[]).await.stdout;
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for port in ports {
        assert!(help.contains(&format!("[default: 127.0.0.1:{port}]")), "{port} is not a default: {help}");
    }
}

#[test]
fn the_version_on_the_label_is_that_of_the_program() {
    let version = format!(r#"org.opencontainers.image.version="{}""#, env!("CARGO_PKG_VERSION"));
    assert!(arguments(1, "LABEL").contains(&version), "no label {version}");
}

#[test]
fn make_image_says_what_is_missing_where_nothing_can_build_an_image() {
    let empty = tempfile::tempdir().unwrap();
    let script = r#"make=$(command -v make) && PATH=$1 exec "$make" image"#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(empty.path()).current_dir(root());
    let output = command.output().unwrap();
    assert!(!output.status.success());
    assert!(text_of(&output).contains("install podman or buildah, or start a docker daemon"), "{}", text_of(&output));
}
