//! What is read for a look at topics, and in which order.

use std::collections::HashMap;
use std::ops::ControlFlow;

use crate::commands::tail::gate::Gate;
use crate::commands::tail::last::Search;
use crate::commands::tail::{LAST, What};
use crate::connectors::kafka::{Bounds, EndOf, Happening, Pos, Reader, Span, TopicInfo};
use crate::error::Error;
use crate::profile::KafkaSection;
use crate::record::{Partition, RecordRef};
use crate::report::grouped;

/// How many offsets of a partition are read first when not every record is wanted.
const STEP: i64 = 1000;

/// A look at some topics.
pub(super) struct Look {
    pub(super) reader: Reader,
    pub(super) gate: Gate,
}

/// A partition that is looked at.
struct Place {
    partition: Partition,
    low: i64,
    end: i64,
    start: i64,
    stop: i64,
}

impl Look {
    /// Shows what was asked for.
    pub(super) fn run(&mut self, what: &What, section: &KafkaSection, terminal: bool) -> Result<(), Error> {
        let topics = self.topics(what, section)?;
        let places = self.places(what, &topics)?;
        let follows = what.follows(terminal);
        let ended = match what.start {
            None => self.last(what, &places)?,
            Some(_) if follows => return self.follow(&places, what.count, |place| place.start),
            Some(_) => self.all_between(what, &places)?,
        };
        if ended.is_continue() && follows {
            return self.follow(&places, None, |place| place.stop);
        }
        self.gate.finish()?;
        self.gate.explain(nothing(what, &topics, &places));
        Ok(())
    }

    fn topics(&self, what: &What, section: &KafkaSection) -> Result<Vec<TopicInfo>, Error> {
        let named = what.topics.named(section)?;
        let mut found = Vec::new();
        for name in &named {
            found.extend(self.reader.topics(Some(name))?);
        }
        // All there are, for a pattern, and to suggest a name for one that is not there.
        let all = if named.is_empty() || found.len() < named.len() { self.reader.topics(None)? } else { found };
        let chosen = what.topics.choose(section, &all)?;
        if let Some(partitions) = &what.partitions {
            partitions.check(&chosen)?;
        }
        Ok(chosen)
    }

    fn places(&self, what: &What, topics: &[TopicInfo]) -> Result<Vec<Place>, Error> {
        let partitions: Vec<Partition> = topics.iter().flat_map(|topic| what.partitions_of(topic)).collect();
        let low = self.reader.ends(&partitions, EndOf::Start)?;
        let end = self.reader.reachable(&partitions)?;
        let now = jiff::Timestamp::now().as_millisecond();
        let positions = [what.start, what.stop];
        let mut at_time: HashMap<i64, HashMap<Partition, i64>> = HashMap::new();
        for time in positions.iter().flatten().filter_map(|pos| pos.time(now)) {
            at_time.insert(time, self.reader.ends(&partitions, EndOf::Time(time))?);
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
            Ok(Place {
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
    fn last(&mut self, what: &What, places: &[Place]) -> Result<ControlFlow<()>, Error> {
        let count = usize::try_from(what.count.unwrap_or(LAST)).unwrap_or(usize::MAX);
        if count == 0 {
            return Ok(ControlFlow::Continue(()));
        }
        let selects = self.gate.filter.selects();
        let step = i64::try_from(count).unwrap_or(i64::MAX).max(if selects { STEP } else { 1 });
        let mut search = Search::new(count, step, places.iter().map(|place| (place.partition, place.low, place.stop)));
        self.gate.expect(places.iter().map(|place| place.stop - place.low).sum());
        let gate = &mut self.gate;
        loop {
            let spans = search.spans();
            if spans.is_empty() {
                break;
            }
            let ended = self.reader.read(&spans, |happening| match happening {
                Happening::Record(record) => {
                    gate.count();
                    search.take(record, |keep| gate.sift(record, keep));
                    gate.go_on()
                }
                other => gate.wait(&other),
            })?;
            if ended.is_break() {
                break;
            }
            search.step_back();
        }
        self.gate.searched();
        for kept in search.found() {
            let view = RecordRef { appended: kept.appended, ..kept.record.view() };
            self.gate.show(&view)?;
        }
        Ok(self.gate.ended()?)
    }

    /// Shows everything from the start to the stop.
    fn all_between(&mut self, what: &What, places: &[Place]) -> Result<ControlFlow<()>, Error> {
        let spans: Vec<Span> =
            places.iter().map(|place| Span { partition: place.partition, from: place.start, to: Some(place.stop) }).collect();
        self.gate.expect(places.iter().map(|place| (place.stop - place.start).max(0)).sum());
        self.stream(&spans, what.count)
    }

    /// Shows everything from somewhere on, until interrupted.
    fn follow(&mut self, places: &[Place], count: Option<u64>, from: impl Fn(&Place) -> i64) -> Result<(), Error> {
        let spans: Vec<Span> =
            places.iter().map(|place| Span { partition: place.partition, from: from(place), to: None }).collect();
        let _ = self.stream(&spans, count)?;
        self.gate.finish()
    }

    fn stream(&mut self, spans: &[Span], count: Option<u64>) -> Result<ControlFlow<()>, Error> {
        let gate = &mut self.gate;
        gate.limit(count);
        if count == Some(0) {
            return Ok(ControlFlow::Continue(()));
        }
        let ended = self.reader.read(spans, |happening| match happening {
            Happening::Record(record) => gate.pass(record),
            other => gate.wait(&other),
        })?;
        gate.searched();
        Ok(if ended.is_break() { gate.ended()? } else { ended })
    }
}

/// Returns why nothing was shown when there was nothing to look at.
fn nothing(what: &What, topics: &[TopicInfo], places: &[Place]) -> Option<String> {
    let names: Vec<String> = topics.iter().map(|topic| format!("`{}`", topic.topic)).collect();
    let (which, verb) = match names.as_slice() {
        [one] => (format!("topic {one}"), "is"),
        several => (format!("topics {}", several.join(", ")), "are"),
    };
    if places.iter().all(|place| place.end <= place.low) {
        return Some(format!("{which} {verb} empty"));
    }
    let from_start = what.start.is_some() || what.stop.is_some();
    (from_start && places.iter().all(|place| place.stop <= place.start)).then(|| {
        let held: i64 = places.iter().map(|place| place.end - place.low).sum();
        format!(
            "nothing lies between start and stop; {which} {} {} offsets",
            if verb == "is" { "has" } else { "have" },
            grouped(held.cast_unsigned())
        )
    })
}
