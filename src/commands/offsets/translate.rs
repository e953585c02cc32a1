//! `sdl offsets translate`.

use std::time::Duration;

use clap::builder::NonEmptyStringValueParser as Text;
use tokio::time::sleep;

use crate::commands::args::parse_duration;
use crate::commands::group_translation::{RoundLog, commit_plan, left_alone};
use crate::commands::offset_map::parse_map_topic;
use crate::commands::offsets::changes::{CONNECT_TIMEOUT, ChangeArgs, left_out};
use crate::commands::{Context, protect};
use crate::connectors::kafka::Admin;
use crate::error::Error;
use crate::offsets::{LeftOut, OffsetChange, TranslatePlan, TranslateRules, TranslatedGroup, Translator};
use crate::pipeline::Failure;
use crate::record::Topic;
use crate::replication::{MAP_TOPIC, TopicNames};
use crate::report::counted;
use crate::terminal::{Column, Listing, ListingFormat, escape_controls};

/// What to do about groups that are left out.
const LEFT_OUT: &str = "translate them again when the reason is gone: what is committed already stays";
const WHAT: &str = "change the offsets of groups";

/// Commit the positions of groups on another cluster, where their records were copied to
///
/// Finds the positions in the offset map that `replicate` keeps on the target. HOW says how: `exact`, `next copied` (the next record
/// was filtered, skipped or dead-lettered), `not copied yet`, `no map`; without a map `origin header` or `by time`. Shows the
/// positions, and commits nothing without --yes. Never moves a group back without --rewind, never replaces what consumers on the
/// target have committed without --overwrite, and leaves out groups with active members there and groups of an sdl flow. A group that
/// is left out does not stop the others: exit code 4 if some are, 5 if all are.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES, mut_arg("target", |arg| arg.help("Section of the profile whose cluster has the copies")))]
pub(super) struct TranslateArgs {
    /// The groups
    #[arg(value_name = "GROUP", required = true, value_parser = Text::new())]
    groups: Vec<String>,
    /// Section of the profile whose cluster the groups read
    #[arg(long, value_name = "SECTION", default_value = "remote_kafka", value_parser = Text::new())]
    source: String,
    #[command(flatten)]
    pub(super) change: ChangeArgs,
    /// Translate again at this interval until interrupted (10s), while the consumers move; with --yes
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    every: Option<Duration>,
    /// Move a group back whose position on the target is from an earlier translation
    #[arg(long)]
    rewind: bool,
    /// Replace positions that consumers on the target have committed
    #[arg(long)]
    overwrite: bool,
    /// Without a map and an origin header, look for the time of the next record
    #[arg(long)]
    by_time: bool,
    /// Topic of the target that has the offset map
    #[arg(long, value_name = "TOPIC", default_value = MAP_TOPIC, value_parser = parse_map_topic)]
    offset_map: String,
    /// Without a map: the template of the names of the copies
    #[arg(long, value_name = "TEMPLATE", default_value = "{topic}")]
    rename: String,
}

const EXAMPLES: &str = "\
Examples:
  sdl offsets translate billing
  sdl offsets translate billing shipping --yes
  sdl offsets translate billing --source remote_kafka --target local_kafka --yes --every 10s";

impl TranslateArgs {
    /// Returns whether the positions are translated again and again.
    pub(super) fn repeats(&self) -> bool {
        self.every.is_some()
    }

    /// Shows where the groups are on the target, and commits it with `--yes`.
    ///
    /// # Errors
    /// When a cluster cannot be reached, or groups are left out.
    pub(super) async fn run(self, context: &Context) -> Result<(), Error> {
        let (from, to) = (context.kafka(&self.source)?, context.kafka(&self.change.target)?);
        protect::refuse_change(&to, WHAT, protect::OTHER_TARGET)?;
        let names = TopicNames::template(&self.rename);
        if let Some(unknown) = names.unknown_placeholder() {
            let what = format!("unknown placeholder `{unknown}` in --rename");
            return Err(Error::Usage { what, hint: "write {topic}, which stands for the name of the source topic".to_owned() });
        }
        let is_dry_run = self.change.is_dry_run(context.global.yes);
        if self.every.is_some() && is_dry_run {
            let what = "--every commits: a dry run shows the positions once".to_owned();
            return Err(Error::Usage { what, hint: "add --yes, or remove --every".to_owned() });
        }
        let (source, target) = (Admin::connect(&from, CONNECT_TIMEOUT).await?, Admin::connect(&to, CONNECT_TIMEOUT).await?);
        if source.cluster_id() == target.cluster_id() {
            let what = format!("`{}` and `{}` are the same cluster: there is nothing to translate", from.name, to.name);
            return Err(Error::Usage { what, hint: "name the cluster that has the copies with --target".to_owned() });
        }
        let mut translator = Translator::new(source, target, to.clone(), Topic::named(&self.offset_map), names);
        let rules = TranslateRules { rewind: self.rewind, overwrite: self.overwrite, by_time: self.by_time };
        let mut groups = self.groups.clone();
        groups.sort();
        groups.dedup();
        let plan = translator.plan(&groups, rules).await?;
        if !plan.groups.is_empty() || self.change.output != ListingFormat::Table {
            context.print(&listing(&plan.groups).render(self.change.output))?;
        }
        let total = plan.groups.len() + plan.left_out.len();
        if is_dry_run {
            context.say(&format!("{}\n{}", would_change(&plan), self.change.nothing_changed()));
            let (out, incomplete) = left_alone(&plan);
            return result(&out, &incomplete, total);
        }
        protect::confirm_change(context, &to, WHAT)?;
        let mut log = RoundLog::default();
        let round = commit_plan(&translator, &plan).await?;
        let Some(every) = self.every else {
            for (group, moved) in &round.moved {
                context.say(&format!("group `{}`: {} translated\n", escape_controls(group), counted(*moved as u64, "position")));
            }
            if round.moved.is_empty() && round.left_out.is_empty() && round.incomplete.is_empty() {
                context.say("nothing changes: the groups are there already\n");
            }
            return result(&round.left_out, &round.incomplete, total);
        };
        log.lines(&round).iter().for_each(|line| context.say(&format!("{line}\n")));
        let mut stop = context.stop.receiver();
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
                () = sleep(every) => {}
            }
            let translate = async {
                let plan = translator.plan(&groups, rules).await?;
                commit_plan(&translator, &plan).await
            };
            let round = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
                round = translate => round,
            };
            match round {
                Ok(round) => log.lines(&round).iter().for_each(|line| context.say(&format!("{line}\n"))),
                Err(error) => context.say(&format!("the groups were not translated: {error}\n")),
            }
        }
    }
}

fn listing(groups: &[TranslatedGroup]) -> Listing {
    let columns = [
        Column::Text("group"),
        Column::Text("topic"),
        Column::Number("partition"),
        Column::Number("committed"),
        Column::Text("target_topic"),
        Column::Number("target"),
        Column::Text("how"),
        Column::Text("note"),
    ];
    let mut listing = Listing::new("positions", &columns);
    let mut is_renamed = false;
    for (group, position) in groups.iter().flat_map(|group| group.positions.iter().map(|position| (&group.group, position))) {
        is_renamed |= position.target.topic != position.source.topic;
        listing.push([
            group.as_str().into(),
            position.source.topic.name().into(),
            i64::from(position.source.index).into(),
            position.committed.into(),
            position.target.topic.name().into(),
            position.found.into(),
            position.by.as_str().into(),
            position.note.as_deref().into(),
        ]);
    }
    listing.hide_in_table(|name, is_empty| match name {
        "group" => groups.len() == 1,
        "target_topic" => !is_renamed,
        "note" => is_empty,
        _ => false,
    });
    listing
}

fn would_change(plan: &TranslatePlan) -> String {
    let changes = || plan.groups.iter().flat_map(TranslatedGroup::changes).filter(OffsetChange::is_change);
    let groups = plan.groups.iter().filter(|group| group.changes().iter().any(OffsetChange::is_change)).count();
    match changes().count() {
        0 => "nothing would change".to_owned(),
        count => format!("would commit {} of {}", counted(count as u64, "position"), counted(groups as u64, "group")),
    }
}

/// Returns how the command ends.
fn result(out: &[LeftOut], incomplete: &[LeftOut], total: usize) -> Result<(), Error> {
    if incomplete.is_empty() || out.len() == total {
        return left_out(out, total, "translated", LEFT_OUT).map_or(Ok(()), Err);
    }
    let undone = out.len() + incomplete.len();
    let were = if undone == 1 { "was" } else { "were" };
    let failure = Failure::new(format!("{undone} of {} {were} not translated completely", counted(total as u64, "group")));
    let line = |left: &LeftOut| format!("`{}`: {}", left.group, left.why);
    Err(Error::Check(out.iter().chain(incomplete).map(line).fold(failure, Failure::because).hint(LEFT_OUT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_that_are_done_in_part_fail_the_command_as_a_check() {
        let left = |names: &[&str]| {
            names.iter().map(|name| LeftOut { group: (*name).to_owned(), why: "why".to_owned() }).collect::<Vec<_>>()
        };
        let code = |out: &[&str], incomplete: &[&str], total| {
            result(&left(out), &left(incomplete), total).map_err(|error| error.exit_code())
        };
        assert_eq!(code(&[], &[], 2), Ok(()));
        assert_eq!(code(&["a", "b"], &[], 2), Err(5));
        assert_eq!(code(&["a"], &[], 2), Err(4));
        assert_eq!(code(&["a"], &["b"], 2), Err(4));
        assert_eq!(code(&[], &["b"], 1), Err(4));
        let error = result(&left(&["a"]), &left(&["b"]), 3).unwrap_err().render();
        assert!(error.starts_with("error: 2 of 3 groups were not translated completely\n"), "{error}");
    }
}
