//! What is there before a run: whether it can be written to, and what would be created.

use std::time::Duration;

use bytes::Bytes;
use elasticsearch::http::Method;
use serde_json::{Value, json};

use crate::connectors::elastic::client::{Call, Reply, RequestBody};
use crate::connectors::elastic::cluster::Flavour;
use crate::connectors::elastic::names::in_path;
use crate::connectors::elastic::reason::{clean, kind, text};
use crate::connectors::elastic::response::{self, BulkAction, ItemVerdict};
use crate::connectors::elastic::sink::{BulkWriter, ElasticSink, Op};
use crate::pipeline::{ConnectorError, Failure, Outcome, Reason, Refused};

/// How long it may take to create an index.
const CREATION: Duration = Duration::from_secs(60);

/// What goes by the name of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexKind {
    /// Nothing.
    Missing,
    /// An index, or an alias of some.
    There,
    /// A data stream.
    DataStream,
    /// Records name the index, or the server does not say.
    Unknown,
}

impl ElasticSink {
    /// Returns the lines of a plan: what is written where, and what would be created.
    #[must_use]
    pub fn plan(&self, index: &IndexKind) -> Vec<String> {
        let desk = self.desk();
        let template = desk.writing.reading.namings()[0].template();
        let how = match (desk.op, desk.options.deletes) {
            (Op::Create, _) => "created",
            (Op::Index, false) if !desk.writing.reading.ids().repeat() => "written over what has their ids",
            (Op::Index, false) => "replaced by newer versions",
            (Op::Index, true) => "replaced by newer versions, and deleted by tombstones",
            (Op::Update | Op::Upsert, false) => "merged with newer versions",
            (Op::Update | Op::Upsert, true) => "merged with newer versions, and deleted by tombstones",
        };
        let what = if desk.options.data_stream { "data stream " } else { "" };
        let mut lines =
            vec![format!("{what}{template} of {} ({}): documents are {how}", desk.client.name(), desk.client.server())];
        match index {
            IndexKind::Missing => lines.push(format!("{template} is not there: it will be created")),
            IndexKind::Unknown if template.constant().is_none() => {
                lines.push(format!("{template}: the server creates an index when a record names it first"));
            }
            _ => {}
        }
        lines
    }

    /// Returns what goes by the name of the index.
    ///
    /// # Errors
    /// When no node answers, or it is not what the settings say.
    pub async fn index(&self) -> Result<IndexKind, ConnectorError> {
        let desk = self.desk();
        let Some(name) = desk.constant() else { return Ok(IndexKind::Unknown) };
        let path = format!("/{}", in_path(name));
        let reply = desk.client.ask(|| Call::get(&path)).await?;
        let found = index(&reply);
        let wrong = |what: String, hint: &str| Err(Failure::new(what).hint(hint).into());
        match found {
            IndexKind::DataStream if !desk.options.data_stream => {
                wrong(format!("`{name}` of `{}` is a data stream", desk.client.name()), "add --data-stream")
            }
            IndexKind::There if desk.options.data_stream => {
                wrong(format!("`{name}` of `{}` is no data stream", desk.client.name()), "leave --data-stream out")
            }
            found => Ok(found),
        }
    }

    /// Refuses to create what is missing.
    ///
    /// # Errors
    /// When it is missing.
    pub fn refuse_missing(&self, found: &IndexKind) -> Result<(), ConnectorError> {
        let desk = self.desk();
        let Some(name) = desk.constant().filter(|_| *found == IndexKind::Missing) else { return Ok(()) };
        Err(Refused {
            what: format!("`{name}` is not on `{}`, and may not be created (--no-create)", desk.client.name()),
            numbers: Vec::new(),
            hint: "create it, or leave --no-create out".to_owned(),
        }
        .into())
    }

    /// Creates the index if it is missing. A data stream creates itself, if there is a template for it.
    ///
    /// # Errors
    /// When the server does not create it, or would create something else.
    pub async fn prepare(&self, found: &IndexKind) -> Result<(), ConnectorError> {
        let desk = self.desk();
        let Some(name) = desk.constant().filter(|_| *found == IndexKind::Missing) else { return Ok(()) };
        if desk.options.data_stream {
            return desk.require_stream_template(name).await;
        }
        let path = format!("/{}", in_path(name));
        let reply = desk.client.ask(|| Call { deadline: CREATION, ..Call::put(&path, &json!({})) }).await?;
        let answer = reply.json();
        let error = answer.get("error").unwrap_or(&Value::Null);
        if reply.is_good() || kind(error) == "resource_already_exists_exception" {
            return Ok(());
        }
        let said = if error.is_null() { format!("status {}", reply.status) } else { clean(&text(error)) };
        let hint = if said.contains("data stream") {
            "add --data-stream".to_owned()
        } else {
            format!("create it yourself, or let `{}` create indices", desk.client.name())
        };
        Err(Failure::new(format!("cannot create index `{name}` on `{}`", desk.client.name())).because(said).hint(hint).into())
    }
}

/// Returns what an answer to `GET /name` says is there.
fn index(reply: &Reply) -> IndexKind {
    if reply.status == 404 {
        return IndexKind::Missing;
    }
    match reply.json() {
        Value::Object(indices) if reply.is_good() && !indices.is_empty() => {
            let of_stream = |index: &Value| index.get("data_stream").is_some();
            if indices.values().all(of_stream) { IndexKind::DataStream } else { IndexKind::There }
        }
        // A data stream without indices, or somebody who may not ask.
        _ => IndexKind::Unknown,
    }
}

impl BulkWriter {
    /// Returns the name of the index, if it is the same for every record.
    pub(super) fn constant(&self) -> Option<&str> {
        self.writing.reading.namings()[0].template().constant()
    }

    /// Proves that the index can be written to, and writes nothing.
    pub(super) async fn probe(&self) -> Result<(), ConnectorError> {
        // Names that records make are not known before.
        let Some(name) = self.constant() else { return Ok(()) };
        let may_write = self.client.server().flavour == Flavour::Elasticsearch && self.ask_for_rights(name).await?;
        if self.options.data_stream {
            return Ok(()); // takes new documents alone, so nothing can be tried
        }
        // A write that is to find a document as it was left by a write that never was.
        let lines = "{\"index\":{\"_id\":\"sdl-check\",\"if_seq_no\":9007199254740991,\"if_primary_term\":1}}\n{}\n";
        let pipeline: Vec<_> = self.options.pipeline.as_deref().map(|name| ("pipeline", name)).into_iter().collect();
        let path = format!("/{}/_bulk", in_path(name));
        let body = || Some(RequestBody::Lines(Bytes::from_static(lines.as_bytes())));
        let reply = self.client.ask(|| Call { method: Method::Post, body: body(), ..Call::get(&path).with(&pipeline) }).await?;
        let outcome = match response::parse(&reply.body, 1) {
            Ok(answer) if reply.status == 200 => {
                match response::judge(BulkAction::Index, answer.items().next().expect("one was asked for"), false) {
                    ItemVerdict::Outcome(outcome) => outcome,
                    ItemVerdict::Unknown(_) | ItemVerdict::Taken { .. } => return Ok(()),
                }
            }
            _ => response::whole(reply.status, &reply.body),
        };
        match outcome {
            // Who may only create documents may not try this.
            Outcome::Stop(reason) if may_write && reason.code() == "security_exception" => Ok(()),
            Outcome::Stop(reason) => Err(self.not_writable(name, &reason).into()),
            Outcome::Retry(reason) => {
                // It is no fault of the settings, and may pass while the run waits.
                tracing::warn!(code = reason.code(), "The index takes no documents at present: {reason}");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Returns whether the server says that the rights suffice.
    async fn ask_for_rights(&self, name: &str) -> Result<bool, ConnectorError> {
        let right = match self.op {
            Op::Create => "create_doc",
            Op::Index | Op::Update | Op::Upsert => "index",
        };
        let rights: Vec<_> = [right].into_iter().chain(self.options.deletes.then_some("delete")).collect();
        let body = json!({"index": [{"names": [name], "privileges": rights}]});
        let reply = self.client.ask(|| Call::post("/_security/user/_has_privileges", &body)).await?;
        let answer = reply.json();
        let all = answer.get("has_all_requested").and_then(Value::as_bool).filter(|_| reply.status == 200);
        if all == Some(false) {
            let missing = format!("the user or key lacks the right {}", rights.join(" or "));
            let reason = Reason::new("security_exception", missing)
                .hint(format!("grant it the index privileges {} and auto_configure for `{name}`", rights.join(", ")));
            return Err(self.not_writable(name, &reason).into());
        }
        Ok(all == Some(true))
    }

    fn not_writable(&self, name: &str, reason: &Reason) -> Failure {
        let mut failure = Failure::new(format!("cannot write to `{name}` of `{}`", self.client.name())).because(reason);
        failure.hint = reason.hinted().map(str::to_owned);
        failure
    }

    /// Refuses a data stream that would become a plain index, since no template says otherwise.
    async fn require_stream_template(&self, name: &str) -> Result<(), ConnectorError> {
        let parts = ["index_patterns", "data_stream", "priority"].map(|part| format!("index_templates.index_template.{part}"));
        let parts = parts.join(",");
        let query = [("filter_path", parts.as_str())];
        let reply = self.client.ask(|| Call::get("/_index_template").with(&query)).await?;
        if !reply.is_good() || has_stream_template(&reply.json(), name) {
            return Ok(());
        }
        Err(Refused {
            what: format!("no index template of `{}` makes `{name}` a data stream", self.client.name()),
            numbers: Vec::new(),
            hint: "create an index template with `data_stream`, or use --bootstrap user-login".to_owned(),
        }
        .into())
    }
}

/// Returns whether the template that counts for `name` has data streams.
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

/// Returns whether `name` fits a pattern with `*`.
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
    use super::*;

    #[test]
    fn a_pattern_fits_whole_names() {
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
    fn the_template_with_the_highest_priority_counts() {
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
    fn an_index_is_told_from_a_data_stream() {
        let found =
            |status, body: &str| index(&Reply { status, body: Bytes::copy_from_slice(body.as_bytes()), is_elastic: true });
        assert_eq!(found(404, ""), IndexKind::Missing);
        assert_eq!(found(200, r#"{"logins":{"aliases":{}}}"#), IndexKind::There);
        assert_eq!(found(200, r#"{".ds-logins-1":{"data_stream":"logins"}}"#), IndexKind::DataStream);
        assert_eq!(found(403, r#"{"error":{}}"#), IndexKind::Unknown);
    }
}
