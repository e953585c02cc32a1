//! What the answer to a bulk request means for each of its records. Pure.
//!
//! The type of an error counts before the status, and what is not known to be a delivery is none.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::connectors::elastic::reason::{self, clean};
use crate::pipeline::{Outcome, Reason};

/// What is done with a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BulkAction {
    /// Written if nothing has its id; without an id, always.
    Create,
    /// Written in the place of what has its id; guarded by a version, if it has one.
    Index,
    /// Merged into what has its id, unless that has changed since it was looked at.
    Update,
    /// Taken away.
    Delete,
}

/// What an item says of its document.
#[derive(Debug, PartialEq)]
pub(super) enum ItemVerdict {
    /// All that is to be known.
    Outcome(Outcome),
    /// Something in this index has the id, and the version if there is one: it has to be looked at.
    Taken {
        /// The index, behind whatever name was written to.
        index: Option<String>,
    },
    /// It failed in a way that nobody knows; what fails so for long while others pass is bad.
    Unknown(Reason),
}

/// An answer to a bulk request.
#[derive(Debug, Deserialize)]
pub(super) struct BulkResponse<'a> {
    #[serde(borrow)]
    items: Vec<BulkItem<'a>>,
    /// How many documents are answered for; where there are fewer items, they come again.
    #[serde(skip)]
    count: usize,
}

impl<'a> BulkResponse<'a> {
    /// Returns one item for each document, in their order.
    pub(super) fn items(&self) -> impl Iterator<Item = &BulkItem<'a>> {
        self.items.iter().cycle().take(self.count)
    }

    /// Returns the answer to `count` documents if it says the same of each, as it mostly does; this is found out much sooner than
    /// what each item says.
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
    /// Where an update left the document: what the next one is guarded by.
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

/// Returns the answer, if `body` is one to a bulk request of `count` documents.
pub(super) fn parse(body: &[u8], count: usize) -> Result<BulkResponse<'_>, Reason> {
    if let Some(answer) = BulkResponse::uniform(body, count) {
        return Ok(answer);
    }
    let mut answer: BulkResponse<'_> = serde_json::from_slice(body).map_err(|error| {
        let kind = if error.is_eof() { "the answer breaks off" } else { "the answer is none to a bulk request" };
        Reason::new("unreadable_answer", kind)
    })?;
    if answer.items.len() == count {
        answer.count = count;
        return Ok(answer);
    }
    let what = format!("{count} documents were sent, and {} are answered for", answer.items.len());
    Err(Reason::new("incomplete_answer", what))
}

/// Failures of the server, not of the document: they pass.
const PASSING: [&str; 21] = [
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

/// Failures of the document.
const BAD: [&str; 8] = [
    "mapper_parsing_exception",
    "document_parsing_exception",
    "strict_dynamic_mapping_exception",
    "routing_missing_exception",
    "invalid_index_name_exception",
    "document_missing_exception",
    "not_x_content_exception",
    "fail_processor_exception",
];

/// Returns what `item` says of a document with which `action` was to be done, `piped` through an ingest pipeline or not.
pub(super) fn judge(action: BulkAction, item: &BulkItem<'_>, piped: bool) -> ItemVerdict {
    let Some(error) = item.error.as_deref() else { return without_error(action, item) };
    let kind = reason::kind(error);
    let retry = || ItemVerdict::Outcome(Outcome::Retry(reason::passing(item.status, error)));
    let bad = || ItemVerdict::Outcome(Outcome::Reject(reason::bad(item.status, error)));
    let stop = || ItemVerdict::Outcome(Outcome::Stop(reason::lasting(item.status, error)));
    if item.status == 429 || PASSING.contains(&kind) {
        return if reason::is_never_small_enough(error) {
            ItemVerdict::Outcome(Outcome::BatchRejected(too_large(error)))
        } else {
            retry()
        };
    }
    match kind {
        "version_conflict_engine_exception" => conflict(action, item, error),
        "security_exception" | "index_not_found_exception" => stop(),
        "illegal_argument_exception" if reason::is_set_up_wrong(error) => stop(),
        "mapper_exception" if reason::is_out_of_time(error) => retry(),
        "validation_exception" if reason::is_full_of_shards(error) => retry(),
        "illegal_state_exception" if piped || reason::is_of_a_pipeline(error) => bad(),
        kind if BAD.contains(&kind) => bad(),
        _ => match item.status {
            401 | 403 | 404 => stop(),
            408 | 409 | 502..=504 => retry(),
            400..=499 => bad(),
            500..=599 => ItemVerdict::Unknown(reason::passing(item.status, error)),
            _ => retry(),
        },
    }
}

fn without_error(action: BulkAction, item: &BulkItem<'_>) -> ItemVerdict {
    ItemVerdict::Outcome(match (item.status, action) {
        (200 | 201, _) if item.failure_store.as_deref() == Some("used") => Outcome::Reject(
            Reason::new("failure_store", "the document was put into the failure store of its data stream")
                .hint("look there for what is wrong with it"),
        ),
        (200 | 201, _) => Outcome::Delivered,
        (404, BulkAction::Delete) if item.result.as_deref() == Some("not_found") => Outcome::Delivered,
        (status, _) => Outcome::Retry(Reason::new("unknown_answer", format!("status {status} without an error"))),
    })
}

fn conflict(action: BulkAction, item: &BulkItem<'_>, error: &Value) -> ItemVerdict {
    let taken = || ItemVerdict::Taken { index: error.get("index").and_then(Value::as_str).map(str::to_owned) };
    match action {
        BulkAction::Create => taken(),
        BulkAction::Update => ItemVerdict::Outcome(Outcome::Retry(reason::passing(item.status, error))),
        // `[ID]: version conflict, current version [7] is higher or equal to the one provided [7]`, whatever the id says.
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

/// Returns what an answer other than 200 to the whole request means for each of its documents.
///
/// A request that was refused may have been carried out in part all the same, so nothing of it is delivered.
pub(super) fn whole(status: u16, body: &[u8]) -> Outcome {
    let error = serde_json::from_slice::<Value>(body).ok().and_then(|mut answer| answer.get_mut("error").map(Value::take));
    let kind = error.as_ref().map_or("", reason::kind);
    let passing = || match &error {
        Some(error) => reason::passing(status, error),
        None => Reason::new(format!("http_{status}"), format!("the server answers with HTTP status {status}")),
    };
    if status == 429 || PASSING.contains(&kind) {
        return match &error {
            Some(error) if reason::is_never_small_enough(error) => Outcome::BatchRejected(too_large(error)),
            _ => Outcome::Retry(passing()),
        };
    }
    match status {
        413 => Outcome::BatchRejected(
            Reason::new("too_large", "the server does not take so large a request (413)")
                .hint("raise `http.max_content_length` of the server, or set such records aside with --dead-letters"),
        ),
        // What is no answer of a server like these comes from something in between, and blames no record.
        400 => match &error {
            None => Outcome::Retry(passing()),
            Some(error) if reason::is_set_up_wrong(error) => Outcome::Stop(reason::lasting(status, error)),
            Some(error) => {
                let code = if kind.is_empty() { "http_400" } else { kind };
                Outcome::BatchRejected(
                    Reason::new(code, format!("the server does not take it ({code})")).detail(reason::text(error)),
                )
            }
        },
        401 | 403 => Outcome::Stop(match &error {
            Some(error) => reason::lasting(status, error),
            None => reason::no_right(status, String::new()),
        }),
        404 if kind == "index_not_found_exception" => {
            Outcome::Stop(reason::lasting(status, error.as_ref().expect("its kind is known")))
        }
        _ => Outcome::Retry(passing()),
    }
}

/// Returns why a server that has nothing else to do does not take it.
fn too_large(error: &Value) -> Reason {
    Reason::new("too_large", "the server has not enough memory for so large a request")
        .detail(reason::text(error))
        .hint("raise `indexing_pressure.memory.limit` of the server, or set such records aside with --dead-letters")
}

/// Returns why nothing is known of a request that was not answered.
pub(super) fn unanswered(why: &str) -> Outcome {
    Outcome::Retry(Reason::new("no_answer", clean(why)))
}

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
