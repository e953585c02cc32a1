//! `sdl lag`.

mod exporter;
mod prom;
mod repeated_survey;
mod rows;
mod select_args;
mod threshold_args;
mod watch;

use std::net::SocketAddr;
use std::time::Duration;

use crate::commands::Context;
use crate::commands::args::{glob_advice, nothing_committed, shown_pattern};
use crate::commands::lag::rows::{By, RowLayout};
use crate::commands::lag::select_args::SelectionArgs;
use crate::commands::lag::threshold_args::ThresholdArgs;
use crate::error::Error;
use crate::lag::{LagFilter, LagReport, SurveyedCluster, survey_all};
use crate::pipeline::Failure;
use crate::report::parse_address;
use crate::terminal::ListingFormat;

/// Show the lag of consumer groups, in records and in time
///
/// Lag counts to the log end offset, as Kafka's own tool does; a committed offset beyond the log end counts as no lag and gets a
/// note. BEHIND is the number of partitions with lag. Time lag is the age of the next record that the group will read: 0 if there
/// is none, `-` if it is not known. One record is read at each lagging position. Covers groups of the classic and the new
/// consumer protocol; joins no group, commits nothing.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    selection: SelectionArgs,
    /// One row per what [default: partition if groups are named or with -o prom, else group]
    #[arg(long, value_name = "WHAT", help_heading = SHOWN)]
    by: Option<By>,
    /// Leave out rows without lag
    #[arg(long, help_heading = SHOWN)]
    only_lagging: bool,
    /// Leave out the time lag; no record is read
    #[arg(long, help_heading = SHOWN)]
    no_time: bool,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table", help_heading = SHOWN)]
    output: LagFormat,
    #[command(flatten)]
    thresholds: ThresholdArgs,
    #[command(flatten)]
    repeat: Repeat,
}

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Repeating")]
struct Repeat {
    /// Refresh until interrupted, and show rate (records per second), ETA and STALLED
    ///
    /// On a terminal the rows stay in place, those that are furthest behind first, with the columns that fit, and q ends it; in a pipe
    /// each refresh follows the previous one. A partition is STALLED if it lagged
    /// in the last three refreshes and for at least 10 s, and its committed offset stood still. The rate covers the last five
    /// intervals and at least 20 s; the ETA allows for what is produced meanwhile.
    #[arg(long, conflicts_with_all = ["max_lag", "max_time"])]
    watch: bool,
    /// Time between two refreshes [default: 5s, with --metrics 15s]
    #[arg(long, value_name = "DURATION", value_parser = interval)]
    interval: Option<Duration>,
    /// Serve Prometheus metrics at this address (9464, 0.0.0.0:9464) until interrupted: /metrics, /healthz, /readyz
    ///
    /// A port alone listens on the loopback interface. A cluster that cannot be reached does not end the command: its
    /// `sdl_section_up` is 0.
    #[arg(long, value_name = "ADDR", value_parser = parse_address, conflicts_with_all = ["watch", "max_lag", "max_time", "by", "only_lagging"])]
    metrics: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum LagFormat {
    /// Columns
    #[default]
    Table,
    /// One JSON document
    Json,
    /// One JSON object per line
    Ndjson,
    /// Comma-separated, with a header line
    Csv,
    /// Prometheus text format
    Prom,
}

impl LagFormat {
    /// Returns the format of a listing; `None` for metrics.
    fn format(self) -> Option<ListingFormat> {
        match self {
            Self::Table => Some(ListingFormat::Table),
            Self::Json => Some(ListingFormat::Json),
            Self::Ndjson => Some(ListingFormat::Ndjson),
            Self::Csv => Some(ListingFormat::Csv),
            Self::Prom => None,
        }
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = crate::commands::args::parse_duration(text)?;
    if interval < Duration::from_millis(100) { Err("at least 100ms".to_owned()) } else { Ok(interval) }
}

const SHOWN: &str = "Output";

const EXAMPLES: &str = "\
Examples:
  sdl lag
  sdl lag billing --by topic
  sdl lag --groups 'billing-.*' --topic orders --only-lagging
  sdl lag billing --max-lag 10000 --max-time 5m || alert
  sdl lag --watch --groups 'billing-.*' --only-lagging
  sdl lag --metrics 9464
  sdl lag billing -o json | jq '.lags[] | select(.time_lag_seconds > 60)'";

impl Args {
    /// Surveys the groups and prints their lag.
    ///
    /// # Errors
    /// When a named group or topic does not exist, a cluster cannot be reached, or a group exceeds a threshold.
    pub async fn run(self, context: &Context) -> Result<(), Error> {
        if self.repeat.interval.is_some() && !self.repeats() {
            tracing::warn!("--interval has no effect without --watch or --metrics");
        }
        let mut clusters = self.clusters(context)?;
        match (self.repeat.metrics, self.repeat.watch, self.output.format()) {
            (Some(address), ..) => return exporter::export(&self, address, clusters, context).await,
            (None, true, Some(format)) => return watch::watch(&self, format, clusters, context).await,
            (None, true, None) => {
                let what = "--watch cannot be combined with -o prom".to_owned();
                return Err(Error::Usage { what, hint: "serve metrics with --metrics 9464".to_owned() });
            }
            (None, false, _) => {}
        }
        let filter = self.filter();
        let report = survey_all(&mut clusters, &filter).await;
        select_args::check_names(&filter, &report)?;
        let layout = self.layout();
        let listing = rows::listing(&report, layout);
        let is_empty = listing.is_empty();
        match self.output.format() {
            None => context.print(&prom::page(&report, self.by.unwrap_or(By::Partition)))?,
            Some(ListingFormat::Table) if listing.is_empty() => {}
            Some(format) => context.print_listing(listing, format, &watch::LESS_IMPORTANT)?,
        }
        for line in remarks(&filter, &report, layout, is_empty) {
            context.say(&format!("{line}\n"));
        }
        let no_groups = report.surveys.iter().all(|survey| survey.groups.is_empty());
        let thresholds = self.thresholds.thresholds();
        let checked = if thresholds.are_set() && no_groups && filter.may_be_empty() && !report.surveys.is_empty() {
            let failure = Failure::new("nothing was checked: no group matches");
            Err(Error::Check(failure.hint("loosen --groups, --topic, --topics-matching or --exclude")))
        } else {
            threshold_args::check(thresholds, &report)
        };
        let mut errors: Vec<Error> = checked.err().into_iter().collect();
        errors.extend(report.failures.into_iter().map(|(_, error)| error.into()));
        let last = errors.pop();
        for error in errors {
            context.say(&error.render());
        }
        last.map_or(Ok(()), Err)
    }

    /// Returns whether the clusters of all sections are surveyed.
    pub(crate) fn surveys_every_cluster(&self) -> bool {
        self.selection.source.is_empty()
    }

    /// Returns whether the command surveys until it is stopped.
    pub(crate) fn repeats(&self) -> bool {
        self.repeat.watch || self.repeat.metrics.is_some()
    }

    fn filter(&self) -> LagFilter {
        self.selection.filter(!self.no_time)
    }

    fn clusters(&self, context: &Context) -> Result<Vec<SurveyedCluster>, Error> {
        Ok(context.kafka_clusters(&self.selection.source)?.into_iter().map(SurveyedCluster::new).collect())
    }

    fn layout(&self) -> RowLayout {
        let by = self.by.unwrap_or(if self.filter().groups.is_empty() { By::Group } else { By::Partition });
        RowLayout { by, only_lagging: self.only_lagging, time: !self.no_time, throughput: false }
    }
}

/// Returns the notes below the rows: why there are none, and which groups have none.
fn remarks(filter: &LagFilter, report: &LagReport, layout: RowLayout, is_empty: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for survey in &report.surveys {
        let section = &survey.section;
        let all = &survey.all_groups;
        match &filter.groups_matching {
            _ if !filter.groups.is_empty() => {}
            _ if all.is_empty() => {
                let doubt = if survey.has_login { ", or none that the user may describe (DESCRIBE on the group)" } else { "" };
                lines.push(format!("there are no consumer groups on `{section}`{doubt}"));
            }
            Some(pattern) if filter.select_groups(all).is_empty() => {
                let typed = shown_pattern(pattern);
                lines.push(format!("no group on `{section}` matches `{typed}`{}", glob_advice(pattern)));
            }
            _ => {}
        }
        for group in survey.groups.iter().filter(|_| layout.by != By::Group) {
            let name = crate::terminal::escape_controls(&group.group.name);
            if let Some(why) = &group.unreadable {
                lines.push(format!("group `{name}` on `{section}`: {why}"));
            } else if group.partitions.is_empty() && !filter.restricts_partitions() {
                lines.push(format!("group `{name}` on `{section}` has committed nothing, and has no partitions"));
            }
        }
    }
    let partitions = || report.surveys.iter().flat_map(|survey| &survey.groups).flat_map(|group| &group.partitions);
    // A cluster that did not answer may hold some.
    if is_empty && lines.is_empty() && !report.surveys.is_empty() && report.failures.is_empty() {
        if partitions().next().is_none() {
            lines.push(nothing_committed(filter, None));
        } else if layout.only_lagging {
            let (known, all) = (partitions().filter(|partition| partition.lag().is_some()).count(), partitions().count());
            lines.push(match all - known {
                0 => format!("nothing lags: all {all} positions are caught up"),
                unknown => {
                    format!("nothing lags: {known} of {all} positions are caught up, the lag of {unknown} is not known")
                }
            });
        }
    }
    for survey in report.surveys.iter().filter(|survey| survey.settings_denied) {
        let what = "not allowed to see when retention deletes records on";
        lines.push(format!("{what} `{}`: give the user DESCRIBE_CONFIGS on the topics", survey.section));
    }
    lines
}
