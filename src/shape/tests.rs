use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;

const LOGIN: &str = r#"{"user_id": "424cdd21-063a-43a7-b91b-7ca1a833afae", "device_type": "iOS", "ip": "199.172.111.135", "timestamp": 1694479551}"#;

fn shape(rules: &[(RuleKind, &str)]) -> Shape {
    let mut asked = ShapeRules::default();
    for (kind, text) in rules {
        asked.add(*kind, text, "the rule");
    }
    Shape::parse(&asked, Some("key")).unwrap()
}

/// Returns the new text, or the old one.
fn kept(rules: &[(RuleKind, &str)], value: &str) -> String {
    match shape(rules).apply(Some(value.as_bytes())) {
        ShapeResult::Keep(changed) => changed.map_or(value.to_owned(), |text| String::from_utf8(text.to_vec()).unwrap()),
        other => panic!("{value} became {other:?}"),
    }
}

fn fault(rules: &[(RuleKind, &str)], value: &[u8]) -> ShapeError {
    match shape(rules).apply(Some(value)) {
        ShapeResult::Bad(fault) => fault,
        other => panic!("{value:?} became {other:?}"),
    }
}

#[test]
fn every_rule_is_applied() {
    for (kind, text, shaped) in [
        (RuleKind::Keep, "ip", r#"{"ip":"199.172.111.135"}"#),
        (RuleKind::Keep, "timestamp,device_type", r#"{"device_type":"iOS","timestamp":1694479551}"#),
        (RuleKind::Drop, "user_id,ip,timestamp,nothing", r#"{"device_type":"iOS"}"#),
        (RuleKind::Keep, "nothing", "{}"),
    ] {
        assert_eq!(kept(&[(kind, text)], LOGIN), shaped);
    }
    assert_eq!(
        kept(
            &[
                (RuleKind::Drop, "user_id"),
                (RuleKind::Where, "device_type = iOS"),
                (RuleKind::MaskIp, "ip"),
                (RuleKind::Date, "timestamp"),
                (RuleKind::Default, "locale=unknown"),
                (RuleKind::Require, "locale:string,timestamp:int"),
            ],
            LOGIN
        ),
        r#"{"device_type":"iOS","ip":"199.172.111.xxx","timestamp":"2023-09-12T00:45:51Z","locale":"unknown"}"#
    );
}

#[test]
fn a_value_that_nothing_changes_is_kept_as_it_is() {
    for rules in [
        vec![],
        vec![(RuleKind::Where, "device_type"), (RuleKind::Require, "timestamp:int"), (RuleKind::Default, "ip=0.0.0.0")],
        vec![
            (RuleKind::Drop, "nothing,ip.nothing"),
            (RuleKind::Mask, "nothing"),
            (RuleKind::Keep, "user_id,device_type,ip,timestamp"),
        ],
    ] {
        assert_eq!(shape(&rules).apply(Some(LOGIN.as_bytes())), ShapeResult::Keep(None), "{rules:?}");
    }
}

#[test]
fn a_record_that_does_not_meet_every_condition_is_filtered() {
    let both = [(RuleKind::Where, "device_type = iOS"), (RuleKind::Where, "timestamp > 1694479551")];
    assert_eq!(shape(&both).apply(Some(LOGIN.as_bytes())), ShapeResult::Filtered);
    assert_eq!(shape(&both).apply(Some(b"7")), ShapeResult::Filtered);
}

#[test]
fn a_tombstone_passes_every_rule() {
    let rules = [(RuleKind::Where, "a = 1"), (RuleKind::Require, "a"), (RuleKind::Keep, "a")];
    assert_eq!(shape(&rules).apply(None), ShapeResult::Keep(None));
}

#[test]
fn fields_without_a_rule_keep_their_text() {
    let value = r#"{"big":123456789012345678901234567890.10e+2,"\u0061":"\u00e9\/","drop":1,"deep":{ "x" : [1.0, -0] },"a":1}"#;
    assert_eq!(
        kept(&[(RuleKind::Drop, "drop,deep.y")], value),
        r#"{"big":123456789012345678901234567890.10e+2,"\u0061":"\u00e9\/","deep":{ "x" : [1.0, -0] },"a":1}"#
    );
}

#[test]
fn all_fields_of_one_name_are_changed_however_it_is_written() {
    let twice = r#"{"\u0061": 1, "b": 2, "a": 3}"#;
    assert_eq!(kept(&[(RuleKind::Drop, "a")], twice), r#"{"b":2}"#);
    assert_eq!(kept(&[(RuleKind::Keep, "a")], twice), r#"{"\u0061":1,"a":3}"#);
    let ips = r#"{"ip": "1.2.3.4", "i\u0070": "5.6.7.8"}"#;
    assert_eq!(kept(&[(RuleKind::MaskIp, "ip")], ips), r#"{"ip":"1.2.3.xxx","i\u0070":"5.6.7.xxx"}"#);
}

#[test]
fn paths_go_through_objects_and_arrays() {
    let value = r#"{"hops": [{"ip": "1.2.3.4"}, {"ip": "5.6.7.8", "at": 0}, 7], "ip": {"ip": "9.9.9.9"}, "a.b": 1}"#;
    assert_eq!(
        kept(&[(RuleKind::MaskIp, "hops.ip,ip.ip"), (RuleKind::Date, "hops.at")], value),
        r#"{"hops":[{"ip":"1.2.3.xxx"},{"ip":"5.6.7.xxx","at":"1970-01-01T00:00:00Z"},7],"ip":{"ip":"9.9.9.xxx"},"a.b":1}"#
    );
    assert_eq!(kept(&[(RuleKind::Keep, r"hops.at,a\.b")], value), r#"{"hops":[{},{"at":0}],"a.b":1}"#);
    assert_eq!(kept(&[(RuleKind::Drop, r"hops.ip,ip,a\.b")], value), r#"{"hops":[{},{"at":0},7]}"#);
}

#[test]
fn an_array_is_not_a_date() {
    for value in [r#"{"t": [2019,9,23,18,34,7]}"#, r#"{"t": [1694479551]}"#, r#"{"t": {"s": 1}}"#] {
        let fault = fault(&[(RuleKind::Date, "t")], value.as_bytes());
        assert_eq!((fault.code, fault.message.as_str()), ("not_a_date", "`t` is not a date"), "{value}");
    }
}

#[test]
fn a_byte_order_mark_is_skipped() {
    assert_eq!(kept(&[(RuleKind::Drop, "b")], "\u{feff}{\"a\": 1, \"b\": 2}"), r#"{"a":1}"#);
    assert_eq!(shape(&[(RuleKind::Where, "a = 1")]).apply(Some("\u{feff}{\"a\": 1}".as_bytes())), ShapeResult::Keep(None));
}

const EVERY_RULE: [(RuleKind, &str); 8] = [
    (RuleKind::Where, "a != 1 and a.b != 2"),
    (RuleKind::Default, "a.x=1"),
    (RuleKind::Require, "a"),
    (RuleKind::MaskIp, "a.b"),
    (RuleKind::Mask, "a.c"),
    (RuleKind::Date, "a.d"),
    (RuleKind::Keep, "a"),
    (RuleKind::Drop, "a.y"),
];

fn nested(open: &str, close: &str, depth: usize) -> String {
    format!("{{\"a\":{}1{}}}", open.repeat(depth), close.repeat(depth))
}

#[test]
fn a_value_that_is_nested_too_deeply_is_a_bad_record() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]")] {
        let value = nested(open, close, 100_000);
        for rule in EVERY_RULE {
            assert_eq!(fault(&[rule], value.as_bytes()).code, "too_deep", "{rule:?}");
        }
        for rule in EVERY_RULE {
            let result = shape(&[rule]).apply(Some(nested(open, close, 60).as_bytes()));
            assert!(!matches!(&result, ShapeResult::Bad(fault) if fault.code == "too_deep"), "{rule:?}");
        }
    }
    assert_eq!(fault(&[(RuleKind::Where, "a")], "[".repeat(100_000).as_bytes()).code, "too_deep");
    let brackets_in_text = format!("{{\"a\": \"{}\"}}", "[\\\"".repeat(1000));
    assert_eq!(shape(&[(RuleKind::Where, "a")]).apply(Some(brackets_in_text.as_bytes())), ShapeResult::Keep(None));
}

#[test]
fn the_deepest_value_is_shaped_in_linear_time() {
    let wide = vec![nested("[", "]", 120); 2000].join(",");
    let value = format!("{{\"a\": [{wide}]}}");
    let start = std::time::Instant::now();
    let _ = shape(&[(RuleKind::Where, "a.a != 2"), (RuleKind::MaskIp, "a.a"), (RuleKind::Drop, "a.a.x")])
        .apply(Some(value.as_bytes()));
    assert!(start.elapsed() < std::time::Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn rules_that_match_no_record_are_found() {
    let unmatched = |shape: &Shape| shape.unmatched().map(|rule| rule.to_string()).collect::<Vec<_>>();
    let rules = shape(&[
        (RuleKind::Where, "device_type in (ios, 'iPhone') and locale"),
        (RuleKind::Where, "nothing = 1"),
        (RuleKind::Where, "device_type = iOS"),
    ]);
    for device in ["iOS", "android", "iOS"] {
        let _ = rules.apply(Some(format!(r#"{{"device_type": "{device}", "n": 1}}"#).as_bytes()));
    }
    assert_eq!(unmatched(&rules), ["none of 3 records matches the rule: `device_type` holds `iOS`, `android`"]);

    let rules = shape(&[
        (RuleKind::Keep, "n,gone"),
        (RuleKind::Require, "timestmp:int"),
        (RuleKind::Date, "at,hops.at"),
        (RuleKind::Default, "filled=1"),
        (RuleKind::MaskIp, "filled"),
    ]);
    let _ = rules.apply(Some(br#"{"n": 1, "hops": [{}, {"at": 1}]}"#));
    let _ = rules.apply(Some(br#"{"n": null, "timestamp": 1}"#));
    let has = "they have `n`, `hops`, `timestamp`";
    assert_eq!(
        unmatched(&rules),
        [("gone", ""), ("timestmp", "; did you mean `timestamp`?"), ("at", "")]
            .map(|(field, meant)| format!("none of 2 records has the field `{field}` of the rule: {has}{meant}"))
    );
    assert_eq!(unmatched(&shape(&[(RuleKind::Keep, "a")])), <[String; 0]>::default(), "no record, no report");
}

#[test]
fn a_default_fills_what_is_missing_and_nothing_else() {
    for (value, rule, filled) in [
        ("{}", "n=0", r#"{"n":0}"#),
        ("{}", r#"n="0""#, r#"{"n":"0"}"#),
        ("{}", "n=", r#"{"n":""}"#),
        ("{}", "n=a=b", r#"{"n":"a=b"}"#),
        (r#"{"n": null, "m": 1}"#, "n=x", r#"{"n":"x","m":1}"#),
        (r#"{"n": false}"#, "n=x", r#"{"n": false}"#),
        ("{}", "a.b.c=1", r#"{"a":{"b":{"c":1}}}"#),
        (r#"{"a": {"x": 1}}"#, "a.b=1", r#"{"a":{"x":1,"b":1}}"#),
        (r#"[{"n": 1}, {}]"#, "n=2", r#"[{"n": 1},{"n":2}]"#),
    ] {
        assert_eq!(kept(&[(RuleKind::Default, rule)], value), filled, "{rule}");
    }
    assert_eq!(kept(&[(RuleKind::Default, "n=1"), (RuleKind::Default, "n=2")], "{}"), r#"{"n":1}"#);
    let fault = fault(&[(RuleKind::Default, "a.b=1")], br#"{"a": 7}"#);
    assert_eq!((fault.code, fault.path.as_deref()), ("not_an_object", Some("a.b")));
}

#[test]
fn a_masked_field_hides_its_value() {
    let hidden = kept(&[(RuleKind::Mask, "user_id,ip,whole")], r#"{"user_id": "anna", "ip": null, "whole": {"name": "anna"}}"#);
    assert!(!hidden.contains("anna"), "{hidden}");
    let fields: BTreeMap<String, Option<String>> = serde_json::from_str(&hidden).unwrap();
    assert_eq!(fields["ip"], None);
    assert_eq!(fields["user_id"].as_ref().unwrap().len(), 64);
    assert_ne!(fields["user_id"], fields["whole"]);
}

#[test]
fn the_error_of_a_bad_value_names_cause_and_position() {
    let missing = fault(&[(RuleKind::Require, "locale")], LOGIN.as_bytes());
    assert_eq!((missing.code, missing.path.as_deref()), ("missing_field", Some("locale")));
    let date = fault(&[(RuleKind::Date, "ip")], LOGIN.as_bytes());
    assert_eq!((date.code, date.message.as_str(), date.path.as_deref()), ("not_a_date", "`ip` is not a date", Some("ip")));
    assert_eq!(fault(&[(RuleKind::Keep, "a")], b"7").code, "not_an_object");
    for value in [&b""[..], b"{", b"{\"a\":1} x", b"{'a':1}", b"\xff", b"{\"a\":\"\xff\"}", b"nul", b"{\"a\":01}"] {
        let fault = fault(&[(RuleKind::Where, "a")], value);
        assert_eq!((fault.code, fault.hint), ("not_json", None), "{value:?}");
    }
}

#[test]
fn confluent_wire_format_is_recognised() {
    let fault = fault(&[(RuleKind::Drop, "a")], b"\0\0\0\0\x2a{\"a\":1}");
    assert_eq!(fault.code, "not_json");
    assert!(fault.message.contains("Confluent wire format (magic byte 0, schema 42)"), "{}", fault.message);
    assert!(fault.hint.unwrap().starts_with("deserialize the records"));
}

#[test]
fn an_invalid_rule_is_refused_with_its_position_and_a_hint() {
    let wrong = |kind, text| {
        let mut rules = ShapeRules::default();
        rules.add(kind, text, "the rule");
        Shape::parse(&rules, Some("key")).unwrap_err()
    };
    assert_eq!(wrong(RuleKind::Where, "a !").what, "cannot use the rule: unexpected `!` at column 3; the only negation is `!=`");
    assert_eq!(wrong(RuleKind::Where, "a !").hint, format!("write {}", condition::GRAMMAR));
    assert_eq!(wrong(RuleKind::MaskIp, "a,,b").what, "cannot use the rule: `` has a field without a name");
    assert_eq!(wrong(RuleKind::Default, "a").what, "cannot use the rule: a value is missing");
    assert_eq!(wrong(RuleKind::Require, "a:b").what, "cannot use the rule: `b` is not a type");
}

#[test]
fn masking_without_a_key_is_refused() {
    let mut rules = ShapeRules::default();
    rules.add(RuleKind::Mask, "user_id", "the rule");
    for key in [None, Some("")] {
        let refused = Shape::parse(&rules, key).unwrap_err();
        assert_eq!(refused.what, "cannot use the rule without `mask_key`");
        assert_eq!(refused.hint, "add `mask_key = ${env:MASK_KEY}` to the source's section of the profile");
    }
}

#[test]
fn a_section_is_parsed_like_its_flags() {
    let mut rules = ShapeRules::default();
    for (key, value) in [
        ("where", "device_type"),
        ("where.1", "timestamp > 5"),
        ("default.geo.country", "unknown"),
        ("mask_ip", "ip"),
        ("date", "timestamp"),
        ("drop", "user_id"),
    ] {
        rules.key("[shape.login] at p:1", key, value).unwrap();
    }
    let ShapeResult::Keep(Some(text)) = Shape::parse(&rules, None).unwrap().apply(Some(LOGIN.as_bytes())) else { panic!("kept") };
    assert_eq!(
        text,
        r#"{"device_type":"iOS","ip":"199.172.111.xxx","timestamp":"2023-09-12T00:45:51Z","geo":{"country":"unknown"}}"#
    );
    for key in ["wher", "mask-ip", "default", "drop.x"] {
        let unknown = rules.key("[shape.login] at p:1", key, "x").unwrap_err();
        assert_eq!(unknown.what, format!("unknown key `{key}` in [shape.login] at p:1"));
    }
    rules.key("[shape.login] at p:1", "keep", "a..b").unwrap();
    let wrong = Shape::parse(&rules, None).unwrap_err();
    assert_eq!(wrong.what, "cannot use `keep = a..b` in [shape.login] at p:1: `a..b` has a field without a name");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(Value::from("10.1.2.3")),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![vec(inner.clone(), 0..4).prop_map(Value::from), any_object(inner).prop_map(Value::Object)]
    })
}

fn any_object(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    let name = prop_oneof![Just("a".to_owned()), Just("b".to_owned()), Just("a.b".to_owned()), any::<String>()];
    btree_map(name, value, 0..5).prop_map(|members| members.into_iter().collect())
}

proptest! {
    #[test]
    fn keeping_and_dropping_change_no_other_field(object in any_object(any_json())) {
        let text = serde_json::to_string(&object).unwrap();
        let without: Map<_, _> = object.iter().filter(|(name, _)| *name != "a").map(|(n, v)| (n.clone(), v.clone())).collect();
        let only: Map<_, _> = object.iter().filter(|(name, _)| *name == "a").map(|(n, v)| (n.clone(), v.clone())).collect();
        prop_assert_eq!(kept(&[(RuleKind::Drop, "a")], &text), serde_json::to_string(&without).unwrap());
        prop_assert_eq!(kept(&[(RuleKind::Keep, "a")], &text), serde_json::to_string(&only).unwrap());
    }

    #[test]
    fn the_output_is_json_for_any_input(document in any_json(), bytes in vec(any::<u8>(), 0..40)) {
        let shape = shape(&[
            (RuleKind::Default, "a.b=1"), (RuleKind::Mask, "b,a.a"), (RuleKind::MaskIp, r"a\.b"), (RuleKind::Keep, r"a,b,a\.b"), (RuleKind::Drop, "b.a"),
        ]);
        for value in [serde_json::to_vec_pretty(&document).unwrap(), bytes] {
            if let ShapeResult::Keep(Some(text)) = shape.apply(Some(&value)) {
                prop_assert!(serde_json::from_slice::<Value>(&text).is_ok());
            }
        }
    }

    #[test]
    fn shaping_what_is_shaped_changes_nothing(document in any_json()) {
        let text = serde_json::to_string(&document).unwrap();
        let shape = shape(&[(RuleKind::Default, "c=1"), (RuleKind::MaskIp, "a,b.a"), (RuleKind::Drop, "b.b"), (RuleKind::Keep, "a,b,c")]);
        if let ShapeResult::Keep(Some(once)) = shape.apply(Some(text.as_bytes())) {
            prop_assert_eq!(shape.apply(Some(&once)), ShapeResult::Keep(None));
        }
    }

    #[test]
    fn no_value_makes_any_rule_panic(text in "\\PC{0,60}", json in "[\\[\\]{}:,\"a-c0-2\\\\ ]{0,80}", bytes in vec(any::<u8>(), 0..40)) {
        let shape = shape(&EVERY_RULE);
        for value in [text.as_bytes(), json.as_bytes(), &bytes] {
            let _ = shape.apply(Some(value));
            if let Ok(text) = std::str::from_utf8(value) {
                let _ = parse_time(text);
            }
        }
    }
}
