//! Which records are read, and in which order.

use std::collections::HashMap;
use std::time::Duration;

use crate::commands::args::{check_resolved, nearest, reversed_lines};
use crate::commands::session::held_back_lines;
use crate::commands::tail::last::BackwardSearch;
use crate::commands::tail::output::Output;
use crate::commands::tail::select_args::SelectArgs;
use crate::connectors::kafka::{Bounds, OffsetSpec, Pos, ScanEvent, ScanRange, Scanner, TopicInfo};
use crate::error::Error;
use crate::number::grouped;
use crate::pipeline::{ConnectorError, Failure, Refusal, RefusalReason};
use crate::profile::KafkaSection;
use crate::record::{Partition, RecordView};
use crate::report::counted;

/// How many records are shown by default.
const DEFAULT_COUNT: u64 = 10;
/// How many offsets of a partition a search with filters reads first.
const FIRST_STEP: i64 = 1000;

pub(super) struct TailRun {
    pub(super) scanner: Scanner,
    pub(super) output: Output,
}

struct TailPartition {
    partition: Partition,
    low: i64,
    end: i64,
    start: i64,
    stop: i64,
}

/// The topics to read, and their partitions with the offsets to read.
pub(super) struct SelectedPartitions {
    topics: Vec<TopicInfo>,
    partitions: Vec<TailPartition>,
    /// To show first.
    warnings: Vec<String>,
}

impl SelectedPartitions {
    pub(super) fn find(scanner: &Scanner, select: &SelectArgs, section: &KafkaSection, follows: bool) -> Result<Self, Error> {
        let topics = topics(scanner, select, section, Duration::MAX)?;
        if let Some(partitions) = &select.partitions {
            partitions.check(&topics)?;
        }
        let committed = committed(scanner, select, section, &topics)?;
        let (partitions, mut warnings) = partitions(scanner, select, &topics, &committed, follows)?;
        warnings.extend(no_commit_line(select, &partitions, &committed));
        let range = |it: &TailPartition| (it.partition, it.start, it.stop);
        let reversed = check_resolved(select.start, select.stop, partitions.iter().map(range))?;
        warnings.extend(reversed_lines(&reversed));
        Ok(Self { topics, partitions, warnings })
    }
}

/// Returns the group whose committed offsets are a start or a stop.
fn committing_group(select: &SelectArgs) -> Option<&str> {
    let is_wanted = [select.start, select.stop].contains(&Some(Pos::Committed));
    select.group.as_deref().filter(|_| is_wanted)
}

/// Returns the committed offsets that the positions need.
fn committed(
    scanner: &Scanner,
    select: &SelectArgs,
    section: &KafkaSection,
    topics: &[TopicInfo],
) -> Result<HashMap<Partition, i64>, Error> {
    let Some(group) = committing_group(select) else { return Ok(HashMap::new()) };
    let asked: Vec<Partition> = topics.iter().flat_map(|topic| select.partitions_of(topic)).collect();
    let committed = scanner.committed(group, &asked)?;
    if committed.is_empty()
        && let Some(names) = scanner.group_names()
    {
        check_group(group, &names, section)?;
    }
    Ok(committed)
}

/// Checks that a group is one of the cluster's.
fn check_group(group: &str, names: &[String], section: &KafkaSection) -> Result<(), Error> {
    if names.iter().any(|name| name == group) {
        return Ok(());
    }
    let section = &section.name;
    let hint = match nearest(group, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("list the groups that are there: sdl lag --no-time --source {section}"),
    };
    Err(Failure::new(format!("group `{group}` does not exist on `{section}`")).hint(hint).into())
}

/// Returns the line about partitions with records in which the group has no committed offset.
fn no_commit_line(select: &SelectArgs, partitions: &[TailPartition], committed: &HashMap<Partition, i64>) -> Option<String> {
    let group = committing_group(select)?;
    let filled: Vec<_> = partitions.iter().filter(|it| it.end > it.low).collect();
    let without = filled.iter().filter(|it| !committed.contains_key(&it.partition)).count();
    let all = counted(filled.len() as u64, "partition");
    let line = format!("group `{group}` has no committed offset in {without} of {all}: there `committed` is the beginning");
    (without > 0).then_some(line)
}

fn partitions(
    scanner: &Scanner,
    select: &SelectArgs,
    topics: &[TopicInfo],
    committed: &HashMap<Partition, i64>,
    follows: bool,
) -> Result<(Vec<TailPartition>, Vec<String>), Error> {
    let asked: Vec<Partition> = topics.iter().flat_map(|topic| select.partitions_of(topic)).collect();
    let low = scanner.ends(&asked, OffsetSpec::Start)?;
    // Before the readable end: then only an open transaction leaves the log end beyond it.
    let has_stop = !select.read_uncommitted && !follows && select.stop.is_none_or(|stop| stop == Pos::End);
    let log_end = if has_stop { scanner.ends(&asked, OffsetSpec::Log)? } else { HashMap::new() };
    let end = scanner.reachable(&asked)?;
    let held_back = log_end.iter().filter_map(|(partition, log_end)| {
        let offsets = log_end - end.get(partition)?;
        (offsets > 0).then_some((*partition, offsets))
    });
    let is_readable = end.iter().any(|(partition, end)| *end > low.get(partition).copied().unwrap_or(0));
    let held_back = if is_readable { held_back_lines(held_back).into_iter().collect() } else { Vec::new() };
    let now = jiff::Timestamp::now().as_millisecond();
    let positions = [select.start, select.stop];
    let mut at_time: HashMap<i64, HashMap<Partition, i64>> = HashMap::new();
    for time in positions.iter().flatten().filter_map(|pos| pos.time(now)) {
        at_time.insert(time, scanner.ends(&asked, OffsetSpec::Time(time))?);
    }
    let tail_partition = |partition: Partition| {
        let at = |ends: &HashMap<Partition, i64>| ends.get(&partition).copied().unwrap_or(0);
        let offset = |pos: Pos, name: &str| {
            let bounds = Bounds {
                low: at(&low),
                end: at(&end),
                committed: committed.get(&partition).copied(),
                at_time: pos.time(now).and_then(|time| at_time.get(&time)?.get(&partition).copied()),
            };
            pos.offset(&bounds).map_err(|why| {
                let what = format!("the {name} {pos} is outside {partition}");
                Error::from(ConnectorError::from(Refusal { reason: RefusalReason::OffsetOutOfRange, what, numbers: vec![why] }))
            })
        };
        let (low, end) = (at(&low), at(&end));
        Ok(TailPartition {
            partition,
            low,
            end,
            start: select.start.map_or(Ok(low), |start| offset(start, "start"))?.clamp(low, end.max(low)),
            stop: select.stop.map_or(Ok(end), |stop| offset(stop, "stop"))?,
        })
    };
    Ok((asked.into_iter().map(tail_partition).collect::<Result<_, Error>>()?, held_back))
}

impl TailRun {
    pub(super) fn run(
        &mut self,
        select: &SelectArgs,
        section: &KafkaSection,
        selected: &SelectedPartitions,
        terminal: bool,
    ) -> Result<(), Error> {
        let SelectedPartitions { topics, partitions, warnings } = selected;
        for line in warnings {
            self.output.say(line);
        }
        let follows = select.follows(terminal);
        match select.start {
            None => self.last(select, partitions)?,
            Some(_) if !follows => self.all_between(select, partitions)?,
            Some(_) => {}
        }
        if self.output.shown() == 0 && select.count != Some(0) && select.start.is_none_or(|_| !follows) {
            let why = self.why_nothing(select, topics, partitions)?;
            if follows {
                self.output.remark(&format!("{why}; waiting for new records, Ctrl-C ends it"));
            } else {
                self.output.say(&why);
            }
        }
        if follows && self.output.should_continue() {
            self.follow(select, section, partitions)?;
        }
        self.output.finish(follows)
    }

    /// Shows the last records before the stop.
    fn last(&mut self, select: &SelectArgs, partitions: &[TailPartition]) -> Result<(), Error> {
        let count = usize::try_from(select.count.unwrap_or(DEFAULT_COUNT)).unwrap_or(usize::MAX);
        if count == 0 {
            return Ok(());
        }
        let output = &mut self.output;
        let step = i64::try_from(count).unwrap_or(i64::MAX).max(if output.filter.selects() { FIRST_STEP } else { 1 });
        let mut search = BackwardSearch::new(count, step, partitions.iter().map(|it| (it.partition, it.low, it.stop)));
        output.start_scan(partitions.iter().map(|it| it.stop - it.low).sum());
        loop {
            let ranges = search.ranges();
            if ranges.is_empty() {
                break;
            }
            let ended = self.scanner.read(&ranges, |event| match event {
                ScanEvent::Record(record) => {
                    search.add(record, || output.filter(record));
                    output.on_read()
                }
                other => output.on_idle(&other),
            })?;
            if ended.is_break() {
                break;
            }
            search.step_back();
        }
        output.end_scan()?;
        let found = search.into_found();
        if let Some((count, why)) = found.bad {
            output.on_bad(count, why);
        }
        found.records.iter().try_for_each(|kept| output.show(&RecordView { appended: kept.appended, ..kept.record.view() }))?;
        Ok(())
    }

    /// Shows everything from the start to the stop.
    fn all_between(&mut self, select: &SelectArgs, partitions: &[TailPartition]) -> Result<(), Error> {
        let output = &mut self.output;
        if !output.limit(select.count) {
            return Ok(());
        }
        output.start_scan(partitions.iter().map(|it| (it.stop - it.start).max(0)).sum());
        let ranges = partitions.iter().map(|it| ScanRange { partition: it.partition, from: it.start, to: it.stop });
        let _ = self.scanner.read(&ranges.collect::<Vec<_>>(), |event| output.on_event(&event))?;
        output.end_scan()?;
        Ok(())
    }

    /// Shows records as they arrive: from the start, or else after the last records, which were shown. Topics and partitions that
    /// are created later are read from the beginning.
    fn follow(&mut self, select: &SelectArgs, section: &KafkaSection, partitions: &[TailPartition]) -> Result<(), Error> {
        let output = &mut self.output;
        if !output.limit(select.count.filter(|_| select.start.is_some())) {
            return Ok(());
        }
        let from = |it: &TailPartition| (it.partition, if select.start.is_some() { it.start } else { it.end });
        let from: Vec<(Partition, i64)> = partitions.iter().map(from).collect();
        // A failed lookup is repeated; the scanner reports that the cluster cannot be read.
        let look_for_more = |reader: &Scanner| {
            let topics = topics(reader, select, section, Duration::ZERO).unwrap_or_default();
            topics.iter().flat_map(|topic| select.partitions_of(topic)).collect()
        };
        Ok(self.scanner.follow(&from, look_for_more, |event| output.on_event(&event))?)
    }

    /// Returns why no record was shown.
    fn why_nothing(&self, select: &SelectArgs, topics: &[TopicInfo], partitions: &[TailPartition]) -> Result<String, Error> {
        let names: Vec<String> = topics.iter().map(|topic| format!("`{}`", topic.topic)).collect();
        let [which, is, holds, has] = match names.as_slice() {
            [one] => [&format!("topic {one}"), "is", "holds", "has"],
            several => [&format!("topics {}", several.join(", ")), "are", "hold", "have"],
        };
        let transactions = if select.read_uncommitted { "" } else { "; --read-uncommitted shows aborted records too" };
        if partitions.iter().all(|it| it.end <= it.low) {
            let asked: Vec<Partition> = partitions.iter().map(|it| it.partition).collect();
            let ends = if select.read_uncommitted { HashMap::new() } else { self.scanner.ends(&asked, OffsetSpec::Log)? };
            if partitions.iter().any(|it| ends.get(&it.partition).is_some_and(|end| *end > it.end)) {
                return Ok(format!("{which} {holds} only records of open transactions; --read-uncommitted shows them"));
            }
            return Ok(match &select.partitions {
                None => format!("{which} {is} empty"),
                Some(_) => format!("{which} {is} empty in these partitions"),
            });
        }
        let begins = |it: &TailPartition| select.start.map_or(it.low, |_| it.start);
        if partitions.iter().all(|it| it.stop <= begins(it)) {
            let held: i64 = partitions.iter().map(|it| it.end - it.low).sum();
            let held = grouped(held.cast_unsigned());
            let none = match select.start {
                Some(start) if partitions.iter().all(|it| it.start >= it.end) => {
                    format!("no records at or after {}", start_of(start, partitions.len()))
                }
                _ => "no records between start and stop".to_owned(),
            };
            return Ok(format!("{none}; {which} {has} {held}"));
        }
        Ok(match self.output.read() {
            0 => {
                format!("{which} {holds} no readable record there: all were aborted or compacted away{transactions}")
            }
            read => format!("0 of {} matched", counted(read, "record")),
        })
    }
}

/// Returns a start as part of a sentence: with its article and, if each partition has its own, in the plural.
fn start_of(start: Pos, partitions: usize) -> String {
    match start {
        Pos::Beginning => "the beginning".to_owned(),
        Pos::End => "the end".to_owned(),
        Pos::Committed if partitions == 1 => "the committed offset".to_owned(),
        Pos::Committed => "the committed offsets".to_owned(),
        start => start.to_string(),
    }
}

/// Returns the topics that are read. One that was just created is looked for again, for up to `wait`.
fn topics(reader: &Scanner, select: &SelectArgs, section: &KafkaSection, wait: Duration) -> Result<Vec<TopicInfo>, Error> {
    let named = select.topics.named(section)?;
    let mut found = Vec::new();
    for name in &named {
        let Some(topic) = reader.topic_to_read(name, wait)? else { break };
        found.push(topic);
    }
    // All topics: for a pattern, and to suggest a name for a missing topic.
    let all = if named.is_empty() || found.len() < named.len() { reader.topics()? } else { found };
    select.topics.choose(section, &all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_does_not_exist_is_an_error_with_a_suggestion() {
        let section = KafkaSection { name: "local_kafka".to_owned(), ..KafkaSection::default() };
        let check = |group: &str, names: &[&str]| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            check_group(group, &names, &section).map_err(|error| (error.exit_code(), error.render()))
        };
        assert_eq!(check("tour", &["billing", "tour"]), Ok(()));
        let error = "error: group `tuor` does not exist on `local_kafka`\nhint: ";
        assert_eq!(check("tuor", &["billing", "tour"]), Err((1, format!("{error}did you mean `tour`?\n"))));
        let list = "list the groups that are there: sdl lag --no-time --source local_kafka";
        assert_eq!(check("tuor", &["billing"]), Err((1, format!("{error}{list}\n"))));
    }
}
