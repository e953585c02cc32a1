//! A lag report as Prometheus metrics.

use std::collections::BTreeMap;
use std::ops::Add;

use crate::commands::lag::rows::By;
use crate::lag::{GroupLag, LagReport, PartitionLag, Survey};
use crate::report::{Exposition, MetricKind};
use crate::terminal::escape_controls;

/// Returns the page, with one series per what `by` says.
pub(super) fn page(report: &LagReport, by: By) -> String {
    let mut page = Exposition::default();
    let mut gauge = |name: &str, help: &str, samples: Vec<LabelledValue>| {
        let samples = samples.iter().map(|(labels, value)| {
            let labels = labels.iter().map(|(name, text)| (*name, text.as_str()));
            (labels.collect::<Vec<_>>(), *value)
        });
        page.family(name, MetricKind::Gauge, help, samples);
    };
    gauge(
        "sdl_build_info",
        "The version of sdl; always 1.",
        vec![(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1.0)],
    );
    let up = report.surveys.iter().map(|survey| (&survey.section, 1.0));
    let up = up.chain(report.failures.iter().map(|(section, _)| (section, 0.0)));
    let up = up.map(|(section, value)| (vec![("section", section.clone())], value)).collect();
    gauge("sdl_section_up", "Whether the cluster of this section answered.", up);
    gauge(
        "sdl_group_lag_records",
        "Records between the group's committed offset and the log end offset.",
        of_partitions(report, by, Add::add, |partition, _| partition.lag().map(float)),
    );
    let seconds = |millis: Option<i64>| millis.map(|millis| float(millis) / 1000.0);
    gauge(
        "sdl_group_lag_seconds",
        "Age of the next record that the group will read; 0 when there is none.",
        of_partitions(report, by, f64::max, |partition, now| seconds(partition.time_lag(now))),
    );
    // Offsets of several partitions have no sum.
    if by == By::Partition {
        let committed = of_partitions(report, by, Add::add, |partition, _| partition.committed.map(float));
        gauge("sdl_group_committed_offset", "The offset that the group reads next.", committed);
    }
    gauge(
        "sdl_group_deleted_unread_records",
        "Records that were deleted before the group read them.",
        of_partitions(report, by, Add::add, |partition, _| {
            Some(float(partition.deleted_unread())).filter(|deleted| *deleted > 0.0)
        }),
    );
    gauge(
        "sdl_group_unread_expires_seconds",
        "Time until retention may delete the next record that the group will read.",
        of_partitions(report, by, f64::min, |partition, now| seconds(partition.expires_in(now))),
    );
    let mut ends = BTreeMap::new();
    for (survey, _, partition) in partitions(report).filter(|_| by == By::Partition) {
        if let Some(end) = partition.end() {
            ends.insert((survey.section.as_str(), partition.partition), end);
        }
    }
    let end = |((section, partition), end): ((&str, crate::record::Partition), i64)| {
        let labels = vec![
            ("section", section.to_owned()),
            ("topic", partition.topic.name().to_owned()),
            ("partition", partition.index.to_string()),
        ];
        (labels, float(end))
    };
    gauge("sdl_partition_end_offset", "The end of the log.", ends.into_iter().map(end).collect());
    gauge(
        "sdl_group_members",
        "Members of the group.",
        by_group(report, |group| Some((None, group.group.members.as_ref()?.len()))),
    );
    gauge(
        "sdl_group_unassigned_partitions",
        "Partitions with a commit that are not assigned to a member, though the group has members.",
        by_group(report, |group| Some((None, group.partitions.iter().filter(|partition| partition.unassigned).count()))),
    );
    gauge(
        "sdl_group_unknown_partitions",
        "Partitions with a commit whose lag is not known: gone, without leader, or truncated below the commit.",
        by_group(report, |group| Some((None, group.partitions.iter().filter(|partition| partition.is_unknown()).count()))),
    );
    gauge(
        "sdl_group_state",
        "The state of the group: 1 for the one that it is in.",
        by_group(report, |group| Some((Some(group.group.state.clone()?), 1))),
    );
    page.into_text()
}

/// Labels and value.
type LabelledValue = (Vec<(&'static str, String)>, f64);

fn partitions(report: &LagReport) -> impl Iterator<Item = (&Survey, &GroupLag, &PartitionLag)> {
    let groups = report.surveys.iter().flat_map(|survey| survey.groups.iter().map(move |group| (survey, group)));
    groups.flat_map(|(survey, group)| group.partitions.iter().map(move |partition| (survey, group, partition)))
}

/// Returns the values of the partitions, those of one topic or group combined.
fn of_partitions(
    report: &LagReport,
    by: By,
    combine: fn(f64, f64) -> f64,
    value: impl Fn(&PartitionLag, i64) -> Option<f64>,
) -> Vec<LabelledValue> {
    let mut values: Vec<LabelledValue> = Vec::new();
    let mut at = BTreeMap::new();
    for (survey, group, partition) in partitions(report) {
        let Some(value) = value(partition, survey.at) else { continue };
        let mut labels = vec![("section", survey.section.clone()), ("group", escape_controls(&group.group.name).into_owned())];
        if by != By::Group {
            labels.push(("topic", partition.partition.topic.name().to_owned()));
        }
        if by == By::Partition {
            labels.push(("partition", partition.partition.index.to_string()));
        }
        if let Some(&at) = at.get(&labels) {
            let (_, combined): &mut LabelledValue = &mut values[at];
            *combined = combine(*combined, value);
        } else {
            at.insert(labels.clone(), values.len());
            values.push((labels, value));
        }
    }
    values
}

fn by_group(report: &LagReport, value: impl Fn(&GroupLag) -> Option<(Option<String>, usize)>) -> Vec<LabelledValue> {
    let groups = report.surveys.iter().flat_map(|survey| survey.groups.iter().map(move |group| (survey, group)));
    let samples = groups.filter_map(|(survey, group)| {
        let (state, value) = value(group)?;
        let mut labels = vec![("section", survey.section.clone()), ("group", escape_controls(&group.group.name).into_owned())];
        labels.extend(state.map(|state| ("state", state)));
        Some((labels, float(i64::try_from(value).unwrap_or(i64::MAX))))
    });
    samples.collect()
}

#[allow(clippy::cast_precision_loss)] // Prometheus has no other numbers
fn float(number: i64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::kafka::Group;
    use crate::lag::partition_lag;

    #[test]
    fn there_is_one_series_per_what_is_asked_for() {
        let group = Group { name: "g".to_owned(), ..Group::default() };
        let partitions = vec![partition_lag(0, Some(10), 0, 100), partition_lag(1, Some(95), 0, 100)];
        let groups = vec![GroupLag { group, partitions, unreadable: None }];
        let survey = Survey { section: "s".to_owned(), groups, ..Survey::default() };
        let report = LagReport { at: 0, surveys: vec![survey], failures: Vec::new() };
        let lags = |by| {
            let page = page(&report, by);
            let samples = page.lines().filter(|line| line.starts_with("sdl_group_lag_records{"));
            samples.map(ToOwned::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(lags(By::Group), ["sdl_group_lag_records{section=\"s\",group=\"g\"} 95"]);
        assert_eq!((lags(By::Topic).len(), lags(By::Partition).len()), (1, 2));
        assert!(!page(&report, By::Group).contains("sdl_group_committed_offset"), "offsets have no sum");
    }
}
