//! Consumer lag: surveys of a cluster's groups, and what follows from them. Joins no group and commits nothing.

mod filter;
mod partition_lag;
mod survey;
mod thresholds;
mod throughput;

pub(crate) use filter::LagFilter;
pub(crate) use partition_lag::{LagFlag, PartitionLag};
pub(crate) use survey::{GroupLag, LagReport, Survey, SurveyedCluster, survey_all};
pub(crate) use thresholds::{Breach, Thresholds};
pub(crate) use throughput::{Sample, ThroughputTracker};

#[cfg(test)]
pub(crate) use partition_lag::{LogOffsets, tests::partition_lag};
