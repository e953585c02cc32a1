//! The command lines of `deploy/` are taken by the binary, and fit the profiles beside them.

use std::path::Path;

use regex::{Captures, Regex};
use serde_json::Value;

use super::compose::{filled, is_ours, settings};
use crate::harness::{Scrape, Sdl, deployed, document_of, documents_of, files_in, list, text, text_of};

/// No server listens on this address.
const UNREACHABLE: &str = "127.0.0.213:9";

/// A command line, and where it is.
struct CommandLine {
    place: String,
    words: Vec<String>,
}

fn of_compose() -> Vec<CommandLine> {
    let compose = document_of("compose.yml");
    let services = compose["services"].as_object().unwrap();
    let mut lines = Vec::new();
    for search in ["opensearch", "elasticsearch"] {
        let mut settings = settings();
        settings.insert("SEARCH".to_owned(), search.to_owned());
        for (name, service) in services.iter().filter(|(_, service)| is_ours(service)) {
            let command = filled(text(&service["command"]), &settings);
            let words = command.split_whitespace().map(str::to_owned).collect();
            lines.push(CommandLine { place: format!("compose.yml: {name} with {search}"), words });
        }
    }
    lines
}

fn of_kubernetes() -> Vec<CommandLine> {
    let manifests = files_in("kubernetes", ".yaml").into_iter().flat_map(|path| documents_of(&path));
    let deployments = manifests.filter(|manifest| manifest["kind"] == "Deployment");
    let line = |manifest: Value| {
        let container = &manifest["spec"]["template"]["spec"]["containers"][0];
        let words = list(&container["args"]).map(|word| text(word).to_owned()).collect();
        CommandLine { place: format!("kubernetes: {}", manifest["metadata"]["name"]), words }
    };
    deployments.map(line).collect()
}

/// Returns the command line of the unit, with the COMMAND that its comment shows.
fn of_systemd() -> CommandLine {
    let unit = text_of("systemd/sdl@.service");
    let after = |start: &str| unit.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_else(|| panic!("no {start}"));
    let line = after("ExecStart=/usr/local/bin/sdl ").replace("$COMMAND", after("#   COMMAND="));
    CommandLine { place: "systemd".to_owned(), words: line.split_whitespace().map(str::to_owned).collect() }
}

/// Returns a profile of `deploy/` with unreachable addresses and secrets from files of `secrets`.
fn profile(path: &str, secrets: &Path) -> String {
    let addresses = Regex::new(r"[A-Za-z][\w.-]*:\d+").unwrap();
    let text = addresses.replace_all(&text_of(path), UNREACHABLE).into_owned();
    let names = Regex::new(r"/run/secrets/sdl/([\w.-]+)").unwrap();
    let given = text_of("kubernetes/kustomization.yaml");
    let kept = |found: &Captures| {
        assert!(given.contains(&format!("--from-file={}", &found[1])), "the secret lacks {}", &found[1]);
        let file = secrets.join(&found[1]);
        let content = match &found[1] {
            "kafka-ca.pem" | "opensearch-ca.pem" => include_str!("ca.pem").to_owned(),
            "mongodb-uri" => format!("mongodb://{UNREACHABLE}"),
            _ => "canary7f3a".to_owned(),
        };
        std::fs::write(&file, content).unwrap();
        file.to_str().unwrap().to_owned()
    };
    names.replace_all(&text, kept).into_owned()
}

/// Runs a command line until it fails to reach a server: then it was parsed and matches the profile.
#[track_caller]
fn assert_taken(line: &CommandLine, profile: &str) {
    let place = &line.place;
    // It is not to wait for minutes, nor to listen where others may.
    let wait = line.words.iter().position(|word| word == "--wait");
    let words = line.words.iter().enumerate().map(|(at, word)| match word.as_str() {
        word if word.starts_with("--wait=") => "--wait=100ms",
        _ if wait.is_some_and(|wait| at == wait + 1) => "100ms",
        "0.0.0.0:9464" => "127.0.0.1:0",
        word => word,
    });
    let sdl = words.fold(Sdl::new(""), Sdl::arg).profile(profile);
    if line.words[0] == "lag" {
        let mut running = sdl.start();
        let scrape = Scrape::of(&mut running);
        scrape.wait_for(place, |page| page.0.contains("sdl_section_up{section=\"local_kafka\"} 0\n"));
        return;
    }
    assert!(wait.is_some() || line.words.iter().any(|word| word.starts_with("--wait=")), "{place} waits for no server");
    let ended = sdl.arg("--dry-run").run();
    assert_eq!(ended.code(), Some(1), "{place}: {:?}\n{}", line.words, ended.stderr);
    assert!(ended.stderr.contains(UNREACHABLE), "{place} names who does not answer: {}", ended.stderr);
    assert!(!ended.stderr.contains("canary7f3a"), "{place}: {}", ended.stderr);
}

#[test]
fn every_command_line_of_compose_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let profile = profile("database.ini", folder.path());
    let lines = of_compose();
    assert_eq!(lines.len(), 12, "six services, with either search");
    for line in &lines {
        assert_taken(line, &profile);
    }
}

#[test]
fn every_command_line_of_kubernetes_and_systemd_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let profile = profile("kubernetes/database.ini", folder.path());
    let lines = of_kubernetes();
    assert_eq!(lines.len(), 3);
    for line in &lines {
        assert_taken(line, &profile);
    }
    // The unit's example is a sink for Elasticsearch.
    let elsewhere = format!("{profile}\n[elasticsearch]\nurl = http://{UNREACHABLE}\ndefault_index = i\nconsumer_group_id = g\n");
    assert_taken(&of_systemd(), &elsewhere);
}

#[test]
fn an_invalid_command_line_is_detected() {
    let folder = tempfile::tempdir().unwrap();
    let profile = profile("database.ini", folder.path());
    for word in ["--no-such-flag", "--linger=soon", "--dead-letters=nowhere"] {
        let mut line = of_compose().into_iter().find(|line| line.words[0] == "sink-mongo").unwrap();
        line.words.retain(|word| word != "--dead-letters" && !word.starts_with("topic:"));
        assert_taken(&line, &profile);
        line.words.push(word.to_owned());
        let ended = line.words.iter().fold(Sdl::new(""), Sdl::arg).arg("--dry-run").profile(&profile).run();
        assert_eq!(ended.code(), Some(2), "{word}: {}", ended.stderr);
    }
}

#[test]
fn the_deployed_profiles_are_valid() {
    for (path, sections) in [
        ("database.ini", &["local_kafka", "mongodb", "opensearch", "elasticsearch"][..]),
        ("kubernetes/database.ini", &["local_kafka", "mongodb", "opensearch"]),
    ] {
        // The secrets of Kubernetes are not on this machine.
        let code = if path.starts_with("kubernetes") { 2 } else { 0 };
        let shown = Sdl::new("profile show -o json --profile").arg(deployed(path)).run().expect(code);
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(sections.iter().all(|section| shown.contains(section)), "{path}: {shown}");
    }
}
