//! Standings as rows: one for each partition, or summed up by topic or by group.

use std::collections::BTreeMap;

use serde_json::json;

use crate::commands::lag::LagReport;
use crate::commands::lag::partition_lag::{LagFlag, PartitionLag};
use crate::commands::lag::survey::GroupLag;
use crate::connectors::kafka::Group;
use crate::terminal::{Cell, Column, Listing, human_duration};

/// What a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum By {
    /// A group in a partition.
    Partition,
    /// A group.
    Group,
    /// A group in a topic.
    Topic,
}

/// How rows are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowLayout {
    pub(super) by: By,
    pub(super) only_lagging: bool,
    /// Whether there are columns for the time of the next record.
    pub(super) time: bool,
    /// Whether there are columns for the pace.
    pub(super) pace: bool,
}

/// Returns the rows of a round.
pub(super) fn listing(round: &LagReport, layout: RowLayout) -> Listing {
    let surveys = &round.surveys;
    let time = jiff::Timestamp::from_millisecond(round.at).unwrap_or_default().to_string();
    let timed = |cells: Vec<Cell>| if layout.pace { std::iter::once(time.as_str().into()).chain(cells).collect() } else { cells };
    let mut listing = Listing::new("lags", &columns(layout));
    for (survey, group) in surveys.iter().flat_map(|survey| survey.groups.iter().map(move |group| (survey, group))) {
        let now = survey.at;
        match layout.by {
            By::Partition => {
                for standing in group.standings.iter().filter(|standing| !layout.only_lagging || standing.is_behind()) {
                    listing.push(timed(partition_row(&survey.section, &group.group, standing, layout, now)));
                }
            }
            By::Topic => {
                let mut topics: BTreeMap<_, Vec<&PartitionLag>> = BTreeMap::new();
                for standing in &group.standings {
                    topics.entry(standing.partition.topic).or_default().push(standing);
                }
                for (topic, standings) in topics {
                    let sum = LagSum::of(&standings, now);
                    if !layout.only_lagging || sum.behind > 0 {
                        let head = vec![survey.section.as_str().into(), group.group.name.as_str().into(), topic.name().into()];
                        listing.push(timed(sum.row(head, group, layout)));
                    }
                }
            }
            By::Group => {
                let sum = LagSum::of(&group.standings.iter().collect::<Vec<_>>(), now);
                if !layout.only_lagging || sum.behind > 0 {
                    let head = vec![survey.section.as_str().into(), group.group.name.as_str().into()];
                    listing.push(timed(sum.row(head, group, layout)));
                }
            }
        }
    }
    let one_section = surveys.len() + round.troubles.len() == 1;
    listing.hide_in_table(|name, holds_nothing| match name {
        "section" => one_section,
        "time" | "deleted_unread" | "stable_end" | "stalled" => true,
        "client" | "host" | "deleted_in_seconds" | "notes" => holds_nothing,
        "members" | "protocol" => layout.by == By::Partition || holds_nothing,
        _ => false,
    });
    listing
}

fn columns(layout: RowLayout) -> Vec<Column> {
    let mut columns = if layout.pace { vec![Column::Text("time")] } else { Vec::new() };
    columns.extend([Column::Text("section"), Column::Text("group")]);
    match layout.by {
        By::Partition => columns.extend([
            Column::Text("topic"),
            Column::Number("partition"),
            Column::Number("committed"),
            Column::Number("end"),
            Column::Number("stable_end"),
        ]),
        By::Topic => columns.extend([Column::Text("topic"), Column::Number("partitions"), Column::Number("behind")]),
        By::Group => columns.extend([Column::Number("partitions"), Column::Number("behind")]),
    }
    columns.push(Column::Number("lag"));
    if layout.time {
        columns.push(Column::Duration("time_lag_seconds"));
    }
    if layout.pace {
        columns.extend([Column::Number("rate"), Column::Duration("eta_seconds"), Column::Text("stalled")]);
    }
    columns.extend([Column::Text("state"), Column::Text("protocol"), Column::Number("members")]);
    if layout.by == By::Partition {
        columns.extend([Column::Text("client"), Column::Text("host")]);
    }
    if layout.time {
        columns.push(Column::Duration("deleted_in_seconds"));
    }
    columns.extend([Column::Number("deleted_unread"), Column::Text("notes")]);
    columns
}

fn partition_row(section: &str, group: &Group, standing: &PartitionLag, layout: RowLayout, now: i64) -> Vec<Cell> {
    let mut row = vec![
        section.into(),
        group.name.as_str().into(),
        standing.partition.topic.name().into(),
        i64::from(standing.partition.index).into(),
        standing.committed.into(),
        standing.end().into(),
        standing.held_at().into(),
        standing.lag().into(),
    ];
    if layout.time {
        row.push(time(standing.time_lag(now)));
    }
    let stalled = standing.pace.is_some_and(|pace| pace.stalled);
    if layout.pace {
        let (rate, eta) = (standing.pace.map(|pace| pace.rate), standing.pace.and_then(|pace| pace.eta));
        row.extend([number(rate), seconds(eta), i64::from(stalled).into()]);
    }
    row.extend(about(group));
    let reader = standing.reader.as_ref();
    row.extend([reader.map(|reader| reader.client_id.as_str()).into(), reader.map(|reader| reader.host.as_str()).into()]);
    if layout.time {
        row.push(time(standing.expires_in(now)));
    }
    let marks = standing.marks();
    let texts = stalled.then(|| "STALLED".to_owned()).into_iter().chain(marks.iter().map(LagFlag::text));
    let codes = stalled.then_some("stalled").into_iter().chain(marks.iter().map(LagFlag::code));
    row.extend([standing.deleted_unread().into(), notes(&texts.collect::<Vec<_>>(), &codes.collect::<Vec<_>>())]);
    row
}

/// Several standings of a group together.
#[derive(Debug, Default)]
struct LagSum {
    partitions: usize,
    /// Partitions with something to read.
    behind: usize,
    lag: Option<i64>,
    /// The longest, in milliseconds.
    time_lag: Option<i64>,
    /// The soonest, in milliseconds.
    expires_in: Option<i64>,
    deleted_unread: i64,
    without_commit: usize,
    /// Each kind of mark, one of them and how many.
    marks: BTreeMap<&'static str, (LagFlag, usize)>,
    rate: Option<f64>,
    /// The longest, in seconds, if each has one.
    eta: Option<f64>,
    stalled: usize,
}

impl LagSum {
    fn of(standings: &[&PartitionLag], now: i64) -> Self {
        let mut sum = Self { partitions: standings.len(), eta: Some(0.0), ..Self::default() };
        for standing in standings {
            sum.behind += usize::from(standing.is_behind());
            sum.lag = added(sum.lag, standing.lag());
            sum.time_lag = sum.time_lag.max(standing.time_lag(now));
            sum.expires_in = [sum.expires_in, standing.expires_in(now)].into_iter().flatten().min();
            sum.deleted_unread += standing.deleted_unread();
            sum.without_commit += usize::from(standing.committed.is_none());
            for mark in standing.marks() {
                sum.marks.entry(mark.code()).or_insert((mark, 0)).1 += 1;
            }
            sum.rate = match (sum.rate, standing.pace.map(|pace| pace.rate)) {
                (Some(one), Some(other)) => Some(one + other),
                (one, other) => one.or(other),
            };
            if standing.is_behind() {
                let eta = standing.pace.and_then(|pace| pace.eta);
                sum.eta = sum.eta.zip(eta).map(|(one, other)| one.max(other));
            }
            sum.stalled += usize::from(standing.pace.is_some_and(|pace| pace.stalled));
        }
        if sum.rate.is_none() {
            sum.eta = None;
        }
        sum
    }

    fn row(&self, head: Vec<Cell>, group: &GroupLag, layout: RowLayout) -> Vec<Cell> {
        let count = |count: usize| Cell::Number(i64::try_from(count).unwrap_or(i64::MAX));
        let mut row = head;
        row.extend([count(self.partitions), count(self.behind), self.lag.into()]);
        if layout.time {
            row.push(time(self.time_lag));
        }
        if layout.pace {
            row.extend([number(self.rate), seconds(self.eta), count(self.stalled)]);
        }
        row.extend(about(&group.group));
        if layout.time {
            row.push(time(self.expires_in));
        }
        let (mut texts, mut codes) = (Vec::new(), Vec::new());
        if self.stalled > 0 {
            texts.push(format!("{} STALLED", self.stalled));
            codes.push("stalled");
        }
        if self.without_commit > 0 {
            texts.push(format!("{} without a commit", self.without_commit));
            codes.push("no_commit");
        }
        for (code, (mark, partitions)) in &self.marks {
            texts.push(mark.text_for(*partitions));
            codes.push(code);
        }
        if let Some(trouble) = &group.trouble {
            texts.push(trouble.clone());
            codes.push("not_told");
        } else if group.standings.is_empty() {
            texts.push("nothing committed".to_owned());
            codes.push("no_commit");
        }
        row.extend([self.deleted_unread.into(), notes(&texts, &codes)]);
        row
    }
}

fn added(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        (one, other) => one.or(other),
    }
}

/// Returns state, protocol and number of members.
fn about(group: &Group) -> [Cell; 3] {
    let members = group.members.as_ref().map(|members| i64::try_from(members.len()).unwrap_or(i64::MAX));
    [group.state.as_deref().into(), group.protocol.as_deref().into(), members.into()]
}

/// Returns milliseconds as a cell of seconds.
fn time(millis: Option<i64>) -> Cell {
    #[allow(clippy::cast_precision_loss)] // exact for a hundred thousand years
    seconds(millis.map(|millis| millis as f64 / 1000.0))
}

fn seconds(seconds: Option<f64>) -> Cell {
    seconds.map_or(Cell::Empty, |seconds| Cell::Display(human_duration(seconds), json!(seconds)))
}

fn number(number: Option<f64>) -> Cell {
    number.map_or(Cell::Empty, |number| Cell::Display(format!("{number:.1}"), json!(number)))
}

/// Returns what people should know: words for them, codes for programs.
fn notes(texts: &[String], codes: &[&str]) -> Cell {
    Cell::Display(texts.join("; "), json!(codes))
}
