//! Flag groups that several commands share, and their parsing.

mod create;
mod delivery;
mod documents;
mod groups;
mod numbers;
mod pattern;
mod read;
mod report;
mod shaping;
mod topics;

pub(crate) use crate::spelling::nearest;
pub(crate) use create::NewTopic;
pub(crate) use delivery::{
    DOCUMENT_DEFAULTS, DeadLetterTarget, DeliveryArgs, FailureArgs, KAFKA_DEFAULTS, SourceLimits, parse_dead_letters, parse_rate,
};
pub(crate) use documents::{DocumentArgs, chain, named_by};
pub(crate) use groups::{GroupArgs, NOT_LISTED, PartitionFilterArgs, check_names, lag_filter, nothing_committed};
pub(crate) use numbers::{parse_any_duration, parse_count, parse_duration, parse_linger, parse_whole};
pub(crate) use pattern::{glob_advice, regex_of_glob, shown_pattern};
pub(crate) use read::ReadArgs;
pub(crate) use report::{ReportArgs, SummaryFormat};
pub(crate) use shaping::{ReportingShape, ShapingArgs, dry_transform, fault_warnings, transform};
pub(crate) use topics::{
    PartitionList, TopicArgs, check_range, check_resolved, is_internal, none_named, parse_partitions, parse_pattern,
    parse_position, parse_regex, reversed_lines,
};
