//! A look at the documents under ids that are taken.

use std::collections::HashMap;

use mongodb::bson::{Bson as Value, Document as Reply, RawDocumentBuf};

use crate::connectors::mongo::bson::Bson;
use crate::connectors::mongo::bulk::{Built, Kind};
use crate::connectors::mongo::verdict::{self, Said, Whole};
use crate::connectors::mongo::writing::{Outcomes, Writing, duplicate};
use crate::connectors::mongo::{conflict, document};
use crate::document::Document;
use crate::pipeline::{Outcome, Reason};
use crate::record::Record;

/// How many ids are looked up at once.
pub(super) const LOOK_UP: usize = 500;

impl Writing {
    /// Looks at the documents under ids that are taken.
    pub(super) async fn look_up(
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
                for (at, _) in taken {
                    outcomes[*at] = Some(outcome.clone());
                }
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
        RawDocumentBuf::try_from(stored).is_ok_and(|stored| stored.as_bytes() == ours)
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
