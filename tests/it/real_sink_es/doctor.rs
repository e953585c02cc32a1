//! What `sdl doctor` says of clusters and indices that a load cannot write to.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::{Value, json};

use super::{Load, OPENSEARCH_SMALL, SMALL, each};
use crate::harness::Sdl;

/// Examines the index of the load; returns the steps that failed, as `name: finding`.
#[track_caller]
fn failed(load: &Load<'_>, code: i32) -> Vec<String> {
    let profile = format!("[search]\ntype = elasticsearch\nurl = {}\ndefault_index = {}\n", load.server.url, load.topic);
    let document = Sdl::new("doctor -o json").profile(&profile).run().expect(code).json();
    let steps = document["steps"].as_array().expect("a list of steps");
    let failed = steps.iter().filter(|step| step["status"] == "fail");
    failed.map(|step| format!("{}: {}", step["step"].as_str().unwrap(), step["finding"].as_str().unwrap())).collect()
}

/// Examines while the whole cluster is blocked.
#[track_caller]
fn fails_while_set(load: &Load<'_>, setting: &str, what: &str) {
    load.server.setting(setting, &json!(true));
    let found = catch_unwind(AssertUnwindSafe(|| failed(load, 4)));
    load.server.setting(setting, &Value::Null);
    assert_eq!(found.expect("it fails"), [format!("blocks: the cluster is blocked for {what}: `{setting}`")]);
}

#[test]
#[ignore = "needs Kafka and search servers: scripts/test runs it"]
fn real_sink_es_doctor_fails_for_what_a_load_cannot_write_to() {
    each(SMALL, "examined", 1, |load| {
        if load.server.name == OPENSEARCH_SMALL {
            fails_while_set(&load, "cluster.blocks.create_index", "new indices");
        }
        fails_while_set(&load, "cluster.blocks.read_only", "writes");
        let path = format!("/{}", load.topic);
        load.server.tell("PUT", &path, &json!({}));
        fails_while_set(&load, "cluster.blocks.read_only", "writes");
        load.server.tell("POST", &format!("{path}/_close"), &Value::Null);
        assert_eq!(failed(&load, 4), [format!("blocks: `{}` is closed", load.topic)]);
        load.server.tell("POST", &format!("{path}/_open"), &Value::Null);
        load.server.tell("PUT", &format!("{path}/_settings"), &json!({"index.blocks.write": true}));
        assert_eq!(failed(&load, 4), [format!("blocks: `{}` is blocked for writes: `index.blocks.write`", load.topic)]);
        load.server.tell("PUT", &format!("{path}/_settings"), &json!({"index.blocks.write": null}));
        assert_eq!(failed(&load, 0), [""; 0]);
    });
}
