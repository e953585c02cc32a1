//! Whether an index is still the one that was written to: its name comes again, its uuid does not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::connectors::elastic::client::{Reply, Request};
use crate::connectors::elastic::names::in_path;
use crate::connectors::elastic::reason::kind;
use crate::connectors::elastic::target::ElasticTarget;
use crate::document::Presence;

/// Indices by name, each with its uuid.
type Uuids = BTreeMap<String, String>;

/// The index, alias or data stream of a run, if its name does not depend on records.
pub struct IndexIdentity {
    target: Arc<ElasticTarget>,
    name: String,
    /// What the name referred to when it was looked at last.
    seen: Mutex<Option<Uuids>>,
}

impl IndexIdentity {
    pub(super) fn of(target: &Arc<ElasticTarget>) -> Option<Self> {
        let name = target.index()?.to_owned();
        Some(Self { target: Arc::clone(target), name, seen: Mutex::default() })
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks once what the name refers to now.
    pub async fn look(&self) -> Presence {
        let path = format!("/{}/_settings/index.uuid", in_path(&self.name));
        let Ok(reply) = self.target.client.call(Request::get(&path)).await else { return Presence::Unknown };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        judge(&self.name, self.target.options.data_stream, &mut seen, &reply)
    }
}

/// Compares an answer with what was seen, and notes what the name refers to.
fn judge(name: &str, is_stream: bool, seen: &mut Option<Uuids>, reply: &Reply) -> Presence {
    let answer = reply.json();
    if reply.status == 404 && kind(answer.get("error").unwrap_or(&Value::Null)) == "index_not_found_exception" {
        return match seen {
            Some(before) => Presence::Deleted { id: shown(before) },
            None => Presence::NotYet,
        };
    }
    if matches!(reply.status, 401 | 403) {
        return Presence::Unwatchable;
    }
    let Some(now) = uuids(&answer).filter(|_| reply.is_success()) else { return Presence::Unknown };
    if let Some(before) = seen
        && is_replaced(name, is_stream, before, &now)
    {
        return Presence::Replaced { old: shown(before), new: shown(&now) };
    }
    *seen = Some(now);
    Presence::Same
}

/// Returns whether documents are gone with what the name referred to. An alias may be moved to another index, and gains one with a
/// rollover, as a data stream does; old ones of them may be deleted.
fn is_replaced(name: &str, is_stream: bool, before: &Uuids, now: &Uuids) -> bool {
    let is_other = |(index, uuid): (&String, &String)| before.get(index).is_some_and(|known| known != uuid);
    let has_changed_kind = before.contains_key(name) != now.contains_key(name);
    let keeps_none = !now.keys().any(|index| before.contains_key(index));
    now.iter().any(is_other) || has_changed_kind || (is_stream && keeps_none)
}

/// Parses an answer to `GET /name/_settings/index.uuid`.
fn uuids(answer: &Value) -> Option<Uuids> {
    let uuid = |(index, settings): (&String, &Value)| {
        let uuid = settings.pointer("/settings/index/uuid")?.as_str()?;
        Some((index.clone(), uuid.to_owned()))
    };
    answer.as_object().filter(|indices| !indices.is_empty())?.iter().map(uuid).collect()
}

/// Returns the uuids, for a message.
fn shown(indices: &Uuids) -> String {
    indices.iter().map(|(index, uuid)| format!("{uuid} ({index})")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;

    fn settings(indices: &[(&str, &str)]) -> (u16, Value) {
        let of = |(index, uuid): &(&str, &str)| ((*index).to_owned(), json!({"settings": {"index": {"uuid": uuid}}}));
        (200, Value::Object(indices.iter().map(of).collect()))
    }

    fn missing() -> (u16, Value) {
        (404, json!({"error": {"type": "index_not_found_exception", "reason": "no such index [i]"}, "status": 404}))
    }

    /// Returns what looks with these answers find: same, not yet, unknown, unwatchable, deleted, replaced.
    fn found(is_stream: bool, answers: &[(u16, Value)]) -> String {
        let mut seen = None;
        let look = |(status, answer): &(u16, Value)| {
            let reply = Reply { status: *status, body: Bytes::from(answer.to_string()), is_elastic: true };
            match judge("i", is_stream, &mut seen, &reply) {
                Presence::Same => 's',
                Presence::NotYet => 'n',
                Presence::Unknown => '?',
                Presence::Unwatchable => 'x',
                Presence::Deleted { .. } => 'D',
                Presence::Replaced { .. } => 'R',
            }
        };
        answers.iter().map(look).collect()
    }

    #[test]
    fn an_index_that_is_deleted_or_created_again_is_found_by_its_uuid() {
        let (one, two) = (settings(&[("i", "1")]), settings(&[("i", "2")]));
        assert_eq!(found(false, &[missing(), one.clone(), one.clone(), two.clone(), two, one.clone()]), "nssRRs");
        assert_eq!(found(false, &[one.clone(), missing(), one.clone()]), "sDs");
        assert_eq!(found(false, &[one.clone(), settings(&[("other", "3")])]), "sR", "the name is an alias now");
        let silent = [(503, json!({"error": {"type": "master_not_discovered_exception"}})), (404, json!("")), (200, json!({}))];
        assert_eq!(found(false, &[&[one][..], &silent].concat()), "s???");
        assert_eq!(found(false, &[(200, json!({"items": [], "errors": true}))]), "?");
        assert_eq!(found(false, &[(403, json!({"error": {"type": "security_exception"}}))]), "x");
        let Presence::Replaced { old, new } = judge(
            "i",
            false,
            &mut Some(Uuids::from([("i".to_owned(), "1".to_owned())])),
            &Reply { status: 200, body: Bytes::from(settings(&[("i", "2")]).1.to_string()), is_elastic: true },
        ) else {
            panic!("it is another one")
        };
        assert_eq!((old.as_str(), new.as_str()), ("1 (i)", "2 (i)"));
    }

    #[test]
    fn an_alias_that_moves_and_a_rollover_are_not_refused() {
        let first = settings(&[("i-1", "1")]);
        let rolled = settings(&[("i-1", "1"), ("i-2", "2")]);
        let later = settings(&[("i-2", "2"), ("i-3", "3")]);
        for is_stream in [false, true] {
            assert_eq!(found(is_stream, &[first.clone(), rolled.clone(), later.clone()]), "sss");
            let again = settings(&[("i-2", "2"), ("i-3", "4")]);
            assert_eq!(found(is_stream, &[later.clone(), again]), "sR", "one was created again");
        }
        assert_eq!(found(false, &[first.clone(), settings(&[("j-1", "9")])]), "ss", "moved to another index");
        assert_eq!(found(true, &[first.clone(), settings(&[("i-9", "9")])]), "sR", "a data stream keeps its newest index");
        assert_eq!(found(false, &[first.clone(), settings(&[("i", "9")])]), "sR", "the server made an index of the name");
        assert_eq!(found(false, &[first, missing()]), "sD");
    }
}
