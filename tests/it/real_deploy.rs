//! The dashboards and alerts of `deploy/` on a real Prometheus that asks real services of sdl.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

use crate::deploy::FROM_REAL_BROKERS;
use crate::harness::{
    Clusters, Content, HttpStub, PanelQuery, Prometheus, Reply, Running, Scrape, Sdl, Sender, alerts, eventually, panels,
    text_of, unique,
};

mod hostile;

const DEPLOY_TIMEOUT: Duration = Duration::from_secs(120);
/// Gauges that promtool takes for counts of a histogram, by the end of their names. They are called as they were before sdl.
const NAMED_LIKE_COUNTS: [&str; 3] = ["sdl_device_type_count", "sdl_locale_count", "sdl_total_count"];

/// A running service, with the name that its address is looked up by.
struct Service {
    name: &'static str,
    running: Running,
    scrape: Scrape,
}

impl Service {
    #[track_caller]
    fn start(name: &'static str, command: &str, profile: &str) -> Self {
        let mut running = Sdl::new(command).profile(profile).start();
        let scrape = Scrape::of(&mut running);
        Self { name, running, scrape }
    }
}

/// Returns a profile with both clusters.
fn profile(clusters: &Clusters) -> String {
    format!("[remote_kafka]\nservers = {}\n[local_kafka]\nservers = {}\n", clusters.source.servers, clusters.target.servers)
}

/// Starts a pipeline: fake logins with faults, two movers (one with dead letters), `aggregate` and `lag`.
fn services(clusters: &Clusters) -> Vec<Service> {
    let (logins, letters, late) = (unique("logins"), unique("letters"), unique("late"));
    let groups = ["copy", "strict", "counts"].map(unique);
    clusters.source.create_topic(&logins, 2, &[]);
    // Of this one, retention was faster than the group.
    clusters.source.create_topic(&late, 1, &[("retention.ms", "3600000")]);
    let content = Content { value: Some(b"{}".to_vec()), ..Content::default() };
    Sender::new(&clusters.source, &[]).send(&late, &vec![(0, content); 10]);
    let mut committed = TopicPartitionList::new();
    committed.add_partition_offset(&late, 0, Offset::Offset(2)).expect("a valid offset");
    clusters.source.consumer(&late).commit(&committed, CommitMode::Sync).expect("the commit is taken");
    clusters.source.delete_records(&late, 0, 6);
    let [copy, strict, counts] = &groups;
    let commands = [
        (
            "produce-fake",
            format!(
                "produce-fake {logins} --target remote_kafka --rate 300 --missing device_type=0.1 --malformed 0.02:truncated"
            ),
        ),
        ("sink-es", format!("replicate {logins} --to-topic {copy} --group {copy}")),
        (
            "sink-mongo",
            format!(
                "replicate {logins} --to-topic {strict} --group {strict} --require device_type --dead-letters topic:{letters}"
            ),
        ),
        (
            "aggregate",
            format!(
                "aggregate {logins} --source remote_kafka --to-topic {counts} --group {counts} --window 1s --grace 0s \
                 --dead-letters topic:{letters}"
            ),
        ),
        ("lag", format!("lag {copy} {strict} {counts} {late} --source remote_kafka --interval 500ms")),
    ];
    let profile = profile(clusters);
    commands.map(|(name, command)| Service::start(name, &format!("{command} --metrics 0"), &profile)).into()
}

/// Returns the jobs whose targets answer, in order.
fn jobs_up(prometheus: &Prometheus) -> Vec<String> {
    let up = prometheus.query("sum by (job) (up) == 1").expect("an answer");
    let jobs: BTreeSet<_> = up.into_iter().map(|sample| sample.labels["job"].clone()).collect();
    jobs.into_iter().collect()
}

/// Returns why an expression has no data or does not match its legend; `None` if it is correct.
fn fault(prometheus: &Prometheus, expression: &str, labels: &[String]) -> Option<String> {
    match prometheus.query(expression) {
        Err(reason) => Some(reason),
        Ok(samples) if !samples.iter().any(|sample| sample.value.is_finite()) => Some(format!("no data: {samples:?}")),
        Ok(samples) => {
            let lacking = |label: &&String| samples.iter().any(|sample| !sample.labels.contains_key(*label));
            labels.iter().find(lacking).map(|label| format!("the legend's `{label}` is not there: {samples:?}"))
        }
    }
}

/// Waits until each expression has data.
#[track_caller]
fn assert_data(prometheus: &Prometheus, mut asked: Vec<PanelQuery>) {
    let begun = std::time::Instant::now();
    while !asked.is_empty() {
        let mut output = String::new();
        asked.retain(|one| {
            let fault = fault(prometheus, &one.expression, &one.labels);
            let _ = fault.as_ref().map(|fault| writeln!(output, "{}: {}\n  {fault}", one.place, one.expression));
            fault.is_some()
        });
        assert!(begun.elapsed() < DEPLOY_TIMEOUT, "without data or wrong:\n{output}");
        std::thread::sleep(Duration::from_millis(if asked.is_empty() { 0 } else { 200 }));
    }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_dashboards_and_alerts_have_data_of_running_services() {
    let clusters = Clusters::shared();
    let mut services = services(&clusters);
    let page = text_of("kafka/metrics.sample.txt");
    let page =
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {}\r\n\r\n{page}", page.len());
    let exporter = HttpStub::start(move |_| Reply::Bytes(page.clone().into()));
    let targets: Vec<_> = services.iter().map(|service| (service.name, service.scrape.address.as_str())).collect();
    let exporter = exporter.url();
    let Some(prometheus) = Prometheus::start(&targets, exporter.strip_prefix("http://")) else { return };

    let jobs = ["kafka", "sdl-aggregate", "sdl-lag", "sdl-produce-fake", "sdl-sink-es", "sdl-sink-mongo"];
    eventually("every target is up", DEPLOY_TIMEOUT, || (jobs_up(&prometheus) == jobs).then_some(()));
    assert_data(&prometheus, panels());
    // An alert's condition rarely holds; its metrics must exist.
    let selectors = alerts().into_iter().flat_map(|alert| {
        let place = alert.place.clone();
        let asked = move |text| PanelQuery { place: place.clone(), expression: text, labels: Vec::new() };
        alert.selectors().into_iter().map(|selector| selector.text).map(asked).collect::<Vec<_>>()
    });
    assert_data(&prometheus, selectors.collect());
    for alert in alerts() {
        prometheus.query(&alert.expression).unwrap_or_else(|reason| panic!("{}: {reason}", alert.place));
    }
    assert_eq!(prometheus.sick_rules(), Vec::<String>::new());

    let mut names = BTreeSet::new();
    for service in &mut services {
        assert!(service.running.is_running(), "{}: {}", service.name, service.running.stderr());
        let page = service.scrape.page();
        page.assert_sound_but(if service.name == "aggregate" { &NAMED_LIKE_COUNTS } else { &[] });
        names.extend(page.names().into_iter().map(str::to_owned));
    }
    let unseen: Vec<_> = FROM_REAL_BROKERS.iter().filter(|name| !names.contains(**name)).collect();
    assert!(unseen.is_empty(), "nothing tells of {unseen:?}");
}
