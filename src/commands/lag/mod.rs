//! `sdl lag`.

mod exporter;
mod partition_lag;
mod prom;
mod rows;
mod selection;
mod survey;
mod thresholds;
mod throughput;
mod watch;

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;

use crate::commands::Context;
use crate::commands::lag::rows::{By, RowLayout};
use crate::commands::lag::selection::Selection;
use crate::commands::lag::survey::{Survey, SurveyedCluster};
use crate::commands::lag::thresholds::LagThresholds;
use crate::error::Error;
use crate::pipeline::Failure;
use crate::profile::SectionKind;
use crate::report::parse_address;
use crate::terminal::ListingFormat;

/// Tell how far consumer groups are behind, in records and in time
///
/// Lag is counted to the end of the log, as Kafka's own tool counts it; a commit beyond the end counts as no lag, and is noted. Time lag is the age of the next record that the group will
/// read: 0 when there is none, `-` when that cannot be told. Only positions with something to read are read from, each once.
/// Groups of the classic and of the new consumer protocol; nothing is joined, committed or changed.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    selection: Selection,
    /// What a row is [default: partition where groups are named, else group]
    #[arg(long, value_name = "WHAT", help_heading = SHOWN)]
    by: Option<By>,
    /// Leave out rows without lag
    #[arg(long, help_heading = SHOWN)]
    only_lagging: bool,
    /// Do without the time lag, and without reading records for it
    #[arg(long, help_heading = SHOWN)]
    no_time: bool,
    /// How to write it
    #[arg(short, long, value_name = "FORMAT", default_value = "table", help_heading = SHOWN)]
    output: OutputFormat,
    #[command(flatten)]
    limits: LagThresholds,
    #[command(flatten)]
    repeat: Repeat,
}

/// Flags that make it look again and again.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Looking again and again")]
struct Repeat {
    /// Look until interrupted, and tell the pace too: records a second, the time until caught up, and STALLED
    ///
    /// On a terminal the rows stay in place; in a pipe each round follows the last, with -o ndjson a line each row. A partition is
    /// STALLED when it had something to read in the last three rounds, and for 10 s at least, and the commit did not move. The
    /// rate is that of the last five intervals, and of 20 s at least; the time until caught up counts what is written meanwhile.
    #[arg(long, conflicts_with_all = ["max_lag", "max_time"])]
    watch: bool,
    /// How often to look [default: 5s, with --metrics 15s]
    #[arg(long, value_name = "DURATION", value_parser = interval)]
    interval: Option<Duration>,
    /// Serve Prometheus metrics at this address (9464, 0.0.0.0:9464) until interrupted: /metrics, /healthz, /readyz
    ///
    /// A port alone is one of the loopback interface. A cluster that cannot be reached does not end it: `sdl_section_up` is 0.
    #[arg(long, value_name = "ADDR", value_parser = parse_address, conflicts_with_all = ["watch", "max_lag", "max_time", "by", "only_lagging"])]
    metrics: Option<SocketAddr>,
}

/// How rows are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum OutputFormat {
    /// Columns for people.
    #[default]
    Table,
    /// One document.
    Json,
    /// A JSON object a line.
    Ndjson,
    /// Commas and quotes, with a line of names.
    Csv,
    /// The text format of Prometheus.
    Prom,
}

impl OutputFormat {
    /// Returns the format of rows; `None` where there are none.
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
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if interval < Duration::from_millis(100) { Err("at least 100ms".to_owned()) } else { Ok(interval) }
}

const SHOWN: &str = "What is shown";

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
    /// Looks at the groups and prints how far they are behind.
    ///
    /// # Errors
    /// When what was named is not there, a cluster cannot be reached, or a group is over a limit.
    pub async fn run(mut self, context: &Context) -> Result<(), Error> {
        let mut clusters = self.clusters(context)?;
        match (self.repeat.metrics, self.repeat.watch, self.output.format()) {
            (Some(address), ..) => return exporter::export(&self, address, clusters, context).await,
            (None, true, Some(format)) => return watch::watch(&self, format, clusters, context).await,
            (None, true, None) => {
                let what = "--watch does not go with -o prom".to_owned();
                return Err(Error::Usage { what, hint: "serve metrics with --metrics 9464".to_owned() });
            }
            (None, false, _) => {}
        }
        let round = look(&mut clusters, &self.selection).await;
        self.selection.check(&round)?;
        let layout = self.layout();
        let listing = rows::listing(&round, layout);
        match self.output.format() {
            None => context.print(&prom::page(&round))?,
            Some(ListingFormat::Table) if listing.is_empty() => {}
            Some(format) => context.print(&listing.render(format))?,
        }
        for line in self.unsaid(&round, layout, listing.is_empty()) {
            context.say(&format!("{line}\n"));
        }
        let nothing_is_there = round.surveys.iter().all(|survey| survey.groups.is_empty());
        let held = if self.limits.are_set() && nothing_is_there && self.selection.is_a_choice() && !round.surveys.is_empty() {
            let failure = Failure::new("nothing was checked: no group is left to look at");
            Err(Error::Check(failure.hint("loosen --groups, --topic, --topics-matching or --exclude")))
        } else {
            self.limits.check(&round)
        };
        let mut errors: Vec<Error> = held.err().into_iter().collect();
        errors.extend(round.troubles.into_iter().map(|(_, trouble)| trouble));
        let last = errors.pop();
        for error in errors {
            context.say(&error.render());
        }
        last.map_or(Ok(()), Err)
    }

    /// Returns the clusters to look at.
    fn clusters(&mut self, context: &Context) -> Result<Vec<SurveyedCluster>, Error> {
        self.selection.settle();
        self.selection.time = !self.no_time;
        let mut names = std::mem::take(&mut self.selection.source);
        if names.is_empty() {
            names = context.profile.names_of(SectionKind::Kafka).map(str::to_owned).collect();
        }
        if names.is_empty() {
            // The error of a profile without it says what helps.
            names.push("local_kafka".to_owned());
        }
        let mut seen = std::collections::HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        names.iter().map(|name| Ok(SurveyedCluster::new(context.kafka(name)?))).collect()
    }

    fn layout(&self) -> RowLayout {
        let by = self.by.unwrap_or(if self.selection.groups.is_empty() { By::Group } else { By::Partition });
        RowLayout { by, only_lagging: self.only_lagging, time: !self.no_time, pace: false }
    }

    /// Returns what the rows do not say: why there are none, and which groups have none.
    fn unsaid(&self, round: &LagReport, layout: RowLayout, is_empty: bool) -> Vec<String> {
        let mut lines = Vec::new();
        for survey in &round.surveys {
            let section = &survey.section;
            let all = &survey.all_groups;
            match &self.selection.groups_matching {
                _ if !self.selection.groups.is_empty() => {}
                _ if all.is_empty() => lines.push(format!("there are no consumer groups on `{section}`")),
                Some(pattern) if self.selection.groups_of(all).is_empty() => {
                    let pattern = pattern.as_str().trim_start_matches("^(?:").trim_end_matches(")$");
                    lines.push(format!("no group on `{section}` fits `{pattern}`"));
                }
                _ => {}
            }
            for group in survey.groups.iter().filter(|_| layout.by != By::Group) {
                let name = crate::terminal::escape_controls(&group.group.name);
                if let Some(trouble) = &group.trouble {
                    lines.push(format!("group `{name}` on `{section}`: {trouble}"));
                } else if group.standings.is_empty() && !self.selection.narrows() {
                    lines.push(format!("group `{name}` on `{section}` has committed nothing, and has no partitions"));
                }
            }
        }
        let standings = || round.surveys.iter().flat_map(|survey| &survey.groups).flat_map(|group| &group.standings);
        if is_empty && lines.is_empty() && !round.surveys.is_empty() {
            if standings().next().is_none() {
                lines.push("the groups have committed nothing in these topics and partitions".to_owned());
            } else if layout.only_lagging {
                let (known, all) = (standings().filter(|standing| standing.lag().is_some()).count(), standings().count());
                lines.push(match all - known {
                    0 => format!("nothing lags: all {all} positions are caught up"),
                    unknown => {
                        format!("nothing lags: {known} of {all} positions are caught up, the lag of {unknown} is not known")
                    }
                });
            }
        }
        lines
    }
}

/// What was seen of all clusters at one time.
struct LagReport {
    /// Milliseconds since the Unix epoch.
    at: i64,
    surveys: Vec<Survey>,
    /// The sections that were not seen, and why.
    troubles: Vec<(String, Error)>,
}

/// Looks at all clusters at once.
async fn look(clusters: &mut [SurveyedCluster], selection: &Selection) -> LagReport {
    let looks = clusters.iter_mut().map(async |cluster| (cluster.name().to_owned(), cluster.survey(selection).await));
    let looks = join_all(looks).await;
    let mut round = LagReport { at: jiff::Timestamp::now().as_millisecond(), surveys: Vec::new(), troubles: Vec::new() };
    for (section, look) in looks {
        match look {
            Ok(survey) => round.surveys.push(survey),
            Err(trouble) => round.troubles.push((section, trouble)),
        }
    }
    round
}
