//! A batch of records as commands, and what the answers mean for each record.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Mutex;

use mongodb::bson::Document as Reply;

use crate::connectors::mongo::MongoClient;
use crate::connectors::mongo::bson::Bson;
use crate::connectors::mongo::command::{BuiltCommand, CommandBuilder, WriteKind};
use crate::connectors::mongo::conflict;
use crate::connectors::mongo::document::{self, size};
use crate::connectors::mongo::lookup::LOOK_UP;
use crate::connectors::mongo::response::{self, CommandVerdict, WriteErrorVerdict};
use crate::connectors::mongo::sink::Write;
use crate::document::PoisonDetector;
use crate::document::{Document, DocumentMapper, Ids, ParsedPayload, Version};
use crate::pipeline::{Outcome, Reason};
use crate::record::{Partition, Record};

/// How often in a row a command has to fail, on a server that takes others, until a document in it is held to be to blame.
const PROOF: u32 = 2;

/// How many records are written at once, and about how many bytes of them: a client keeps several copies of a command, and a
/// server answers to a small one soon.
const COMMAND_RECORDS: usize = 1000;
const COMMAND_BYTES: usize = 2 << 20;

/// What writes batches.
pub(super) struct BulkWriter {
    pub(super) client: MongoClient,
    pub(super) reading: DocumentMapper,
    pub(super) write: Write,
    /// Whether tombstones delete.
    pub(super) deletes: bool,
    pub(super) patience: Mutex<PoisonDetector>,
    /// The partitions whose first record of the run has been looked at.
    pub(super) met: tokio::sync::Mutex<HashSet<Partition>>,
}

/// What is known of the records of a batch so far.
pub(super) type Outcomes = Vec<Option<Outcome>>;

impl BulkWriter {
    /// Returns whether the writes of a document must be carried out in the order of their records. A version keeps an older write
    /// from overwriting a newer one; but nothing is left of a document that was deleted, and of fields that are set one by one,
    /// those of an older write are wanted too.
    pub(super) fn in_order(&self) -> bool {
        self.deletes || (self.write == Write::Update && self.reading.ids().repeat())
    }

    /// Writes `batch` and returns what became of each record.
    pub(super) async fn deliver(&self, batch: &[Record]) -> Vec<Outcome> {
        let now = jiff::Timestamp::now().as_millisecond();
        if let Some(outcome) = self.first_look(batch, now).await {
            return vec![outcome; batch.len()];
        }
        let mut outcomes: Outcomes = vec![None; batch.len()];
        if self.in_order() {
            let ids = self.ids(batch);
            for part in self.parts(batch, &ids) {
                hold_back(&ids, &part, &mut outcomes);
                self.write_part(batch, part, now, &mut outcomes).await;
            }
        } else {
            self.write_part(batch, 0..batch.len(), now, &mut outcomes).await;
        }
        let outcomes: Vec<Outcome> =
            outcomes.into_iter().map(|outcome| outcome.expect("each record is bad or in a command")).collect();
        self.patience.lock().unwrap_or_else(std::sync::PoisonError::into_inner).settle(batch, &outcomes);
        outcomes
    }

    async fn write_part(&self, batch: &[Record], part: Range<usize>, now: i64, outcomes: &mut Outcomes) {
        let mut rest = part;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |record: &&Record| {
                bytes += record.bytes();
                bytes <= COMMAND_BYTES
            };
            let count = batch[rest.clone()].iter().take(COMMAND_RECORDS).take_while(fits).count().max(1);
            for built in self.build(batch, rest.start..rest.start + count, now, outcomes) {
                self.send(built, batch, now, outcomes).await;
            }
            rest.start += count;
        }
    }

    /// Returns the id of each record; empty for one that is bad.
    fn ids(&self, batch: &[Record]) -> Vec<String> {
        let mut document = Document::default();
        let mut id = |record| {
            let read = self.reading.read(record, &mut document);
            read.map(|_| std::mem::take(&mut document.id)).unwrap_or_default()
        };
        batch.iter().map(&mut id).collect()
    }

    /// Returns the parts of `batch` that can be written in any order: in none are there writes of a document that must follow each
    /// other.
    fn parts(&self, batch: &[Record], ids: &[String]) -> Vec<Range<usize>> {
        let (mut parts, mut start) = (Vec::new(), 0);
        let mut known: HashMap<&str, bool> = HashMap::new();
        for (at, (record, id)) in batch.iter().zip(ids).enumerate().filter(|(_, (_, id))| !id.is_empty()) {
            let deletes = record.value.is_none();
            let before = known.insert(id, deletes);
            if before.is_some_and(|before| before != deletes || self.write == Write::Update) {
                parts.push(start..at);
                start = at;
                known.clear();
                known.insert(id, deletes);
            }
        }
        parts.push(start..batch.len());
        parts
    }

    /// Returns the commands that write the records at `places` that have no outcome yet; bad ones get theirs.
    fn build(
        &self,
        batch: &[Record],
        places: impl Iterator<Item = usize> + Clone,
        now: i64,
        outcomes: &mut Outcomes,
    ) -> Vec<BuiltCommand> {
        let mut bulks: Vec<CommandBuilder> = Vec::new();
        let mut built = Vec::new();
        let mut document = Document::default();
        let room: usize = places.clone().map(|at| batch[at].bytes() + 300).sum();
        for at in places {
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
                (ParsedPayload::Tombstone, _) => WriteKind::Delete,
                (_, Write::Insert) => WriteKind::Insert,
                _ => WriteKind::Upsert,
            };
            let [database, collection] = document.names.as_slice() else { unreachable!("a sink is made with two names") };
            let (database, collection) = (database.as_str(), collection.as_str());
            let place = bulks.iter().position(|bulk| bulk.takes(kind, database, collection)).unwrap_or_else(|| {
                let room = if bulks.is_empty() { room.min(20 << 20) } else { 4096 };
                bulks.push(CommandBuilder::new(kind, database, collection, room));
                bulks.len() - 1
            });
            let write = |out: &mut Bson| self.item(out, kind, record, &document, &payload, now);
            let pushed = match bulks[place].push(at, write) {
                Ok(false) => {
                    let next = CommandBuilder::new(kind, database, collection, 4096);
                    built.push(std::mem::replace(&mut bulks[place], next).build());
                    bulks[place].push(at, write)
                }
                pushed => pushed,
            };
            if let Err(reason) = pushed {
                outcomes[at] = Some(Outcome::Reject(reason));
            }
        }
        built.extend(bulks.into_iter().filter(|bulk| !bulk.records.is_empty()).map(CommandBuilder::build));
        built
    }

    /// Writes one document's part of a command.
    fn item(
        &self,
        out: &mut Bson,
        kind: WriteKind,
        record: &Record,
        document: &Document,
        payload: &ParsedPayload<'_>,
        now: i64,
    ) -> Result<(), Reason> {
        if kind == WriteKind::Insert {
            let start = out.bytes.len();
            document::id(out, document);
            document::fields(out, &self.reading, record, document, payload, now)?;
            return size(out.bytes.len() - start + 5);
        }
        let query = out.begin_document("q");
        document::id(out, document);
        self.guard(out, record, document);
        out.end(query);
        if kind == WriteKind::Delete {
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
    async fn send(&self, mut built: BuiltCommand, batch: &[Record], now: i64, outcomes: &mut Outcomes) {
        let mut failures = 0;
        let whole = loop {
            let failure = match self.client.write(&built.database, std::mem::take(&mut built.bytes)).await {
                Ok(reply) => return self.answered(&built, &reply, batch, now, outcomes).await,
                Err(failure) => failure,
            };
            let reason = match response::whole(&failure) {
                CommandVerdict::Is(outcome) => break self.named(outcome),
                CommandVerdict::Doubtful(reason) => reason,
            };
            // An outage fails whatever is written; a poisonous document fails alone, and again, while others pass.
            if self.client.probe(&built.database, &built.collection).await.is_err() {
                break Outcome::Retry(reason);
            }
            failures += 1;
            if failures == PROOF {
                let mut patience = self.patience.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                // All of them, so that what passes of a half is known to have passed later than this.
                let blamed = built.records.iter().filter(|at| patience.blame(&batch[**at])).count();
                let alone = built.records.len() == 1;
                break if alone && blamed == 0 { Outcome::Retry(reason) } else { Outcome::BatchRejected(reason) };
            }
            // Built once more rather than kept: a copy of every batch in flight is too much for what hardly ever happens.
            let again = self.build(batch, built.records.iter().copied(), now, &mut vec![None; batch.len()]);
            built.bytes = again.into_iter().next().expect("what was a command makes one again").bytes;
        };
        for at in &built.records {
            outcomes[*at] = Some(whole.clone());
        }
    }

    /// Returns `outcome`; but a name that the server does not take, and that no record made, stops the run.
    fn named(&self, outcome: Outcome) -> Outcome {
        let is_fixed = self.reading.namings().iter().all(|naming| naming.template().constant().is_some());
        match outcome {
            Outcome::Reject(reason) if is_fixed && response::is_of_name(&reason) => {
                Outcome::Stop(reason.hint("name another with --database or --collection"))
            }
            outcome => outcome,
        }
    }

    /// Takes the answer to a command.
    async fn answered(&self, built: &BuiltCommand, reply: &Reply, batch: &[Record], now: i64, outcomes: &mut Outcomes) {
        let count = built.records.len();
        let unaccounted = || Outcome::Retry(Reason::new("unaccounted", "the server did not say what became of every document"));
        let Some(errors) = response::by_place(reply, count) else {
            for at in &built.records {
                outcomes[*at] = Some(unaccounted());
            }
            return;
        };
        let failed = errors.iter().flatten().count();
        let items = errors.into_iter().map(|error| error.map(response::item));
        let concern = reply.get_document("writeConcernError").ok().map(response::concern);
        let n = usize::try_from(response::number(reply, "n")).unwrap_or(0);
        let is_short = n + failed < count;
        if is_short && failed > 0 && built.kind != WriteKind::Delete {
            // It left off at a document, and perhaps not at the one that it names: found out with fewer at once.
            for at in &built.records {
                let what = "the server left off at one document of several";
                outcomes[*at] = Some(Outcome::BatchRejected(Reason::new("unaccounted", what)));
            }
            return;
        }
        let well = match &concern {
            Some(outcome) => outcome.clone(),
            // Only what the server counted is a delivery; of what is deleted, it does not count what was not there.
            None if is_short && built.kind != WriteKind::Delete => unaccounted(),
            None => Outcome::Delivered,
        };
        let mut taken: Vec<(usize, Option<String>)> = Vec::new();
        for (item, at) in items.zip(&built.records) {
            let outcome = match item {
                None if is_short && built.kind == WriteKind::Delete && concern.is_none() => {
                    taken.push((*at, None));
                    continue;
                }
                None => well.clone(),
                Some(WriteErrorVerdict::Is(outcome)) => self.named(outcome),
                Some(WriteErrorVerdict::Unknown(reason)) => {
                    let mut patience = self.patience.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    patience.judge(&batch[*at], reason)
                }
                Some(WriteErrorVerdict::Taken { index }) => match (&concern, index) {
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
}

/// Holds back the records of `part` whose document has an earlier write in the batch that is to be tried again: it must not be
/// overtaken.
fn hold_back(ids: &[String], part: &Range<usize>, outcomes: &mut Outcomes) {
    let is_open = |outcome: &Option<Outcome>| {
        matches!(outcome, Some(Outcome::Retry(_) | Outcome::Unclear(_) | Outcome::BatchRejected(_) | Outcome::Stop(_)))
    };
    let open: HashSet<&str> = (0..part.start).filter(|at| is_open(&outcomes[*at])).map(|at| ids[at].as_str()).collect();
    for at in part.clone().filter(|at| open.contains(ids[*at].as_str())) {
        let what = "an earlier write of the same id is tried again first";
        outcomes[at] = Some(Outcome::Retry(Reason::new("held_back", what)));
    }
}

/// Returns that a unique index has the document's value already.
pub(super) fn duplicate(index: Option<&str>) -> Reason {
    let reason = match index {
        Some(index) => Reason::new("mongodb_11000", format!("the unique index of `{index}` has the value already")).at(index),
        None => Reason::new("mongodb_11000", "a unique index of the collection has the value already"),
    };
    reason.hint("set such records aside with --dead-letters, or drop the index")
}
