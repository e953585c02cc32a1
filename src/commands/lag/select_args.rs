//! Flags that choose groups, topics and partitions.

use clap::builder::NonEmptyStringValueParser as Text;

use crate::commands::args::{GroupArgs, PartitionFilterArgs, lag_filter};
use crate::error::Error;
use crate::lag::{LagFilter, LagReport};

#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Selection")]
pub(super) struct SelectionArgs {
    #[command(flatten)]
    groups: GroupArgs,
    /// The profile's Kafka section to query; may be repeated [default: all]
    #[arg(long, value_name = "SECTION", value_parser = Text::new())]
    pub(super) source: Vec<String>,
    #[command(flatten)]
    partitions: PartitionFilterArgs,
}

impl SelectionArgs {
    pub(super) fn filter(&self, read_times: bool) -> LagFilter {
        lag_filter(&self.groups, &self.partitions, read_times)
    }
}

/// Checks that each named group and topic exists.
///
/// # Errors
/// When none of the clusters has one of them. Passes if a cluster did not answer: it may have it.
pub(super) fn check_names(filter: &LagFilter, report: &LagReport) -> Result<(), Error> {
    if report.failures.is_empty() { crate::commands::args::check_names(filter, &report.surveys, "lag") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::kafka::Group;
    use crate::lag::{GroupLag, Survey};

    fn checked(surveys: Vec<Survey>) -> Result<(), String> {
        let filter = LagFilter { groups: vec!["tour".to_owned()], ..LagFilter::default() };
        check_names(&filter, &LagReport { at: 0, surveys, failures: Vec::new() }).map_err(|error| error.render())
    }

    fn survey(all: &[&str], groups: Vec<Group>) -> Survey {
        let groups = groups.into_iter().map(|group| GroupLag { group, ..GroupLag::default() }).collect();
        let all_groups = all.iter().map(ToString::to_string).collect();
        Survey { section: "s".to_owned(), groups, all_groups, ..Survey::default() }
    }

    #[test]
    fn a_group_whose_coordinator_is_loading_is_not_said_not_to_exist() {
        let loading = Group {
            name: "tour".to_owned(),
            error: Some("the coordinator is still loading its groups".to_owned()),
            is_loading: true,
            ..Group::default()
        };
        assert_eq!(
            checked(vec![survey(&["billing"], vec![loading])]).unwrap_err(),
            "error: cannot tell whether group `tour` exists on `s`\n  caused by: the coordinator is still loading its groups\n\
             hint: try again in a moment\n"
        );
        assert_eq!(checked(vec![survey(&["tour"], Vec::new())]), Ok(()));
        let absent = checked(vec![survey(&["billing"], Vec::new())]).unwrap_err();
        assert!(absent.starts_with("error: group `tour` does not exist on `s`\n"), "{absent}");
    }
}
