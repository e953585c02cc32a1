//! Dashboards and alerts use only existing metrics.

use std::collections::BTreeSet;

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

use crate::harness::{MetricsPage, Mock, PanelQuery, Scrape, Sdl, Sender, alerts, numbered, panels, text_of};

/// Metrics of `aggregate` and `lag` that exist only on real brokers, where the test of the dashboards covers them.
pub(crate) const FROM_REAL_BROKERS: [&str; 5] = [
    "sdl_device_type_count",
    "sdl_group_deleted_unread_records",
    "sdl_group_unread_expires_seconds",
    "sdl_locale_count",
    "sdl_total_count",
];
/// Metrics that Prometheus adds for each target.
const OF_TARGETS: &str = "up";

/// Returns the metrics of a mover and of `lag`.
fn exported_metrics() -> BTreeSet<String> {
    let kafka = Mock::start(1);
    kafka.create_topic("logins", 1);
    kafka.create_topic("copies", 1);
    Sender::new(&kafka.cluster(), &[]).send("logins", &numbered(1, 0, 10, 1));
    let mut committed = TopicPartitionList::new();
    committed.add_partition_offset("logins", 0, Offset::Offset(4)).unwrap();
    kafka.cluster().consumer("billing").commit(&committed, CommitMode::Sync).unwrap();
    let servers = kafka.cluster().servers;
    let profile = format!("[remote_kafka]\nservers = {servers}\n[local_kafka]\nservers = {servers}\n");
    let mut mover = Sdl::new("replicate logins --to-topic copies --group movers --metrics 0").profile(&profile).start();
    let scrape = Scrape::of(&mut mover);
    let page = scrape.wait_for("a partition is assigned", |page| page.0.contains("\nsdl_consumer_lag{"));
    let lag = Sdl::new("lag billing --source local_kafka -o prom").profile(&profile).run().expect(0);
    let lag = MetricsPage(String::from_utf8(lag.stdout).unwrap());
    let exported = page.names().into_iter().chain(lag.names()).map(str::to_owned).collect();
    drop(mover);
    exported
}

/// Panics unless each metric that is asked for is known.
#[track_caller]
fn assert_known(asked: &[PanelQuery], known: &BTreeSet<String>) {
    let unknown: Vec<_> = asked
        .iter()
        .flat_map(|asked| asked.selectors().into_iter().map(move |selector| (selector.name, &asked.place)))
        .filter(|(name, _)| name != OF_TARGETS && !known.contains(name))
        .map(|(name, place)| format!("{place} asks for {name}"))
        .collect();
    assert!(unknown.is_empty(), "nothing tells of what is asked for:\n{}\nwhat is told of: {known:#?}", unknown.join("\n"));
}

#[test]
fn dashboards_and_alerts_name_only_existing_metrics() {
    let mut known = exported_metrics();
    for name in FROM_REAL_BROKERS {
        assert!(known.insert(name.to_owned()), "{name} is also told without real brokers");
    }
    let of_brokers = MetricsPage(text_of("kafka/metrics.sample.txt"));
    known.extend(of_brokers.names().into_iter().map(str::to_owned));
    let (panels, alerts) = (panels(), alerts());
    assert!(panels.len() > 60 && alerts.len() > 15, "they are found");
    assert!(panels.iter().chain(&alerts).all(|asked| !asked.selectors().is_empty()), "each asks for something");
    assert_known(&panels, &known);
    assert_known(&alerts, &known);
}
