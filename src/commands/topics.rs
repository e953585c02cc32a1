//! `sdl topics`.

use clap::builder::NonEmptyStringValueParser as Text;
use futures_util::future::join_all;
use regex::Regex;
use serde_json::json;

use crate::commands::Context;
use crate::commands::args::{glob_advice, is_internal, nearest, parse_pattern, regex_of_glob, shown_pattern};
use crate::error::Error;
use crate::pipeline::Failure;
use crate::record::Topic;
use crate::report::counted;
use crate::terminal::{Cell, Column, Listing, ListingFormat, escape_controls};
use crate::topics::{TopicSummary, TopicSurvey, survey_topics};

/// The most groups that a row of the table names.
const MAX_GROUPS_SHOWN: usize = 3;

/// List topics: partitions, records, the time of the last record, and the groups that read them
///
/// RECORDS counts offsets, also those without a record: compaction, aborted transactions, transaction markers. LAST RECORD is the
/// latest timestamp in the topic; the end of a transaction has one too. GROUPS have a committed offset or a member there. BYTES is
/// `-`: the Kafka client that sdl is built on cannot ask brokers for it. Joins no group and commits nothing.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Show only topics whose whole name matches this regular expression
    #[arg(value_name = "PATTERN", value_parser = parse_pattern, help_heading = SELECTION)]
    pattern: Option<Regex>,
    /// Leave out topics whose whole name matches; wins over PATTERN
    #[arg(long, value_name = "REGEX", value_parser = parse_pattern, help_heading = SELECTION)]
    exclude: Option<Regex>,
    /// The profile's Kafka section to query; may be repeated [default: all]
    #[arg(long, value_name = "SECTION", value_parser = Text::new(), help_heading = SELECTION)]
    source: Vec<String>,
    /// Show Kafka's internal topics too: names that begin with `__`
    #[arg(long, help_heading = SELECTION)]
    all: bool,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table", help_heading = "Output")]
    output: ListingFormat,
}

const SELECTION: &str = "Selection";

const EXAMPLES: &str = "\
Examples:
  sdl topics
  sdl topics 'orders.*' --source remote_kafka
  sdl topics -o json | jq '.topics[] | select(.groups == [])'";

impl Args {
    /// Lists the topics.
    ///
    /// # Errors
    /// When a section is wrong, a topic that is named does not exist, or a cluster cannot be reached.
    pub async fn run(self, context: &Context) -> Result<(), Error> {
        let clusters = context.kafka_clusters(&self.source)?;
        let answers = join_all(clusters.iter().map(|section| survey_topics(section, |name| self.includes(name)))).await;
        let (mut surveys, mut errors) = (Vec::new(), Vec::new());
        for answer in answers {
            match answer {
                Ok(survey) => surveys.push(survey),
                Err(error) => errors.push(Error::from(error)),
            }
        }
        if errors.is_empty() {
            self.check_name(&surveys)?;
        }
        let listing = listing(&surveys, clusters.len() == 1);
        if self.output != ListingFormat::Table || !listing.is_empty() {
            context.print_listing(listing, self.output, &["bytes", "partitions"])?;
        }
        for line in surveys.iter().flat_map(|survey| self.remarks(survey)) {
            context.say(&format!("{line}\n"));
        }
        let last = errors.pop();
        for error in errors {
            context.say(&error.render());
        }
        last.map_or(Ok(()), Err)
    }

    /// Returns whether the topics of all sections are listed.
    pub(crate) fn surveys_every_cluster(&self) -> bool {
        self.source.is_empty()
    }

    fn includes(&self, topic: &str) -> bool {
        let is_chosen = self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(topic));
        let is_named = || self.pattern.as_ref().is_some_and(|pattern| shown_pattern(pattern) == topic);
        let is_excluded = self.exclude.as_ref().is_some_and(|pattern| pattern.is_match(topic));
        is_chosen && !is_excluded && (self.all || !is_internal(topic) || is_named())
    }

    /// Checks that a topic that is named exists: a pattern without special characters names one.
    ///
    /// # Errors
    /// When none of the clusters has it.
    fn check_name(&self, surveys: &[TopicSurvey]) -> Result<(), Error> {
        let named = self.pattern.as_ref().map(shown_pattern).filter(|name| Topic::is_valid_name(name));
        let Some(name) = named.filter(|_| surveys.iter().all(|survey| survey.topics.is_empty())) else { return Ok(()) };
        let all = || surveys.iter().flat_map(|survey| &survey.all_topics).map(|topic| topic.name());
        if all().any(|topic| topic == name) {
            return Ok(());
        }
        let sections: Vec<_> = surveys.iter().map(|survey| format!("`{}`", survey.section)).collect();
        let has_login = surveys.iter().any(|survey| survey.has_login);
        let doubt = if has_login { ", or the user may not describe it (DESCRIBE on the topic)" } else { "" };
        let failure = Failure::new(format!("topic `{name}` does not exist on {}{doubt}", sections.join(" or ")));
        let known = || all().filter(|name| self.all || !is_internal(name));
        let hint = match (nearest(name, known()), known().find(|topic| topic.contains(name))) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, Some(part)) => format!("a pattern matches the whole name: `.*{name}.*` matches `{part}`"),
            (None, None) if known().next().is_none() => "there are no topics".to_owned(),
            (None, None) => "list the topics that are there: sdl topics".to_owned(),
        };
        Err(failure.hint(hint).into())
    }

    /// Returns the notes below the rows: why there are none, and which groups are not known.
    fn remarks(&self, survey: &TopicSurvey) -> Vec<String> {
        let section = &survey.section;
        let mut lines = Vec::new();
        let known = || survey.all_topics.iter().map(|topic| topic.name()).filter(|name| self.all || !is_internal(name));
        if survey.topics.is_empty() {
            let doubt = if survey.has_login { ", or none that the user may describe (DESCRIBE on the topic)" } else { "" };
            lines.push(match &self.pattern {
                _ if known().next().is_none() => format!("there are no topics on `{section}`{doubt}"),
                Some(pattern) => {
                    let typed = shown_pattern(pattern);
                    let advice = match nearest(typed, known()) {
                        _ if regex_of_glob(typed).is_some() => glob_advice(pattern),
                        Some(name) => format!("; did you mean `{name}`?"),
                        None => String::new(),
                    };
                    format!("no topic on `{section}` matches `{typed}`{advice}")
                }
                None => format!("no topic on `{section}` is left by --exclude"),
            });
        }
        if survey.topics.iter().any(|topic| topic.groups.is_none()) {
            lines.push(format!(
                "which groups read the topics of `{section}` is not known: embedded brokers do not list their groups"
            ));
        }
        if let Some((group, why)) = survey.unreadable.first() {
            let others = match survey.unreadable.len() - 1 {
                0 => String::new(),
                more => format!("; the same holds for {}", counted(more as u64, "other group")),
            };
            let group = escape_controls(group);
            lines.push(format!("what group `{group}` on `{section}` reads is not known: {}{others}", escape_controls(why)));
        }
        lines
    }
}

fn listing(surveys: &[TopicSurvey], one_section: bool) -> Listing {
    let columns = [
        Column::Text("section"),
        Column::Text("topic"),
        Column::Number("partitions"),
        Column::Number("records"),
        Column::Number("bytes"),
        Column::Text("last_record"),
        Column::Text("groups"),
        Column::Text("notes"),
    ];
    let mut listing = Listing::new("topics", &columns);
    for survey in surveys {
        for topic in &survey.topics {
            listing.push(row(&survey.section, topic));
        }
    }
    listing.hide_in_table(|name, is_empty| match name {
        "section" => one_section,
        "notes" => is_empty,
        _ => false,
    });
    listing
}

fn row(section: &str, topic: &TopicSummary) -> [Cell; 8] {
    let time = topic.last_record.and_then(|time| jiff::Timestamp::from_millisecond(time).ok());
    let time = time.map(|time| Cell::Display(format!("{time:.0}"), json!(time.to_string())));
    let groups = topic.groups.as_ref().map(|groups| {
        let mut shown = groups.iter().take(MAX_GROUPS_SHOWN).cloned().collect::<Vec<_>>();
        match groups.len() - shown.len() {
            0 => {}
            more => shown.push(format!("{more} more")),
        }
        let shown = if shown.is_empty() { "-".to_owned() } else { shown.join(", ") };
        Cell::Display(shown, json!(groups))
    });
    let notes = if topic.unanswered == 0 {
        Cell::Display(String::new(), json!([]))
    } else {
        let partitions = counted(topic.unanswered as u64, "partition");
        Cell::Display(format!("the leader of {partitions} does not answer"), json!(["no_leader"]))
    };
    [
        section.into(),
        topic.topic.name().into(),
        i64::try_from(topic.partitions).unwrap_or(i64::MAX).into(),
        topic.records.into(),
        Cell::Empty,
        time.unwrap_or(Cell::Empty),
        groups.unwrap_or(Cell::Empty),
        notes,
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn args(pattern: Option<&str>, exclude: Option<&str>, all: bool) -> Args {
        let parse = |pattern: &str| parse_pattern(pattern).unwrap();
        let (pattern, exclude) = (pattern.map(parse), exclude.map(parse));
        Args { pattern, exclude, source: Vec::new(), all, output: ListingFormat::Table }
    }

    #[test]
    fn internal_topics_are_shown_on_request_or_by_their_name() {
        for (args, shown) in [
            (args(None, None, false), vec!["orders", "orders-eu"]),
            (args(None, None, true), vec!["__consumer_offsets", "orders", "orders-eu"]),
            (args(Some("__consumer_offsets"), None, false), vec!["__consumer_offsets"]),
            (args(Some(".*"), None, false), vec!["orders", "orders-eu"]),
            (args(Some("orders"), None, false), vec!["orders"]),
            (args(Some("orders.*"), Some(".*-eu"), false), vec!["orders"]),
        ] {
            let names = ["__consumer_offsets", "orders", "orders-eu"].into_iter().filter(|name| args.includes(name));
            assert_eq!(names.collect::<Vec<_>>(), shown, "{args:?}");
        }
    }

    #[test]
    fn a_table_names_the_first_groups_and_json_all() {
        let groups: BTreeSet<String> = ["a", "b", "c", "d", "e"].map(str::to_owned).into();
        let summary = TopicSummary {
            topic: Topic::named("orders"),
            partitions: 3,
            records: Some(1_200),
            last_record: Some(1_700_000_000_123),
            groups: Some(groups),
            unanswered: 0,
        };
        let dead =
            TopicSummary { records: None, last_record: None, groups: Some(BTreeSet::new()), unanswered: 3, ..summary.clone() };
        let survey = TopicSurvey {
            section: "local_kafka".to_owned(),
            has_login: false,
            topics: vec![summary, dead],
            all_topics: Vec::new(),
            unreadable: Vec::new(),
        };
        let listing = listing(&[survey], true);
        assert_eq!(
            listing.render(ListingFormat::Table),
            "TOPIC   PARTITIONS  RECORDS  BYTES  LAST RECORD           GROUPS           NOTES\n\
             orders           3     1200      -  2023-11-14T22:13:20Z  a, b, c, 2 more\n\
             orders           3        -      -  -                     -                the leader of 3 partitions does not answer\n"
        );
        let rows: serde_json::Value = serde_json::from_str(&listing.render(ListingFormat::Json)).unwrap();
        let (first, second) = (&rows["topics"][0], &rows["topics"][1]);
        assert_eq!((&first["groups"], &first["bytes"]), (&json!(["a", "b", "c", "d", "e"]), &json!(null)));
        assert_eq!(first["last_record"], "2023-11-14T22:13:20.123Z");
        assert_eq!((&second["groups"], &second["notes"]), (&json!([]), &json!(["no_leader"])));
    }
}
