//! Kafka: source, sink and admin.

mod access;
mod acl;
mod admin;
mod api_versions;
mod checkup;
mod client_log;
mod commit_metadata;
mod config;
mod connect;
mod diagnosis;
mod embedded;
mod groups;
mod introduction;
mod librdkafka;
mod lookup;
mod partitioner;
mod plan;
mod position;
mod resume;
mod scan;
mod sink;
mod source;
mod topic_presence;
mod topic_watch;
mod transactions;
pub mod wire;

pub(crate) use acl::AclOperation;
pub use admin::{Admin, OffsetSpec, TopicInfo, TopicPlan, TopicSetting};
pub(crate) use admin::{TOPIC_NAME_RULE, TopicSettings, is_denied};
pub(crate) use api_versions::ApiVersions;
pub(crate) use checkup::{CONTACT_TIMEOUT, PartitionReplicas, RightAnswer, TopicRight, certificate_valid_until, connect_failure};
pub use client_log::{ClientLog, LogContext};
pub(crate) use commit_metadata::{CommitMetadata, flow_in_words};
pub use commit_metadata::{CommittedOffset, TargetIds, commit_extension};
pub use config::{base_config, check};
pub use connect::{ClusterMetadata, reach};
pub(crate) use diagnosis::servers;
pub use embedded::{EmbeddedCluster, PartitionDigest, topic_digest};
#[cfg(test)]
pub(crate) use groups::GroupMember;
pub(crate) use groups::{CommittedPositions, Group, Leaders, NextRecord};
pub(crate) use introduction::{AdvertisedBroker, read_introduction};
pub use librdkafka::end_process;
pub use partitioner::partition_of;
pub use plan::{PlannedPartition, ReadPlan, ReadPlanRequest, require_empty};
pub use position::{Bounds, GRAMMAR, Pos};

pub(crate) use resume::list_partitions;
pub use resume::{OnGap, ResumeRules, StartReason};
pub(crate) use scan::{ScanEvent, ScanRange, Scanner};
pub(crate) use sink::{CopiedRun, OnCopied};
pub use sink::{KafkaSink, PrepareTargets, ProducerOptions, Route, Targets, TopicLimits};
pub use source::{KafkaSource, SourceOptions, Subscription};
pub(crate) use topic_watch::{TopicChange, TopicLook, WatchedTopic};
pub(crate) use transactions::{TransactionalProducer, value_at};
