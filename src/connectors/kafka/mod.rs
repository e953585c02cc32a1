//! Kafka: source, sink and admin.

mod admin;
mod certificate;
mod client;
mod commits;
mod cutter;
mod diagnosis;
mod embedded;
mod groups;
mod handover;
mod membership;
mod murmur2;
mod native;
mod note;
mod plan;
mod position;
mod reader;
mod resume;
mod said;
mod sink;
mod source;
mod spot;

pub use admin::{Admin, EndOf, TopicInfo, TopicPlan, TopicSetting, TopicSettings};
pub use client::{Cluster, Listening, base_config, check, reach};
pub use embedded::{EmbeddedCluster, Holdings, take_stock};
pub use groups::{CommittedOffset, Group, GroupMember, Leaders, NextRecord, Positions};
pub use membership::Prepare;
pub use murmur2::partition_of;
pub use native::end_process;
pub use plan::{Plan, PlanRequest, PlannedPartition, require_empty};
pub use position::{Bounds, GRAMMAR, Pos};
pub use reader::{Happening, Reader, Span};
pub use resume::{OnGap, ResumeRules, StartReason};
pub use said::Said;
pub use sink::{KafkaSink, Route, SinkOptions, Targets, TopicFacts};
pub use source::{KafkaSource, SourceOptions, Subscription};
