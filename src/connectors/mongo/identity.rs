//! Whether a collection is still the one that was written to: its name comes again, its UUID does not.

use std::sync::{Arc, Mutex, PoisonError};

use mongodb::bson::{Bson as Value, Document};

use crate::connectors::mongo::client::listed;
use crate::connectors::mongo::command_error::CommandError;
use crate::connectors::mongo::target::MongoTarget;
use crate::document::Presence;

/// The code of a missing right.
const UNAUTHORIZED: i32 = 13;

/// The collection of a run, if its name does not depend on records.
pub struct CollectionIdentity {
    target: Arc<MongoTarget>,
    database: String,
    collection: String,
    /// Its UUID, once it was seen.
    seen: Mutex<Option<String>>,
}

impl CollectionIdentity {
    pub(super) fn of(target: &Arc<MongoTarget>) -> Option<Self> {
        let [database, collection] = target.mapper.templates() else { unreachable!("a sink is made with two names") };
        let (database, collection) = (database.pattern().constant()?.to_owned(), collection.pattern().constant()?.to_owned());
        Some(Self { target: Arc::clone(target), database, collection, seen: Mutex::default() })
    }

    /// Returns the name of the collection, behind that of its database.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}.{}", self.database, self.collection)
    }

    /// Asks once what the name refers to now.
    pub async fn look(&self) -> Presence {
        let answer = self.target.client.list(&self.database, &self.collection, false).await;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        judge(&self.collection, &mut seen, answer)
    }
}

/// Compares an answer with what was seen, and notes the UUID of a collection that is seen first.
fn judge(collection: &str, seen: &mut Option<String>, answer: Result<Document, CommandError>) -> Presence {
    let reply = match answer {
        Ok(reply) => reply,
        Err(CommandError::Command { code: UNAUTHORIZED, .. }) => return Presence::Unwatchable,
        Err(_) => return Presence::Unknown,
    };
    let Some((found, is_complete)) = listed(&reply, collection) else { return Presence::Unknown };
    let Some(found) = found else {
        return match seen {
            _ if !is_complete => Presence::Unknown,
            Some(id) => Presence::Deleted { id: id.clone() },
            None => Presence::NotYet,
        };
    };
    let Some(id) = uuid(found) else { return Presence::Unwatchable };
    match seen {
        Some(old) if *old != id => Presence::Replaced { old: old.clone(), new: id },
        _ => {
            *seen = Some(id);
            Presence::Same
        }
    }
}

/// Returns the UUID of a collection, in hexadecimal digits.
fn uuid(found: &Document) -> Option<String> {
    match found.get_document("info").ok()?.get("uuid")? {
        Value::Binary(uuid) => {
            let digits = uuid.bytes.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]);
            Some(digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::spec::BinarySubtype;
    use mongodb::bson::{Binary, doc};

    use super::*;

    fn listing(name: &str, uuid: u8) -> Document {
        doc! {"name": name, "type": "collection", "info": {"uuid": Binary { subtype: BinarySubtype::Uuid, bytes: vec![uuid; 16] }}}
    }

    fn answer(listed: Vec<Document>, cursor: i64) -> Document {
        doc! {"cursor": {"firstBatch": listed, "id": cursor, "ns": "d.$cmd.listCollections"}, "ok": 1.0}
    }

    #[test]
    fn a_collection_that_is_dropped_or_created_again_is_found_by_its_uuid() {
        let found = |answers: Vec<Result<Document, CommandError>>| {
            let mut seen = None;
            let look = |answer| match judge("c", &mut seen, answer) {
                Presence::Same => 's',
                Presence::NotYet => 'n',
                Presence::Unknown => '?',
                Presence::Unwatchable => 'x',
                Presence::Deleted { .. } => 'D',
                Presence::Replaced { .. } => 'R',
            };
            answers.into_iter().map(look).collect::<String>()
        };
        let (none, one) = (|| Ok(answer(vec![], 0)), || Ok(answer(vec![listing("b", 7), listing("c", 1)], 0)));
        assert_eq!(found(vec![none(), one(), none(), one(), Ok(answer(vec![listing("c", 2)], 0))]), "nsDsR");
        assert_eq!(found(vec![one(), Ok(answer(vec![listing("b", 7)], 40)), Err(CommandError::TimedOut)]), "s??");
        assert_eq!(found(vec![one(), Ok(doc! {"n": 1, "ok": 1.0})]), "s?", "not an answer to the question");
        assert_eq!(found(vec![Ok(answer(vec![doc! {"name": "c"}], 0))]), "x", "a server without UUIDs");
        let denied =
            CommandError::Command { code: UNAUTHORIZED, name: String::new(), message: String::new(), is_transient: false };
        assert_eq!(found(vec![Err(denied)]), "x");
        let mut seen = Some("00".to_owned());
        let replaced = judge("c", &mut seen, Ok(answer(vec![listing("c", 1)], 0)));
        assert_eq!(replaced, Presence::Replaced { old: "00".to_owned(), new: "01".repeat(16) });
    }
}
