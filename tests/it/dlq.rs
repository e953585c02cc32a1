//! `sdl dlq` on embedded brokers.

use serde_json::{Value, json};

use crate::harness::{Content, Finished, HttpStub, Mock, ReadRecord, Request, Sdl, Sender, created, read};

/// 2023-11-14T22:13:20Z, in milliseconds.
const TIME: i64 = 1_700_000_000_000;

type Header<'a> = (&'a str, &'a [u8]);

/// Returns a letter with these headers behind one of its own.
fn letter(number: i64, value: &str, headers: &[Header<'_>]) -> Content {
    let own: Header<'_> = ("trace", b"a");
    Content {
        timestamp: Some(TIME + number * 1000),
        key: Some(format!("k{number}").into_bytes()),
        value: Some(value.as_bytes().to_vec()),
        headers: [own].iter().chain(headers).map(|(name, value)| ((*name).to_owned(), Some(value.to_vec()))).collect(),
    }
}

/// Returns a letter as sdl writes it, of the record at `offset` of partition 1 of `logins`.
fn of_sdl(offset: i64, (code, path): (&str, Option<&str>), message: &str, value: &str, replays: u32) -> Content {
    let (offset_text, class, replays) = (offset.to_string(), format!("sdl.{code}"), replays.to_string());
    let mut headers: Vec<Header<'_>> = vec![
        ("__connect.errors.topic", b"logins"),
        ("__connect.errors.partition", b"1"),
        ("__connect.errors.offset", offset_text.as_bytes()),
        ("__connect.errors.stage", b"TASK_PUT"),
        ("__connect.errors.exception.class.name", class.as_bytes()),
        ("__connect.errors.exception.message", message.as_bytes()),
        ("sdl.dlq.run", b"run-1"),
        ("sdl.dlq.flow", b"sink-es elasticsearch/logins"),
        ("sdl.dlq.attempts", b"1"),
        ("sdl.dlq.code", code.as_bytes()),
    ];
    headers.extend(path.map(|path| ("sdl.dlq.path", path.as_bytes())));
    headers.push(("sdl.dlq.replays", replays.as_bytes()));
    letter(offset, value, &headers)
}

fn of_connect(number: i64) -> Content {
    letter(
        number,
        "this is not json",
        &[
            ("__connect.errors.topic", b"shop-orders"),
            ("__connect.errors.partition", b"1"),
            ("__connect.errors.offset", number.to_string().as_bytes()),
            ("__connect.errors.connector.name", b"file_sink_01"),
            ("__connect.errors.task.id", b"0"),
            ("__connect.errors.stage", b"VALUE_CONVERTER"),
            ("__connect.errors.class.name", b"org.apache.kafka.connect.json.JsonConverter"),
            ("__connect.errors.exception.class.name", b"org.apache.kafka.connect.errors.DataException"),
            (
                "__connect.errors.exception.message",
                b"Converting byte[] to Kafka Connect data failed due to serialization error: ",
            ),
        ],
    )
}

/// A cluster with `logins` of two partitions, and a topic of their letters.
struct Letters {
    mock: Mock,
    extra: String,
}

impl Letters {
    fn of(letters: &[Content]) -> Self {
        let mock = Mock::start(1);
        mock.create_topic("logins", 2);
        mock.create_topic("bad", 1);
        let letters: Vec<_> = letters.iter().map(|letter| (0, letter.clone())).collect();
        Sender::new(&mock.cluster(), &[]).send("bad", &letters);
        Self { mock, extra: String::new() }
    }

    fn sdl(&self, arguments: &str) -> Sdl {
        let profile = format!("[local_kafka]\nservers = {}\n{}", self.mock.cluster().servers, self.extra);
        Sdl::new(&format!("dlq {arguments}")).profile(&profile)
    }

    #[track_caller]
    fn run(&self, arguments: &str, code: i32) -> Finished {
        self.sdl(arguments).run().expect(code)
    }

    /// Expects this on standard error, nothing on standard output, and this exit code.
    #[track_caller]
    fn fails(&self, arguments: &str, code: i32, stderr: &str) {
        let finished = self.run(arguments, code);
        assert_eq!((stdout(&finished).as_str(), finished.stderr.as_str()), ("", stderr), "{arguments}");
    }

    fn read(&self, topic: &str) -> Vec<ReadRecord> {
        read(&self.mock.cluster(), topic)
    }
}

fn stdout(finished: &Finished) -> String {
    String::from_utf8(finished.stdout.clone()).unwrap()
}

fn header(record: &ReadRecord, name: &str) -> Option<String> {
    let found = record.content.headers.iter().rev().find(|(known, _)| known == name)?;
    Some(String::from_utf8(found.1.clone()?).unwrap())
}

fn text(value: &ReadRecord) -> &str {
    std::str::from_utf8(value.content.value.as_deref().unwrap()).unwrap()
}

/// Embedded brokers let a member join again when the session of the one before has ended.
const SHORT_SESSION: &str = "kafka.session.timeout.ms = 6000\n";

const MISSING: (&str, Option<&str>) = ("missing_field", Some("device_type"));

#[test]
fn statistics_name_each_cause_with_its_path_and_an_example() {
    let letters = Letters::of(&[
        of_sdl(7, MISSING, "`device_type` is missing", "{}", 0),
        of_sdl(8, ("not_json", None), "not JSON: expected value at line 1 column 22", "x", 0),
        of_sdl(9, ("not_json", None), "not JSON: expected value at line 1 column 4", "x", 0),
    ]);
    let table = "\
COUNT  CODE           PATH         CAUSE                                             FIRST                 LAST                  EXAMPLE
    2  not_json       -            not JSON: expected value at line <n> column <n>  2023-11-14T22:13:28Z  2023-11-14T22:13:29Z  bad/0@2
    1  missing_field  device_type  `device_type` is missing                          2023-11-14T22:13:27Z  2023-11-14T22:13:27Z  bad/0@0
";
    let shown = letters.run("stats bad", 0);
    let squeeze = |text: &str| text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
    assert_eq!((squeeze(&stdout(&shown)), shown.stderr.as_str()), (squeeze(table), ""));
    let rows = letters.run("stats topic:local_kafka/bad --code not_json -o json", 0).json();
    let row = json!({
        "count": 2, "code": "not_json", "path": null, "cause": "not JSON: expected value at line <n> column <n>",
        "first": "2023-11-14T22:13:28Z", "last": "2023-11-14T22:13:29Z", "example": "bad/0@2",
        "message": "not JSON: expected value at line 1 column 4",
    });
    assert_eq!((&rows["schema"], &rows["causes"]), (&json!(1), &json!([row])));
    let by_cause = letters.sdl("stats bad -o csv --cause").arg("not JSON: expected value at line <n> column <n>").run().expect(0);
    assert!(stdout(&by_cause).contains("\r\n2,not_json,"), "{}", stdout(&by_cause));
    assert_eq!(
        letters.run("stats bad --path nowhere", 0).stderr,
        "none of 3 dead letters has path `nowhere`; their codes: missing_field, not_json\n"
    );
}

#[test]
fn topics_with_letters_are_listed_with_their_codes() {
    let letters = Letters::of(&[of_sdl(7, MISSING, "m", "{}", 0), of_sdl(8, MISSING, "m", "{}", 0), of_connect(9)]);
    let plain = Content { value: Some(b"{}".to_vec()), ..Content::default() };
    Sender::new(&letters.mock.cluster(), &[]).send("logins", &[(0, plain)]);
    let listed = letters.run("list -o json", 0).json();
    let row = json!({
        "section": "local_kafka", "topic": "bad", "letters": 3, "codes": {"missing_field": 2, "DataException": 1},
        "from_topics": ["logins", "shop-orders"], "written_by": ["sdl", "Kafka Connect"],
        "first": "2023-11-14T22:13:27Z", "last": "2023-11-14T22:13:29Z",
    });
    assert_eq!(listed["topics"], json!([row]));
    let table = stdout(&letters.run("list", 0));
    assert!(
        table.contains("bad          3  missing_field 2, DataException 1  logins, shop-orders  sdl, Kafka Connect"),
        "{table}"
    );
    letters.fails("list log.*", 0, "no topic on `local_kafka` holds dead letters\n");
}

#[test]
fn a_letter_is_shown_with_its_cause_and_its_record() {
    let letters = Letters::of(&[of_sdl(7, MISSING, "`device_type` is missing", r#"{"a":1}"#, 2), of_connect(9)]);
    let expected = "\
letter    bad/0@0, written by sdl
code      missing_field
cause     `device_type` is missing
path      device_type
stage     TASK_PUT
attempts  1
flow      sink-es elasticsearch/logins
run       run-1
replays   2
record    logins/1@7  2023-11-14 22:13:27.000  key k7
  trace: a
  {\"a\": 1}
";
    for place in ["0", "0@0", "bad/0@0"] {
        let shown = letters.sdl(&format!("show bad {place}")).env("TZ", "UTC").run().expect(0);
        assert_eq!((stdout(&shown).as_str(), shown.stderr.as_str()), (expected, ""), "{place}");
    }
    let newest = letters.run("show bad -o json", 0).json();
    let newest = &newest["letters"][0];
    assert_eq!((&newest["letter"], &newest["code"]), (&json!("bad/0@1"), &json!("DataException")));
    assert_eq!((&newest["topic"], &newest["partition"], &newest["offset"]), (&json!("shop-orders"), &json!(1), &json!(9)));
    assert_eq!((&newest["value"], &newest["written_by"]), (&json!("this is not json"), &json!("Kafka Connect")));
    letters.fails(
        "show bad 0@5",
        1,
        "error: there is no dead letter at 0@5, or it is not selected\nhint: `sdl dlq stats` names a letter of each cause\n",
    );
}

#[test]
fn a_topic_without_headers_of_letters_is_refused_with_a_hint() {
    let letters = Letters::of(&[Content { value: Some(b"{}".to_vec()), ..Content::default() }]);
    for command in ["stats bad", "show bad", "export bad", "replay bad --to topic:logins"] {
        let refused = letters.run(command, 5);
        assert!(
            refused.stderr.starts_with(
                "error: topic `bad` of `local_kafka` holds no dead letters\n  1 record without the headers of a dead letter\nhint: sdl knows"
            ),
            "{command}: {}",
            refused.stderr
        );
    }
    letters.fails("stats logins", 0, "there are no dead letters\n");
    let missing = letters.run("stats bda", 1);
    assert!(missing.stderr.contains("topic `bda` does not exist on `local_kafka`"), "{}", missing.stderr);
}

#[test]
fn exported_letters_are_a_file_of_letters_and_are_imported_as_they_were() {
    let sent = [of_sdl(7, MISSING, "`device_type` is missing", "{}", 0), of_connect(9)];
    let letters = Letters::of(&sent);
    letters.mock.create_topic("again", 1);
    let exported = stdout(&letters.run("export bad", 0));
    let first: Value = serde_json::from_str(exported.lines().next().unwrap()).unwrap();
    assert_eq!((&first["topic"], &first["partition"], &first["offset"]), (&json!("logins"), &json!(1), &json!(7)));
    let with_file = |arguments: &str, text: &str| {
        let sdl = letters.sdl(arguments);
        std::fs::write(sdl.home().join("letters.ndjson"), text).unwrap();
        sdl.run()
    };
    let stats = with_file("stats file:letters.ndjson -o json", &exported).expect(0).json();
    assert_eq!((&stats["causes"][0]["count"], stats["causes"].as_array().unwrap().len()), (&json!(1), 2));
    assert_eq!(
        with_file("show file:letters.ndjson 2 -o json", &exported).expect(0).json()["letters"][0]["code"],
        "DataException"
    );
    with_file("import letters.ndjson again", &exported).expect(0);
    let imported: Vec<Content> = letters.read("again").into_iter().map(|record| record.content).collect();
    assert_eq!(imported, sent);
    let missing = with_file("import letters.ndjson nowhere", &exported).expect(1);
    let hint = "error: topic `nowhere` does not exist on `local_kafka`\nhint: add --create 6:1, for 6 partitions with one replica each\n";
    assert!(missing.stderr.ends_with(hint), "{}", missing.stderr);
    let refused = with_file("import letters.ndjson again", "{\"a\": 1}\n").expect(3);
    assert!(refused.stderr.contains("the line is not a dead letter"), "{}", refused.stderr);
    let usage = with_file("replay file:letters.ndjson --to topic:logins", &exported).expect(2);
    assert!(usage.stderr.contains("hint: import it into a topic first: sdl dlq import FILE TOPIC\n"), "{}", usage.stderr);
}

#[test]
fn a_replay_delivers_the_fixed_original_once() {
    let letters = Letters::of(&[
        of_sdl(7, MISSING, "`device_type` is missing", r#"{"a":1}"#, 0),
        of_connect(9),
        of_sdl(8, MISSING, "`device_type` is missing", r#"{"a":2}"#, 1),
    ]);
    let replay = "replay bad --code missing_field --default device_type=unknown --to topic:local_kafka/logins -o json";
    let refused = letters.run(replay, 5);
    assert!(
        refused.stderr.ends_with(
            "error: this requires confirmation, and there is no terminal\n  this would send 2 records back to topic `logins`, \
             which they come from\nhint: confirm with --yes\n"
        ),
        "{}",
        refused.stderr
    );
    assert!(!refused.stderr.contains("Replaying"), "what is refused is not said to happen: {}", refused.stderr);
    let summary = letters.run(&format!("{replay} --yes"), 0).json();
    assert_eq!((&summary["command"], &summary["delivered"], &summary["filtered"]), (&json!("dlq replay"), &json!(2), &json!(1)));
    let arrived = letters.read("logins");
    let expected = |number: i64, value: &str, replays: &str| letter(number, value, &[("sdl.dlq.replays", replays.as_bytes())]);
    let contents: Vec<Content> = arrived.iter().map(|record| record.content.clone()).collect();
    assert_eq!(
        contents,
        [expected(7, r#"{"a":1,"device_type":"unknown"}"#, "1"), expected(8, r#"{"a":2,"device_type":"unknown"}"#, "2")]
    );
    assert!(arrived.iter().all(|record| record.partition == 1), "its own partition");
    let again = letters.run(&format!("{replay} --yes"), 0);
    assert!(again.stderr.contains("nothing to replay: group `sdl-dlq-bad-to-topic:local_kafka/logins-"), "{}", again.stderr);
    // Another selection has a group of its own: the letters that the first one left out are there.
    let other = letters.run("replay bad --code DataException --to topic:logins -o json", 0).json();
    assert_eq!(other["delivered"], 1);
}

#[test]
fn of_a_record_that_failed_again_only_the_newest_letter_is_replayed() {
    let letters = Letters::of(&[
        of_sdl(7, MISSING, "`device_type` is missing", r#"{"a":1}"#, 0),
        of_sdl(8, MISSING, "`device_type` is missing", r#"{"a":2}"#, 0),
        of_sdl(9, MISSING, "`device_type` is missing", r#"{"a":3,"device_type":"iOS"}"#, 0),
    ]);
    letters.mock.create_topic("fixed", 1);
    letters.run("replay bad --require device_type --to topic:fixed", 3);
    assert_eq!((letters.read("fixed").len(), letters.read("bad").len()), (1, 5));
    let earlier = "2 are earlier letters of the same records";
    assert_eq!(letters.run("stats bad", 0).stderr, format!("5 dead letters of 3 records: {earlier}\n"));
    let replay = "replay bad --to topic:local_kafka/logins -o json";
    let refused = letters.run(replay, 5);
    let what = format!(
        "this would send 3 records of 5 dead letters ({earlier}) back to topic `logins`, which they come from\nhint: confirm"
    );
    assert!(refused.stderr.contains(&what), "{}", refused.stderr);
    let done = letters.run(&format!("{replay} --yes"), 0);
    let line = format!("Replaying 3 records of 5 dead letters of bad ({earlier}) to topic:local_kafka/logins");
    assert!(done.stderr.contains(&line), "{}", done.stderr);
    let line = "2 letters were left out: later letters of the same records take their place";
    assert!(done.stderr.contains(line), "{}", done.stderr);
    let summary = done.json();
    assert_eq!((&summary["delivered"], &summary["filtered"]), (&json!(3), &json!(2)));
    let mut arrived: Vec<_> = letters.read("logins").iter().map(|record| header(record, "sdl.dlq.replays").unwrap()).collect();
    arrived.sort();
    assert_eq!(arrived, ["1", "2", "2"]);
}

#[test]
fn a_dry_run_shows_causes_and_letters_before_and_after_and_changes_nothing() {
    let letters = Letters::of(&[
        of_sdl(7, MISSING, "`device_type` is missing", r#"{"a":1}"#, 0),
        of_sdl(8, ("not_json", None), "not JSON", "x", 0),
    ]);
    let dry = letters.run("replay bad --default device_type=unknown --to topic:logins --dry-run", 0);
    let shown = stdout(&dry);
    let first = "\nbad/0@0: logins/1@7\n  before  {\"a\":1}\n  after   {\"a\":1,\"device_type\":\"unknown\"}\n";
    assert!(shown.starts_with("COUNT  CODE") && shown.contains(first), "{shown}");
    assert!(shown.contains("\nbad/0@1: logins/1@8\n  before  x\n  after   (bad: "), "{shown}");
    assert!(dry.stderr.ends_with("dry run: nothing was changed\n"), "{}", dry.stderr);
    assert!(dry.stderr.contains("INFO Would replay 2 dead letters of bad to topic:local_kafka/logins\n"), "{}", dry.stderr);
    assert!(letters.read("logins").is_empty());
}

#[test]
fn what_fails_again_is_a_letter_again_and_is_quarantined_at_last() {
    let letters = Letters::of(&[of_sdl(7, MISSING, "`device_type` is missing", r#"{"a":1}"#, 0)]);
    letters.mock.create_topic("bad-quarantine", 1);
    letters.mock.create_topic("fixed", 1);
    let replay = "replay bad --require device_type --max-replays 2 --to topic:fixed";
    let failed = letters.run(replay, 3);
    let hint = "see the causes: sdl dlq stats topic:local_kafka/bad\n";
    assert!(failed.stderr.ends_with(hint), "{}", failed.stderr);
    assert!(
        failed.stderr.contains("  dead-lettered              1  (sdl dlq stats topic:local_kafka/bad)\n"),
        "{}",
        failed.stderr
    );
    let again = &letters.read("bad")[1];
    assert_eq!(header(again, "sdl.dlq.replays").as_deref(), Some("1"));
    assert_eq!(header(again, "__connect.errors.topic").as_deref(), Some("logins"), "not that of the letter");
    assert_eq!(header(again, "__connect.errors.offset").as_deref(), Some("7"));
    let shown = letters.run("show bad 0@1 -o json", 0).json();
    assert_eq!(shown["letters"][0]["earlier_codes"], json!(["missing_field"]));
    let last = letters.run(replay, 3);
    let hint = "see the causes: sdl dlq stats topic:local_kafka/bad-quarantine\n";
    assert!(last.stderr.ends_with(hint), "{}", last.stderr);
    assert!(last.stderr.contains("  (sdl dlq stats topic:local_kafka/bad-quarantine)\n"), "{}", last.stderr);
    assert_eq!(letters.read("bad").len(), 2, "replayed twice, it is not replayed any more");
    let quarantined = letters.read("bad-quarantine");
    assert_eq!(quarantined.len(), 1);
    assert_eq!(header(&quarantined[0], "sdl.dlq.replays").as_deref(), Some("2"));
    assert!(letters.read("fixed").is_empty());
    // A letter that comes back through its own topic as often is found too.
    let letters = Letters::of(&[of_sdl(7, MISSING, "`device_type` is missing", r#"{"a":1}"#, 3)]);
    letters.mock.create_topic("bad-quarantine", 1);
    letters.run("replay bad --to topic:logins --yes", 3);
    let quarantined = letters.read("bad-quarantine");
    assert_eq!((quarantined.len(), letters.read("logins").len()), (1, 0));
    assert_eq!(header(&quarantined[0], "sdl.dlq.code").as_deref(), Some("missing_field"), "with the cause that it had");
}

#[test]
fn letters_of_a_quarantine_are_not_quarantined_again() {
    let mut letters = Letters::of(&[of_sdl(7, MISSING, "`device_type` is missing", r#"{"a":1}"#, 4)]);
    letters.extra = SHORT_SESSION.to_owned();
    for topic in ["bad-quarantine", "fixed"] {
        letters.mock.create_topic(topic, 1);
    }
    letters.run("replay bad --to topic:fixed", 3);
    assert_eq!(letters.read("bad-quarantine").len(), 1);
    for arguments in ["--dry-run", ""] {
        letters.fails(
            &format!("replay bad-quarantine --to topic:fixed {arguments}"),
            5,
            "error: letters of a quarantine are not quarantined again\n  1 letter was replayed 3 times or more\n\
             hint: allow them one more replay with --max-replays 5\n",
        );
    }
    // One that fails again stays there, counted once more.
    let failed = letters.run("replay bad-quarantine --to topic:fixed --max-replays 5 --require device_type", 3);
    assert!(failed.stderr.contains("  (sdl dlq stats topic:local_kafka/bad-quarantine)\n"), "{}", failed.stderr);
    let quarantined = letters.read("bad-quarantine");
    assert_eq!((quarantined.len(), header(&quarantined[1], "sdl.dlq.replays").as_deref()), (2, Some("5")));
    letters.run("replay bad-quarantine --to topic:fixed --max-replays 6", 0);
    assert_eq!(letters.read("fixed").len(), 1);
}

#[test]
fn a_replay_of_some_letters_leaves_the_others_to_a_replay_of_all() {
    let of = |offset: i64| of_sdl(offset, MISSING, "`device_type` is missing", r#"{"a":1}"#, 0);
    let mut letters = Letters::of(&[of(0), of(1), of(2), of(3)]);
    letters.extra = SHORT_SESSION.to_owned();
    letters.mock.create_topic("fixed", 1);
    let delivered = |arguments: &str| letters.run(&format!("replay bad --to topic:fixed -o json {arguments}"), 0);
    assert_eq!(delivered("--start 2").json()["delivered"], 2);
    let again = delivered("--start 2");
    assert!(again.stderr.contains("nothing to replay: group `sdl-dlq-bad-to-topic:local_kafka/fixed-"), "{}", again.stderr);
    assert!(again.stderr.ends_with("` has read every dead letter\n"), "{}", again.stderr);
    assert_eq!(delivered("--stop 1 -n 1").json()["delivered"], 1);
    assert_eq!(delivered("").json()["delivered"], 4, "nothing was left out for good");
    assert_eq!(letters.read("fixed").len(), 7);
}

#[test]
fn a_replay_of_some_letters_goes_on_where_it_was() {
    let of = |offset: i64| of_sdl(offset, MISSING, "`device_type` is missing", r#"{"a":1}"#, 0);
    let mut letters = Letters::of(&[of(0), of(1), of(2), of(3)]);
    letters.extra = SHORT_SESSION.to_owned();
    letters.mock.create_topic("fixed", 1);
    let replay = "replay bad --to topic:fixed --start 1 -n 1 -o json";
    for number in 1..=3 {
        assert_eq!(letters.run(replay, 0).json()["delivered"], 1, "{number}");
    }
    assert!(letters.run(replay, 0).stderr.contains("has read every dead letter"));
    let arrived: Vec<i64> =
        letters.read("fixed").iter().map(|record| (record.content.timestamp.unwrap() - TIME) / 1000).collect();
    assert_eq!(arrived, [1, 2, 3]);
}

#[test]
fn a_replay_without_letters_says_why() {
    let letters = Letters::of(&[of_sdl(7, MISSING, "`device_type` is missing", "{}", 0)]);
    for topic in ["fixed", "empty"] {
        letters.mock.create_topic(topic, 1);
    }
    letters.fails(
        "replay bad --to topic:fixed --code nope",
        0,
        "the only dead letter does not have code `nope`; its code: missing_field\n",
    );
    letters.fails(
        "replay bad --to topic:fixed --start end",
        0,
        "nothing to replay: no dead letter is between --start and --stop\n",
    );
    letters.fails("replay empty --to topic:fixed", 0, "there are no dead letters\n");
    letters.run("replay bad --to topic:fixed", 0);
    letters.fails(
        "replay bad --to topic:fixed",
        0,
        "nothing to replay: group `sdl-dlq-bad-to-topic:local_kafka/fixed` has read every dead letter\n",
    );
}

#[test]
fn letters_of_a_sink_go_back_into_it_with_their_original_coordinates() {
    let stub = HttpStub::search(created);
    let mut letters = Letters::of(&[of_sdl(7, MISSING, "m", r#"{"a":1}"#, 0), of_sdl(8, MISSING, "m", r#"{"a":2}"#, 0)]);
    letters.extra = format!("[elasticsearch]\nurl = {}\n", stub.url());
    letters.run("replay bad --default device_type=unknown", 0);
    assert_eq!(stub.bulks(), [["logins:1:7", "logins:1:8"]]);
    let bulk = stub.requests().into_iter().find(Request::is_bulk).unwrap();
    let (_, _, document) = &bulk.actions()[0];
    let document = document.as_ref().unwrap();
    let fields = ["_kafka_topic", "_kafka_partition", "_kafka_offset", "_kafka_timestamp", "device_type"];
    assert_eq!(
        fields.map(|field| document[field].clone()),
        [json!("logins"), json!(1), json!(7), json!(TIME + 7000), json!("unknown")]
    );
}

#[test]
fn letters_that_name_no_sink_need_a_destination() {
    let letters = Letters::of(&[of_connect(9)]);
    letters.fails(
        "replay bad",
        5,
        "error: the dead letters do not name one sink as their destination\n\
         hint: name it with --to topic:SECTION/NAME, --to mongo or --to es\n",
    );
    let own = letters.run("replay bad --to topic:bad", 2);
    let error = "error: dead letters cannot be replayed into their own topic `bad`\nhint: name another topic with --to\n";
    assert!(own.stderr.ends_with(error), "{}", own.stderr);
    let missing = letters.run("replay bad --to topic:nowhere", 1);
    assert!(missing.stderr.contains("error: topic `nowhere` does not exist on `local_kafka`"), "{}", missing.stderr);
    assert!(!missing.stderr.contains("eplay"), "what is refused is not said to happen: {}", missing.stderr);
    let dry = letters.run("replay bad --to topic:nowhere --dry-run", 1);
    assert_eq!(stdout(&dry), "", "it is refused before it is shown");
    assert!(dry.stderr.ends_with("hint: add --create 6:1, for 6 partitions with one replica each\n"), "{}", dry.stderr);
    letters.fails(
        "replay bad --to es --create 1:1",
        2,
        "error: --create is for a topic, and --to does not name one\nhint: add --to topic:SECTION/NAME, or omit --create\n",
    );
    let there = letters.run("replay bad --to topic:logins --create 7:1", 0);
    assert!(there.stderr.contains("logins: exists with 2 partitions; --create has no effect"), "{}", there.stderr);
}

#[test]
fn binary_coordinates_of_spring_lead_back_to_the_partition() {
    let letters = Letters::of(&[letter(
        7,
        "{}",
        &[
            ("kafka_dlt-original-topic", b"logins"),
            ("kafka_dlt-original-partition", &1_i32.to_be_bytes()),
            ("kafka_dlt-original-offset", &42_i64.to_be_bytes()),
            ("kafka_dlt-original-timestamp", &(TIME + 1).to_be_bytes()),
            ("kafka_dlt-original-timestamp-type", b"CreateTime"),
            ("kafka_dlt-exception-fqcn", b"org.springframework.kafka.listener.ListenerExecutionFailedException"),
            ("kafka_dlt-exception-cause-fqcn", b"java.lang.IllegalStateException"),
            ("kafka_dlt-exception-message", b"no such user 4711"),
        ],
    )]);
    let shown = letters.run("show bad -o json", 0).json();
    assert_eq!((&shown["letters"][0]["offset"], &shown["letters"][0]["code"]), (&json!(42), &json!("IllegalStateException")));
    letters.run("replay bad --to topic:logins --yes", 0);
    let arrived = letters.read("logins");
    assert_eq!((arrived[0].partition, arrived[0].content.timestamp), (1, Some(TIME + 1)));
    assert_eq!(text(&arrived[0]), "{}");
}
