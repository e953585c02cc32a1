//! A lag report as rows: one per partition, or summed by topic or group.

use std::collections::BTreeMap;

use serde_json::json;

use crate::connectors::kafka::Group;
use crate::lag::{GroupLag, LagFlag, LagReport, PartitionLag};
use crate::terminal::{Cell, Column, Listing, human_duration};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum By {
    /// One row per group and partition
    Partition,
    /// One row per group
    Group,
    /// One row per group and topic
    Topic,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct RowLayout {
    pub(super) by: By,
    pub(super) only_lagging: bool,
    /// Whether there are columns for time lag and retention.
    pub(super) time: bool,
    /// Whether there are columns for rate, ETA and stalls.
    pub(super) throughput: bool,
}

pub(super) fn listing(report: &LagReport, layout: RowLayout) -> Listing {
    let surveys = &report.surveys;
    let time = jiff::Timestamp::from_millisecond(report.at).unwrap_or_default().to_string();
    let timed =
        |cells: Vec<Cell>| if layout.throughput { std::iter::once(time.as_str().into()).chain(cells).collect() } else { cells };
    let mut listing = Listing::new("lags", &columns(layout));
    for (survey, group) in surveys.iter().flat_map(|survey| survey.groups.iter().map(move |group| (survey, group))) {
        let now = survey.at;
        match layout.by {
            By::Partition => {
                for partition in group.partitions.iter().filter(|partition| !layout.only_lagging || partition.is_behind()) {
                    listing.push(timed(partition_row(&survey.section, &group.group, partition, layout, now)));
                }
            }
            By::Topic => {
                let mut topics: BTreeMap<_, Vec<&PartitionLag>> = BTreeMap::new();
                for partition in &group.partitions {
                    topics.entry(partition.partition.topic).or_default().push(partition);
                }
                for (topic, partitions) in topics {
                    let sum = LagSum::of(&partitions, now);
                    if !layout.only_lagging || sum.behind > 0 {
                        let head = vec![survey.section.as_str().into(), group.group.name.as_str().into(), topic.name().into()];
                        listing.push(timed(sum.row(head, group, layout)));
                    }
                }
            }
            By::Group => {
                let sum = LagSum::of(&group.partitions.iter().collect::<Vec<_>>(), now);
                if !layout.only_lagging || sum.behind > 0 {
                    let head = vec![survey.section.as_str().into(), group.group.name.as_str().into()];
                    listing.push(timed(sum.row(head, group, layout)));
                }
            }
        }
    }
    let one_section = surveys.len() + report.failures.len() == 1;
    listing.hide_in_table(|name, is_empty| match name {
        "section" => one_section,
        "time" | "deleted_unread" | "stable_end" | "stalled" => true,
        "client" | "host" | "deleted_in_seconds" | "notes" => is_empty,
        "members" | "protocol" => layout.by == By::Partition || is_empty,
        _ => false,
    });
    listing
}

fn columns(layout: RowLayout) -> Vec<Column> {
    let mut columns = if layout.throughput { vec![Column::Text("time")] } else { Vec::new() };
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
    if layout.throughput {
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

fn partition_row(section: &str, group: &Group, partition: &PartitionLag, layout: RowLayout, now: i64) -> Vec<Cell> {
    let mut row = vec![
        section.into(),
        group.name.as_str().into(),
        partition.partition.topic.name().into(),
        i64::from(partition.partition.index).into(),
        partition.committed.into(),
        partition.end().into(),
        partition.held_at().into(),
        partition.lag().into(),
    ];
    if layout.time {
        row.push(time(partition.time_lag(now)));
    }
    let stalled = partition.throughput.is_some_and(|throughput| throughput.stalled);
    if layout.throughput {
        let (rate, eta) =
            (partition.throughput.map(|throughput| throughput.rate), partition.throughput.and_then(|throughput| throughput.eta));
        row.extend([number(rate), seconds(eta), i64::from(stalled).into()]);
    }
    row.extend(group_cells(group));
    let member = partition.member.as_ref();
    row.extend([member.map(|member| member.client_id.as_str()).into(), member.map(|member| member.host.as_str()).into()]);
    if layout.time {
        row.push(time(partition.expires_in(now)));
    }
    let (mut texts, mut codes) = (Vec::new(), Vec::new());
    if stalled {
        texts.push("STALLED".to_owned());
        codes.push("stalled");
    }
    if partition.committed.is_none() {
        texts.push(NOTHING_COMMITTED.to_owned());
        codes.push("no_commit");
    }
    for flag in &partition.flags() {
        texts.push(flag.text());
        codes.push(flag.code());
    }
    row.extend([partition.deleted_unread().into(), notes(&texts, &codes)]);
    row
}

/// The note of a group or partition without a commit.
const NOTHING_COMMITTED: &str = "nothing committed";

#[derive(Debug, Default)]
struct LagSum {
    partitions: usize,
    /// Partitions that lag.
    behind: usize,
    lag: Option<i64>,
    /// The longest, in milliseconds.
    time_lag: Option<i64>,
    /// The soonest, in milliseconds.
    expires_in: Option<i64>,
    deleted_unread: i64,
    without_commit: usize,
    /// By code: one flag and its number of partitions.
    flags: BTreeMap<&'static str, (LagFlag, usize)>,
    rate: Option<f64>,
    /// The longest, in seconds, if each has one.
    eta: Option<f64>,
    stalled: usize,
}

impl LagSum {
    fn of(partitions: &[&PartitionLag], now: i64) -> Self {
        let mut sum = Self { partitions: partitions.len(), eta: Some(0.0), ..Self::default() };
        for partition in partitions {
            sum.behind += usize::from(partition.is_behind());
            sum.lag = added(sum.lag, partition.lag());
            sum.time_lag = sum.time_lag.max(partition.time_lag(now));
            sum.expires_in = [sum.expires_in, partition.expires_in(now)].into_iter().flatten().min();
            sum.deleted_unread += partition.deleted_unread();
            sum.without_commit += usize::from(partition.committed.is_none());
            for flag in partition.flags() {
                sum.flags.entry(flag.code()).or_insert((flag, 0)).1 += 1;
            }
            sum.rate = match (sum.rate, partition.throughput.map(|throughput| throughput.rate)) {
                (Some(one), Some(other)) => Some(one + other),
                (one, other) => one.or(other),
            };
            if partition.is_behind() {
                let eta = partition.throughput.and_then(|throughput| throughput.eta);
                sum.eta = sum.eta.zip(eta).map(|(one, other)| one.max(other));
            }
            sum.stalled += usize::from(partition.throughput.is_some_and(|throughput| throughput.stalled));
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
        if layout.throughput {
            row.extend([number(self.rate), seconds(self.eta), count(self.stalled)]);
        }
        row.extend(group_cells(&group.group));
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
        for (code, (flag, partitions)) in &self.flags {
            texts.push(flag.text_of_many(*partitions));
            codes.push(code);
        }
        if let Some(why) = &group.unreadable {
            texts.push(why.clone());
            codes.push("unreadable");
        } else if group.partitions.is_empty() {
            texts.push(NOTHING_COMMITTED.to_owned());
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
fn group_cells(group: &Group) -> [Cell; 3] {
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

/// Returns the notes cell: texts in tables, codes in machine-readable output.
fn notes(texts: &[String], codes: &[&str]) -> Cell {
    Cell::Display(texts.join("; "), json!(codes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lag::{GroupLag, Survey, partition_lag};
    use crate::terminal::ListingFormat;

    #[test]
    fn a_partition_without_a_commit_says_so() {
        let group = Group { name: "nothing".to_owned(), ..Group::default() };
        let partitions = vec![partition_lag(0, None, 0, 100), partition_lag(1, Some(100), 0, 100)];
        let groups = vec![GroupLag { group, partitions, unreadable: None }];
        let survey = Survey { section: "s".to_owned(), groups, ..Survey::default() };
        let report = LagReport { at: 0, surveys: vec![survey], failures: Vec::new() };
        let rows = listing(&report, RowLayout { by: By::Partition, only_lagging: false, time: false, throughput: false });
        let json: serde_json::Value = serde_json::from_str(&rows.render(ListingFormat::Json)).unwrap();
        assert_eq!([&json["lags"][0]["notes"], &json["lags"][1]["notes"]], [&json!(["no_commit"]), &json!([])]);
        assert_eq!(rows.render(ListingFormat::Table).matches(NOTHING_COMMITTED).count(), 1);
    }
}
