//! How far a group may be behind.

use std::time::Duration;

use crate::commands::lag::LagReport;
use crate::commands::lag::survey::GroupLag;
use crate::error::Error;
use crate::pipeline::Failure;
use crate::terminal::{escape_controls, human_duration};

/// Flags that make a check of it.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Limits (exit code 4 when a group is over one)")]
pub(super) struct LagThresholds {
    /// The most records that a group may be behind, in all that is looked at together; what cannot be told is over it
    #[arg(long, value_name = "N")]
    max_lag: Option<u64>,
    /// The longest that a record may have been waiting; a lag whose time cannot be told is over it
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, conflicts_with = "no_time")]
    max_time: Option<Duration>,
}

impl LagThresholds {
    /// Returns whether anything is to be checked.
    pub(super) fn are_set(&self) -> bool {
        self.max_lag.is_some() || self.max_time.is_some()
    }

    /// Checks every group.
    ///
    /// # Errors
    /// When one is over a limit, or when what it has committed cannot be told.
    pub(super) fn check(&self, round: &LagReport) -> Result<(), Error> {
        let groups = round.surveys.iter().flat_map(|survey| survey.groups.iter().map(move |group| (survey, group)));
        let mut over = Vec::new();
        let mut count = 0;
        for (survey, group) in groups {
            let reasons = self.reasons(group, survey.at);
            count += usize::from(!reasons.is_empty());
            let name = escape_controls(&group.group.name);
            over.extend(reasons.into_iter().map(|reason| format!("`{name}` on `{}`: {reason}", survey.section)));
        }
        if over.is_empty() {
            return Ok(());
        }
        let groups = if count == 1 { "1 group is".to_owned() } else { format!("{count} groups are") };
        let failure = over.into_iter().fold(Failure::new(format!("{groups} over the limit")), Failure::because);
        Err(Error::Check(failure.hint("see where: sdl lag GROUP --only-lagging")))
    }

    /// Returns why a group is over the limits.
    fn reasons(&self, group: &GroupLag, now: i64) -> Vec<String> {
        let mut reasons = Vec::new();
        if !self.are_set() {
            return reasons;
        }
        if let Some(trouble) = &group.trouble {
            reasons.push(trouble.clone());
        }
        let unknown = group.standings.iter().filter(|standing| standing.is_unknown()).count();
        if unknown > 0 {
            reasons.push(format!("how far it is behind cannot be told in {unknown} partitions"));
        }
        let lag = group.lag().unwrap_or(0);
        if let Some(most) = self.max_lag.filter(|most| lag.unsigned_abs() > *most) {
            reasons.push(format!("lag {lag} is over {most} (--max-lag)"));
        }
        if let Some(most) = self.max_time {
            let shown = humantime::format_duration(most);
            let behind = || group.standings.iter().filter(|standing| standing.is_behind());
            let untimed = behind().filter(|standing| standing.time_lag(now).is_none()).count();
            let longest = behind().filter_map(|standing| standing.time_lag(now)).max().unwrap_or(0);
            if u128::from(longest.unsigned_abs()) > most.as_millis() {
                #[allow(clippy::cast_precision_loss)] // for people
                let longest = human_duration(longest as f64 / 1000.0);
                reasons.push(format!("time lag {longest} is over {shown} (--max-time)"));
            }
            if untimed > 0 {
                reasons.push(format!("the time lag of {untimed} lagging partitions is not known (--max-time)"));
            }
        }
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::lag::partition_lag::tests::standing;
    use crate::commands::lag::partition_lag::{LogOffsets, PartitionLag};
    use crate::commands::lag::survey::Survey;
    use crate::connectors::kafka::{Group, NextRecord};

    const NOW: i64 = 1_700_000_000_000;

    fn said(max_lag: Option<u64>, max_time: Option<u64>, standings: Vec<PartitionLag>) -> Option<String> {
        let group = Group { name: "g".to_owned(), ..Group::default() };
        let groups = vec![GroupLag { group, standings, trouble: None }];
        let surveys = vec![Survey { section: "s".to_owned(), at: NOW, groups, ..Survey::default() }];
        let limits = LagThresholds { max_lag, max_time: max_time.map(Duration::from_secs) };
        limits.check(&LagReport { at: NOW, surveys, troubles: Vec::new() }).err().map(|error| {
            assert_eq!(error.exit_code(), 4);
            error.render()
        })
    }

    #[test]
    fn a_groups_partitions_count_together_against_the_lag() {
        let two = || vec![standing(0, Some(40), 0, 100), standing(1, Some(99), 0, 100), standing(2, None, 0, 100)];
        assert_eq!(said(Some(61), None, two()), None);
        assert_eq!(
            said(Some(60), None, two()).unwrap(),
            "error: 1 group is over the limit\n  caused by: `g` on `s`: lag 61 is over 60 (--max-lag)\n\
             hint: see where: sdl lag GROUP --only-lagging\n"
        );
        assert_eq!(said(None, None, two()), None);
    }

    #[test]
    fn what_cannot_be_told_is_over_any_limit() {
        for log in [LogOffsets::NoLeader, LogOffsets::NoTopic, LogOffsets::NoPartition] {
            let unknown = PartitionLag { log, ..standing(0, Some(40), 0, 100) };
            let over = said(Some(1_000), None, vec![unknown.clone()]).unwrap();
            assert!(over.contains("`g` on `s`: how far it is behind cannot be told in 1 partitions"), "{over}");
            assert!(said(None, Some(1_000), vec![unknown.clone()]).is_some());
            assert_eq!(said(None, None, vec![unknown]), None);
        }
        assert!(said(Some(1_000), None, vec![standing(0, Some(140), 0, 100)]).is_some(), "truncated");
        assert_eq!(said(Some(0), Some(0), vec![standing(0, None, 0, 100)]), None, "nothing was committed");
    }

    #[test]
    fn each_partition_counts_by_itself_against_the_time() {
        let aged = |index, next| PartitionLag { next: Some(next), ..standing(index, Some(40), 0, 100) };
        let two = || vec![aged(0, NextRecord::At(NOW - 61_000)), aged(1, NextRecord::At(NOW - 50_000))];
        assert_eq!(said(None, Some(61), two()), None);
        let over = said(None, Some(60), two()).unwrap();
        assert!(over.contains("`g` on `s`: time lag 1m 1s is over 1m (--max-time)"), "{over}");
        let unknown = said(None, Some(60), vec![aged(0, NextRecord::Unknown("why".to_owned()))]).unwrap();
        assert!(unknown.contains("the time lag of 1 lagging partitions is not known"), "{unknown}");
    }
}
