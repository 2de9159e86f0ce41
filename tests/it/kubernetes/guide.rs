//! What the guide says to type and to write works, and makes what the manifests expect.

use super::{
    Manifests, OVERLAYS, WORKLOADS, checked, in_repository, is_selected, items, kubectl, read_yaml,
    schema::{newest_versions, validate},
    text,
};
use crate::{
    documents::{code_blocks, code_spans, read},
    harness::certificates::Authority,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::symlink,
    path::Path,
};

pub const GUIDE: &str = "docs/guides/kubernetes.md";
/// The files that the guide lets an operator make, other than certificate and key.
const FILES: [&str; 6] = ["signer-keys", "rpc-urls", "database-url", "callers.toml", "token", "ca.crt"];

/// A Secret of the cluster.
pub struct Secret {
    kind: Option<String>,
    pub data: BTreeMap<String, Vec<u8>>,
}

/// The YAML of this kind in the guide.
fn example(kind: &str) -> String {
    let guide = read(GUIDE);
    let opening = format!("\nkind: {kind}\n");
    let found = code_blocks(&guide, "yaml").into_iter().find(|block| block.contains(&opening));
    found.unwrap_or_else(|| panic!("the guide has no {kind}")).to_owned()
}

/// The Secrets that the guide's commands make of the files in a folder, by name.
pub fn create_secrets(folder: &Path) -> BTreeMap<String, Secret> {
    let guide = read(GUIDE);
    let lines = code_blocks(&guide, "sh").concat().replace("\\\n", " ");
    let mut secrets = BTreeMap::new();
    for line in lines.lines().filter(|line| line.starts_with("kubectl ") && line.contains(" create secret ")) {
        let arguments = line.split(" #").next().unwrap().split_whitespace().skip(1);
        let mut command = kubectl();
        command.current_dir(folder).args(arguments).args(["--dry-run=client", "-o", "json"]);
        let made: Value = serde_json::from_str(&checked(&mut command, "")).unwrap();
        let data = made["data"].as_object().unwrap().iter();
        let data = data.map(|(key, value)| (key.clone(), STANDARD.decode(text(value)).unwrap())).collect();
        let kind = made["type"].as_str().map(str::to_owned);
        secrets.insert(text(&made["metadata"]["name"]).to_owned(), Secret { kind, data });
    }
    secrets
}

#[test]
fn the_guide_creates_every_secret_file_that_is_used_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    for name in FILES {
        fs::write(folder.path().join(name), "content").unwrap();
    }
    Authority::new().sign("registrar.registrar.svc").write(folder.path(), "tls");
    let secrets = create_secrets(folder.path());
    assert_eq!(secrets["registrar-tls"].kind.as_deref(), Some("kubernetes.io/tls"));
    assert_eq!(secrets["registrar-secrets"].data["signer-keys"], b"content");

    let mut used = BTreeSet::new();
    let mut mounted = BTreeSet::new();
    for overlay in OVERLAYS {
        let manifests = Manifests::from_overlay(overlay);
        for (path, volume) in manifests.secret_mounts() {
            let name = text(&volume["secretName"]).to_owned();
            let inside = format!("{path}/");
            let keys =
                manifests.settings().into_values().filter_map(|value| Some(value.strip_prefix(&inside)?.to_owned()));
            used.extend(keys.map(|key| (name.clone(), key)));
            mounted.insert(name);
        }
    }
    let created: BTreeSet<_> = secrets
        .iter()
        .filter(|(name, _)| mounted.contains(*name))
        .flat_map(|(name, secret)| secret.data.keys().map(|key| (name.clone(), key.clone())))
        .collect();
    assert_eq!(created, used);
}

#[test]
fn the_overlay_of_the_guide_adds_to_either_base() {
    let written = example("Kustomization");
    assert!(written.contains("/deploy/kubernetes/postgres "), "{written}");
    for overlay in OVERLAYS {
        let folder = tempfile::tempdir().unwrap();
        symlink(in_repository(""), folder.path().join("registrar")).unwrap();
        let own = folder.path().join("registrar-production");
        fs::create_dir(&own).unwrap();
        let written = written.replace("/deploy/kubernetes/postgres ", &format!("/deploy/kubernetes/{overlay} "));
        // With the example of another section in the same file.
        let written = if overlay == "postgres" { written + &example_of_replicas() } else { written };
        fs::write(own.join("kustomization.yaml"), written).unwrap();

        let manifests = Manifests::render(&own);
        assert!(manifests.resources.iter().all(|resource| resource["metadata"]["namespace"] == "registrar"));
        let (before, after) = (Manifests::from_overlay(overlay).settings(), manifests.settings());
        let added: Vec<_> = after.keys().filter(|name| !before.contains_key(*name)).collect();
        assert_eq!(added, ["REGISTRAR_CONTRACT_ADDRESS", "TRACE_ENVIRONMENT"]);
        assert!(before.iter().all(|(name, value)| after.get(name) == Some(value)), "{before:?} became {after:?}");
        let image = text(&manifests.container()["image"]);
        assert_eq!(image, concat!("registry.example.com/registrar:", env!("CARGO_PKG_VERSION")));
        assert_eq!(manifests.workload()["spec"]["replicas"], if overlay == "postgres" { 3 } else { 1 });
        let newest = newest_versions().pop().unwrap();
        assert_eq!(validate(&manifests.text, &newest), Ok(manifests.resources.len()));
    }
}

fn example_of_replicas() -> String {
    let guide = read(GUIDE);
    let found = code_blocks(&guide, "yaml").into_iter().find(|block| block.starts_with("replicas:\n"));
    found.expect("the guide has no replicas").to_owned()
}

#[test]
fn the_examples_of_the_guide_fit_the_manifests() {
    let policy = example("NetworkPolicy");
    assert_eq!(validate(&policy, &newest_versions().pop().unwrap()), Ok(1));
    let policy = read_yaml(&policy).remove(0);
    let monitor = read_yaml(&example("ServiceMonitor")).remove(0);
    for overlay in OVERLAYS {
        let manifests = Manifests::from_overlay(overlay);
        assert!(is_selected(&policy["spec"]["podSelector"]["matchLabels"], manifests.pod_labels()), "{policy}");
        let wanted = &monitor["spec"]["selector"]["matchLabels"];
        let is_scraped = |service: &&Value| is_selected(wanted, &service["metadata"]["labels"]);
        let scraped: Vec<_> = manifests.of_kind("Service").filter(is_scraped).collect();
        let [scraped] = scraped[..] else { panic!("{} Services are scraped", scraped.len()) };
        // A replica that is not ready is scraped too.
        assert_eq!(scraped["spec"]["publishNotReadyAddresses"], true);
        let port = &monitor["spec"]["endpoints"][0]["port"];
        assert!(
            items(&scraped["spec"]["ports"]).iter().any(|own| own["name"] == *port),
            "{scraped} has no port {port}"
        );
        // The rules expect this job.
        let label = text(&monitor["spec"]["jobLabel"]);
        assert_eq!(scraped["metadata"]["labels"][label], "registrar");
    }
}

#[test]
fn the_commands_of_the_guide_name_what_the_manifests_create() {
    let guide = read(GUIDE);
    let text = code_blocks(&guide, "sh").concat() + &code_spans(&guide).join("\n");
    let rendered = OVERLAYS.map(Manifests::from_overlay);
    let mut named = 0;
    for kind in WORKLOADS.into_iter().chain(["Service"]) {
        let prefix = format!("{}/", kind.to_lowercase());
        let words = text.split_whitespace().filter_map(|word| word.strip_prefix(&prefix));
        for name in words {
            let exists = rendered
                .iter()
                .any(|manifests| manifests.of_kind(kind).any(|resource| resource["metadata"]["name"] == name));
            assert!(exists, "there is no {kind} {name}");
            named += 1;
        }
    }
    assert!(named >= 6, "only {named} resources are named");
}
