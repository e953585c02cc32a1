use std::fmt::Write as _;
use std::time::Duration;

use super::*;
use crate::pipeline::{Assignment, BadRecordAction, Reason, SideProblem, UnassignedReason};
use crate::record::{NextOffset, Record};

/// A run that is observed by a status and by metrics.
struct MeteredRun {
    status: Arc<RunStatus>,
    metrics: Metrics,
}

impl MeteredRun {
    fn new() -> Self {
        let journal = Arc::<RunStatus>::default();
        Self { metrics: Metrics::new(Arc::clone(&journal), None), status: journal }
    }

    fn on(&self, event: &Event<'_>) {
        self.status.on(event);
        self.metrics.on(event);
    }

    fn problem(&self, side: RunSide, reason: Option<&str>, is_stalled: bool) {
        let problem = reason.map(|reason| SideProblem { code: "code".to_owned(), reason: reason.to_owned(), is_stalled });
        self.on(&Event::Problem { side, problem: problem.as_ref() });
    }

    fn assign(&self, partitions: impl IntoIterator<Item = Partition>) {
        let of = |partition| Assignment { partition, start: NextOffset(0), fingerprint: None, extension: None };
        self.on(&Event::Assigned(&partitions.into_iter().map(of).collect::<Vec<_>>()));
    }

    fn page(&self) -> String {
        String::from_utf8(self.metrics.metrics().to_vec()).unwrap()
    }

    /// Returns the samples whose names begin with `name`, without HELP and TYPE lines.
    fn samples(&self, name: &str) -> Vec<String> {
        self.page().lines().filter(|line| line.starts_with(name)).map(ToOwned::to_owned).collect()
    }
}

fn p(index: i32) -> Partition {
    Partition::new("logins", index)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn why() -> Reason {
    Reason::new("busy", "the server has too much to do")
}

#[test]
fn every_event_is_counted() {
    let run = MeteredRun::new();
    run.assign([p(0), p(1)]);
    run.on(&Event::LogEndOffsets(&[(p(0), Some(120)), (p(1), Some(30))]));
    run.on(&Event::Read { bytes: 5000, waited: ms(3), shaping: Some(Duration::from_micros(700)) });
    let record = Record { partition: p(0), offset: 7, timestamp: None, key: None, value: None, headers: Vec::new() };
    run.on(&Event::Bad { record: &record, reason: &why(), action: BadRecordAction::DeadLetter });
    run.on(&Event::Bisecting { records: 20, reason: &why() });
    for attempt in 2..4 {
        run.on(&Event::Retrying { records: 10, attempt, pause: ms(100), reason: &why() });
        run.problem(RunSide::Target, Some("the server has too much to do"), false);
        run.on(&Event::Responded { took: ms(20), batch: None });
    }
    run.problem(RunSide::Target, None, false);
    run.on(&Event::Responded { took: ms(90_000), batch: Some(ms(91_000)) });
    run.on(&Event::Settled(&[(p(0), NextOffset(100))]));
    run.on(&Event::Progress(&Tally {
        read: 100,
        delivered: 80,
        already_there: 20,
        superseded: 10,
        dead_lettered: 4,
        skipped: 3,
        filtered: 2,
        released: 1,
        late: 0,
        replayed: 0,
        undelivered: 0,
        batches: 3,
        retried: 20,
        bytes: 4000,
    }));
    let page = run.page();
    let version = env!("CARGO_PKG_VERSION");
    let histogram = |name: &str, counts: &[(&str, u64)], sum: &str, count: u64| {
        let bounds = ["0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5"];
        let bounds = bounds.into_iter().chain(["1", "2.5", "5", "10", "30", "60", "+Inf"]);
        let (mut until, mut buckets) = (0, String::new());
        for bound in bounds {
            until = counts.iter().find(|(at, _)| *at == bound).map_or(until, |(_, count)| *count);
            let _ = writeln!(buckets, "{name}_bucket{{le=\"{bound}\"}} {until}");
        }
        format!("{buckets}{name}_sum {sum}\n{name}_count {count}\n")
    };
    let expected = format!(
        "\
# HELP sdl_build_info The version of sdl; always 1.
# TYPE sdl_build_info gauge
sdl_build_info{{version=\"{version}\"}} 1
# HELP sdl_messages_processed_total Records by their final outcome; released: handed back with their partition, whose next owner reads them again.
# TYPE sdl_messages_processed_total counter
sdl_messages_processed_total{{outcome=\"delivered\"}} 50
sdl_messages_processed_total{{outcome=\"already_there\"}} 20
sdl_messages_processed_total{{outcome=\"superseded\"}} 10
sdl_messages_processed_total{{outcome=\"dead_lettered\"}} 4
sdl_messages_processed_total{{outcome=\"skipped\"}} 3
sdl_messages_processed_total{{outcome=\"filtered\"}} 2
sdl_messages_processed_total{{outcome=\"released\"}} 1
# HELP sdl_errors_total Bad records (bad_record), responses that led to a retry (retry), batches that failed as a whole and were bisected (bisected), and times that the source, a destination or the commits began to fail or to time out (degraded).
# TYPE sdl_errors_total counter
sdl_errors_total{{kind=\"bad_record\"}} 1
sdl_errors_total{{kind=\"retry\"}} 2
sdl_errors_total{{kind=\"bisected\"}} 1
sdl_errors_total{{kind=\"degraded\"}} 1
# HELP sdl_consume_duration_seconds Time to receive a batch of records from the source.
# TYPE sdl_consume_duration_seconds histogram
{}\
# HELP sdl_transform_duration_seconds Time to shape a batch of records.
# TYPE sdl_transform_duration_seconds histogram
{}\
# HELP sdl_response_duration_seconds Time from a request to the destination until its response.
# TYPE sdl_response_duration_seconds histogram
{}\
# HELP sdl_batch_processing_duration_seconds Time from the first attempt of a batch until each of its records has its final outcome, retries included.
# TYPE sdl_batch_processing_duration_seconds histogram
{}\
# HELP sdl_consumer_lag Offsets between the position up to which every record has its outcome and the log end, of the assigned partitions.
# TYPE sdl_consumer_lag gauge
sdl_consumer_lag{{topic=\"logins\",partition=\"0\"}} 20
sdl_consumer_lag{{topic=\"logins\",partition=\"1\"}} 30
# HELP sdl_in_flight Records that were read and have no final outcome yet.
# TYPE sdl_in_flight gauge
sdl_in_flight 10
# HELP sdl_stalled Whether a side makes no progress: source (reading), target (delivery), dead_letters, commits (of offsets).
# TYPE sdl_stalled gauge
sdl_stalled{{side=\"source\"}} 0
sdl_stalled{{side=\"target\"}} 0
sdl_stalled{{side=\"dead_letters\"}} 0
sdl_stalled{{side=\"commits\"}} 0
# HELP sdl_retries_total Retries of records.
# TYPE sdl_retries_total counter
sdl_retries_total 20
# HELP sdl_dead_letters_total Dead-lettered records.
# TYPE sdl_dead_letters_total counter
sdl_dead_letters_total 4
# HELP sdl_bytes_total Bytes of keys, values and headers that were read (in) and delivered (out).
# TYPE sdl_bytes_total counter
sdl_bytes_total{{direction=\"in\"}} 5000
sdl_bytes_total{{direction=\"out\"}} 4000
",
        histogram("sdl_consume_duration_seconds", &[("0.005", 1)], "0.003", 1),
        histogram("sdl_transform_duration_seconds", &[("0.001", 1)], "0.0007", 1),
        histogram("sdl_response_duration_seconds", &[("0.025", 2), ("+Inf", 3)], "90.04", 3),
        histogram("sdl_batch_processing_duration_seconds", &[("+Inf", 1)], "91", 1),
    );
    assert_eq!(page, expected);
}

#[test]
fn every_metric_except_the_lag_is_exposed_from_the_start() {
    let run = MeteredRun::new();
    let page = run.page();
    assert_eq!(run.samples("sdl_messages_processed_total").len(), 7);
    assert_eq!(run.samples("sdl_errors_total").len(), 4);
    assert_eq!(page.matches("_bucket{le=\"+Inf\"} 0\n").count(), 4);
    assert!(page.lines().filter(|line| !line.starts_with('#')).all(|line| line.ends_with(" 0") || line.starts_with("sdl_build")));
    assert!(!page.contains("sdl_consumer_lag"), "{page}");
}

#[test]
fn the_lag_of_a_revoked_partition_is_removed() {
    let run = MeteredRun::new();
    run.assign([p(0), p(1)]);
    run.on(&Event::LogEndOffsets(&[(p(0), Some(5)), (p(1), Some(9))]));
    run.on(&Event::Settled(&[(p(1), NextOffset(10))]));
    let lag = |index: i32, lag: u64| format!("sdl_consumer_lag{{topic=\"logins\",partition=\"{index}\"}} {lag}");
    assert_eq!(run.samples("sdl_consumer_lag"), [lag(0, 5), lag(1, 0)], "a commit beyond the end known so far is not lag");
    run.on(&Event::Released { partitions: &[p(0)], lost: false, records: 0 });
    run.on(&Event::LogEndOffsets(&[(p(0), Some(6))]));
    assert_eq!(run.samples("sdl_consumer_lag"), [lag(1, 0)], "later events of a revoked partition are ignored");
    run.assign([p(0)]);
    assert_eq!(run.samples("sdl_consumer_lag"), [lag(1, 0)], "its end is not known yet");
}

#[test]
fn lags_are_bounded_in_number() {
    let run = MeteredRun::new();
    let partitions = || (0..).take(MAX_PARTITIONS + 5).map(p);
    run.assign(partitions());
    run.on(&Event::LogEndOffsets(&partitions().map(|partition| (partition, Some(1))).collect::<Vec<_>>()));
    assert_eq!(run.samples("sdl_consumer_lag").len(), MAX_PARTITIONS);
}

#[test]
fn a_run_is_ready_while_it_has_partitions_and_a_destination_that_takes_records() {
    let run = MeteredRun::new();
    let ready = || run.metrics.ready();
    assert_eq!(ready().unwrap_err(), "starting, no partition is assigned yet");
    run.assign([p(0)]);
    assert_eq!(ready(), Ok(()));
    let stalled = || {
        let samples = run.samples("sdl_stalled");
        RunSide::ALL.map(|side| samples.contains(&format!("sdl_stalled{{side=\"{}\"}} 1", side.name())))
    };
    run.problem(RunSide::Source, Some("a broker of the source is down"), true);
    assert_eq!((ready(), stalled()), (Ok(()), [true, false, false, false]), "a stall of the source does not matter");
    run.problem(RunSide::Target, Some("the server has too much to do"), false);
    assert_eq!((ready(), stalled()), (Ok(()), [true, false, false, false]), "some records are accepted");
    run.problem(RunSide::Target, Some("the server has too much to do"), true);
    assert_eq!(ready().unwrap_err(), "delivery stalled, the server has too much to do");
    assert_eq!(stalled(), [true, true, false, false]);
    run.problem(RunSide::Source, None, false);
    assert_eq!(stalled(), [false, true, false, false]);
    run.problem(RunSide::DeadLetters, Some("no space left"), true);
    run.problem(RunSide::Target, None, false);
    assert_eq!(ready().unwrap_err(), "dead letters stalled, no space left");
    assert_eq!(stalled(), [false, false, true, false]);
    run.problem(RunSide::DeadLetters, None, false);
    assert_eq!((ready(), stalled()), (Ok(()), [false; 4]));
    assert_eq!(
        run.samples("sdl_errors_total{kind=\"degraded\"}"),
        ["sdl_errors_total{kind=\"degraded\"} 3"],
        "once for each side"
    );
    run.on(&Event::Released { partitions: &[p(0)], lost: true, records: 0 });
    assert_eq!(ready().unwrap_err(), "no partition is assigned");
    run.problem(RunSide::Source, Some("the source has not answered for 45 s"), true);
    assert_eq!(ready().unwrap_err(), "no partition is assigned (the source does not answer)");
    run.on(&Event::Unassigned(UnassignedReason::NoneLeft));
    assert_eq!(ready().unwrap_err(), "no partition is assigned", "it answers, and its group waits");
    run.problem(RunSide::Source, None, false);
    run.assign([p(0)]);
    run.on(&Event::Released { partitions: &[p(0)], lost: false, records: 0 });
    run.problem(RunSide::Source, Some("the topic is gone"), true);
    assert_eq!(ready().unwrap_err(), "no partition is assigned", "they were not lost by an outage");
    run.assign([p(0)]);
    run.on(&Event::Draining("interrupted"));
    assert_eq!(ready().unwrap_err(), "draining records in flight");
}

#[test]
fn a_command_appends_its_own_metrics() {
    let journal = Arc::<RunStatus>::default();
    let appendix: ExtraMetrics = Box::new(|page| page.family("windows", MetricKind::Gauge, "Open windows.", [(vec![], 3)]));
    let page = Metrics::new(journal, Some(appendix)).metrics();
    assert!(page.ends_with(b"# HELP windows Open windows.\n# TYPE windows gauge\nwindows 3\n"));
}
