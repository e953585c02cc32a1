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
fn a_value_that_cannot_be_shaped_stops_the_run_where_it_stands() {
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
fn what_cannot_be_shaped_is_set_aside_in_a_file_with_its_cause() {
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
    let told: Vec<_> = letters
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
        told,
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
fn a_wrong_rule_is_refused_before_anything_is_done() {
    for (flags, profile, said) in [
        (
            vec!["--where", "a !"],
            "",
            "error: cannot use `--where a !`: `!` begins with no comparison\nhint: write FIELD, or FIELD with =, !=, <, <=, >, >= or ~ \
             and a value: 'device_type = iOS'\n",
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
            "error: cannot use `keep = a..b` in [shape.login]: `a..b` has a field without a name\nhint: write fields with commas, \
             dots between the names of nested ones: user_id,buyer.id\n",
        ),
    ] {
        let flow = Flow::new(&[Some("{}")]);
        let finished = flow.replicate(&flags, profile).expect(2);
        assert!(finished.stderr.ends_with(said), "{flags:?} is answered by\n{}", finished.stderr);
        assert_eq!(flow.arrived(), []);
    }
}
