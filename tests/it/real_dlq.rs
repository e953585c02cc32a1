//! `sdl dlq` on real clusters.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{
    Clusters, Content, Dice, Finished, Numbered, Sdl, Sender, eventually, numbered, read_with_kcat, setting, unique,
};

/// The clusters, with names of topics that no other test has. Letters, sources and targets are on the local one.
struct Dlq {
    clusters: Clusters,
    logins: String,
    bad: String,
    fixed: String,
}

impl Dlq {
    fn new() -> Self {
        let dlq = Self { clusters: Clusters::shared(), logins: unique("logins"), bad: unique("bad"), fixed: unique("fixed") };
        dlq.clusters.target.create_topic(&dlq.logins, 4, &[]);
        dlq.clusters.target.create_topic(&dlq.fixed, 4, &[]);
        dlq
    }

    fn sdl(&self, arguments: &str) -> Sdl {
        Sdl::new(arguments).profile(&self.clusters.profile(&self.logins))
    }

    #[track_caller]
    fn run(&self, arguments: &str, code: i32) -> Finished {
        self.sdl(arguments).run().expect(code)
    }

    /// Writes letters without sdl.
    fn send_letters(&self, letters: &[Content]) {
        self.clusters.target.create_topic(&self.bad, 1, &[]);
        let letters: Vec<_> = letters.iter().map(|letter| (0, letter.clone())).collect();
        Sender::new(&self.clusters.target, &[]).send(&self.bad, &letters);
    }

    /// Returns the number of the records of each value in the topic of the fixed ones, as kcat reads them.
    fn arrived(&self) -> Vec<Content> {
        read_with_kcat(&self.clusters.target, &self.fixed).into_iter().map(|record| record.content).collect()
    }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_ten_thousand_letters_of_five_causes_are_counted_and_replayed_with_a_fix() {
    let dlq = Dlq::new();
    let value = |number: u64| match number % 5 {
        0 => format!("no json {number}"),
        1 => format!(r#"{{"n":{number},"b":1,"c":1,"d":0}}"#),
        2 => format!(r#"{{"n":{number},"a":1,"c":1,"d":0}}"#),
        3 => format!(r#"{{"n":{number},"a":1,"b":1,"c":"{number}","d":0}}"#),
        _ => format!(r#"{{"n":{number},"a":1,"b":1,"c":1,"d":"yesterday {number}"}}"#),
    };
    let records: Vec<(i32, Content)> = (0..10_000_u64)
        .map(|number| {
            let content = Content {
                timestamp: Some(1_700_000_000_000 + i64::try_from(number).unwrap()),
                key: Some(number.to_string().into_bytes()),
                value: Some(value(number).into_bytes()),
                headers: vec![("trace".to_owned(), Some(b"t".to_vec()))],
            };
            (i32::try_from(number % 4).unwrap(), content)
        })
        .collect();
    Sender::new(&dlq.clusters.target, &[]).send(&dlq.logins, &records);
    let Dlq { logins, bad, fixed, .. } = &dlq;
    dlq.run(
        &format!(
            "replicate {logins} --source local_kafka --to-topic {fixed}-strict --require a,b,c:int --date d \
             --dead-letters topic:local_kafka/{bad} --dead-letter-limit none --until-caught-up"
        ),
        3,
    );

    let stats = dlq.run(&format!("dlq stats {bad} -o json"), 0).json();
    let causes: BTreeMap<(String, Option<String>), u64> = stats["causes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let text = |name: &str| row[name].as_str().map(str::to_owned);
            ((text("code").unwrap(), text("path")), row["count"].as_u64().unwrap())
        })
        .collect();
    let cause = |code: &str, path: Option<&str>| ((code.to_owned(), path.map(str::to_owned)), 2000);
    let expected = [
        cause("not_json", None),
        cause("missing_field", Some("a")),
        cause("missing_field", Some("b")),
        cause("wrong_type", Some("c")),
        cause("not_a_date", Some("d")),
    ];
    assert_eq!(causes, expected.into(), "{stats}");
    assert_eq!(stats["causes"].as_array().unwrap().len(), 5, "{stats}");

    let replay = format!("dlq replay {bad} --to topic:local_kafka/{fixed} -o json");
    let first = dlq.run(&format!("{replay} --code missing_field --default a=1 --default b=1 --require a,b"), 0).json();
    assert_eq!((&first["delivered"], &first["filtered"]), (&json!(4000), &json!(6000)), "{first}");
    let rest = dlq.run(&format!("{replay} --code not_json --code wrong_type --code not_a_date"), 0).json();
    assert_eq!((&rest["delivered"], &rest["dead_lettered"]), (&json!(6000), &json!(0)), "{rest}");

    let arrived = dlq.arrived();
    let keys: HashSet<_> = arrived.iter().map(|content| content.key.clone()).collect();
    assert_eq!((arrived.len(), keys.len()), (10_000, 10_000));
    for content in &arrived {
        let number: u64 = String::from_utf8(content.key.clone().unwrap()).unwrap().parse().unwrap();
        let (_, sent) = &records[usize::try_from(number).unwrap()];
        assert_eq!(content.timestamp, sent.timestamp);
        assert_eq!(content.headers, [sent.headers[0].clone(), ("sdl.dlq.replays".to_owned(), Some(b"1".to_vec()))]);
        if matches!(number % 5, 1 | 2) {
            let fixed: Value = serde_json::from_slice(content.value.as_ref().unwrap()).unwrap();
            assert_eq!((&fixed["n"], &fixed["a"], &fixed["b"]), (&json!(number), &json!(1), &json!(1)));
        } else {
            assert_eq!(content.value, sent.value);
        }
    }
}

/// Returns letters of numbered records, as Kafka Connect writes them.
fn connect_letters(count: u64) -> (Vec<(i32, Content)>, Vec<Content>) {
    let records = numbered(0, 0, count, 4);
    let letter = |(offset, (partition, content)): (usize, &(i32, Content))| {
        let text = |name: &str, value: String| (name.to_owned(), Some(value.into_bytes()));
        let class = "org.apache.kafka.connect.errors.DataException";
        let message = "Converting byte[] to Kafka Connect data failed due to serialization error: ";
        let added = [
            text("__connect.errors.topic", "orders".to_owned()),
            text("__connect.errors.partition", partition.to_string()),
            text("__connect.errors.offset", (offset / 4).to_string()),
            text("__connect.errors.connector.name", "file_sink_01".to_owned()),
            text("__connect.errors.task.id", "0".to_owned()),
            text("__connect.errors.stage", "VALUE_CONVERTER".to_owned()),
            text("__connect.errors.class.name", "org.apache.kafka.connect.json.JsonConverter".to_owned()),
            text("__connect.errors.exception.class.name", class.to_owned()),
            text("__connect.errors.exception.message", message.to_owned()),
            text(
                "__connect.errors.exception.stacktrace",
                format!(
                    "{class}: {message}\n\tat org.apache.kafka.connect.json.JsonConverter.toConnectData(JsonConverter.java:324)\n"
                ),
            ),
        ];
        let headers = content.headers.iter().cloned().chain(added).collect();
        Content { headers, ..content.clone() }
    };
    let letters = records.iter().enumerate().map(letter).collect();
    (records, letters)
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_topic_that_is_missing_is_created_on_request_by_an_import_and_a_replay() {
    let dlq = Dlq::new();
    let (_, letters) = connect_letters(20);
    dlq.send_letters(&letters);
    let (imported, replayed) = (unique("imported"), unique("replayed"));
    let exported = dlq.run(&format!("dlq export {}", dlq.bad), 0).stdout;
    let import = |flags: &str, code: i32| {
        let sdl = dlq.sdl(&format!("dlq import letters {imported} {flags}"));
        std::fs::write(sdl.home().join("letters"), &exported).unwrap();
        sdl.run().expect(code)
    };
    let missing = import("", 1);
    assert!(missing.stderr.ends_with("hint: add --create 6:1, for 6 partitions with one replica each\n"), "{}", missing.stderr);
    let dry = import("--create 2:1 --dry-run", 0);
    assert!(dry.stderr.contains(&format!("{imported}: will be created with 2 partitions and 1 replica")), "{}", dry.stderr);
    import("", 1);
    import("--create 2:1", 0);
    assert_eq!((dlq.clusters.target.partitions(&imported), dlq.clusters.target.count(&imported)), (2, 20));

    let replay = format!("dlq replay {imported} --to topic:local_kafka/{replayed} --create 3:1");
    let dry = dlq.run(&format!("{replay} --dry-run"), 0);
    let line = format!("writes to topic {replayed} on local_kafka, which will be created with 3 partitions and 1 replica");
    assert!(dry.stderr.contains(&line) && !dry.stdout.is_empty(), "{}", dry.stderr);
    let refused = dlq.run(&replay.replace(" --create 3:1", " --dry-run"), 1);
    assert!(refused.stdout.is_empty(), "it is refused before it is shown");
    dlq.run(&replay, 0);
    assert_eq!((dlq.clusters.target.partitions(&replayed), dlq.clusters.target.count(&replayed)), (3, 20));
    let again = dlq.run(&format!("{replay} --start beginning"), 0);
    assert!(!again.stderr.contains("--create has no effect"), "it exists as asked: {}", again.stderr);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_letters_of_kafka_connect_are_listed_shown_and_replayed_as_they_were() {
    let dlq = Dlq::new();
    let (records, letters) = connect_letters(8);
    dlq.send_letters(&letters);
    let Dlq { bad, fixed, .. } = &dlq;
    let listed = dlq.run(&format!("dlq list {bad} --source local_kafka -o json"), 0).json();
    let row = &listed["topics"][0];
    assert_eq!((&row["letters"], &row["codes"]), (&json!(8), &json!({"DataException": 8})), "{listed}");
    assert_eq!((&row["written_by"], &row["from_topics"]), (&json!(["Kafka Connect"]), &json!(["orders"])));
    let shown = dlq.run(&format!("dlq show {bad} 0@5 -o json"), 0).json();
    let shown = &shown["letters"][0];
    assert_eq!((&shown["topic"], &shown["partition"], &shown["offset"]), (&json!("orders"), &json!(1), &json!(1)), "{shown}");
    assert_eq!((&shown["stage"], &shown["code"]), (&json!("VALUE_CONVERTER"), &json!("DataException")));
    dlq.run(&format!("dlq replay {bad} --to topic:local_kafka/{fixed}"), 0);
    let count = ("sdl.dlq.replays".to_owned(), Some(b"1".to_vec()));
    let mut expected: Vec<Content> = records
        .into_iter()
        .map(|(_, content)| Content { headers: content.headers.iter().cloned().chain([count.clone()]).collect(), ..content })
        .collect();
    let mut arrived = dlq.arrived();
    let by_time = |content: &Content| content.timestamp;
    expected.sort_by_key(by_time);
    arrived.sort_by_key(by_time);
    assert_eq!(arrived, expected);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_replay_that_is_killed_resumes_and_repeats_only_what_was_not_committed() {
    let dlq = Dlq::new();
    let (kills, count) = (setting("SDL_TEST_KILLS", 5), 10_000);
    let (_, letters) = connect_letters(count);
    dlq.send_letters(&letters);
    let group = unique("replay");
    let Dlq { bad, fixed, .. } = &dlq;
    let steady = format!(
        "dlq replay {bad} --to topic:local_kafka/{fixed} --group {group} --rate 4000 --batch 200 --in-flight 4 --instance-id one"
    );
    let target = &dlq.clusters.target;
    let (there, mut dice) = (target.counter(fixed), Dice::of_environment());
    let committed = || u64::try_from(target.committed(&group, bad)[0].unwrap_or(0)).unwrap();
    let mut repeats = 0;
    for kill in 1..=kills {
        let mut running = dlq.sdl(&steady).deadline(Duration::from_secs(120)).start();
        running.wait_for_count(target, fixed, kill * count / (kills + 1) + repeats);
        eventually("a first commit", Duration::from_secs(30), || (committed() > 0).then_some(()));
        running.kill_within(Duration::from_millis(50), &mut dice);
        drop(running);
        let settled = settled(&there);
        repeats += (settled - repeats).checked_sub(committed()).expect("nothing is committed that is not there");
    }
    dlq.run(&steady, 0);
    let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
    for content in dlq.arrived() {
        *seen.entry(Numbered::of(content.value.as_deref().unwrap()).unwrap().sequence).or_default() += 1;
    }
    assert_eq!(seen.len() as u64, count, "every letter is replayed");
    assert_eq!(seen.values().sum::<u64>() - count, repeats, "exactly what was there and not committed is repeated");
    // Records in flight, and those delivered since the last commit.
    assert!(repeats / kills < 800 + 4_000, "{repeats} in {kills} kills");
    assert_eq!(committed(), count);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_replay_of_the_last_hour_leaves_the_older_letters_to_a_replay_of_all() {
    let dlq = Dlq::new();
    let now = jiff::Timestamp::now().as_millisecond();
    let at = |number: i64| if number < 4 { now - 7_200_000 + number } else { now - 60_000 + number };
    let (_, letters) = connect_letters(8);
    let letters: Vec<Content> =
        (0..).zip(letters).map(|(number, letter)| Content { timestamp: Some(at(number)), ..letter }).collect();
    dlq.send_letters(&letters);
    let Dlq { bad, fixed, .. } = &dlq;
    let replay = format!("dlq replay {bad} --to topic:local_kafka/{fixed} -o json");
    assert_eq!(dlq.run(&format!("{replay} --start @-1h"), 0).json()["delivered"], 4);
    // Later, the hour begins elsewhere, and the group is the same.
    let again = dlq.run(&format!("{replay} --start @-1h"), 0);
    assert!(again.stderr.contains("nothing to replay: group "), "{}", again.stderr);
    assert_eq!(dlq.run(&format!("{replay} --stop @-1h"), 0).json()["delivered"], 4);
    assert_eq!(dlq.run(&replay, 0).json()["delivered"], 8, "nothing is left out for good");
    assert_eq!(dlq.arrived().len(), 16);
}

/// Returns how many records the target holds once nothing of a killed run arrives any more.
fn settled(count: &impl Fn() -> u64) -> u64 {
    let (mut before, mut since) = (None, Instant::now());
    eventually("the target settles", Duration::from_secs(60), || {
        std::thread::sleep(Duration::from_millis(50));
        let now = count();
        if before.replace(now) != Some(now) {
            since = Instant::now();
            return None;
        }
        (since.elapsed() > Duration::from_millis(500)).then_some(now)
    })
}
