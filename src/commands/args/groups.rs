//! Flags that choose groups, and their topics and partitions.

use clap::builder::NonEmptyStringValueParser as Text;
use regex::Regex;

use crate::commands::args::topics::{PartitionList, parse_partitions, parse_pattern};
use crate::connectors::kafka::Group;
use crate::error::Error;
use crate::lag::{LagFilter, Survey};
use crate::pipeline::Failure;
use crate::record::Topic;
use crate::spelling::nearest;

#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct GroupArgs {
    /// Groups to show [default: all]
    #[arg(value_name = "GROUP", value_parser = Text::new())]
    groups: Vec<String>,
    /// A group to show; may be repeated
    #[arg(id = "group", long, value_name = "NAME", value_parser = Text::new())]
    more_groups: Vec<String>,
    /// Show every group whose whole name matches this regular expression
    #[arg(long = "groups", value_name = "REGEX", conflicts_with_all = ["groups", "group"], value_parser = parse_pattern)]
    groups_matching: Option<Regex>,
}

#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct PartitionFilterArgs {
    /// Only this topic; may be repeated
    #[arg(id = "topic", long, value_name = "NAME", value_parser = Text::new())]
    topics: Vec<String>,
    /// Only topics whose whole name matches this regular expression
    #[arg(long, value_name = "REGEX", conflicts_with = "topic", value_parser = parse_pattern)]
    topics_matching: Option<Regex>,
    /// Leave out topics whose whole name matches; wins over every other flag
    #[arg(long, value_name = "REGEX", value_parser = parse_pattern)]
    exclude: Option<Regex>,
    /// Only these partitions of each topic (0,2-5)
    #[arg(long, value_name = "LIST", value_parser = parse_partitions)]
    partitions: Option<PartitionList>,
}

/// Returns the choice of the flags.
pub(crate) fn lag_filter(groups: &GroupArgs, partitions: &PartitionFilterArgs, read_times: bool) -> LagFilter {
    let mut names = [groups.groups.as_slice(), &groups.more_groups].concat();
    names.sort_unstable();
    names.dedup();
    LagFilter {
        groups: names,
        groups_matching: groups.groups_matching.clone(),
        topics: partitions.topics.clone(),
        topics_matching: partitions.topics_matching.clone(),
        exclude: partitions.exclude.clone(),
        partitions: partitions.partitions.as_ref().map(|partitions| partitions.0.clone()),
        read_times,
    }
}

/// The hint for a group that embedded brokers do not have.
pub(crate) const NOT_LISTED: &str = "check the name and the section: embedded brokers do not list their groups";

/// Checks that each named group and topic exists; `command` is the one that was typed.
///
/// # Errors
/// When none of the clusters has one of them.
pub(crate) fn check_names(filter: &LagFilter, surveys: &[Survey], command: &str) -> Result<(), Error> {
    let sections: Vec<_> = surveys.iter().map(|survey| format!("`{}`", survey.section)).collect();
    let sections = sections.join(" or ");
    let has_login = surveys.iter().any(|survey| survey.has_login);
    let doubt =
        |what: &str| if has_login { format!(", or the user may not describe it (DESCRIBE on {what})") } else { String::new() };
    let topics = || surveys.iter().flat_map(|survey| &survey.all_topics).map(|topic| Topic::name(*topic));
    let all_groups = || surveys.iter().flat_map(|survey| &survey.all_groups).map(String::as_str);
    if let Some(name) = filter.groups.iter().find(|name| !all_groups().any(|group| group == *name)) {
        let mut described = surveys.iter().flat_map(|survey| &survey.groups).map(|group| &group.group);
        if let Some(Group { error: Some(why), .. }) = described.find(|group| group.name == *name && group.is_loading) {
            let failure = Failure::new(format!("cannot tell whether group `{name}` exists on {sections}")).because(why);
            return Err(Error::Failed(failure.hint("try again in a moment")));
        }
        let failure = Failure::new(format!("group `{name}` does not exist on {sections}{}", doubt("the group")));
        return Err(Error::Failed(if topics().any(|topic| topic == name) {
            failure.hint(format!("`{name}` is a topic: sdl {command} --topic {name}"))
        } else if let Some(near) = nearest(name, all_groups()) {
            failure.hint(format!("did you mean `{near}`?"))
        } else {
            let is_listed = !surveys.iter().all(|survey| survey.is_embedded);
            failure.hint(if is_listed { "list the groups that are there: sdl lag --no-time" } else { NOT_LISTED })
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
            failure.hint(format!("`{name}` is a group: sdl {command} {name}"))
        } else {
            failure.hint("list what groups have read: sdl lag --by topic")
        }));
    }
    Ok(())
}

/// Returns that the selected groups have no position, on this section if it is the only one, with the names of a single group and topic.
pub(crate) fn nothing_committed(filter: &LagFilter, section: Option<&str>) -> String {
    let on = section.map_or_else(String::new, |section| format!(" on `{section}`"));
    let who = match filter.groups.as_slice() {
        [group] => format!("group `{group}`{on} has"),
        _ => format!("the groups{on} have"),
    };
    let is_all_of_topics = filter.partitions.is_none() && filter.topics_matching.is_none() && filter.exclude.is_none();
    let place = match filter.topics.as_slice() {
        [] if is_all_of_topics => String::new(),
        [topic] if is_all_of_topics => format!(" in `{topic}`"),
        _ => " in these topics and partitions".to_owned(),
    };
    format!("{who} committed nothing{place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_has_no_position_is_named_with_what_was_asked_for() {
        let named = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let filter = |groups: &[&str], topics: &[&str], partitions| LagFilter {
            groups: named(groups),
            topics: named(topics),
            partitions,
            ..LagFilter::default()
        };
        for (filter, section, expected) in [
            (filter(&["nu"], &["mem"], None), None, "group `nu` has committed nothing in `mem`"),
            (filter(&["nu"], &[], None), Some("local_kafka"), "group `nu` on `local_kafka` has committed nothing"),
            (filter(&["nu"], &["mem"], Some(vec![2])), None, "group `nu` has committed nothing in these topics and partitions"),
            (filter(&["nu", "xi"], &[], None), Some("s"), "the groups on `s` have committed nothing"),
            (filter(&[], &["a", "b"], None), None, "the groups have committed nothing in these topics and partitions"),
        ] {
            assert_eq!(nothing_committed(&filter, section), expected);
        }
    }
}
