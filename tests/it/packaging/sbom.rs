//! The script that makes an SBOM of cargo-cyclonedx reproducible.

use super::{root, run, text_of};
use serde_json::{Value, json};
use std::{fs, process::Output};
use tempfile::TempDir;

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index#";

/// What cargo-cyclonedx writes for this project, with the first of these identities of the project.
fn sbom(project: &str, dependencies: [&str; 2]) -> Value {
    let component =
        |reference: &str| json!({ "type": "library", "bom-ref": reference, "name": "a", "version": "1.0.0" });
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": "2026-11-30T08:00:00.123456789Z",
            "component": {
                "type": "application",
                "bom-ref": project,
                "name": "registrar",
                "version": "0.1.0",
                "purl": "pkg:cargo/registrar@0.1.0?download_url=file://.",
                "components": [component(&format!("{project} bin-target-0"))],
            },
        },
        "components": dependencies.map(component),
        "dependencies": [
            { "ref": project, "dependsOn": dependencies },
            { "ref": dependencies[0] },
            { "ref": dependencies[1] },
        ],
    })
}

/// Runs the script; returns what it wrote, if it did.
fn normalise(sbom: &Value) -> (Output, Option<String>) {
    let folder = TempDir::new().unwrap();
    let [input, output] = ["input.json", "output.json"].map(|name| folder.path().join(name));
    fs::write(&input, sbom.to_string()).unwrap();
    let script = root().join("deploy/release/sbom.py");
    let arguments = [&script, &input, &output].map(|path| path.to_str().unwrap());
    let ran = run("python3", &arguments, &[("SOURCE_DATE_EPOCH", "1764547200")]);
    (ran, fs::read_to_string(output).ok())
}

#[test]
fn the_sbom_is_the_same_wherever_the_project_was_built() {
    let [first, second] = ["aes@0.9.4", "zeroize@1.9.0"].map(|name| format!("{CRATES_IO}{name}"));
    // In a folder with the project's name, cargo leaves the name out.
    let of_one = normalise(&sbom("path+file:///build/src#registrar@0.1.0", [&first, &second]));
    let of_another = normalise(&sbom("path+file:///home/ci/registrar#0.1.0", [&second, &first]));
    let text = of_one.1.unwrap_or_else(|| panic!("{}", text_of(&of_one.0)));
    assert_eq!(Some(&text), of_another.1.as_ref());

    let written: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(written["metadata"]["timestamp"], "2025-12-01T00:00:00Z");
    assert!(written["serialNumber"].as_str().unwrap().starts_with("urn:uuid:"));
    assert_eq!(written["components"].as_array().unwrap().len(), 2);
    let other =
        normalise(&sbom("path+file:///build/src#registrar@0.1.0", [&first, &format!("{CRATES_IO}zeroize@2.0.0")]));
    let other: Value = serde_json::from_str(&other.1.unwrap()).unwrap();
    assert_ne!(written["serialNumber"], other["serialNumber"], "another content has another number");
}

#[test]
fn an_sbom_with_a_dependency_of_another_source_is_refused() {
    let first = format!("{CRATES_IO}aes@0.9.4");
    for foreign in ["path+file:///home/ci/patched#aes@0.9.4", "registry+https://mirror.example/index#aes@0.9.4"] {
        let (ran, written) = normalise(&sbom("path+file:///build/src#registrar@0.1.0", [&first, foreign]));
        assert!(!ran.status.success() && written.is_none(), "{foreign} is accepted");
        assert!(text_of(&ran).contains(foreign), "{}", text_of(&ran));
    }
}
