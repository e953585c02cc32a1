//! Standings as Prometheus reads them.

use std::collections::BTreeMap;

use crate::commands::lag::LagReport;
use crate::commands::lag::partition_lag::PartitionLag;
use crate::commands::lag::survey::{GroupLag, Survey};
use crate::report::{Exposition, MetricKind};
use crate::terminal::escape_controls;

/// Returns the page of metrics of a round.
pub(super) fn page(round: &LagReport) -> String {
    let mut page = Exposition::default();
    let mut gauge = |name: &str, help: &str, samples: Vec<Sample>| {
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
    let up = round.surveys.iter().map(|survey| (&survey.section, 1.0));
    let up = up.chain(round.troubles.iter().map(|(section, _)| (section, 0.0)));
    let up = up.map(|(section, value)| (vec![("section", section.clone())], value)).collect();
    gauge("sdl_section_up", "Whether the cluster of this section answered.", up);
    gauge(
        "sdl_group_lag_records",
        "Records between the group's commit and the end of the log.",
        of_partitions(round, |standing, _| standing.lag().map(float)),
    );
    let seconds = |millis: Option<i64>| millis.map(|millis| float(millis) / 1000.0);
    gauge(
        "sdl_group_lag_seconds",
        "Age of the next record that the group will read; 0 when there is none.",
        of_partitions(round, |standing, now| seconds(standing.time_lag(now))),
    );
    gauge(
        "sdl_group_committed_offset",
        "The offset that the group reads next.",
        of_partitions(round, |standing, _| standing.committed.map(float)),
    );
    gauge(
        "sdl_group_deleted_unread_records",
        "Records that were deleted before the group read them.",
        of_partitions(round, |standing, _| Some(float(standing.deleted_unread())).filter(|deleted| *deleted > 0.0)),
    );
    gauge(
        "sdl_group_unread_expires_seconds",
        "Time until retention may delete the next record that the group will read.",
        of_partitions(round, |standing, now| seconds(standing.expires_in(now))),
    );
    let mut ends = BTreeMap::new();
    for (survey, _, standing) in standings(round) {
        if let Some(end) = standing.end() {
            ends.insert((survey.section.as_str(), standing.partition), end);
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
        by_group(round, |group| Some((None, group.group.members.as_ref()?.len()))),
    );
    gauge(
        "sdl_group_unassigned_partitions",
        "Partitions with a commit that no member of the group reads, though it has members.",
        by_group(round, |group| Some((None, group.standings.iter().filter(|standing| standing.unassigned).count()))),
    );
    gauge(
        "sdl_group_unknown_partitions",
        "Partitions with a commit whose lag cannot be told: gone, without leader, or truncated below the commit.",
        by_group(round, |group| Some((None, group.standings.iter().filter(|standing| standing.is_unknown()).count()))),
    );
    gauge(
        "sdl_group_state",
        "The state of the group: 1 for the one that it is in.",
        by_group(round, |group| Some((Some(group.group.state.clone()?), 1))),
    );
    page.into_text()
}

/// Labels and value.
type Sample = (Vec<(&'static str, String)>, f64);

fn standings(round: &LagReport) -> impl Iterator<Item = (&Survey, &GroupLag, &PartitionLag)> {
    let groups = round.surveys.iter().flat_map(|survey| survey.groups.iter().map(move |group| (survey, group)));
    groups.flat_map(|(survey, group)| group.standings.iter().map(move |standing| (survey, group, standing)))
}

fn of_partitions(round: &LagReport, value: impl Fn(&PartitionLag, i64) -> Option<f64>) -> Vec<Sample> {
    let sample = |(survey, group, standing): (&Survey, &GroupLag, &PartitionLag)| {
        let labels = vec![
            ("section", survey.section.clone()),
            ("group", escape_controls(&group.group.name).into_owned()),
            ("topic", standing.partition.topic.name().to_owned()),
            ("partition", standing.partition.index.to_string()),
        ];
        Some((labels, value(standing, survey.at)?))
    };
    standings(round).filter_map(sample).collect()
}

fn by_group(round: &LagReport, value: impl Fn(&GroupLag) -> Option<(Option<String>, usize)>) -> Vec<Sample> {
    let groups = round.surveys.iter().flat_map(|survey| survey.groups.iter().map(move |group| (survey, group)));
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
