//! Flags that select topics, positions and records.

use clap::builder::NonEmptyStringValueParser as Text;

use crate::commands::args::{PartitionList, TopicArgs, check_range, parse_count, parse_partitions, parse_position};
use crate::connectors::kafka::{Pos, TopicInfo};
use crate::error::Error;
use crate::record::Partition;

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Reading")]
pub(super) struct SelectArgs {
    #[command(flatten)]
    pub(super) topics: TopicArgs,
    /// Read only these partitions: 0,2-5
    #[arg(long, value_name = "LIST", value_parser = parse_partitions)]
    pub(super) partitions: Option<PartitionList>,
    /// Where to start: `beginning`, `end`, `committed` (with --group), an offset, -N (N before the end), @UNIX, @RFC3339, @DATE, @-1h
    #[arg(long, value_name = "POS", allow_hyphen_values = true, value_parser = parse_position)]
    pub(super) start: Option<Pos>,
    /// Where to stop, like --start [default: the current end]
    #[arg(long, value_name = "POS", allow_hyphen_values = true, value_parser = parse_position, conflicts_with = "follow")]
    pub(super) stop: Option<Pos>,
    /// Show the last N records, which are held in memory; with --start, the first N from there
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_count)]
    pub(super) count: Option<u64>,
    /// Continue with new records until interrupted [default: on a terminal, without --start, --stop and -n]
    #[arg(short = 'F', long)]
    pub(super) follow: bool,
    /// Consumer group of the position `committed`; it is only looked up
    #[arg(long, value_name = "NAME", value_parser = Text::new())]
    pub(super) group: Option<String>,
    /// Read records of open and aborted transactions too
    #[arg(long)]
    pub(super) read_uncommitted: bool,
}

impl SelectArgs {
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.group.is_none() && [self.start, self.stop].contains(&Some(Pos::Committed)) {
            return Err(Error::Usage {
                what: "`committed` is the position of a consumer group, and none is named".to_owned(),
                hint: "add --group NAME; the group is neither joined nor changed".to_owned(),
            });
        }
        check_range(self.start, self.stop)
    }

    /// Returns the partitions of a topic that are read.
    pub(super) fn partitions_of(&self, topic: &TopicInfo) -> impl Iterator<Item = Partition> {
        let wanted = |index: &i32| self.partitions.as_ref().is_none_or(|list| list.0.contains(index));
        (0..topic.partitions).filter(wanted).map(|index| Partition { topic: topic.topic, index })
    }

    /// Returns whether new records are shown after the current end.
    pub(super) fn follows(&self, terminal: bool) -> bool {
        self.follow || (terminal && self.start.is_none() && self.stop.is_none() && self.count.is_none())
    }
}
