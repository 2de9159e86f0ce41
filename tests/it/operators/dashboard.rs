//! The Grafana dashboard: valid, readable, and without panels that nothing can fill.

use super::json;
use serde_json::Value;
use std::collections::BTreeSet;

/// Every query of the dashboard, with its legend.
pub fn expressions() -> Vec<(String, String)> {
    let dashboard = json("grafana/registrar.json");
    let mut found = Vec::new();
    for panel in panels(&dashboard) {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let legend = target["legendFormat"].as_str().unwrap();
            found.push((plain(target["expr"].as_str().unwrap()), legend.to_owned()));
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().unwrap() {
        let text = annotation["textFormat"].as_str().unwrap();
        found.push((plain(annotation["expr"].as_str().unwrap()), text.to_owned()));
    }
    found
}

/// The query as Grafana sends it, for every instance of the job.
fn plain(expression: &str) -> String {
    let plain = expression.replace("$__rate_interval", "1m").replace("$job", "registrar").replace("$instance", ".+");
    assert!(!plain.contains('$'), "an undefined variable: {expression}");
    plain
}

fn panels(dashboard: &Value) -> &Vec<Value> {
    dashboard["panels"].as_array().unwrap()
}

#[test]
fn every_panel_has_a_description_a_unit_and_a_data_source() {
    let dashboard = json("grafana/registrar.json");
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<_> = variables.iter().map(|variable| variable["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["datasource", "job", "instance"]);
    assert_eq!((&variables[0]["type"], &variables[0]["query"]), (&"datasource".into(), &"prometheus".into()));

    let mut ids = BTreeSet::new();
    let mut titles = BTreeSet::new();
    let mut row = "";
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title} has the id of another panel");
        if panel["type"] == "row" {
            row = title;
            continue;
        }
        assert!(titles.insert((row, title)), "two panels have the title {title}");
        assert!(panel["description"].as_str().unwrap().len() > 5, "{title} has no description");
        assert!(!panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap().is_empty(), "{title} has no unit");
        let targets = panel["targets"].as_array().unwrap();
        let refs: BTreeSet<_> = targets.iter().map(|target| target["refId"].as_str().unwrap()).collect();
        assert_eq!(refs.len(), targets.len(), "{title} has two targets with one refId");
        for source in targets.iter().chain([panel]).map(|from| &from["datasource"]) {
            assert_eq!((&source["type"], &source["uid"]), (&"prometheus".into(), &"${datasource}".into()), "{title}");
        }
        for target in targets {
            assert!(!target["legendFormat"].as_str().unwrap().is_empty(), "{title} has a target without a legend");
        }
    }
    for row in ["Stages", "Registrations", "Endpoints", "Signers", "Telemetry"] {
        assert!(panels(&dashboard).iter().any(|panel| panel["title"] == row), "row {row} is missing");
    }
}

#[test]
fn panels_do_not_overlap() {
    let dashboard = json("grafana/registrar.json");
    let mut occupied = BTreeSet::new();
    for panel in panels(&dashboard) {
        let side = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(side("x") + side("w") <= 24 && side("w") > 0 && side("h") > 0, "{}", panel["title"]);
        for cell in
            (side("y")..side("y") + side("h")).flat_map(|y| (side("x")..side("x") + side("w")).map(move |x| (x, y)))
        {
            assert!(occupied.insert(cell), "{} overlaps another panel", panel["title"]);
        }
    }
}
