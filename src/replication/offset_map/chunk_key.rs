//! The key of a chunk.

use serde::{Deserialize, Serialize};

/// What a map is about: one partition of a source topic, copied to one target topic by one flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct MapIdentity {
    /// As in the metadata of the flow's commits: `replicate local_kafka/{topic}`.
    pub(crate) flow: String,
    /// The id of the source cluster.
    pub(crate) cluster: String,
    pub(crate) topic: String,
    /// Brokers before Kafka 3.0 have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) topic_id: Option<String>,
    /// It is the number of the target partition, too.
    pub(crate) partition: i32,
    pub(crate) target: String,
}

/// The key of a record of the map, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChunkKey {
    /// The version of this format.
    sdl: u32,
    #[serde(flatten)]
    pub(crate) identity: MapIdentity,
    /// Greater than the numbers of earlier chunks: of the same offset, the chunk with the greatest number has the last copy.
    #[serde(rename = "chunk")]
    pub(crate) number: u64,
}

impl ChunkKey {
    pub(crate) fn new(identity: MapIdentity, number: u64) -> Self {
        Self { sdl: 1, identity, number }
    }

    /// Returns `None` for the key of another program.
    pub(crate) fn parse(key: &[u8]) -> Option<Self> {
        serde_json::from_slice(key).ok().filter(|parsed: &Self| parsed.sdl == 1 && parsed.identity.partition >= 0)
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers are JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_round_trip_and_those_of_others_are_ignored() {
        let mut identity = MapIdentity {
            flow: "replicate b/{topic}".to_owned(),
            cluster: "c\"".to_owned(),
            topic: "orders".to_owned(),
            topic_id: Some("id".to_owned()),
            partition: 3,
            target: "eu.orders".to_owned(),
        };
        for topic_id in [Some("id".to_owned()), None] {
            identity.topic_id = topic_id;
            let key = ChunkKey::new(identity.clone(), u64::MAX);
            assert_eq!(ChunkKey::parse(key.to_json().as_bytes()), Some(key));
        }
        let of = |text: &str| ChunkKey::parse(text.as_bytes());
        let key = ChunkKey::new(identity, 1).to_json();
        assert_eq!(of(&key.replace("\"sdl\":1", "\"sdl\":2")), None);
        assert_eq!(of(&key.replace("\"partition\":3", "\"partition\":-1")), None);
        assert_eq!((of(""), of("{}"), of("mm2")), (None, None, None));
    }
}
