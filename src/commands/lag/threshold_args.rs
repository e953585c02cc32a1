//! Flags that turn `sdl lag` into a check.

use std::time::Duration;

use crate::commands::args::{parse_any_duration, parse_count};
use crate::error::Error;
use crate::lag::{Breach, LagReport, Thresholds};
use crate::pipeline::Failure;
use crate::report::counted;
use crate::terminal::{escape_controls, human_duration};

#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Thresholds (exit code 4 if a group exceeds one)")]
pub(super) struct ThresholdArgs {
    /// Maximum lag of a group in records, over all its selected partitions; an unknown lag exceeds it
    #[arg(long, value_name = "N", value_parser = parse_count)]
    max_lag: Option<u64>,
    /// Maximum time lag of a partition; an unknown time lag exceeds it
    #[arg(long, value_name = "DURATION", value_parser = parse_any_duration, conflicts_with = "no_time")]
    max_time: Option<Duration>,
}

impl ThresholdArgs {
    pub(super) fn thresholds(&self) -> Thresholds {
        Thresholds { max_lag: self.max_lag, max_time: self.max_time }
    }
}

/// Checks every group.
///
/// # Errors
/// When a group exceeds a threshold, or its lag is not known.
pub(super) fn check(thresholds: Thresholds, report: &LagReport) -> Result<(), Error> {
    let groups = report.surveys.iter().flat_map(|survey| survey.groups.iter().map(move |group| (survey, group)));
    let (mut causes, mut count, mut shown, mut may_lag) = (Vec::new(), 0, String::new(), false);
    for (survey, group) in groups {
        let breaches = thresholds.breaches(group, survey.at);
        count += usize::from(!breaches.is_empty());
        let name = escape_controls(&group.group.name);
        if !breaches.is_empty() {
            shown = name.to_string();
        }
        may_lag |= breaches.iter().any(|breach| *breach != Breach::NothingCommitted);
        causes.extend(breaches.iter().map(|breach| format!("`{name}` on `{}`: {}", survey.section, text(breach))));
    }
    if causes.is_empty() {
        return Ok(());
    }
    let what = if count == 1 { "1 group fails the check".to_owned() } else { format!("{count} groups fail the check") };
    let failure = causes.into_iter().fold(Failure::new(what), Failure::because);
    let group = if count == 1 { shown.as_str() } else { "GROUP" };
    let hint = if may_lag {
        format!("see where: sdl lag {group} --only-lagging")
    } else {
        format!(
            "see whether it has members: sdl lag {group} --by group; it commits after its first records, or its topics were deleted: \
             leave it out with --groups"
        )
    };
    Err(Error::Check(failure.hint(hint)))
}

fn text(breach: &Breach) -> String {
    match breach {
        Breach::Unreadable(why) => why.clone(),
        Breach::NothingCommitted => "the lag is not known: nothing is committed".to_owned(),
        Breach::UnknownLag(partitions) => format!("the lag of {} is not known", counted(*partitions as u64, "partition")),
        Breach::Lag { lag, max } => format!("lag {lag} exceeds {max} (--max-lag)"),
        Breach::TimeLag { longest, max } => {
            #[allow(clippy::cast_precision_loss)] // for people
            let longest = human_duration(*longest as f64 / 1000.0);
            format!("time lag {longest} exceeds {} (--max-time)", humantime::format_duration(*max))
        }
        Breach::UnknownTimeLag(partitions) => {
            format!("the time lag of {} is not known (--max-time)", counted(*partitions as u64, "lagging partition"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::kafka::{Group, NextRecord};
    use crate::lag::{GroupLag, LogOffsets, PartitionLag, Survey, partition_lag};

    const NOW: i64 = 1_700_000_000_000;

    fn checked(max_lag: Option<u64>, max_time: Option<u64>, partitions: Vec<PartitionLag>) -> Option<String> {
        let group = Group { name: "g".to_owned(), ..Group::default() };
        let groups = vec![GroupLag { group, partitions, unreadable: None }];
        let surveys = vec![Survey { section: "s".to_owned(), at: NOW, groups, ..Survey::default() }];
        let thresholds = Thresholds { max_lag, max_time: max_time.map(Duration::from_secs) };
        check(thresholds, &LagReport { at: NOW, surveys, failures: Vec::new() }).err().map(|error| {
            assert_eq!(error.exit_code(), 4);
            error.render()
        })
    }

    #[test]
    fn a_groups_partitions_count_together_against_the_lag() {
        let two = || vec![partition_lag(0, Some(40), 0, 100), partition_lag(1, Some(99), 0, 100), partition_lag(2, None, 0, 100)];
        assert_eq!(checked(Some(61), None, two()), None);
        assert_eq!(
            checked(Some(60), None, two()).unwrap(),
            "error: 1 group fails the check\n  caused by: `g` on `s`: lag 61 exceeds 60 (--max-lag)\n\
             hint: see where: sdl lag g --only-lagging\n"
        );
        assert_eq!(checked(None, None, two()), None);
    }

    #[test]
    fn an_unknown_lag_exceeds_any_threshold() {
        for log in [LogOffsets::NoLeader(String::new()), LogOffsets::NoTopic, LogOffsets::NoPartition] {
            let unknown = PartitionLag { log, ..partition_lag(0, Some(40), 0, 100) };
            let over = checked(Some(1_000), None, vec![unknown.clone()]).unwrap();
            assert!(over.contains("`g` on `s`: the lag of 1 partition is not known"), "{over}");
            assert!(checked(None, Some(1_000), vec![unknown.clone()]).is_some());
            assert_eq!(checked(None, None, vec![unknown]), None);
        }
        assert!(checked(Some(1_000), None, vec![partition_lag(0, Some(140), 0, 100)]).is_some(), "truncated");
    }

    #[test]
    fn a_group_that_has_committed_nothing_exceeds_any_threshold() {
        for partitions in [Vec::new(), vec![partition_lag(0, None, 0, 100), partition_lag(1, None, 0, 0)]] {
            let expected = "error: 1 group fails the check\n  caused by: `g` on `s`: the lag is not known: nothing is committed\n\
                            hint: see whether it has members: sdl lag g --by group; it commits after its first records, or its topics \
                            were deleted: leave it out with --groups\n";
            assert_eq!(checked(Some(1_000), None, partitions.clone()).as_deref(), Some(expected));
            assert_eq!(checked(None, Some(1_000), partitions.clone()).as_deref(), Some(expected));
            assert_eq!(checked(None, None, partitions), None);
        }
        let one = vec![partition_lag(0, Some(100), 0, 100), partition_lag(1, None, 0, 100)];
        assert_eq!(checked(Some(0), None, one), None, "a partition without a commit beside others");
    }

    #[test]
    fn each_partition_counts_by_itself_against_the_time() {
        let aged = |index, next| PartitionLag { next: Some(next), ..partition_lag(index, Some(40), 0, 100) };
        let two = || vec![aged(0, NextRecord::At(NOW - 61_000)), aged(1, NextRecord::At(NOW - 50_000))];
        assert_eq!(checked(None, Some(61), two()), None);
        let over = checked(None, Some(60), two()).unwrap();
        assert!(over.contains("`g` on `s`: time lag 1m 1s exceeds 1m (--max-time)"), "{over}");
        let unknown = checked(None, Some(60), vec![aged(0, NextRecord::Unknown("why".to_owned()))]).unwrap();
        assert!(unknown.contains("the time lag of 1 lagging partition is not known"), "{unknown}");
    }
}
