//! `sdl offsets reset`.

use clap::builder::NonEmptyStringValueParser as Text;

use crate::commands::args::{PartitionList, TopicArgs, none_named, parse_partitions, parse_position};
use crate::commands::offsets::changes::{CONNECT_TIMEOUT, ChangeArgs, explain, listing, no_group, say_flows, summary};
use crate::commands::offsets::elsewhere;
use crate::commands::{Context, protect};
use crate::connectors::kafka::{Admin, Pos, TopicInfo, require_empty};
use crate::error::Error;
use crate::offsets::{GroupChanges, OffsetChange, ResetPlan, ResetRequest, ResetTarget, commit_changes, plan_reset};
use crate::pipeline::Failure;
use crate::profile::KafkaSection;
use crate::terminal::escape_controls;

/// Move a group to a position, and show what its consumers would skip or read again
///
/// Without a topic, moves the group in all topics that it has committed in. Shows before and after, and changes nothing without
/// --yes. Refused while the group has active members. SKIPPED and READ AGAIN count offsets, also those without a record; `-` if the
/// group has no committed offset there, so that its consumers decide where they begin.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ResetArgs {
    /// The group to move; one that does not exist is created
    #[arg(value_name = "GROUP", value_parser = Text::new())]
    group: String,
    /// Topics to move it in [default: all that it has committed in]
    #[arg(value_name = "TOPIC", value_parser = Text::new())]
    topics: Vec<String>,
    #[command(flatten)]
    target: PositionArgs,
    /// Only these partitions of each topic (0,2-5)
    #[arg(long, value_name = "LIST", value_parser = parse_partitions)]
    partitions: Option<PartitionList>,
    #[command(flatten)]
    pub(super) change: ChangeArgs,
}

#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct PositionArgs {
    /// Where to move it: `beginning`, `end`, `committed`, an offset, -N (N before the end), @UNIX or @RFC3339 or @DATE, @-1h
    #[arg(long, value_name = "POS", allow_hyphen_values = true, value_parser = parse_position)]
    position: Option<Pos>,
    /// Move it by this many offsets: -100 to read the last 100 again, 1 to skip one; at most to the ends of the log
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = parse_shift)]
    shift: Option<i64>,
    /// Move it to the committed offsets of this group
    #[arg(long, value_name = "GROUP", value_parser = Text::new())]
    to_group: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  sdl offsets reset billing --position @-1h
  sdl offsets reset billing orders --position beginning --yes
  sdl offsets reset billing orders --partitions 3 --shift 1 --yes
  sdl offsets reset billing-new --to-group billing --yes";

fn parse_shift(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| "a number of offsets is needed, such as -100 or 1".to_owned())
}

impl PositionArgs {
    fn target(&self) -> ResetTarget {
        match self {
            Self { shift: Some(by), .. } => ResetTarget::Shift(*by),
            Self { to_group: Some(group), .. } => ResetTarget::Group(group.clone()),
            // The parser requires one of them.
            Self { position, .. } => ResetTarget::Position(position.unwrap_or(Pos::Committed)),
        }
    }
}

impl ResetArgs {
    /// Shows the changes, and makes them with `--yes`.
    ///
    /// # Errors
    /// When the cluster cannot be reached, a topic does not exist, or the change is refused.
    pub(super) async fn run(self, context: &Context) -> Result<(), Error> {
        let section = context.kafka(&self.change.target)?;
        let group = escape_controls(&self.group);
        let what = format!("change the offsets of group `{group}`");
        protect::refuse_change(&section, &what, protect::OTHER_TARGET)?;
        let admin = Admin::connect(&section, CONNECT_TIMEOUT).await?;
        let all_topics = admin.topics().await?;
        let topics = self.named_topics(&admin, &section).await?;
        let target = self.target.target();
        let request = ResetRequest {
            group: &self.group,
            topics: &topics,
            all_topics: &all_topics,
            partitions: self.partitions.as_ref().map(|list| list.0.as_slice()),
            target: &target,
            now: jiff::Timestamp::now().as_millisecond(),
        };
        let plan = plan_reset(&admin, &request).await?;
        if plan.changes.is_empty() {
            return Err(self.nothing_found(context, &admin, &target, &plan, &all_topics).await);
        }
        let ResetPlan { changes, flows, is_new, gone } = plan;
        let changes = [GroupChanges { group: self.group.clone(), changes }];
        context.print(&listing(&changes).render(self.change.output))?;
        if is_new {
            context.say(&match elsewhere::section_of(context, &self.group, &section.name).await {
                Some(other) => {
                    let hint = escape_controls(&elsewhere::hint(&self.group, &other, "--target")).into_owned();
                    format!("group `{group}` has committed nothing on `{}`; {hint}\n", section.name)
                }
                None => format!("group `{group}` has committed nothing yet: this creates it\n"),
            });
        }
        for topic in gone {
            context.say(&format!("topic `{topic}` does not exist any more: the group's offsets in it stay\n"));
        }
        let stop = "stop its run first; a run with --partitions does not join the group and cannot be detected";
        say_flows(context, &self.group, &flows, stop);
        if !changes[0].changes.iter().any(OffsetChange::is_change) {
            context.say("nothing changes: the group is at that position already\n");
            return Ok(());
        }
        require_empty(&admin, &self.group, "its offsets cannot be changed").await.map_err(explain)?;
        if self.change.is_dry_run(context.global.yes) {
            context.say(&format!("would change {}\n{}", summary(&changes), self.change.nothing_changed()));
            return Ok(());
        }
        protect::confirm_change(context, &section, &what)?;
        commit_changes(&admin, &self.group, &changes[0].changes).await.map_err(explain)?;
        context.say(&format!("changed {}\n", summary(&changes)));
        Ok(())
    }

    /// Returns the topics of the command line, which exist and have the partitions.
    async fn named_topics(&self, admin: &Admin, section: &KafkaSection) -> Result<Vec<TopicInfo>, Error> {
        if self.topics.is_empty() {
            return Ok(Vec::new());
        }
        let topics =
            TopicArgs { names: self.topics.clone(), ..TopicArgs::default() }.look_up(admin, section, CONNECT_TIMEOUT).await?;
        if let Some(partitions) = &self.partitions {
            partitions.check(&topics)?;
        }
        Ok(topics)
    }

    /// Returns why there is nothing to move.
    async fn nothing_found(
        &self,
        context: &Context,
        admin: &Admin,
        target: &ResetTarget,
        plan: &ResetPlan,
        all: &[TopicInfo],
    ) -> Error {
        let section = admin.section();
        let has_nothing = |group: &str| {
            let failure = Failure::new(format!("group `{group}` has no committed offset in these topics and partitions"));
            Error::Failed(failure.hint(format!("see what it has: sdl offsets show {group} --source {section}")))
        };
        match target {
            ResetTarget::Group(other) if self.topics.is_empty() && self.partitions.is_none() => {
                no_group(context, admin, other).await
            }
            ResetTarget::Group(other) => has_nothing(other),
            ResetTarget::Position(_) if plan.is_new => {
                // Topics would create the group here.
                if elsewhere::section_of(context, &self.group, section).await.is_some() {
                    return no_group(context, admin, &self.group).await;
                }
                let what = format!("group `{}` has committed nothing on `{section}`, and no topic is named", self.group);
                none_named(what, &format!("name topics of `{section}`"), all)
            }
            ResetTarget::Shift(_) if plan.is_new => no_group(context, admin, &self.group).await,
            ResetTarget::Position(_) | ResetTarget::Shift(_) => has_nothing(&self.group),
        }
    }
}
