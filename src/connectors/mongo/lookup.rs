//! Looks up stored documents by id.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use mongodb::bson::{Bson as Value, Document as Stored, RawDocumentBuf};
use tokio::sync::Mutex;

use crate::connectors::mongo::bson::Bson;
use crate::connectors::mongo::command::WriteKind;
use crate::connectors::mongo::command_error::CommandError;
use crate::connectors::mongo::document::IdKey;
use crate::connectors::mongo::target::{MongoTarget, Write};
use crate::connectors::mongo::{document, response};
use crate::document::{
    Contradiction, Disagreements, Document, DocumentBatch, FirstLook, Ids, MetaNames, Owner, StoredMetadata, deciding_fields,
    of_failed_lookup, overtaken, version_field,
};
use crate::pipeline::Outcome;

/// How many records of a partition are looked up before one is written: the ids of the first may be free because they were bad records.
const FIRST_LOOK_SIZE: usize = 4;
/// How many ids are looked up at once.
const LOOKUP_SIZE: usize = 500;

/// A document whose id is taken, or that was not there to delete.
pub(super) struct DuplicateId {
    /// The place of its record in the batch.
    pub(super) place: usize,
    /// The unique index, if the server names it.
    pub(super) index: Option<String>,
}

pub(super) struct MongoLookup {
    target: Arc<MongoTarget>,
    first_look: Mutex<FirstLook>,
    disagreements: std::sync::Mutex<Disagreements>,
}

impl MongoLookup {
    pub(super) fn new(target: Arc<MongoTarget>) -> Self {
        Self { target, first_look: Mutex::default(), disagreements: std::sync::Mutex::default() }
    }

    /// Returns the outcomes of records whose documents have ids that are taken, each with its place.
    pub(super) async fn resolve(
        &self,
        batch: &DocumentBatch<'_>,
        [database, collection]: [&str; 2],
        kind: WriteKind,
        conflicts: Vec<DuplicateId>,
        now: i64,
    ) -> Vec<(usize, Outcome)> {
        let mut outcomes = Vec::with_capacity(conflicts.len());
        for conflicts in conflicts.chunks(LOOKUP_SIZE) {
            let document = |conflict: &DuplicateId| batch.get(conflict.place).expect("only good documents are sent");
            let wanted = conflicts.iter().map(document).collect();
            let found = self.find(database, collection, wanted, true).await;
            outcomes.extend(conflicts.iter().map(|conflict| {
                let document = document(conflict);
                let outcome = match found.as_ref().map(|found| found.get(&IdKey::of(&document))) {
                    Err(error) => lookup_failed(error),
                    Ok(Some(stored)) => match self.judge(&document, stored, now) {
                        Outcome::Retry(_) => match self.disagree(&document, Contradiction::Older) {
                            // A server that names no index: another one than that of the id rejects the newer document.
                            Outcome::Stop(_) if conflict.index.is_none() && kind != WriteKind::Delete => {
                                Outcome::Reject(response::duplicate(None))
                            }
                            outcome => outcome,
                        },
                        outcome => outcome,
                    },
                    Ok(None) if kind == WriteKind::Delete => Outcome::Delivered,
                    // The server named the id, which was free a moment later.
                    Ok(None) if conflict.index.is_some() => self.disagree(&document, Contradiction::Nothing),
                    Ok(None) => Outcome::Reject(response::duplicate(None)),
                };
                if !matches!(outcome, Outcome::Retry(_)) {
                    self.disagreements.lock().unwrap_or_else(PoisonError::into_inner).forget(document.record);
                }
                (conflict.place, outcome)
            }));
        }
        outcomes
    }

    /// Returns the outcome of a document whose look-up contradicts its write: it is sent again, but not for ever.
    fn disagree(&self, document: &Document<'_>, contradiction: Contradiction) -> Outcome {
        let mut disagreements = self.disagreements.lock().unwrap_or_else(PoisonError::into_inner);
        let refusal = disagreements.note(document.record, contradiction, Duration::ZERO, Instant::now());
        refusal.map_or_else(|| Outcome::Retry(overtaken()), Outcome::Stop)
    }

    /// Looks up the first ids of each new partition before anything of it is written. Returns the outcome of the whole batch if one
    /// of them belongs to another record, or if that could not be found out.
    pub(super) async fn first_look(&self, batch: &DocumentBatch<'_>, now: i64) -> Option<Outcome> {
        if !matches!(self.target.mapper.ids(), Ids::Offset { .. }) {
            return None;
        }
        // Other batches wait here: they may hold records of the same partitions.
        let mut first_look = self.first_look.lock().await;
        let unchecked = first_look.unchecked(batch, FIRST_LOOK_SIZE);
        let mut ours = Vec::new();
        for document in &unchecked {
            let [database, collection] = document.names;
            // One by one: some servers read a whole collection for a list of ids.
            let found = match self.find(database, collection, vec![*document], false).await {
                Err(error) => return Some(lookup_failed(&error)),
                Ok(found) => found,
            };
            match found.get(&IdKey::of(document)).map(|stored| (stored, self.judge(document, stored, now))) {
                Some((_, stop @ Outcome::Stop(_))) => return Some(stop),
                Some((stored, Outcome::AlreadyThere)) if self.target.write == Write::Insert => {
                    ours.push((*document, self.has_payload(document, stored, now)));
                }
                _ => {}
            }
        }
        if let Some(stop) = FirstLook::judge_payloads(&ours, self.target.mapper.meta().names()) {
            return Some(stop);
        }
        first_look.check(&unchecked);
        None
    }

    /// Returns the outcome of `document`, whose id has the `stored` document.
    fn judge(&self, document: &Document<'_>, stored: &Stored, now: i64) -> Outcome {
        let mapper = &self.target.mapper;
        let owner = if let Some(names) = mapper.meta().names() {
            Owner::of(document, &stored_metadata(stored, names, version_field(names, mapper.version())))
        } else {
            let ours = document::bytes(mapper, document, now);
            let theirs = RawDocumentBuf::try_from(stored);
            Owner::of_unmarked(ours.is_ok_and(|ours| theirs.is_ok_and(|theirs| theirs.as_bytes() == ours)))
        };
        owner.outcome(document, mapper.meta().names(), mapper.version())
    }

    /// Returns whether the stored document has the fields of `document`, apart from the time of processing.
    fn has_payload(&self, document: &Document<'_>, stored: &Stored, now: i64) -> bool {
        let mapper = &self.target.mapper;
        let processed_at = mapper.meta().names().map(|names| names.processed_at.as_str());
        let ours = document::bytes(mapper, document, now).ok().and_then(|bytes| RawDocumentBuf::from_bytes(bytes).ok());
        let Some(ours) = ours.and_then(|ours| Stored::try_from(&ours).ok()) else { return true };
        ours.iter().all(|(name, value)| Some(name.as_str()) == processed_at || stored.get(name) == Some(value))
    }

    /// Returns the documents under the ids of `wanted`: only the fields that decide, if `only_metadata` and there are any.
    async fn find(
        &self,
        database: &str,
        collection: &str,
        wanted: Vec<Document<'_>>,
        only_metadata: bool,
    ) -> Result<HashMap<IdKey, Stored>, CommandError> {
        let mut found = HashMap::new();
        let mut missing = wanted;
        while !missing.is_empty() {
            let reply = self.target.client.write(database, self.find_command(collection, &missing, only_metadata)).await?;
            let before = found.len();
            let documents = reply.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
            let Ok(documents) = documents else {
                return Err(CommandError::Unreadable("the answer to a look-up holds no documents".to_owned()));
            };
            for document in documents.iter().filter_map(Value::as_document) {
                if let Some(id) = document.get("_id").and_then(IdKey::of_stored) {
                    found.insert(id, document.clone());
                }
            }
            if found.len() == before {
                break;
            }
            // An answer is limited in bytes: the rest is asked for again.
            missing.retain(|document| !found.contains_key(&IdKey::of(document)));
        }
        Ok(found)
    }

    fn find_command(&self, collection: &str, wanted: &[Document<'_>], only_metadata: bool) -> Vec<u8> {
        let mut out = Bson::with_capacity(4096);
        let command = out.begin();
        out.text("find", collection);
        let filter = out.begin_document("filter");
        // Some servers have no index for `$in`.
        let write_id = |out: &mut Bson, name: &str, of: &Document<'_>| {
            document::id_as(out, name, of).expect("what was written has an id that BSON holds");
        };
        if let [document] = wanted {
            write_id(&mut out, "_id", document);
        } else {
            let id = out.begin_document("_id");
            let list = out.begin_array("$in");
            wanted.iter().enumerate().for_each(|(at, document)| write_id(&mut out, &at.to_string(), document));
            out.end(list);
            out.end(id);
        }
        out.end(filter);
        if let Some(names) = self.target.mapper.meta().names().filter(|_| only_metadata) {
            let projection = out.begin_document("projection");
            for name in deciding_fields(names) {
                out.int32(name, 1);
            }
            out.end(projection);
        }
        out.int32("batchSize", i32::try_from(LOOKUP_SIZE).unwrap_or(i32::MAX));
        out.boolean("singleBatch", true);
        out.end(command);
        out.bytes
    }
}

/// Returns the outcome of records whose lookup failed.
fn lookup_failed(error: &CommandError) -> Outcome {
    of_failed_lookup(response::whole(error))
}

/// Returns the metadata of a stored document; its version is the one that `version` names.
fn stored_metadata(stored: &Stored, names: &MetaNames, version: &str) -> StoredMetadata {
    let number = |name: &str| match stored.get(name)? {
        Value::Int32(number) => Some(i64::from(*number)),
        Value::Int64(number) => Some(*number),
        #[allow(clippy::cast_possible_truncation)] // whole, and as large as doubles are exact
        Value::Double(number) if number.fract() == 0.0 && number.abs() < 9e15 => Some(*number as i64),
        _ => None,
    };
    StoredMetadata {
        topic: stored.get_str(&names.topic).ok().map(str::to_owned),
        partition: number(&names.partition),
        offset: number(&names.offset),
        timestamp: number(&names.timestamp),
        version: number(version),
    }
}
