//! The examination of MongoDB servers.

use mongodb::bson::{Document, doc};

use super::{Steps, closed_port};
use crate::harness::{Answer, MongoStub, failed};

fn section(stub: &MongoStub) -> String {
    format!("[mongodb]\nuri = {}\ndefault_database = d\ndefault_collection = c\n", stub.uri())
}

/// Returns the answer of a server with this collection.
fn answer(command: &Document, collection: &Document, indexes: Vec<Document>) -> Answer {
    let batch =
        |namespace: &str, batch: Vec<Document>| doc! {"cursor": {"id": 0_i64, "ns": namespace, "firstBatch": batch}, "ok": 1.0};
    Answer::Reply(match command.keys().next().unwrap().as_str() {
        "buildInfo" => doc! {"version": "7.0.5", "ok": 1.0},
        "listCollections" => batch("d.$cmd.listCollections", vec![collection.clone()]),
        "listIndexes" => batch("d.c", indexes),
        "update" | "insert" | "delete" => doc! {"n": 1, "ok": 1.0},
        "find" => batch("d.c", vec![doc! {"_id": "x"}]),
        _ => doc! {"ok": 1.0},
    })
}

fn plain() -> Document {
    doc! {"name": "c", "type": "collection", "options": {}}
}

#[test]
fn a_standalone_server_that_works_is_warned_of() {
    let stub = MongoStub::start(|command| answer(command, &plain(), vec![doc! {"key": {"_id": 1}}]));
    let steps = Steps::of(&section(&stub), "", 0);
    assert_eq!(
        steps.shown(),
        [
            "profile ok",
            "name ok",
            "tcp ok",
            "tls ok",
            "login ok",
            "version ok",
            "topology warn",
            "members skipped",
            "clock skipped",
            "collection ok",
            "rights ok",
            "validator ok",
            "indexes ok"
        ]
    );
    assert_eq!(steps.step("version"), ["ok 7.0.5"]);
    assert!(steps.only("warn").starts_with("topology: a standalone server: no retryable writes"), "{}", steps.only("warn"));
    assert!(!stub.received().iter().any(|name| name == "insert"), "{:?}", stub.received());
}

#[test]
fn a_member_of_a_replica_set_names_its_members() {
    let stub = MongoStub::saying(doc! {"setName": "rs", "localTime": mongodb::bson::DateTime::now()}, |command| {
        answer(command, &plain(), Vec::new())
    });
    let steps = Steps::of(&section(&stub), "", 0);
    assert!(steps.step("topology")[0].starts_with("ok replica set `rs` of 127.0.0.1:"), "{:?}", steps.step("topology"));
    assert!(steps.step("members")[0].starts_with("ok reached 127.0.0.1:"));
    assert!(steps.step("clock")[0].starts_with("ok that of the server differs by 0."), "{:?}", steps.step("clock"));
}

#[test]
fn a_set_that_advertises_a_name_that_does_not_resolve_is_told_by_the_server_that_answers() {
    let differs = doc! {"setName": "rs", "hosts": ["db.invalid:27017"]};
    let stub = MongoStub::saying(differs, |command| answer(command, &plain(), Vec::new()));
    let steps = Steps::of(&section(&stub), "", 4);
    assert_eq!(
        steps.only("fail"),
        "members: the set advertises db.invalid:27017, and that name does not resolve here: set its `host` in rs.conf(), or run sdl where \
         it resolves"
    );
    assert_eq!(steps.step("rights"), ["skipped members failed"]);
}

#[test]
fn views_capped_collections_validators_and_unique_indexes_are_told() {
    let of = |collection: Document, indexes: Vec<Document>, code: i32| {
        let stub = MongoStub::start(move |command| answer(command, &collection, indexes.clone()));
        Steps::of(&section(&stub), "", code)
    };
    let steps = of(doc! {"name": "c", "type": "view", "options": {"viewOn": "x"}}, Vec::new(), 4);
    assert_eq!(steps.only("fail"), "collection: d.c is a view: set `default_collection` to a collection that is not a view");
    assert_eq!(steps.step("rights"), ["skipped collection failed"]);
    let capped = doc! {"name": "c", "type": "collection", "options": {"capped": true, "size": 4096}};
    assert!(of(capped, Vec::new(), 0).step("collection")[0].starts_with("warn d.c is capped"));
    let series = doc! {"name": "c", "type": "timeseries", "options": {}};
    assert!(of(series, Vec::new(), 0).step("collection")[0].starts_with("warn d.c is a time series"));
    let strict = doc! {"name": "c", "type": "collection", "options": {"validator": {"a": {"$exists": true}}}};
    let steps = of(strict, vec![doc! {"key": {"email": 1}, "unique": true}], 0);
    assert!(steps.step("validator")[0].starts_with("warn the collection has a validator"));
    assert!(steps.step("indexes")[0].starts_with("warn unique over `email`"));
}

#[test]
fn a_missing_right_and_a_missing_majority_fail_the_write_that_is_tried() {
    let of = |code: i32| {
        let stub = MongoStub::start(move |command| match command.keys().next().unwrap().as_str() {
            "update" => failed(code),
            _ => answer(command, &plain(), Vec::new()),
        });
        Steps::of(&section(&stub), "", 4).only("fail")
    };
    let denied = of(13);
    assert!(denied.starts_with("rights: ") && denied.contains("requires a login"), "{denied}");
    let alone = of(64);
    assert!(alone.contains("no majority of the replica set acknowledges a write: see rs.status()"), "{alone}");
}

#[test]
fn a_command_that_the_server_does_not_know_skips_its_step() {
    let stub = MongoStub::saying(doc! {"helloOk": false}, |command| match command.keys().next().unwrap().as_str() {
        name @ ("hello" | "buildInfo" | "listCollections" | "listIndexes") => Answer::Reply(doc! {
            "ok": 0.0, "code": 59, "codeName": "CommandNotFound", "errmsg": format!("no such command: '{name}'"),
        }),
        _ => answer(command, &plain(), Vec::new()),
    });
    let steps = Steps::of(&section(&stub), "", 0);
    assert!(steps.step("topology")[0].starts_with("warn a standalone server"), "the older command tells it");
    assert_eq!(steps.step("collection"), ["skipped the server does not know the command `listCollections`"]);
    assert_eq!(steps.step("indexes"), ["skipped the server does not know the command `listIndexes`"]);
    assert_eq!(steps.step("rights"), ["ok may write to d.c, and a majority acknowledges"]);
}

#[test]
fn a_write_that_the_server_does_not_know_is_not_blamed_on_the_address() {
    let stub = MongoStub::start(|command| match command.keys().next().unwrap().as_str() {
        "update" => {
            Answer::Reply(doc! {"ok": 0.0, "code": 59, "codeName": "CommandNotFound", "errmsg": "no such command: 'update'"})
        }
        _ => answer(command, &plain(), Vec::new()),
    });
    let failed = Steps::of(&section(&stub), "", 4).only("fail");
    assert!(failed.starts_with("rights: ") && failed.contains("no such command: 'update' (59)"), "{failed}");
    assert!(failed.ends_with(": use MongoDB 4.4 or newer, or a server that knows the command"), "{failed}");
}

#[test]
fn a_name_that_the_loads_refuse_fails_its_step() {
    let stub = MongoStub::start(|command| answer(command, &plain(), Vec::new()));
    for (key, value, why) in [
        ("default_database", "a.b", "cannot use `a.b`: a database's name may not have '.'"),
        ("default_collection", "system.x", "cannot use `system.x`: `system.` is the server's own"),
        ("default_collection", "{", "cannot use `{`: `{` without `}`"),
    ] {
        let other = if key == "default_database" { "default_collection = c" } else { "default_database = d" };
        let steps = Steps::of(&format!("[mongodb]\nuri = {}\n{key} = {value}\n{other}\n", stub.uri()), "", 4);
        let failed = steps.only("fail");
        assert!(failed.starts_with(&format!("collection: {why}")), "{failed}");
        assert!(failed.ends_with(&format!(": correct `{key}` under [mongodb]")), "{failed}");
        assert_eq!(steps.step("rights"), ["skipped collection failed"]);
    }
}

#[test]
fn a_closed_port_and_a_name_that_does_not_resolve_fail_their_steps() {
    let server = closed_port();
    let steps = Steps::of(&format!("[mongodb]\nhost = {}\nport = {}\n", server.ip(), server.port()), "", 4);
    assert!(steps.only("fail").starts_with(&format!("tcp: {server}: connecting: connection refused: start the server")));
    let steps = Steps::of("[mongodb]\nuri = mongodb://u:canary@db.invalid:27017/\n", "", 4);
    assert_eq!(
        steps.only("fail"),
        "name: db.invalid:27017: looking up the name: the name does not resolve: correct `uri` under [mongodb]"
    );
    assert_eq!(steps.step("topology"), ["skipped name failed"]);
}

#[test]
fn a_round_trip_writes_a_document_and_removes_it() {
    let stub = MongoStub::start(|command| answer(command, &plain(), Vec::new()));
    let steps = Steps::of(&section(&stub), "--roundtrip", 0);
    assert_eq!(steps.step("roundtrip"), ["ok wrote a document to d.c and read it; it is removed again"]);
    let received = stub.received();
    for name in ["insert", "find", "delete"] {
        assert!(received.iter().any(|received| received == name), "{received:?}");
    }
}

#[test]
fn a_document_that_no_majority_acknowledges_is_removed_again() {
    let stub = MongoStub::start(|command| match command.keys().next().unwrap().as_str() {
        "insert" => {
            let error = doc! {"code": 64, "codeName": "WriteConcernTimeout", "errmsg": "waiting for replication timed out"};
            Answer::Reply(doc! {"n": 1, "writeConcernError": error, "ok": 1.0})
        }
        _ => answer(command, &plain(), Vec::new()),
    });
    let steps = Steps::of(&section(&stub), "--roundtrip", 4);
    assert_eq!(steps.step("roundtrip").len(), 1, "it is removed: {:?}", steps.step("roundtrip"));
    assert!(stub.received().iter().any(|name| name == "delete"), "{:?}", stub.received());
}
