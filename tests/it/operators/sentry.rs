//! The files for Sentry: their filters match what the service sends, and every placeholder is explained.

use super::{files, json, source, text};
use serde_json::Value;
use std::collections::BTreeSet;

/// The source files that define Sentry events.
fn event_sources() -> String {
    ["events/chain.rs", "events/database.rs", "events/mod.rs", "events/timeout.rs", "timeout_report.rs"]
        .map(|file| source(&format!("telemetry/{file}")))
        .concat()
}

#[test]
fn every_alert_filter_matches_an_event_of_the_service() {
    let sources = event_sources();
    for file in files("sentry/alerts", ".json") {
        let alert = json(&file);
        assert!(alert["name"].as_str().unwrap().starts_with("Registrar: "), "{file}");
        assert!(
            alert["config"]["frequency"].is_u64() && !alert["detectorIds"].as_array().unwrap().is_empty(),
            "{file}"
        );
        assert_eq!(alert["triggers"]["logicType"], "any-short");
        for filter in alert["actionFilters"].as_array().unwrap() {
            assert!(!filter["actions"].as_array().unwrap().is_empty(), "{file} has no action");
            filter["conditions"]
                .as_array()
                .unwrap()
                .iter()
                .for_each(|condition| check_condition(&file, condition, &sources));
            for tags in
                filter["actions"].as_array().unwrap().iter().filter_map(|action| action["data"]["tags"].as_str())
            {
                for tag in tags.split(',').filter(|tag| !tag.is_empty()) {
                    assert!(
                        sources.contains(&format!("tag(\"{tag}\"")),
                        "{file} shows the tag {tag}, which is never set"
                    );
                }
            }
        }
    }
}

fn check_condition(file: &str, condition: &Value, sources: &str) {
    let comparison = &condition["comparison"];
    assert_eq!(condition["conditionResult"], true, "{file}");
    match condition["type"].as_str().unwrap() {
        "event_attribute" => {
            let value = comparison["value"].as_str().unwrap();
            assert!(["co", "eq", "sw"].contains(&comparison["match"].as_str().unwrap()), "{file}");
            assert!(["message", "exception.type"].contains(&comparison["attribute"].as_str().unwrap()), "{file}");
            assert!(sources.contains(value), "{file}: no event contains {value}");
        }
        "tagged_event" => {
            let (key, value) = (comparison["key"].as_str().unwrap(), comparison["value"].as_str().unwrap());
            assert!(
                sources.contains(&format!("tag(\"{key}\", \"{value}\")")),
                "{file}: no event has the tag {key}={value}"
            );
        }
        "level" => assert!([30, 50].contains(&comparison["level"].as_u64().unwrap()), "{file}"),
        "event_unique_user_frequency_count" => {
            assert_eq!((&comparison["value"], &comparison["interval"]), (&5.into(), &"15m".into()), "{file}");
        }
        other => panic!("{file}: unknown condition {other}"),
    }
}

#[test]
fn the_monitors_have_the_documented_thresholds() {
    for (file, aggregate, threshold) in [
        ("sentry/monitors/failure-share.json", "failure_rate()", 0.1),
        ("sentry/monitors/users-affected.json", "count_unique(tags[sentry:user])", 5.0),
    ] {
        let monitor = json(file);
        let source = &monitor["dataSources"][0];
        assert_eq!((&source["aggregate"], &source["timeWindow"]), (&aggregate.into(), &900.into()));
        let conditions = monitor["conditionGroup"]["conditions"].as_array().unwrap();
        let thresholds: Vec<_> = conditions
            .iter()
            .map(|one| (one["type"].as_str().unwrap(), one["comparison"].as_f64().unwrap(), &one["conditionResult"]))
            .collect();
        assert_eq!(thresholds, [("gt", threshold, &75.into()), ("lte", threshold, &0.into())]);
    }
    assert!(
        source("pipeline/registration_trace/spans.rs").contains("\"blockchain.register\""),
        "the span's name changed"
    );
}

#[test]
fn every_file_is_listed_and_every_placeholder_explained() {
    let page = text("sentry/README.md");
    let filled: BTreeSet<_> = page.lines().filter_map(|line| line.strip_prefix("s/")?.split('/').next()).collect();
    let all = [files("sentry/monitors", ".json"), files("sentry/alerts", ".json")].concat();
    for file in &all {
        let name = file.trim_start_matches("sentry/");
        assert!(page.contains(&format!("| `{name}` |")), "{name} is not in the table");
        let text = text(file);
        for word in
            text.split('"').filter(|word| word.len() > 3 && word.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        {
            assert!(
                filled.contains(word) || filled.contains(&*format!("\"{word}\"")),
                "{name}: {word} is not filled in"
            );
        }
    }
    assert_eq!(page.matches("| `monitors/").count() + page.matches("| `alerts/").count(), all.len());
}
