//! `sdl offsets import`.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::commands::offsets::changes::{CONNECT_TIMEOUT, ChangeArgs, DEFAULT_TARGET, explain, left_out, listing, summary};
use crate::commands::{Context, protect};
use crate::connectors::kafka::Admin;
use crate::error::Error;
use crate::offsets::{GroupChanges, GroupOffset, ImportPlan, LeftOut, OffsetChange, commit_changes, parse_file, plan_import};
use crate::pipeline::{ConnectorError, Failure};

/// Returns what to do about groups that are left out; `of_flows` are those of flows of this program, which no import moves.
fn hint(out: &[LeftOut], of_flows: &BTreeSet<String>, section: &str) -> String {
    let is_of_flow = |left: &LeftOut| of_flows.contains(&left.group);
    let again = "correct the file or the groups, and import it again: offsets that are there already stay";
    let target = if section == DEFAULT_TARGET { String::new() } else { format!(" --target {section}") };
    let reset = format!("move the group of a flow of sdl with `sdl offsets reset GROUP TOPIC --position POS{target}`");
    match out.iter().filter(|left| is_of_flow(left)).count() {
        0 => again.to_owned(),
        all if all == out.len() => reset,
        _ => format!("{again}; {reset}"),
    }
}

/// Set the committed offsets of groups from a file
///
/// Reads CSV or NDJSON as `export` writes them: group, topic, partition, offset and metadata; other columns are ignored. Shows
/// before and after, and changes nothing without --yes. Partitions that the file does not name stay as they are. A group that has
/// active members, that a flow of sdl uses, or whose offsets are not in the logs is left out, and does not stop the others: exit
/// code 4 if some are left out, 5 if all are.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ImportArgs {
    /// The file; `-` for stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    pub(super) change: ChangeArgs,
}

const EXAMPLES: &str = "\
Examples:
  sdl offsets import positions.csv
  sdl offsets import positions.csv --yes
  sdl offsets export billing --source remote_kafka | sdl offsets import - --target local_kafka --yes";

impl ImportArgs {
    /// Shows the changes, and makes them with `--yes`.
    ///
    /// # Errors
    /// When the file or the cluster cannot be used, or groups are left out.
    pub(super) async fn run(self, context: &Context) -> Result<(), Error> {
        let section = context.kafka(&self.change.target)?;
        let what = "change the offsets of groups";
        protect::refuse_change(&section, what, protect::OTHER_TARGET)?;
        let offsets = read(&self.file)?;
        let admin = Admin::connect(&section, CONNECT_TIMEOUT).await?;
        let ImportPlan { groups, left_out: mut out, of_flows } = plan_import(&admin, offsets).await?;
        let total = groups.len() + out.len();
        let undone = |out: &[LeftOut]| left_out(out, total, "imported", &hint(out, &of_flows, &section.name)).map_or(Ok(()), Err);
        if groups.is_empty() {
            return undone(&out);
        }
        context.print(&listing(&groups).render(self.change.output))?;
        let has_changes = groups.iter().flat_map(|group| &group.changes).any(OffsetChange::is_change);
        if !has_changes {
            context.say("nothing changes: the offsets are there already\n");
        } else if self.change.is_dry_run(context.global.yes) {
            context.say(&format!("would change {}\n{}", summary(&groups), self.change.nothing_changed()));
        } else {
            protect::confirm_change(context, &section, what)?;
            let (done, failure) = commit(&admin, groups, &mut out).await;
            if !done.is_empty() {
                context.say(&format!("changed {}\n", summary(&done)));
            }
            if let Some(failure) = failure {
                return Err(failure);
            }
        }
        undone(&out)
    }
}

/// Commits the changes group by group; returns the groups that are done, and the outage that ended it.
async fn commit(admin: &Admin, groups: Vec<GroupChanges>, out: &mut Vec<LeftOut>) -> (Vec<GroupChanges>, Option<Error>) {
    let mut done = Vec::new();
    for group in groups {
        match commit_changes(admin, &group.group, &group.changes).await {
            Ok(0) => {}
            Ok(_) => done.push(group),
            Err(error) if error.is_passing() => {
                let ConnectorError::Failed(failure) = error else { return (done, Some(explain(error))) };
                let hint = "import the file again when the cluster answers: offsets that are there already stay";
                return (done, Some(Error::Failed(failure.hint(hint))));
            }
            Err(error) => {
                let (what, mut why) = explain(error).what_and_causes();
                why.insert(0, what);
                out.push(LeftOut { group: group.group, why: why.join(": ") });
            }
        }
    }
    (done, None)
}

/// Returns the offsets of a file.
fn read(file: &Path) -> Result<Vec<GroupOffset>, Error> {
    let is_stdin = file.as_os_str() == "-";
    let name = if is_stdin { "stdin".to_owned() } else { format!("`{}`", file.display()) };
    let mut text = String::new();
    let read = if is_stdin {
        std::io::stdin().lock().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(file).map(|read| text = read)
    };
    read.map_err(|error| Failure::new(format!("cannot read {name}")).because(error).hint("name a file of `sdl offsets export`"))?;
    let unusable = |why: String| Error::Usage {
        what: format!("cannot import {name}: {why}"),
        hint: "write it with `sdl offsets export`; nothing was changed".to_owned(),
    };
    let offsets = parse_file(&text).map_err(|error| unusable(error.to_string()))?;
    if offsets.is_empty() { Err(unusable("it has no offsets".to_owned())) } else { Ok(offsets) }
}
