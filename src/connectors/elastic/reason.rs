//! From an error of the server to a reason. Pure: JSON in, text out.
//!
//! The server quotes documents in its errors, so its own words are kept for dead letters, and logs are told in ours.

use serde_json::Value;

use crate::pipeline::Reason;

/// How much of the server's words is shown.
const LONGEST: usize = 300;

/// Returns the type of an error; empty where it has none.
pub(super) fn kind(error: &Value) -> &str {
    error.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// Returns what the server says, with the causes below, outermost first. It may quote the document.
pub(super) fn text(error: &Value) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let said = cause.as_str().or_else(|| cause.get("reason").and_then(Value::as_str)).unwrap_or_default();
        if !said.is_empty() && !text.contains(said) {
            text += if text.is_empty() { "" } else { ": " };
            text += said;
        }
        next = cause.get("caused_by");
    }
    text
}

/// Returns `text` fit for a terminal: short, and without control characters.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect()
}

fn code(status: u16, error: &Value) -> String {
    let kind = kind(error);
    if kind.is_empty() { format!("status_{status}") } else { clean(kind) }
}

/// Returns why a document was not taken this time.
pub(super) fn passing(status: u16, error: &Value) -> Reason {
    let code = code(status, error);
    let what = match code.as_str() {
        "cluster_block_exception" => "a block keeps the index from being written to".to_owned(),
        "index_closed_exception" => "the index is closed".to_owned(),
        "unavailable_shards_exception" => "the shard of the document is not available".to_owned(),
        "circuit_breaking_exception" => "the server is short of memory".to_owned(),
        "validation_exception" => "the cluster has as many shards as it may have".to_owned(),
        _ if status == 429 => "the server has too much to do".to_owned(),
        _ => format!("the server answers with status {status}"),
    };
    Reason::new(code.clone(), format!("{what} ({code})")).detail(text(error))
}

/// Returns what is wrong with a document.
pub(super) fn bad(status: u16, error: &Value) -> Reason {
    let (code, text) = (code(status, error), text(error));
    let field = field(&text);
    let what = match (code.as_str(), &field) {
        ("strict_dynamic_mapping_exception", Some(field)) => format!("the mapping does not allow a field `{}`", clean(field)),
        ("document_missing_exception", _) => "there is no document with its id that could be updated".to_owned(),
        ("mapper_parsing_exception" | "document_parsing_exception", Some(field)) => {
            format!("`{}` is not what the mapping says it is", clean(field))
        }
        (_, Some(field)) => format!("the server does not take its field `{}`", clean(field)),
        (_, None) => "the server does not take the document".to_owned(),
    };
    let reason = Reason::new(code.clone(), what).detail(text);
    let reason = if code == "document_missing_exception" { reason.hint("--op upsert makes it then") } else { reason };
    field.into_iter().fold(reason, Reason::at)
}

/// Returns why no document is taken until a person acts.
pub(super) fn lasting(status: u16, error: &Value) -> Reason {
    let (kind, text) = (kind(error), clean(&text(error)));
    match kind {
        _ if status == 401 || status == 403 || kind == "security_exception" => no_right(status, text),
        "index_not_found_exception" => Reason::new(kind, "the index is not there, and the server may not create it")
            .hint("create it, or allow it in `action.auto_create_index` of the cluster"),
        _ if text.contains("pipeline with id") => {
            Reason::new("pipeline_missing", text).hint("create the pipeline, or correct --pipeline")
        }
        _ if text.contains("no write index") => {
            Reason::new("no_write_index", text).hint("set `is_write_index` for one of the indices of the alias")
        }
        _ => Reason::new(code(status, error), text),
    }
}

/// Returns the reason for rights that are missing.
pub(super) fn no_right(status: u16, text: String) -> Reason {
    if status == 401 {
        return Reason::new("login_refused", "the server does not take the login any more (401)")
            .hint("correct `username` and `password`, `api_key` or `bearer` in the profile");
    }
    let text = if text.is_empty() { format!("the server does not allow it ({status})") } else { text };
    Reason::new("security_exception", text).hint("grant the user or the key the right to write to the index")
}

/// Returns whether no document could be taken, whatever it holds.
pub(super) fn is_set_up_wrong(error: &Value) -> bool {
    let text = text(error);
    let of_pipeline = text.starts_with("pipeline with id [") && text.contains("does not exist");
    of_pipeline || text.starts_with("no write index is defined for alias")
}

/// Returns whether something was waited for in vain, such as a field that is new to the mapping.
pub(super) fn is_out_of_time(error: &Value) -> bool {
    text(error).contains("timed out")
}

/// Returns whether the cluster takes no more shards.
pub(super) fn is_full_of_shards(error: &Value) -> bool {
    let text = text(error);
    text.contains("maximum") && text.contains("shards open")
}

/// Returns whether it was rejected for its size alone: `[..., primary_operation_bytes=71303212, max_primary_bytes=51897958]`.
pub(super) fn is_never_small_enough(error: &Value) -> bool {
    let text = text(error);
    let number = |text: &str| text.split_once("bytes=")?.1.split([',', ']']).next()?.parse::<u64>().ok();
    let (own, most) = (
        text.split_once("_operation_").and_then(|(_, rest)| number(rest)),
        text.split_once(" max_").and_then(|(_, rest)| number(rest)),
    );
    own.zip(most).is_some_and(|(own, most)| own > most)
}

/// Returns whether a processor of an ingest pipeline failed.
pub(super) fn is_of_a_pipeline(error: &Value) -> bool {
    let header = error.get("header").is_some_and(|header| header.get("processor_type").is_some());
    header || error.get("processor_type").is_some()
}

/// Returns the field that the server's words name.
fn field(text: &str) -> Option<String> {
    let between = |after: &str, until: char| {
        let (_, rest) = text.split_once(after)?;
        rest.split_once(until).map(|(name, _)| name).filter(|name| !name.is_empty())
    };
    if let Some(new) = between("dynamic introduction of [", ']') {
        let inside = between("] within [", ']').filter(|inside| *inside != "_doc");
        return Some(inside.map_or_else(|| new.to_owned(), |inside| format!("{inside}.{new}")));
    }
    let found = between("failed to parse field [", ']')
        .or_else(|| between("tried to parse field [", ']'))
        .or_else(|| between("immense term in field=\"", '"'))
        .or_else(|| between("object mapping for [", ']'))
        .or_else(|| between("field name [", ']'))
        .or_else(|| between("field [", ']'));
    found.map(str::to_owned)
}
