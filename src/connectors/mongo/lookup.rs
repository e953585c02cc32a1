//! A look at the documents under ids that are taken.

use std::collections::HashMap;

use mongodb::bson::{Bson as Value, Document as Reply, RawDocumentBuf};

use crate::connectors::mongo::bson::Bson;
use crate::connectors::mongo::bulk_writer::{BulkWriter, Outcomes, duplicate};
use crate::connectors::mongo::command::{BuiltCommand, WriteKind};
use crate::connectors::mongo::response::{self, CommandError, CommandVerdict};
use crate::connectors::mongo::{conflict, document};
use crate::document::{Document, Ids};
use crate::pipeline::{Outcome, Reason};
use crate::record::{Partition, Record};

/// How many records of a partition are looked at before one is written: ids of the first may be free where they were bad records.
const FIRST: usize = 4;

/// How many ids are looked up at once.
pub(super) const LOOK_UP: usize = 500;

impl BulkWriter {
    /// Looks at the documents under ids that are taken.
    pub(super) async fn look_up(
        &self,
        built: &BuiltCommand,
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
                let outcome = unseen(&failure);
                for (at, _) in taken {
                    outcomes[*at] = Some(outcome.clone());
                }
                return;
            }
        };
        for ((at, index), document) in taken.iter().zip(&documents) {
            let record = &batch[*at];
            let outcome = match found.get(document.id.as_str()) {
                None if built.kind == WriteKind::Delete => Outcome::Delivered,
                // The server named the id, which was free a moment later.
                None if index.is_some() => Outcome::Retry(Reason::new("overtaken", "the id was taken, and is free again")),
                None => Outcome::Reject(duplicate(None)),
                Some(stored) => self.compare(record, document, now, stored),
            };
            outcomes[*at] = Some(outcome);
        }
    }

    /// Looks, before anything of a partition is written, whether its first records stand in another's place; returns what becomes
    /// of the batch if one does, or if nobody knows. Records of a topic that was created again, or of another cluster, are found
    /// out before one of them is taken for delivered.
    pub(super) async fn first_look(&self, batch: &[Record], now: i64) -> Option<Outcome> {
        if !matches!(self.reading.ids(), Ids::Offset { .. }) {
            return None;
        }
        // Other batches wait here: what they hold may be the same partition's.
        let mut met = self.met.lock().await;
        let mut document = Document::default();
        let (mut looks, mut known) = (HashMap::<Partition, usize>::new(), None);
        for record in batch {
            // Records come in runs.
            if known == Some(record.partition) || met.contains(&record.partition) || looks.get(&record.partition) == Some(&FIRST)
            {
                known = Some(record.partition);
                continue;
            }
            if self.reading.read(record, &mut document).is_err() {
                continue;
            }
            let [database, collection] = document.names.as_slice() else { unreachable!("a sink is made with two names") };
            // One by one: some servers read a whole collection for a list of ids.
            match self.find(database, collection, vec![&document.id]).await {
                Err(failure) => return Some(unseen(&failure)),
                Ok(found) => {
                    if let Some(stored) = found.get(&document.id)
                        && let stop @ Outcome::Stop(_) = self.compare(record, &document, now, stored)
                    {
                        return Some(stop);
                    }
                }
            }
            *looks.entry(record.partition).or_default() += 1;
        }
        met.extend(looks.into_keys());
        None
    }

    /// Returns what became of `record`, whose id has `stored`.
    fn compare(&self, record: &Record, document: &Document, now: i64, stored: &Reply) -> Outcome {
        if let Some(names) = self.reading.meta().names() {
            return conflict::judge(&self.reading, record, document, names, stored);
        }
        // Without metadata, a document of ours is one that is the same.
        let ours = document::document(&self.reading, record, now);
        let theirs = RawDocumentBuf::try_from(stored);
        if ours.is_ok_and(|ours| theirs.is_ok_and(|theirs| theirs.as_bytes() == ours)) {
            Outcome::AlreadyThere
        } else {
            Outcome::Stop(conflict::foreign(record, self.reading.version().is_some()))
        }
    }

    /// Returns the documents under `ids`: their metadata, or, where they have none, all of them.
    async fn find(&self, database: &str, collection: &str, ids: Vec<&str>) -> Result<HashMap<String, Reply>, CommandError> {
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
        // Some servers have no index for `$in`.
        if let [id] = ids {
            out.text("_id", id);
        } else {
            let id = out.begin_document("_id");
            let list = out.begin_array("$in");
            for (at, id) in ids.iter().enumerate() {
                out.text_item(at, id);
            }
            out.end(list);
            out.end(id);
        }
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

/// Returns what becomes of records when the look at what is there failed.
fn unseen(failure: &CommandError) -> Outcome {
    match response::whole(failure) {
        CommandVerdict::Is(Outcome::Retry(reason) | Outcome::BatchRejected(reason) | Outcome::Reject(reason))
        | CommandVerdict::Doubtful(reason) => Outcome::Retry(reason),
        CommandVerdict::Is(outcome) => outcome,
    }
}
