//! From an error of the server to a reason. Pure: JSON in, text out.
//!
//! Servers quote documents in their errors: their text goes into dead letters only, and logs get our own sentence.

use serde_json::Value;

use crate::pipeline::Reason;

/// The longest text of the server that is shown, in characters.
const MAX_TEXT: usize = 300;

/// Returns the type of an error; empty where it has none.
pub(super) fn kind(error: &Value) -> &str {
    error.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// Returns the text of an error and of its causes, outermost first. It may quote the document.
pub(super) fn text(error: &Value) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let own = cause.as_str().or_else(|| cause.get("reason").and_then(Value::as_str)).unwrap_or_default();
        if !own.is_empty() && !text.contains(own) {
            text += if text.is_empty() { "" } else { ": " };
            text += own;
        }
        next = cause.get("caused_by");
    }
    text
}

/// Returns `text` for a terminal: short, and without control characters.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TEXT).collect()
}

fn code(status: u16, error: &Value) -> String {
    let kind = kind(error);
    if kind.is_empty() { format!("status_{status}") } else { clean(kind) }
}

/// Returns the reason of a transient error.
pub(super) fn transient(status: u16, error: &Value) -> Reason {
    let code = code(status, error);
    let what = match code.as_str() {
        "cluster_block_exception" => "the index is blocked for writes".to_owned(),
        "index_closed_exception" => "the index is closed".to_owned(),
        "unavailable_shards_exception" => "the shard of the document is not available".to_owned(),
        "circuit_breaking_exception" => "the server is short of memory".to_owned(),
        "validation_exception" => "the cluster has reached its shard limit".to_owned(),
        _ if status == 429 => "the server is overloaded".to_owned(),
        _ => format!("the server answers with status {status}"),
    };
    with_load(status, Reason::new(code.clone(), format!("{what} ({code})")).detail(text(error)))
}

/// Marks the reason of an overloaded server.
pub(super) fn with_load(status: u16, reason: Reason) -> Reason {
    if status == 429 { reason.overload() } else { reason }
}

/// Returns the reason of an error that the document causes.
pub(super) fn bad(status: u16, error: &Value) -> Reason {
    let (code, text) = (code(status, error), text(error));
    let field = field(&text);
    let what = match (code.as_str(), &field) {
        ("strict_dynamic_mapping_exception", Some(field)) => format!("the mapping does not allow a field `{}`", clean(field)),
        ("document_missing_exception", _) => "there is no document with its id to update".to_owned(),
        ("mapper_parsing_exception" | "document_parsing_exception", Some(field)) => {
            format!("field `{}` does not fit the mapping", clean(field))
        }
        (_, Some(field)) => format!("the server rejects field `{}`", clean(field)),
        (_, None) => "the server rejects the document".to_owned(),
    };
    let reason = Reason::new(code.clone(), what).detail(text);
    field.into_iter().fold(reason, Reason::at)
}

/// Returns the reason of an error that affects every document until the server or the command line changes.
pub(super) fn permanent(status: u16, error: &Value) -> Reason {
    let (kind, text) = (kind(error), clean(&text(error)));
    match kind {
        _ if status == 401 || status == 403 || kind == "security_exception" => unauthorized(status, text),
        "index_not_found_exception" => Reason::new(kind, "the index does not exist, and the server may not create it")
            .hint("create it, or allow it in `action.auto_create_index` of the cluster"),
        // An empty routing of a record is found before it is sent: none has one.
        "routing_missing_exception" => Reason::new(kind, "the index requires a routing value for each document"),
        _ if text.contains("pipeline with id") => Reason::new("pipeline_missing", text),
        _ if text.contains("no write index") => {
            Reason::new("no_write_index", text).hint("set `is_write_index` for one of the indices of the alias")
        }
        _ if text.starts_with("explicit index in") => Reason::new("explicit_index_forbidden", text)
            .hint("write to one index, or set `rest.action.multi.allow_explicit_index` of the cluster to true"),
        _ => Reason::new(code(status, error), text),
    }
}

/// Returns the reason of a missing privilege.
pub(super) fn unauthorized(status: u16, text: String) -> Reason {
    if status == 401 {
        return Reason::new("login_refused", "authentication failed (401)")
            .hint("correct `username` and `password`, `api_key` or `bearer` in the profile");
    }
    let text = if text.is_empty() { format!("the server denies access ({status})") } else { text };
    let hint = if text.contains("indices:data/read/") {
        "grant the user or the key the privilege `read` on the index, to look up stored ids"
    } else {
        "grant the user or the key the right to write to the index"
    };
    Reason::new("security_exception", text).hint(hint)
}

/// Returns whether the error affects every document.
pub(super) fn is_misconfigured(error: &Value) -> bool {
    let text = text(error);
    let of_pipeline = text.starts_with("pipeline with id [") && text.contains("does not exist");
    let of_explicit_index = text.starts_with("explicit index in");
    let of_routing = text.starts_with("Alias [") && text.contains("] has index routing associated with it [");
    let of_stream = text.starts_with("only write ops with an op_type of create are allowed in data streams");
    of_pipeline || of_explicit_index || of_routing || of_stream || text.starts_with("no write index is defined for alias")
}

/// Returns whether the server waited in vain, such as for a new field of the mapping.
pub(super) fn is_timeout(error: &Value) -> bool {
    text(error).contains("timed out")
}

/// Returns whether the cluster has reached its shard limit.
pub(super) fn is_shard_limit(error: &Value) -> bool {
    let text = text(error);
    text.contains("maximum") && text.contains("shards open")
}

/// Returns whether the request was rejected for its size alone: `[..., primary_operation_bytes=71303212, max_primary_bytes=51897958]`.
pub(super) fn is_too_large(error: &Value) -> bool {
    let text = text(error);
    let number = |text: &str| text.split_once("bytes=")?.1.split([',', ']']).next()?.parse::<u64>().ok();
    let (size, limit) = (
        text.split_once("_operation_").and_then(|(_, rest)| number(rest)),
        text.split_once(" max_").and_then(|(_, rest)| number(rest)),
    );
    size.zip(limit).is_some_and(|(size, limit)| size > limit)
}

/// Returns whether a processor of an ingest pipeline failed.
pub(super) fn is_pipeline_failure(error: &Value) -> bool {
    let header = error.get("header").is_some_and(|header| header.get("processor_type").is_some());
    header || error.get("processor_type").is_some()
}

/// Returns the field that the text of an error names.
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
