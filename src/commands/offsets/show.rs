//! `sdl offsets show` and `export`.

use std::io::{IsTerminal as _, stdout};

use clap::builder::NonEmptyStringValueParser as Text;
use serde_json::json;

use crate::commands::Context;
use crate::commands::args::{GroupArgs, PartitionFilterArgs, check_names, lag_filter, nothing_committed};
use crate::commands::offsets::changes::left_out;
use crate::commands::offsets::elsewhere;
use crate::connectors::kafka::{CommittedOffset, flow_in_words};
use crate::error::Error;
use crate::lag::{LagFilter, Survey, SurveyedCluster};
use crate::offsets::{GroupOffset, LeftOut, flows, write_csv};
use crate::pipeline::{ConnectorError, Failure, FailureKind};
use crate::record::NextOffset;
use crate::terminal::{Cell, Column, Listing, ListingFormat, escape_controls};

/// The most characters of a commit's metadata in a table.
const MAX_METADATA_SHOWN: usize = 40;

/// Show the committed offsets of groups
///
/// END and LAG are those of the log, as in `lag`. METADATA is what the consumer stored with its commit: a flow of sdl its name and
/// the last record, in a table only the name.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = SHOW_EXAMPLES)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    select: OffsetSelectionArgs,
    /// Output format; `csv` and `ndjson` are what `import` reads
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: ListingFormat,
}

const SHOW_EXAMPLES: &str = "\
Examples:
  sdl offsets show
  sdl offsets show billing --topic orders
  sdl offsets show billing -o json | jq '.positions[] | select(.lag > 0)'";

/// Write the committed offsets of groups, for `import`
///
/// CSV with a header line, or NDJSON, on stdout. The rows are those of `show`. A group whose offsets cannot be read is left out, and
/// does not stop the others: exit code 4 if some are left out, 5 if all are.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXPORT_EXAMPLES)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    select: OffsetSelectionArgs,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "csv")]
    output: ExportFormat,
}

const EXPORT_EXAMPLES: &str = "\
Examples:
  sdl offsets export > positions.csv
  sdl offsets export --groups 'billing-.*' -o ndjson > positions.ndjson";

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ExportFormat {
    /// Comma-separated, with a header line
    Csv,
    /// One JSON object per line
    Ndjson,
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Selection")]
struct OffsetSelectionArgs {
    #[command(flatten)]
    groups: GroupArgs,
    /// The profile's Kafka section to query
    #[arg(long, value_name = "SECTION", default_value = "local_kafka", value_parser = Text::new())]
    source: String,
    #[command(flatten)]
    partitions: PartitionFilterArgs,
}

impl OffsetSelectionArgs {
    fn filter(&self) -> LagFilter {
        lag_filter(&self.groups, &self.partitions, false)
    }

    /// Returns the survey of the chosen groups; `command` is the one that was typed.
    async fn survey(&self, context: &Context, command: &str) -> Result<Survey, Error> {
        let filter = self.filter();
        let survey = SurveyedCluster::new(context.kafka(&self.source)?).survey(&filter).await;
        let survey = survey.map_err(|error| match error {
            ConnectorError::Failed(failure) if failure.kind == FailureKind::GroupsNotListed => {
                Error::Failed(failure.hint(format!("name the group: sdl {command} GROUP")))
            }
            error => error.into(),
        })?;
        let is_unknown =
            |name: &&String| !survey.all_groups.contains(name) && !survey.groups.iter().any(|group| group.group.name == **name);
        if let Some(group) = filter.groups.iter().find(is_unknown)
            && let Some(other) = elsewhere::section_of(context, group, &self.source).await
        {
            let failure = Failure::new(format!("group `{group}` does not exist on `{}`", survey.section));
            return Err(failure.hint(elsewhere::hint(group, &other, "--source")).into());
        }
        check_names(&filter, std::slice::from_ref(&survey), command)?;
        Ok(survey)
    }

    /// Says why there are no rows.
    fn say_nothing(&self, context: &Context, survey: &Survey) {
        let others = elsewhere::others(context, &self.source).into_iter().map(|section| format!("--source {}", section.name));
        let others: Vec<String> = others.collect();
        let others =
            if others.is_empty() { String::new() } else { format!("; other clusters of the profile: {}", others.join(", ")) };
        context.say(&format!("{}{others}\n", nothing(survey, &self.filter())));
    }
}

impl ShowArgs {
    /// Prints the offsets.
    ///
    /// # Errors
    /// When the cluster cannot be reached, or a named group or topic does not exist.
    pub(super) async fn run(self, context: &Context) -> Result<(), Error> {
        let survey = self.select.survey(context, "offsets show").await?;
        let rows = rows(&survey);
        if self.output != ListingFormat::Table || !rows.is_empty() {
            print(context, &rows, self.output)?;
        }
        for left in unreadable(&survey) {
            let (group, why) = (escape_controls(&left.group), escape_controls(&left.why));
            context.say(&format!("group `{group}` on `{}`: {why}\n", survey.section));
        }
        if rows.is_empty() && unreadable(&survey).next().is_none() {
            self.select.say_nothing(context, &survey);
        }
        Ok(())
    }
}

impl ExportArgs {
    /// Writes the offsets.
    ///
    /// # Errors
    /// When the cluster cannot be reached, a named group or topic does not exist, or groups are left out.
    pub(super) async fn run(self, context: &Context) -> Result<(), Error> {
        let survey = self.select.survey(context, "offsets export").await?;
        let rows = rows(&survey);
        let format = match self.output {
            ExportFormat::Csv => ListingFormat::Csv,
            ExportFormat::Ndjson => ListingFormat::Ndjson,
        };
        print(context, &rows, format)?;
        let out: Vec<LeftOut> = unreadable(&survey).collect();
        if rows.is_empty() && out.is_empty() {
            self.select.say_nothing(context, &survey);
        }
        let hint = "give the user the right that is missing, or name the other groups";
        left_out(&out, survey.groups.len(), "exported", hint).map_or(Ok(()), Err)
    }
}

/// Prints the offsets: CSV byte for byte, except on a terminal, which must not be controlled by what a file may hold.
fn print(context: &Context, rows: &[GroupOffset], format: ListingFormat) -> Result<(), Error> {
    if format == ListingFormat::Csv && !stdout().is_terminal() {
        return context.print(&write_csv(rows));
    }
    context.print_listing(listing(rows), format, &["metadata"])
}

/// Returns the committed offsets of a survey, by group and partition.
fn rows(survey: &Survey) -> Vec<GroupOffset> {
    let partitions = survey.groups.iter().flat_map(|group| group.partitions.iter().map(move |partition| (group, partition)));
    let row = partitions.filter_map(|(group, partition)| {
        Some(GroupOffset {
            group: group.group.name.clone(),
            partition: partition.partition,
            offset: partition.committed?,
            end: partition.end(),
            metadata: partition.metadata.clone().unwrap_or_default(),
        })
    });
    row.collect()
}

fn unreadable(survey: &Survey) -> impl Iterator<Item = LeftOut> {
    let left = survey.groups.iter().filter_map(|group| Some((&group.group.name, group.unreadable.as_ref()?)));
    left.map(|(group, why)| LeftOut { group: group.clone(), why: why.clone() })
}

fn nothing(survey: &Survey, filter: &LagFilter) -> String {
    let section = &survey.section;
    if survey.all_groups.is_empty() {
        let doubt = if survey.has_login { ", or none that the user may describe (DESCRIBE on the group)" } else { "" };
        return format!("there are no consumer groups on `{section}`{doubt}");
    }
    nothing_committed(filter, Some(section))
}

/// Returns the offsets as rows.
pub(super) fn listing(rows: &[GroupOffset]) -> Listing {
    let columns = [
        Column::Text("group"),
        Column::Text("topic"),
        Column::Number("partition"),
        Column::Number("offset"),
        Column::Number("end"),
        Column::Number("lag"),
        Column::Text("metadata"),
    ];
    let mut listing = Listing::new("positions", &columns);
    for row in rows {
        listing.push([
            row.group.as_str().into(),
            row.partition.topic.name().into(),
            i64::from(row.partition.index).into(),
            row.offset.into(),
            row.end.into(),
            row.lag().into(),
            Cell::Display(shown_metadata(&row.metadata), json!(row.metadata)),
        ]);
    }
    listing.hide_in_table(|name, is_empty| name == "metadata" && is_empty);
    listing
}

/// Returns metadata for people: the flow of a commit of this program, else its first characters.
fn shown_metadata(metadata: &str) -> String {
    let committed = CommittedOffset { next: NextOffset(0), metadata: metadata.to_owned(), leader_epoch: None };
    if let Some(flow) = flows([&committed]).first() {
        return format!("flow {}", flow_in_words(flow));
    }
    let mut chars = metadata.chars();
    let shown: String = chars.by_ref().take(MAX_METADATA_SHOWN).collect();
    if chars.next().is_none() { shown } else { shown + "..." }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::kafka::CommitMetadata;
    use crate::offsets::parse_file;
    use crate::record::Partition;

    fn row(index: i32, metadata: &str) -> GroupOffset {
        let partition = Partition::new("shown", index);
        GroupOffset { group: "g\x1b,1".to_owned(), partition, offset: 5, end: Some(9), metadata: metadata.to_owned() }
    }

    #[test]
    fn a_table_names_the_flow_and_shortens_other_metadata() {
        let flow = CommitMetadata::new("replicate local_kafka/shown", None).to_json();
        let table = listing(&[row(0, &flow), row(1, &"x".repeat(50)), row(2, "")]).render(ListingFormat::Table);
        let expected = format!(
            "GROUP    TOPIC  PARTITION  OFFSET  END  LAG  METADATA\n\
             g\\x1b,1  shown          0       5    9    4  flow replicate local_kafka/shown\n\
             g\\x1b,1  shown          1       5    9    4  {}...\n\
             g\\x1b,1  shown          2       5    9    4\n",
            "x".repeat(40)
        );
        assert_eq!(table, expected);
        assert!(!listing(&[row(0, "")]).render(ListingFormat::Table).contains("METADATA"));
    }

    #[test]
    fn import_reads_what_show_and_export_write() {
        let rows = [row(0, "a\nb\u{202e}"), row(1, ""), row(2, "{\"x\":\"y\"}")];
        let read: Vec<GroupOffset> = rows.iter().map(|row| GroupOffset { end: None, ..row.clone() }).collect();
        assert_eq!(parse_file(&listing(&rows).render(ListingFormat::Ndjson)), Ok(read.clone()));
        assert_eq!(parse_file(&write_csv(&rows)), Ok(read));
    }
}
