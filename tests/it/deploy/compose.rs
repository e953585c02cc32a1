//! `compose.yml`: its parts fit each other and the files beside it.

use std::collections::{BTreeMap, BTreeSet};

use regex::{Captures, Regex};
use serde_json::Value;

use crate::harness::{deployed, document_of, list, text, text_of};

/// Returns what `.env` sets.
pub(super) fn settings() -> BTreeMap<String, String> {
    let text = text_of(".env");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once('=').unwrap()).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Returns a text with its variables filled in.
pub(super) fn filled(text: &str, settings: &BTreeMap<String, String>) -> String {
    let variables = Regex::new(r"\$\{(\w+):-(\w[\w.]*)\}|\$\$|\$").unwrap();
    let value = |found: &Captures| match (found.get(1), &found[0]) {
        (Some(name), _) => settings.get(name.as_str()).map_or(&found[2], String::as_str).to_owned(),
        (None, "$$") => "$".to_owned(),
        _ => panic!("a variable without a default in `{text}`"),
    };
    variables.replace_all(text, value).into_owned()
}

/// Returns whether a service runs sdl.
pub(super) fn is_ours(service: &Value) -> bool {
    service["image"].as_str().is_some_and(|image| image.starts_with("sdl:"))
}

fn services() -> Vec<(String, Value)> {
    let compose = document_of("compose.yml");
    compose["services"].as_object().unwrap().iter().map(|(name, service)| (name.clone(), service.clone())).collect()
}

#[test]
fn dependencies_of_a_service_exist_and_have_health_checks() {
    let all: BTreeMap<_, _> = services().into_iter().collect();
    for (name, service) in &all {
        for (other, wanted) in service["depends_on"].as_object().into_iter().flatten() {
            let awaited = all.get(other).unwrap_or_else(|| panic!("{name} waits for {other}, which is not there"));
            match text(&wanted["condition"]) {
                "service_healthy" => {
                    assert!(awaited["healthcheck"].is_object(), "{name} waits for {other}'s health");
                }
                "service_completed_successfully" => {
                    assert_eq!(awaited["restart"], "on-failure", "{name} waits for {other}'s end");
                }
                unknown => panic!("{name}: {unknown}"),
            }
            // A key that the service's profile omits must not be required.
            let missing =
                |profile: &&Value| !awaited["profiles"].is_null() && !list(&awaited["profiles"]).any(|one| &one == profile);
            let can_be_missing = list(&service["profiles"]).any(|profile| missing(&profile));
            assert_eq!(can_be_missing, wanted["required"] == false, "{name} waits for {other}");
        }
    }
}

#[test]
fn volumes_and_mounted_files_exist() {
    let compose = document_of("compose.yml");
    let named: BTreeSet<_> = compose["volumes"].as_object().unwrap().keys().cloned().collect();
    let mut used = BTreeSet::new();
    for (name, service) in services() {
        for volume in list(&service["volumes"]).map(text) {
            let from = volume.split(':').next().unwrap();
            if from.starts_with('.') {
                assert!(deployed(from).exists() && volume.ends_with(":ro"), "{name} mounts {volume}");
            } else {
                used.insert(from.to_owned());
            }
        }
        let build = &service["build"];
        if let Some(context) = build.as_str() {
            assert!(deployed(context).join("Dockerfile").is_file(), "{name} is built in {context}");
        } else if build.is_object() {
            let context = deployed(text(&build["context"]));
            assert!(context.join(text(&build["dockerfile"])).is_file(), "{name} is built of {build}");
        }
    }
    assert_eq!(named, used);
}

#[test]
fn the_compose_profiles_are_those_of_the_services() {
    let settings = settings();
    let all: BTreeSet<_> = services()
        .iter()
        .flat_map(|(_, service)| list(&service["profiles"]).map(|one| text(one).to_owned()).collect::<Vec<_>>())
        .collect();
    let mut started: Vec<_> = settings["COMPOSE_PROFILES"].split(',').collect();
    assert!(started.contains(&settings["SEARCH"].as_str()), "where sink-es writes is started");
    started.push("elasticsearch");
    assert_eq!(all, started.into_iter().map(str::to_owned).collect());
    let compose = text_of("compose.yml");
    for name in settings.keys().filter(|name| *name != "COMPOSE_PROFILES") {
        assert!(compose.contains(&format!("${{{name}:-")), "compose.yml does not use {name}");
    }
}

#[test]
fn the_services_of_sdl_are_alike_and_scraped() {
    let ours: Vec<_> = services().into_iter().filter(|(_, service)| is_ours(service)).collect();
    for (name, service) in &ours {
        assert_eq!(service["healthcheck"]["test"], serde_json::json!(["CMD", "sdl", "health", "9464", "--ready"]), "{name}");
        assert!(text(&service["command"]).contains("--metrics 0.0.0.0:9464 "), "{name}");
        assert_eq!(service["expose"], serde_json::json!(["9464"]), "{name}");
        let grace = text(&service["stop_grace_period"]).trim_end_matches('s').parse::<u64>().unwrap();
        assert!(grace > 25, "{name} is given longer than --shutdown-timeout");
    }
    let prometheus = document_of("prometheus/prometheus.yml");
    let job = list(&prometheus["scrape_configs"]).find(|job| job["job_name"] == "sdl").unwrap();
    let looked_up = &job["dns_sd_configs"][0];
    assert_eq!(looked_up["port"], 9464);
    let names: BTreeSet<_> = list(&looked_up["names"]).map(text).collect();
    assert_eq!(names, ours.iter().map(|(name, _)| name.as_str()).collect());
    let kafka = list(&prometheus["scrape_configs"]).find(|job| job["job_name"] == "kafka").unwrap();
    assert_eq!(kafka["static_configs"][0]["targets"][0], "kafka:9404");
    let agent = &document_of("compose.yml")["services"]["kafka"]["environment"]["KAFKA_OPTS"];
    assert!(text(agent).contains("=9404:/opt/jmx-exporter/config.yml"), "{agent}");
}

#[test]
fn every_topic_of_a_service_is_created() {
    let topics = document_of("compose.yml")["services"]["topics"]["command"][0].clone();
    let script = text(&topics);
    let letters = script.lines().find_map(|line| line.trim().strip_prefix("for letters in ")?.strip_suffix("; do")).unwrap();
    let made = letters.split(' ').map(|name| format!("{name}-dead-letters"));
    let made: BTreeSet<_> = made.chain(["user-login", "user-login-processed"].map(str::to_owned)).collect();
    assert!(
        ["make user-login ", "make user-login-processed ", "make \"$$letters-dead-letters\" "]
            .iter()
            .all(|line| script.contains(line))
    );
    let mut named = BTreeSet::from(["user-login-processed".to_owned()]); // of aggregate, unless another is set
    for (_, service) in services().iter().filter(|(_, service)| is_ours(service)) {
        let words: Vec<_> = text(&service["command"]).split_whitespace().collect();
        named.extend(words.get(1).filter(|word| !word.starts_with('-')).map(|&word| word.to_owned()));
        named.extend(words.iter().filter_map(|word| word.strip_prefix("topic:")).map(str::to_owned));
    }
    assert_eq!(made, named);
}
