//! The messages of `sdl sink-mongo` about a server that refuses, as a run prints them.

use mongodb::bson::Binary;
use mongodb::bson::spec::BinarySubtype;

use super::*;
use crate::harness::{Mock, Sdl, Sender, taken_id_errors};

/// Loads a record from an embedded cluster into the server at `uri`, and expects this error, last on standard error.
#[track_caller]
fn fails(uri: &str, flags: &str, code: i32, error: &str) {
    let kafka = Mock::start(1);
    kafka.create_topic("logins", 1);
    Sender::new(&kafka.cluster(), &[]).send_values("logins", 1, &[(Some("k"), Some(r#"{"n": 1}"#))]);
    let servers = kafka.cluster().servers;
    let profile = format!("[local_kafka]\nservers = {servers}\ndefault_consumer_group_id = g\n[mongodb]\nuri = {uri}\n");
    let line = format!("sink-mongo logins --database d --collection c --until-caught-up {flags}");
    let stderr = Sdl::new(&line).profile(&profile).run().expect(code).stderr;
    assert!(stderr.ends_with(error), "{flags}: {error} is not the end of stderr:\n{stderr}");
}

/// Returns a peer that answers the write of a document with this error, and look-ups after it with this document.
fn refusing(error: Document, stored: Option<Document>) -> MongoStub {
    peer(move |command| {
        if name(command) != "find" {
            let mut error = error.clone();
            error.extend(doc! {"index": 0, "errmsg": "no"});
            return Answer::Reply(doc! {"n": 0, "writeErrors": [error], "ok": 1.0});
        }
        let Some(stored) = &stored else { return nothing() };
        let id = command.get_document("filter").unwrap().get("_id").unwrap();
        let id = id.as_document().map_or(id, |ids| &ids.get_array("$in").unwrap()[0]);
        let mut found = doc! {"_id": id.clone()};
        found.extend(stored.clone());
        Answer::Reply(doc! {"cursor": {"firstBatch": [found], "id": 0_i64, "ns": "d.c"}, "ok": 1.0})
    })
}

#[test]
fn a_server_that_cannot_be_used_is_named_with_the_step() {
    let secondary = doc! {"ismaster": false, "isWritablePrimary": false, "secondary": true, "setName": "rs0"};
    for (hello, cause, hint) in [
        (doc! {"maxWireVersion": 5}, "the version of the server is not supported", "use MongoDB 4.4 or newer"),
        (secondary, "the replica set has no primary", "see rs.status() on the server"),
    ] {
        let is_set = hello.contains_key("setName");
        let stub = MongoStub::saying(hello, all_well);
        let (uri, address) = (stub.uri(), stub.uri().replace("mongodb://", ""));
        let uri = if is_set { format!("{uri}/?replicaSet=rs0") } else { uri };
        let error = format!("error: cannot connect to `mongodb`\n  caused by: {address}: first request: {cause}\nhint: {hint}\n");
        fails(&uri, "--wait 1s", 1, &error);
    }
}

#[test]
fn a_server_that_cannot_be_written_to_is_named_with_the_remedy() {
    for (code, cause, hint) in [
        (
            10107,
            "the server is a secondary",
            "set `uri` under [mongodb] to the whole replica set: mongodb://a,b,c/?replicaSet=NAME",
        ),
        (100, "no majority of the replica set acknowledges a write", "see rs.status() and rs.conf() on the server"),
        (13, "the server requires a login", "set `username` and `password` under [mongodb]"),
    ] {
        let stub = MongoStub::start(move |command| match name(command) {
            "ping" => all_well(command),
            "listCollections" => nothing(),
            _ => failed(code),
        });
        let error = format!("error: cannot write to `d.c` of `mongodb`\n  caused by: {cause}\nhint: {hint}\n");
        fails(&stub.uri(), "", 1, &error);
    }
}

#[test]
fn a_user_without_rights_or_with_a_wrong_password_is_named() {
    let stub = |is_known: bool| {
        MongoStub::start(move |command| match name(command) {
            "saslStart" if is_known => {
                let payload = Binary { subtype: BinarySubtype::Generic, bytes: Vec::new() };
                Answer::Reply(doc! {"conversationId": 1, "done": true, "payload": payload, "ok": 1.0})
            }
            "saslStart" => failed(18),
            "ping" => all_well(command),
            "listCollections" => nothing(),
            _ => failed(13),
        })
    };
    let login = |stub: &MongoStub| {
        let uri = stub.uri().replace("mongodb://", "mongodb://loader:canary@");
        format!("{uri}/?authMechanism=PLAIN&authSource=%24external")
    };
    let known = stub(true);
    let error = "error: cannot write to `d.c` of `mongodb`\n  caused by: the user is not authorized\n\
                 hint: grant `readWrite` on the database `d`\n";
    fails(&login(&known), "", 1, error);
    let unknown = stub(false);
    let address = unknown.uri().replace("mongodb://", "");
    let error = format!(
        "error: cannot connect to `mongodb`\n  caused by: {address}: logging in: authentication failed for the user of `uri`\n\
         hint: correct `uri` under [mongodb]\n"
    );
    fails(&login(&unknown), "", 1, &error);
}

#[test]
fn a_record_that_the_server_does_not_store_is_named_with_the_cause() {
    let set_aside = "set bad records aside with --dead-letters topic:NAME or file:PATH, or omit them with --skip-bad-records";
    for (error, stored, flags, cause, hint) in [
        (
            doc! {"code": 11000, "keyPattern": {"email": 1}},
            None,
            "",
            "the unique index of `email` has the value already (mongodb_11000)",
            format!("{set_aside}; drop the index if its values may repeat").as_str(),
        ),
        (doc! {"code": 121}, None, "", "the validator of the collection rejects the document (mongodb_121)", set_aside),
        (
            doc! {"code": 11000, "keyPattern": {"_id": 1}},
            Some(doc! {"a": 1}),
            "--id key",
            "a document without `_kafka_offset` is stored under the id, and its version is unknown (document_without_version)",
            format!("{set_aside}; set `_kafka_offset` of such documents to -1 to have them written over").as_str(),
        ),
    ] {
        let stub = refusing(error, stored);
        let error = format!("error: record logins/0@0 cannot be delivered\n  caused by: {cause}\nhint: {hint}\n");
        fails(&stub.uri(), flags, 3, &error);
    }
}

#[test]
fn an_id_that_is_taken_is_refused_with_the_record() {
    let stored = [Some(doc! {"_kafka_timestamp": 7_i64}), Some(doc! {"a": 1}), None];
    for (stored, (flags, error)) in stored.into_iter().zip(taken_id_errors()) {
        let stub = refusing(doc! {"code": 11000, "keyPattern": {"_id": 1}}, stored);
        fails(&stub.uri(), flags, 5, &error);
    }
}

/// Returns a peer whose collection has the first UUID until a document was written, and then the second, or is gone. It takes a
/// document when it was asked for the UUID.
fn replacing(first: u8, then: Option<u8>) -> MongoStub {
    let (mut is_asked, mut is_written) = (false, false);
    MongoStub::start(move |command| match name(command) {
        "listCollections" if command.contains_key("nameOnly") => nothing(),
        "listCollections" => {
            is_asked = true;
            let now = if is_written { then } else { Some(first) };
            let Some(uuid) = now else { return nothing() };
            let uuid = Binary { subtype: BinarySubtype::Uuid, bytes: vec![uuid; 16] };
            let found = doc! {"name": "c", "type": "collection", "info": {"readOnly": false, "uuid": uuid}};
            Answer::Reply(doc! {"cursor": {"firstBatch": [found], "id": 0_i64, "ns": "d.$cmd.listCollections"}, "ok": 1.0})
        }
        "insert" if !is_asked => failed(262),
        "insert" => {
            is_written = true;
            all_well(command)
        }
        "find" => nothing(),
        _ => Answer::Reply(doc! {"n": 0, "ok": 1.0}),
    })
}

#[test]
fn a_collection_that_is_dropped_or_created_again_in_mid_run_ends_the_run() {
    let ids = [7, 8].map(|byte| format!("{byte:02x}").repeat(16));
    let hint = "hint: load them again with --from-beginning, or start again without it, to go on without them\n";
    let gone = format!(
        "error: collection `d.c` of `mongodb` was deleted during the run: the documents that were stored in it are gone\n\
         \x20 id at the start: {}, not listed now\n{hint}",
        ids[0]
    );
    let again = format!(
        "error: collection `d.c` of `mongodb` was deleted and created again during the run: the documents that were stored in it \
         before are gone\n  id at the start: {}\n  id now:          {}\n{hint}",
        ids[0], ids[1]
    );
    fails(&replacing(7, None).uri(), "", 5, &gone);
    fails(&replacing(7, Some(8)).uri(), "", 5, &again);
}

#[test]
fn ids_that_can_repeat_are_not_inserted() {
    let stub = peer(all_well);
    let error = "error: ids that can repeat cannot be inserted\nhint: use --write replace or --write update\n";
    fails(&stub.uri(), "--id key --write insert", 2, error);
    assert!(stub.received().is_empty(), "{:?}", stub.received());
}
