//! The shaping flags, and what becomes of records that cannot be shaped.

use std::os::unix::fs::PermissionsExt as _;

use sdl::connectors::ndjson::{ParsedLine, read as read_line};
use sdl::record::Record;

use crate::harness::{Cluster, Content, Finished, Mock, Sdl, Sender, read};

/// Two embedded clusters, and these values in the first.
struct Flow {
    source: Mock,
    target: Mock,
}

impl Flow {
    fn new(values: &[Option<&str>]) -> Self {
        let flow = Self { source: Mock::start(1), target: Mock::start(1) };
        flow.source.create_topic("logins", 1);
        flow.target.create_topic("logins", 1);
        let content = |(n, value): (usize, Option<&str>)| Content {
            timestamp: Some(1_700_000_000_000),
            key: Some(n.to_string().into_bytes()),
            value: value.map(|value| value.as_bytes().to_vec()),
            headers: vec![("trace".to_owned(), None)],
        };
        let sent: Vec<_> = values.iter().copied().enumerate().map(|sent| (0, content(sent))).collect();
        Sender::new(&flow.source.cluster(), &[]).send("logins", &sent);
        flow
    }

    fn replicate(&self, flags: &[&str], profile: &str) -> Finished {
        let profile = Cluster::profile(&self.source.cluster(), &self.target.cluster(), "group") + profile;
        let command = Sdl::new("replicate logins --until-caught-up -o json").profile(&profile);
        flags.iter().fold(command, Sdl::arg).run()
    }

    /// Returns the keys and values in the target.
    fn arrived(&self) -> Vec<(String, Option<String>)> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let seen = read(&self.target.cluster(), "logins").into_iter();
        seen.map(|seen| (text(seen.content.key.expect("a key")), seen.content.value.map(text))).collect()
    }
}

fn pairs(expected: &[(&str, Option<&str>)]) -> Vec<(String, Option<String>)> {
    expected.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned))).collect()
}

#[test]
fn flags_and_profile_shape_what_is_copied_and_tombstones_pass() {
    let flow = Flow::new(&[
        Some(r#"{"device_type": "iOS", "ip": "199.172.111.135", "timestamp": "1694479551", "n": 1.50}"#),
        Some(r#"{"device_type": "android", "ip": "199.172.111.135", "timestamp": 1694479551}"#),
        None,
        Some(r#"{"device_type": "iOS", "ip": null, "timestamp": 1694479551123, "secret": "x"}"#),
    ]);
    let profile = "\n[shape.login]\nmask_ip = ip\ndate = timestamp\ndefault.locale = unknown\n";
    let flags = ["--shape", "login", "--where", "device_type = iOS", "--drop", "secret,device_type"];
    let summary = flow.replicate(&flags, profile).expect(0).json();
    assert_eq!((&summary["read"], &summary["delivered"], &summary["filtered"]), (&4.into(), &3.into(), &1.into()), "{summary}");
    assert_eq!(
        flow.arrived(),
        pairs(&[
            ("0", Some(r#"{"ip":"199.172.111.xxx","timestamp":"2023-09-12T00:45:51Z","n":1.50,"locale":"unknown"}"#)),
            ("2", None),
            ("3", Some(r#"{"ip":null,"timestamp":"2023-09-12T00:45:51.123Z","locale":"unknown"}"#)),
        ])
    );
}

#[test]
fn without_shaping_no_value_is_parsed() {
    let values = [Some("no json"), Some("{ \"a\" : 1 }"), Some("")];
    let flow = Flow::new(&values);
    flow.replicate(&[], "").expect(0);
    let arrived: Vec<_> = flow.arrived().into_iter().map(|(_, value)| value).collect();
    assert_eq!(arrived, values.map(|value| value.map(str::to_owned)));
}

#[test]
fn a_value_that_cannot_be_shaped_stops_the_run_at_its_record() {
    let flow = Flow::new(&[Some(r#"{"user_id": "a"}"#), Some(r#"{"user_id": 7}"#), Some(r#"{"user_id": "c"}"#)]);
    let finished = flow.replicate(&["--require", "user_id:string"], "").expect(3);
    assert!(finished.stderr.contains("logins/0@1"), "{}", finished.stderr);
    assert!(finished.stderr.contains("`user_id` is a whole number, not text"), "{}", finished.stderr);
    let arrived = flow.arrived();
    assert!(arrived.iter().all(|(key, _)| key == "0"), "nothing from the bad record on: {arrived:?}");
    let committed = flow.source.cluster().committed("group", "logins");
    assert!(committed[0].is_none_or(|next| next <= 1), "not past the bad record: {committed:?}");
}

#[test]
fn records_that_cannot_be_shaped_are_dead_lettered_with_the_cause() {
    let flow = Flow::new(&[Some("\0\0\0\0\x2ano json"), Some(r#"{"at": "soon"}"#), Some(r#"{"at": 0}"#), Some("[]")]);
    let finished = flow.replicate(&["--date", "at", "--require", "at", "--dead-letters", "file:letters.ndjson"], "").expect(3);
    let summary = finished.json();
    assert_eq!((&summary["delivered"], &summary["dead_lettered"]), (&1.into(), &3.into()), "{summary}");
    assert_eq!(flow.arrived(), pairs(&[("2", Some(r#"{"at":"1970-01-01T00:00:00Z"}"#))]));
    assert_eq!(flow.source.cluster().committed("group", "logins"), [Some(4)]);

    let path = finished.path("letters.ndjson");
    assert_eq!(std::fs::metadata(&path).expect("the letters are there").permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&path).expect("the letters are text");
    let letters: Vec<_> = text.lines().map(letter).collect();
    let reported: Vec<_> = letters
        .iter()
        .map(|letter| {
            let header = |name: &str| {
                let value = letter.headers.iter().find(|(known, _)| known == name).and_then(|(_, value)| value.clone());
                value.map(|value| String::from_utf8(value.to_vec()).expect("text"))
            };
            assert_eq!(letter.headers[0], ("trace".into(), None), "the record's own headers come first");
            assert_eq!(letter.timestamp, Some(1_700_000_000_000));
            assert_eq!(header("__connect.errors.stage").as_deref(), Some("TRANSFORMATION"));
            (letter.offset, header("sdl.dlq.code").expect("a code"), header("sdl.dlq.path"))
        })
        .collect();
    let path = |path: &str| Some(path.to_owned());
    assert_eq!(
        reported,
        [(0, "not_json".to_owned(), None), (1, "not_a_date".to_owned(), path("at")), (3, "missing_field".to_owned(), path("at"))]
    );
    assert_eq!(letters[0].value.as_deref(), Some(&b"\0\0\0\0\x2ano json"[..]));
}

fn letter(line: &str) -> Record {
    match read_line(line.as_bytes()) {
        Ok(ParsedLine::Record(record)) => record,
        other => panic!("{line} is {other:?}"),
    }
}

#[test]
fn an_invalid_rule_is_refused_before_the_run_starts() {
    for (flags, profile, expected) in [
        (
            vec!["--where", "a !"],
            "",
            "error: cannot use `--where a !`: unexpected `!` at column 3; the only negation is `!=`\nhint: write FIELD, FIELD = VALUE \
             (or ==, !=, <, <=, >, >=, ~ for a regex) or FIELD in (A, B), several joined by `and`, values with blanks in quotes: \
             \"city = 'New York' and n > 5\"\n",
        ),
        (
            vec!["--mask", "user_id"],
            "",
            "error: cannot use `--mask user_id` without `mask_key`\nhint: add `mask_key = ${env:MASK_KEY}` to the source's section \
             of the profile\n",
        ),
        (
            vec!["--shape", "logn"],
            "\n[shape.login]\ndrop = ip\n",
            "error: there is no shape `logn` in the profile\nhint: the profile has --shape login\n",
        ),
        (
            vec!["--shape", "login"],
            "\n[shape.login]\nkeep = a..b\n",
            "error: cannot use `keep = a..b` in [shape.login] at ./database.ini:10: `a..b` has a field without a name\nhint: write \
             fields with commas, dots between the names of nested ones: user_id,buyer.id\n",
        ),
        (
            vec!["--shape", "login"],
            "\n[shape.login]\nwher = a\n",
            "error: unknown key `wher` in [shape.login] at ./database.ini:10\nhint: the keys are where, where.1, where.2, ..., \
             require, keep, drop, default.FIELD, mask, mask_ip, date\n",
        ),
    ] {
        let flow = Flow::new(&[Some("{}")]);
        let finished = flow.replicate(&flags, profile).expect(2);
        assert!(finished.stderr.ends_with(expected), "{flags:?} printed\n{}", finished.stderr);
        assert_eq!(flow.arrived(), []);
    }
}

#[test]
fn a_condition_is_in_the_grammar_or_refused_with_its_place() {
    let logins = [
        Some(r#"{"device_type": "iOS", "locale": "FR"}"#),
        Some(r#"{"device_type": "iOS", "locale": "DE"}"#),
        Some(r#"{"device_type": "android", "locale": "FR"}"#),
    ];
    for condition in [
        "device_type == \"iOS\" and locale in ('FR', IT)",
        "device_type = iOS and locale = FR",
        "device_type='iOS' AND locale=='FR'",
    ] {
        let flow = Flow::new(&logins);
        let finished = flow.replicate(&["--where", condition], "").expect(0);
        assert_eq!(flow.arrived(), pairs(&[("0", logins[0])]), "{condition}: {}", finished.stderr);
        assert!(!finished.stderr.contains("none of"), "{}", finished.stderr);
    }
    for (condition, why) in [
        ("locale IN FR", "`(` is missing at column 11"),
        ("locale = 'FR' or locale = 'DE'", "unexpected `or` at column 15; for one of several values use `in (A, B)`"),
        ("city = New York", "unexpected `York` at column 12"),
    ] {
        let flow = Flow::new(&logins);
        let finished = flow.replicate(&["--where", condition], "").expect(2);
        assert!(finished.stderr.contains(&format!("`--where {condition}`: {why}\nhint: ")), "{}", finished.stderr);
    }
}

#[test]
fn a_rule_that_matches_no_record_is_reported_with_the_values_of_the_records() {
    let flow = Flow::new(&[Some(r#"{"device_type": "iOS", "at": 1}"#), Some(r#"{"device_type": "android", "at": 2}"#)]);
    let flags = ["--where", "device_type = ios", "-q"];
    let finished = flow.replicate(&flags, "").expect(0);
    let reported = "none of 2 records matches `--where device_type = ios`: `device_type` holds `iOS`, `android`";
    assert_eq!(finished.stderr.matches(reported).count(), 1, "{}", finished.stderr);

    let flow = Flow::new(&[Some(r#"{"device_type": "iOS", "at": 1}"#), Some(r#"{"device_type": "android", "at": 2}"#)]);
    let finished = flow.replicate(&["--date", "timestmp", "--keep", "at,locle", "--mask-ip", "device_type"], "").expect(0);
    for (flag, field) in [("--date timestmp", "timestmp"), ("--keep at,locle", "locle")] {
        let reported = format!("none of 2 records has the field `{field}` of `{flag}`: they have `device_type`, `at`\n");
        assert!(finished.stderr.contains(&reported), "{}", finished.stderr);
    }
    assert!(!finished.stderr.contains("--mask-ip"), "{}", finished.stderr);
}

#[test]
fn a_mistyped_condition_says_that_its_records_are_committed_and_how_to_read_them_again() {
    let flow = Flow::new(&[Some(r#"{"device_type": "iOS"}"#), Some(r#"{"device_type": "iOS"}"#)]);
    let finished = flow.replicate(&["--where", "device_typ = iOS"], "").expect(0);
    let reported = "has the field `device_typ` of `--where device_typ = iOS`: they have `device_type`; did you mean `device_type`? What is left out is committed";
    assert!(finished.stderr.contains(reported), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("--start beginning, or --start with the offset where this run began"),
        "{}",
        finished.stderr
    );
    flow.replicate(&["--where", "device_type = iOS"], "").expect(0);
    assert_eq!(flow.arrived().len(), 0, "they are committed");
}

#[test]
fn a_value_nested_too_deeply_is_dead_lettered() {
    let deep = format!(r#"{{"ip": {}1{}}}"#, "[".repeat(60_000), "]".repeat(60_000));
    for flags in [["--where", "ip != 1"], ["--mask-ip", "ip"], ["--drop", "ip.x"], ["--default", "ip.x=1"]] {
        let flow = Flow::new(&[Some(&deep), Some(r#"{"ip": {"x": "1.2.3.4"}}"#)]);
        let finished = flow.replicate(&[&flags[..], &["--dead-letters", "file:letters.ndjson"]].concat(), "").expect(3);
        let text = std::fs::read_to_string(finished.path("letters.ndjson")).expect("the letters are text");
        let letters: Vec<_> = text.lines().map(letter).collect();
        assert_eq!(letters.iter().map(|letter| letter.offset).collect::<Vec<_>>(), [0], "{flags:?}");
        assert!(text.contains("nested more than 128 levels deep"));
        assert_eq!(flow.arrived().len(), 1);
    }
}

#[test]
fn a_date_is_the_right_time_or_a_bad_record() {
    let flow = Flow::new(&[
        Some(r#"{"t":[2019,9,23,18,34,7]}"#),
        Some(r#"{"t":1569263647123456}"#),
        Some(r#"{"t":1569263647123456789}"#),
        Some(r#"{"t":-1}"#),
        Some(r#"{"t":"9999-12-31T23:59:59Z"}"#),
        Some(r#"{"t":1e400}"#),
        Some(r#"{"t":20190923}"#),
    ]);
    let finished = flow.replicate(&["--date", "t", "--dead-letters", "file:letters.ndjson"], "").expect(3);
    let text = std::fs::read_to_string(finished.path("letters.ndjson")).expect("the letters are text");
    assert_eq!(text.lines().map(|line| letter(line).offset).collect::<Vec<_>>(), [0, 5, 6]);
    assert_eq!(
        flow.arrived(),
        pairs(&[
            ("1", Some(r#"{"t":"2019-09-23T18:34:07.123456Z"}"#)),
            ("2", Some(r#"{"t":"2019-09-23T18:34:07.123456789Z"}"#)),
            ("3", Some(r#"{"t":"1969-12-31T23:59:59Z"}"#)),
            ("4", Some(r#"{"t":"9999-12-31T23:59:59Z"}"#)),
        ])
    );
}

#[test]
fn registry_framing_and_byte_order_marks_are_recognised() {
    let flow = Flow::new(&[Some("\0\0\0\0\x07{\"n\":1}"), Some("\u{feff}{\"a\": 1, \"b\": 2}")]);
    let finished = flow.replicate(&["--drop", "b", "--dead-letters", "file:letters.ndjson"], "").expect(3);
    let text = std::fs::read_to_string(finished.path("letters.ndjson")).expect("the letters are text");
    let headers = letter(text.lines().next().expect("a letter")).headers;
    let cause =
        headers.iter().find(|(name, _)| name == "__connect.errors.exception.message").and_then(|(_, value)| value.clone());
    let cause = String::from_utf8(cause.expect("a cause").to_vec()).expect("text");
    assert!(cause.contains("Confluent wire format (magic byte 0, schema 7)"), "{cause}");
    assert_eq!(flow.arrived(), pairs(&[("1", Some(r#"{"a":1}"#))]));
}

#[test]
fn an_error_shows_control_characters_as_escapes() {
    let flow = Flow::new(&[Some(r#"{"b": 1}"#)]);
    let finished = flow.replicate(&["--require", "a\u{1b}]0;owned\u{7}\u{202e}"], "").expect(3);
    assert!(!finished.stderr.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{:?}", finished.stderr);
    assert!(finished.stderr.contains(r"`a\x1b]0;owned\x07\u{202e}` is missing"), "{:?}", finished.stderr);
}
