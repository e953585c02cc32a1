//! Kafka: source, sink and admin.

mod admin;
mod batch_builder;
mod certificate;
mod client;
mod client_log;
mod commit_metadata;
mod committer;
mod diagnosis;
mod embedded;
mod groups;
mod librdkafka;
mod lookup;
mod murmur2;
mod plan;
mod position;
mod rebalance;
mod record_queue;
mod resume;
mod scan;
mod sink;
mod source;
mod transactions;

pub use admin::{Admin, OffsetSpec, TopicInfo, TopicPlan, TopicSetting, TopicSettings};
pub use client::{ClusterMetadata, LogContext, base_config, check, reach};
pub use client_log::ClientLog;
pub use commit_metadata::commit_extension;
pub use embedded::{EmbeddedCluster, Holdings, take_stock};
pub use groups::{CommittedOffset, CommittedPositions, Group, GroupMember, Leaders, NextRecord};
pub use librdkafka::end_process;
pub use murmur2::partition_of;
pub use plan::{PlannedPartition, ReadPlan, ReadPlanRequest, require_empty};
pub use position::{Bounds, GRAMMAR, Pos};
pub use rebalance::Prepare;
pub use resume::{OnGap, ResumeRules, StartReason};
pub use scan::{ScanEvent, ScanRange, Scanner};
pub use sink::{KafkaSink, ProducerOptions, Route, Targets, TopicLimits};
pub use source::{KafkaSource, SourceOptions, Subscription};
pub use transactions::{
    GroupMetadata, OffsetCommit, OutgoingMessage, Transaction, TransactionError, TransactionalProducer, value_at,
};
