//! The metadata of a committed offset: the flow that committed it, and the last record before it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use crate::record::{Fingerprint, NextOffset, Topic};

/// What the broker keeps for a partition of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// Where the group resumes.
    pub next: NextOffset,
    /// As the broker keeps it.
    pub metadata: String,
    /// The newest leader epoch before `next`, if the commit has one.
    pub leader_epoch: Option<i32>,
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
    /// The id of the topic that the records before the offset were copied to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target_id: Option<String>,
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
            target_id: None,
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

    pub(crate) fn with_target_id(mut self, target_id: Option<String>) -> Self {
        self.target_id = target_id;
        self
    }

    pub(crate) fn target_id(&self) -> Option<&str> {
        self.target_id.as_deref()
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

/// Returns a flow for people: without the placeholder of names that stay the same.
pub(crate) fn flow_in_words(flow: &str) -> String {
    match flow.strip_suffix("/{topic}") {
        Some(target) if target.starts_with("replicate ") => format!("{target}, same topic names"),
        _ => flow.to_owned(),
    }
}

/// The ids of the topics that a flow copies to, by source topic; of a destination that is no Kafka cluster there are none. Clones
/// share them.
#[derive(Clone, Debug, Default)]
pub struct TargetIds(Arc<RwLock<HashMap<Topic, String>>>);

impl TargetIds {
    /// Notes the id of the target of `source`, unless one is known.
    pub fn note(&self, source: Topic, id: String) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).entry(source).or_insert(id);
    }

    /// Replaces the id of the target of `source`.
    pub fn correct(&self, source: Topic, id: String) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(source, id);
    }

    /// Returns the id of the target of `source`, if it is known.
    #[must_use]
    pub fn get(&self, source: Topic) -> Option<String> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&source).cloned()
    }

    /// Returns whether the id of the target of `source` is known.
    #[must_use]
    pub fn knows(&self, source: Topic) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(&source)
    }

    /// Returns the id in a commit, and the present one, if the target of `source` is not the topic that was written to before it.
    #[must_use]
    pub fn replaced(&self, source: Topic, committed: &CommittedOffset) -> Option<(String, String)> {
        let now = self.get(source)?;
        let before = CommitMetadata::parse(&committed.metadata)?.target_id?;
        (before != now).then_some((before, now))
    }
}

/// Returns the state that a flow keeps in the metadata of its commits.
#[must_use]
pub fn commit_extension(metadata: &str) -> Option<String> {
    CommitMetadata::parse(metadata)?.extension
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn metadata_of_any_form_is_read_or_ignored(text in "\\PC*", fields in "\\{\"sdl\": ?1(, ?\"(flow|crc|offset|extension)\": ?(\"x\"|-?[0-9]{1,20}|null))*\\}") {
            for text in [text, fields] {
                if let Some(read) = CommitMetadata::parse(&text) {
                    prop_assert_eq!(CommitMetadata::parse(&read.to_json()), Some(read), "{}", text);
                }
            }
        }
    }

    #[test]
    fn a_flow_of_topics_that_keep_their_names_needs_no_placeholder() {
        for (flow, words) in [
            ("replicate local_kafka/{topic}", "replicate local_kafka, same topic names"),
            ("replicate local_kafka/eu.{topic}", "replicate local_kafka/eu.{topic}"),
            ("replicate local_kafka/orders", "replicate local_kafka/orders"),
            ("sink-es elasticsearch/{topic}", "sink-es elasticsearch/{topic}"),
        ] {
            assert_eq!(flow_in_words(flow), words);
        }
    }

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
    fn a_target_that_is_not_the_one_of_the_commit_is_found() {
        let (source, ids) = (Topic::named("target-ids"), TargetIds::default());
        let committed = |target: Option<&str>| CommittedOffset {
            next: NextOffset(1),
            metadata: CommitMetadata::new("x", None).with_target_id(target.map(ToOwned::to_owned)).to_json(),
            leader_epoch: None,
        };
        assert_eq!(ids.replaced(source, &committed(Some("old"))), None, "nothing is known of the target");
        assert!(!ids.knows(source));
        ids.note(source, "new".to_owned());
        ids.note(source, "newer".to_owned());
        assert!(ids.knows(source));
        assert_eq!(ids.replaced(source, &committed(Some("old"))), Some(("old".to_owned(), "new".to_owned())));
        assert_eq!(ids.replaced(source, &committed(Some("new"))), None);
        assert_eq!(ids.replaced(source, &committed(None)), None, "the commit of an earlier version");
        ids.correct(source, "old".to_owned());
        assert_eq!(ids.replaced(source, &committed(Some("old"))), None, "a broker was late");
    }

    #[test]
    fn metadata_of_other_programs_is_ignored() {
        for metadata in ["", "{}", "mm2", "{\"flow\":\"x\"}", "{\"sdl\":2,\"flow\":\"x\"}"] {
            assert_eq!(CommitMetadata::parse(metadata), None, "{metadata}");
        }
    }
}
