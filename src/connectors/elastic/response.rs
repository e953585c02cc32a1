//! From the answer to a bulk request to an outcome of each record. Pure.
//!
//! The type of an error counts before the status. Only a known success is a delivery.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::connectors::elastic::diagnosis::CallError;
use crate::connectors::elastic::lenient_json;
use crate::connectors::elastic::reason::{self, clean};
use crate::pipeline::{Outcome, Reason};
use crate::profile::ElasticSection;

/// The action of a bulk request on a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BulkAction {
    /// Writes it if its id is free; always without an id.
    Create,
    /// Writes it over the stored document; guarded by its version, if it has one.
    Index,
    /// Merges it into the stored document, unless that has changed since it was looked up.
    Update,
    /// Deletes the stored document.
    Delete,
}

/// What an item says about its document.
#[derive(Debug, PartialEq)]
pub(super) enum ItemVerdict {
    Outcome(Outcome),
    /// The id is taken, with the same version if there is one: the stored document has to be looked up.
    Conflict {
        /// The index of the stored document, behind the name that was written to.
        index: Option<String>,
    },
}

/// An answer to a bulk request.
#[derive(Debug, Deserialize)]
pub(super) struct BulkResponse<'a> {
    #[serde(borrow)]
    items: Vec<BulkItem<'a>>,
    /// The number of documents; fewer items repeat.
    #[serde(skip)]
    count: usize,
}

impl<'a> BulkResponse<'a> {
    /// Returns one item for each document, in their order.
    pub(super) fn items(&self) -> impl Iterator<Item = &BulkItem<'a>> {
        self.items.iter().cycle().take(self.count)
    }

    /// Returns the answer to `count` documents if all items are alike, as they mostly are: comparing them is much faster than parsing
    /// each.
    fn uniform(body: &'a [u8], count: usize) -> Option<Self> {
        let items = body.strip_prefix(b"{\"items\":[")?.strip_suffix(b"]}")?;
        let length = (items.len() + 1).checked_div(count)?;
        let first = items.get(..length.checked_sub(1)?)?;
        let mut all = items.chunks(length);
        let is_same = |item: &[u8]| item.strip_prefix(first).is_some_and(|rest| matches!(rest, b"," | b""));
        if all.len() != count || !all.all(is_same) || items.ends_with(b",") {
            return None;
        }
        Some(Self { items: vec![serde_json::from_slice(first).ok()?], count })
    }
}

/// The answer for one document.
#[derive(Debug, Default, PartialEq)]
pub(super) struct BulkItem<'a> {
    pub(super) status: u16,
    result: Option<Cow<'a, str>>,
    failure_store: Option<Cow<'a, str>>,
    error: Option<Box<Value>>,
    /// The sequence number and primary term after an update: the guard of the next one.
    pub(super) place: Option<(i64, i64)>,
}

impl<'de: 'a, 'a> Deserialize<'de> for BulkItem<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct ItemFields<'a> {
            status: u16,
            #[serde(borrow, default)]
            result: Option<Cow<'a, str>>,
            #[serde(borrow, default)]
            failure_store: Option<Cow<'a, str>>,
            #[serde(default)]
            error: Option<Box<Value>>,
            #[serde(default, rename = "_seq_no")]
            seq_no: Option<i64>,
            #[serde(default, rename = "_primary_term")]
            primary_term: Option<i64>,
        }
        struct ItemVisitor;
        impl<'de> Visitor<'de> for ItemVisitor {
            type Value = BulkItem<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an item of a bulk answer")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let Some((_, inner)) = map.next_entry::<IgnoredAny, ItemFields<'de>>()? else { return Ok(BulkItem::default()) };
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                let ItemFields { status, result, failure_store, error, seq_no, primary_term } = inner;
                Ok(BulkItem { status, result, failure_store, error, place: seq_no.zip(primary_term) })
            }
        }
        deserializer.deserialize_map(ItemVisitor)
    }
}

/// Returns the answer in `body` to a bulk request of `count` documents.
pub(super) fn parse(body: &[u8], count: usize) -> Result<BulkResponse<'_>, Reason> {
    if let Some(answer) = BulkResponse::uniform(body, count) {
        return Ok(answer);
    }
    let mut answer: BulkResponse<'_> = serde_json::from_slice(body).map_err(|error| {
        let what = if error.is_eof() { "the answer is cut off" } else { "the answer is not one to a bulk request" };
        Reason::new("unreadable_answer", what)
    })?;
    if answer.items.len() == count {
        answer.count = count;
        return Ok(answer);
    }
    let what = format!("{count} documents were sent, and the answer covers {}", answer.items.len());
    Err(Reason::new("incomplete_answer", what))
}

/// Transient errors of the server.
const TRANSIENT: [&str; 21] = [
    "already_closed_exception",
    "circuit_breaking_exception",
    "cluster_block_exception",
    "cluster_manager_not_discovered_exception",
    "engine_closed_exception",
    "es_rejected_execution_exception",
    "failed_node_exception",
    "i_o_exception",
    "index_closed_exception",
    "master_not_discovered_exception",
    "no_shard_available_action_exception",
    "node_closed_exception",
    "node_disconnected_exception",
    "node_not_connected_exception",
    "opensearch_rejected_execution_exception",
    "process_cluster_event_timeout_exception",
    "receive_timeout_transport_exception",
    "rejected_execution_exception",
    "shard_not_in_primary_mode_exception",
    "timeout_exception",
    "unavailable_shards_exception",
];

/// Errors of the document.
const BAD: [&str; 7] = [
    "mapper_parsing_exception",
    "document_parsing_exception",
    "strict_dynamic_mapping_exception",
    "invalid_index_name_exception",
    "document_missing_exception",
    "not_x_content_exception",
    "fail_processor_exception",
];

/// Returns the verdict of `item` on the document of `action`, which passed an ingest pipeline if `is_piped`.
pub(super) fn judge(action: BulkAction, item: &BulkItem<'_>, is_piped: bool) -> ItemVerdict {
    let Some(error) = item.error.as_deref() else { return without_error(action, item) };
    let kind = reason::kind(error);
    let retry = || ItemVerdict::Outcome(Outcome::Retry(reason::transient(item.status, error)));
    let bad = || ItemVerdict::Outcome(Outcome::Reject(reason::bad(item.status, error)));
    let stop = || ItemVerdict::Outcome(Outcome::Stop(reason::permanent(item.status, error)));
    if item.status == 429 || TRANSIENT.contains(&kind) {
        return if reason::is_too_large(error) {
            ItemVerdict::Outcome(Outcome::BatchRejected(too_large(error)))
        } else {
            retry()
        };
    }
    match kind {
        "version_conflict_engine_exception" => conflict(action, item, error),
        "security_exception" | "index_not_found_exception" | "routing_missing_exception" => stop(),
        "illegal_argument_exception" if reason::is_misconfigured(error) => stop(),
        "mapper_exception" if reason::is_timeout(error) => retry(),
        "validation_exception" if reason::is_shard_limit(error) => retry(),
        "illegal_state_exception" if is_piped || reason::is_pipeline_failure(error) => bad(),
        kind if BAD.contains(&kind) => bad(),
        _ => match item.status {
            401 | 403 | 404 => stop(),
            408 | 409 | 502..=504 => retry(),
            400..=499 => bad(),
            _ => ItemVerdict::Outcome(Outcome::Unclear(reason::transient(item.status, error))),
        },
    }
}

fn without_error(action: BulkAction, item: &BulkItem<'_>) -> ItemVerdict {
    ItemVerdict::Outcome(match (item.status, action) {
        (200 | 201, _) if item.failure_store.as_deref() == Some("used") => Outcome::Reject(
            Reason::new("failure_store", "the document is in the failure store of its data stream")
                .hint("look up the error in the failure store"),
        ),
        // A created document is answered with 201, and one that is written over with `updated`.
        (200, BulkAction::Create) => Outcome::Reject(dropped_by_pipeline()),
        (200, BulkAction::Index) if item.result.as_deref() == Some("noop") => Outcome::Reject(dropped_by_pipeline()),
        (200 | 201, _) => Outcome::Delivered,
        (404, BulkAction::Delete) if item.result.as_deref() == Some("not_found") => Outcome::Delivered,
        (status, _) => Outcome::Unclear(Reason::new("unknown_answer", format!("status {status} without an error"))),
    })
}

fn dropped_by_pipeline() -> Reason {
    Reason::new("dropped_by_pipeline", "the ingest pipeline dropped the document")
        .hint("correct the pipeline, or write without it")
}

fn conflict(action: BulkAction, item: &BulkItem<'_>, error: &Value) -> ItemVerdict {
    let taken = || ItemVerdict::Conflict { index: error.get("index").and_then(Value::as_str).map(str::to_owned) };
    match action {
        BulkAction::Create => taken(),
        BulkAction::Update => ItemVerdict::Outcome(Outcome::Retry(reason::transient(item.status, error))),
        // `[ID]: version conflict, current version [7] is higher or equal to the one provided [7]`, with any text in the id.
        BulkAction::Index | BulkAction::Delete => {
            let text = reason::text(error);
            let version = |after: &str| text.rsplit_once(after)?.1.split_once(']')?.0.parse::<i64>().ok();
            match (version("current version ["), version("provided [")) {
                (Some(theirs), Some(ours)) if theirs > ours => ItemVerdict::Outcome(Outcome::Superseded),
                _ => taken(),
            }
        }
    }
}

/// Returns whether errors of this type pass.
pub(super) fn is_transient(kind: &str) -> bool {
    TRANSIENT.contains(&kind)
}

/// Returns the outcome of each document of a request whose answer as a whole is not 200.
///
/// A request that was rejected may have been carried out in part: no document counts as delivered.
pub(super) fn whole(status: u16, body: &[u8]) -> Outcome {
    let error = lenient_json::value(body).get_mut("error").map(Value::take);
    let kind = error.as_ref().map_or("", reason::kind);
    let transient = || match &error {
        Some(error) => reason::transient(status, error),
        None => reason::with_load(
            status,
            Reason::new(format!("http_{status}"), format!("the server answers with HTTP status {status}")),
        ),
    };
    if status == 429 || is_transient(kind) {
        return match &error {
            Some(error) if reason::is_too_large(error) => Outcome::BatchRejected(too_large(error)),
            _ => Outcome::Retry(transient()),
        };
    }
    match status {
        413 => Outcome::BatchRejected(Reason::new("too_large", "the request is too large for the server (413)")),
        // An answer in another format comes from a proxy and names no record.
        400 => match &error {
            None => Outcome::Unclear(transient()),
            Some(error) if reason::is_misconfigured(error) => Outcome::Stop(reason::permanent(status, error)),
            Some(error) => {
                let code = if kind.is_empty() { "http_400" } else { kind };
                Outcome::BatchRejected(
                    Reason::new(code, format!("the server rejects the request ({code})")).detail(reason::text(error)),
                )
            }
        },
        401 | 403 => Outcome::Stop(match &error {
            Some(error) => reason::permanent(status, error),
            None => reason::unauthorized(status, String::new()),
        }),
        404 if kind == "index_not_found_exception" => {
            Outcome::Stop(reason::permanent(status, error.as_ref().expect("its kind is known")))
        }
        502..=504 => Outcome::Retry(transient()),
        _ => Outcome::Unclear(transient()),
    }
}

/// Returns the reason of a server that rejects a request for its size alone.
fn too_large(error: &Value) -> Reason {
    Reason::new("too_large_for_memory", "the request is too large for the memory of the server").detail(reason::text(error))
}

/// Returns the outcome of each document of a request without an answer.
pub(super) fn unanswered(error: &CallError, section: &ElasticSection) -> Outcome {
    let reason = Reason::new("no_answer", clean(&error.summary(section)));
    Outcome::Unclear(if error.is_time_out() { reason.time_out() } else { reason })
}

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
