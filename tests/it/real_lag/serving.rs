//! Metrics for Prometheus, and rows round after round.

use std::time::Duration;

use serde_json::Value;

use super::{commit, profile, records};
use crate::harness::{Clusters, Running, Scrape, Sdl, Sender, eventually, unique};

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_the_exporter_survives_a_cluster_outage_and_ends_when_interrupted() {
    let clusters = Clusters::shared();
    let (topic, group) = (unique("exported"), unique("exported"));
    clusters.source.create_topic(&topic, 1, &[]);
    Sender::new(&clusters.source, &[]).send(&topic, &records(0, 0, 10));
    commit(&clusters.source, &group, &topic, &[4]);
    // No server listens on this address.
    let both = format!("{}\n[remote_kafka]\nservers = 127.0.0.213:9\n", profile(&clusters.source));
    let mut running = Sdl::new("lag --metrics 0 --interval 200ms").profile(&both).start();
    let scrape = Scrape::of(&mut running);
    assert!(scrape.address.starts_with("127.0.0.1:"), "{}", scrape.address);
    assert_eq!(scrape.get("/healthz").map(|(status, _)| status), Some(200));
    let value = |lag: i64| {
        format!("sdl_group_lag_records{{section=\"local_kafka\",group=\"{group}\",topic=\"{topic}\",partition=\"0\"}} {lag}\n")
    };
    let page = scrape.wait_for("the first look is over", |page| page.0.contains(&value(6)));
    scrape.wait_for_readyz(200);
    page.assert_sound();
    let page = page.0;
    assert!(page.contains("sdl_section_up{section=\"local_kafka\"} 1\nsdl_section_up{section=\"remote_kafka\"} 0\n"), "{page}");
    commit(&clusters.source, &group, &topic, &[9]);
    scrape.wait_for("the page follows", |page| page.0.contains(&value(1)));
    running.signal("INT");
    let finished = running.wait().expect(0);
    assert_eq!(finished.stderr.matches("cannot connect to `remote_kafka`").count(), 1, "reported once: {}", finished.stderr);
}

/// Returns the rows that a watch in a pipe has written.
fn watched(running: &Running) -> Vec<Value> {
    running.stdout().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_watch_in_a_pipe_shows_the_throughput_and_stalled_groups() {
    let clusters = Clusters::shared();
    let (topic, group) = (unique("watched"), unique("watched"));
    clusters.source.create_topic(&topic, 1, &[]);
    Sender::new(&clusters.source, &[]).send(&topic, &records(0, 0, 100));
    commit(&clusters.source, &group, &topic, &[10]);
    let command = format!("lag {group} --watch --interval 200ms -o ndjson -vv");
    let mut running = Sdl::new(&command).profile(&profile(&clusters.source)).start();
    let stalled =
        eventually("it is stalled", Duration::from_secs(30), || watched(&running).into_iter().find(|row| row["stalled"] == 1));
    assert_eq!((stalled["lag"].as_i64(), stalled["rate"].as_f64(), &stalled["eta_seconds"]), (Some(90), Some(0.0), &Value::Null));
    assert_eq!(stalled["notes"], serde_json::json!(["stalled"]));
    let before = watched(&running);
    assert!(before.len() > 3 && before[..3].iter().all(|row| row["stalled"] == 0), "{before:#?}");
    commit(&clusters.source, &group, &topic, &[60]);
    let moving = eventually("it moves", Duration::from_secs(30), || {
        watched(&running).into_iter().find(|row| row["rate"].as_f64() > Some(0.0))
    });
    assert_eq!((moving["lag"].as_i64(), moving["stalled"].as_i64()), (Some(40), Some(0)));
    assert!(moving["eta_seconds"].as_f64() > Some(0.0), "{moving}");
    assert!(moving["time"].as_str() > stalled["time"].as_str());
    assert!(running.is_running());
    running.signal("INT");
    let requests = running.wait().expect(0).stderr.matches("Read a single record.").count();
    assert_eq!(requests, 2, "an unchanged position is not read again");
}
