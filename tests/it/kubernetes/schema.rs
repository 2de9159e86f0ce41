//! Kubernetes' own schemas.

use super::{Manifests, OVERLAYS, checked, output, tool};

/// Of the newest versions that the validator has.
const CHECKED_VERSIONS: usize = 3;

pub fn newest_versions() -> Vec<String> {
    let list = "from kubernetes_validate.utils import all_versions; print(*all_versions())";
    let all = checked(tool(".venv/bin/python").args(["-c", list]), "");
    let mut all: Vec<_> = all.split_whitespace().map(str::to_owned).collect();
    // Each has two schemas, one of them strict.
    all.dedup();
    assert!(all.len() >= CHECKED_VERSIONS, "{all:?}");
    all.split_off(all.len() - CHECKED_VERSIONS)
}

/// The number of valid resources.
///
/// # Errors
/// What the validator says; about a kind that it does not know it only warns.
pub fn validate(manifests: &str, version: &str) -> Result<usize, String> {
    let output = output(tool(".venv/bin/kubernetes-validate").args(["-k", version, "--strict", "-"]), manifests);
    let text = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
    let is_valid = output.status.success() && text.lines().all(|line| line.starts_with("INFO "));
    if is_valid { Ok(text.lines().count()) } else { Err(text) }
}

#[test]
fn both_overlays_are_valid_for_the_newest_versions() {
    for overlay in OVERLAYS {
        let manifests = Manifests::from_overlay(overlay);
        for version in newest_versions() {
            assert_eq!(validate(&manifests.text, &version), Ok(manifests.resources.len()), "{overlay} {version}");
        }
    }
}

#[test]
fn what_is_not_valid_is_found() {
    let text = Manifests::from_overlay("postgres").text;
    let newest = newest_versions().pop().unwrap();
    for (valid, invalid) in [
        ("replicas: 2", "replicas: two"),
        ("terminationGracePeriodSeconds:", "terminationGracePeriod:"),
        ("kind: PodDisruptionBudget", "kind: DisruptionBudget"),
        ("policy/v1", "policy/v9"),
    ] {
        assert!(text.contains(valid), "{valid} is not in {text}");
        let validated = validate(&text.replace(valid, invalid), &newest);
        assert!(validated.is_err(), "{invalid} is valid");
    }
}
