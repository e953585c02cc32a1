//! `sdl topics` on embedded brokers.

use serde_json::json;

use crate::harness::{Content, Finished, Mock, Sdl, Sender};

/// 2023-11-14T22:13:20Z, in milliseconds.
const TIME: i64 = 1_700_000_000_000;

/// A cluster with `logins`, which holds 30 records a second apart, and the empty `orders`.
struct TwoTopics {
    mock: Mock,
}

impl TwoTopics {
    fn new() -> Self {
        let mock = Mock::start(1);
        mock.create_topic("logins", 3);
        mock.create_topic("orders", 1);
        let content = |number: i32| Content {
            timestamp: Some(TIME + i64::from(number) * 1000),
            value: Some(b"v".to_vec()),
            ..Content::default()
        };
        let records: Vec<_> = (0..30).map(|number| (number % 3, content(number))).collect();
        Sender::new(&mock.cluster(), &[]).send("logins", &records);
        Self { mock }
    }

    fn profile(&self) -> String {
        format!("[local_kafka]\nservers = {}\n", self.mock.cluster().servers)
    }

    fn topics(&self, arguments: &str) -> Finished {
        Sdl::new(&format!("topics {arguments}")).profile(&self.profile()).run()
    }
}

fn stdout(finished: &Finished) -> String {
    String::from_utf8(finished.stdout.clone()).unwrap()
}

#[test]
fn topics_are_listed_with_their_records_and_the_time_of_the_last_one() {
    let cluster = TwoTopics::new();
    let finished = cluster.topics("").expect(0);
    let expected = "\
TOPIC   PARTITIONS  RECORDS  BYTES  LAST RECORD           GROUPS
logins           3       30      -  2023-11-14T22:13:49Z  -
orders           1        0      -  -                     -
";
    let unknown = "which groups read the topics of `local_kafka` is not known: embedded brokers do not list their groups\n";
    assert_eq!((stdout(&finished).as_str(), finished.stderr.as_str()), (expected, unknown));
    let rows = cluster.topics("-o json").expect(0).json();
    let expected = json!({
        "section": "local_kafka", "topic": "logins", "partitions": 3, "records": 30, "bytes": null,
        "last_record": "2023-11-14T22:13:49Z", "groups": null, "notes": [],
    });
    assert_eq!((&rows["schema"], &rows["topics"][0]), (&json!(1), &expected));
}

#[test]
fn a_pattern_matches_whole_names_and_an_empty_result_is_explained() {
    let cluster = TwoTopics::new();
    let csv = cluster.topics("log.* -o csv").expect(0);
    assert_eq!(
        stdout(&csv),
        "section,topic,partitions,records,bytes,last_record,groups,notes\r\n\
         local_kafka,logins,3,30,,2023-11-14T22:13:49Z,,\r\n"
    );
    for (arguments, expected) in [
        ("log*", "no topic on `local_kafka` matches `log*`; a pattern is a regular expression: did you mean `log.*`?\n"),
        ("zzz.*", "no topic on `local_kafka` matches `zzz.*`\n"),
        ("--exclude .*", "no topic on `local_kafka` is left by --exclude\n"),
    ] {
        let finished = cluster.topics(arguments).expect(0);
        assert_eq!((stdout(&finished).as_str(), finished.stderr.as_str()), ("", expected), "{arguments}");
    }
}

#[test]
fn a_topic_that_is_named_and_does_not_exist_is_an_error() {
    let cluster = TwoTopics::new();
    for (name, hint) in [
        ("login", "did you mean `logins`?"),
        ("ogi", "a pattern matches the whole name: `.*ogi.*` matches `logins`"),
        ("nosuch", "list the topics that are there: sdl topics"),
    ] {
        let finished = cluster.topics(name).expect(1);
        let expected = format!("error: topic `{name}` does not exist on `local_kafka`\nhint: {hint}\n");
        assert_eq!((stdout(&finished).as_str(), finished.stderr.as_str()), ("", expected.as_str()));
    }
}

#[test]
fn a_partition_without_a_leader_is_noted_and_the_others_are_counted() {
    let cluster = TwoTopics::new();
    cluster.mock.faults().partition_leader("logins", 0, None).unwrap();
    let finished = cluster.topics("logins -o json").expect(0);
    let row = &finished.json()["topics"][0];
    assert_eq!((&row["partitions"], &row["records"], &row["notes"]), (&json!(3), &json!(20), &json!(["no_leader"])));
}

#[test]
fn a_cluster_that_is_away_does_not_hide_the_others() {
    let cluster = TwoTopics::new();
    // No server listens on this address.
    let both = format!("{}\n[remote_kafka]\nservers = 127.0.0.213:9\n", cluster.profile());
    let finished = Sdl::new("topics orders").profile(&both).run().expect(1);
    assert!(stdout(&finished).contains("local_kafka  orders           1        0"), "{}", stdout(&finished));
    let expected = "error: cannot connect to `remote_kafka`\n  caused by: 127.0.0.213:9: connecting: connection refused\n\
                    hint: start the broker, or correct `servers` under [remote_kafka]\n";
    assert!(finished.stderr.ends_with(expected), "{}", finished.stderr);
    let one = Sdl::new("topics orders --source local_kafka").profile(&both).run().expect(0);
    assert!(stdout(&one).starts_with("TOPIC "), "one section needs no column: {}", stdout(&one));
}

#[test]
fn a_command_without_a_topic_lists_what_is_there() {
    let cluster = TwoTopics::new();
    let listed = "its topics are `logins`, `orders`\n";
    for command in ["tail", "replicate --source local_kafka", "sink-mongo --database d --collection c"] {
        let profile = format!("{}default_consumer_group_id = g\n[mongodb]\nhost = 127.0.0.213\n", cluster.profile());
        let refused = Sdl::new(command).profile(&profile).run().expect(2);
        let start =
            "error: no topic is named\nhint: name one on the command line, or set `default_consumer_topic` under [local_kafka]; ";
        assert!(refused.stderr.ends_with(&format!("{start}{listed}")), "{command}: {}", refused.stderr);
    }
}
