//! What is read for a look at topics, and in which order.

use std::collections::HashMap;

use crate::commands::tail::last::BackwardSearch;
use crate::commands::tail::output::Output;
use crate::commands::tail::{LAST, SelectArgs};
use crate::connectors::kafka::{Bounds, OffsetSpec, Pos, ScanEvent, ScanRange, Scanner, TopicInfo};
use crate::error::Error;
use crate::profile::KafkaSection;
use crate::record::{Partition, RecordView};
use crate::report::grouped;

/// How many offsets of a partition are read first when not every record is wanted.
const STEP: i64 = 1000;

/// A look at some topics.
pub(super) struct TailRun {
    pub(super) reader: Scanner,
    pub(super) gate: Output,
}

/// A partition that is looked at.
struct TailPartition {
    partition: Partition,
    low: i64,
    end: i64,
    start: i64,
    stop: i64,
}

impl TailRun {
    /// Shows what was asked for.
    pub(super) fn run(&mut self, what: &SelectArgs, section: &KafkaSection, terminal: bool) -> Result<(), Error> {
        let topics = self.topics(what, section)?;
        let places = self.places(what, &topics)?;
        let follows = what.follows(terminal);
        match what.start {
            None => self.last(what, &places)?,
            Some(_) if !follows => self.all_between(what, &places)?,
            Some(_) => {}
        }
        if self.gate.shown() == 0 && what.count != Some(0) && what.start.is_none_or(|_| !follows) {
            let why = self.why_nothing(what, &topics, &places)?;
            if follows {
                self.gate.remark(&format!("{why}; waiting for what comes, Ctrl-C ends it"));
            } else {
                self.gate.say(&why);
            }
        }
        if follows && self.gate.goes_on() {
            self.follow(what, section, &places)?;
        }
        self.gate.finish(follows)
    }

    fn topics(&self, what: &SelectArgs, section: &KafkaSection) -> Result<Vec<TopicInfo>, Error> {
        let chosen = topics(&self.reader, what, section)?;
        if let Some(partitions) = &what.partitions {
            partitions.check(&chosen)?;
        }
        Ok(chosen)
    }

    fn places(&self, what: &SelectArgs, topics: &[TopicInfo]) -> Result<Vec<TailPartition>, Error> {
        let partitions: Vec<Partition> = topics.iter().flat_map(|topic| what.partitions_of(topic)).collect();
        let low = self.reader.ends(&partitions, OffsetSpec::Start)?;
        let end = self.reader.reachable(&partitions)?;
        let now = jiff::Timestamp::now().as_millisecond();
        let positions = [what.start, what.stop];
        let mut at_time: HashMap<i64, HashMap<Partition, i64>> = HashMap::new();
        for time in positions.iter().flatten().filter_map(|pos| pos.time(now)) {
            at_time.insert(time, self.reader.ends(&partitions, OffsetSpec::Time(time))?);
        }
        let committed = match &what.group {
            Some(group) if positions.contains(&Some(Pos::Committed)) => self.reader.committed(group)?,
            _ => HashMap::new(),
        };
        let place = |partition: Partition| {
            let at = |ends: &HashMap<Partition, i64>| ends.get(&partition).copied().unwrap_or(0);
            let offset = |pos: Pos, flag: &str| {
                let bounds = Bounds {
                    low: at(&low),
                    end: at(&end),
                    committed: committed.get(&partition).copied(),
                    at_time: pos.time(now).and_then(|time| at_time.get(&time)?.get(&partition).copied()),
                };
                pos.offset(&bounds).map_err(|why| Error::Usage {
                    what: format!("{flag} does not fit {partition}: {why}"),
                    hint: "name an offset that each partition has, or choose partitions with --partitions".to_owned(),
                })
            };
            let (low, end) = (at(&low), at(&end));
            Ok(TailPartition {
                partition,
                low,
                end,
                start: what.start.map_or(Ok(low), |start| offset(start, "--start"))?.clamp(low, end.max(low)),
                stop: what.stop.map_or(Ok(end), |stop| offset(stop, "--stop"))?,
            })
        };
        partitions.into_iter().map(place).collect()
    }

    /// Shows the last records before the stop.
    fn last(&mut self, what: &SelectArgs, places: &[TailPartition]) -> Result<(), Error> {
        let count = usize::try_from(what.count.unwrap_or(LAST)).unwrap_or(usize::MAX);
        if count == 0 {
            return Ok(());
        }
        let gate = &mut self.gate;
        let step = i64::try_from(count).unwrap_or(i64::MAX).max(if gate.filter.selects() { STEP } else { 1 });
        let mut search = BackwardSearch::new(count, step, places.iter().map(|place| (place.partition, place.low, place.stop)));
        gate.expect(places.iter().map(|place| place.stop - place.low).sum());
        loop {
            let spans = search.spans();
            if spans.is_empty() {
                break;
            }
            let ended = self.reader.read(&spans, |happening| match happening {
                ScanEvent::Record(record) => {
                    search.take(record, || gate.sift(record));
                    gate.looked()
                }
                other => gate.wait(&other),
            })?;
            if ended.is_break() {
                break;
            }
            search.step_back();
        }
        gate.searched()?;
        search.found().iter().try_for_each(|kept| gate.show(&RecordView { appended: kept.appended, ..kept.record.view() }))?;
        Ok(())
    }

    /// Shows everything from the start to the stop.
    fn all_between(&mut self, what: &SelectArgs, places: &[TailPartition]) -> Result<(), Error> {
        let gate = &mut self.gate;
        if !gate.limit(what.count) {
            return Ok(());
        }
        gate.expect(places.iter().map(|place| (place.stop - place.start).max(0)).sum());
        let spans = places.iter().map(|place| ScanRange { partition: place.partition, from: place.start, to: place.stop });
        let _ = self.reader.read(&spans.collect::<Vec<_>>(), |happening| gate.take(&happening))?;
        gate.searched()?;
        Ok(())
    }

    /// Shows what comes: from the start, or else behind the last records, which were shown. Topics and partitions that are created
    /// later are read from their beginnings.
    fn follow(&mut self, what: &SelectArgs, section: &KafkaSection, places: &[TailPartition]) -> Result<(), Error> {
        let gate = &mut self.gate;
        if !gate.limit(what.count.filter(|_| what.start.is_some())) {
            return Ok(());
        }
        let from = |place: &TailPartition| (place.partition, if what.start.is_some() { place.start } else { place.end });
        let from: Vec<(Partition, i64)> = places.iter().map(from).collect();
        // What cannot be looked up now is looked up again; that nothing can be read is told by who reads.
        let look_for_more = |reader: &Scanner| {
            let topics = topics(reader, what, section).unwrap_or_default();
            topics.iter().flat_map(|topic| what.partitions_of(topic)).collect()
        };
        Ok(self.reader.follow(&from, look_for_more, |happening| gate.take(&happening))?)
    }

    /// Returns why there was nothing to show.
    fn why_nothing(&self, what: &SelectArgs, topics: &[TopicInfo], places: &[TailPartition]) -> Result<String, Error> {
        let names: Vec<String> = topics.iter().map(|topic| format!("`{}`", topic.topic)).collect();
        let [which, is, holds] = match names.as_slice() {
            [one] => [&format!("topic {one}"), "is", "holds"],
            several => [&format!("topics {}", several.join(", ")), "are", "hold"],
        };
        let transactions = if what.read_uncommitted { "" } else { "; --read-uncommitted shows those of transactions too" };
        if places.iter().all(|place| place.end <= place.low) {
            let partitions: Vec<Partition> = places.iter().map(|place| place.partition).collect();
            let ends = if what.read_uncommitted { HashMap::new() } else { self.reader.ends(&partitions, OffsetSpec::Log)? };
            if places.iter().any(|place| ends.get(&place.partition).is_some_and(|end| *end > place.end)) {
                return Ok(format!("{which} {holds} nothing but records of open transactions; --read-uncommitted shows them"));
            }
            return Ok(match &what.partitions {
                None => format!("{which} {is} empty"),
                Some(_) => format!("{which} {is} empty in these partitions"),
            });
        }
        let begins = |place: &TailPartition| what.start.map_or(place.low, |_| place.start);
        if places.iter().all(|place| place.stop <= begins(place)) {
            let held: i64 = places.iter().map(|place| place.end - place.low).sum();
            let offsets = if held == 1 { "1 offset".to_owned() } else { format!("{} offsets", grouped(held.cast_unsigned())) };
            return Ok(format!("nothing lies between start and stop; {which} {holds} {offsets} in all"));
        }
        Ok(match self.gate.read() {
            0 => {
                format!("{which} {holds} no record that can be read there, only what was aborted or compacted away{transactions}")
            }
            read => format!("0 of {} records matched", grouped(read)),
        })
    }
}

/// Returns the topics that are looked at.
fn topics(reader: &Scanner, what: &SelectArgs, section: &KafkaSection) -> Result<Vec<TopicInfo>, Error> {
    let named = what.topics.named(section)?;
    let mut found = Vec::new();
    for name in &named {
        found.extend(reader.topics(Some(name))?);
    }
    // All there are, for a pattern, and to suggest a name for one that is not there.
    let all = if named.is_empty() || found.len() < named.len() { reader.topics(None)? } else { found };
    what.topics.choose(section, &all)
}
