//! `sdl offsets delete`.

use std::collections::BTreeSet;

use clap::builder::NonEmptyStringValueParser as Text;

use crate::commands::args::{PartitionList, nearest, parse_partitions};
use crate::commands::offsets::changes::{CONNECT_TIMEOUT, ChangeArgs, explain, no_group, say_flows};
use crate::commands::offsets::show::listing;
use crate::commands::{Context, protect};
use crate::connectors::kafka::{Admin, CommittedOffset, OffsetSpec, TopicInfo, require_empty};
use crate::error::Error;
use crate::offsets::{GroupOffset, Offsets, committed, flows};
use crate::pipeline::Failure;
use crate::record::Partition;
use crate::report::counted;
use crate::terminal::{ListingFormat, escape_controls};

/// Delete a group, or its committed offsets in some topics
///
/// Without a topic, deletes the group with all its offsets. Its consumers then begin where their `auto.offset.reset` says. Shows what
/// goes, and changes nothing without --yes. Refused while the group has active members.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct DeleteArgs {
    /// The group
    #[arg(value_name = "GROUP", value_parser = Text::new())]
    group: String,
    /// Topics whose offsets to delete, also topics that do not exist any more [default: the whole group]
    #[arg(value_name = "TOPIC", value_parser = Text::new())]
    topics: Vec<String>,
    /// Only these partitions of each topic (0,2-5)
    #[arg(long, value_name = "LIST", value_parser = parse_partitions)]
    partitions: Option<PartitionList>,
    #[command(flatten)]
    pub(super) change: ChangeArgs,
}

const EXAMPLES: &str = "\
Examples:
  sdl offsets delete billing-test
  sdl offsets delete billing-test --yes
  sdl offsets delete billing orders-old --yes";

impl DeleteArgs {
    /// Shows what goes, and deletes it with `--yes`.
    ///
    /// # Errors
    /// When the cluster cannot be reached, or the deletion is refused.
    pub(super) async fn run(self, context: &Context) -> Result<(), Error> {
        let section = context.kafka(&self.change.target)?;
        let group = escape_controls(&self.group);
        let what = if self.is_whole() { format!("delete group `{group}`") } else { format!("delete offsets of group `{group}`") };
        protect::refuse_change(&section, &what, protect::OTHER_TARGET)?;
        let admin = Admin::connect(&section, CONNECT_TIMEOUT).await?;
        let all_topics = admin.topics().await?;
        let all = self.all_offsets(context, &admin, &all_topics).await?;
        let chosen = self.chosen(all)?;
        let rows = rows(&admin, &self.group, &chosen, &all_topics).await?;
        if self.change.output != ListingFormat::Table || !rows.is_empty() {
            context.print(&listing(&rows).render(self.change.output))?;
        }
        say_flows(context, &self.group, &flows(chosen.values()), "its next run has no position, and begins anew or is refused");
        require_empty(&admin, &self.group, "it cannot be deleted").await.map_err(explain)?;
        let offsets = counted(chosen.len() as u64, "committed offset");
        let gone =
            if self.is_whole() { format!("group `{group}` with {offsets}") } else { format!("{offsets} of group `{group}`") };
        if self.change.is_dry_run(context.global.yes) {
            context.say(&format!("would delete {gone}\n{}", self.change.nothing_changed()));
            return Ok(());
        }
        protect::confirm_change(context, &section, &what)?;
        if self.is_whole() {
            admin.delete_group(&self.group).await?;
        } else {
            admin.delete_group_offsets(&self.group, &chosen.into_keys().collect::<Vec<_>>()).await?;
        }
        context.say(&format!("deleted {gone}\n"));
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.topics.is_empty() && self.partitions.is_none()
    }

    /// Returns every committed offset of the group, which exists.
    async fn all_offsets(&self, context: &Context, admin: &Admin, topics: &[TopicInfo]) -> Result<Offsets, Error> {
        let every: Vec<Partition> =
            topics.iter().flat_map(|topic| (0..topic.partitions).map(|index| Partition { topic: topic.topic, index })).collect();
        let found = committed(admin, std::slice::from_ref(&self.group), &every).await?.remove(&self.group);
        let found: Offsets = match found.unwrap_or_else(|| Ok(Vec::new())) {
            Ok(found) => found.into_iter().collect(),
            Err(why) => {
                let failure = Failure::new(format!("cannot read the offsets of group `{}` on `{}`", self.group, admin.section()));
                return Err(failure.because(why).into());
            }
        };
        let exists = async || Ok::<_, Error>(admin.group_names().await?.is_some_and(|names| names.contains(&self.group)));
        // A group without offsets can be deleted.
        if found.is_empty() && !(self.is_whole() && exists().await?) {
            return Err(no_group(context, admin, &self.group).await);
        }
        Ok(found)
    }

    /// Returns the offsets of the topics and partitions of the command line.
    fn chosen(&self, all: Offsets) -> Result<Offsets, Error> {
        let known: BTreeSet<&str> = all.keys().map(|partition| partition.topic.name()).collect();
        if let Some(name) = self.topics.iter().find(|name| !known.contains(name.as_str())) {
            let failure = Failure::new(format!("group `{}` has committed nothing in topic `{name}`", self.group));
            let hint = match nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("it has committed in {}", known.into_iter().collect::<Vec<_>>().join(", ")),
            };
            return Err(failure.hint(hint).into());
        }
        let is_chosen = |partition: &Partition| {
            (self.topics.is_empty() || self.topics.iter().any(|name| name == partition.topic.name()))
                && self.partitions.as_ref().is_none_or(|list| list.0.contains(&partition.index))
        };
        let is_whole = self.is_whole();
        let chosen: Offsets = all.into_iter().filter(|(partition, _)| is_chosen(partition)).collect();
        if chosen.is_empty() && !is_whole {
            let what = format!("group `{}` has no committed offset in these topics and partitions", self.group);
            return Err(Failure::new(what).hint(format!("see what it has: sdl offsets show {}", self.group)).into());
        }
        Ok(chosen)
    }
}

/// Returns the offsets with the ends of their logs, where there is one.
async fn rows(admin: &Admin, group: &str, offsets: &Offsets, topics: &[TopicInfo]) -> Result<Vec<GroupOffset>, Error> {
    let exists =
        |partition: &&Partition| topics.iter().any(|topic| topic.topic == partition.topic && partition.index < topic.partitions);
    let existing: Vec<Partition> = offsets.keys().filter(exists).copied().collect();
    let ends = admin.known_offsets(&existing, OffsetSpec::Log).await?;
    let row = |(partition, committed): (&Partition, &CommittedOffset)| GroupOffset {
        group: group.to_owned(),
        partition: *partition,
        offset: committed.next.0,
        end: ends.get(partition).and_then(|end| end.as_ref().ok().copied()),
        metadata: committed.metadata.clone(),
    };
    Ok(offsets.iter().map(row).collect())
}
