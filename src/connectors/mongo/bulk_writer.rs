//! A batch of records as commands, and their answers as outcomes.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use mongodb::bson::Document as Reply;

use crate::connectors::mongo::bson::Bson;
use crate::connectors::mongo::command::{BuiltCommand, CommandBuilder, WriteKind};
use crate::connectors::mongo::document::{self, check_size};
use crate::connectors::mongo::lookup::{DuplicateId, MongoLookup};
use crate::connectors::mongo::response::{self, WriteErrorVerdict};
use crate::connectors::mongo::target::{MongoTarget, Write};
use crate::document::{Document, DocumentBatch, Ids, ParsedPayload, Version, version_field};
use crate::pipeline::{Outcome, Reason};
use crate::record::Record;

/// The most records of a command, and about the most bytes of them: a client keeps several copies of a command, and a server answers
/// a small one soon.
const COMMAND_RECORDS: usize = 1000;
const COMMAND_BYTES: usize = 2 << 20;

/// The outcomes of a batch that are known so far.
type Outcomes = Vec<Option<Outcome>>;

/// Writes batches.
pub(super) struct MongoBulkWriter {
    target: Arc<MongoTarget>,
    lookup: MongoLookup,
}

impl MongoBulkWriter {
    pub(super) fn new(target: Arc<MongoTarget>, lookup: MongoLookup) -> Self {
        Self { target, lookup }
    }

    /// Writes `batch` and returns the outcome of each record.
    pub(super) async fn deliver(&self, batch: &[Record]) -> Vec<Outcome> {
        let now = jiff::Timestamp::now().as_millisecond();
        let batch = self.target.mapper.read_batch(batch, |_| Ok(()));
        if let Some(outcome) = self.lookup.first_look(&batch, now).await {
            return vec![outcome; batch.len()];
        }
        let bad = |place| batch.get(place).err().map(|reason| Outcome::Reject(reason.clone()));
        let mut outcomes: Outcomes = (0..batch.len()).map(bad).collect();
        if self.target.is_ordered() {
            for part in self.independent_parts(&batch) {
                hold_back(&batch, &part, &mut outcomes);
                self.write(&batch, part, now, &mut outcomes).await;
            }
        } else {
            self.write(&batch, 0..batch.len(), now, &mut outcomes).await;
        }
        outcomes.into_iter().map(|outcome| outcome.expect("each record is bad or in a command")).collect()
    }

    async fn write(&self, batch: &DocumentBatch<'_>, mut rest: Range<usize>, now: i64, outcomes: &mut Outcomes) {
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |record: &&Record| {
                bytes += record.bytes();
                bytes <= COMMAND_BYTES
            };
            let count = batch.records()[rest.clone()].iter().take(COMMAND_RECORDS).take_while(fits).count().max(1);
            for built in self.build(batch, rest.start..rest.start + count, now, outcomes) {
                self.send(built, batch, now, outcomes).await;
            }
            rest.start += count;
        }
    }

    /// Returns the parts of `batch` in which no two writes of a document have to follow each other.
    fn independent_parts(&self, batch: &DocumentBatch<'_>) -> Vec<Range<usize>> {
        let (mut parts, mut start) = (Vec::new(), 0);
        let mut last: HashMap<&str, bool> = HashMap::new();
        for (place, document) in batch.good() {
            let deletes = *document.payload == ParsedPayload::Tombstone;
            let before = last.insert(document.id, deletes);
            if before.is_some_and(|before| before != deletes || self.target.write == Write::Update) {
                parts.push(start..place);
                start = place;
                last.clear();
                last.insert(document.id, deletes);
            }
        }
        parts.push(start..batch.len());
        parts
    }

    /// Returns the commands that write the records at `places` without an outcome; records that BSON cannot hold get theirs.
    fn build(&self, batch: &DocumentBatch<'_>, places: Range<usize>, now: i64, outcomes: &mut Outcomes) -> Vec<BuiltCommand> {
        let mut open: Vec<CommandBuilder> = Vec::new();
        let mut built = Vec::new();
        let capacity: usize = batch.records()[places.clone()].iter().map(|record| record.bytes() + 300).sum();
        for place in places {
            let (Ok(document), None) = (batch.get(place), &outcomes[place]) else { continue };
            let kind = match (document.payload, self.target.write) {
                (ParsedPayload::Tombstone, _) => WriteKind::Delete,
                (_, Write::Insert) => WriteKind::Insert,
                _ => WriteKind::Upsert,
            };
            let [database, collection] = document.names;
            let at = open.iter().position(|builder| builder.accepts(kind, database, collection)).unwrap_or_else(|| {
                let capacity = if open.is_empty() { capacity.min(20 << 20) } else { 4096 };
                open.push(CommandBuilder::new(kind, database, collection, capacity));
                open.len() - 1
            });
            let write = |out: &mut Bson| self.item(out, kind, &document, now);
            let pushed = match open[at].push(place, write) {
                Ok(false) => {
                    let next = CommandBuilder::new(kind, database, collection, 4096);
                    built.push(std::mem::replace(&mut open[at], next).build());
                    open[at].push(place, write)
                }
                pushed => pushed,
            };
            if let Err(reason) = pushed {
                outcomes[place] = Some(Outcome::Reject(reason));
            }
        }
        built.extend(open.into_iter().filter(|builder| !builder.records.is_empty()).map(CommandBuilder::build));
        built
    }

    /// Writes one document's part of a command.
    fn item(&self, out: &mut Bson, kind: WriteKind, document: &Document<'_>, now: i64) -> Result<(), Reason> {
        let mapper = &self.target.mapper;
        if kind == WriteKind::Insert {
            let start = out.bytes.len();
            document::id(out, document)?;
            document::fields(out, mapper, document, now)?;
            return check_size(out.bytes.len() - start + 5);
        }
        let query = out.begin_document("q");
        document::id(out, document)?;
        self.guard(out, document);
        out.end(query);
        if kind == WriteKind::Delete {
            out.int32("limit", 1);
            return Ok(());
        }
        let change = out.begin_document("u");
        let start = out.bytes.len();
        if self.target.write == Write::Replace {
            // With its id in front, a payload is never taken for update operators.
            document::id(out, document)?;
            document::fields(out, mapper, document, now)?;
        } else {
            let set = out.begin_document("$set");
            let first = out.bytes.len();
            document::fields(out, mapper, document, now)?;
            out.require_literal_names(first)?;
            out.end(set);
        }
        check_size(out.bytes.len() - start + 5)?;
        out.end(change);
        out.boolean("upsert", true);
        Ok(())
    }

    /// Writes the condition for a write over the stored document: it is an older version, or, if ids come once, an earlier write of the
    /// same record.
    fn guard(&self, out: &mut Bson, document: &Document<'_>) {
        let mapper = &self.target.mapper;
        let names = mapper.meta().names().expect("a sink that writes over documents has metadata");
        let (Some(version), Some(ours)) = (mapper.version(), document.version) else {
            if let Some(timestamp) = document.record.timestamp {
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
        let field = version_field(names, Some(version));
        let or = out.begin_array("$or");
        let older = out.begin_item(0);
        below(out, field, ours);
        out.end(older);
        let earlier = out.begin_item(1);
        out.int64(field, ours);
        below(out, &names.offset, document.record.offset);
        out.end(earlier);
        out.end(or);
    }

    async fn send(&self, built: BuiltCommand, batch: &DocumentBatch<'_>, now: i64, outcomes: &mut Outcomes) {
        let BuiltCommand { kind, database, collection, records, bytes } = built;
        match self.target.client.write(&database, bytes).await {
            Ok(reply) => self.on_reply(kind, [&database, &collection], &records, &reply, batch, now, outcomes).await,
            Err(error) => {
                let outcome = self.with_name(response::whole(&error));
                for place in records {
                    outcomes[place] = Some(outcome.clone());
                }
            }
        }
    }

    /// Returns `outcome`, but a rejected name that does not depend on records stops the run.
    fn with_name(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Reject(reason) if self.target.has_constant_names() && response::is_bad_name(&reason) => {
                Outcome::Stop(reason)
            }
            outcome => outcome,
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a command without its bytes")]
    async fn on_reply(
        &self,
        kind: WriteKind,
        names: [&str; 2],
        records: &[usize],
        reply: &Reply,
        batch: &DocumentBatch<'_>,
        now: i64,
        outcomes: &mut Outcomes,
    ) {
        let mut set_all = |outcome: Outcome| records.iter().for_each(|place| outcomes[*place] = Some(outcome.clone()));
        let unaccounted = || Outcome::Unclear(Reason::new("unaccounted", "the answer does not cover every document"));
        let Some(errors) = response::by_place(reply, records.len()) else { return set_all(unaccounted()) };
        let failed = errors.iter().flatten().count();
        let concern = reply.get_document("writeConcernError").ok().map(response::concern);
        let n = usize::try_from(response::number(reply, "n")).unwrap_or(0);
        let is_short = n + failed < records.len();
        if is_short && failed > 0 && kind != WriteKind::Delete {
            // The server stopped at a document, perhaps at another than the named one.
            let what = "the server stopped at one document of several";
            return set_all(Outcome::BatchRejected(Reason::new("unaccounted", what)));
        }
        let success = match &concern {
            Some(outcome) => outcome.clone(),
            // Only a counted document is a delivery; deletes of missing documents are not counted.
            None if is_short && kind != WriteKind::Delete => unaccounted(),
            None => Outcome::Delivered,
        };
        let mut conflicts = Vec::new();
        for (error, place) in errors.into_iter().zip(records) {
            let outcome = match error.map(response::item) {
                None if is_short && kind == WriteKind::Delete && concern.is_none() => {
                    conflicts.push(DuplicateId { place: *place, index: None });
                    continue;
                }
                None => success.clone(),
                Some(WriteErrorVerdict::Outcome(outcome)) => self.with_name(outcome),
                Some(WriteErrorVerdict::DuplicateKey { index }) => match (&concern, index) {
                    // The stored document may not be durable yet: the majority is waited for also if nothing was written.
                    (Some(outcome), _) => outcome.clone(),
                    (None, Some(index)) if index != "_id" => Outcome::Reject(response::duplicate(Some(&index))),
                    (None, _) if *self.target.mapper.ids() == Ids::Random => Outcome::Reject(response::duplicate(None)),
                    (None, index) => {
                        conflicts.push(DuplicateId { place: *place, index });
                        continue;
                    }
                },
            };
            outcomes[*place] = Some(outcome);
        }
        for (place, outcome) in self.lookup.resolve(batch, names, kind, conflicts, now).await {
            outcomes[place] = Some(outcome);
        }
    }
}

/// Holds back the records of `part` with an earlier write of the same id in the batch that is sent again: they must not overtake it.
fn hold_back(batch: &DocumentBatch<'_>, part: &Range<usize>, outcomes: &mut Outcomes) {
    let is_open = |outcome: &Option<Outcome>| {
        matches!(outcome, Some(Outcome::Retry(_) | Outcome::Unclear(_) | Outcome::BatchRejected(_) | Outcome::Stop(_)))
    };
    let id = |place: usize| batch.get(place).map(|document| document.id).ok();
    let open: HashSet<&str> = (0..part.start).filter(|place| is_open(&outcomes[*place])).filter_map(id).collect();
    for place in part.clone().filter(|place| id(*place).is_some_and(|id| open.contains(id))) {
        let what = "an earlier write of the same id is sent again first";
        outcomes[place] = Some(Outcome::Retry(Reason::new("held_back", what)));
    }
}
