//! Producers choose the counted values, but must not choose the number of series in a monitoring system.

use super::{DEPLOY_TIMEOUT, NAMED_LIKE_COUNTS, Service, jobs_up, profile};
use crate::harness::{Clusters, Content, Prometheus, Sender, eventually, unique};

/// The maximum number of series of a field, including the one for other values.
const SERIES: usize = 201;
/// Windows, and events in each. Every event has a value of its own.
const WINDOWS: u64 = 6;
const EVENTS: u64 = 900;
/// In seconds.
const THEN: u64 = 1_700_000_000;

/// Returns a value that is meant to break a page, or to make it long; no other has this number.
fn hostile(number: u64) -> String {
    match number % 12 {
        0 => format!("{number}\"}} 1\nsdl_total_count{{x=\""),
        1 => format!("{number}\n# TYPE sdl_total_count counter\n"),
        2 => format!("{number}\\"),
        3 => format!("{number}\\\"\\n"),
        4 => format!("\u{1b}]0;{number}\u{7}\u{1b}[2J"),
        5 => format!("{number}{}", "long".repeat(5_000)),
        6 => format!("{number}\r\n\r\nHTTP/1.1 200 OK"),
        7 => format!("\0{number}\0"),
        8 => format!("\u{202e}{number}\u{2028}\u{85}"),
        9 => format!("{number}{}", "🦀".repeat(20)),
        10 => format!(" {{{number}}} "),
        _ => format!("(other){number}"),
    }
}

/// Returns events of several windows, in order, and some that are of no use at all.
fn events() -> Vec<(i32, Content)> {
    let event = |number: u64| {
        let value = hostile(number);
        let value = match number % 100 {
            97 => serde_json::json!({"device_type": "(other)", "locale": "", "timestamp": THEN + number / EVENTS}).to_string(),
            98 => format!("{{\"device_type\": \"\\ud800{number}\", \"timestamp\": {}}}", THEN + number / EVENTS),
            99 => format!(
                "{{\"device_type\": [{number}], \"locale\": {{\"{number}\": 1}}, \"timestamp\": {}}}",
                THEN + number / EVENTS
            ),
            _ => serde_json::json!({"device_type": value, "locale": value, "timestamp": THEN + number / EVENTS}).to_string(),
        };
        (0, Content { value: Some(value.into()), ..Content::default() })
    };
    (0..WINDOWS * EVENTS).map(event).collect()
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_dashboards_keep_few_series_for_any_event() {
    let clusters = Clusters::shared();
    let (logins, counts) = (unique("hostile"), unique("counts"));
    clusters.source.create_topic(&logins, 1, &[]);
    Sender::new(&clusters.source, &[]).send(&logins, &events());
    let command = format!(
        "aggregate {logins} --source remote_kafka --to-topic {counts} --group {counts} --window 1s --grace 0s --idle 1s \
         --skip-bad-records --metrics 0"
    );
    let aggregate = Service::start("aggregate", &command, &profile(&clusters));
    let closed = |wanted: f64| move |page: &crate::harness::MetricsPage| page.value("sdl_windows_closed_total") >= Some(wanted);
    #[allow(clippy::cast_precision_loss)] // Prometheus has no other numbers
    let page = aggregate.scrape.wait_for("all windows are closed", closed(WINDOWS as f64));
    page.assert_sound_but(&NAMED_LIKE_COUNTS);
    for name in ["sdl_device_type_count", "sdl_locale_count"] {
        let series: Vec<_> = page.0.lines().filter(|line| line.starts_with(&format!("{name}{{"))).collect();
        assert!(series.len() > SERIES / 2 && series.len() <= SERIES, "{name}: {}", series.len());
        let rest = series.iter().filter(|line| line.contains("=\"(other)\",")).count();
        assert_eq!(rest, 1, "{name} tells what has no series of its own, once");
        assert!(series.iter().all(|line| line.len() < 500), "{name}: {series:#?}");
    }
    assert!(page.0.len() < 200_000, "{} bytes", page.0.len());
    let totals = page.0.lines().filter(|line| line.starts_with("sdl_total_count")).count();
    assert_eq!(totals, 1, "{}", page.0);

    // Prometheus reads a page by rules of its own.
    let targets = [(aggregate.name, aggregate.scrape.address.as_str())];
    let Some(prometheus) = Prometheus::start(&targets, None) else { return };
    eventually("it takes the page", DEPLOY_TIMEOUT, || (jobs_up(&prometheus) == ["sdl-aggregate"]).then_some(()));
    let count = |expression: &str| prometheus.query(expression).unwrap().first().map(|sample| sample.value);
    for name in ["sdl_device_type_count", "sdl_locale_count"] {
        let exported = page.0.lines().filter(|line| line.starts_with(&format!("{name}{{"))).count();
        #[allow(clippy::cast_precision_loss)]
        let exported = exported as f64;
        let every = format!("every series of {name}");
        eventually(&every, DEPLOY_TIMEOUT, || (count(&format!("count({name})")) == Some(exported)).then_some(()));
    }
}
