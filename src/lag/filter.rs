//! Which groups, topics and partitions a survey covers.

use regex::Regex;

use crate::record::Partition;

/// A choice of groups, topics and partitions. A group or topic passes when each condition that is set holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct LagFilter {
    /// Names of groups; empty: all.
    pub(crate) groups: Vec<String>,
    pub(crate) groups_matching: Option<Regex>,
    /// Names of topics; empty: all.
    pub(crate) topics: Vec<String>,
    pub(crate) topics_matching: Option<Regex>,
    /// Topics to leave out; wins over the other conditions.
    pub(crate) exclude: Option<Regex>,
    pub(crate) partitions: Option<Vec<i32>>,
    /// Whether the survey reads the next record of each position for its time lag.
    pub(crate) read_times: bool,
}

impl LagFilter {
    /// Returns the groups of `all` that pass.
    pub(crate) fn select_groups(&self, all: &[String]) -> Vec<String> {
        let passes = |name: &&String| {
            let named = self.groups.is_empty() || self.groups.contains(name);
            named && self.groups_matching.as_ref().is_none_or(|pattern| pattern.is_match(name))
        };
        all.iter().filter(passes).cloned().collect()
    }

    /// Returns the groups that are named and not in `all`.
    pub(crate) fn unlisted(&self, all: &[String]) -> Vec<String> {
        self.groups.iter().filter(|name| !all.contains(name)).cloned().collect()
    }

    pub(crate) fn includes(&self, partition: Partition) -> bool {
        let topic = partition.topic.name();
        (self.topics.is_empty() || self.topics.iter().any(|name| name == topic))
            && self.topics_matching.as_ref().is_none_or(|pattern| pattern.is_match(topic))
            && !self.exclude.as_ref().is_some_and(|pattern| pattern.is_match(topic))
            && self.partitions.as_ref().is_none_or(|partitions| partitions.contains(&partition.index))
    }

    /// Returns whether topics or partitions are restricted.
    pub(crate) fn restricts_partitions(&self) -> bool {
        !self.topics.is_empty() || self.topics_matching.is_some() || self.exclude.is_some() || self.partitions.is_some()
    }

    /// Returns whether a pattern or a topic's name may leave out something that exists.
    pub(crate) fn may_be_empty(&self) -> bool {
        self.groups_matching.is_some() || self.restricts_partitions()
    }
}
