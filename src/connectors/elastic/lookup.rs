//! Looks up stored documents by id.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use crate::connectors::elastic::bulk_writer::BULK_TIMEOUT;
use crate::connectors::elastic::client::{QUESTION_TIMEOUT, Request};
use crate::connectors::elastic::lenient_json;
use crate::connectors::elastic::names::in_path;
use crate::connectors::elastic::reason::{clean, kind, permanent, text, transient, with_load};
use crate::connectors::elastic::response::{self, BulkAction};
use crate::connectors::elastic::target::ElasticTarget;
use crate::document::{
    Contradiction, Disagreements, Document, DocumentBatch, FirstLook, Ids, MetaNames, Owner, StoredMetadata, deciding_fields,
    of_failed_lookup, overtaken, version_field,
};
use crate::pipeline::{Outcome, Reason};

/// How many ids are looked up at once.
pub(super) const LOOKUP_SIZE: usize = 500;
/// How long a server remembers the version of a deleted document, and rejects the same one: `index.gc_deletes`, doubled.
const DELETED_FOR: Duration = Duration::from_secs(120);

/// A document whose id is taken.
#[derive(Debug)]
pub(super) struct IdConflict {
    /// The place of its record in the batch.
    pub(super) place: usize,
    pub(super) action: BulkAction,
    /// The index with the stored document, if the server names it.
    pub(super) index: Option<String>,
}

/// A question for a stored document.
pub(super) struct Question {
    index: String,
    id: String,
    routing: Option<String>,
}

impl Question {
    fn json(&self, names_index: bool) -> Value {
        let mut question = Map::from_iter([("_id".to_owned(), json!(self.id))]);
        if names_index {
            question.insert("_index".to_owned(), json!(self.index));
        }
        if let Some(routing) = &self.routing {
            question.insert("routing".to_owned(), json!(routing));
        }
        Value::Object(question)
    }
}

pub(super) struct ElasticLookup {
    target: Arc<ElasticTarget>,
    first_look: Mutex<FirstLook>,
    disagreements: std::sync::Mutex<Disagreements>,
}

impl ElasticLookup {
    pub(super) fn new(target: Arc<ElasticTarget>) -> Self {
        Self { target, first_look: Mutex::default(), disagreements: std::sync::Mutex::default() }
    }

    /// Finds out whose documents have the ids that are taken, and puts the outcomes of their records into `outcomes`.
    pub(super) async fn resolve(&self, batch: &DocumentBatch<'_>, conflicts: &[IdConflict], outcomes: &mut [Outcome]) {
        for conflicts in conflicts.chunks(LOOKUP_SIZE) {
            let document = |conflict: &IdConflict| batch.get(conflict.place).expect("only good documents are sent");
            let questions = conflicts.iter().map(|conflict| self.question(&document(conflict), conflict.index.as_deref()));
            let answers = self.find(questions.collect()).await;
            for (at, conflict) in conflicts.iter().enumerate() {
                outcomes[conflict.place] = match &answers {
                    Ok(answers) => self.reconcile(&document(conflict), conflict.action, &answers[at]),
                    Err(outcome) => outcome.clone(),
                };
            }
        }
    }

    /// Judges the answer for a document whose id is taken, and stops a run whose look-ups never agree with its writes.
    fn reconcile(&self, document: &Document<'_>, action: BulkAction, answer: &Value) -> Outcome {
        if let Some(outcome) = unread(answer) {
            return outcome;
        }
        match judge(&self.target, document, action, answer) {
            Outcome::Retry(_) => {
                let is_found = is_found(answer);
                self.disagree(document, if is_found { Contradiction::Older } else { Contradiction::Nothing })
            }
            outcome => {
                self.agree(document);
                outcome
            }
        }
    }

    /// Returns the outcome of a document whose look-up contradicts its write: it is sent again, but not for ever.
    pub(super) fn disagree(&self, document: &Document<'_>, contradiction: Contradiction) -> Outcome {
        let is_of_deletes = self.target.options.deletes && contradiction == Contradiction::Nothing;
        let patience = if is_of_deletes { DELETED_FOR } else { Duration::ZERO };
        let mut disagreements = self.disagreements.lock().unwrap_or_else(PoisonError::into_inner);
        let refusal = disagreements.note(document.record, contradiction, patience, Instant::now());
        refusal.map_or_else(|| Outcome::Retry(overtaken()), Outcome::Stop)
    }

    /// Notes that the look-up of a document agrees with its write.
    pub(super) fn agree(&self, document: &Document<'_>) {
        self.disagreements.lock().unwrap_or_else(PoisonError::into_inner).forget(document.record);
    }

    /// Looks up the first ids of each new partition before anything of it is written. Returns the outcome of the whole batch if one
    /// of them belongs to another record, or if that could not be found out.
    pub(super) async fn first_look(&self, batch: &DocumentBatch<'_>) -> Option<Outcome> {
        if !matches!(self.target.format.mapper.ids(), Ids::Offset { .. }) {
            return None;
        }
        // Other batches wait here: they may hold records of the same partitions.
        let mut first_look = self.first_look.lock().await;
        let unchecked = first_look.unchecked(batch, usize::MAX);
        for documents in unchecked.chunks(LOOKUP_SIZE) {
            match self.check(documents).await {
                // A user without the right to read can still write: a taken id shows as a conflict.
                Err(Outcome::Stop(reason)) if reason.code() == "security_exception" => {
                    tracing::warn!("Cannot look up whether the first ids belong to another topic or cluster: {reason}");
                    break;
                }
                Err(outcome) => return Some(outcome),
                Ok(()) => {}
            }
        }
        first_look.check(&unchecked);
        None
    }

    /// Looks up the ids of `documents`.
    ///
    /// # Errors
    /// When one of them belongs to another record, or that could not be found out.
    async fn check(&self, documents: &[Document<'_>]) -> Result<(), Outcome> {
        let questions: Vec<_> = documents.iter().map(|document| self.question(document, None)).collect();
        let answers = match self.target.index() {
            Some(stream) if self.target.options.data_stream => self.search(stream, documents).await?,
            _ if self.target.keeps_sources() => self.find_sources(documents, questions).await?,
            _ => self.find(questions).await?,
        };
        let mut ours = Vec::new();
        for (document, answer) in documents.iter().zip(&answers) {
            let is_missing = answer.get("error").is_some_and(|error| kind(error) == "index_not_found_exception");
            if is_missing || answer.get("found") == Some(&Value::Bool(false)) {
                continue;
            }
            if let Some(outcome) = unread(answer) {
                return Err(outcome);
            }
            match judge(&self.target, document, BulkAction::Create, answer) {
                outcome @ (Outcome::Stop(_) | Outcome::Unclear(_)) => return Err(outcome),
                Outcome::AlreadyThere if self.target.keeps_sources() && !self.target.options.data_stream => {
                    ours.push((*document, crate::connectors::elastic::BulkFormat::has_payload(document, &answer["_source"])));
                }
                _ => {}
            }
        }
        FirstLook::judge_payloads(&ours, self.target.format.mapper.meta().names()).map_or(Ok(()), Err)
    }

    /// Returns the question for the document that is stored under an id, in the index that the server named or in its own.
    pub(super) fn question(&self, document: &Document<'_>, index: Option<&str>) -> Question {
        let routing = if self.target.format.has_routing {
            Some(document.names[1].to_owned())
        } else {
            self.target.alias_routing().map(str::to_owned)
        };
        Question { index: index.unwrap_or(document.names[0]).to_owned(), id: document.id.to_owned(), routing }
    }

    /// Returns the fields that tell whose a document is; none if only the whole document tells.
    fn fields(&self) -> Option<String> {
        Some(deciding_fields(self.target.format.mapper.meta().names()?).join(","))
    }

    /// Returns an answer to each question.
    pub(super) async fn find(&self, questions: Vec<Question>) -> Result<Vec<Value>, Outcome> {
        self.find_fields(questions, self.fields()).await
    }

    /// Returns the same with whole sources; with the fields that decide for those that cannot be read, as with a number beyond a double.
    async fn find_sources(&self, documents: &[Document<'_>], questions: Vec<Question>) -> Result<Vec<Value>, Outcome> {
        let mut answers = self.find_fields(questions, None).await?;
        let is_unread = |at: &usize| is_found(&answers[*at]) && answers[*at].get("_source").is_none();
        let unread: Vec<usize> = (0..answers.len()).filter(is_unread).collect();
        if unread.is_empty() {
            return Ok(answers);
        }
        let questions = unread.iter().map(|at| self.question(&documents[*at], None)).collect();
        for (at, answer) in unread.into_iter().zip(self.find(questions).await?) {
            answers[at] = answer;
        }
        Ok(answers)
    }

    /// Returns the same with these fields of the sources, or with all without.
    async fn find_fields(&self, questions: Vec<Question>, fields: Option<String>) -> Result<Vec<Value>, Outcome> {
        #[derive(Deserialize)]
        struct Answers<'a> {
            #[serde(borrow)]
            docs: Vec<&'a RawValue>,
        }
        let query: Vec<_> = fields.as_deref().map(|fields| ("_source_includes", fields)).into_iter().collect();
        let count = questions.len();
        // Servers can forbid an index in the body: one for all goes into the path.
        let index = questions.first().map(|first| first.index.clone());
        let index = index.filter(|index| questions.iter().all(|question| question.index == *index));
        let body = json!({ "docs": questions.iter().map(|question| question.json(index.is_none())).collect::<Vec<_>>() });
        let path = index.map_or_else(|| "/_mget".to_owned(), |index| format!("/{}/_mget", in_path(&index)));
        let answer = self.ask(Request { deadline: BULK_TIMEOUT, ..Request::post(&path, &body) }.with(&query)).await?;
        let answer = String::from_utf8_lossy(&answer);
        let answers: Answers<'_> = serde_json::from_str(&answer)
            .ok()
            .filter(|answers: &Answers<'_>| answers.docs.len() == count)
            .ok_or_else(|| not_looked_up(200))?;
        // A stored document that cannot be read is known to be there.
        let read = |document: &&RawValue| match lenient_json::value(document.get().as_bytes()) {
            Value::Null => json!({"found": true}),
            answer => answer,
        };
        Ok(answers.docs.iter().map(read).collect())
    }

    /// Returns the same of a data stream, which can only be searched.
    async fn search(&self, stream: &str, documents: &[Document<'_>]) -> Result<Vec<Value>, Outcome> {
        let ids: Vec<&str> = documents.iter().map(|document| document.id).collect();
        let source = self.fields().map_or(json!(true), |fields| fields.split(',').collect());
        let body = json!({"size": ids.len(), "query": {"ids": {"values": ids}}, "_source": source});
        let path = format!("/{}/_search", in_path(stream));
        // An answer without one of the shards is not an answer.
        let query = [("ignore_unavailable", "true"), ("allow_partial_search_results", "false")];
        let answer = self.ask(Request { deadline: QUESTION_TIMEOUT, ..Request::post(&path, &body) }.with(&query)).await?;
        let answer = lenient_json::value(&answer);
        let hits = answer.pointer("/hits/hits").and_then(Value::as_array).ok_or_else(|| not_looked_up(200))?;
        let of = |id: &str| hits.iter().find(|hit| hit.get("_id").is_some_and(|other| other == id));
        let answer = |id| of(id).map_or_else(|| json!({"found": false}), |hit| json!({"found": true, "_source": hit["_source"]}));
        Ok(ids.into_iter().map(answer).collect())
    }

    async fn ask(&self, call: Request<'_>) -> Result<bytes::Bytes, Outcome> {
        let client = &self.target.client;
        let unanswered = |error| of_failed_lookup(response::unanswered(&error, client.section()));
        let reply = client.call(call).await.map_err(unanswered)?;
        match reply.status {
            200 => Ok(reply.body),
            400 | 401 | 403 => Err(of_failed_lookup(response::whole(reply.status, &reply.body))),
            status => Err(not_looked_up(status)),
        }
    }
}

/// Returns the outcome of documents whose look-up was answered with this status, and not with the stored document: that blames none of
/// them.
pub(super) fn not_looked_up(status: u16) -> Outcome {
    let why = if status == 429 { "the server is overloaded".to_owned() } else { format!("status {status}") };
    let what = format!("the server did not return the stored document of an id: {why}");
    Outcome::Retry(with_load(status, Reason::new("not_looked_up", what)))
}

/// Returns whether an answer holds a document.
fn is_found(answer: &Value) -> bool {
    answer.get("found") == Some(&Value::Bool(true))
}

/// Returns the outcome for a document whose lookup failed with `error`.
pub(super) fn lookup_failed(error: &Value) -> Outcome {
    let quoted = clean(&text(error));
    match kind(error) {
        kind @ "security_exception" => {
            Outcome::Stop(Reason::new(kind, quoted).hint("grant the user or the key the right to read the index"))
        }
        "routing_missing_exception" => Outcome::Stop(permanent(400, error)),
        // An alias of several indices: none of them is the one to look in.
        "illegal_argument_exception" => Outcome::Stop(Reason::new("ambiguous_index", quoted)),
        kind if response::is_transient(kind) => Outcome::Retry(transient(503, error)),
        kind => {
            let what = format!("the server did not return the stored document of an id ({})", clean(kind));
            Outcome::Retry(Reason::new("not_looked_up", what).detail(quoted))
        }
    }
}

/// Returns the metadata of a stored document; its version is the one that `version` names.
pub(super) fn stored_metadata(source: &Value, names: &MetaNames, version: &str) -> StoredMetadata {
    // An index that keeps no sources makes them up from its mapping, where a date may be text.
    let number = |name: &str| source.get(name).and_then(|value| value.as_i64().or_else(|| value.as_str()?.parse().ok()));
    StoredMetadata {
        topic: source.get(&names.topic).and_then(Value::as_str).map(str::to_owned),
        partition: number(&names.partition),
        offset: number(&names.offset),
        timestamp: number(&names.timestamp),
        version: number(version),
    }
}

/// Returns the outcome of a document if the answer does not tell whether it is stored.
fn unread(answer: &Value) -> Option<Outcome> {
    match answer.get("error") {
        Some(error) => Some(lookup_failed(error)),
        None if answer.get("found").is_none_or(|found| !found.is_boolean()) => Some(not_looked_up(200)),
        None => None,
    }
}

/// Returns the outcome of `document`, with which `action` was to be done, by the `answer` to what is stored under its id, which tells it.
fn judge(target: &ElasticTarget, document: &Document<'_>, action: BulkAction, answer: &Value) -> Outcome {
    match (is_found(answer), action) {
        (true, _) => {}
        // It was deleted by this very version.
        (false, BulkAction::Delete) => return Outcome::AlreadyThere,
        (false, _) => return Outcome::Retry(overtaken()),
    }
    let mapper = &target.format.mapper;
    let source = answer.get("_source").unwrap_or(&Value::Null);
    let version = answer.get("_version").and_then(Value::as_i64).or(document.version);
    let owner = match mapper.meta().names() {
        Some(names) => {
            let stored = stored_metadata(source, names, version_field(names, mapper.version()));
            Owner::of(document, &StoredMetadata { version, ..stored })
        }
        None => match version.zip(document.version).map(|(theirs, ours)| theirs.cmp(&ours)) {
            Some(std::cmp::Ordering::Greater) => Owner::Newer,
            Some(std::cmp::Ordering::Less) => Owner::Older,
            _ => Owner::of_unmarked(action != BulkAction::Delete && target.format.is_source(document, source)),
        },
    };
    owner.outcome(document, mapper.meta().names(), mapper.version())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_that_the_server_returns_as_text_is_read() {
        let fields = crate::document::MetadataFields::default();
        let names = fields.names().expect("the default has names");
        let read = |source: Value| {
            let stored = stored_metadata(&source, names, &names.timestamp);
            (stored.topic, stored.partition, stored.offset, stored.timestamp, stored.version)
        };
        let (at, topic) = (1_700_000_000_000_i64, Some("t".to_owned()));
        for (time, offset) in [(json!(at), json!(7)), (json!(at.to_string()), json!("7"))] {
            let source = json!({"_kafka_topic": "t", "_kafka_partition": 0, "_kafka_offset": offset, "_kafka_timestamp": time});
            assert_eq!(read(source), (topic.clone(), Some(0), Some(7), Some(at), Some(at)));
        }
        assert_eq!(read(json!({"_kafka_timestamp": "yesterday"})), (None, None, None, None, None));
    }

    #[test]
    fn a_lookup_in_a_closed_index_is_retried_with_its_cause() {
        let Outcome::Retry(reason) = lookup_failed(&json!({"type": "index_closed_exception", "reason": "closed"})) else {
            panic!("a closed index is an outage");
        };
        assert_eq!(reason.to_string(), "the index is closed (index_closed_exception)");
        let Outcome::Retry(reason) = lookup_failed(&json!({"type": "other_exception", "reason": "quotes a document"})) else {
            panic!("an unknown error blames no record");
        };
        assert_eq!(reason.to_string(), "the server did not return the stored document of an id (other_exception)");
    }
}
