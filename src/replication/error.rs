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
    #[error("replication loop: source and target are the same topic `{topic}`")]
    IntoItself { topic: Topic, from: String, to: String, cluster: String },
    /// A target topic is also read by this run.
    #[error("replication loop: topic `{target}` would be read and written by the same run")]
    FeedsItself { topic: Topic, target: Topic, cluster: String },
    /// The target topic has fewer partitions than the source.
    #[error("topic `{topic}` on `{section}` has fewer partitions than the source")]
    TooFewPartitions { topic: Topic, section: String, has: i32, needs: i32 },
    /// The target topic does not exist and may not be created.
    #[error("topic `{topic}` does not exist on `{section}`, and may not be created")]
    MissingTopic { topic: String, section: String, partitions: i32 },
    /// The target topic is not the one that the run has written to.
    #[error(
        "topic `{topic}` on `{section}` was deleted and created again during the run: what was copied into it before is gone"
    )]
    TargetRecreated { topic: Topic, section: String, old: String, new: String },
    /// Target topics that the run has written to are not listed any more, each with its id; never empty.
    #[error("topic `{}` on `{section}` was deleted during the run: what was copied into it is gone", first(.topics))]
    TargetsDeleted { topics: Vec<(Topic, String)>, section: String },
    #[error(transparent)]
    Connector(#[from] ConnectorError),
}

impl ReplicationError {
    /// Returns whether a target topic was deleted, and perhaps created again, during the run.
    pub(crate) fn is_of_deleted_target(&self) -> bool {
        matches!(self, Self::TargetRecreated { .. } | Self::TargetsDeleted { .. })
    }
}

fn first(topics: &[(Topic, String)]) -> Topic {
    topics[0].0
}
