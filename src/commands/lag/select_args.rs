//! Flags that choose groups, topics and partitions.

use clap::builder::NonEmptyStringValueParser as Text;
use regex::Regex;

use crate::commands::args::{PartitionList, nearest, parse_partitions, parse_pattern};
use crate::error::Error;
use crate::lag::{LagFilter, LagReport};
use crate::pipeline::Failure;
use crate::record::Topic;

#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Selection")]
pub(super) struct SelectionArgs {
    /// Groups to show [default: all]
    #[arg(value_name = "GROUP", value_parser = Text::new())]
    pub(super) groups: Vec<String>,
    /// A group to show; may be repeated
    #[arg(id = "group", long, value_name = "NAME", value_parser = Text::new())]
    pub(super) more_groups: Vec<String>,
    /// Show every group whose whole name matches this regular expression
    #[arg(long = "groups", value_name = "REGEX", conflicts_with_all = ["groups", "group"], value_parser = parse_pattern)]
    pub(super) groups_matching: Option<Regex>,
    /// The profile's Kafka section to query; may be repeated [default: all]
    #[arg(long, value_name = "SECTION", value_parser = Text::new())]
    pub(super) source: Vec<String>,
    /// Only this topic; may be repeated
    #[arg(id = "topic", long, value_name = "NAME", value_parser = Text::new())]
    pub(super) topics: Vec<String>,
    /// Only topics whose whole name matches this regular expression
    #[arg(long, value_name = "REGEX", conflicts_with = "topic", value_parser = parse_pattern)]
    pub(super) topics_matching: Option<Regex>,
    /// Leave out topics whose whole name matches; wins over every other flag
    #[arg(long, value_name = "REGEX", value_parser = parse_pattern)]
    pub(super) exclude: Option<Regex>,
    /// Only these partitions of each topic (0,2-5)
    #[arg(long, value_name = "LIST", value_parser = parse_partitions)]
    pub(super) partitions: Option<PartitionList>,
}

impl SelectionArgs {
    pub(super) fn filter(&self, read_times: bool) -> LagFilter {
        let mut groups = [self.groups.as_slice(), &self.more_groups].concat();
        groups.sort_unstable();
        groups.dedup();
        LagFilter {
            groups,
            groups_matching: self.groups_matching.clone(),
            topics: self.topics.clone(),
            topics_matching: self.topics_matching.clone(),
            exclude: self.exclude.clone(),
            partitions: self.partitions.as_ref().map(|partitions| partitions.0.clone()),
            read_times,
        }
    }
}

/// Checks that each named group and topic exists.
///
/// # Errors
/// When none of the clusters has one of them. Passes if a cluster did not answer: it may have it.
pub(super) fn check_names(filter: &LagFilter, report: &LagReport) -> Result<(), Error> {
    if !report.failures.is_empty() {
        return Ok(());
    }
    let surveys = &report.surveys;
    let sections: Vec<_> = surveys.iter().map(|survey| format!("`{}`", survey.section)).collect();
    let sections = sections.join(" or ");
    let has_login = surveys.iter().any(|survey| survey.has_login);
    let doubt =
        |what: &str| if has_login { format!(", or the user may not describe it (DESCRIBE on {what})") } else { String::new() };
    let topics = || surveys.iter().flat_map(|survey| &survey.all_topics).map(|topic| Topic::name(*topic));
    let all_groups = || surveys.iter().flat_map(|survey| &survey.all_groups).map(String::as_str);
    if let Some(name) = filter.groups.iter().find(|name| !all_groups().any(|group| group == *name)) {
        let failure = Failure::new(format!("group `{name}` does not exist on {sections}{}", doubt("the group")));
        return Err(Error::Failed(if topics().any(|topic| topic == name) {
            failure.hint(format!("`{name}` is a topic: sdl lag --topic {name}"))
        } else if let Some(near) = nearest(name, all_groups()) {
            failure.hint(format!("did you mean `{near}`?"))
        } else {
            failure.hint("list the groups that are there: sdl lag --no-time")
        }));
    }
    let known = |name: &str| {
        let mut partitions = surveys.iter().flat_map(|survey| &survey.groups).flat_map(|group| &group.partitions);
        topics().any(|topic| topic == name) || partitions.any(|partition| partition.partition.topic.name() == name)
    };
    if let Some(name) = filter.topics.iter().find(|name| !known(name)) {
        let failure = Failure::new(format!("topic `{name}` does not exist on {sections}{}", doubt("the topic")));
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
