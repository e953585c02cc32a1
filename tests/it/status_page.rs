//! The status page of `--metrics`, on embedded brokers and with hostile names.

mod browser;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use serde_json::{Value, json};

use crate::harness::{Cluster, Content, HttpStub, Mock, Reply, Scrape, Sdl, Sender, created, eventually, numbered};

/// Names of indices may hold what topics may not.
const HOSTILE: &str = "<img src=x onerror=document.title='owned'>";

/// Returns the data of the page, once `holds` does.
#[track_caller]
fn status(scrape: &Scrape, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    eventually(what, std::time::Duration::from_secs(60), || {
        let (code, text) = scrape.get("/status.json").expect("it listens");
        assert_eq!(code, 200, "{text}");
        Some(serde_json::from_str(&text).expect("it is JSON")).filter(&holds)
    })
}

/// A sink whose server refuses with a hostile code until it is told to accept; one record in ten is bad for good.
pub(super) struct HostileRun {
    pub(super) running: crate::harness::Running,
    pub(super) scrape: Scrape,
    pub(super) is_up: Arc<AtomicBool>,
    _kafka: Mock,
    _stub: HttpStub,
    _letters: tempfile::TempDir,
}

impl HostileRun {
    pub(super) fn start() -> Self {
        let kafka = Mock::start(1);
        kafka.create_topic("numbers", 3);
        let content = |n: u64| Content {
            value: Some(if n.is_multiple_of(10) {
                b"<script>secret-payload</script>".to_vec()
            } else {
                format!("{{\"n\":{n}}}").into()
            }),
            timestamp: Some(1_700_000_000_000),
            ..Content::default()
        };
        let sent: Vec<_> = (0..300).map(|n| (i32::try_from(n % 3).unwrap(), content(n))).collect();
        Sender::new(&kafka.cluster(), &[]).send("numbers", &sent);
        let is_up = Arc::new(AtomicBool::new(false));
        let up = Arc::clone(&is_up);
        let refusal = json!({"error": {"type": HOSTILE, "reason": "secret-payload of a document"}});
        let stub = HttpStub::search(move |request| match request.path.starts_with("/_") || request.method != "POST" {
            true => Reply::Text(404, ""),
            false if up.load(SeqCst) => created(request),
            false => Reply::Json(429, refusal.clone()),
        });
        let letters = tempfile::tempdir().expect("a folder");
        let profile = format!(
            "[local_kafka]\nservers = {}\ndefault_consumer_group_id = g\n[elasticsearch]\nurl = {}\n\
             username = u\npassword = canary7f3a\n[run.sink-es]\nmetrics = 0\ndead_letters = file:{}\n",
            kafka.cluster().servers,
            stub.url(),
            letters.path().join("letters.ndjson").display()
        );
        let mut running = Sdl::new("sink-es numbers --index numbers").profile(&profile).start();
        let scrape = Scrape::of(&mut running);
        Self { running, scrape, is_up, _kafka: kafka, _stub: stub, _letters: letters }
    }
}

#[test]
fn the_page_shows_a_stall_and_dead_letters_by_code_and_quotes_nothing() {
    let run = HostileRun::start();
    let stalled =
        status(&run.scrape, "it is stalled", |status| status["state"] == "stalled" && status["causes"][0]["records"] == 30);
    assert_eq!(stalled["problems"][0]["side"], "target");
    assert_eq!(stalled["problems"][0]["code"], HOSTILE, "the code of the server, whatever it is");
    assert_eq!((&stalled["command"], &stalled["in_flight"]), (&"sink-es".into(), &270.into()), "{stalled}");
    let flow = stalled["flow"].as_str().unwrap();
    assert_eq!(flow, "local_kafka → elasticsearch");
    run.is_up.store(true, SeqCst);
    let done = status(&run.scrape, "all is delivered", |status| status["records"]["delivered"] == 270 && status["lag"] == 0);
    assert_eq!((&done["records"]["dead_lettered"], &done["partition_count"]), (&30.into(), &3.into()), "{done}");
    assert_eq!(done["causes"], json!([{"code": "not_json", "records": 30}]));
    assert!(done["response_ms"]["p99"].as_f64() > Some(0.0), "{done}");
    let positions: i64 = done["partitions"].as_array().unwrap().iter().map(|of| of["position"].as_i64().unwrap()).sum();
    assert_eq!(positions, 300, "{done}");
    for text in [stalled.to_string(), done.to_string()] {
        assert!(!text.contains("secret-payload") && !text.contains("canary7f3a"), "{text}");
    }
    let caught_up = status(&run.scrape, "nothing is left to do", |status| status["state"] == "caught_up");
    assert_eq!((&caught_up["waiting"], &caught_up["problems"]), (&"waiting for new records".into(), &json!([])), "{caught_up}");
    run.running.end();
}

#[test]
fn the_page_is_for_browsers_of_this_machine_and_may_do_little() {
    let kafka = Mock::start(1);
    kafka.create_topic("logins", 1);
    let profile = format!("[local_kafka]\nservers = {}\n", kafka.cluster().servers);
    let mut running = Sdl::new("produce-fake logins --rate 20 --metrics 0").profile(&profile).start();
    let scrape = Scrape::of(&mut running);
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/status.css", "text/css; charset=utf-8"),
        ("/status.js", "text/javascript; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/status.json", "application/json; charset=utf-8"),
    ] {
        let (head, body) = scrape.response(path, &scrape.address).expect("it listens");
        assert!(head.starts_with("HTTP/1.1 200 ") && !body.is_empty(), "{path}: {head}");
        for header in [
            &format!("content-type: {kind}"),
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cache-control: no-store",
            "x-frame-options: DENY",
            "content-security-policy: default-src 'none'; script-src 'self';",
        ] {
            assert!(head.contains(header), "{path} has no `{header}`: {head}");
        }
        assert!(!head.contains("access-control") && !head.contains("unsafe-inline"), "{path}: {head}");
        let port = scrape.address.rsplit(':').next().unwrap();
        assert!(scrape.response(path, &format!("localhost:{port}")).unwrap().0.starts_with("HTTP/1.1 200 "));
        let (head, body) = scrape.response(path, &format!("evil.example:{port}")).unwrap();
        assert!(head.starts_with("HTTP/1.1 421 ") && !body.contains("local_kafka"), "{path}: {head}");
    }
    for path in ["/metrics", "/healthz"] {
        let (head, _) = scrape.response(path, "sink").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "Prometheus asks by any name: {head}");
    }
    let running_now = status(&scrape, "it runs", |status| status["records_per_second"].as_f64() > Some(5.0));
    assert_eq!((&running_now["command"], &running_now["state"]), (&"produce-fake".into(), &"running".into()), "{running_now}");
}

#[test]
fn the_page_says_what_a_start_waits_for_without_the_reason() {
    let profile = "[remote_kafka]\nservers = 127.0.0.213:9\n[local_kafka]\nservers = 127.0.0.213:9\n";
    let mut running = Sdl::new("replicate numbers --group g --wait 1m --metrics 0").profile(profile).start();
    let scrape = Scrape::of(&mut running);
    let waiting = status(&scrape, "it waits", |status| status["waiting"] == "waiting for `remote_kafka`");
    assert_eq!((&waiting["state"], &waiting["flow"], &waiting["lag"]), (&"starting".into(), &Value::Null, &Value::Null));
}

#[test]
fn the_page_shows_the_lag_of_each_partition() {
    let (source, target) = (Mock::start(1), Mock::start(1));
    source.create_topic("numbers", 3);
    target.create_topic("numbers", 3);
    Sender::new(&source.cluster(), &[]).send("numbers", &numbered(1, 0, 3_000, 3));
    let profile = Cluster::profile(&source.cluster(), &target.cluster(), "group");
    let mut running = Sdl::new("replicate numbers --rate 100 --metrics 0").profile(&profile).start();
    let scrape = Scrape::of(&mut running);
    let behind = status(&scrape, "it is behind", |status| {
        status["lag"].as_u64() > Some(0) && status["records"]["delivered"].as_u64() > Some(0)
    });
    let lags: Vec<_> = behind["partitions"].as_array().unwrap().iter().map(|of| of["lag"].as_u64().unwrap()).collect();
    assert!(lags.len() == 3 && lags.is_sorted_by(|a, b| a >= b), "the worst first: {behind}");
    assert_eq!(lags.iter().sum::<u64>(), behind["lag"].as_u64().unwrap(), "{behind}");
}
