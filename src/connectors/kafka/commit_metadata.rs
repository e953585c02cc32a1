//! The metadata of a committed offset: the flow that committed it, and the last record before it.

use serde::{Deserialize, Serialize};

use crate::record::{Fingerprint, NextOffset};

/// A committed offset and its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// Where the group resumes.
    pub next: NextOffset,
    /// As the broker keeps it.
    pub metadata: String,
}

/// The metadata of a commit, as JSON of a few hundred bytes: a broker accepts 4096.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CommitMetadata {
    /// The version of this format.
    sdl: u32,
    /// For example `replicate local_kafka/orders`.
    pub(crate) flow: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    offset: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timestamp: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crc: Option<u32>,
    /// The id of the topic that the offset counts in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    topic_id: Option<String>,
    /// State of the flow itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    extension: Option<String>,
}

impl CommitMetadata {
    pub(crate) fn new(flow: &str, last: Option<Fingerprint>) -> Self {
        let (offset, crc) = (last.map(|last| last.offset), last.map(|last| last.crc));
        Self {
            sdl: 1,
            flow: flow.to_owned(),
            offset,
            timestamp: last.and_then(|last| last.timestamp),
            crc,
            topic_id: None,
            extension: None,
        }
    }

    pub(crate) fn with_extension(mut self, extension: String) -> Self {
        self.extension = Some(extension);
        self
    }

    pub(crate) fn with_topic_id(mut self, topic_id: Option<String>) -> Self {
        self.topic_id = topic_id;
        self
    }

    pub(crate) fn topic_id(&self) -> Option<&str> {
        self.topic_id.as_deref()
    }

    pub(crate) fn extension(&self) -> Option<&str> {
        self.extension.as_deref()
    }

    /// Returns `None` for the metadata of another program.
    pub(crate) fn parse(metadata: &str) -> Option<Self> {
        serde_json::from_str(metadata).ok().filter(|parsed: &Self| parsed.sdl == 1)
    }

    pub(crate) fn fingerprint(&self) -> Option<Fingerprint> {
        Some(Fingerprint { offset: self.offset?, timestamp: self.timestamp, crc: self.crc? })
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers are JSON")
    }
}

/// Returns the state that a flow keeps in the metadata of its commits.
#[must_use]
pub fn commit_extension(metadata: &str) -> Option<String> {
    CommitMetadata::parse(metadata)?.extension
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_round_trips() {
        let last = Fingerprint { offset: 41, timestamp: Some(-1), crc: u32::MAX };
        for metadata in [CommitMetadata::new("replicate a/\"b\"", Some(last)), CommitMetadata::new("x", None)] {
            let again = CommitMetadata::parse(&metadata.to_json()).unwrap();
            assert_eq!((&again, again.fingerprint(), again.extension()), (&metadata, metadata.fingerprint(), None));
        }
        let metadata = CommitMetadata::new("x", None).with_extension("{\"read\":7}".to_owned());
        assert_eq!(CommitMetadata::parse(&metadata.to_json()).unwrap().extension(), Some("{\"read\":7}"));
    }

    #[test]
    fn metadata_of_other_programs_is_ignored() {
        for metadata in ["", "{}", "mm2", "{\"flow\":\"x\"}", "{\"sdl\":2,\"flow\":\"x\"}"] {
            assert_eq!(CommitMetadata::parse(metadata), None, "{metadata}");
        }
    }
}
