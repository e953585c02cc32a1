//! The manifests: what they name is there, and the unit for systemd and they agree with what sdl does.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::harness::{deployed, document_of, documents_of, files_in, list, text, text_of};

fn manifests() -> Vec<Value> {
    files_in("kubernetes", ".yaml").iter().flat_map(|path| documents_of(path)).collect()
}

fn deployments() -> BTreeMap<String, Value> {
    let deployments = manifests().into_iter().filter(|manifest| manifest["kind"] == "Deployment");
    deployments.map(|deployment| (text(&deployment["metadata"]["name"]).to_owned(), deployment)).collect()
}

#[test]
fn the_kustomization_lists_every_manifest_except_those_of_keda() {
    let kustomization = document_of("kubernetes/kustomization.yaml");
    let mut taken: BTreeSet<_> = list(&kustomization["resources"]).map(|name| format!("kubernetes/{}", text(name))).collect();
    taken.extend(["kubernetes/kustomization.yaml", "kubernetes/keda.yaml"].map(str::to_owned));
    assert_eq!(taken, files_in("kubernetes", ".yaml").into_iter().collect());
    let profile = &kustomization["configMapGenerator"][0];
    assert!(deployed("kubernetes").join(text(&profile["files"][0])).is_file());
    for (name, deployment) in deployments() {
        let pod = &deployment["spec"]["template"]["spec"];
        let volumes: Vec<_> = list(&pod["volumes"]).collect();
        assert!(volumes.iter().any(|volume| volume["configMap"]["name"] == profile["name"]), "{name}: {volumes:?}");
        assert_eq!(pod["containers"][0]["image"], kustomization["images"][0]["name"], "{name}");
        let accounts = manifests().into_iter().filter(|manifest| manifest["kind"] == "ServiceAccount");
        assert!(accounts.into_iter().any(|account| account["metadata"]["name"] == pod["serviceAccountName"]), "{name}");
    }
}

#[test]
fn the_references_of_a_pod_are_consistent() {
    let profile = text_of("kubernetes/database.ini");
    for (name, deployment) in deployments() {
        let template = &deployment["spec"]["template"];
        let labels = &template["metadata"]["labels"];
        for (label, value) in deployment["spec"]["selector"]["matchLabels"].as_object().unwrap() {
            assert_eq!(&labels[label], value, "{name}");
        }
        assert_eq!(labels["app.kubernetes.io/part-of"], "sdl", "{name}: the network policy lets its metrics be asked for");
        let container = &template["spec"]["containers"][0];
        let volumes: BTreeSet<_> = list(&template["spec"]["volumes"]).map(|volume| text(&volume["name"])).collect();
        let mounts: BTreeMap<_, _> =
            list(&container["volumeMounts"]).map(|mount| (text(&mount["name"]), text(&mount["mountPath"]))).collect();
        assert_eq!(volumes, mounts.keys().copied().collect(), "{name}");
        // Without --profile, sdl looks for it there.
        assert_eq!(mounts["profile"], "/etc/sdl", "{name}");
        assert!(profile.contains(&format!("${{file:{}/", mounts["secrets"])), "{name}");
        let ports: BTreeMap<_, _> = list(&container["ports"]).map(|port| (text(&port["name"]), &port["containerPort"])).collect();
        assert!(list(&container["args"]).any(|word| word == &format!("--metrics=0.0.0.0:{}", ports["metrics"])), "{name}");
        for (probe, path) in [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
            assert_eq!(container[probe]["httpGet"], json!({"path": path, "port": "metrics"}), "{name}: {probe}");
        }
        assert!(template["spec"]["terminationGracePeriodSeconds"].as_u64() > Some(25), "{name}: longer than --shutdown-timeout");
    }
}

#[test]
fn a_scaled_deployment_exists_and_reads_for_the_queried_group() {
    let (deployments, profile) = (deployments(), text_of("kubernetes/database.ini"));
    let secrets = text_of("kubernetes/kustomization.yaml");
    let all = documents_of("kubernetes/keda.yaml");
    let logins: Vec<_> = all.iter().filter(|manifest| manifest["kind"] == "TriggerAuthentication").collect();
    for parameter in logins.iter().flat_map(|login| list(&login["spec"]["secretTargetRef"])) {
        assert!(secrets.contains(&format!("--from-file={} ", text(&parameter["key"]))), "{parameter}");
    }
    let scaled: Vec<_> = all.iter().filter(|manifest| manifest["kind"] == "ScaledObject").collect();
    assert_eq!(scaled.len(), 2);
    for object in scaled {
        let deployment = &deployments[text(&object["spec"]["scaleTargetRef"]["name"])];
        let arguments: Vec<_> = list(&deployment["spec"]["template"]["spec"]["containers"][0]["args"]).map(text).collect();
        let trigger = &object["spec"]["triggers"][0];
        assert!(logins.iter().any(|login| login["metadata"]["name"] == trigger["authenticationRef"]["name"]));
        assert_eq!(trigger["metadata"]["topic"], arguments[1]);
        let group = text(&trigger["metadata"]["consumerGroup"]);
        let is_named = profile.lines().any(|line| line == format!("consumer_group_id = {group}"));
        assert!(is_named || arguments.contains(&format!("--group={group}").as_str()), "nobody reads for {group}");
        let servers = format!("servers = {}", text(&trigger["metadata"]["bootstrapServers"]));
        assert!(profile.lines().any(|line| line == servers), "{servers}");
    }
}

#[test]
fn the_unit_stops_gracefully_and_restarts_only_after_transient_failures() {
    let unit = text_of("systemd/sdl@.service");
    let value = |name: &str| unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap();
    assert!(value("TimeoutStopSec").parse::<u64>().unwrap() > 25, "longer than --shutdown-timeout");
    assert_eq!((value("Restart"), value("RestartPreventExitStatus")), ("on-failure", "2 3 5"));
    assert_eq!(value("Environment"), "SDL_PROFILE=/etc/sdl/database.ini");
}
