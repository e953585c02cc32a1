//! `--metrics` of the commands that move records, on embedded brokers.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use serde_json::json;

use crate::harness::{Cluster, Content, HttpStub, MetricsPage, Mock, Reply, Scrape, Sdl, Sender, created, numbered};
use crate::run::Folder;

const TOPIC: &str = "numbers";

/// No server listens on this address.
const NOBODY: &str = "127.0.0.213:9";

/// Returns two clusters with a topic of three partitions in each, and a profile of them.
fn clusters(sent: &[(i32, Content)]) -> (Mock, Mock, String) {
    let (source, target) = (Mock::start(1), Mock::start(1));
    source.create_topic(TOPIC, 3);
    target.create_topic(TOPIC, 3);
    Sender::new(&source.cluster(), &[]).send(TOPIC, sent);
    let profile = Cluster::profile(&source.cluster(), &target.cluster(), "group");
    (source, target, profile)
}

#[allow(clippy::cast_precision_loss)] // Prometheus has no other numbers
fn bytes(sent: &[(i32, Content)]) -> f64 {
    let of = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
    let headers = |content: &Content| content.headers.iter().map(|(name, value)| name.len() + of(value)).sum::<usize>();
    sent.iter().map(|(_, content)| of(&content.key) + of(&content.value) + headers(content)).sum::<usize>() as f64
}

/// Returns how many of the records were accounted for as `outcome`.
fn outcome(page: &MetricsPage, outcome: &str) -> Option<f64> {
    page.value(&format!("sdl_messages_processed_total{{outcome=\"{outcome}\"}}"))
}

fn error(page: &MetricsPage, kind: &str) -> Option<f64> {
    page.value(&format!("sdl_errors_total{{kind=\"{kind}\"}}"))
}

#[test]
fn a_run_exposes_its_counts_and_closes_the_endpoint_at_the_end() {
    let sent = numbered(1, 0, 10_000, 3);
    let (_source, _target, profile) = clusters(&sent);
    let mut running = Sdl::new(&format!("replicate {TOPIC} --metrics 0 -o json")).profile(&profile).start();
    let scrape = Scrape::of(&mut running);
    assert!(scrape.address.starts_with("127.0.0.1:"), "{}", scrape.address);
    let lag = |page: &MetricsPage, partition: i32| {
        page.value(&format!("sdl_consumer_lag{{topic=\"{TOPIC}\",partition=\"{partition}\"}}"))
    };
    let page = scrape.wait_for("everything is delivered", |page| {
        outcome(page, "delivered") == Some(10_000.0) && (0..3).all(|partition| lag(page, partition) == Some(0.0))
    });
    page.assert_sound();
    assert_eq!(page.value("sdl_bytes_total{direction=\"in\"}"), Some(bytes(&sent)));
    assert_eq!(page.value("sdl_bytes_total{direction=\"out\"}"), Some(bytes(&sent)));
    for (name, value) in [
        ("in_flight", 0.0),
        ("stalled{side=\"source\"}", 0.0),
        ("stalled{side=\"target\"}", 0.0),
        ("retries_total", 0.0),
        ("dead_letters_total", 0.0),
    ] {
        assert_eq!(page.value(&format!("sdl_{name}")), Some(value), "{name}");
    }
    let count = |name: &str| page.value(&format!("sdl_{name}_duration_seconds_count")).unwrap();
    assert!(count("consume") >= 1.0 && count("response") >= 10.0, "{}", page.0);
    assert_eq!((count("transform"), count("response")), (0.0, count("batch_processing")), "nothing is shaped or sent again");
    assert_eq!(scrape.get("/healthz"), Some((200, "ok\n".to_owned())));
    assert_eq!(scrape.wait_for_readyz(200), "ready\n");
    let finished = running.end();
    let summary = finished.json();
    assert_eq!((summary["delivered"].as_u64(), summary["batches"].as_f64()), (Some(10_000), Some(count("response"))));
    assert_eq!(scrape.get("/healthz"), None);
}

#[test]
fn each_record_has_one_outcome() {
    let value = |number: u64| if number.is_multiple_of(10) { b"no json".to_vec() } else { format!("{{\"n\":{number}}}").into() };
    let content = |number| Content { value: Some(value(number)), timestamp: Some(1_700_000_000_000), ..Content::default() };
    let sent: Vec<_> = (0..300).map(|number| (0, content(number))).collect();
    let (_source, _target, profile) = clusters(&sent);
    let command = format!("replicate {TOPIC} --metrics 0 --skip-bad-records --where n<100");
    let mut running = Sdl::new(&command).profile(&profile).start();
    let scrape = Scrape::of(&mut running);
    let page = scrape.wait_for("all is done", |page| {
        let counted = ["delivered", "skipped", "filtered"].map(|name| outcome(page, name));
        counted == [90.0, 30.0, 180.0].map(Some) && page.value("sdl_in_flight") == Some(0.0)
    });
    let outcomes = ["delivered", "already_there", "superseded", "dead_lettered", "skipped", "filtered", "released"];
    assert_eq!(outcomes.map(|name| outcome(&page, name)), [90.0, 0.0, 0.0, 0.0, 30.0, 180.0, 0.0].map(Some));
    assert_eq!(error(&page, "bad_record"), Some(30.0));
    let shaped = page.value("sdl_transform_duration_seconds_count");
    assert!(shaped >= Some(1.0) && shaped == page.value("sdl_consume_duration_seconds_count"), "{}", page.0);
}

#[test]
fn a_stalled_destination_makes_a_run_unready_until_it_accepts() {
    let kafka = Mock::start(1);
    kafka.create_topic(TOPIC, 1);
    Sender::new(&kafka.cluster(), &[]).send(TOPIC, &numbered(1, 0, 200, 1));
    let up = Arc::new(AtomicBool::new(false));
    let is_up = Arc::clone(&up);
    let stub = HttpStub::search(move |request| match request.path.starts_with("/_") || request.method != "POST" {
        true => Reply::Text(404, ""),
        false if is_up.load(SeqCst) => created(request),
        false => Reply::Json(429, json!({"error": {"type": "es_rejected_execution_exception", "reason": "r"}})),
    });
    let servers = kafka.faults().bootstrap_servers();
    let profile = format!(
        "[local_kafka]\nservers = {servers}\ndefault_consumer_group_id = g\n[elasticsearch]\nurl = {}\n\
         username = u\npassword = canary7f3a\n[run.sink-es]\nmetrics = 0\n",
        stub.url()
    );
    let mut running = Sdl::new("sink-es numbers --index numbers --raw-value text").profile(&profile).start();
    let scrape = Scrape::of(&mut running);
    let stalled = scrape.wait_for("it is stalled, and every record was sent again", |page| {
        page.value("sdl_stalled{side=\"target\"}") == Some(1.0) && page.value("sdl_retries_total") >= Some(200.0)
    });
    stalled.assert_sound();
    assert_eq!(stalled.value("sdl_stalled{side=\"source\"}"), Some(0.0), "reading goes on");
    assert_eq!((outcome(&stalled, "delivered"), stalled.value("sdl_in_flight")), (Some(0.0), Some(200.0)));
    assert!(error(&stalled, "retry") >= Some(1.0), "{}", stalled.0);
    assert_eq!(error(&stalled, "degraded"), Some(1.0));
    let output = scrape.wait_for_readyz(503);
    assert!(output.starts_with("not ready: delivery stalled, "), "{output}");
    assert!(!format!("{output}{}", stalled.0).contains("canary7f3a"), "a secret is seen nowhere: {output}{}", stalled.0);
    assert_eq!(scrape.get("/healthz").map(|(status, _)| status), Some(200));
    up.store(true, SeqCst);
    scrape.wait_for_readyz(200);
    let page = scrape.wait_for("everything is delivered", |page| outcome(page, "delivered") == Some(200.0));
    assert_eq!((page.value("sdl_stalled{side=\"target\"}"), page.value("sdl_in_flight")), (Some(0.0), Some(0.0)));
    let count = |name: &str| page.value(&format!("sdl_{name}_duration_seconds_count"));
    assert!(count("response") > count("batch_processing"), "a batch that is sent again is one batch\n{}", page.0);
}

#[test]
fn fake_events_are_counted() {
    let kafka = Mock::start(1);
    kafka.create_topic("logins", 2);
    let profile = format!("[local_kafka]\nservers = {}\n", kafka.cluster().servers);
    let mut running = Sdl::new("produce-fake logins --rate 200 --metrics 0").profile(&profile).start();
    let scrape = Scrape::of(&mut running);
    scrape.wait_for_readyz(200);
    scrape.wait_for("some are delivered", |page| outcome(page, "delivered") >= Some(100.0)).assert_sound();
}

#[test]
fn a_run_that_waits_for_a_server_is_alive_and_not_ready() {
    let profile = format!("[remote_kafka]\nservers = {NOBODY}\n[local_kafka]\nservers = {NOBODY}\n");
    let mut running = Sdl::new("replicate numbers --group g --wait 1m --metrics 0").profile(&profile).start();
    let scrape = Scrape::of(&mut running);
    assert_eq!(scrape.get("/healthz").map(|(status, _)| status), Some(200));
    // The reason follows when it is logged.
    assert!(scrape.get("/readyz").is_some_and(|(status, text)| status == 503 && text.starts_with("not ready: starting, ")));
    scrape.page().assert_sound();
    running.wait_for_stderr("Waiting for `remote_kafka`. reason=\"127.0.0.213:9: connecting: connection refused\" wait=\"1m\"");
    let waiting = "not ready: starting, waiting for `remote_kafka`: 127.0.0.213:9: connecting: connection refused\n";
    assert_eq!(scrape.get("/readyz"), Some((503, waiting.to_owned())));
}

#[test]
fn health_asks_a_run_whether_it_is_alive_and_ready() {
    let kafka = Mock::start(1);
    kafka.create_topic("logins", 1);
    let profile = format!("[local_kafka]\nservers = {}\n", kafka.cluster().servers);
    let mut running = Sdl::new("produce-fake logins --rate 10 --metrics 0").profile(&profile).start();
    let scrape = Scrape::of(&mut running);
    scrape.wait_for_readyz(200);
    let port = scrape.address.rsplit(':').next().unwrap().to_owned();
    // No profile is read, not even a broken one.
    let folder = Folder::with_profile("broken");
    let health = |arguments: &str| folder.run(&format!("health {arguments}"));
    for (arguments, line) in [(port.clone(), "ok\n"), (format!("{} --ready", scrape.address), "ready\n")] {
        let ended = health(&arguments);
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str(), ended.code), (line, "", Some(0)), "{arguments}");
    }
    running.end();
    let ended = health(&port);
    let expected = format!("error: no answer from 127.0.0.1:{port}/healthz\n  caused by: connection refused\n");
    assert_eq!((ended.stderr, ended.stdout.as_str(), ended.code), (expected, "", Some(1)));
}

#[test]
fn health_is_1_when_a_run_is_not_ready_or_does_not_answer() {
    let profile = format!("[local_kafka]\nservers = {NOBODY}\n");
    let mut running = Sdl::new("produce-fake logins --wait 1m --metrics 0").profile(&profile).start();
    let scrape = Scrape::of(&mut running);
    let folder = Folder::new();
    let ended = folder.run(&format!("health {} --ready", scrape.address));
    let start = format!("error: {}/readyz answers 503\n  caused by: not ready: starting, ", scrape.address);
    assert!(ended.stderr.starts_with(&start) && ended.code == Some(1), "{}", ended.stderr);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let ended = folder.run(&format!("health {}", silent.local_addr().unwrap().port()));
    assert!(ended.stderr.ends_with("\n  caused by: nothing for 10 s\n") && ended.code == Some(1), "{}", ended.stderr);
    assert_eq!(folder.run("health sink").code, Some(2));
}

#[test]
fn an_address_in_use_is_an_error_before_any_server_is_asked() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let profile = format!(
        "[remote_kafka]\nservers = {NOBODY}\n[local_kafka]\nservers = {NOBODY}\ndefault_consumer_group_id = g\n\
         [mongodb]\nhost = 127.0.0.213\n[elasticsearch]\nurl = http://{NOBODY}\n"
    );
    let folder = Folder::with_profile(&profile);
    for command in ["replicate t", "sink-mongo t --database d --collection c", "sink-es t --index i", "produce-fake t"] {
        let ended = folder.run(&format!("{command} --metrics {port}"));
        let expected = format!(
            "error: cannot serve metrics at 127.0.0.1:{port}\n  caused by: the port is in use\n\
             hint: choose another address with --metrics ADDR\n"
        );
        assert_eq!((ended.stderr.as_str(), ended.stdout.as_str(), ended.code), (expected.as_str(), "", Some(1)), "{command}");
    }
}

#[test]
fn a_dry_run_serves_nothing() {
    let (_source, _target, profile) = clusters(&numbered(1, 0, 10, 1));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let finished = Sdl::new(&format!("replicate {TOPIC} --dry-run --metrics {port}")).profile(&profile).run().expect(0);
    assert!(!finished.stderr.contains("metrics"), "{}", finished.stderr);
}
