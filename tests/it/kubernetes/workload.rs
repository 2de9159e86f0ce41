//! The manifests agree with each other, with the program's settings and with the restricted Pod Security Standard.

use super::{Manifests, OVERLAYS, PROBES, guide::GUIDE, in_repository, is_selected, items, number, text};
use crate::documents::{code_spans, read};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    time::Duration,
};

/// Of the image.
const USER: u64 = 65532;
/// <https://kubernetes.io/docs/concepts/security/pod-security-standards/>
const RESTRICTED_VOLUMES: [&str; 8] =
    ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];

#[test]
fn sqlite_has_one_replica_and_its_file_in_a_volume_of_one_node() {
    let manifests = Manifests::from_overlay("sqlite");
    let workload = manifests.workload();
    assert_eq!((&workload["kind"], &workload["spec"]["replicas"]), (&json!("StatefulSet"), &json!(1)));
    let claims = items(&workload["spec"]["volumeClaimTemplates"]);
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0]["spec"]["accessModes"], json!(["ReadWriteOnce"]));
    let mounts = manifests.claim_mounts();
    let [mount] = mounts[..] else { panic!("{mounts:?}") };
    let database = manifests.settings()["REGISTRAR_DATABASE_URL"].clone();
    assert!(database.starts_with(&format!("sqlite://{mount}/")), "{database} is not below {mount}");
    manifests.named("Service", text(&workload["spec"]["serviceName"]));
}

#[test]
fn postgres_has_two_replicas_on_different_nodes_and_replaces_one_at_a_time() {
    let manifests = Manifests::from_overlay("postgres");
    let workload = manifests.workload();
    assert_eq!((&workload["kind"], &workload["spec"]["replicas"]), (&json!("Deployment"), &json!(2)));
    let update = &workload["spec"]["strategy"];
    assert_eq!(update["type"], "RollingUpdate");
    assert_eq!(
        (&update["rollingUpdate"]["maxUnavailable"], &update["rollingUpdate"]["maxSurge"]),
        (&json!(0), &json!(1))
    );
    let spread = items(&manifests.pod()["topologySpreadConstraints"]);
    assert!(spread.iter().any(|by| by["topologyKey"] == "kubernetes.io/hostname" && by["maxSkew"] == 1), "{spread:?}");
    for by in spread {
        assert!(is_selected(&by["labelSelector"]["matchLabels"], manifests.pod_labels()), "{by}");
    }
    assert_eq!(manifests.claim_mounts(), [""; 0]);
}

#[test]
fn no_volume_is_shared_by_nodes() {
    for overlay in OVERLAYS {
        assert!(!Manifests::from_overlay(overlay).text.contains("ReadWriteMany"), "{overlay}");
    }
}

#[test]
fn every_selector_selects_the_pod() {
    for overlay in OVERLAYS {
        let manifests = Manifests::from_overlay(overlay);
        let services = manifests.of_kind("Service").map(|service| &service["spec"]["selector"]);
        let budgets = manifests.of_kind("PodDisruptionBudget").map(|budget| &budget["spec"]["selector"]["matchLabels"]);
        let policies = manifests.of_kind("NetworkPolicy").map(|policy| &policy["spec"]["podSelector"]["matchLabels"]);
        let own = [&manifests.workload()["spec"]["selector"]["matchLabels"]];
        let selectors: Vec<_> = services.chain(budgets).chain(policies).chain(own).collect();
        assert!(selectors.len() >= 6, "{selectors:?}");
        for selector in selectors {
            assert!(is_selected(selector, manifests.pod_labels()), "{overlay}: {selector} selects no pod");
        }
        assert_eq!(manifests.named("PodDisruptionBudget", "registrar")["spec"]["maxUnavailable"], 1);
    }
}

#[test]
fn every_port_is_one_that_the_program_listens_on() {
    for overlay in OVERLAYS {
        let manifests = Manifests::from_overlay(overlay);
        let ports = items(&manifests.container()["ports"]).iter();
        let ports: BTreeMap<_, _> = ports.map(|port| (text(&port["name"]), number(&port["containerPort"]))).collect();
        let settings = manifests.settings();
        for (name, setting) in [("grpc", "REGISTRAR_LISTEN"), ("admin", "REGISTRAR_ADMIN_LISTEN")] {
            let address: SocketAddr = settings[setting].parse().unwrap();
            assert!(address.ip().is_unspecified(), "{setting}: probes and callers do not reach {address}");
            assert_eq!(u64::from(address.port()), ports[name], "{setting}");
        }
        for probe in PROBES {
            let probe = &manifests.container()[probe]["httpGet"];
            assert_eq!((&probe["port"], &probe["scheme"]), (&json!("admin"), &json!("HTTPS")));
        }
        for service in manifests.of_kind("Service") {
            for port in items(&service["spec"]["ports"]) {
                assert_eq!(ports.get(text(&port["targetPort"])), Some(&number(&port["port"])), "{service}");
            }
        }
        let policies: Vec<_> = manifests.of_kind("NetworkPolicy").collect();
        let allowed = |direction: &str| -> BTreeSet<u64> {
            let rules = policies.iter().flat_map(|policy| items(&policy["spec"][direction]));
            rules.flat_map(|rule| items(&rule["ports"])).map(|port| number(&port["port"])).collect()
        };
        assert_eq!(allowed("ingress"), ports.values().copied().collect::<BTreeSet<_>>());
        let database = (overlay == "postgres").then_some(5432);
        let expected: BTreeSet<u64> = [53, 443, 4317, 4318].into_iter().chain(database).collect();
        assert_eq!(allowed("egress"), expected);
    }
}

#[test]
fn the_pod_has_time_to_stop() {
    for overlay in OVERLAYS {
        let manifests = Manifests::from_overlay(overlay);
        // The image has no shell, so that nothing can be executed.
        let sleep = &manifests.container()["lifecycle"]["preStop"]["sleep"]["seconds"];
        let grace = humantime::parse_duration(&manifests.settings()["REGISTRAR_SHUTDOWN_GRACE"]).unwrap();
        let needed = Duration::from_secs(number(sleep)) + grace;
        let given = number(&manifests.pod()["terminationGracePeriodSeconds"]);
        assert!(Duration::from_secs(given) > needed, "{overlay}: {given} s is not more than {needed:?}");
        let guide = read(GUIDE);
        for stated in [format!("sleeps for {sleep} s"), format!("`terminationGracePeriodSeconds` ({given})")] {
            assert!(guide.contains(&stated), "the guide does not say: {stated}");
        }
    }
}

#[test]
fn every_container_meets_the_restricted_pod_security_standard() {
    for overlay in OVERLAYS {
        let manifests = Manifests::from_overlay(overlay);
        let pod = manifests.pod();
        for shared in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(pod[shared].is_null(), "{overlay}: {shared}");
        }
        for volume in items(&pod["volumes"]) {
            let kinds = volume.as_object().unwrap().keys().filter(|key| *key != "name");
            let others: Vec<_> = kinds.filter(|kind| !RESTRICTED_VOLUMES.contains(&kind.as_str())).collect();
            assert!(others.is_empty(), "{overlay}: {others:?}");
        }
        for container in items(&pod["containers"]).iter().chain(items(&pod["initContainers"])) {
            assert_restricted(&pod["securityContext"], container);
        }
        assert_eq!(pod["automountServiceAccountToken"], false);
        let account = manifests.named("ServiceAccount", text(&pod["serviceAccountName"]));
        assert_eq!(account["automountServiceAccountToken"], false);
    }
}

/// What a container does not say itself, the pod says for it.
fn assert_restricted(pod: &Value, container: &Value) {
    let own = &container["securityContext"];
    let effective = |field: &str| if own[field].is_null() { &pod[field] } else { &own[field] };
    assert_eq!(*effective("runAsNonRoot"), true);
    assert_eq!((effective("runAsUser"), effective("runAsGroup")), (&json!(USER), &json!(USER)));
    assert_eq!(effective("seccompProfile")["type"], "RuntimeDefault");
    assert_eq!((&own["allowPrivilegeEscalation"], &own["readOnlyRootFilesystem"]), (&json!(false), &json!(true)));
    assert_eq!(own["capabilities"], json!({ "drop": ["ALL"] }));
    assert!(own["privileged"].is_null() && own["procMount"].is_null(), "{own}");
    assert!(items(&container["ports"]).iter().all(|port| port["hostPort"].is_null()), "{container}");
    for resource in ["/requests/cpu", "/requests/memory", "/limits/memory"] {
        assert!(container["resources"].pointer(resource).is_some(), "{resource} is missing");
    }
}

#[test]
fn secret_files_are_readable_for_the_program_and_for_no_other_user() {
    for overlay in OVERLAYS {
        let manifests = Manifests::from_overlay(overlay);
        // They belong to root and this group.
        assert_eq!(manifests.pod()["securityContext"]["fsGroup"], USER);
        let mounts = manifests.secret_mounts();
        assert_eq!(mounts.len(), 3, "{mounts:?}");
        for (path, volume) in mounts {
            assert_eq!(number(&volume["defaultMode"]), 0o440, "{path}");
        }
        for mount in items(&manifests.container()["volumeMounts"]) {
            // Such a file is never updated.
            assert!(mount["subPath"].is_null(), "{mount}");
        }
    }
}

#[test]
fn the_image_is_of_this_version() {
    for overlay in OVERLAYS {
        let manifests = Manifests::from_overlay(overlay);
        assert_eq!(manifests.container()["image"], concat!("registrar:", env!("CARGO_PKG_VERSION")));
        assert_eq!(manifests.container()["args"], json!(["serve"]));
    }
}

/// The name of `NAME=value`.
fn setting(text: &str) -> Option<String> {
    let (name, _) = text.split_once('=')?;
    let is_name =
        |name: &str| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    (!name.is_empty() && is_name(name)).then(|| name.to_owned())
}

#[test]
fn every_setting_in_the_manifests_and_the_guide_is_documented() {
    let page = read("docs/reference/settings.md");
    let documented: BTreeSet<_> = code_spans(&page).into_iter().collect();
    let secrets = page.split("\n## ").find(|section| section.starts_with("Secrets\n")).unwrap();
    let secrets: BTreeSet<_> = code_spans(secrets).into_iter().collect();

    let mut used: BTreeSet<String> = BTreeSet::new();
    for overlay in OVERLAYS {
        used.extend(Manifests::from_overlay(overlay).settings().into_keys());
    }
    // Those that are commented out, too.
    let file = fs::read_to_string(in_repository("deploy/kubernetes/base/settings.env")).unwrap();
    used.extend(file.lines().filter_map(|line| setting(line.trim_start_matches("# "))));
    let guide = read(GUIDE);
    used.extend(code_spans(&guide).iter().filter_map(|span| setting(span)));
    used.extend(guide.lines().filter_map(|line| setting(line.trim_start_matches([' ', '-']))));
    for expected in ["REGISTRAR_SHUTDOWN_GRACE", "SENTRY_DSN_FILE", "REGISTRAR_SIGNERS", "TRACE_ENVIRONMENT"] {
        assert!(used.contains(expected), "{expected} is not among {used:?}");
    }

    let is_documented = |name: &String| {
        documented.contains(name) || name.strip_suffix("_FILE").is_some_and(|secret| secrets.contains(secret))
    };
    let unknown: Vec<_> = used.iter().filter(|name| !is_documented(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
