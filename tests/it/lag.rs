//! `sdl lag` on embedded brokers: rows, limits and errors.

use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::json;

use crate::harness::{Content, Finished, Mock, Sdl, Sender};
use crate::run::Folder;

/// A cluster with a topic of three partitions, ten records in each, and a group that has committed in two of them.
struct Logins {
    mock: Mock,
}

impl Logins {
    fn new() -> Self {
        let mock = Mock::start(1);
        mock.create_topic("logins", 3);
        let content = Content { timestamp: Some(1_700_000_000_000), value: Some(b"v".to_vec()), ..Content::default() };
        let records: Vec<_> = (0..30).map(|number| (number % 3, content.clone())).collect();
        Sender::new(&mock.cluster(), &[]).send("logins", &records);
        let logins = Self { mock };
        logins.commit("billing", &[(0, 4), (1, 10)]);
        logins
    }

    fn commit(&self, group: &str, offsets: &[(i32, i64)]) {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            list.add_partition_offset("logins", *partition, Offset::Offset(*offset)).unwrap();
        }
        self.mock.cluster().consumer(group).commit(&list, CommitMode::Sync).unwrap();
    }

    fn profile(&self) -> String {
        format!("[local_kafka]\nservers = {}\n", self.mock.cluster().servers)
    }

    fn lag(&self, arguments: &str) -> Finished {
        Sdl::new(&format!("lag {arguments}")).profile(&self.profile()).run()
    }
}

fn stdout(finished: &Finished) -> String {
    String::from_utf8(finished.stdout.clone()).unwrap()
}

/// Runs `sdl ARGUMENTS` beside a profile and expects this on stderr and nothing on stdout.
#[track_caller]
fn refused(profile: &str, arguments: &str, code: i32, stderr: &str) {
    let ended = Folder::with_profile(profile).run(arguments);
    assert_eq!((ended.stderr.as_str(), ended.stdout.as_str(), ended.code), (stderr, "", Some(code)));
}

#[test]
fn brokers_that_answer_slowly_are_known_as_embedded() {
    let logins = Logins::new();
    logins.mock.faults().broker_round_trip_time(1, Duration::from_millis(150)).unwrap();
    logins.lag("billing --no-time").expect(0);
}

#[test]
fn a_named_group_of_embedded_brokers_has_rows_without_a_state() {
    let logins = Logins::new();
    let finished = logins.lag("billing --no-time").expect(0);
    let expected = "\
GROUP    TOPIC   PARTITION  COMMITTED  END  LAG  STATE
billing  logins          0          4   10    6  -
billing  logins          1         10   10    0  -
";
    assert_eq!((stdout(&finished).as_str(), finished.stderr.as_str()), (expected, ""));
    let rows = logins.lag("billing --by topic -o json").expect(0).json();
    let row = &rows["lags"][0];
    assert_eq!((&row["partitions"], &row["behind"], &row["lag"]), (&json!(2), &json!(1), &json!(6)));
    assert!(row["time_lag_seconds"].as_f64() > Some(10_000_000.0), "{row}");
    assert_eq!((&row["state"], &row["members"]), (&json!(null), &json!(null)));
}

#[test]
fn rows_are_written_in_every_format() {
    let logins = Logins::new();
    let csv = logins.lag("billing --no-time --partitions 0 -o csv").expect(0);
    assert_eq!(
        stdout(&csv),
        "section,group,topic,partition,committed,end,stable_end,lag,state,protocol,members,client,host,deleted_unread,notes\r\n\
         local_kafka,billing,logins,0,4,10,,6,,,,,,0,\r\n"
    );
    let lines = logins.lag("billing --no-time -o ndjson").expect(0);
    assert_eq!(stdout(&lines).lines().count(), 2);
    assert!(stdout(&lines).lines().all(|line| line.contains("\"schema\":1")));
    let page = logins.lag("billing -o prom").expect(0);
    let sample = "sdl_group_lag_records{section=\"local_kafka\",group=\"billing\",topic=\"logins\",partition=\"0\"} 6\n";
    assert!(stdout(&page).contains(sample), "{}", stdout(&page));
}

#[test]
fn an_empty_result_is_explained() {
    let logins = Logins::new();
    logins.commit("done", &[(0, 10)]);
    for (arguments, expected) in [
        ("done --only-lagging", "nothing lags: all 1 positions are caught up\n"),
        ("billing --topic logins --partitions 2", "group `billing` has committed nothing in these topics and partitions\n"),
        ("billing --exclude log.*", "group `billing` has committed nothing in these topics and partitions\n"),
    ] {
        let finished = logins.lag(arguments).expect(0);
        assert_eq!((stdout(&finished).as_str(), finished.stderr.as_str()), ("", expected), "{arguments}");
    }
}

#[test]
fn an_exceeded_threshold_exits_4_after_the_rows() {
    let logins = Logins::new();
    logins.lag("billing --max-lag 6").expect(0);
    let over = logins.lag("billing --max-lag 5 --no-time").expect(4);
    assert!(stdout(&over).starts_with("GROUP "));
    let expected = "error: 1 group fails the check\n  caused by: `billing` on `local_kafka`: lag 6 exceeds 5 (--max-lag)\n\
                    hint: see where: sdl lag billing --only-lagging\n";
    assert_eq!(over.stderr, expected);
}

#[test]
fn a_partition_without_a_leader_delays_nothing() {
    let logins = Logins::new();
    logins.mock.faults().partition_leader("logins", 0, None).unwrap();
    let finished = logins.lag("billing -o json").expect(0);
    let rows = finished.json();
    let row = &rows["lags"][0];
    assert_eq!(
        (&row["committed"], &row["end"], &row["lag"], &row["notes"]),
        (&json!(4), &json!(null), &json!(null), &json!(["no_leader"]))
    );
    assert_eq!(rows["lags"][1]["lag"], 0);
    // A request that waits for a leader would take ten seconds.
    assert!(finished.took < Duration::from_secs(9), "{:?}", finished.took);
    let over = logins.lag("billing --max-lag 1000 --max-time 100years").expect(4);
    assert!(over.stderr.contains("the lag of 1 partition is not known"), "{}", over.stderr);
}

#[test]
fn a_limit_without_rows_fails() {
    let logins = Logins::new();
    let nothing = logins.lag("billing --exclude .* --max-lag 1").expect(4);
    assert!(nothing.stderr.contains("error: nothing was checked: no group matches\n"), "{}", nothing.stderr);
}

#[test]
fn an_unauthorized_group_is_reported_as_such() {
    let logins = Logins::new();
    let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED;
    logins.mock.faults().request_errors(RDKafkaApiKey::OffsetFetch, &[error; 10]);
    let finished = logins.lag("billing --by group").expect(0);
    assert!(
        stdout(&finished)
            .contains("its offsets cannot be read: not allowed to describe group `billing`: give the user DESCRIBE on the group"),
        "{}",
        stdout(&finished)
    );
}

#[test]
fn an_unreadable_record_leaves_its_time_unknown_and_delays_nothing() {
    let logins = Logins::new();
    for (error, note) in [
        (
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
            "the next record cannot be read: not allowed to read topic `logins`: give the user READ on the topic",
        ),
        (RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT, "the next record cannot be read: request timed out"),
    ] {
        logins.mock.faults().request_errors(RDKafkaApiKey::Fetch, &[error; 1_000]);
        let finished = logins.lag("billing").expect(0);
        let row = format!("billing  logins          0          4   10    6         -  -      {note}\n");
        assert!(stdout(&finished).contains(&row), "{}", stdout(&finished));
        assert!(finished.took < Duration::from_secs(20), "{:?}", finished.took);
        let over = logins.lag("billing --max-time 1s").expect(4);
        assert!(over.stderr.contains("the time lag of 1 lagging partition is not known (--max-time)"), "{}", over.stderr);
        logins.mock.faults().clear_request_errors(RDKafkaApiKey::Fetch);
    }
}

#[test]
fn a_silent_cluster_does_not_affect_the_others() {
    let logins = Logins::new();
    // No server listens on this address.
    let both = format!("{}\n[remote_kafka]\nservers = 127.0.0.213:9\n", logins.profile());
    let started = Instant::now();
    let finished = Sdl::new("lag billing --no-time").profile(&both).run().expect(1);
    assert!(
        stdout(&finished).contains("local_kafka  billing  logins          0          4   10    6  -"),
        "{}",
        stdout(&finished)
    );
    let expected = "error: cannot connect to `remote_kafka`\n  caused by: 127.0.0.213:9: connecting: connection refused\n\
                    hint: start the broker, or correct `servers` under [remote_kafka]\n";
    assert_eq!(finished.stderr, expected);
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    let unknown = Sdl::new("lag billing --no-time --exclude .*").profile(&both).run().expect(1);
    assert_eq!(unknown.stderr, expected, "the cluster that is away may hold commits");
    Sdl::new("lag billing --no-time --source local_kafka").profile(&both).run().expect(0);
}

#[test]
fn an_interval_without_watch_or_metrics_draws_a_warning() {
    let logins = Logins::new();
    let finished = Sdl::new("lag billing --no-time --interval 2s").profile(&logins.profile()).run().expect(0);
    let note = "--interval has no effect without --watch or --metrics";
    assert!(finished.stderr.contains(note), "{}", finished.stderr);
}

#[test]
fn a_group_or_topic_that_does_not_exist_is_reported_with_a_hint() {
    let logins = Logins::new();
    let profile = logins.profile();
    refused(
        &profile,
        "lag biling",
        1,
        "error: group `biling` does not exist on `local_kafka`\n\
         hint: check the name and the section: embedded brokers do not list their groups\n",
    );
    let is_topic = "error: group `logins` does not exist on `local_kafka`\nhint: `logins` is a topic: sdl lag --topic logins\n";
    refused(&profile, "lag logins", 1, is_topic);
    let meant = "error: topic `login` does not exist on `local_kafka`\nhint: did you mean `logins`?\n";
    refused(&profile, "lag billing --topic login", 1, meant);
    let nothing = "error: topic `else` does not exist on `local_kafka`\nhint: list what groups have read: sdl lag --by topic\n";
    refused(&profile, "lag billing --topic else", 1, nothing);
    let unnamed = "error: cannot list the groups of `local_kafka`\n  caused by: embedded brokers do not list their groups\n\
                   hint: name the group: sdl lag GROUP\n";
    refused(&profile, "lag", 1, unnamed);
}

#[test]
fn a_profile_without_a_kafka_section_is_refused() {
    let expected = "error: cannot read section `local_kafka`\n  caused by: ./database.ini has no section with this name\n\
                    hint: add [local_kafka] with `servers = host:9092` to ./database.ini, or set SDL_LOCAL_KAFKA_SERVERS\n";
    refused("[mongodb]\nhost = localhost\n", "lag", 2, expected);
}

#[test]
fn conflicting_or_invalid_flags_are_usage_errors() {
    for (arguments, expected) in [
        ("--groups (", "invalid value '(' for '--groups <REGEX>': not a regular expression: unclosed group"),
        ("--groups a b", "the argument '--groups <REGEX>' cannot be used with '[GROUP]...'"),
        ("--partitions x", "not a list of partitions: use numbers and ranges, as in 0,2-5"),
        ("--max-time 5m --no-time", "the argument '--max-time <DURATION>' cannot be used with '--no-time'"),
        ("--watch -o prom", "error: --watch cannot be combined with -o prom\nhint: serve metrics with --metrics 9464\n"),
        ("--watch --max-lag 1", "the argument '--watch' cannot be used with '--max-lag <N>'"),
        ("--metrics nowhere", "not an address: use a port, as in 9464, or an address and a port, as in 0.0.0.0:9464"),
        ("--interval 1ms", "at least 100ms"),
    ] {
        let ended = Folder::with_profile("[local_kafka]\nservers = 127.0.0.213:9\n").run(&format!("lag {arguments}"));
        assert_eq!(ended.code, Some(2), "{arguments}: {}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{arguments} printed\n{}", ended.stderr);
    }
}

#[test]
fn a_coordinator_that_moves_is_asked_again() {
    let logins = Logins::new();
    logins.mock.create_topic("copy", 3);
    let moving = [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
    ];
    for error in moving {
        for command in [
            "lag billing --no-time",
            "tail logins --start committed --group billing -o value",
            "replicate logins --source local_kafka --to-topic copy --group billing --dry-run",
        ] {
            let asked = || Sdl::new(command).profile(&logins.profile()).run().expect(0);
            let first = asked();
            logins.mock.faults().request_errors(RDKafkaApiKey::OffsetFetch, &[error; 2]);
            let again = asked();
            assert_eq!(first.stdout, again.stdout, "{command} after {error:?}: {}", again.stderr);
        }
    }
}
