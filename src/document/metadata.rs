//! The metadata fields of a document.

/// Names of the fields that hold the origin of a document; empty without metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataFields {
    names: Option<MetadataFieldNames>,
}

/// The names, with their prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MetadataFieldNames {
    prefix: String,
    /// The key, if it is text.
    pub(crate) key: String,
    /// The key in base64, if it is not.
    pub(crate) key_base64: String,
    pub(crate) topic: String,
    pub(crate) partition: String,
    pub(crate) offset: String,
    /// The record's timestamp, in milliseconds since the Unix epoch.
    pub(crate) timestamp: String,
    pub(crate) processed_at: String,
    /// The version, if a payload field provides it; timestamp and offset are in the fields above.
    pub(crate) version: String,
}

impl MetadataFields {
    /// Returns the names with `prefix`; `_kafka_key` has the usual prefix, `_`.
    #[must_use]
    pub fn prefixed(prefix: &str) -> Self {
        let name = |name: &str| format!("{prefix}{name}");
        Self {
            names: Some(MetadataFieldNames {
                prefix: prefix.to_owned(),
                key: name("kafka_key"),
                key_base64: name("kafka_key_base64"),
                topic: name("kafka_topic"),
                partition: name("kafka_partition"),
                offset: name("kafka_offset"),
                timestamp: name("kafka_timestamp"),
                processed_at: name("processed_at"),
                version: name("kafka_version"),
            }),
        }
    }

    /// Returns no names: documents have no metadata.
    #[must_use]
    pub fn none() -> Self {
        Self { names: None }
    }

    pub(crate) fn names(&self) -> Option<&MetadataFieldNames> {
        self.names.as_ref()
    }

    /// Returns the prefix of the names; `_` without names.
    pub(super) fn prefix(&self) -> &str {
        self.names.as_ref().map_or("_", |names| &names.prefix)
    }

    /// Returns whether a field of a payload has one of these names.
    pub(crate) fn claims(&self, field: &str) -> bool {
        self.names.as_ref().is_some_and(|names| field.starts_with(&names.prefix) && names.all().contains(&field))
    }
}

impl Default for MetadataFields {
    fn default() -> Self {
        Self::prefixed("_")
    }
}

impl MetadataFieldNames {
    fn all(&self) -> [&str; 8] {
        let Self { key, key_base64, topic, partition, offset, timestamp, processed_at, version, .. } = self;
        [key, key_base64, topic, partition, offset, timestamp, processed_at, version]
    }
}
