//! The alerting and recording rules: valid, tested, and routed.

use super::{
    deploy, files,
    prometheus::{Prometheus, checked},
};
use crate::documents::anchors;
use std::{collections::BTreeSet, net::SocketAddr};

/// A port that nothing listens on.
const CLOSED_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

#[test]
fn promtool_tests_of_the_rules_pass() {
    let folder = deploy("prometheus");
    checked("promtool", &folder, &["check", "config", "prometheus.yml"]);
    let tests = files("prometheus/tests", ".yml");
    let tests = tests.iter().map(|path| path.trim_start_matches("prometheus/"));
    let arguments: Vec<_> = ["test", "rules"].into_iter().chain(tests).collect();
    checked("promtool", &folder, &arguments);
}

#[tokio::test]
async fn every_alert_has_a_firing_and_a_silent_test() {
    let tests: String = files("prometheus/tests", ".yml").iter().map(|path| super::text(path)).collect();
    for rule in Prometheus::scraping(CLOSED_PORT).await.rules().await {
        let name = rule.name();
        if !rule.is_alert() {
            assert!(tests.contains(name), "{name} is in no test");
            continue;
        }
        let mentions: Vec<_> = tests.split("alertname: ").skip(1).filter(|rest| is_about(rest, name)).collect();
        let fires = |rest: &&&str| rest.split("\n      - ").next().unwrap().contains("exp_alerts:");
        let firing = mentions.iter().filter(fires).count();
        // Some stay silent in a test in which nothing fires, or while another instance fires.
        let silent = mentions.len() - firing + tests.matches("{ expr: ALERTS, ").count();
        assert!(firing > 0, "no test has {name} firing");
        assert!(silent > 0, "no test has {name} silent");
    }
}

fn is_about(rest: &str, name: &str) -> bool {
    rest.strip_prefix(name).is_some_and(|rest| rest.starts_with([',', '\n', ' ']))
}

#[tokio::test]
async fn every_alert_links_to_the_runbook_and_is_routed_by_its_label() {
    let folder = deploy("alertmanager");
    checked("amtool", &folder, &["check-config", "alertmanager.yml"]);
    let runbook = anchors(&super::text("RUNBOOK.md"));
    let mut receivers = BTreeSet::new();
    for rule in Prometheus::scraping(CLOSED_PORT).await.rules().await.iter().filter(|rule| rule.is_alert()) {
        let name = rule.name();
        let anchor = rule.annotation("runbook_url").strip_prefix("RUNBOOK.md#").unwrap_or_else(|| panic!("{name}"));
        assert_eq!(anchor, name.to_lowercase(), "{name} links to another alert's section");
        assert!(runbook.contains(anchor), "the runbook has no section {anchor}");
        assert!(!rule.annotation("summary").is_empty() && !rule.label("about").is_empty());
        assert_eq!(rule.label("service"), "registrar");

        let (notify, severity) = (rule.label("notify"), rule.label("severity"));
        assert!(matches!((severity, notify), ("info", "chat") | ("warning", "chat" | "mail") | ("critical", "pager")));
        let labels = [("alertname", name), ("service", "registrar"), ("notify", notify), ("severity", severity)];
        let labels = labels.map(|(label, value)| format!("{label}={value}"));
        let mut arguments = vec!["config", "routes", "test", "--config.file=alertmanager.yml"];
        arguments.extend(labels.iter().map(String::as_str));
        // Every other receiver's alerts go to the chat too.
        let expected = if notify == "chat" { "chat".to_owned() } else { format!("{notify},chat") };
        assert_eq!(checked("amtool", &folder, &arguments).trim(), expected, "{name}");
        receivers.insert(notify.to_owned());
    }
    assert_eq!(receivers, ["chat", "mail", "pager"].map(str::to_owned).into());
}
