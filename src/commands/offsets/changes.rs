//! What the commands that change offsets share: flags, the table of changes, and errors.

use std::time::Duration;

use crate::commands::Context;
use crate::commands::args::{NOT_LISTED, nearest};
use crate::commands::offsets::elsewhere;
use crate::connectors::kafka::{Admin, flow_in_words};
use crate::error::Error;
use crate::offsets::{GroupChanges, LeftOut, OffsetChange};
use crate::pipeline::{ConnectorError, Failure, Refusal, RefusalReason, Refused};
use crate::report::{counted, grouped};
use crate::terminal::{Column, Listing, ListingFormat, escape_controls};

/// How long the commands wait for the first answer of the cluster.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The section without a flag.
pub(super) const DEFAULT_TARGET: &str = "local_kafka";

#[derive(Clone, Debug, clap::Args)]
pub(super) struct ChangeArgs {
    /// Section of the profile whose cluster is changed
    #[arg(long, value_name = "SECTION", default_value = DEFAULT_TARGET)]
    pub(super) target: String,
    /// Change nothing, also with --yes; the default without --yes
    #[arg(long)]
    dry_run: bool,
    /// Output format of what changes
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(super) output: ListingFormat,
}

impl ChangeArgs {
    pub(super) fn is_dry_run(&self, yes: bool) -> bool {
        self.dry_run || !yes
    }

    /// Returns the line that ends a dry run.
    pub(super) fn nothing_changed(&self) -> &'static str {
        if self.dry_run { "dry run: nothing was changed\n" } else { "dry run: nothing was changed; add --yes to apply\n" }
    }
}

/// Returns the changes as rows, by group.
pub(super) fn listing(groups: &[GroupChanges]) -> Listing {
    let columns = [
        Column::Text("group"),
        Column::Text("topic"),
        Column::Number("partition"),
        Column::Number("end"),
        Column::Number("before"),
        Column::Number("after"),
        Column::Number("skipped"),
        Column::Number("read_again"),
    ];
    let mut listing = Listing::new("changes", &columns);
    for (group, change) in groups.iter().flat_map(|group| group.changes.iter().map(|change| (&group.group, change))) {
        listing.push([
            group.as_str().into(),
            change.partition.topic.name().into(),
            i64::from(change.partition.index).into(),
            change.end.into(),
            change.before.as_ref().map(|before| before.next.0).into(),
            change.after.next.0.into(),
            change.skipped().into(),
            change.read_again().into(),
        ]);
    }
    listing.hide_in_table(|name, _| name == "group" && groups.len() == 1);
    listing
}

/// Returns what changes, in one line, and what that means for the readers: "6 offsets of group `billing`: 20 records skipped, 3 read
/// again".
pub(super) fn summary(groups: &[GroupChanges]) -> String {
    let changes = || groups.iter().flat_map(|group| &group.changes).filter(|change| change.is_change());
    let touched: Vec<&GroupChanges> = groups.iter().filter(|group| group.changes.iter().any(OffsetChange::is_change)).collect();
    let sum = |of: fn(&OffsetChange) -> Option<i64>| changes().filter_map(of).sum::<i64>().unsigned_abs();
    let (skipped, read_again) = (sum(OffsetChange::skipped), sum(OffsetChange::read_again));
    let of = match touched.as_slice() {
        [only] => format!("group `{}`", escape_controls(&only.group)),
        several => counted(several.len() as u64, "group"),
    };
    let offsets = counted(changes().count() as u64, "offset");
    let unknown = changes().filter(|change| change.before.is_none()).count();
    if unknown == changes().count() {
        return format!("{offsets} of {of}: it had committed nothing there");
    }
    let known = format!("at most {} skipped, {} read again", counted(skipped, "record"), grouped(read_again));
    let unknown = if unknown == 0 { String::new() } else { format!(", not counting {unknown} that had no commit") };
    format!("{offsets} of {of}: {known}{unknown}")
}

/// Returns an error of the cluster, with the hint of these commands.
pub(super) fn explain(error: ConnectorError) -> Error {
    match error {
        ConnectorError::Refusal(Refusal { reason: RefusalReason::ActiveMembers, what, numbers }) => {
            let hint = "stop them first; static members and killed ones stay for the session timeout, 45 s".to_owned();
            Error::Refused(Refused { what, numbers, hint })
        }
        error => error.into(),
    }
}

/// Returns the error for groups that are left out of `total`: exit 5 if all are, else 4. `undone` is what was not done with them.
pub(super) fn left_out(left_out: &[LeftOut], total: usize, undone: &str, hint: &str) -> Option<Error> {
    if left_out.is_empty() {
        return None;
    }
    let line = |left: &LeftOut| format!("`{}`: {}", left.group, left.why);
    if left_out.len() == total {
        let what = match total {
            1 => format!("the group was not {undone}"),
            total => format!("none of {total} groups was {undone}"),
        };
        let numbers = left_out.iter().map(line).collect();
        return Some(Error::Refused(Refused { what, numbers, hint: hint.to_owned() }));
    }
    let were = if left_out.len() == 1 { "was" } else { "were" };
    let failure = Failure::new(format!("{} of {total} groups {were} not {undone}", left_out.len()));
    Some(Error::Check(left_out.iter().map(line).fold(failure, Failure::because).hint(hint)))
}

/// Logs which flows of this program use a group.
pub(super) fn say_flows<'a>(context: &Context, group: &str, flows: impl IntoIterator<Item = &'a String>, then: &str) {
    for flow in flows {
        let words = flow_in_words(flow);
        let (group, flow) = (escape_controls(group), escape_controls(&words));
        context.say(&format!("group `{group}` belongs to the flow `{flow}`: {then}\n"));
    }
}

/// Returns the error of a group that does not exist, with the cluster that has it, or else the name that is most similar to it.
pub(super) async fn no_group(context: &Context, admin: &Admin, group: &str) -> Error {
    let section = admin.section();
    let failure = Failure::new(format!("group `{group}` has committed nothing on `{section}`"));
    if let Some(other) = elsewhere::section_of(context, group, section).await {
        return Error::Failed(failure.hint(elsewhere::hint(group, &other, "--target")));
    }
    let names = admin.group_names().await.ok().flatten().unwrap_or_default();
    let near = nearest(group, names.iter().map(String::as_str)).filter(|near| *near != group);
    Error::Failed(match near {
        Some(near) => failure.hint(format!("did you mean `{near}`?")),
        None if admin.is_embedded() => failure.hint(NOT_LISTED),
        None => failure.hint(format!("list the groups that are there: sdl lag --no-time --source {section}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::kafka::CommittedOffset;
    use crate::record::{NextOffset, Partition};

    fn change(index: i32, before: Option<i64>, after: i64) -> OffsetChange {
        let at = |next| CommittedOffset { next: NextOffset(next), metadata: String::new(), leader_epoch: None };
        OffsetChange { partition: Partition::new("orders", index), low: 0, end: 1_000, before: before.map(at), after: at(after) }
    }

    fn group(name: &str, changes: Vec<OffsetChange>) -> GroupChanges {
        GroupChanges { group: name.to_owned(), changes }
    }

    #[test]
    fn changes_are_a_table_with_what_is_skipped_or_read_again() {
        let one = [group("billing", vec![change(0, Some(40), 1_000), change(1, Some(40), 0), change(2, None, 0)])];
        assert_eq!(
            listing(&one).render(ListingFormat::Table),
            "TOPIC   PARTITION   END  BEFORE  AFTER  SKIPPED  READ AGAIN\n\
             orders          0  1000      40   1000      960           0\n\
             orders          1  1000      40      0        0          40\n\
             orders          2  1000       -      0        -           -\n"
        );
        assert_eq!(
            summary(&one),
            "3 offsets of group `billing`: at most 960 records skipped, 40 read again, not counting 1 that had no commit"
        );
        let two = [one[0].clone(), group("b\x1b", vec![change(0, Some(1), 1), change(1, Some(1), 2)])];
        assert!(listing(&two).render(ListingFormat::Table).contains("b\\x1b    orders          1  1000       1      2"));
        let both = "4 offsets of 2 groups: at most 961 records skipped, 40 read again, not counting 1 that had no commit";
        assert_eq!(summary(&two), both);
        assert_eq!(summary(&[group("new", vec![change(0, None, 7)])]), "1 offset of group `new`: it had committed nothing there");
        assert_eq!(summary(&two[1..]), "1 offset of group `b\\x1b`: at most 1 record skipped, 0 read again");
    }

    #[test]
    fn groups_that_are_left_out_fail_the_command_by_their_number() {
        let out = |names: &[&str]| {
            names.iter().map(|name| LeftOut { group: (*name).to_owned(), why: "why".to_owned() }).collect::<Vec<_>>()
        };
        let ended = |names: &[&str], total| {
            left_out(&out(names), total, "imported", "do this").map(|error| (error.exit_code(), error.render()))
        };
        assert_eq!(ended(&[], 3), None);
        let some = "error: 2 of 3 groups were not imported\n  caused by: `a`: why\n  caused by: `b`: why\nhint: do this\n";
        assert_eq!(ended(&["a", "b"], 3), Some((4, some.to_owned())));
        let all = "error: none of 2 groups was imported\n  `a`: why\n  `b`: why\nhint: do this\n";
        assert_eq!(ended(&["a", "b"], 2), Some((5, all.to_owned())));
        let only = "error: the group was not imported\n  `a`: why\nhint: do this\n";
        assert_eq!(ended(&["a"], 1), Some((5, only.to_owned())));
    }
}
