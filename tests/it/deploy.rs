//! The files of `deploy/`: that they parse, fit each other, and name only what there is.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{dashboards, deployed, document_of, documents_of, files_in, list, promtool, rules, text, text_of};

mod commands;
mod compose;
mod kubernetes;
mod names;

pub(crate) use names::FROM_REAL_BROKERS;

#[test]
fn every_deploy_file_parses() {
    let mut parsed = 0;
    let mut folders = vec![deployed("")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(deployed("")).unwrap().to_str().unwrap();
            let is_json =
                |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|error| panic!("deploy/{name}: {error}"));
            match name.rsplit_once('.').map(|(_, ending)| ending) {
                Some("yml" | "yaml") => assert!(documents_of(name).iter().all(Value::is_object), "deploy/{name}"),
                Some("json") => assert!(is_json(&text_of(name)).is_object(), "deploy/{name}"),
                Some("ndjson") => assert!(text_of(name).lines().all(|line| is_json(line).is_object()), "deploy/{name}"),
                _ => continue,
            }
            parsed += 1;
        }
    }
    assert!(parsed >= 15, "the files are found: {parsed}");
}

#[test]
fn promtool_takes_the_configuration_and_the_alerts_pass_their_tests() {
    for (check, file) in [("check config", "prometheus.yml"), ("check rules", "alerts.yml"), ("test rules", "alerts.test.yml")] {
        let path = deployed("prometheus").join(file);
        let arguments: Vec<_> = check.split(' ').chain(path.to_str()).collect();
        let Some(judged) = promtool(&arguments, "") else { return };
        assert!(judged.well, "promtool {check} {file}:\n{}", judged.output);
    }
}

#[test]
fn each_alert_has_a_test_and_is_explained() {
    let tested = text_of("prometheus/alerts.test.yml");
    let explained = std::fs::read_to_string(deployed("../docs/operations.md")).unwrap();
    for rule in rules() {
        let name = text(&rule["alert"]);
        assert!(tested.lines().any(|line| line.trim() == format!("alertname: {name}")), "no test of {name}");
        assert!(explained.lines().any(|line| line == format!("### {name}")), "docs/operations.md does not explain {name}");
        let runbook = format!("docs/operations.md#{}", name.to_lowercase());
        assert_eq!(rule["annotations"]["runbook"], Value::String(runbook));
        assert!(["critical", "warning"].contains(&text(&rule["labels"]["severity"])), "{name}");
        for annotation in ["summary", "description"] {
            assert!(rule["annotations"][annotation].is_string(), "{name} has no {annotation}");
        }
    }
}

#[test]
fn the_panels_of_a_dashboard_do_not_overlap_and_have_ids_of_their_own() {
    for (path, dashboard) in dashboards() {
        let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for panel in list(&dashboard["panels"]) {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{path}: two panels have the id {}", panel["id"]);
            let place = ["x", "y", "w", "h"].map(|name| panel["gridPos"][name].as_u64().unwrap());
            let [x, y, width, height] = place;
            assert!(width > 0 && height > 0 && x + width <= 24, "{path}: {}", panel["title"]);
            for cell in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
                assert!(taken.insert(cell), "{path}: {} covers another panel", panel["title"]);
            }
        }
    }
    let uids: BTreeSet<_> = dashboards().iter().map(|(_, dashboard)| text(&dashboard["uid"]).to_owned()).collect();
    assert_eq!(uids.len(), dashboards().len());
}

#[test]
fn grafana_is_provisioned_with_dashboards_and_data_sources() {
    let compose = document_of("compose.yml");
    let mounted: Vec<_> = list(&compose["services"]["grafana"]["volumes"]).map(text).collect();
    let folder = document_of("grafana/provisioning/dashboards/sdl.yml")["providers"][0]["options"]["path"].clone();
    assert!(mounted.contains(&format!("./grafana/dashboards:{}:ro", text(&folder)).as_str()), "{mounted:?}");
    assert!(mounted.contains(&"./grafana/provisioning:/etc/grafana/provisioning:ro"), "{mounted:?}");
    let home = &compose["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"];
    let home = text(home).strip_prefix(&format!("{}/", text(&folder))).unwrap();
    assert!(deployed("grafana/dashboards").join(home).is_file(), "{home}");
    let source = &document_of("grafana/provisioning/datasources/prometheus.yml")["datasources"][0];
    let prometheus = document_of("prometheus/prometheus.yml");
    assert_eq!(source["url"], "http://prometheus:9090");
    assert_eq!(source["jsonData"]["timeInterval"], prometheus["global"]["scrape_interval"]);
}

#[test]
fn the_saved_objects_of_opensearch_refer_to_each_other() {
    for file in files_in("opensearch", ".ndjson") {
        let objects: Vec<Value> = text_of(&file).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let known: BTreeSet<_> = objects.iter().map(|object| (text(&object["type"]), text(&object["id"]))).collect();
        assert_eq!(known.len(), objects.len(), "{file}: two objects have the same id");
        for object in &objects {
            let names: Vec<_> = list(&object["references"]).map(|reference| text(&reference["name"])).collect();
            for reference in list(&object["references"]) {
                let wanted = (text(&reference["type"]), text(&reference["id"]));
                assert!(known.contains(&wanted), "{file}: {} refers to {wanted:?}", object["id"]);
            }
            let mut used = BTreeSet::new();
            references(&object["attributes"], &mut used);
            for name in &used {
                assert!(names.contains(&name.as_str()), "{file}: {} uses the reference `{name}`", object["id"]);
            }
            assert_eq!(used.len(), names.len(), "{file}: {} has references that it does not use", object["id"]);
        }
    }
}

/// Adds the names of the references that attributes use, also those in documents that are kept as text.
fn references(value: &Value, used: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(text) if name.ends_with("RefName") => _ = used.insert(text.clone()),
                    Value::String(text) if name.ends_with("JSON") || name == "visState" => {
                        references(&serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}")), used);
                    }
                    field => references(field, used),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, used)),
        _ => {}
    }
}
