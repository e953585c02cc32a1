//! The index of a run: whether it exists, whether it can be written to, and its creation.

use std::time::Duration;

use elasticsearch::http::Method;
use serde_json::{Map, Value, json};

use crate::connectors::elastic::client::{Reply, Request, RequestBody};
use crate::connectors::elastic::cluster::Flavour;
use crate::connectors::elastic::names::in_path;
use crate::connectors::elastic::reason::{clean, kind, text};
use crate::connectors::elastic::request::TIME_FIELD;
use crate::connectors::elastic::response::{self, BulkAction, ItemVerdict};
use crate::connectors::elastic::target::{ElasticTarget, Op};
use crate::document::WRAPPED;
use crate::pipeline::{ConnectorError, Failure, FailureKind, Outcome, Reason, Refused};

/// How long the creation of an index may take.
const CREATE_TIMEOUT: Duration = Duration::from_secs(60);

/// What the server has under the name that documents are written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexKind {
    /// The name is free.
    Missing,
    /// An index, or an alias of one.
    Index,
    /// An alias of several indices.
    Indices,
    /// A data stream: it takes new documents only.
    DataStream,
    /// The index depends on records, or the server does not answer.
    Unknown,
}

/// Returns the lines of the plan: destination, write mode, and what the run would create.
pub(super) fn plan(target: &ElasticTarget, index: &IndexKind) -> Vec<String> {
    let template = target.format.mapper.templates()[0].pattern();
    let how = match (target.op, target.options.deletes) {
        (Op::Create, _) => "create",
        (Op::Index, false) if !target.format.mapper.ids().can_repeat() => "write over stored documents with their ids",
        (Op::Index, false) => "replace by newer versions",
        (Op::Index, true) => "replace by newer versions, delete by tombstones",
        (Op::Update | Op::Upsert, false) => "merge with newer versions",
        (Op::Update | Op::Upsert, true) => "merge with newer versions, delete by tombstones",
    };
    let kind = if target.options.data_stream { "data stream " } else { "" };
    let (name, server) = (target.client.name(), target.client.server());
    let mut lines = vec![format!("writes to {kind}{template} of {name}, {server} ({how})")];
    match index {
        IndexKind::Missing => lines.push(format!("{template} does not exist: it will be created")),
        IndexKind::Unknown if template.constant().is_none() => {
            lines.push(format!("{template}: each index is created on first write"));
        }
        _ => {}
    }
    lines
}

pub(super) async fn find(target: &ElasticTarget) -> Result<IndexKind, ConnectorError> {
    let Some(name) = target.index() else { return Ok(IndexKind::Unknown) };
    let path = format!("/{}", in_path(name));
    let reply = target.client.ask(|| Request::get(&path)).await?;
    if let Some(routing) = alias_routing(&reply.json(), name) {
        // The first run knows it; the server does not change it.
        let _ = target.alias_routing.set(routing);
    }
    let _ = target.keeps_sources.set(keeps_sources(&reply.json()));
    let _ = target.is_alias.set(reply.is_success() && is_alias(&reply.json(), name));
    Ok(kind_of(&reply))
}

/// Checks that the ingest pipeline exists.
pub(super) async fn require_pipeline(target: &ElasticTarget) -> Result<(), ConnectorError> {
    // The server takes `_none` for no pipeline.
    let Some(name) = target.options.pipeline.as_deref().filter(|name| *name != "_none") else { return Ok(()) };
    let path = format!("/_ingest/pipeline/{}", in_path(name));
    let reply = target.client.ask(|| Request::get(&path)).await?;
    // A user without the right to ask, or a proxy, gets another answer; the first write decides then.
    if reply.status != 404 || !reply.json().as_object().is_some_and(Map::is_empty) {
        return Ok(());
    }
    Err(Failure::new(format!("cannot write to `{}`", target.client.name()))
        .because(format!("ingest pipeline `{name}` does not exist"))
        .kind(FailureKind::NotWritable("pipeline_missing".to_owned()))
        .into())
}

/// Creates the index if it was not found; for a data stream, checks that it has a template.
pub(super) async fn create(target: &ElasticTarget, found: &IndexKind) -> Result<(), ConnectorError> {
    let Some(name) = target.index().filter(|_| *found == IndexKind::Missing) else { return Ok(()) };
    if target.options.data_stream {
        return require_stream_template(target, name).await;
    }
    let (path, section) = (format!("/{}", in_path(name)), target.client.name());
    let body = json!({"mappings": {"properties": own_fields(target)}});
    let reply = target.client.ask(|| Request { deadline: CREATE_TIMEOUT, ..Request::put(&path, &body) }).await?;
    let answer = reply.json();
    let error = answer.get("error").unwrap_or(&Value::Null);
    if reply.is_success() || kind(error) == "resource_already_exists_exception" {
        return Ok(());
    }
    let cause = if error.is_null() { format!("status {}", reply.status) } else { clean(&text(error)) };
    let hint = if cause.contains("data stream") {
        "write to it as a data stream".to_owned()
    } else {
        format!("create it yourself, or let `{section}` create indices")
    };
    Err(Failure::new(format!("cannot create index `{name}` on `{section}`")).because(cause).hint(hint).into())
}

/// Returns the mapping of the fields that the sink itself adds: the server would guess their types from the first document.
fn own_fields(target: &ElasticTarget) -> Value {
    let keyword = || json!({"type": "keyword", "ignore_above": 1024});
    let mut fields = Map::new();
    let mut field = |name: &str, mapping: Value| drop(fields.insert(name.to_owned(), mapping));
    field(WRAPPED, json!({"type": "object", "enabled": false}));
    if target.format.has_time {
        field(TIME_FIELD, json!({"type": "date"}));
    }
    if let Some(names) = target.format.mapper.meta().names() {
        for name in [&names.key, &names.key_base64, &names.topic] {
            field(name, keyword());
        }
        for name in [&names.partition, &names.offset, &names.timestamp, &names.version] {
            field(name, json!({"type": "long"}));
        }
        field(&names.processed_at, json!({"type": "date"}));
    }
    Value::Object(fields)
}

/// Returns whether no pipeline and no setting of `_source` changes what an index stores, by the answer to `GET /name`.
fn keeps_sources(answer: &Value) -> bool {
    let Some(indices) = answer.as_object() else { return false };
    let settings = ["default_pipeline", "final_pipeline", "derived_source", "mapping"];
    let is_plain = |index: &Value| {
        let own = index.pointer("/settings/index");
        let changes = settings.iter().any(|name| own.is_some_and(|own| own.get(name).is_some_and(|value| value != "_none")));
        own.is_some() && !changes && index.pointer("/mappings/_source").is_none()
    };
    indices.values().all(is_plain)
}

/// Returns the routing of writes through the alias `name`, by the answer to `GET /name`.
fn alias_routing(answer: &Value, name: &str) -> Option<String> {
    let aliases = answer.as_object()?.values().find_map(|index| index.get("aliases")?.get(name))?;
    aliases.get("index_routing").and_then(Value::as_str).map(str::to_owned)
}

/// Returns whether `name` is an alias, by the answer to `GET /name`.
fn is_alias(answer: &Value, name: &str) -> bool {
    let refers = |index: &Value| index.get("aliases").is_some_and(|aliases| aliases.get(name).is_some());
    answer.as_object().is_some_and(|indices| !indices.is_empty() && indices.values().all(refers))
}

/// Parses an answer to `GET /name`.
pub(super) fn kind_of(reply: &Reply) -> IndexKind {
    if reply.status == 404 {
        return IndexKind::Missing;
    }
    match reply.json() {
        Value::Object(indices) if reply.is_success() && !indices.is_empty() && indices.values().all(Value::is_object) => {
            let of_stream = |index: &Value| index.get("data_stream").is_some();
            match indices.len() {
                _ if indices.values().all(of_stream) => IndexKind::DataStream,
                1 => IndexKind::Index,
                _ => IndexKind::Indices,
            }
        }
        // A data stream without indices, or a user without the right to ask.
        _ => IndexKind::Unknown,
    }
}

fn impossible_write(target: &ElasticTarget) -> RequestBody {
    RequestBody::Lines(trial_write(target.format.has_routing).into())
}

/// Returns the lines of a write that requires a sequence number which no document has.
pub(super) fn trial_write(has_routing: bool) -> String {
    let mut action = json!({"_id": "sdl-check", "if_seq_no": 9_007_199_254_740_991_i64, "if_primary_term": 1});
    if has_routing {
        action["routing"] = json!("sdl-check");
    }
    format!("{}\n{{}}\n", json!({ "index": action }))
}

/// Returns whether the cluster accepts writes at present; asks once.
pub(super) async fn is_available(target: &ElasticTarget) -> bool {
    let Some(name) = target.index().filter(|_| !target.options.data_stream) else {
        return target.client.call(Request::get("/")).await.is_ok_and(|reply| reply.is_success());
    };
    let path = format!("/{}/_bulk", in_path(name));
    let (body, guard) = (Some(impossible_write(target)), target.alias_guard());
    let request = Request { method: Method::Post, body, ..Request::get(&path).with(guard.as_slice()) };
    let Ok(reply) = target.client.call(request).await else { return false };
    let Ok(answer) = response::parse(&reply.body, 1) else { return false };
    let verdict = answer.items().next().map(|item| response::judge(BulkAction::Index, item, false));
    let is_unclear =
        |verdict| matches!(verdict, ItemVerdict::Outcome(Outcome::Retry(_) | Outcome::Unclear(_) | Outcome::Stop(_)));
    reply.is_success() && verdict.is_some_and(|verdict| !is_unclear(verdict))
}

/// Proves that the index can be written to, and writes nothing.
pub(super) async fn probe(target: &ElasticTarget) -> Result<(), ConnectorError> {
    // Names that depend on records are not known before.
    let Some(name) = target.index() else { return Ok(()) };
    let is_elasticsearch = target.client.server().flavour == Flavour::Elasticsearch;
    let may_write = is_elasticsearch && ask_for_rights(target, name).await?;
    if target.options.data_stream {
        return Ok(()); // accepts new documents only: nothing can be tried
    }
    let pipeline: Vec<_> = target.options.pipeline.as_deref().map(|name| ("pipeline", name)).into_iter().collect();
    let path = format!("/{}/_bulk", in_path(name));
    let request =
        || Request { method: Method::Post, body: Some(impossible_write(target)), ..Request::get(&path).with(&pipeline) };
    let reply = target.client.ask(request).await?;
    let outcome = match response::parse(&reply.body, 1) {
        Ok(answer) if reply.status == 200 => {
            match response::judge(BulkAction::Index, answer.items().next().expect("an item for one document"), false) {
                ItemVerdict::Outcome(outcome) => outcome,
                ItemVerdict::Conflict { .. } => return Ok(()),
            }
        }
        _ => response::whole(reply.status, &reply.body),
    };
    match outcome {
        // A user with only the `create_doc` privilege may not do this.
        Outcome::Stop(reason) if may_write && reason.code() == "security_exception" => Ok(()),
        Outcome::Stop(reason) => Err(not_writable(target, name, &reason).into()),
        Outcome::Retry(reason) => {
            // The settings are right, and the cause may pass while the run waits.
            tracing::warn!(code = reason.code(), "The index rejects documents at present: {reason}");
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Returns whether the user's privileges suffice.
async fn ask_for_rights(target: &ElasticTarget, name: &str) -> Result<bool, ConnectorError> {
    let right = match target.op {
        Op::Create => "create_doc",
        Op::Index | Op::Update | Op::Upsert => "index",
    };
    let rights: Vec<_> = [right].into_iter().chain(target.options.deletes.then_some("delete")).collect();
    let body = json!({"index": [{"names": [name], "privileges": rights}]});
    let reply = target.client.ask(|| Request::post("/_security/user/_has_privileges", &body)).await?;
    let answer = reply.json();
    let all = answer.get("has_all_requested").and_then(Value::as_bool).filter(|_| reply.status == 200);
    if all == Some(false) {
        let missing = format!("the user or key lacks the right {}", rights.join(" or "));
        let reason = Reason::new("security_exception", missing)
            .hint(format!("grant it the index privileges {} and auto_configure for `{name}`", rights.join(", ")));
        return Err(not_writable(target, name, &reason).into());
    }
    Ok(all == Some(true))
}

fn not_writable(target: &ElasticTarget, name: &str, reason: &Reason) -> Failure {
    let mut failure = Failure::new(format!("cannot write to `{name}` of `{}`", target.client.name()))
        .because(reason)
        .kind(FailureKind::NotWritable(reason.code().to_owned()));
    failure.hint = reason.hinted().map(str::to_owned);
    failure
}

/// Refuses a data stream without a template: the server would create an index.
async fn require_stream_template(target: &ElasticTarget, name: &str) -> Result<(), ConnectorError> {
    let parts = ["index_patterns", "data_stream", "priority"].map(|part| format!("index_templates.index_template.{part}"));
    let parts = parts.join(",");
    let query = [("filter_path", parts.as_str())];
    let reply = target.client.ask(|| Request::get("/_index_template").with(&query)).await?;
    if !reply.is_success() || has_stream_template(&reply.json(), name) {
        return Ok(());
    }
    Err(Refused {
        what: format!("no index template of `{}` makes `{name}` a data stream", target.client.name()),
        numbers: Vec::new(),
        hint: "create an index template with `data_stream`".to_owned(),
    }
    .into())
}

/// Returns whether the template that applies to `name` has data streams.
fn has_stream_template(templates: &Value, name: &str) -> bool {
    let templates = templates.get("index_templates").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let templates = templates.iter().filter_map(|template| template.get("index_template"));
    let fits = |template: &&Value| {
        let patterns = template.get("index_patterns").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        patterns.iter().filter_map(Value::as_str).any(|pattern| matches(pattern, name))
    };
    let priority = |template: &&Value| template.get("priority").and_then(Value::as_i64).unwrap_or(0);
    templates.filter(fits).max_by_key(priority).is_some_and(|template| template.get("data_stream").is_some())
}

/// Returns whether `name` matches a pattern with `*`.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => name
            .strip_prefix(head)
            .is_some_and(|rest| (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| matches(tail, &rest[at..]))),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_pattern_matches_whole_names() {
        for (pattern, name, fits) in [
            ("logs-*-*", "logs-a-b", true),
            ("logs-*-*", "logs-a", false),
            ("*", "x", true),
            ("a*c", "abc", true),
            ("a*c", "abcd", false),
            ("a", "a", true),
            ("a", "ab", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn the_template_with_the_highest_priority_applies() {
        let template = |pattern: &str, priority: i64, stream: bool| {
            let mut template = json!({"index_patterns": [pattern], "priority": priority});
            if stream {
                template["data_stream"] = json!({});
            }
            json!({"index_template": template})
        };
        let of = |templates: &[Value]| has_stream_template(&json!({"index_templates": templates}), "logs-a");
        assert!(of(&[template("logs-*", 1, true)]));
        assert!(!of(&[template("logs-*", 1, true), template("*", 2, false)]));
        assert!(!of(&[template("metrics-*", 1, true)]));
        assert!(!has_stream_template(&Value::Null, "logs-a"));
    }

    #[test]
    fn indices_and_data_streams_are_distinguished() {
        let found =
            |status, body: &str| kind_of(&Reply { status, body: Bytes::copy_from_slice(body.as_bytes()), is_elastic: true });
        assert_eq!(found(404, ""), IndexKind::Missing);
        assert_eq!(found(200, r#"{"logins":{"aliases":{}}}"#), IndexKind::Index);
        assert_eq!(found(200, r#"{"i-1":{"aliases":{"i":{}}},"i-2":{"aliases":{"i":{}}}}"#), IndexKind::Indices);
        assert!(keeps_sources(&json!({"i": {"settings": {"index": {"number_of_shards": "1"}}, "mappings": {}}})));
        for changing in [
            json!({"i": {"settings": {"index": {"default_pipeline": "p"}}}}),
            json!({"i": {"settings": {"index": {"derived_source": {"enabled": "true"}}}}}),
            json!({"i": {"settings": {"index": {}}, "mappings": {"_source": {"excludes": ["a"]}}}}),
            json!({"i": {}}),
        ] {
            assert!(!keeps_sources(&changing), "{changing}");
        }
        for (answer, is) in [
            (json!({"i-1": {"aliases": {"i": {}}}, "i-2": {"aliases": {"i": {}, "j": {}}}}), true),
            (json!({"i": {"aliases": {}}}), false),
            (json!({".ds-i-1": {"data_stream": "i", "aliases": {}}}), false),
            (json!({}), false),
        ] {
            assert_eq!(is_alias(&answer, "i"), is, "{answer}");
        }
        let routed = json!({"i-1": {"aliases": {"i": {"index_routing": "tenant", "search_routing": "tenant"}}}});
        assert_eq!((alias_routing(&routed, "i").as_deref(), alias_routing(&routed, "j")), (Some("tenant"), None));
        assert_eq!(found(200, r#"{".ds-logins-1":{"data_stream":"logins"}}"#), IndexKind::DataStream);
        assert_eq!(found(403, r#"{"error":{}}"#), IndexKind::Unknown);
    }
}
