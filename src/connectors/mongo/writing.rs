//! A batch of records as commands, and what the answers mean for each record.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Mutex;

use mongodb::bson::{Bson as Value, Document as Reply};

use crate::connectors::mongo::MongoClient;
use crate::connectors::mongo::bson::Bson;
use crate::connectors::mongo::bulk::{Built, Bulk, Kind};
use crate::connectors::mongo::conflict;
use crate::connectors::mongo::document::{self, size};
use crate::connectors::mongo::patience::Patience;
use crate::connectors::mongo::sink::Write;
use crate::connectors::mongo::verdict::{self, Item, Said, Whole};
use crate::document::{Document, Ids, Payload, Reading, Version};
use crate::pipeline::{Outcome, Reason};
use crate::record::Record;

/// How many ids are looked up at once.
const LOOK_UP: usize = 500;

/// What writes batches.
pub(super) struct Writing {
    pub(super) client: MongoClient,
    pub(super) reading: Reading,
    pub(super) write: Write,
    /// Whether tombstones delete.
    pub(super) deletes: bool,
    pub(super) patience: Mutex<Patience>,
}

/// What is known of the records of a batch so far.
type Outcomes = Vec<Option<Outcome>>;

impl Writing {
    /// Writes `batch` and returns what became of each record.
    pub(super) async fn deliver(&self, batch: &[Record]) -> Vec<Outcome> {
        let now = jiff::Timestamp::now().as_millisecond();
        let mut outcomes: Outcomes = vec![None; batch.len()];
        for part in self.parts(batch) {
            if self.deletes {
                hold_back(batch, &part, &mut outcomes);
            }
            for built in self.build(batch, part, now, &mut outcomes) {
                self.send(&built, batch, now, &mut outcomes).await;
            }
        }
        let outcomes: Vec<Outcome> =
            outcomes.into_iter().map(|outcome| outcome.expect("each record is bad or in a command")).collect();
        self.patience.lock().unwrap_or_else(std::sync::PoisonError::into_inner).settle(batch, &outcomes);
        outcomes
    }

    /// Returns the parts of `batch` that can be written in any order: in none is a document both written and deleted. A version
    /// keeps an older write from overwriting a newer one, but nothing is left of a document that was deleted.
    fn parts(&self, batch: &[Record]) -> Vec<Range<usize>> {
        if !self.deletes {
            return std::iter::once(0..batch.len()).collect();
        }
        let (mut parts, mut start) = (Vec::new(), 0);
        let mut known: HashMap<Option<&[u8]>, bool> = HashMap::new();
        for (at, record) in batch.iter().enumerate() {
            let deletes = record.value.is_none();
            if known.insert(record.key.as_deref(), deletes).is_some_and(|before| before != deletes) {
                parts.push(start..at);
                start = at;
                known.clear();
                known.insert(record.key.as_deref(), deletes);
            }
        }
        parts.push(start..batch.len());
        parts
    }

    /// Returns the commands that write the records of `part` that have no outcome yet; bad ones get theirs.
    fn build(&self, batch: &[Record], part: Range<usize>, now: i64, outcomes: &mut Outcomes) -> Vec<Built> {
        let mut bulks: Vec<Bulk> = Vec::new();
        let mut built = Vec::new();
        let mut document = Document::default();
        let room = batch[part.clone()].iter().map(Record::bytes).sum::<usize>() + 300 * part.len();
        for at in part {
            let record = &batch[at];
            if outcomes[at].is_some() {
                continue;
            }
            let payload = match self.reading.read(record, &mut document) {
                Ok(payload) => payload,
                Err(reason) => {
                    outcomes[at] = Some(Outcome::Reject(reason));
                    continue;
                }
            };
            let kind = match (&payload, self.write) {
                (Payload::Tombstone, _) => Kind::Delete,
                (_, Write::Insert) => Kind::Insert,
                _ => Kind::Upsert,
            };
            let [database, collection] = document.names.as_slice() else { unreachable!("a sink is made with two names") };
            let (database, collection) = (database.as_str(), collection.as_str());
            let place = bulks.iter().position(|bulk| bulk.takes(kind, database, collection)).unwrap_or_else(|| {
                let room = if bulks.is_empty() { room.min(20 << 20) } else { 4096 };
                bulks.push(Bulk::new(kind, database, collection, room));
                bulks.len() - 1
            });
            let write = |out: &mut Bson| self.item(out, kind, record, &document, &payload, now);
            let pushed = match bulks[place].push(at, write) {
                Ok(false) => {
                    let next = Bulk::new(kind, database, collection, 4096);
                    built.push(std::mem::replace(&mut bulks[place], next).build());
                    bulks[place].push(at, write)
                }
                pushed => pushed,
            };
            if let Err(reason) = pushed {
                outcomes[at] = Some(Outcome::Reject(reason));
            }
        }
        built.extend(bulks.into_iter().filter(|bulk| !bulk.records.is_empty()).map(Bulk::build));
        built
    }

    /// Writes one document's part of a command.
    fn item(
        &self,
        out: &mut Bson,
        kind: Kind,
        record: &Record,
        document: &Document,
        payload: &Payload<'_>,
        now: i64,
    ) -> Result<(), Reason> {
        if kind == Kind::Insert {
            let start = out.bytes.len();
            document::id(out, document);
            document::fields(out, &self.reading, record, document, payload, now)?;
            return size(out.bytes.len() - start + 5);
        }
        let query = out.begin_document("q");
        document::id(out, document);
        self.guard(out, record, document);
        out.end(query);
        if kind == Kind::Delete {
            out.int32("limit", 1);
            return Ok(());
        }
        let change = out.begin_document("u");
        let start = out.bytes.len();
        if self.write == Write::Replace {
            // With its id in front, a payload is never taken for a list of changes to make.
            document::id(out, document);
            document::fields(out, &self.reading, record, document, payload, now)?;
        } else {
            let set = out.begin_document("$set");
            let first = out.bytes.len();
            document::fields(out, &self.reading, record, document, payload, now)?;
            out.literal_names(first)?;
            out.end(set);
        }
        size(out.bytes.len() - start + 5)?;
        out.end(change);
        out.boolean("upsert", true);
        Ok(())
    }

    /// Writes the condition under which a document may be written over, or deleted: it is an older version, or, where ids come
    /// once, our own earlier write.
    fn guard(&self, out: &mut Bson, record: &Record, document: &Document) {
        let names = self.reading.meta().names().expect("a sink that writes over documents is made with metadata");
        let (Some(version), Some(ours)) = (self.reading.version(), document.version) else {
            if let Some(timestamp) = record.timestamp {
                return out.int64(&names.timestamp, timestamp);
            }
            let none = out.begin_document(&names.timestamp);
            out.boolean("$exists", false);
            return out.end(none);
        };
        let below = |out: &mut Bson, field: &str, number: i64| {
            let condition = out.begin_document(field);
            out.int64("$lt", number);
            out.end(condition);
        };
        if *version == Version::Offset {
            return below(out, &names.offset, ours);
        }
        let field = conflict::version_field(names, version);
        let or = out.begin_array("$or");
        let older = out.begin_item(0);
        below(out, field, ours);
        out.end(older);
        let earlier = out.begin_item(1);
        out.int64(field, ours);
        below(out, &names.offset, record.offset);
        out.end(earlier);
        out.end(or);
    }

    /// Sends a command until it is clear what became of it.
    async fn send(&self, built: &Built, batch: &[Record], now: i64, outcomes: &mut Outcomes) {
        let mut failures = 0;
        let whole = loop {
            let failure = match self.client.write(&built.database, built.bytes.clone()).await {
                Ok(reply) => return self.answered(built, &reply, batch, now, outcomes).await,
                Err(failure) => failure,
            };
            let reason = match verdict::whole(&failure) {
                Whole::Is(outcome) => break outcome,
                Whole::Doubtful(reason) => reason,
            };
            // An outage fails whatever is written, a poisonous document fails alone, and again.
            if self.client.probe(&built.database, &built.collection).await.is_err() {
                break Outcome::Retry(reason);
            }
            failures += 1;
            let proof = if built.records.len() == 1 { 3 } else { 2 };
            if failures == proof {
                break Outcome::Suspect(reason);
            }
        };
        for at in &built.records {
            outcomes[*at] = Some(whole.clone());
        }
    }

    /// Takes the answer to a command.
    async fn answered(&self, built: &Built, reply: &Reply, batch: &[Record], now: i64, outcomes: &mut Outcomes) {
        let count = built.records.len();
        let mut items: Vec<Option<Item>> = vec![None; count];
        let errors = reply.get_array("writeErrors").map(Vec::as_slice).unwrap_or_default();
        for error in errors.iter().filter_map(Value::as_document) {
            let index = usize::try_from(verdict::number(error, "index")).ok();
            if let Some(item) = index.and_then(|index| items.get_mut(index)) {
                *item = Some(verdict::item(error));
            }
        }
        let concern = reply.get_document("writeConcernError").ok().map(verdict::concern);
        let n = usize::try_from(verdict::number(reply, "n")).unwrap_or(0);
        let is_short = n + errors.len() < count;
        let well = match &concern {
            Some(outcome) => outcome.clone(),
            // Only what the server counted is a delivery; of what is deleted, it does not count what was not there.
            None if is_short && built.kind != Kind::Delete => {
                Outcome::Retry(Reason::new("unaccounted", "the server did not say what became of every document"))
            }
            None => Outcome::Delivered,
        };
        let mut taken: Vec<(usize, Option<String>)> = Vec::new();
        for (item, at) in items.into_iter().zip(&built.records) {
            let outcome = match item {
                None if is_short && built.kind == Kind::Delete && concern.is_none() => {
                    taken.push((*at, None));
                    continue;
                }
                None => well.clone(),
                Some(Item::Is(outcome)) => outcome,
                Some(Item::Unknown(reason)) => {
                    let mut patience = self.patience.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    patience.judge(&batch[*at], reason)
                }
                Some(Item::Taken { index }) => match (&concern, index) {
                    // What is there may not be durable yet: the answer waits for a majority also if nothing was written.
                    (Some(outcome), _) => outcome.clone(),
                    (None, Some(index)) if index != "_id" => Outcome::Reject(duplicate(Some(&index))),
                    (None, _) if *self.reading.ids() == Ids::Random => Outcome::Reject(duplicate(None)),
                    (None, index) => {
                        taken.push((*at, index));
                        continue;
                    }
                },
            };
            outcomes[*at] = Some(outcome);
        }
        for some in taken.chunks(LOOK_UP) {
            self.look_up(built, some, batch, now, outcomes).await;
        }
    }

    /// Looks at the documents under ids that are taken.
    async fn look_up(
        &self,
        built: &Built,
        taken: &[(usize, Option<String>)],
        batch: &[Record],
        now: i64,
        outcomes: &mut Outcomes,
    ) {
        let mut documents = Vec::with_capacity(taken.len());
        for (at, _) in taken {
            let mut document = Document::default();
            self.reading.read(&batch[*at], &mut document).expect("it was read before");
            documents.push(document);
        }
        let ids = documents.iter().map(|document| document.id.as_str()).collect();
        let found = match self.find(&built.database, &built.collection, ids).await {
            Ok(found) => found,
            Err(failure) => {
                let outcome = match verdict::whole(&failure) {
                    Whole::Is(outcome @ Outcome::Stop(_)) => outcome,
                    Whole::Is(Outcome::Retry(reason) | Outcome::Suspect(reason) | Outcome::Reject(reason))
                    | Whole::Doubtful(reason) => Outcome::Retry(reason),
                    Whole::Is(other) => other,
                };
                taken.iter().for_each(|(at, _)| outcomes[*at] = Some(outcome.clone()));
                return;
            }
        };
        for ((at, index), document) in taken.iter().zip(&documents) {
            let record = &batch[*at];
            let outcome = match found.get(document.id.as_str()) {
                None if built.kind == Kind::Delete => Outcome::Delivered,
                // The server named the id, which was free a moment later.
                None if index.is_some() => Outcome::Retry(Reason::new("overtaken", "the id was taken, and is free again")),
                None => Outcome::Reject(duplicate(None)),
                Some(stored) => match self.reading.meta().names() {
                    Some(names) => conflict::judge(&self.reading, record, document, names, stored),
                    // Without metadata, a document of ours is one that is the same.
                    None if self.is_same(record, now, stored) => Outcome::AlreadyThere,
                    None => Outcome::Stop(conflict::foreign(record)),
                },
            };
            outcomes[*at] = Some(outcome);
        }
    }

    fn is_same(&self, record: &Record, now: i64, stored: &Reply) -> bool {
        let ours = document::document(&self.reading, record, now).expect("it was written before");
        mongodb::bson::RawDocumentBuf::try_from(stored).is_ok_and(|stored| stored.as_bytes() == ours)
    }

    /// Returns the documents under `ids`: their metadata, or, where they have none, all of them.
    async fn find(&self, database: &str, collection: &str, ids: Vec<&str>) -> Result<HashMap<String, Reply>, Said> {
        let mut found = HashMap::new();
        let mut missing = ids;
        while !missing.is_empty() {
            let reply = self.client.write(database, self.find_command(collection, &missing)).await?;
            let before = found.len();
            let documents = reply.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
            for document in documents.into_iter().flatten().filter_map(Value::as_document) {
                if let Ok(id) = document.get_str("_id") {
                    found.insert(id.to_owned(), document.clone());
                }
            }
            if found.len() == before {
                break;
            }
            // An answer has so many bytes: what did not fit is asked for again.
            missing.retain(|id| !found.contains_key(*id));
        }
        Ok(found)
    }

    fn find_command(&self, collection: &str, ids: &[&str]) -> Vec<u8> {
        let mut out = Bson::with_capacity(4096);
        let command = out.begin();
        out.text("find", collection);
        let filter = out.begin_document("filter");
        let id = out.begin_document("_id");
        let list = out.begin_array("$in");
        for (at, id) in ids.iter().enumerate() {
            out.text_item(at, id);
        }
        out.end(list);
        out.end(id);
        out.end(filter);
        if let Some(names) = self.reading.meta().names() {
            let projection = out.begin_document("projection");
            for name in conflict::fields(names) {
                out.int32(name, 1);
            }
            out.end(projection);
        }
        out.int32("batchSize", i32::try_from(LOOK_UP).unwrap_or(i32::MAX));
        out.boolean("singleBatch", true);
        out.end(command);
        out.bytes
    }
}

/// Holds back the records of `part` whose document has an earlier write in the batch that is to be tried again: it must not be
/// overtaken.
fn hold_back(batch: &[Record], part: &Range<usize>, outcomes: &mut Outcomes) {
    let is_open = |outcome: &Option<Outcome>| matches!(outcome, Some(Outcome::Retry(_) | Outcome::Suspect(_) | Outcome::Stop(_)));
    let open: HashSet<_> = (0..part.start).filter(|at| is_open(&outcomes[*at])).map(|at| batch[at].key.as_deref()).collect();
    if open.is_empty() {
        return;
    }
    for at in part.clone().filter(|at| open.contains(&batch[*at].key.as_deref())) {
        let what = "an earlier write of the same id is tried again first";
        outcomes[at] = Some(Outcome::Retry(Reason::new("held_back", what)));
    }
}

/// Returns that a unique index has the document's value already.
fn duplicate(index: Option<&str>) -> Reason {
    let reason = match index {
        Some(index) => Reason::new("mongodb_11000", format!("the unique index of `{index}` has the value already")).at(index),
        None => Reason::new("mongodb_11000", "a unique index of the collection has the value already"),
    };
    reason.hint("set such records aside with --dead-letters, or drop the index")
}
