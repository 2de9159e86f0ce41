//! The manifests under `deploy/kubernetes`: valid for Kubernetes, consistent in themselves and with the guide, and able
//! to start the built program.
//!
//! `make test` installs kubectl and kubernetes-validate below `tests/kubernetes`.

mod guide;
mod pod;
mod schema;
mod start;
mod workload;

use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

const OVERLAYS: [&str; 2] = ["sqlite", "postgres"];
/// Kinds that make pods.
const WORKLOADS: [&str; 2] = ["StatefulSet", "Deployment"];
const PROBES: [&str; 3] = ["startupProbe", "livenessProbe", "readinessProbe"];

/// What kubectl makes of an overlay.
pub struct Manifests {
    text: String,
    resources: Vec<Value>,
}

impl Manifests {
    fn from_overlay(name: &str) -> Self {
        Self::render(&in_repository("deploy/kubernetes").join(name))
    }

    fn render(folder: &Path) -> Self {
        let text = checked(kubectl().arg("kustomize").arg(folder), "");
        let resources = read_yaml(&text);
        Self { text, resources }
    }

    fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.resources.iter().filter(move |resource| resource["kind"] == kind)
    }

    fn named(&self, kind: &str, name: &str) -> &Value {
        let found = self.of_kind(kind).find(|resource| resource["metadata"]["name"] == name);
        found.unwrap_or_else(|| panic!("there is no {kind} {name}"))
    }

    fn workload(&self) -> &Value {
        let is_workload = |resource: &&Value| WORKLOADS.iter().any(|kind| resource["kind"] == *kind);
        let workloads: Vec<_> = self.resources.iter().filter(is_workload).collect();
        assert_eq!(workloads.len(), 1, "not one workload: {workloads:?}");
        workloads[0]
    }

    fn pod(&self) -> &Value {
        &self.workload()["spec"]["template"]["spec"]
    }

    fn pod_labels(&self) -> &Value {
        &self.workload()["spec"]["template"]["metadata"]["labels"]
    }

    fn container(&self) -> &Value {
        let containers = items(&self.pod()["containers"]);
        assert_eq!(containers.len(), 1, "not one container: {containers:?}");
        &containers[0]
    }

    /// The environment of the container.
    fn settings(&self) -> BTreeMap<String, String> {
        let mut settings = BTreeMap::new();
        for source in items(&self.container()["envFrom"]) {
            let map = self.named("ConfigMap", text(&source["configMapRef"]["name"]));
            let data = map["data"].as_object().unwrap();
            settings.extend(data.iter().map(|(name, value)| (name.clone(), text(value).to_owned())));
        }
        for variable in items(&self.container()["env"]) {
            settings.insert(text(&variable["name"]).to_owned(), text(&variable["value"]).to_owned());
        }
        settings
    }

    /// The secret volumes (`secretName`, `defaultMode`), by the path where each is mounted.
    fn secret_mounts(&self) -> BTreeMap<&str, &Value> {
        let volumes = items(&self.pod()["volumes"]);
        let mounts = items(&self.container()["volumeMounts"]).iter().filter_map(|mount| {
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"])?;
            Some((text(&mount["mountPath"]), volume.get("secret")?))
        });
        mounts.collect()
    }

    /// Where the volumes of the claim templates are mounted.
    fn claim_mounts(&self) -> Vec<&str> {
        let claims = items(&self.workload()["spec"]["volumeClaimTemplates"]);
        let is_claim = |mount: &&Value| claims.iter().any(|claim| claim["metadata"]["name"] == mount["name"]);
        let mounts = items(&self.container()["volumeMounts"]).iter().filter(is_claim);
        mounts.map(|mount| text(&mount["mountPath"])).collect()
    }
}

/// Whether the labels have all that the selector asks for, which must not be nothing.
fn is_selected(selector: &Value, labels: &Value) -> bool {
    selector.as_object().is_some_and(|all| !all.is_empty() && all.iter().all(|(name, value)| labels[name] == *value))
}

/// Empty if there is no list.
fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A program below `tests/kubernetes`.
fn tool(name: &str) -> Command {
    let path = in_repository("tests/kubernetes").join(name);
    assert!(path.is_file(), "{} is missing: `make test` installs it", path.display());
    Command::new(path)
}

/// Without a cluster.
fn kubectl() -> Command {
    let mut command = tool("bin/kubectl");
    command.env("KUBECONFIG", "/dev/null");
    command
}

fn output(command: &mut Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
    // Fails if the command ends without reading it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Standard output of a command that has to succeed, with this on standard input.
fn checked(command: &mut Command, input: &str) -> String {
    let output = output(command, input);
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The documents of a YAML file.
fn read_yaml(yaml: &str) -> Vec<Value> {
    let json = checked(tool(".venv/bin/python").arg(in_repository("tests/kubernetes/to_json.py")), yaml);
    serde_json::from_str(&json).unwrap()
}
