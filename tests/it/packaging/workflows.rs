//! The workflows and the updates of dependencies: valid, without a finding of a security linter, and about what exists.

use super::{checked, dockerfile, python_tool, read, root, yaml};
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::Path};

const WORKFLOWS: [&str; 2] = [".github/workflows/ci.yaml", ".github/workflows/release.yaml"];
const UPDATES: &str = ".github/dependabot.yml";
/// Begin a path in the project, in the commands of a workflow.
const FOLDERS: [&str; 4] = [".ci/", "deploy/", "docs/", "tests/"];

fn steps(workflow: &Value) -> Vec<Value> {
    let jobs = workflow["jobs"].as_object().unwrap().values();
    jobs.flat_map(|job| job["steps"].as_array().cloned().unwrap_or_default()).collect()
}

#[test]
fn the_workflows_are_valid_and_safe() {
    let schema = |name: &str, files: &[&str]| {
        checked(python_tool("check-jsonschema"), &[&["--builtin-schema", name][..], files].concat());
    };
    schema("vendor.github-workflows", &WORKFLOWS);
    schema("custom.github-workflows-require-timeout", &WORKFLOWS);
    schema("vendor.dependabot", &[UPDATES]);
    // Unpinned actions, permissions that nothing needs, expressions in scripts.
    checked(python_tool("zizmor"), &["--offline", "--no-progress", "--strict-collection", ".github"]);
}

#[test]
fn every_action_has_a_commit_and_its_version() {
    let mut seen = 0;
    for path in WORKFLOWS {
        for line in read(path).lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("uses: ")) {
            let (action, comment) = line.split_once(" # ").unwrap_or_else(|| panic!("{path}: no version of {line}"));
            if let Some(own) = action.strip_prefix("./") {
                assert!(root().join(own).is_file(), "{path} uses {own}");
                continue;
            }
            seen += 1;
            let commit = action.split_once('@').unwrap().1;
            assert!(commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()), "{path}: {action}");
            assert!(comment.starts_with('v') && comment.split('.').count() == 3, "{path}: {line}");
        }
    }
    assert!(seen > 10, "only {seen} actions were read");
}

#[test]
fn every_command_and_path_of_a_workflow_exists() {
    let makefile = read("Makefile");
    let mut targets = BTreeSet::new();
    let mut paths = BTreeSet::new();
    for path in WORKFLOWS {
        for script in steps(&yaml(path)).iter().filter_map(|step| step["run"].as_str()) {
            for line in script.lines() {
                let words: Vec<_> = line.split(|c: char| c.is_whitespace() || c == '"').collect();
                if let Some(at) = words.iter().position(|word| *word == "make") {
                    targets.extend(words[at + 1..].iter().map(|word| (*word).to_owned()));
                }
                let named = words.into_iter().filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder)));
                paths.extend(named.map(str::to_owned));
            }
        }
    }
    assert_eq!(targets, ["advisories", "deny", "release", "sbom"].map(str::to_owned).into());
    let missing: Vec<_> =
        targets.iter().filter(|target| !makefile.lines().any(|line| line.starts_with(&format!("{target}:")))).collect();
    assert!(missing.is_empty(), "not in the Makefile: {missing:?}");
    assert!(paths.contains(".ci/run") && paths.len() > 1, "{paths:?}");
    let missing: Vec<_> = paths.iter().filter(|path| !root().join(path).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn tests_and_release_are_built_by_the_compiler_of_the_image() {
    let version = dockerfile::rust_version();
    assert_eq!(yaml(WORKFLOWS[0])["env"]["RUST_VERSION"], version.as_str());
    let release = yaml(WORKFLOWS[1]);
    let container = release["jobs"]["binary"]["container"].as_str().unwrap();
    assert!(container.contains(&format!("/rust:{version}-bookworm@sha256:")), "{container}");
}

/// The folders below one that have a file with this name, as `/path/of/folder`.
fn folders_with(file: &str, folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name == file {
            found.insert(format!("/{}", folder.strip_prefix(root()).unwrap().display()));
        } else if path.is_dir() && !path.is_symlink() && !["node_modules", ".venv", ".git", "target"].contains(&name) {
            folders_with(file, &path, found);
        }
    }
}

#[test]
fn every_pinned_dependency_is_updated_in_groups() {
    let kinds = [
        ("cargo", "Cargo.lock"),
        ("npm", "package-lock.json"),
        ("pip", "requirements.txt"),
        ("docker", "Dockerfile"),
        ("docker-compose", "compose.yaml"),
        ("github-actions", ""),
    ];
    let updates = yaml(UPDATES)["updates"].as_array().unwrap().clone();
    assert_eq!(updates.len(), kinds.len());
    for (kind, file) in kinds {
        let update = updates.iter().find(|update| update["package-ecosystem"] == kind);
        let update = update.unwrap_or_else(|| panic!("no updates of {kind}"));
        assert!(update["groups"].as_object().is_some_and(|groups| !groups.is_empty()), "{kind} has no group");
        let listed = update["directories"].as_array().cloned().unwrap_or_else(|| vec![update["directory"].clone()]);
        let listed: BTreeSet<_> = listed.iter().map(|folder| folder.as_str().unwrap().to_owned()).collect();
        let mut expected = BTreeSet::new();
        if file.is_empty() {
            expected.insert("/".to_owned());
        } else {
            folders_with(file, root(), &mut expected);
        }
        assert_eq!(listed, expected, "{kind}");
    }
}
