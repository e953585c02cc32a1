//! A look at what is there under ids.

use serde_json::{Value, json};

use crate::connectors::elastic::client::{Call, QUESTION};
use crate::connectors::elastic::conflict;
use crate::connectors::elastic::response::{self, BulkAction};
use crate::connectors::elastic::sink::{BULK, BulkWriter};
use crate::document::{Document, Ids};
use crate::pipeline::{Outcome, Reason};
use crate::record::Record;

/// How many ids are looked up at once.
pub(super) const LOOKED_UP: usize = 500;

/// A document whose id is taken.
#[derive(Debug)]
pub(super) struct ExistingDocument {
    /// Which record of the batch it is.
    pub(super) at: usize,
    /// What was to be done with it.
    pub(super) action: BulkAction,
    /// The index with what has the id, if the server says.
    pub(super) index: Option<String>,
}

impl BulkWriter {
    /// Finds out who has the ids that were taken, and puts what that means into `outcomes`.
    pub(super) async fn look_up(&self, batch: &[Record], taken: &[ExistingDocument], outcomes: &mut [Outcome]) {
        let mut document = Document::default();
        let question = |taken: &ExistingDocument| {
            // What was sent can be read again.
            let _ = self.writing.read(&batch[taken.at], &mut document);
            conflict::question(taken.index.as_deref(), &document, self.writing.has_routing)
        };
        let questions: Vec<Value> = taken.iter().map(question).collect();
        let answers = self.find(&questions, self.telling().as_deref()).await;
        for (place, taken) in taken.iter().enumerate() {
            outcomes[taken.at] = match &answers {
                Ok(answers) => conflict::judge(&self.writing, &batch[taken.at], taken.action, &answers[place]),
                Err(outcome) => outcome.clone(),
            };
        }
    }

    /// Looks, before anything of a partition is written, at what has the ids of its first records; returns what becomes of the
    /// batch if that is somebody else's, or if nobody knows. Records of a topic that was created again, or of another cluster, are
    /// found out before one of them is taken for delivered.
    pub(super) async fn first_look(&self, batch: &[Record]) -> Option<Outcome> {
        if !matches!(self.writing.reading.ids(), Ids::Offset { .. }) {
            return None;
        }
        // Other batches wait here: what they hold may be the same partition's.
        let mut met = self.met.lock().await;
        let (mut new, mut known) = (Vec::new(), None);
        for record in batch {
            if known == Some(record.partition) || met.contains(&record.partition) {
                known = Some(record.partition);
            } else {
                new.push(record);
            }
        }
        for new in new.chunks(LOOKED_UP) {
            match self.first_of(new).await {
                // Who may not read can still write: what is taken shows as a conflict.
                Err(Outcome::Stop(reason)) if reason.code() == "security_exception" => {
                    tracing::warn!("Whether the first ids are another topic's or cluster's could not be looked up: {reason}");
                    break;
                }
                Err(outcome) => return Some(outcome),
                Ok(()) => {}
            }
        }
        met.extend(new.iter().map(|record| record.partition));
        None
    }

    /// Looks up the ids of `records`.
    ///
    /// # Errors
    /// When they are somebody else's, or nobody knows.
    async fn first_of(&self, records: &[&Record]) -> Result<(), Outcome> {
        let (mut questions, mut asked) = (Vec::new(), Vec::new());
        let mut document = Document::default();
        for record in records {
            if self.writing.read(record, &mut document).is_ok() {
                questions.push(conflict::question(None, &document, self.writing.has_routing));
                asked.push(*record);
            }
        }
        let fields = self.telling();
        let answers = match self.constant() {
            _ if questions.is_empty() => return Ok(()),
            Some(stream) if self.options.data_stream => self.search(stream, &questions, fields.as_deref()).await?,
            _ => self.find(&questions, fields.as_deref()).await?,
        };
        for (record, answer) in asked.into_iter().zip(&answers).filter(|(_, answer)| conflict::is_found(answer)) {
            if let stop @ Outcome::Stop(_) = conflict::judge(&self.writing, record, BulkAction::Create, answer) {
                return Err(stop);
            }
        }
        Ok(())
    }

    /// Returns the fields that tell whose a document is; none where only the whole document tells.
    fn telling(&self) -> Option<String> {
        let names = self.writing.reading.meta().names()?;
        Some([&names.timestamp, &names.topic, &names.partition].map(String::as_str).join(","))
    }

    /// Returns what is there under some ids; of its source these fields, or all without.
    pub(super) async fn find(&self, questions: &[Value], fields: Option<&str>) -> Result<Vec<Value>, Outcome> {
        let query: Vec<_> = fields.map(|fields| ("_source_includes", fields)).into_iter().collect();
        let body = json!({ "docs": questions });
        let mut answer = self.asked(Call { deadline: BULK, ..Call::post("/_mget", &body) }.with(&query)).await?;
        match answer.get_mut("docs").map(Value::take) {
            Some(Value::Array(answers)) if answers.len() == questions.len() => Ok(answers),
            _ => Err(not_looked_up(200)),
        }
    }

    /// Returns the same of a data stream, which can only be searched.
    async fn search(&self, stream: &str, questions: &[Value], fields: Option<&str>) -> Result<Vec<Value>, Outcome> {
        let ids: Vec<&Value> = questions.iter().map(|question| &question["_id"]).collect();
        let source = fields.map_or(json!(true), |fields| fields.split(',').collect());
        let body = json!({"size": ids.len(), "query": {"ids": {"values": ids}}, "_source": source});
        let path = format!("/{}/_search", crate::connectors::elastic::names::in_path(stream));
        let query = [("ignore_unavailable", "true")];
        let answer = self.asked(Call { deadline: QUESTION, ..Call::post(&path, &body) }.with(&query)).await?;
        let hits = answer.pointer("/hits/hits").and_then(Value::as_array).ok_or_else(|| not_looked_up(200))?;
        let of = |id: &Value| hits.iter().find(|hit| hit.get("_id") == Some(id));
        let answer = |id| of(id).map_or(Value::Null, |hit| json!({"found": true, "_source": hit["_source"]}));
        Ok(ids.into_iter().map(answer).collect())
    }

    /// Returns the answer to a question about documents.
    async fn asked(&self, call: Call<'_>) -> Result<Value, Outcome> {
        let reply = self.client.call(call).await;
        let reply = reply.map_err(|lost| response::unanswered(&lost.summary(self.client.section())))?;
        match reply.status {
            200 => Ok(reply.json()),
            401 | 403 => Err(response::whole(reply.status, &reply.body)),
            status => Err(not_looked_up(status)),
        }
    }
}

fn not_looked_up(status: u16) -> Outcome {
    Outcome::Retry(Reason::new("not_looked_up", format!("the server does not say what has an id (status {status})")))
}
