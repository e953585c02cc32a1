//! Flags of documents, shared by the document sinks.

use crate::commands::args::numbers::parse_whole;
use crate::commands::args::topics::TopicArgs;
use crate::connectors::kafka::TopicInfo;
use crate::document::{
    DocumentMapper, Ids, MetadataFields, NamePattern, NameTemplate, RawValues, Unsound, Version, check_deletes, check_topics,
};
use crate::error::Error;
use crate::pipeline::{Reason, Transform, TransformResult};
use crate::shape::FieldPath;

/// Flags of documents.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Documents")]
pub(crate) struct DocumentArgs {
    /// Source of the document id: `offset` (topic:partition:offset), `key`, `field:PATH`, or `uuid` (also `auto`)
    ///
    /// With `offset`, a redelivery changes nothing. With `key` and `field`, the newest version wins. With `uuid`, a redelivery
    /// creates a duplicate.
    #[arg(long, value_name = "FROM", default_value = "offset", value_parser = ids)]
    id: Ids,
    /// Prefix of offset ids, for clusters with topics of the same name
    #[arg(long, value_name = "TEXT")]
    id_prefix: Option<String>,
    /// What decides which of two writes of an id is newer: `offset`, `timestamp` or `field:PATH`
    #[arg(long, value_name = "FROM", default_value = "offset", value_parser = version)]
    version: Version,
    /// Prefix of the metadata fields: `_` makes _kafka_key, _kafka_offset, _processed_at
    #[arg(long, value_name = "TEXT", default_value = "_", value_parser = meta_prefix)]
    meta_prefix: String,
    /// Leave the metadata fields out
    #[arg(long, conflicts_with = "meta_prefix")]
    no_meta: bool,
    /// Wrap values that are not JSON, as text or as bytes; without it they are bad records
    #[arg(long, value_name = "AS")]
    raw_value: Option<RawValue>,
    /// What to do with a tombstone: `delete` its document, `skip` it, or `fail` as a bad record [default: skip with offset
    /// and uuid ids; no default with key and field]
    #[arg(long, value_name = "DO")]
    on_tombstone: Option<OnTombstone>,
    /// Field with the time of the event: a Date in MongoDB, `@timestamp` in Elasticsearch, and the date in names [default: the
    /// record's timestamp]
    #[arg(long, value_name = "FIELD", value_parser = path)]
    time_field: Option<FieldPath>,
    /// Limit of different names that templates produce in a run
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = parse_whole::<usize>(1, u64::MAX))]
    max_names: usize,
}

/// How a value that is not JSON is wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum RawValue {
    /// As text.
    Text,
    /// As bytes.
    Binary,
}

/// The effect of a tombstone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OnTombstone {
    /// Its document is deleted.
    Delete,
    /// It is left out, and counted as filtered.
    Skip,
    /// It is a bad record.
    Fail,
}

fn path(text: &str) -> Result<FieldPath, String> {
    FieldPath::parse(text)
}

fn meta_prefix(text: &str) -> Result<String, String> {
    // Servers take a dot for a way into a document, and a dollar sign for a command.
    if text.contains(['.', '$']) || text.contains(char::is_control) {
        return Err("a prefix has no dot, no `$` and no control character".to_owned());
    }
    Ok(text.to_owned())
}

fn ids(text: &str) -> Result<Ids, String> {
    match text.split_once(':') {
        Some(("field", text)) => path(text).map(Ids::Field),
        None if text == "offset" => Ok(Ids::Offset { prefix: String::new() }),
        None if text == "key" => Ok(Ids::Key),
        None if text == "uuid" || text == "auto" => Ok(Ids::Random),
        _ => Err("use offset, key, field:PATH or uuid".to_owned()),
    }
}

fn version(text: &str) -> Result<Version, String> {
    match text.split_once(':') {
        Some(("field", text)) => path(text).map(Version::Field),
        None if text == "offset" => Ok(Version::Offset),
        None if text == "timestamp" => Ok(Version::Timestamp),
        _ => Err("use offset, timestamp or field:PATH".to_owned()),
    }
}

impl DocumentArgs {
    /// Returns where ids come from.
    pub(crate) fn ids(&self) -> Ids {
        match (&self.id, &self.id_prefix) {
            (Ids::Offset { .. }, Some(prefix)) => Ids::Offset { prefix: prefix.clone() },
            (ids, _) => ids.clone(),
        }
    }

    /// Returns the mapper of records to documents with these names.
    ///
    /// # Errors
    /// When flags do not go together.
    pub(crate) fn mapper(&self, templates: Vec<NameTemplate>) -> Result<DocumentMapper, Error> {
        let ids = self.ids();
        if self.id_prefix.is_some() && !matches!(ids, Ids::Offset { .. }) {
            return usage("--id-prefix belongs to ids made of offsets", "remove it, or remove --id");
        }
        let deletes = self.on_tombstone == Some(OnTombstone::Delete);
        check_deletes(&ids, &self.version, &templates, deletes).map_err(unsound)?;
        let meta = if self.no_meta { MetadataFields::none() } else { MetadataFields::prefixed(&self.meta_prefix) };
        let raw = match self.raw_value {
            None => RawValues::Bad,
            Some(RawValue::Text) => RawValues::Text,
            Some(RawValue::Binary) => RawValues::Binary,
        };
        Ok(DocumentMapper::new(ids, self.version.clone(), meta, raw, self.time_field.clone(), templates))
    }

    /// Refuses topics whose records these flags cannot store: what their names and their numbers of partitions show.
    ///
    /// # Errors
    /// When offsets of several of them would be compared, or the name of one makes the name of a destination invalid.
    pub(crate) fn check(&self, mapper: &DocumentMapper, topics: &[TopicInfo], chosen: &TopicArgs) -> Result<(), Error> {
        let partitions: Vec<i32> = topics.iter().map(|topic| topic.partitions).collect();
        self.check_topics(&partitions, chosen.topics_matching.is_some())?;
        check_names(mapper, topics, chosen)
    }

    /// Refuses versions that these topics, with these numbers of partitions, do not allow; a pattern may match more later.
    fn check_topics(&self, partitions: &[i32], is_pattern: bool) -> Result<(), Error> {
        check_topics(&self.ids(), &self.version, partitions, is_pattern).map_err(unsound)
    }

    /// Returns the names that `template`, the value of `origin`, makes under `rule`.
    ///
    /// # Errors
    /// When it always makes the same name, and that is not allowed.
    pub(crate) fn naming(
        &self,
        origin: &str,
        template: &str,
        rule: fn(&str) -> Result<(), String>,
    ) -> Result<NameTemplate, Error> {
        let wrong =
            |why: String| Error::Usage { what: format!("cannot use `{template}`: {why}"), hint: format!("correct {origin}") };
        let parsed: NamePattern = template.parse().map_err(wrong)?;
        NameTemplate::new(parsed, rule, self.max_names).map_err(wrong)
    }

    /// Returns what happens to a tombstone; `None` if neither the flag nor the kind of the ids says it.
    fn tombstone_effect(&self) -> Option<OnTombstone> {
        let by_itself = matches!(self.id, Ids::Offset { .. } | Ids::Random).then_some(OnTombstone::Skip);
        self.on_tombstone.or(by_itself)
    }

    /// Returns the line of the plan about tombstones if nothing says what happens to them.
    pub(crate) fn tombstone_line(&self) -> Option<String> {
        let line = "tombstones: bad records, because --on-tombstone (delete, skip or fail) is not set";
        self.tombstone_effect().is_none().then(|| line.to_owned())
    }

    /// Returns the transform of tombstones; `None` if they delete.
    pub(crate) fn tombstones(&self) -> Option<Transform> {
        let shaped = match self.tombstone_effect() {
            Some(OnTombstone::Delete) => return None,
            Some(OnTombstone::Skip) => TransformResult::Filtered,
            Some(OnTombstone::Fail) => {
                TransformResult::Bad(Reason::new("tombstone", "the record has no value (--on-tombstone fail)"))
            }
            None => TransformResult::Bad(
                Reason::new("tombstone", "the record has no value, and --on-tombstone is not set").hint(match self.id {
                    Ids::Key => "--on-tombstone delete deletes its document, --on-tombstone skip filters it",
                    _ => "--on-tombstone skip filters it",
                }),
            ),
        };
        Some(Box::new(move |record| if record.value.is_none() { shaped.clone() } else { TransformResult::Keep }))
    }
}

/// Refuses names that no record of a topic can have, because the name of the topic alone makes them invalid.
fn check_names(mapper: &DocumentMapper, topics: &[TopicInfo], chosen: &TopicArgs) -> Result<(), Error> {
    let or_exclude = chosen.or_exclude("the topic");
    for (template, topic) in mapper.templates().iter().flat_map(|template| topics.iter().map(move |topic| (template, topic))) {
        template.check_topic(topic.topic).map_err(|(why, allowed)| Error::Usage {
            what: format!("cannot use `{}` for topic `{}`: {why}", template.pattern(), topic.topic),
            hint: allowed
                .map_or_else(|| format!("choose another name{or_exclude}"), |allowed| format!("use `{allowed}`{or_exclude}")),
        })?;
    }
    Ok(())
}

/// Returns the error of flags that would lose the newest record of an id.
#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn unsound(reason: Unsound) -> Error {
    let hint = match reason {
        Unsound::OffsetsOfTopics => "use --version timestamp or --version field:PATH, or load one topic at a time",
        Unsound::OffsetsOfPartitions => "use --version timestamp or --version field:PATH",
        Unsound::DeletesWithoutKey => "use --id key, or another --on-tombstone",
        Unsound::DeletesByFieldVersion(_) => "use --version offset or timestamp, or another --on-tombstone",
        Unsound::DeletesByFieldName => "omit fields in the names, or use another --on-tombstone",
        Unsound::DeletesByDatedName => "omit dates in the names, or use another --on-tombstone",
    };
    Error::Usage { what: reason.to_string(), hint: hint.to_owned() }
}

fn usage<T>(what: &str, hint: &str) -> Result<T, Error> {
    Err(Error::Usage { what: what.to_owned(), hint: hint.to_owned() })
}

/// Returns the transform that applies `first`, then `second`.
pub(crate) fn chain(first: Option<Transform>, second: Option<Transform>) -> Option<Transform> {
    let (first, second) = match (first, second) {
        (Some(first), Some(second)) => (first, second),
        (first, second) => return first.or(second),
    };
    Some(Box::new(move |record| match first(record) {
        TransformResult::Keep => second(record),
        shaped => shaped,
    }))
}

/// Returns the origin of a name for [`DocumentArgs::naming`]: the flag for `what` if it was given, or else the key of the section.
pub(crate) fn named_by(flag: Option<&String>, what: &str, section: &str) -> String {
    if flag.is_some() { format!("--{what}") } else { format!("`default_{what}` under [{section}]") }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::record::{Partition, Record};

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        documents: DocumentArgs,
    }

    fn flags(line: &[&str]) -> DocumentArgs {
        Line::try_parse_from([&["sdl"], line].concat()).unwrap().documents
    }

    fn tombstone() -> Record {
        Record { partition: Partition::new("t", 0), offset: 0, timestamp: None, key: None, value: None, headers: Vec::new() }
    }

    #[test]
    fn ids_are_read_from_the_flag() {
        assert_eq!(flags(&[]).ids(), Ids::Offset { prefix: String::new() });
        assert_eq!(flags(&["--id-prefix", "eu:"]).ids(), Ids::Offset { prefix: "eu:".to_owned() });
        assert_eq!(flags(&["--id", "key"]).ids(), Ids::Key);
        assert_eq!(flags(&["--id", "field:a.b"]).ids(), Ids::Field(FieldPath::parse("a.b").unwrap()));
        assert_eq!(flags(&["--id", "auto"]).ids(), flags(&["--id", "uuid"]).ids());
        for wrong in ["", "offsets", "field:", "field", "key:a"] {
            assert!(Line::try_parse_from(["sdl", "--id", wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn flags_that_do_not_go_together_are_refused() {
        let code = |line: &[&str], topics: usize| {
            let flags = flags(line);
            let read = flags.mapper(Vec::new()).and_then(|_| flags.check_topics(&vec![2; topics], false));
            read.map_err(|error| error.exit_code())
        };
        assert_eq!(code(&["--id", "key"], 1), Ok(()));
        assert_eq!(code(&["--id", "key"], 2), Err(2));
        assert_eq!(code(&["--id", "key", "--version", "timestamp"], 2), Ok(()));
        assert_eq!(code(&["--id", "field:a"], 1), Err(2));
        assert_eq!(code(&["--id", "field:a", "--version", "timestamp"], 1), Ok(()));
        assert_eq!(code(&["--id", "key", "--id-prefix", "x"], 1), Err(2));
        assert_eq!(code(&["--on-tombstone", "delete"], 1), Err(2));
        assert_eq!(code(&["--id", "field:a", "--on-tombstone", "delete"], 1), Err(2));
        assert_eq!(code(&["--id", "key", "--on-tombstone", "delete"], 1), Ok(()));
        assert_eq!(code(&["--id", "key", "--on-tombstone", "delete", "--version", "field:v"], 1), Err(2));
        assert_eq!(code(&["--id", "key", "--on-tombstone", "skip", "--version", "field:v"], 1), Ok(()));
        let by_field = flags(&["--id", "key", "--on-tombstone", "delete"]);
        for pattern in ["i-{country}", "i-%Y-%m"] {
            let names = vec![by_field.naming("--index", pattern, |_| Ok(())).unwrap()];
            assert_eq!(by_field.mapper(names).unwrap_err().exit_code(), 2, "{pattern}");
        }
        for prefix in ["a.", "$", "\n"] {
            assert!(Line::try_parse_from(["sdl", "--meta-prefix", prefix]).is_err(), "{prefix}");
        }
    }

    #[test]
    fn a_tombstone_is_skipped_deleted_or_bad() {
        let what = |line: &[&str]| flags(line).tombstones().map(|transform| transform(&mut tombstone()));
        assert_eq!(what(&[]), Some(TransformResult::Filtered));
        assert_eq!(what(&["--id", "uuid"]), Some(TransformResult::Filtered));
        assert_eq!(what(&["--id", "key", "--on-tombstone", "delete"]), None);
        assert!(matches!(what(&["--on-tombstone", "fail"]), Some(TransformResult::Bad(_))));
        let Some(TransformResult::Bad(reason)) = what(&["--id", "key"]) else { panic!("the first tombstone is bad") };
        let is_open = |line: &[&str]| flags(line).tombstone_line().is_some();
        assert!(is_open(&["--id", "key"]) && is_open(&["--id", "field:a"]), "the plan says it");
        assert!(!is_open(&[]) && !is_open(&["--id", "uuid"]) && !is_open(&["--id", "key", "--on-tombstone", "fail"]));
        assert_eq!(reason.hinted(), Some("--on-tombstone delete deletes its document, --on-tombstone skip filters it"));
        let Some(TransformResult::Bad(reason)) = what(&["--id", "field:a"]) else { panic!("the first tombstone is bad") };
        assert_eq!(reason.hinted(), Some("--on-tombstone skip filters it"), "a tombstone has no field");
    }

    #[test]
    fn the_plan_says_that_tombstones_are_bad_records_where_no_flag_decides() {
        for line in [&["--id", "key"], &["--id", "field:a"]] {
            let said = flags(line).tombstone_line().unwrap();
            assert!(said.starts_with("tombstones: bad records, because --on-tombstone"), "{said}");
        }
        let decided: [&[&str]; 3] = [&[], &["--id", "uuid"], &["--id", "key", "--on-tombstone", "fail"]];
        for line in decided {
            assert_eq!(flags(line).tombstone_line(), None, "{line:?}");
        }
    }

    #[test]
    fn two_transforms_follow_each_other() {
        let keep: Transform = Box::new(|_| TransformResult::Keep);
        let both = chain(Some(keep), flags(&[]).tombstones()).unwrap();
        assert_eq!(both(&mut tombstone()), TransformResult::Filtered);
    }
}
