//! What a server's error codes mean for records. Pure.
//!
//! An error of one document is that document's own. A command that fails whole says nothing of any one document: if some
//! document in it can be to blame, the batch is suspect, and halved down to it.

use mongodb::bson::{Bson, Document};

use crate::connectors::mongo::diagnosis;
use crate::pipeline::{Outcome, Reason};

/// What a server, or what is in between, said of a command that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CommandError {
    /// The server refused the command.
    Command {
        /// The code; 0 without one.
        code: i32,
        /// Its name, where the server gives one.
        name: String,
        /// What it says.
        message: String,
        /// Whether it says that another try may go well.
        passes: bool,
    },
    /// The connection ended in the middle of the command: it may have been carried out, or not.
    Closed(String),
    /// No answer came in time: it may have been carried out, or may still be.
    Late,
    /// The command was not sent: no server was there for it.
    Unreachable(String),
    /// The server did not let us in.
    Login(String),
}

/// What the error of one document means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WriteErrorVerdict {
    /// The outcome.
    Is(Outcome),
    /// Its id, or a field of another unique index, is taken; which of them, only a look tells.
    Taken {
        /// The unique index, if the server named it.
        index: Option<String>,
    },
    /// Nobody knows this code: it is tried again, but not for ever.
    Unknown(Reason),
}

/// What the failure of a whole command means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CommandVerdict {
    /// The outcome, of every document.
    Is(Outcome),
    /// A document may be to blame, or an outage: it is to be found out.
    Doubtful(Reason),
}

/// An outage, an election, a full disk, or too much to do: another try will go well.
const PASSING: [i32; 26] = [
    6, 7, 24, 46, 50, 63, 64, 89, 91, 112, 133, 134, 150, 189, 202, 262, 365, 462, 9001, 10058, 10107, 11600, 11602, 13388,
    13435, 13436,
];
/// No space is left on the server's disk.
const DISK_FULL: i32 = 14031;

/// The server does not take a document like that.
const BAD: [i32; 22] = [2, 9, 14, 15, 16, 22, 28, 40, 52, 53, 54, 55, 56, 57, 66, 121, 171, 10334, 16755, 17280, 17419, 17420];

/// A person has to change something at the server, or in the command line.
const STOPPING: [i32; 11] = [13, 18, 20, 59, 72, 79, 100, 115, 166, 238, 323];

/// A name that the server does not take, or takes for another that differs in case alone: whoever made the name is at fault.
const BAD_NAME: [i32; 2] = [73, 13297];
/// The server failed, and does not say at what.
const INTERNAL: i32 = 1;
/// A unique index has the value already.
const TAKEN: [i32; 3] = [11000, 11001, 12582];

fn is_passing(code: i32) -> bool {
    code == DISK_FULL || PASSING.contains(&code)
}

/// Returns what an element of `writeErrors` means.
pub(super) fn item(error: &Document) -> WriteErrorVerdict {
    let code = number(error, "code");
    let message = error.get_str("errmsg").unwrap_or_default();
    if TAKEN.contains(&code) {
        return WriteErrorVerdict::Taken { index: index(error, message) };
    }
    let said = said(code, error.get_str("codeName").unwrap_or_default(), message);
    WriteErrorVerdict::Is(match code {
        121 => Outcome::Reject(validator(error)),
        code if BAD_NAME.contains(&code) => Outcome::Reject(said),
        code if BAD.contains(&code) => Outcome::Reject(said),
        code if STOPPING.contains(&code) => Outcome::Stop(stop(code, said)),
        code if is_passing(code) || passes(error) => Outcome::Retry(said),
        _ => return WriteErrorVerdict::Unknown(said),
    })
}

/// Returns whether it was the name of the database or collection that the server did not take.
pub(super) fn is_of_name(reason: &Reason) -> bool {
    BAD_NAME.iter().any(|code| reason.code() == format!("mongodb_{code}"))
}

/// Returns what it means that a command failed whole.
pub(super) fn whole(failure: &CommandError) -> CommandVerdict {
    CommandVerdict::Is(match failure {
        CommandError::Command { code, name, message, passes } => {
            let reason = said(*code, name, message);
            match *code {
                _ if *passes => Outcome::Retry(reason),
                INTERNAL => return CommandVerdict::Doubtful(reason),
                code if BAD_NAME.contains(&code) => Outcome::Reject(reason),
                code if STOPPING.contains(&code) => Outcome::Stop(stop(code, reason)),
                code if BAD.contains(&code) => Outcome::BatchRejected(reason),
                _ => Outcome::Retry(reason),
            }
        }
        CommandError::Closed(why) => {
            return CommandVerdict::Doubtful(Reason::new(
                "connection_closed",
                format!("the server closed the connection: {why}"),
            ));
        }
        CommandError::Late => Outcome::Retry(Reason::new("no_answer", "the server does not answer")),
        CommandError::Unreachable(why) => {
            let what = format!("the server cannot be reached: {}", diagnosis::innermost(why));
            Outcome::Retry(Reason::new("unreachable", what))
        }
        CommandError::Login(why) => Outcome::Stop(stop(18, Reason::new("mongodb_18", why.clone()))),
    })
}

/// Returns what a `writeConcernError` means for the documents that were written; none of them is durable.
pub(super) fn concern(error: &Document) -> Outcome {
    let code = number(error, "code");
    let message = error.get_str("errmsg").unwrap_or_default();
    let reason = said(code, error.get_str("codeName").unwrap_or_default(), message);
    match code {
        79 | 100 => Outcome::Stop(stop(code, reason)),
        _ => Outcome::Retry(reason),
    }
}

/// Returns the whole number called `name`; 0 without one.
pub(super) fn number(document: &Document, name: &str) -> i32 {
    match document.get(name) {
        Some(Bson::Int32(number)) => *number,
        Some(Bson::Int64(number)) => i32::try_from(*number).unwrap_or(0),
        #[allow(clippy::cast_possible_truncation)] // a code, or a place in a batch
        Some(Bson::Double(number)) => *number as i32,
        _ => 0,
    }
}

/// Returns the errors of a reply by the place of their documents, of which there are `count`; nothing if the server blames a
/// document that is none of them, or one twice: it does then not say what became of each.
pub(super) fn by_place(reply: &Document, count: usize) -> Option<Vec<Option<&Document>>> {
    let mut errors = vec![None; count];
    for error in reply.get_array("writeErrors").map(Vec::as_slice).unwrap_or_default() {
        let error = error.as_document()?;
        let place = error.contains_key("index").then(|| number(error, "index"))?;
        let slot = errors.get_mut(usize::try_from(place).ok()?)?;
        if slot.replace(error).is_some() {
            return None;
        }
    }
    Some(errors)
}

/// Returns whether the server says that another try may go well.
pub(super) fn passes(error: &Document) -> bool {
    let labels = error.get_array("errorLabels");
    labels.is_ok_and(|labels| labels.iter().any(|label| label.as_str() == Some("RetryableWriteError")))
}

fn said(code: i32, name: &str, message: &str) -> Reason {
    let what = match (name, without_values(message)) {
        ("", "") => format!("the server's error {code}"),
        ("", message) => message.to_owned(),
        (name, "") => name.to_owned(),
        (name, message) => format!("{name}: {message}"),
    };
    let quotes = if what.ends_with(message) { "" } else { message };
    Reason::new(format!("mongodb_{code}"), what).detail(quotes)
}

/// Returns a server's message up to where it quotes a document: such quotes belong in no log.
fn without_values(message: &str) -> &str {
    let end = message.find(['{', '\n']).unwrap_or(message.len());
    let end = message.char_indices().nth(300).map_or(end, |(at, _)| at.min(end));
    message[..end].trim_end_matches([' ', ':', ',', '('])
}

/// Returns the unique index that a duplicate is about.
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

/// Returns that a validator rejected the document, and at which field, where the server tells.
fn validator(error: &Document) -> Reason {
    let mut reason = Reason::new("mongodb_121", "the validator of the collection rejects the document");
    let details = error.get_document("errInfo").and_then(|info| info.get_document("details"));
    if let Ok(details) = details {
        reason = reason.detail(details.to_string());
    }
    let mut path = Vec::new();
    if let Ok(details) = details {
        blamed(details, &mut path);
    }
    if !path.is_empty() {
        reason = reason.at(path.join("."));
    }
    reason
}

/// Follows the first rule that was not satisfied, down to its field.
fn blamed(details: &Document, path: &mut Vec<String>) {
    if let Ok(Some(name)) = details.get_array("missingProperties").map(|names| names.first().and_then(Bson::as_str)) {
        return path.push(name.to_owned());
    }
    if let Ok(name) = details.get_str("propertyName") {
        path.push(name.to_owned());
    }
    let inner = ["schemaRulesNotSatisfied", "propertiesNotSatisfied", "details"];
    let next = inner.iter().find_map(|name| details.get_array(name).ok()?.first()?.as_document());
    if let Some(next) = next {
        blamed(next, path);
    }
}

fn stop(code: i32, reason: Reason) -> Reason {
    reason.hint(match code {
        13 => "grant the user `readWrite` on the database",
        18 => "correct `username`, `password` or `auth_database` in the profile",
        79 | 100 => "writes are acknowledged by a majority of the replica set: see rs.status() and rs.conf()",
        166 => "name a collection that is no view with --collection",
        _ => "see the server's log; the section of the profile may name another kind of server",
    })
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;

    fn word(outcome: &Outcome) -> &'static str {
        match outcome {
            Outcome::Delivered => "delivered",
            Outcome::AlreadyThere => "there",
            Outcome::Superseded => "superseded",
            Outcome::Retry(_) => "retry",
            Outcome::Unclear(_) => "unclear",
            Outcome::Reject(_) => "bad",
            Outcome::BatchRejected(_) => "suspect",
            Outcome::Stop(_) => "stop",
        }
    }

    fn of_item(code: i32) -> &'static str {
        match item(&doc! {"index": 0, "code": code, "errmsg": "no"}) {
            WriteErrorVerdict::Is(outcome) => word(&outcome),
            WriteErrorVerdict::Taken { .. } => "taken",
            WriteErrorVerdict::Unknown(_) => "unknown",
        }
    }

    fn of_whole(code: i32, passes: bool) -> &'static str {
        let said = CommandError::Command { code, name: "Name".to_owned(), message: "no".to_owned(), passes };
        match whole(&said) {
            CommandVerdict::Is(outcome) => word(&outcome),
            CommandVerdict::Doubtful(_) => "doubtful",
        }
    }

    #[test]
    fn the_error_of_a_document_is_its_own() {
        for (codes, verdict) in [
            (&[6, 7, 89, 91, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436, 64][..], "retry"),
            (&[121, 2, 9, 14, 52, 10334, 17280, 73, 13297], "bad"),
            (&[13, 18, 79, 100], "stop"),
            (&[11000, 11001], "taken"),
            (&[0, 1, 8000, 424_242], "unknown"),
        ] {
            for code in codes {
                assert_eq!(of_item(*code), verdict, "{code}");
            }
        }
        let labelled = doc! {"code": 424_242, "errorLabels": ["RetryableWriteError"]};
        assert!(matches!(item(&labelled), WriteErrorVerdict::Is(Outcome::Retry(_))));
    }

    #[test]
    fn a_command_that_fails_whole_is_halved_only_if_a_document_can_be_to_blame() {
        for (codes, verdict) in [
            (&[6, 7, 89, 91, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436, 0, 424_242][..], "retry"),
            (&[2, 9, 14, 22, 10334, 17280], "suspect"),
            (&[1], "doubtful"),
            (&[13, 18, 59, 166], "stop"),
            (&[73, 13297], "bad"),
        ] {
            for code in codes {
                assert_eq!(of_whole(*code, false), verdict, "{code}");
                assert_eq!(of_whole(*code, true), "retry", "{code} with its label");
            }
        }
        assert!(matches!(whole(&CommandError::Closed("eof".to_owned())), CommandVerdict::Doubtful(_)));
        assert!(matches!(whole(&CommandError::Late), CommandVerdict::Is(Outcome::Retry(_))));
        assert!(matches!(whole(&CommandError::Unreachable("gone".to_owned())), CommandVerdict::Is(Outcome::Retry(_))));
        assert!(matches!(whole(&CommandError::Login("no".to_owned())), CommandVerdict::Is(Outcome::Stop(_))));
    }

    #[test]
    fn no_code_is_in_two_lists() {
        let lists = [&PASSING[..], &BAD, &STOPPING, &TAKEN, &BAD_NAME, &[DISK_FULL, INTERNAL]];
        let mut all: Vec<i32> = lists.concat();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn what_a_majority_does_not_acknowledge_is_written_again_or_stops_the_run() {
        assert_eq!(word(&concern(&doc! {"code": 64, "errmsg": "waiting for replication timed out"})), "retry");
        assert_eq!(word(&concern(&doc! {"code": 91, "errmsg": "shutting down"})), "retry");
        assert_eq!(word(&concern(&doc! {"code": 79, "errmsg": "unknown"})), "stop");
        assert_eq!(word(&concern(&doc! {"code": 100, "errmsg": "not enough members"})), "stop");
    }

    #[test]
    fn errors_that_blame_nobody_or_one_document_twice_say_nothing() {
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
            WriteErrorVerdict::Taken { index } => index,
            other => panic!("{other:?}"),
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
        let WriteErrorVerdict::Is(Outcome::Reject(reason)) = item(&error) else { panic!("a rejected document is bad") };
        assert_eq!(reason.path(), Some("buyer.id"));
        let WriteErrorVerdict::Is(Outcome::Reject(reason)) = item(&doc! {"code": 121}) else {
            panic!("a rejected document is bad")
        };
        assert_eq!((reason.code(), reason.path()), ("mongodb_121", None));
    }

    #[test]
    fn what_a_server_quotes_of_a_document_is_left_out() {
        let reason = said(2, "BadValue", "cannot use this: { card: \"4111\" }");
        assert_eq!(reason.message(), "BadValue: cannot use this");
        assert_eq!(reason.detailed(), Some("cannot use this: { card: \"4111\" }"), "a dead letter tells it");
        assert_eq!(said(2, "BadValue", "no").detailed(), None, "nothing is said twice");
        assert_eq!(said(2, "", &"é".repeat(1000)).message().chars().count(), 300);
        assert_eq!(said(2, "", "{ card: 1 }").message(), "the server's error 2");
    }
}
