//! What `deploy/` holds, as the tests ask for it.

use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use serde_json::Value;

use super::promql::{Selector, selectors};

/// Returns the path of a file or folder below `deploy/`.
pub(crate) fn deployed(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

/// Returns the text of a file below `deploy/`.
#[track_caller]
pub(crate) fn text_of(path: &str) -> String {
    std::fs::read_to_string(deployed(path)).unwrap_or_else(|error| panic!("deploy/{path}: {error}"))
}

/// Returns the documents of a YAML file below `deploy/`, with what `<<` merges.
#[track_caller]
pub(crate) fn documents_of(path: &str) -> Vec<Value> {
    let text = text_of(path);
    let documents = serde_norway::Deserializer::from_str(&text).map(Value::deserialize);
    documents.map(|one| merged(one.unwrap_or_else(|error| panic!("deploy/{path}: {error}")))).collect()
}

/// Returns the only document of a YAML file below `deploy/`.
#[track_caller]
pub(crate) fn document_of(path: &str) -> Value {
    let mut documents = documents_of(path);
    assert_eq!(documents.len(), 1, "deploy/{path}");
    documents.remove(0)
}

fn merged(value: Value) -> Value {
    match value {
        Value::Object(mut fields) => {
            if let Some(Value::Object(others)) = fields.remove("<<").map(merged) {
                others.into_iter().for_each(|(name, other)| _ = fields.entry(name).or_insert(other));
            }
            Value::Object(fields.into_iter().map(|(name, field)| (name, merged(field))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(merged).collect()),
        other => other,
    }
}

/// Returns the names of the files in a folder below `deploy/` that end like this, with the folder, in order.
#[track_caller]
pub(crate) fn files_in(folder: &str, ending: &str) -> Vec<String> {
    let names = std::fs::read_dir(deployed(folder)).unwrap_or_else(|error| panic!("deploy/{folder}: {error}"));
    let names = names.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name of text"));
    let mut found: Vec<_> = names.filter(|name| name.ends_with(ending)).map(|name| format!("{folder}/{name}")).collect();
    found.sort();
    assert!(!found.is_empty(), "deploy/{folder} has no file that ends in {ending}");
    found
}

/// Returns the items of an array; none for any other value.
pub(crate) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Returns a text; panics with the value where it is none.
#[track_caller]
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// An expression that somebody sees the result of.
#[derive(Clone, Debug)]
pub(crate) struct PanelQuery {
    /// Where it is.
    pub(crate) place: String,
    /// The expression, variables filled in as Grafana does with everything selected.
    pub(crate) expression: String,
    /// The labels that its legend names.
    pub(crate) labels: Vec<String>,
}

impl PanelQuery {
    /// Returns the metrics that it asks for.
    pub(crate) fn selectors(&self) -> Vec<Selector> {
        selectors(&self.expression)
    }
}

/// Returns the dashboards of Grafana, with where they are.
pub(crate) fn dashboards() -> Vec<(String, Value)> {
    let read = |path: String| {
        let dashboard = serde_json::from_str(&text_of(&path)).unwrap_or_else(|error| panic!("deploy/{path}: {error}"));
        (path, dashboard)
    };
    files_in("grafana/dashboards", ".json").into_iter().map(read).collect()
}

/// Returns the expressions of every panel, and of every variable.
pub(crate) fn panels() -> Vec<PanelQuery> {
    let mut found = Vec::new();
    for (path, dashboard) in dashboards() {
        let variables: Vec<_> = list(&dashboard["templating"]["list"]).collect();
        let filled = |expression: &str| {
            let filled = expression.replace("$__rate_interval", "10s").replace("$__range", "1m");
            let filled = variables.iter().fold(filled, |filled, variable| {
                let all = variable["allValue"].as_str().unwrap_or_default();
                filled.replace(&format!("\"${}\"", text(&variable["name"])), &format!("\"{all}\""))
            });
            assert!(!filled.contains('$'), "{path}: `{expression}` has a variable that the dashboard lacks");
            filled
        };
        for panel in list(&dashboard["panels"]) {
            assert!(
                list(&panel["panels"]).next().is_none(),
                "{path}: {}: panels inside of a row are not looked at here",
                panel["title"]
            );
            for target in list(&panel["targets"]) {
                let place = format!("{path}: {} {}", text(&panel["title"]), text(&target["refId"]));
                let legend = text(&target["legendFormat"]);
                let labels = legend.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap_or(rest).trim().to_owned());
                found.push(PanelQuery { place, expression: filled(text(&target["expr"])), labels: labels.collect() });
            }
        }
        for variable in variables.iter().filter(|variable| variable["type"] == "query") {
            let query = text(&variable["query"]["query"]);
            let inside = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(")"));
            let (selector, label) = inside.and_then(|inside| inside.rsplit_once(", ")).expect("values of a label");
            let expression = format!("count by ({label}) ({})", filled(selector));
            let place = format!("{path}: variable {}", text(&variable["name"]));
            found.push(PanelQuery { place, expression, labels: vec![label.to_owned()] });
        }
    }
    found
}

/// Returns the rules of the alerts.
pub(crate) fn rules() -> Vec<Value> {
    let groups = document_of("prometheus/alerts.yml");
    list(&groups["groups"]).flat_map(|group| list(&group["rules"])).cloned().collect()
}

/// Returns the expressions of every alert.
pub(crate) fn alerts() -> Vec<PanelQuery> {
    let asked = |rule: &Value| {
        let place = format!("prometheus/alerts.yml: {}", text(&rule["alert"]));
        PanelQuery { place, expression: text(&rule["expr"]).to_owned(), labels: Vec::new() }
    };
    rules().iter().map(asked).collect()
}
