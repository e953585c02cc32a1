//! A lag report as Prometheus metrics.

use std::collections::BTreeMap;

use crate::lag::{GroupLag, LagReport, PartitionLag, Survey};
use crate::report::{Exposition, MetricKind};
use crate::terminal::escape_controls;

pub(super) fn page(report: &LagReport) -> String {
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
        of_partitions(report, |partition, _| partition.lag().map(float)),
    );
    let seconds = |millis: Option<i64>| millis.map(|millis| float(millis) / 1000.0);
    gauge(
        "sdl_group_lag_seconds",
        "Age of the next record that the group will read; 0 when there is none.",
        of_partitions(report, |partition, now| seconds(partition.time_lag(now))),
    );
    gauge(
        "sdl_group_committed_offset",
        "The offset that the group reads next.",
        of_partitions(report, |partition, _| partition.committed.map(float)),
    );
    gauge(
        "sdl_group_deleted_unread_records",
        "Records that were deleted before the group read them.",
        of_partitions(report, |partition, _| Some(float(partition.deleted_unread())).filter(|deleted| *deleted > 0.0)),
    );
    gauge(
        "sdl_group_unread_expires_seconds",
        "Time until retention may delete the next record that the group will read.",
        of_partitions(report, |partition, now| seconds(partition.expires_in(now))),
    );
    let mut ends = BTreeMap::new();
    for (survey, _, partition) in partitions(report) {
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

fn of_partitions(report: &LagReport, value: impl Fn(&PartitionLag, i64) -> Option<f64>) -> Vec<LabelledValue> {
    let sample = |(survey, group, partition): (&Survey, &GroupLag, &PartitionLag)| {
        let labels = vec![
            ("section", survey.section.clone()),
            ("group", escape_controls(&group.group.name).into_owned()),
            ("topic", partition.partition.topic.name().to_owned()),
            ("partition", partition.partition.index.to_string()),
        ];
        Some((labels, value(partition, survey.at)?))
    };
    partitions(report).filter_map(sample).collect()
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
