//! A real Prometheus with the configuration of `deploy/`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::deployed::{deployed, document_of, list, text};
use super::eventually;
use super::promtool::is_there;

const QUERY_TIMEOUT: Duration = Duration::from_secs(30);

/// A Prometheus that asks every second, gone when it is dropped.
pub(crate) struct Prometheus {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

/// A series of a result, with its value now.
#[derive(Debug)]
pub(crate) struct Sample {
    /// Its labels, and its name as `__name__` where it has one.
    pub(crate) labels: BTreeMap<String, String>,
    /// Its value, which may be none.
    pub(crate) value: f64,
}

impl Prometheus {
    /// Starts a server that scrapes services of sdl, by the names and addresses that a look-up gave, and a broker's exporter.
    /// `None` where Prometheus is not there, which with `CI=true` is a failure.
    #[track_caller]
    pub(crate) fn start(services: &[(&str, &str)], exporter: Option<&str>) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = |name: &str| folder.path().join(name);
        std::fs::write(file("prometheus.yml"), configuration(services, exporter).to_string()).expect("it is written");
        let log = File::create(file("log")).expect("a log");
        let mut command = Command::new("prometheus");
        command.arg("--web.listen-address=127.0.0.1:0").current_dir(folder.path());
        for (flag, name) in [("--config.file", "prometheus.yml"), ("--storage.tsdb.path", "data")] {
            command.arg(format!("{flag}={}", file(name).display()));
        }
        let child = is_there("prometheus", command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn())?;
        let path = file("log");
        let mut started = Self { child, address: String::new(), _folder: folder };
        started.address = eventually("Prometheus listens", QUERY_TIMEOUT, || {
            let log = std::fs::read_to_string(&path).unwrap_or_default();
            let ended = started.child.try_wait().expect("a child can be waited for");
            assert!(ended.is_none(), "Prometheus ended:\n{log}");
            let address = log.split("msg=\"Listening on\" address=").nth(1)?.split_once('\n')?.0;
            Some(address.to_owned())
        });
        eventually("Prometheus is ready", QUERY_TIMEOUT, || (started.get("/-/ready").0 == 200).then_some(()));
        Some(started)
    }

    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).expect("Prometheus listens");
        // The older version has an answer end with the connection.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address).expect("it is asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        (head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"), body.to_owned())
    }

    /// Returns the samples of an expression, or the error message.
    pub(crate) fn query(&self, expression: &str) -> Result<Vec<Sample>, String> {
        let quoted = expression.bytes().fold(String::new(), |mut quoted, byte| {
            let _ = write!(quoted, "%{byte:02X}");
            quoted
        });
        let (_, body) = self.get(&format!("/api/v1/query?query={quoted}"));
        let answer: Value = serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))?;
        if answer["status"] != "success" || !answer["warnings"].is_null() {
            return Err(body);
        }
        let sample = |result: &Value| Sample {
            labels: serde_json::from_value(result["metric"].clone()).expect("labels"),
            value: text(&result["value"][1]).parse().expect("a number"),
        };
        Ok(list(&answer["data"]["result"]).map(sample).collect())
    }

    /// Waits until every rule was evaluated, and returns those that could not be, with the reason.
    pub(crate) fn sick_rules(&self) -> Vec<String> {
        let rules = eventually("every rule is evaluated", QUERY_TIMEOUT, || {
            let answer: Value = serde_json::from_str(&self.get("/api/v1/rules").1).expect("an answer");
            let rules: Vec<_> = list(&answer["data"]["groups"]).flat_map(|group| list(&group["rules"]).cloned()).collect();
            (!rules.is_empty() && rules.iter().all(|rule| rule["health"] != "unknown")).then_some(rules)
        });
        rules
            .iter()
            .filter(|rule| rule["health"] != "ok")
            .map(|rule| format!("{}: {}", rule["name"], rule["lastError"]))
            .collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the configuration of `deploy/` with these targets, as if their names had been looked up.
fn configuration(services: &[(&str, &str)], exporter: Option<&str>) -> Value {
    let mut all = document_of("prometheus/prometheus.yml");
    for setting in ["scrape_interval", "scrape_timeout", "evaluation_interval"] {
        all["global"][setting] = json!("1s");
    }
    for rules in all["rule_files"].as_array_mut().expect("files of rules") {
        *rules = json!(deployed("prometheus").join(text(rules)));
    }
    let jobs = all["scrape_configs"].as_array_mut().expect("jobs");
    jobs.retain_mut(|job| match text(&job["job_name"]) {
        "prometheus" => false,
        "kafka" => {
            job["static_configs"] = json!([{"targets": exporter.iter().collect::<Vec<_>>()}]);
            exporter.is_some()
        }
        _ => {
            let looked_up = job["dns_sd_configs"][0]["names"].take();
            let target = |(name, address): &(&str, &str)| {
                assert!(list(&looked_up).any(|one| one == name), "{name} is not looked up");
                json!({"targets": [address], "labels": {"__meta_dns_name": name}})
            };
            job["static_configs"] = services.iter().map(target).collect();
            job.as_object_mut().expect("a job").remove("dns_sd_configs").is_some()
        }
    });
    all
}
