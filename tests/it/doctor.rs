//! `sdl doctor` on embedded brokers and scripted servers.

mod elastic;
mod kafka;
mod mongo;

use serde_json::Value;

use crate::harness::Sdl;
use crate::run::Folder;

/// The steps of a report.
struct Steps(Vec<Value>);

impl Steps {
    /// Runs the examination of this profile, which must end with this exit code.
    #[track_caller]
    fn of(profile: &str, arguments: &str, code: i32) -> Self {
        let finished = Sdl::new(&format!("doctor -o json {arguments}")).profile(profile).run().expect(code);
        let document = finished.json();
        assert_eq!(document["schema"], 1);
        assert!(!finished.stderr.contains("canary"), "{}", finished.stderr);
        Self(document["steps"].as_array().expect("a list of steps").clone())
    }

    /// Returns the steps as `name status`, each once.
    fn shown(&self) -> Vec<String> {
        let mut shown: Vec<String> = self
            .0
            .iter()
            .map(|step| format!("{} {}", step["step"].as_str().unwrap(), step["status"].as_str().unwrap()))
            .collect();
        shown.dedup();
        shown
    }

    /// Returns the only step with this status, as `name: finding: hint`.
    #[track_caller]
    fn only(&self, status: &str) -> String {
        let found: Vec<&Value> = self.0.iter().filter(|step| step["status"] == status).collect();
        assert_eq!(found.len(), 1, "{:#?}", self.0);
        sentence(found[0])
    }

    /// Returns the findings of a step, as `status finding: hint`.
    fn step(&self, name: &str) -> Vec<String> {
        let of = self.0.iter().filter(|step| step["step"] == name);
        of.map(|step| format!("{} {}", step["status"].as_str().unwrap(), sentence(step).split_once(": ").unwrap().1)).collect()
    }
}

fn sentence(step: &Value) -> String {
    let text = |key: &str| step[key].as_str().unwrap_or_default();
    let hint = if step["hint"].is_null() { String::new() } else { format!(": {}", text("hint")) };
    format!("{}: {}{hint}", text("step"), text("finding"))
}

/// Returns an address that refuses connections: a port that was free a moment ago, on an address that nothing else binds.
fn closed_port() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.217:0").unwrap().local_addr().unwrap()
}

#[test]
fn each_section_that_is_named_is_examined_and_an_unknown_one_is_an_error() {
    let (kafka, mongo) = (closed_port(), closed_port());
    let profile = format!(
        "[local_kafka]\nservers = {kafka}\n[mongodb]\nhost = {}\nport = {}\n[shape.x]\nkeep = a\n",
        mongo.ip(),
        mongo.port()
    );
    let sections = |arguments: &str| {
        let steps = Steps::of(&profile, arguments, 4);
        let mut sections: Vec<_> = steps.0.iter().map(|step| step["section"].as_str().unwrap().to_owned()).collect();
        sections.dedup();
        sections
    };
    assert_eq!(sections(""), ["local_kafka", "mongodb"]);
    assert_eq!(sections("mongodb mongodb"), ["mongodb"]);
    let folder = Folder::with_profile(&profile);
    let ended = folder.run("doctor local_kafak");
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("local_kafak"), "{}", ended.stderr);
    assert_eq!(folder.run("doctor shape.x").code, Some(2));
    assert_eq!(Folder::new().run("doctor").code, Some(2));
}

#[test]
fn a_section_that_cannot_be_read_fails_its_first_step_and_the_others_are_examined() {
    let profile = format!(
        "[local_kafka]\nservers = {}\npassword = ${{env:NOT_SET}}\nusername = u\n[remote_kafka]\nservers = {}\n",
        closed_port(),
        closed_port()
    );
    let steps = Steps::of(&profile, "", 4);
    let first = sentence(&steps.0[0]);
    assert!(first.starts_with("profile: ") && first.contains("NOT_SET"), "{first}");
    assert!(steps.0.iter().any(|step| step["section"] == "remote_kafka" && step["step"] == "tcp"));
}

#[test]
fn people_read_a_line_for_each_step() {
    let server = closed_port();
    let ended = Folder::with_profile(&format!("[local_kafka]\nservers = {server}\n")).run("doctor");
    let lines: Vec<_> = ended.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(lines[0], "STEP STATUS FINDING");
    assert_eq!(
        lines[3],
        format!("tcp FAIL {server}: connecting: connection refused: start the broker, or correct `servers` under [local_kafka]")
    );
    assert_eq!(lines[4], "tls to clock skipped (because tcp failed)");
    assert_eq!(lines.len(), 5, "steps that are skipped for the same reason share a line");
    assert_eq!((ended.stderr.as_str(), ended.code), ("error: 1 check of `local_kafka` failed\n", Some(4)));
}
