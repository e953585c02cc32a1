//! What a commit says beside its offset: which flow made it, and what the last record was.

use serde::{Deserialize, Serialize};

use crate::record::Fingerprint;

/// The metadata of a commit, as JSON of at most a few hundred bytes (brokers take 4096).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CommitMetadata {
    /// The version of this format.
    sdl: u32,
    /// What the records were read for: `replicate local_kafka/orders`.
    pub(crate) flow: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    offset: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timestamp: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crc: Option<u32>,
    /// What the flow itself notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    memo: Option<String>,
}

impl CommitMetadata {
    pub(crate) fn new(flow: &str, last: Option<Fingerprint>) -> Self {
        let (offset, crc) = (last.map(|last| last.offset), last.map(|last| last.crc));
        Self { sdl: 1, flow: flow.to_owned(), offset, timestamp: last.and_then(|last| last.timestamp), crc, memo: None }
    }

    pub(crate) fn with_extension(mut self, memo: String) -> Self {
        self.memo = Some(memo);
        self
    }

    pub(crate) fn extension(&self) -> Option<&str> {
        self.memo.as_deref()
    }

    /// Returns the note in a commit's metadata; `None` when another program wrote it.
    pub(crate) fn parse(metadata: &str) -> Option<Self> {
        serde_json::from_str(metadata).ok().filter(|note: &Self| note.sdl == 1)
    }

    pub(crate) fn last(&self) -> Option<Fingerprint> {
        Some(Fingerprint { offset: self.offset?, timestamp: self.timestamp, crc: self.crc? })
    }

    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers are JSON")
    }
}

/// Returns what a flow itself noted in the metadata of a commit.
#[must_use]
pub fn commit_extension(metadata: &str) -> Option<String> {
    CommitMetadata::parse(metadata)?.memo
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_comes_back_as_it_was() {
        let last = Fingerprint { offset: 41, timestamp: Some(-1), crc: u32::MAX };
        for note in [CommitMetadata::new("replicate a/\"b\"", Some(last)), CommitMetadata::new("x", None)] {
            let again = CommitMetadata::parse(&note.text()).unwrap();
            assert_eq!((&again, again.last(), again.extension()), (&note, note.last(), None));
        }
        let note = CommitMetadata::new("x", None).with_extension("{\"read\":7}".to_owned());
        assert_eq!(CommitMetadata::parse(&note.text()).unwrap().extension(), Some("{\"read\":7}"));
    }

    #[test]
    fn what_other_programs_wrote_is_no_note() {
        for metadata in ["", "{}", "mm2", "{\"flow\":\"x\"}", "{\"sdl\":2,\"flow\":\"x\"}"] {
            assert_eq!(CommitMetadata::parse(metadata), None, "{metadata}");
        }
    }
}
