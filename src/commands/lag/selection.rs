//! Which groups, topics and partitions are looked at.

use clap::builder::NonEmptyStringValueParser as Text;
use regex::Regex;

use crate::commands::lag::LagReport;
use crate::commands::topics::{Partitions, nearest, partitions, whole};
use crate::error::Error;
use crate::pipeline::Failure;
use crate::record::{Partition, Topic};

/// Flags that say what is looked at.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "What is looked at")]
pub(super) struct Selection {
    /// Groups to look at [default: all]
    #[arg(value_name = "GROUP", value_parser = Text::new())]
    pub(super) groups: Vec<String>,
    /// A group to look at; may be repeated
    #[arg(id = "group", long, value_name = "NAME", value_parser = Text::new())]
    pub(super) more_groups: Vec<String>,
    /// Look at every group whose whole name this regular expression fits
    #[arg(long = "groups", value_name = "REGEX", conflicts_with_all = ["groups", "group"], value_parser = whole)]
    pub(super) groups_matching: Option<Regex>,
    /// The Kafka section of the profile to look at; may be repeated [default: all of them]
    #[arg(long, value_name = "SECTION", value_parser = Text::new())]
    pub(super) source: Vec<String>,
    /// Only this topic; may be repeated
    #[arg(id = "topic", long, value_name = "NAME", value_parser = Text::new())]
    pub(super) topics: Vec<String>,
    /// Only topics whose whole name this regular expression fits
    #[arg(long, value_name = "REGEX", conflicts_with = "topic", value_parser = whole)]
    pub(super) topics_matching: Option<Regex>,
    /// Leave out topics whose whole name this fits; wins over everything else
    #[arg(long, value_name = "REGEX", value_parser = whole)]
    pub(super) exclude: Option<Regex>,
    /// Only these partitions of each topic (0,2-5)
    #[arg(long, value_name = "LIST", value_parser = partitions)]
    pub(super) partitions: Option<Partitions>,
    /// Whether to find out how old the next record is.
    #[arg(skip)]
    pub(super) time: bool,
}

impl Selection {
    /// Puts the groups of both ways to name them together.
    pub(super) fn settle(&mut self) {
        self.groups.append(&mut self.more_groups);
        self.groups.sort_unstable();
        self.groups.dedup();
    }

    /// Returns which of `all` groups are looked at.
    pub(super) fn groups_of(&self, all: &[String]) -> Vec<String> {
        let wanted = |name: &&String| {
            let named = self.groups.is_empty() || self.groups.contains(name);
            named && self.groups_matching.as_ref().is_none_or(|pattern| pattern.is_match(name))
        };
        all.iter().filter(wanted).cloned().collect()
    }

    /// Returns whether a partition is looked at.
    pub(super) fn has(&self, partition: Partition) -> bool {
        let topic = partition.topic.name();
        (self.topics.is_empty() || self.topics.iter().any(|name| name == topic))
            && self.topics_matching.as_ref().is_none_or(|pattern| pattern.is_match(topic))
            && !self.exclude.as_ref().is_some_and(|pattern| pattern.is_match(topic))
            && self.partitions.as_ref().is_none_or(|partitions| partitions.0.contains(&partition.index))
    }

    /// Returns whether some of what there is was left out by a pattern or a name.
    pub(super) fn is_a_choice(&self) -> bool {
        self.groups_matching.is_some() || self.narrows()
    }

    /// Returns whether topics or partitions are narrowed.
    pub(super) fn narrows(&self) -> bool {
        !self.topics.is_empty() || self.topics_matching.is_some() || self.exclude.is_some() || self.partitions.is_some()
    }

    /// Checks that what was named is there.
    ///
    /// # Errors
    /// When a group or topic is on none of the clusters. One that did not answer may have it.
    pub(super) fn check(&self, round: &LagReport) -> Result<(), Error> {
        if !round.troubles.is_empty() {
            return Ok(());
        }
        let surveys = &round.surveys;
        let sections: Vec<_> = surveys.iter().map(|survey| format!("`{}`", survey.section)).collect();
        let sections = sections.join(" or ");
        let topics = || surveys.iter().flat_map(|survey| &survey.all_topics).map(|topic| Topic::name(*topic));
        let all_groups = || surveys.iter().flat_map(|survey| &survey.all_groups).map(String::as_str);
        if let Some(name) = self.groups.iter().find(|name| !all_groups().any(|group| group == *name)) {
            let failure = Failure::new(format!("group `{name}` is not on {sections}"));
            return Err(Error::Failed(if topics().any(|topic| topic == name) {
                failure.hint(format!("`{name}` is a topic: sdl lag --topic {name}"))
            } else if let Some(near) = nearest(name, all_groups()) {
                failure.hint(format!("did you mean `{near}`?"))
            } else {
                failure.hint("list the groups that are there: sdl lag --no-time")
            }));
        }
        let known = |name: &str| {
            let mut standings = surveys.iter().flat_map(|survey| &survey.groups).flat_map(|group| &group.standings);
            topics().any(|topic| topic == name) || standings.any(|standing| standing.partition.topic.name() == name)
        };
        if let Some(name) = self.topics.iter().find(|name| !known(name)) {
            let failure = Failure::new(format!("topic `{name}` is not on {sections}"));
            return Err(Error::Failed(if let Some(near) = nearest(name, topics()) {
                failure.hint(format!("did you mean `{near}`?"))
            } else if all_groups().any(|group| group == name) {
                failure.hint(format!("`{name}` is a group: sdl lag {name}"))
            } else {
                failure.hint("list what groups have read: sdl lag --by topic")
            }));
        }
        Ok(())
    }
}
