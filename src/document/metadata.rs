//! What is told beside the payload.

/// Names of the fields that tell where a document comes from; none of them where they are not wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataFields {
    names: Option<MetadataFieldNames>,
}

/// The names, with their prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataFieldNames {
    /// What all of them begin with.
    prefix: String,
    /// The key, where it is text.
    pub key: String,
    /// The key in base64, where it is not.
    pub key_base64: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: String,
    /// The offset.
    pub offset: String,
    /// The record's timestamp, in milliseconds since the Unix epoch.
    pub timestamp: String,
    /// When the document was made.
    pub processed_at: String,
    /// The version, where it is a field's: the other fields tell any other.
    pub version: String,
}

impl MetadataFields {
    /// Returns the names behind `prefix`; `_kafka_key` has the usual prefix, `_`.
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

    /// Returns no names: nothing is told.
    #[must_use]
    pub fn none() -> Self {
        Self { names: None }
    }

    /// Returns the names, if anything is told.
    #[must_use]
    pub fn names(&self) -> Option<&MetadataFieldNames> {
        self.names.as_ref()
    }

    /// Returns what all names begin with; where there are none, `_`.
    pub(super) fn prefix(&self) -> &str {
        self.names.as_ref().map_or("_", |names| &names.prefix)
    }

    /// Returns whether a field of a payload would be hidden by one of these.
    #[must_use]
    pub fn claims(&self, field: &str) -> bool {
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
