//! Flags that choose topics.

use std::time::Duration;

use clap::builder::NonEmptyStringValueParser as Text;
use regex::Regex;

use crate::commands::args::pattern::{meant_regex, regex_of_glob, shown_pattern};
use crate::connectors::kafka::{Admin, Pos, TOPIC_NAME_RULE, TopicInfo};
use crate::error::Error;
use crate::pipeline::Failure;
use crate::profile::KafkaSection;
use crate::record::{Partition, Topic};
use crate::shape::regex_error;
use crate::spelling::nearest;

/// The most names that an error lists.
const MAX_NAMES_SHOWN: usize = 10;

#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct TopicArgs {
    /// Topics to read [default: the section's `default_consumer_topic`]
    #[arg(id = "topics", value_name = "TOPIC", value_parser = Text::new())]
    pub(crate) names: Vec<String>,
    /// Read every topic whose whole name matches this regular expression, also topics that are created later
    #[arg(long, value_name = "REGEX", conflicts_with_all = ["topics", "partitions"], value_parser = parse_pattern)]
    pub(crate) topics_matching: Option<Regex>,
    /// Leave out topics whose whole name matches; wins over every other flag
    #[arg(long, value_name = "REGEX", value_parser = parse_pattern)]
    pub(crate) exclude: Option<Regex>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartitionList(pub(crate) Vec<i32>);

/// Parses a list of partition numbers: `0,2-5`.
pub(crate) fn parse_partitions(text: &str) -> Result<PartitionList, String> {
    let wrong = || "not a list of partitions: use numbers and ranges, as in 0,2-5".to_owned();
    let number = |text: &str| text.trim().parse::<i32>().ok().filter(|number| *number >= 0).ok_or_else(wrong);
    let mut list = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            Some((low, high)) => {
                let (low, high) = (number(low)?, number(high)?);
                if low > high || high - low > 100_000 {
                    return Err(wrong());
                }
                list.extend(low..=high);
            }
            None => list.push(number(part)?),
        }
    }
    list.sort_unstable();
    list.dedup();
    Ok(PartitionList(list))
}

/// Parses a pattern for bytes, which matches any part of them.
pub(crate) fn parse_regex(text: &str) -> Result<regex::bytes::Regex, String> {
    regex::bytes::Regex::new(text).map_err(|error| format!("not a regular expression: {}", regex_error(&error)))
}

/// Parses a pattern that must match a whole name.
pub(crate) fn parse_pattern(text: &str) -> Result<Regex, String> {
    // On its own first: an error must not quote what is added, and `a)|(b` must not pass.
    let pattern = Regex::new(text).and_then(|_| Regex::new(&format!("^(?:{text})$")));
    pattern.map_err(|error| {
        let meant = regex_of_glob(text).map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
        format!("not a regular expression: {}{meant}", regex_error(&error))
    })
}

pub(crate) fn parse_position(text: &str) -> Result<Pos, String> {
    text.parse()
}

/// Refuses a start after the stop.
///
/// # Errors
/// When no record can be between them.
pub(crate) fn check_range(start: Option<Pos>, stop: Option<Pos>) -> Result<(), Error> {
    match (start, stop) {
        (Some(start), Some(stop)) if start.is_after(stop, jiff::Timestamp::now().as_millisecond()) => {
            Err(is_after(start, stop, ""))
        }
        _ => Ok(()),
    }
}

fn is_after(start: Pos, stop: Pos, found: &str) -> Error {
    Error::Usage {
        what: format!("--start ({start}) is after --stop ({stop}): no record is between them{found}"),
        hint: "swap the two positions, or remove --stop".to_owned(),
    }
}

/// A partition with the offsets of its start and its stop.
pub(crate) type ResolvedRange = (Partition, i64, i64);

/// As [`check_range`], for positions that only their offsets can compare. Returns the partitions of which nothing is read because
/// their start is after their stop.
///
/// # Errors
/// When no partition has a record between the positions, and one has its start after its stop.
pub(crate) fn check_resolved(
    start: Option<Pos>,
    stop: Option<Pos>,
    ranges: impl Iterator<Item = ResolvedRange>,
) -> Result<Vec<ResolvedRange>, Error> {
    let (Some(start), Some(stop)) = (start.filter(|start| *start != Pos::Committed), stop) else { return Ok(Vec::new()) };
    let ranges: Vec<ResolvedRange> = ranges.collect();
    let reversed: Vec<ResolvedRange> = ranges.iter().filter(|(_, start, stop)| start > stop).copied().collect();
    match reversed.first() {
        Some((partition, from, to)) if ranges.iter().all(|(_, start, stop)| start >= stop) => {
            Err(is_after(start, stop, &format!("; in {partition} offset {from} is after offset {to}")))
        }
        _ => Ok(reversed),
    }
}

/// Returns the lines about partitions of which nothing is read because their start is after their stop.
pub(crate) fn reversed_lines(reversed: &[ResolvedRange]) -> impl Iterator<Item = String> {
    let line = |(partition, start, stop): &ResolvedRange| {
        format!("{partition}: nothing to read: its start, {start}, is after its stop, {stop}")
    };
    reversed.iter().map(line)
}

impl PartitionList {
    /// Refuses partitions that one of the topics does not have.
    ///
    /// # Errors
    /// When a partition does not exist.
    pub(crate) fn check(&self, topics: &[TopicInfo]) -> Result<(), Error> {
        for topic in topics {
            if let Some(none) = self.0.iter().find(|index| **index >= topic.partitions) {
                return Err(Error::Usage {
                    what: format!("topic `{}` has no partition {none}", topic.topic),
                    hint: match topic.partitions {
                        1 => "it has partition 0 and no other".to_owned(),
                        count => format!("it has partitions 0 to {}", count - 1),
                    },
                });
            }
        }
        Ok(())
    }
}

impl TopicArgs {
    /// Returns whether a present or future topic matches.
    #[must_use]
    pub(crate) fn fits(&self, topic: &str) -> bool {
        self.topics_matching.as_ref().is_some_and(|pattern| pattern.is_match(topic))
            && !is_internal(topic)
            && !self.excludes(topic)
    }

    /// Returns the end of a hint that offers to leave out one of the topics; empty for a single topic.
    pub(crate) fn or_exclude(&self, topic: &str) -> String {
        let is_one_of_several = self.topics_matching.is_some() || self.names.len() > 1;
        if is_one_of_several { format!(", or omit {topic} with --exclude REGEX") } else { String::new() }
    }

    fn excludes(&self, topic: &str) -> bool {
        self.exclude.as_ref().is_some_and(|pattern| pattern.is_match(topic))
    }

    /// Returns the topics of the flag, or else of the section; none with a pattern.
    ///
    /// # Errors
    /// When Kafka does not allow a name.
    pub(crate) fn named<'a>(&'a self, section: &'a KafkaSection) -> Result<Vec<&'a str>, Error> {
        let names = match (self.names.as_slice(), section.default_consumer_topic.as_deref()) {
            _ if self.topics_matching.is_some() => Vec::new(),
            ([], topic) => topic.into_iter().collect(),
            (topics, _) => topics.iter().map(String::as_str).collect(),
        };
        if let Some(name) = names.iter().find(|name| !Topic::is_valid_name(name)) {
            let hint = if self.names.is_empty() {
                format!("correct `default_consumer_topic` under [{}]; a comment has a line of its own", section.name)
            } else {
                match regex_of_glob(name) {
                    Some(pattern) => format!("to read all topics that match, use --topics-matching '{pattern}'"),
                    None => TOPIC_NAME_RULE.to_owned(),
                }
            };
            return Err(Error::Usage { what: format!("`{name}` is not a valid topic name"), hint });
        }
        Ok(names.into_iter().filter(|name| !self.excludes(name)).collect())
    }

    /// Returns the topics to read, looked up on the cluster of `admin`; one that was just created is looked for again, for up to `wait`.
    ///
    /// # Errors
    /// When no topic is named, one does not exist, or none is left.
    pub(crate) async fn look_up(&self, admin: &Admin, section: &KafkaSection, wait: Duration) -> Result<Vec<TopicInfo>, Error> {
        let mut all = admin.topics().await?;
        for name in self.named(section)? {
            if !all.iter().any(|topic| topic.topic.name() == name) {
                // The list of all omits topics that the user may not describe; a request for one says so.
                let Some(found) = admin.topic_to_read(name, wait).await? else { break };
                all.push(found);
            }
        }
        self.choose(section, &all)
    }

    /// Returns the topics to read out of all existing ones.
    ///
    /// # Errors
    /// When no topic is named, one does not exist, or none is left.
    pub(crate) fn choose(&self, section: &KafkaSection, all: &[TopicInfo]) -> Result<Vec<TopicInfo>, Error> {
        if self.names.is_empty() && self.topics_matching.is_none() && section.default_consumer_topic.is_none() {
            let key = format!("set `default_consumer_topic` under [{}]", section.name);
            return Err(none_named("no topic is named".to_owned(), &format!("name one on the command line, or {key}"), all));
        }
        let mut chosen: Vec<TopicInfo> = all.iter().filter(|topic| self.fits(topic.topic.name())).cloned().collect();
        for name in self.named(section)? {
            let known = all.iter().find(|topic| topic.topic.name() == name);
            chosen.push(known.cloned().ok_or_else(|| missing(name, section, all))?);
        }
        chosen.sort_by_key(|topic| topic.topic);
        chosen.dedup();
        if chosen.is_empty() {
            let failure = Failure::new(format!("no topic of `{}` is left to read", section.name));
            let glob = self.topics_matching.as_ref().and_then(|pattern| regex_of_glob(shown_pattern(pattern)));
            let loosen = glob.map_or_else(|| "loosen --topics-matching or --exclude".to_owned(), |meant| meant_regex(&meant));
            return Err(failure.hint(format!("{loosen}; {}", first_names(all))).into());
        }
        Ok(chosen)
    }
}

/// Returns the error of a command that needs a topic, with the topics that are there.
pub(crate) fn none_named(what: String, hint: &str, all: &[TopicInfo]) -> Error {
    Error::Usage { what, hint: format!("{hint}; {}", first_names(all)) }
}

/// Returns whether a topic belongs to Kafka itself.
pub(crate) fn is_internal(name: &str) -> bool {
    name.starts_with("__")
}

fn missing(name: &str, section: &KafkaSection, all: &[TopicInfo]) -> Error {
    let known = all.iter().map(|topic| topic.topic.name()).filter(|known| !is_internal(known));
    let failure = Failure::new(format!("topic `{name}` does not exist on `{}`", section.name));
    Error::Failed(match nearest(name, known) {
        Some(known) => failure.hint(format!("did you mean `{known}`?")),
        None => failure.hint(first_names(all)),
    })
}

/// Returns the names of the first topics as part of a sentence.
fn first_names(all: &[TopicInfo]) -> String {
    let names: Vec<_> = all.iter().map(|topic| topic.topic.name()).filter(|name| !is_internal(name)).collect();
    let shown: Vec<_> = names.iter().take(MAX_NAMES_SHOWN).map(|name| format!("`{name}`")).collect();
    match names.len() {
        0 => "the cluster has no topics".to_owned(),
        count if count > shown.len() => format!("the first of its {count} topics are {}", shown.join(", ")),
        1 => format!("its only topic is {}", shown[0]),
        _ => format!("its topics are {}", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_numbers_and_ranges() {
        assert_eq!(parse_partitions("0,2-5,3"), Ok(PartitionList(vec![0, 2, 3, 4, 5])));
        for text in ["", "a", "-1", "5-2", "1,,2", "0-999999999"] {
            assert!(parse_partitions(text).is_err(), "{text}");
        }
    }

    #[test]
    fn positions_that_only_their_offsets_compare_are_refused_if_they_leave_nothing_to_read() {
        let checked = |start, ranges: &[(i64, i64)]| {
            let ranges = (0..).zip(ranges).map(|(index, (from, to))| (Partition::new("ranges", index), *from, *to));
            check_resolved(start, Some(Pos::Offset(3)), ranges).map_err(|error| (error.exit_code(), error.to_string()))
        };
        let last = Some(Pos::BeforeEnd(2));
        assert_eq!(
            checked(last, &[(0, 0), (8, 3)]).unwrap_err(),
            (
                2,
                "--start (2 before the end) is after --stop (offset 3): no record is between them; in ranges/1 offset 8 is after \
                 offset 3"
                    .to_owned()
            )
        );
        let some = checked(last, &[(1, 3), (8, 3)]).unwrap();
        let line = "ranges/1: nothing to read: its start, 8, is after its stop, 3";
        assert_eq!(reversed_lines(&some).collect::<Vec<_>>(), [line]);
        assert_eq!(checked(last, &[(3, 3)]), Ok(Vec::new()), "nothing is read, and nothing is reversed");
        assert_eq!(checked(Some(Pos::Committed), &[(8, 3)]), Ok(Vec::new()), "the group has read further than asked");
        assert_eq!(checked(None, &[(8, 3)]), Ok(Vec::new()));
    }

    #[test]
    fn a_name_that_kafka_does_not_allow_is_shown_with_its_origin() {
        let of = |names: &[&str], default: Option<&str>| {
            let names = names.iter().map(ToString::to_string).collect();
            let section = KafkaSection {
                name: "local_kafka".to_owned(),
                default_consumer_topic: default.map(str::to_owned),
                ..KafkaSection::default()
            };
            let args = TopicArgs { names, ..TopicArgs::default() };
            args.named(&section).map(|names| names.len()).map_err(|error| error.render())
        };
        assert_eq!(of(&["eu.orders_1-x"], None), Ok(1));
        assert_eq!(
            of(&[], Some("orders ; all of them")).unwrap_err(),
            "error: `orders ; all of them` is not a valid topic name\n\
             hint: correct `default_consumer_topic` under [local_kafka]; a comment has a line of its own\n"
        );
        assert_eq!(
            of(&["shop.*"], None).unwrap_err(),
            "error: `shop.*` is not a valid topic name\nhint: use up to 249 letters, digits, dots, underscores and dashes\n"
        );
        assert_eq!(
            of(&["shop*"], None).unwrap_err(),
            "error: `shop*` is not a valid topic name\nhint: to read all topics that match, use --topics-matching 'shop.*'\n"
        );
        assert!(
            of(&["orders", "a b"], None).unwrap_err().starts_with("error: `a b` is not a valid topic name\nhint: use up to 249")
        );
    }

    #[test]
    fn a_long_list_of_names_is_shortened() {
        let topics = |count: i32| {
            let topic = |number| TopicInfo { topic: crate::record::Topic::named(&format!("named-{number}")), partitions: 1 };
            (0..count).map(topic).collect::<Vec<_>>()
        };
        assert_eq!(first_names(&topics(0)), "the cluster has no topics");
        assert_eq!(first_names(&topics(1)), "its only topic is `named-0`");
        assert_eq!(first_names(&topics(2)), "its topics are `named-0`, `named-1`");
        let many = first_names(&topics(12));
        assert!(many.starts_with("the first of its 12 topics are `named-0`, ") && many.ends_with("`named-9`"), "{many}");
    }

    #[test]
    fn only_one_of_several_topics_can_be_left_out() {
        let args = |names: &[&str], pattern: Option<&str>| TopicArgs {
            names: names.iter().map(ToString::to_string).collect(),
            topics_matching: pattern.map(|pattern| parse_pattern(pattern).unwrap()),
            ..TopicArgs::default()
        };
        assert_eq!(args(&[], None).or_exclude("it") + &args(&["a"], None).or_exclude("it"), "");
        for several in [args(&["a", "b"], None), args(&[], Some("a.*"))] {
            assert_eq!(several.or_exclude("it"), ", or omit it with --exclude REGEX");
        }
    }

    #[test]
    fn a_pattern_fits_whole_names_only() {
        let fits = |pattern: &str, name: &str| parse_pattern(pattern).unwrap().is_match(name);
        assert!(fits("orders", "orders") && fits("a|ab", "ab") && fits("order.*", "orders-eu"));
        assert!(!fits("orders", "orders-eu") && !fits("order", "orders"));
    }

    #[test]
    fn an_invalid_pattern_is_refused_in_one_line() {
        assert_eq!(parse_pattern("(").unwrap_err(), "not a regular expression: unclosed group");
        assert_eq!(parse_pattern("a)|(?:b").unwrap_err(), "not a regular expression: unopened group");
        assert_eq!(
            parse_pattern("*").unwrap_err(),
            "not a regular expression: repetition operator missing expression; did you mean `.*`?"
        );
    }
}
