//! From the errors of a server to outcomes. Pure.
//!
//! A write error belongs to one document. A command error names no document: if a document can be the cause, the batch is rejected
//! and bisected.

use mongodb::bson::{Bson, Document};

use crate::connectors::mongo::command_error::{CommandError, innermost};
use crate::pipeline::{Outcome, Reason};

/// The verdict on the error of one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WriteErrorVerdict {
    Outcome(Outcome),
    /// Its id, or a field of another unique index, is taken.
    DuplicateKey {
        /// The unique index, if the server names it.
        index: Option<String>,
    },
}

/// An outage, an election, or an overload: another attempt will succeed.
const TRANSIENT: [i32; 27] = [
    6, 7, 24, 46, 50, 63, 64, 89, 91, 112, 133, 134, 150, 189, 202, 262, 365, 462, 9001, 10058, 10107, 11600, 11602, 13388,
    13435, 13436, THROTTLED,
];
/// Lookalikes limit the rate of writes.
const THROTTLED: i32 = 16500;
const DISK_FULL: i32 = 14031;

/// The server rejects the document.
const BAD: [i32; 22] = [2, 9, 14, 15, 16, 22, 28, 40, 52, 53, 54, 55, 56, 57, 66, 121, 171, 10334, 16755, 17280, 17419, 17420];

/// A person has to change the server or the command line: no document is to blame.
const PERMANENT: [i32; 15] = [13, 18, 20, 59, 61, 72, 79, 100, 115, 166, 238, 323, 8000, 10003, 40415];

/// A name that is not valid, or differs from an existing one in case alone.
const BAD_NAME: [i32; 2] = [73, 13297];
const DUPLICATE_KEY: [i32; 3] = [11000, 11001, 12582];

fn is_transient(code: i32) -> bool {
    code == DISK_FULL || TRANSIENT.contains(&code)
}

/// Returns the verdict of an element of `writeErrors`.
pub(super) fn item(error: &Document) -> WriteErrorVerdict {
    let code = number(error, "code");
    let message = error.get_str("errmsg").unwrap_or_default();
    if DUPLICATE_KEY.contains(&code) {
        return WriteErrorVerdict::DuplicateKey { index: index(error, message) };
    }
    let reason = reason(code, error.get_str("codeName").unwrap_or_default(), message);
    WriteErrorVerdict::Outcome(match code {
        121 => Outcome::Reject(validator(error)),
        code if BAD_NAME.contains(&code) || BAD.contains(&code) => Outcome::Reject(reason),
        code if PERMANENT.contains(&code) => Outcome::Stop(with_hint(code, reason)),
        code if is_transient(code) || has_transient_label(error) => Outcome::Retry(reason),
        _ => Outcome::Unclear(reason),
    })
}

/// Returns whether the server rejects the name of the database or collection.
pub(super) fn is_bad_name(reason: &Reason) -> bool {
    BAD_NAME.iter().any(|code| reason.code() == format!("mongodb_{code}"))
}

/// Returns the outcome of each document of a command that failed as a whole.
pub(super) fn whole(error: &CommandError) -> Outcome {
    match error {
        CommandError::Command { code, name, message, is_transient: is_labelled } => {
            let reason = reason(*code, name, message);
            match *code {
                code if *is_labelled || is_transient(code) => Outcome::Retry(reason),
                code if BAD_NAME.contains(&code) => Outcome::Reject(reason),
                code if PERMANENT.contains(&code) => Outcome::Stop(with_hint(code, reason)),
                code if BAD.contains(&code) => Outcome::BatchRejected(reason),
                _ => Outcome::Unclear(reason),
            }
        }
        CommandError::Closed(why) => {
            let what = format!("the server closed the connection: {why}");
            Outcome::Unclear(Reason::new("connection_closed", what))
        }
        CommandError::TimedOut => Outcome::Unclear(Reason::new("no_answer", "the server does not answer").time_out()),
        CommandError::Unreadable(why) => Outcome::Unclear(Reason::new("unreadable_answer", why.clone())),
        CommandError::Unreachable(why) => {
            let what = format!("the server cannot be reached: {}", innermost(why));
            Outcome::Retry(Reason::new("unreachable", what))
        }
        CommandError::Login(why) => Outcome::Stop(with_hint(18, Reason::new("mongodb_18", why.clone()))),
    }
}

/// Returns the outcome of the documents of a reply with a `writeConcernError`: none of them is durable.
pub(super) fn concern(error: &Document) -> Outcome {
    let code = number(error, "code");
    let message = error.get_str("errmsg").unwrap_or_default();
    let reason = reason(code, error.get_str("codeName").unwrap_or_default(), message);
    match code {
        code if PERMANENT.contains(&code) => Outcome::Stop(with_hint(code, reason)),
        _ => Outcome::Retry(reason),
    }
}

/// Returns the whole number called `name`; 0 without one.
pub(super) fn number(document: &Document, name: &str) -> i32 {
    known_number(document, name).unwrap_or(0)
}

/// Returns the whole number called `name`, if there is one.
pub(super) fn known_number(document: &Document, name: &str) -> Option<i32> {
    match document.get(name)? {
        Bson::Int32(number) => Some(*number),
        Bson::Int64(number) => i32::try_from(*number).ok(),
        #[allow(clippy::cast_possible_truncation)] // a code, or a place in a batch
        Bson::Double(number) if number.is_finite() => Some(*number as i32),
        _ => None,
    }
}

/// Returns the errors of a reply by the places of their `count` documents; nothing if the server blames a document that was not sent, or
/// one twice.
pub(super) fn by_place(reply: &Document, count: usize) -> Option<Vec<Option<&Document>>> {
    let mut errors = vec![None; count];
    for error in reply.get_array("writeErrors").map(Vec::as_slice).unwrap_or_default() {
        let error = error.as_document()?;
        let place = known_number(error, "index")?;
        let slot = errors.get_mut(usize::try_from(place).ok()?)?;
        if slot.replace(error).is_some() {
            return None;
        }
    }
    Some(errors)
}

/// Returns the error that a server names in `document`.
pub(super) fn error_named_in(document: &Document) -> CommandError {
    CommandError::Command {
        code: number(document, "code"),
        name: document.get_str("codeName").unwrap_or_default().to_owned(),
        message: document.get_str("errmsg").unwrap_or_default().to_owned(),
        is_transient: has_transient_label(document),
    }
}

/// Returns whether the server labels the error as transient.
pub(super) fn has_transient_label(error: &Document) -> bool {
    let labels = error.get_array("errorLabels");
    labels.is_ok_and(|labels| labels.iter().any(|label| label.as_str() == Some("RetryableWriteError")))
}

fn reason(code: i32, name: &str, message: &str) -> Reason {
    let what = match (name, without_values(message)) {
        ("", "") => format!("error {code} of the server"),
        ("", message) => message.to_owned(),
        (name, "") => name.to_owned(),
        (name, message) => format!("{name}: {message}"),
    };
    let detail = if what.ends_with(message) { "" } else { message };
    let reason = Reason::new(format!("mongodb_{code}"), what).detail(detail);
    if code == THROTTLED { reason.overload() } else { reason }
}

/// Returns the message of a server up to where it quotes a document, which belongs in no log.
fn without_values(message: &str) -> &str {
    let end = message.find(['{', '\n']).unwrap_or(message.len());
    let end = message.char_indices().nth(300).map_or(end, |(at, _)| at.min(end));
    message[..end].trim_end_matches([' ', ':', ',', '('])
}

/// Returns the unique index of a duplicate key.
fn index(error: &Document, message: &str) -> Option<String> {
    if let Ok(pattern) = error.get_document("keyPattern") {
        let fields: Vec<_> = pattern.keys().map(String::as_str).collect();
        return Some(fields.join(", "));
    }
    let (_, rest) = message.split_once("index: ")?;
    let name = rest.split([' ', '{']).next()?;
    // Old servers put the namespace in front: `db.collection.$email_1`.
    let name = name.rsplit_once(".$").map_or(name, |(_, name)| name);
    Some(if name == "_id_" { "_id".to_owned() } else { name.to_owned() })
}

/// Returns the reason of a document that a validator rejects, with its field if the server tells.
fn validator(error: &Document) -> Reason {
    let mut reason = Reason::new("mongodb_121", "the validator of the collection rejects the document");
    let details = error.get_document("errInfo").and_then(|info| info.get_document("details"));
    if let Ok(details) = details {
        reason = reason.detail(details.to_string());
    }
    let mut path = Vec::new();
    if let Ok(details) = details {
        invalid_field(details, &mut path);
    }
    if !path.is_empty() {
        reason = reason.at(path.join("."));
    }
    reason
}

/// Follows the first rule that is not satisfied, down to its field.
fn invalid_field(details: &Document, path: &mut Vec<String>) {
    if let Ok(Some(name)) = details.get_array("missingProperties").map(|names| names.first().and_then(Bson::as_str)) {
        return path.push(name.to_owned());
    }
    if let Ok(name) = details.get_str("propertyName") {
        path.push(name.to_owned());
    }
    let inner = ["schemaRulesNotSatisfied", "propertiesNotSatisfied", "details"];
    let next = inner.iter().find_map(|name| details.get_array(name).ok()?.first()?.as_document());
    if let Some(next) = next {
        invalid_field(next, path);
    }
}

/// Returns the reason of a document with a value that a unique index has already.
pub(super) fn duplicate(index: Option<&str>) -> Reason {
    match index {
        Some(index) => Reason::new("mongodb_11000", format!("the unique index of `{index}` has the value already")).at(index),
        None => Reason::new("mongodb_11000", "a unique index of the collection has the value already"),
    }
}

fn with_hint(code: i32, reason: Reason) -> Reason {
    reason.hint(match code {
        13 => "grant the user `readWrite` on the database",
        18 => "correct `username`, `password` or `auth_database` in the profile",
        79 | 100 => "writes are acknowledged by a majority of the replica set: see rs.status() and rs.conf()",
        166 => "write to a collection that is not a view",
        61 => "the collection is sharded: name its shard key in the id, or write to a collection that is not",
        8000 => "see the quota and the rights of the user in Atlas",
        10003 => "the collection is capped: insert only, or write to a collection that is not capped",
        _ => "see the server's log; the section of the profile may name another kind of server",
    })
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;
    use proptest::prelude::*;

    use super::*;

    fn word(outcome: &Outcome) -> &'static str {
        match outcome {
            Outcome::Delivered => "delivered",
            Outcome::AlreadyThere => "there",
            Outcome::Superseded => "superseded",
            Outcome::Retry(_) => "retry",
            Outcome::Unclear(_) => "unclear",
            Outcome::Reject(_) => "bad",
            Outcome::BatchRejected(_) => "batch rejected",
            Outcome::Stop(_) => "stop",
        }
    }

    fn of_item(code: i32) -> &'static str {
        match item(&doc! {"index": 0, "code": code, "errmsg": "no"}) {
            WriteErrorVerdict::Outcome(outcome) => word(&outcome),
            WriteErrorVerdict::DuplicateKey { .. } => "taken",
        }
    }

    fn of_whole(code: i32, is_transient: bool) -> &'static str {
        word(&whole(&CommandError::Command { code, name: "Name".to_owned(), message: "no".to_owned(), is_transient }))
    }

    #[test]
    fn the_code_of_a_write_error_determines_the_outcome() {
        for (codes, verdict) in [
            (&[6, 7, 89, 91, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436, 64, 16500][..], "retry"),
            (&[121, 2, 9, 14, 52, 10334, 17280, 73, 13297], "bad"),
            (&[13, 18, 61, 79, 100, 8000, 10003, 40415], "stop"),
            (&[11000, 11001], "taken"),
            (&[0, 1, 424_242], "unclear"),
        ] {
            for code in codes {
                assert_eq!(of_item(*code), verdict, "{code}");
            }
        }
        let labelled = doc! {"code": 424_242, "errorLabels": ["RetryableWriteError"]};
        assert!(matches!(item(&labelled), WriteErrorVerdict::Outcome(Outcome::Retry(_))));
    }

    #[test]
    fn a_command_error_is_bisected_only_if_a_document_can_be_the_cause() {
        for (codes, verdict) in [
            (&[6, 7, 89, 91, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436][..], "retry"),
            (&[2, 9, 14, 22, 10334, 17280], "batch rejected"),
            (&[0, 1, 424_242], "unclear"),
            (&[13, 18, 59, 166], "stop"),
            (&[73, 13297], "bad"),
        ] {
            for code in codes {
                assert_eq!(of_whole(*code, false), verdict, "{code}");
                assert_eq!(of_whole(*code, true), "retry", "{code} with its label");
            }
        }
        assert_eq!(word(&whole(&CommandError::Closed("eof".to_owned()))), "unclear");
        assert_eq!(word(&whole(&CommandError::TimedOut)), "unclear");
        assert_eq!(word(&whole(&CommandError::Unreadable("cut".to_owned()))), "unclear");
        assert_eq!(word(&whole(&CommandError::Unreachable("gone".to_owned()))), "retry");
        assert_eq!(word(&whole(&CommandError::Login("no".to_owned()))), "stop");
    }

    #[test]
    fn no_code_is_in_two_lists() {
        let lists = [&TRANSIENT[..], &BAD, &PERMANENT, &DUPLICATE_KEY, &BAD_NAME, &[DISK_FULL]];
        let mut all: Vec<i32> = lists.concat();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn a_write_without_a_majority_is_sent_again_or_stops_the_run() {
        assert_eq!(word(&concern(&doc! {"code": 64, "errmsg": "waiting for replication timed out"})), "retry");
        assert_eq!(word(&concern(&doc! {"code": 91, "errmsg": "shutting down"})), "retry");
        assert_eq!(word(&concern(&doc! {"code": 79, "errmsg": "unknown"})), "stop");
        assert_eq!(word(&concern(&doc! {"code": 13, "errmsg": "not authorized"})), "stop");
        assert_eq!(word(&concern(&doc! {"code": 100, "errmsg": "not enough members"})), "stop");
    }

    #[test]
    fn errors_for_no_or_a_repeated_index_leave_the_outcomes_unclear() {
        let places = |errors: Vec<Document>| {
            by_place(&doc! {"writeErrors": errors}, 3).map(|errors| errors.iter().map(Option::is_some).collect::<Vec<_>>())
        };
        assert_eq!(places(vec![]), Some(vec![false; 3]));
        assert_eq!(places(vec![doc! {"index": 2_i64}, doc! {"index": 0}]), Some(vec![true, false, true]));
        for odd in [vec![doc! {"index": 3}], vec![doc! {"index": -1}], vec![doc! {"code": 2}], vec![doc! {"index": 1}; 2]] {
            assert_eq!(places(odd), None);
        }
    }

    #[test]
    fn the_index_of_a_duplicate_is_named_by_pattern_or_text() {
        let index = |error| match item(&error) {
            WriteErrorVerdict::DuplicateKey { index } => index,
            other @ WriteErrorVerdict::Outcome(_) => panic!("{other:?}"),
        };
        assert_eq!(index(doc! {"code": 11000, "keyPattern": {"_id": 1}}), Some("_id".to_owned()));
        assert_eq!(index(doc! {"code": 11000, "keyPattern": {"a": 1, "b.c": -1}}), Some("a, b.c".to_owned()));
        let text = "E11000 duplicate key error collection: d.c index: _id_ dup key: { _id: \"index: email_1 \" }";
        assert_eq!(index(doc! {"code": 11000, "errmsg": text}), Some("_id".to_owned()));
        let text = "E11000 duplicate key error index: d.c.$email_1  dup key: { : \"x\" }";
        assert_eq!(index(doc! {"code": 11000, "errmsg": text}), Some("email_1".to_owned()));
        assert_eq!(index(doc! {"code": 11000, "errmsg": "taken"}), None);
    }

    #[test]
    fn a_validator_names_the_field_and_no_value() {
        let error = doc! {
            "code": 121, "errmsg": "Document failed validation",
            "errInfo": {"failingDocumentId": 1, "details": {"operatorName": "$jsonSchema", "schemaRulesNotSatisfied": [
                {"operatorName": "properties", "propertiesNotSatisfied": [{"propertyName": "buyer", "details": [
                    {"operatorName": "required", "missingProperties": ["id", "name"]},
                ]}]},
            ]}},
        };
        let WriteErrorVerdict::Outcome(Outcome::Reject(reason)) = item(&error) else { panic!("a rejected document is bad") };
        assert_eq!(reason.path(), Some("buyer.id"));
        let WriteErrorVerdict::Outcome(Outcome::Reject(reason)) = item(&doc! {"code": 121}) else {
            panic!("a rejected document is bad")
        };
        assert_eq!((reason.code(), reason.path()), ("mongodb_121", None));
    }

    #[test]
    fn a_reason_omits_quoted_documents() {
        let reason = super::reason(2, "BadValue", "cannot use this: { card: \"4111\" }");
        assert_eq!(reason.message(), "BadValue: cannot use this");
        assert_eq!(reason.detailed(), Some("cannot use this: { card: \"4111\" }"), "a dead letter tells it");
        assert_eq!(super::reason(2, "BadValue", "no").detailed(), None, "the detail repeats nothing");
        assert_eq!(super::reason(2, "", &"é".repeat(1000)).message().chars().count(), 300);
        assert_eq!(super::reason(2, "", "{ card: 1 }").message(), "error 2 of the server");
    }

    /// Returns values as a server that is not MongoDB, or not of its version, may send them in the fields that are read here.
    fn field() -> impl Strategy<Value = (String, Bson)> {
        let names = [
            "index",
            "code",
            "codeName",
            "errmsg",
            "errorLabels",
            "errInfo",
            "details",
            "keyPattern",
            "writeErrors",
            "propertyName",
            "missingProperties",
            "schemaRulesNotSatisfied",
            "propertiesNotSatisfied",
        ];
        let leaf = prop_oneof![
            any::<i32>().prop_map(Bson::Int32),
            any::<i64>().prop_map(Bson::Int64),
            any::<f64>().prop_map(Bson::Double),
            any::<bool>().prop_map(Bson::Boolean),
            Just(Bson::Null),
            prop::sample::select(vec![2, 11000, 121, 13, 64]).prop_map(Bson::Int32),
            "(index: )?[a-z_{.$]{0,12}\\PC{0,4}".prop_map(Bson::String),
        ];
        let value = leaf.prop_recursive(4, 40, 4, move |inner| {
            let fields = prop::collection::vec((prop::sample::select(names.to_vec()), inner.clone()), 0..5);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Bson::Array),
                fields.prop_map(|fields| Bson::Document(
                    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
                )),
            ]
        });
        (prop::sample::select(names.to_vec()).prop_map(str::to_owned), value)
    }

    proptest! {
        #[test]
        fn an_answer_of_any_form_is_judged_without_a_false_delivery(fields in prop::collection::vec(field(), 0..8), count in 0_usize..4) {
            let answer: Document = fields.into_iter().collect();
            let verdict = item(&answer);
            if let WriteErrorVerdict::Outcome(outcome) = &verdict {
                prop_assert!(!matches!(outcome, Outcome::Delivered | Outcome::AlreadyThere | Outcome::Superseded), "{outcome:?}");
            }
            prop_assert!(matches!(concern(&answer), Outcome::Stop(_) | Outcome::Retry(_)));
            if let Some(errors) = by_place(&answer, count) {
                prop_assert_eq!(errors.len(), count);
                let named = answer.get_array("writeErrors").map(Vec::len).unwrap_or_default();
                prop_assert_eq!(errors.iter().flatten().count(), named, "each error is one document's");
            }
        }
    }
}
