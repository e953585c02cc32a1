//! `sdl tail` on an embedded cluster: formats, filters, following, and terminal output.

use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

use crate::harness::{Content, Finished, Mock, Sdl, Sender, Terminal};

mod refusals;

/// 2023-09-12T00:45:51Z, in milliseconds.
const TIME: i64 = 1_694_479_551_000;

/// A record: partition, key, value.
type Row<'a> = (i32, Option<&'a str>, Option<&'a [u8]>);

/// A cluster with records in the topic `logins`.
struct Topic {
    mock: Mock,
}

impl Topic {
    /// Returns a topic with this many partitions and these records.
    fn with(partitions: i32, records: &[Row<'_>]) -> Self {
        let contents = (0..).zip(records).map(|(at, (partition, key, value))| {
            let (key, value) = (key.map(|key| key.as_bytes().to_vec()), value.map(<[u8]>::to_vec));
            (*partition, Content { timestamp: Some(TIME + 1000 * at), key, value, headers: Vec::new() })
        });
        Self::holding(partitions, &contents.collect::<Vec<_>>())
    }

    fn holding(partitions: i32, records: &[(i32, Content)]) -> Self {
        let mock = Mock::start(1);
        mock.create_topic("logins", partitions);
        Sender::new(&mock.cluster(), &[]).send("logins", records);
        Self { mock }
    }

    fn sdl(&self, arguments: &str) -> Sdl {
        let profile = format!("[local_kafka]\nservers = {}\n", self.mock.cluster().servers);
        Sdl::new(&format!("tail {arguments}")).profile(&profile).env("TZ", "UTC")
    }

    #[track_caller]
    fn tail(&self, arguments: &str) -> Finished {
        self.sdl(arguments).run().expect(0)
    }

    /// Expects this on standard output, and nothing on standard error.
    #[track_caller]
    fn shows(&self, arguments: &str, stdout: &str) {
        let ended = self.tail(arguments);
        assert_eq!((String::from_utf8_lossy(&ended.stdout).as_ref(), ended.stderr.as_str()), (stdout, ""), "{arguments}");
    }

    /// Expects this on standard error, nothing on standard output, and this exit code.
    #[track_caller]
    fn fails(&self, arguments: &str, stderr: &str, code: i32) {
        let ended = self.sdl(arguments).run().expect(code);
        assert_eq!((ended.stderr.as_str(), ended.stdout.len()), (stderr, 0), "{arguments}");
    }
}

fn logins() -> Topic {
    Topic::with(
        2,
        &[
            (0, Some("a"), Some(br#"{"user": {"id": 1}, "device_type": "iOS", "tags": ["x", "y"]}"#)),
            (1, Some("b"), Some(br#"{"user": {"id": 22}, "device_type": "android, old"}"#)),
            (0, None, Some(b"no \"json\"")),
            (1, Some("a"), None),
            (0, Some(""), Some(br#"{"user": {"id": 3}, "device_type": "iOS"}"#)),
        ],
    )
}

#[test]
fn a_pipe_gets_the_last_records_by_time() {
    let many: Vec<_> = (0..25).map(|at| (at % 3, None, Some(format!("{at}")))).collect();
    let many: Vec<_> = many.iter().map(|(at, key, value)| (*at, *key, value.as_ref().map(String::as_bytes))).collect();
    let topic = Topic::with(3, &many);
    let values = |range: std::ops::Range<i32>| range.map(|value| value.to_string() + "\n").collect::<String>();
    topic.shows("logins -o value", &values(15..25));
    topic.shows("logins -o value -n 3", &values(22..25));
    topic.shows("logins -o value -n 100", &values(0..25));
    topic.shows("logins -o value -n 0", "");
    topic.shows("logins -o value -n 2 --partitions 1", "19\n22\n");
    topic.shows("logins -o value --partitions 2 --start -2", "20\n23\n");
    topic.shows("logins -o value --partitions 2 --start 1 --stop -6", "5\n");
    topic.shows("-o value --topics-matching log.* --exclude other -n 1", "24\n");
    let unasked = topic.tail("logins").stdout;
    assert_eq!(String::from_utf8_lossy(&unasked).lines().count(), 10);
    assert!(unasked == topic.tail("logins -o ndjson").stdout, "JSON lines, unless another form is asked for");
}

#[test]
fn each_output_format_shows_the_records() {
    let topic = logins();
    topic.shows(
        "logins -o ndjson -n 2",
        "{\"topic\":\"logins\",\"partition\":1,\"offset\":1,\"tstype\":\"create\",\"ts\":1694479554000,\"key\":\"a\",\"payload\":null}\n\
         {\"topic\":\"logins\",\"partition\":0,\"offset\":2,\"tstype\":\"create\",\"ts\":1694479555000,\"key\":\"\",\"payload\":\"{\\\"user\\\": {\\\"id\\\": 3}, \\\"device_type\\\": \\\"iOS\\\"}\"}\n",
    );
    topic.shows(
        "logins -n 3 -f %t/%p@%o:%k:%K:%S:%T:%%\\n",
        "logins/0@1::-1:9:1694479553000:%\nlogins/1@1:a:1:-1:1694479554000:%\nlogins/0@2::0:41:1694479555000:%\n",
    );
    topic.shows("logins -n 2 --base64", "\neyJ1c2VyIjogeyJpZCI6IDN9LCAiZGV2aWNlX3R5cGUiOiAiaU9TIn0=\n");
    topic.shows("logins -n 2 --base64 -f %k,", "YQ==,,");
    topic.shows(
        "logins --keep user.id,device_type,tags --grep [ai]",
        "\
PARTITION  OFFSET  TIME                     USER.ID  DEVICE TYPE   TAGS
logins/0        0  2023-09-12 00:45:51.000  1        iOS           [\"x\", \"y\"]
logins/1        0  2023-09-12 00:45:52.000  22       android, old  -
logins/1        1  2023-09-12 00:45:54.000  -        -             -
logins/0        2  2023-09-12 00:45:55.000  3        iOS           -
",
    );
    topic.shows(
        "logins -o csv --keep user.id,device_type --grep [ai]",
        "topic,partition,offset,timestamp,user.id,device_type\r\n\
         logins,0,0,2023-09-12T00:45:51.000Z,1,iOS\r\n\
         logins,1,0,2023-09-12T00:45:52.000Z,22,\"android, old\"\r\n\
         logins,1,1,2023-09-12T00:45:54.000Z,,\r\n\
         logins,0,2,2023-09-12T00:45:55.000Z,3,iOS\r\n",
    );
    topic.shows(
        "logins -o csv -n 3",
        "topic,partition,offset,timestamp,key,value\r\n\
         logins,0,1,2023-09-12T00:45:53.000Z,,\"no \"\"json\"\"\"\r\n\
         logins,1,1,2023-09-12T00:45:54.000Z,a,\r\n\
         logins,0,2,2023-09-12T00:45:55.000Z,,\"{\"\"user\"\": {\"\"id\"\": 3}, \"\"device_type\"\": \"\"iOS\"\"}\"\r\n",
    );
    topic.shows(
        "logins -o pretty -n 4",
        "\
logins/1@0  2023-09-12 00:45:52.000  key b
  {\"user\": {\"id\": 22}, \"device_type\": \"android, old\"}
logins/0@1  2023-09-12 00:45:53.000
  no \"json\"
logins/1@1  2023-09-12 00:45:54.000  key a
  (null)
logins/0@2  2023-09-12 00:45:55.000  key (empty)
  {\"user\": {\"id\": 3}, \"device_type\": \"iOS\"}
",
    );
    topic.shows(
        "logins --hex -n 2",
        "\
logins/1@1  2023-09-12 00:45:54.000
  key: 1 byte
  00000000  61                                                |a|
  value: null
logins/0@2  2023-09-12 00:45:55.000
  key: 0 bytes
  value: 41 bytes
  00000000  7b 22 75 73 65 72 22 3a  20 7b 22 69 64 22 3a 20  |{\"user\": {\"id\": |
  00000010  33 7d 2c 20 22 64 65 76  69 63 65 5f 74 79 70 65  |3}, \"device_type|
  00000020  22 3a 20 22 69 4f 53 22  7d                       |\": \"iOS\"}|
",
    );
}

#[test]
fn filters_select_the_last_matches_and_shaping_failures_are_reported() {
    let records: Vec<_> =
        (0..5000).map(|at| (at % 2, format!("k{at}"), format!(r#"{{"n": {at}, "old": {}}}"#, at < 20))).collect();
    let records: Vec<_> =
        records.iter().map(|(partition, key, value)| (*partition, Some(key.as_str()), Some(value.as_bytes()))).collect();
    let topic = Topic::with(2, &records);
    let keys = |ended: Finished| String::from_utf8(ended.stdout).unwrap().replace('\n', " ");
    let of = |condition: &str| {
        let ended = topic.sdl("logins -f %k\\n -n 3 --where").arg(condition).run().expect(0);
        assert_eq!(ended.stderr, "");
        keys(ended)
    };
    assert_eq!(of("old = true"), "k17 k18 k19 ");
    assert_eq!(of("n < 2"), "k0 k1 ");
    topic.shows("logins -f %k\\n --grep ^k7$ --grep old", "k7\n");
    topic.shows("logins -f %k\\n --grep ^k49[0-9]+$ -n 2 --where n<4990 --keep n", "k4988\nk4989\n");
    topic.shows("logins --grep ^k4999$ --keep n -o value", "{\"n\":4999}\n");
    topic.shows("logins --start beginning -n 1 --grep ^k10$ --mask-ip n -f %k", "k10");

    let ended = topic.tail("logins --grep nowhere");
    assert_eq!((ended.stdout.len(), ended.stderr.as_str()), (0, "0 of 5,000 records matched\n"));
    let ended = logins().tail("logins --where device_type=iOS -f %o");
    let left_out = "1 record was left out: logins/0@1: the value is not JSON: unexpected character at line 1 column 2\n";
    assert_eq!((String::from_utf8_lossy(&ended.stdout).as_ref(), ended.stderr.as_str()), ("02", left_out));
}

#[test]
fn only_a_bad_record_among_the_last_ones_is_reported() {
    let value = r#"{"a":1}"#;
    let values = ["bad", value, "bad", value, "bad", value];
    let records: Vec<_> = values.iter().map(|value| (0, None, Some(value.as_bytes()))).collect();
    let topic = Topic::with(1, &records);
    topic.shows("logins -n 1 --drop a -f %o", "5");
    for (count, shown, bad) in
        [(2, "35", "1 record was left out: logins/0@4: the value is not JSON"), (3, "135", "2 records were left out")]
    {
        let ended = topic.tail(&format!("logins -n {count} --drop a -f %o"));
        assert_eq!(String::from_utf8_lossy(&ended.stdout), shown);
        assert!(ended.stderr.starts_with(bad) && ended.stderr.contains("logins/0@4: "), "{}", ended.stderr);
    }
    let ended = topic.tail("logins --start beginning --drop a -f %o");
    let bad = "3 records were left out, such as logins/0@0: the value is not JSON";
    assert!(ended.stderr.starts_with(bad), "{}", ended.stderr);
}

#[test]
fn headers_are_filtered_and_shown() {
    let headers = |list: &[(&str, Option<&[u8]>)]| Content {
        timestamp: Some(TIME),
        value: Some(b"v".to_vec()),
        headers: list.iter().map(|(name, value)| ((*name).to_owned(), value.map(<[u8]>::to_vec))).collect(),
        ..Content::default()
    };
    let topic = Topic::holding(
        1,
        &[
            (0, headers(&[("trace", Some(b"1")), ("trace", Some(b"2"))])),
            (0, headers(&[("trace", None), ("x", Some(b""))])),
            (0, headers(&[("other", Some(b"\xff\x1b"))])),
        ],
    );
    topic.shows("logins --header trace -f %o", "01");
    topic.shows("logins --header trace=2 --header trace=1 -f %o", "0");
    topic.shows("logins --header x= -f %o:%h", "1:trace=NULL,x=");
    topic.shows(
        "logins -o pretty --start 1",
        "\
logins/0@1  2023-09-12 00:45:51.000
  trace: null
  x: (empty)
  v
logins/0@2  2023-09-12 00:45:51.000
  other: \\xff\\x1b
  v
",
    );
}

#[test]
fn an_empty_result_is_explained() {
    let topic = Topic::with(2, &[(0, None, Some(b"x"))]);
    topic.mock.create_topic("empty", 1);
    for (arguments, why) in [
        ("empty", "topic `empty` is empty\n"),
        ("logins --partitions 1", "topic `logins` is empty in these partitions\n"),
        ("logins --start end", "no records at or after the end; topic `logins` has 1\n"),
    ] {
        topic.fails(arguments, why, 0);
    }
}

#[test]
fn partitions_without_a_committed_offset_are_counted() {
    let topic = Topic::with(3, &[(0, None, Some(b"a")), (0, None, Some(b"b")), (1, None, Some(b"c"))]);
    let ended = topic.tail("logins --start committed --group none -o value");
    let mut lines: Vec<_> = std::str::from_utf8(&ended.stdout).unwrap().lines().collect();
    lines.sort_unstable();
    let line = "group `none` has no committed offset in 2 of 2 partitions: there `committed` is the beginning\n";
    assert_eq!((lines.join(" "), ended.stderr.as_str()), ("a b c".to_owned(), line));
}

#[test]
fn a_committed_start_is_where_the_group_goes_on() {
    let topic = Topic::with(2, &[(0, None, Some(b"a")), (0, None, Some(b"b")), (1, None, Some(b"c"))]);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("logins", 0, Offset::Offset(1)).unwrap();
    topic.mock.cluster().consumer("tour").commit(&list, CommitMode::Sync).unwrap();
    let ended = topic.tail("logins --start committed --group tour -o value --partitions 0");
    assert_eq!((ended.stdout.as_slice(), ended.stderr.as_str()), (b"b\n".as_slice(), ""));
    let ended = topic.tail("logins --start committed --group tour -o value");
    let mut lines: Vec<_> = std::str::from_utf8(&ended.stdout).unwrap().lines().collect();
    lines.sort_unstable();
    let line = "group `tour` has no committed offset in 1 of 2 partitions: there `committed` is the beginning\n";
    assert_eq!((lines.join(" "), ended.stderr.as_str()), ("b c".to_owned(), line));
}

#[test]
fn a_cluster_that_goes_away_is_waited_for_in_words() {
    let topic = Topic::with(1, &[(0, None, Some(b"first"))]);
    let mut running = topic.sdl("logins -F -o value").start();
    crate::harness::eventually("the record", Duration::from_secs(30), || (running.stdout() == "first\n").then_some(()));
    topic.mock.faults().broker_down(1).expect("the broker goes down");
    running.wait_for_stderr("Waiting for records: ");
    running.signal("INT");
    running.wait().expect(0);
}

#[test]
fn following_continues_until_interrupted_or_the_pipe_is_closed() {
    let topic = Topic::with(1, &[(0, None, Some(b"first"))]);
    let sender = Sender::new(&topic.mock.cluster(), &[]);
    let send = |value: &str| {
        let value = Some(value.as_bytes().to_vec());
        sender.send("logins", &[(0, Content { timestamp: Some(TIME), value, ..Content::default() })]);
    };
    let running = topic.sdl("logins -F -o value").start();
    let shown =
        |text: &str| crate::harness::eventually(text, Duration::from_secs(30), || running.stdout().ends_with(text).then_some(()));
    shown("first\n");
    send("second");
    shown("second\n");
    running.signal("INT");
    let ended = running.wait().expect(0);
    assert_eq!((String::from_utf8_lossy(&ended.stdout).as_ref(), ended.stderr.as_str()), ("first\nsecond\n", ""));

    let (reader, writer) = std::io::pipe().unwrap();
    let running = topic.sdl("logins --follow -o value").stdout(writer).start();
    let mut line = [0; 6];
    std::io::Read::read_exact(&mut &reader, &mut line).unwrap();
    assert_eq!(&line, b"first\n");
    drop(reader);
    let ended = running.wait().expect(0);
    assert_eq!(ended.stderr, "");
}

#[test]
fn a_count_ends_following() {
    let topic = Topic::with(1, &[(0, None, Some(b"1")), (0, None, Some(b"2")), (0, None, Some(b"3"))]);
    topic.shows("logins --start beginning -F -n 2 -o value", "1\n2\n");
}

#[test]
fn control_sequences_are_escaped_on_a_terminal() {
    let evil = "\x1b[2J\u{202e}\u{9b}31m\x07\r";
    let mut contents = Vec::new();
    for value in [
        format!("\"{}\"", evil.escape_default().to_string().len()),
        format!("{{\"a\": \"\u{202e}\u{9b}2J\u{7f}\", \"{}\": 1}}", "b".repeat(90)),
        evil.to_owned(),
    ] {
        contents.push((
            0,
            Content {
                timestamp: Some(TIME),
                key: Some(evil.as_bytes().to_vec()),
                value: Some(value.into_bytes()),
                headers: vec![("h\x1b]0;x\x07".to_owned(), Some(evil.as_bytes().to_vec()))],
            },
        ));
    }
    contents.push((
        0,
        Content { timestamp: Some(TIME), key: None, value: Some(b"\xff\x9b2J\n\x1b[3m".to_vec()), headers: Vec::new() },
    ));
    let topic = Topic::holding(1, &contents);
    for arguments in ["", "-o value", "-o ndjson", "-o table", "-o csv", "--hex", "-f %t:%k:%h:%s\\n", "--keep a", "--base64"] {
        let terminal = Terminal::open();
        let ended = topic.sdl(&format!("logins -n 9 --color never {arguments}")).stdout(terminal.side()).run().expect(0);
        let shown = String::from_utf8(terminal.all()).unwrap_or_else(|error| panic!("{arguments}: {error}"));
        assert!(shown.lines().count() >= 2, "{arguments}: {shown}\n{}", ended.stderr);
        let harmful = |c: char| (c.is_control() && !"\r\n\t".contains(c)) || matches!(c, '\u{202a}'..='\u{202e}');
        assert!(!shown.contains(harmful), "{arguments}: {shown:?}");
        assert!(!shown.replace("\r\r\n", "").replace("\r\n", "").contains('\r'), "{arguments}: {shown:?}");
    }
    let terminal = Terminal::open();
    topic.sdl("logins -n 9 -o value --raw-output").stdout(terminal.side()).run().expect(0);
    let shown = terminal.all();
    assert!(shown.windows(4).any(|bytes| bytes == b"\x1b[2J"), "asked for, the bytes come as they are");
}

#[test]
fn a_terminal_gets_colour_and_follows_by_default() {
    let topic = Topic::with(1, &[(0, Some("k"), Some(br#"{"a": [1, "x", null]}"#))]);
    let mut terminal = Terminal::open();
    let mut running = topic.sdl("logins").stdout(terminal.side()).start();
    let line = "\u{1b}[1m\u{1b}[36mlogins/0@0\u{1b}[0m  \u{1b}[2m2023-09-12 00:45:51.000\u{1b}[0m  \u{1b}[2mkey\u{1b}[0m k\r\n  \
                {\u{1b}[34m\"a\"\u{1b}[0m: [\u{1b}[33m1\u{1b}[0m, \u{1b}[32m\"x\"\u{1b}[0m, \u{1b}[35mnull\u{1b}[0m]}\r\n";
    terminal.wait_for(line);
    assert!(running.is_running(), "it follows");
    running.signal("INT");
    running.wait().expect(0);
    for arguments in ["-n 1", "--start beginning", "--stop end"] {
        topic.sdl(&format!("logins {arguments}")).stdout(terminal.side()).run().expect(0);
    }
}

#[test]
fn times_are_in_the_zone_of_the_variable_tz() {
    let topic = Topic::with(1, &[(0, Some("a"), Some(b"x"))]);
    for (zone, time) in [
        ("UTC", "2023-09-12 00:45:51.000"),
        ("Europe/Berlin", "2023-09-12 02:45:51.000"),
        ("Asia/Kolkata", "2023-09-12 06:15:51.000"),
        ("America/New_York", "2023-09-11 20:45:51.000"),
    ] {
        let terminal = Terminal::open();
        let ended = topic.sdl("logins -n 1 --color never").env("TZ", zone).stdout(terminal.side()).run().expect(0);
        let shown = String::from_utf8(terminal.all()).expect("text");
        assert!(shown.contains(time), "{zone}: {shown}{}", ended.stderr);
    }
}
