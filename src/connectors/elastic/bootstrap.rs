//! Index templates for records of a known kind.

use serde_json::{Map, Value, json};

use crate::connectors::elastic::client::Request;
use crate::connectors::elastic::reason::{clean, text};
use crate::connectors::elastic::target::ElasticTarget;
use crate::document::{DocumentMapper, WRAPPED};
use crate::pipeline::{ConnectorError, Failure, Refused};

/// Above the built-in templates of the servers.
const PRIORITY: u32 = 200;

/// A known kind of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Bootstrap {
    /// User logins, as produce-fake makes them: their fields and no others
    UserLogin,
}

pub(super) fn template(target: &ElasticTarget, of: Bootstrap) -> Result<(String, String), ConnectorError> {
    let pattern = target.format.mapper.templates()[0].pattern().wildcard();
    if pattern.starts_with('*') {
        return Err(Refused {
            what: format!("an index template for `{pattern}` would apply to indices of others"),
            numbers: Vec::new(),
            hint: "begin the name of the index with text: `logins-{topic}`".to_owned(),
        }
        .into());
    }
    let Bootstrap::UserLogin = of;
    Ok((format!("sdl-{}", pattern.replace('*', "any")), pattern))
}

pub(super) async fn install(target: &ElasticTarget, of: Bootstrap) -> Result<(), ConnectorError> {
    let (name, pattern) = template(target, of)?;
    let mappings = mappings(&target.format.mapper);
    let (path, body) = if target.client.server().has_composable_templates() {
        let mut body = json!({"index_patterns": [pattern], "priority": PRIORITY, "template": {"mappings": mappings}});
        if target.options.data_stream {
            body["data_stream"] = json!({});
        }
        (format!("/_index_template/{name}"), body)
    } else {
        (format!("/_template/{name}"), json!({"index_patterns": [pattern], "order": PRIORITY, "mappings": mappings}))
    };
    let reply = target.client.ask(|| Request::put(&path, &body)).await?;
    if reply.is_success() {
        return Ok(());
    }
    let cause = reply.json().get("error").map_or_else(|| format!("status {}", reply.status), |error| clean(&text(error)));
    Err(Failure::new(format!("cannot install index template `{name}` on `{}`", target.client.name()))
        .because(cause)
        .hint("have somebody with the right install it")
        .into())
}

/// Returns the mapping of user logins: their fields, the metadata, and no others.
fn mappings(mapper: &DocumentMapper) -> Value {
    let text = || json!({"type": "keyword", "ignore_above": 1024});
    let time = || json!({"type": "date"});
    let mut fields = Map::new();
    let mut field = |name: &str, kind: Value| drop(fields.insert(name.to_owned(), kind));
    for name in ["user_id", "app_version", "device_type", "ip", "locale", "device_id"] {
        field(name, text()); // an address too: it may be masked
    }
    // The servers would read milliseconds as seconds; in nanoseconds that year is out of range, and the document is rejected.
    field("timestamp", json!({"type": "date_nanos", "format": "epoch_second||strict_date_optional_time"}));
    field("@timestamp", time());
    field(WRAPPED, json!({"type": "object", "enabled": false}));
    if let Some(names) = mapper.meta().names() {
        field(&names.key, text());
        field(&names.key_base64, json!({"type": "keyword", "ignore_above": 1024, "doc_values": false}));
        field(&names.topic, text());
        field(&names.partition, json!({"type": "integer"}));
        field(&names.offset, json!({"type": "long"}));
        field(&names.timestamp, json!({"type": "date", "format": "epoch_millis"}));
        field(&names.processed_at, time());
        field(&names.version, json!({"type": "long"}));
    }
    json!({"dynamic": "strict", "properties": fields})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Ids, MetadataFields, RawValues, Version};

    #[test]
    fn the_mapping_has_the_fields_of_a_login_and_the_metadata_by_their_names() {
        let mapper = |meta| {
            DocumentMapper::new(Ids::Offset { prefix: String::new() }, Version::Offset, meta, RawValues::Bad, None, Vec::new())
        };
        let mapping = mappings(&mapper(MetadataFields::prefixed("k_")));
        assert_eq!(mapping["dynamic"], "strict");
        let fields = mapping["properties"].as_object().unwrap();
        let login = crate::logins::event::FIELDS;
        for name in login.iter().chain(&["@timestamp", "k_kafka_offset", "k_processed_at", "original_data"]) {
            assert!(fields.contains_key(*name), "{name}");
        }
        assert_eq!(fields["timestamp"]["type"], "date_nanos", "no time of a day is taken for another");
        assert!(!mappings(&mapper(MetadataFields::none()))["properties"].as_object().unwrap().contains_key("_kafka_offset"));
    }
}
