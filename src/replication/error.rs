//! Why topics are not replicated.

use crate::pipeline::ConnectorError;
use crate::record::Topic;

/// Why topics are not replicated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplicationError {
    /// Kafka rejects the name of a target topic.
    #[error("`{}` is not a valid topic name", .0.escape_debug())]
    InvalidName(String),
    /// Source and target are the same topic.
    #[error("topic `{topic}` would be written into itself without end")]
    IntoItself { topic: Topic, from: String, to: String, cluster: String },
    /// A target topic is also read by this run.
    #[error("topic `{target}` would be read and written by the same run: copies would be copied again without end")]
    FeedsItself { topic: Topic, target: Topic, cluster: String },
    /// The target topic has fewer partitions than the source.
    #[error("topic `{topic}` on `{section}` has fewer partitions than the source")]
    TooFewPartitions { topic: Topic, section: String, has: i32, needs: i32 },
    /// The target topic does not exist and may not be created.
    #[error("topic `{topic}` does not exist on `{section}`, and may not be created")]
    MissingTopic { topic: String, section: String, partitions: i32 },
    #[error(transparent)]
    Connector(#[from] ConnectorError),
}
