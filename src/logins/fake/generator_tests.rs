use std::collections::HashMap;
use std::time::Duration;

use super::*;
use crate::logins::event::{FIELDS, Login};
use crate::logins::fake::FakeLogins;
use crate::pipeline::{Demand, Signal, Source as _};

fn records(plan: FakePlan) -> Vec<Record> {
    let count = plan.count.expect("a test ends");
    let mut generator = Generator::new(plan, Partition::new("fake", 0));
    let mut records = Vec::new();
    while (records.len() as u64) < count {
        records.extend(generator.batch(97));
    }
    assert_eq!(generator.batch(97), []);
    records
}

fn plan(count: u64) -> FakePlan {
    FakePlan { seed: 7, count: Some(count), ..FakePlan::default() }
}

fn text(bytes: Option<&Bytes>) -> &str {
    std::str::from_utf8(bytes.unwrap()).unwrap()
}

#[test]
fn a_plan_gives_the_same_bytes_for_any_batch_size() {
    let full = || FakePlan {
        malformed: "0.1:truncated,wrong-type,array,null".parse().ok(),
        missing: vec!["ip=0.2".parse().unwrap()],
        late: "0.1:30s".parse().ok(),
        duplicates: "0.2".parse().unwrap(),
        ..plan(2000)
    };
    let one_by_one: Vec<_> = {
        let mut generator = Generator::new(full(), Partition::new("fake", 0));
        (0..2000).flat_map(|_| generator.batch(1)).collect()
    };
    assert_eq!(records(full()), one_by_one);
    assert_ne!(records(FakePlan { seed: 8, ..full() }), one_by_one);
}

#[test]
fn the_first_logins_of_a_seed_are_those_of_every_release() {
    let records = records(plan(3));
    assert_eq!(
        [0, 1, 2].map(|n| text(records[n].value.as_ref())),
        [
            r#"{"user_id": "f91227c4-6df1-4821-8279-a8795bc5af30", "app_version": "2.2.1", "device_type": "android", "ip": "213.66.227.135", "locale": "BR", "device_id": "222-93-2542", "timestamp": 1694479551}"#,
            r#"{"user_id": "f42e32ba-409a-4663-b7db-0631b74ba795", "app_version": "2.3.0", "device_type": "iOS", "ip": "179.161.147.16", "locale": "FR", "device_id": "396-61-0275", "timestamp": 1694479551}"#,
            r#"{"user_id": "19b6c5c0-f50d-4ae2-9fbd-b9a8d374fe43", "app_version": "2.2.1", "device_type": "android", "ip": "165.234.152.106", "locale": "UA", "device_id": "626-16-0614", "timestamp": 1694479551}"#,
        ]
    );
}

#[test]
fn every_login_is_an_event() {
    let records = records(plan(5000));
    for (offset, record) in records.iter().enumerate() {
        let login = Login::parse(record.value.as_ref().unwrap()).unwrap();
        assert_eq!(login.user_id.as_deref(), Some(text(record.key.as_ref())));
        assert_eq!(login.timestamp, Some(Clock::START + i64::try_from(offset).unwrap() / 1000));
        assert!(login.ip.unwrap().parse::<std::net::Ipv4Addr>().is_ok());
        assert_eq!((record.offset, record.timestamp), (i64::try_from(offset).unwrap(), None));
    }
}

#[test]
fn few_users_log_in_often_and_the_number_of_users_is_that_of_the_plan() {
    let mut logins = HashMap::new();
    for record in records(FakePlan { users: 100, ..plan(10_000) }) {
        *logins.entry(text(record.key.as_ref()).to_owned()).or_insert(0) += 1;
    }
    assert_eq!(logins.len(), 100);
    assert!(*logins.values().max().unwrap() > 5 * logins.values().min().unwrap(), "{logins:?}");
}

#[test]
fn the_key_of_a_record_is_that_of_the_plan() {
    let first = |key| records(FakePlan { key, ..plan(1) }).remove(0);
    let device = first(RecordKey::DeviceId);
    assert_eq!(Login::parse(device.value.as_ref().unwrap()).unwrap().device_id.as_deref(), Some(text(device.key.as_ref())));
    assert_eq!(text(first(RecordKey::Random).key.as_ref()).len(), 16);
    assert_eq!(first(RecordKey::None).key, None);
    assert_eq!(first(RecordKey::None).value, device.value);
}

#[test]
fn only_missing_fields_are_left_out() {
    for (number, name) in FIELDS.iter().enumerate() {
        let records = records(FakePlan { missing: vec![format!("{name}=1").parse().unwrap()], ..plan(2) });
        let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text(records[1].value.as_ref())).unwrap();
        assert_eq!(fields.len(), 6, "{number}");
        assert!(!fields.contains_key(*name));
    }
    let all = FIELDS.iter().map(|name| format!("{name}=1").parse().unwrap()).collect();
    assert_eq!(text(records(FakePlan { missing: all, ..plan(1) })[0].value.as_ref()), "{}");
    let some = records(FakePlan { missing: vec!["locale=0.1".parse().unwrap()], ..plan(5000) });
    let without = some.iter().filter(|record| !text(record.value.as_ref()).contains("locale")).count();
    assert!((400..600).contains(&without), "{without}");
}

#[test]
fn a_malformed_value_has_the_fault_of_the_plan() {
    let broken = |kind: &str| {
        let missing = vec!["app_version=0.5".parse().unwrap()];
        let plan = FakePlan { malformed: format!("1:{kind}").parse().ok(), missing, ..plan(50) };
        records(plan).into_iter().map(|record| record.value).collect::<Vec<_>>()
    };
    assert!(broken("null").iter().all(Option::is_none));
    for value in broken("truncated") {
        assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&value.unwrap()).is_err());
    }
    for value in broken("not-utf8") {
        let value = value.unwrap();
        assert!(std::str::from_utf8(&value).is_err());
        assert!(serde_json::from_str::<Login<'_>>(&String::from_utf8_lossy(&value)).is_ok(), "apart from that it is whole");
    }
    for value in broken("array") {
        assert!(matches!(serde_json::from_slice(&value.unwrap()), Ok(serde_json::Value::Array(events)) if events.len() == 1));
    }
    for value in broken("wrong-type") {
        let fields: serde_json::Value = serde_json::from_slice(&value.unwrap()).unwrap();
        assert!(fields["user_id"].is_u64() && fields["timestamp"].is_object(), "{fields}");
    }
    for value in broken("huge").into_iter().take(2) {
        let value = value.unwrap();
        assert!(value.len() > 900_000 && value.len() < 1 << 20);
        assert!(Login::parse(&value).is_ok());
    }
}

#[test]
fn faults_do_not_change_the_other_logins() {
    let whole = records(plan(500));
    let some = records(FakePlan { malformed: "0.2:null".parse().ok(), ..plan(500) });
    let nulls = some.iter().filter(|record| record.value.is_none()).count();
    assert!((60..140).contains(&nulls), "{nulls}");
    for (one, other) in some.iter().zip(&whole).filter(|(one, _)| one.value.is_some()) {
        assert_eq!(one, other);
    }
}

#[test]
fn late_events_are_late_by_the_duration_of_the_plan() {
    let clock = Clock::Live(|| 1_000);
    let times = records(FakePlan { late: "0.5:30s".parse().ok(), clock, timestamps: TimestampFormat::String, ..plan(1000) });
    let late = times.iter().filter(|record| text(record.value.as_ref()).ends_with(r#""timestamp": "970"}"#)).count();
    let now = times.iter().filter(|record| text(record.value.as_ref()).ends_with(r#""timestamp": "1000"}"#)).count();
    assert_eq!(late + now, 1000);
    assert!((400..600).contains(&late), "{late}");
}

#[test]
fn a_duplicate_has_the_key_and_value_of_its_record() {
    let twice = records(FakePlan { duplicates: "1".parse().unwrap(), key: RecordKey::Random, ..plan(1000) });
    let once = records(FakePlan { key: RecordKey::Random, ..plan(500) });
    for (n, pair) in twice.chunks(2).enumerate() {
        assert_eq!((&pair[0].key, &pair[0].value), (&pair[1].key, &pair[1].value), "{n}");
        assert_eq!((&pair[0].key, &pair[0].value), (&once[n].key, &once[n].value), "{n}");
    }
}

#[test]
fn stepped_time_is_exact_after_billions_of_events() {
    let clock = Clock::Steps { start: 0, step: Duration::from_nanos(333_333_333) };
    let mut generator = Generator::new(FakePlan { clock, ..plan(u64::MAX) }, Partition::new("fake", 0));
    generator.logins = 3_000_000_000;
    assert_eq!(generator.time(), 999_999_999);
}

#[tokio::test]
async fn the_source_ends_at_its_count() {
    let mut source = FakeLogins::new(plan(1500), None);
    let mut seen = Vec::new();
    loop {
        match source.next(Demand::Records(1200)).await.unwrap() {
            Signal::Assigned(assigned) => {
                assert_eq!(assigned[0].partition.to_string(), "fake/0");
            }
            Signal::Records(records) => seen.push(records.len()),
            Signal::End => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, [1000, 500]);
    let more = tokio::time::timeout(Duration::ZERO, source.next(Demand::Records(1))).await;
    assert!(more.is_err(), "a source ends once");
}

#[tokio::test(start_paused = true)]
async fn the_source_ends_when_its_time_since_the_first_demand_is_over() {
    let endless = FakePlan { count: None, ..plan(0) };
    let mut source = FakeLogins::new(endless, Some(Duration::from_secs(2)));
    assert!(matches!(source.next(Demand::Signals).await, Ok(Signal::Assigned(_))));
    tokio::time::advance(Duration::from_secs(5)).await;
    for _ in 0..2 {
        assert!(matches!(source.next(Demand::Records(10)).await, Ok(Signal::Records(_))));
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert!(matches!(source.next(Demand::Records(10)).await, Ok(Signal::End)));
}
