//! The compose file: valid, locked down, and with settings that work together.

use super::{checked, is_pinned, python_tool, read, root, setting_names, settings, yaml};
use crate::harness::{
    Anvil, CASE, Client, Database, Service,
    anvil::{CHAIN_ID, KEYS},
    cli::run,
    service::Settings,
};
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, PathBuf},
};

const FILE: &str = "compose.yaml";

fn services() -> Map<String, Value> {
    let services = yaml(FILE)["services"].as_object().unwrap().clone();
    let names: BTreeSet<_> = services.keys().map(String::as_str).collect();
    assert_eq!(names, ["anvil", "deploy", "jaeger", "postgres", "prometheus", "registrar"].into());
    services
}

/// The variables of a service.
fn environment(service: &str) -> BTreeMap<String, String> {
    let services = services();
    let variables = services[service]["environment"].as_object().unwrap().iter();
    variables
        .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_else(|| panic!("{name}")).to_owned()))
        .collect()
}

fn list<'a>(service: &'a Value, name: &str) -> Vec<&'a str> {
    service[name].as_array().into_iter().flatten().map(|item| item.as_str().unwrap()).collect()
}

#[test]
fn the_compose_file_is_valid() {
    checked(python_tool("check-jsonschema"), &["--builtin-schema", "vendor.compose-spec", FILE]);
}

#[test]
fn every_service_is_locked_down_limited_and_checked() {
    for (name, service) in services() {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["cap_drop"], json!(["ALL"]), "{name}");
        assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]), "{name}");
        assert!(service["pids_limit"].is_u64() && service["mem_limit"].is_string(), "{name} has no limits");
        assert!(service.get("privileged").is_none() && service.get("cap_add").is_none(), "{name}");
        // Chain and database lose everything when they end, and a second deployment is another contract.
        let in_memory = ["anvil", "deploy", "postgres"].contains(&name.as_str());
        assert_eq!(service["restart"], if in_memory { "no" } else { "on-failure:5" }, "{name}");
        assert_eq!(service["healthcheck"].get("test").is_some(), name != "deploy", "{name}");
        let image = service["image"].as_str().unwrap();
        if service.get("build").is_none() {
            assert!(is_pinned(image), "{name} uses {image}");
            let user = service["user"].as_str().unwrap_or_else(|| panic!("{name} has no user"));
            assert!(!user.starts_with("0:") && user != "0" && user != "root", "{name} runs as {user}");
        }
        for port in list(&service, "ports") {
            assert!(port.starts_with("127.0.0.1:"), "{name} is reachable from other machines: {port}");
        }
        let is_published = list(&service, "networks").contains(&"published");
        assert_eq!(is_published, service.get("ports").is_some(), "{name} needs no way out");
    }
    assert_eq!(yaml(FILE)["networks"]["inside"]["internal"], true);
}

#[test]
fn a_service_starts_when_what_it_needs_is_ready() {
    let services = services();
    let condition = |service: &str, needs: &str| services[service]["depends_on"][needs]["condition"].clone();
    assert_eq!(condition("deploy", "anvil"), "service_healthy");
    assert_eq!(condition("registrar", "deploy"), "service_completed_successfully");
    assert_eq!(condition("registrar", "postgres"), "service_healthy");
    assert_eq!(condition("prometheus", "registrar"), "service_healthy");
}

/// The mounted folders and files: in the project, and in the container.
fn mounts(service: &Value) -> Vec<(PathBuf, PathBuf)> {
    let mounts = list(service, "volumes").into_iter().map(|mount| {
        let parts: Vec<_> = mount.split(':').collect();
        let [source, target, "ro"] = parts[..] else { panic!("{mount} is not mounted read-only") };
        (PathBuf::from(source.trim_start_matches("./")), PathBuf::from(target))
    });
    mounts.collect()
}

#[test]
fn what_is_mounted_exists_and_is_what_prometheus_reads() {
    let services = services();
    for (name, service) in &services {
        for (source, _) in mounts(service) {
            assert!(root().join(&source).exists(), "{name} mounts {}", source.display());
        }
    }
    let prometheus = &services["prometheus"];
    let configuration = list(prometheus, "command").into_iter().find_map(|word| word.strip_prefix("--config.file="));
    let configuration = PathBuf::from(configuration.unwrap());
    let in_project = |path: &PathBuf| {
        let find = |(source, target): (PathBuf, PathBuf)| Some(source.join(path.strip_prefix(target).ok()?));
        mounts(prometheus).into_iter().find_map(find)
    };
    let file = in_project(&configuration).unwrap_or_else(|| panic!("{} is not mounted", configuration.display()));
    let file = file.to_str().unwrap();
    checked("promtool", &["check", "config", file]);

    let ours = yaml(file);
    for rules in list(&ours, "rule_files") {
        let rules = configuration.parent().unwrap().join(rules);
        // `..` is resolved in the container as it is in the project.
        let rules = rules.components().fold(PathBuf::new(), |path, part| match part {
            Component::ParentDir => path.parent().unwrap().to_owned(),
            other => path.join(other),
        });
        assert!(in_project(&rules).is_some_and(|rules| root().join(rules).is_file()), "{} is missing", rules.display());
    }
    let names = |value: &Value| {
        let files = list(value, "rule_files").into_iter();
        files.map(|path| path.rsplit('/').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&ours), names(&yaml("deploy/prometheus/prometheus.yml")));
    assert_eq!(ours["scrape_configs"][0]["job_name"], "registrar");
    let dockerfile = read("Dockerfile");
    let (_, port) = dockerfile.split_once("REGISTRAR_ADMIN_LISTEN=0.0.0.0:").unwrap();
    let port = port.split_whitespace().next().unwrap();
    assert_eq!(ours["scrape_configs"][0]["static_configs"][0]["targets"], json!([format!("registrar:{port}")]));
}

#[test]
fn every_variable_is_a_setting_and_every_key_is_published() {
    let known = settings();
    let text = read(FILE);
    let unknown: Vec<_> = setting_names(&text).into_iter().filter(|name| !known.contains(*name)).collect();
    assert!(unknown.is_empty(), "not in the reference of the settings: {unknown:?}");
    for name in environment("registrar").keys().chain(environment("deploy").keys()) {
        assert!(known.contains(name), "{name} is not in the reference of the settings");
    }
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let keys: Vec<_> = words.filter(|word| word.starts_with("0x") && word.len() == 66).collect();
    assert_eq!(keys.len(), 5);
    assert!(keys.iter().all(|key| KEYS.contains(key)), "a key that is not one of anvil's");
    assert!(!environment("registrar")["REGISTRAR_SIGNER_KEYS"].contains(KEYS[0]), "the owner's key is only to deploy");
}

#[tokio::test]
async fn the_settings_of_the_stack_deploy_the_contract_and_register() {
    let anvil = Anvil::start(&["--block-time", "0.2"]).await;
    let deployment = environment("deploy");
    let replaced = ("REGISTRAR_RPC_URLS", anvil.url());
    let variables = deployment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let variables: Vec<_> = variables.filter(|(name, _)| *name != replaced.0).chain([replaced]).collect();
    let deployed = run(&["deploy"], &variables).await;
    assert_eq!(deployed.code, 0, "{deployed:?}");
    let variables = environment("registrar");
    assert_eq!(deployed.stdout.trim(), variables["REGISTRAR_CONTRACT_ADDRESS"]);
    assert_eq!(variables["REGISTRAR_CHAIN_ID"], CHAIN_ID.to_string());

    // Jaeger is not here.
    let kept = variables.iter().filter(|(name, _)| *name != "OTEL_EXPORTER_OTLP_ENDPOINT");
    let settings = kept.fold(Settings::empty(), |settings, (name, value)| settings.set(name, value));
    let settings = settings
        .set("REGISTRAR_RPC_URLS", anvil.url())
        .set("REGISTRAR_DATABASE_URL", Database::new().await.url())
        .set("REGISTRAR_LISTEN", "127.0.0.1:0")
        .set("REGISTRAR_ADMIN_LISTEN", "127.0.0.1:0")
        .set("LOG_FORMAT", "json");
    let service = Service::start(&settings).await;
    let client = Client::connect(service.grpc).await;
    client.confirm(1, CASE).await;
}
