//! Reads dead letters once, without a group and without a commit.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use crate::commands::Context;
use crate::commands::args::TopicArgs;
use crate::commands::dlq::select_letters::{LetterPlace, LetterSelectionArgs};
use crate::connectors::kafka::{Bounds, OffsetSpec, Pos, ScanEvent, ScanRange, Scanner};
use crate::connectors::ndjson::{ParsedLine, read};
use crate::dlq::{Letter, LetterSelection};
use crate::error::Error;
use crate::pipeline::{Failure, Refused};
use crate::profile::KafkaSection;
use crate::record::{Partition, Record};
use crate::report::counted;

/// How long the commands wait for the first answer of the cluster.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What was read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LettersRead {
    pub(super) records: u64,
    pub(super) letters: u64,
    pub(super) selected: u64,
}

/// What gets the selected letters, until it breaks off.
pub(super) trait OnLetter: FnMut(&Record, &Letter) -> ControlFlow<()> {}

impl<T: FnMut(&Record, &Letter) -> ControlFlow<()>> OnLetter for T {}

/// Gives the selected letters of a topic or a file to `each`. Without a start, the letters of a topic are read from the positions of
/// `group` on, if one is named.
///
/// # Errors
/// When the place cannot be read, or holds records and none of them is a dead letter.
pub(super) async fn read_letters<S: Send + 'static>(
    place: &LetterPlace<'_>,
    args: &LetterSelectionArgs,
    group: Option<&str>,
    state: S,
    each: impl Fn(&mut S, &Record, &Letter) -> ControlFlow<()> + Send + 'static,
) -> Result<(S, LettersRead), Error> {
    let selection = args.selection()?;
    let (start, stop) = (args.start, args.stop);
    let mut state = state;
    let reading = match place {
        LetterPlace::File(path) => {
            let path = path.to_path_buf();
            tokio::task::spawn_blocking(move || {
                let times = (file_time(start)?, file_time(stop)?);
                let read = read_file(&path, &selection, times, |record, letter| each(&mut state, record, letter))?;
                check(read, &format!("file `{}`", path.display())).map(|()| (state, read))
            })
        }
        LetterPlace::Topic(section, name) => {
            let (section, name, group) = ((**section).clone(), (*name).to_owned(), group.map(str::to_owned));
            let mut scanner = Scanner::connect(&section, group.as_deref(), false, CONNECT_TIMEOUT).await?;
            tokio::task::spawn_blocking(move || {
                let ranges = ranges(&scanner, &section, &name, (start, stop), group.as_deref())?;
                let read = scan(&mut scanner, &ranges, &selection, |record, letter| each(&mut state, record, letter))?;
                check(read, &format!("topic `{name}` of `{}`", section.name)).map(|()| (state, read))
            })
        }
    };
    reading.await.map_err(|error| Failure::new("the letters could not be read").because(error))?
}

/// Refuses records none of which is a letter.
fn check(read: LettersRead, place: &str) -> Result<(), Error> {
    if read.letters > 0 || read.records == 0 {
        return Ok(());
    }
    Err(Error::Refused(Refused {
        what: format!("{place} holds no dead letters"),
        numbers: vec![format!("{} without the headers of a letter", counted(read.records, "record"))],
        hint: "sdl knows the headers of its own letters and of Kafka Connect's \
               (`errors.deadletterqueue.context.headers.enable = true`), Spring's (kafka_dlt-*) and Kafka Streams'; list the topics \
               that hold some with `sdl dlq list`"
            .to_owned(),
    }))
}

/// Reads ranges of topics.
///
/// # Errors
/// When a partition cannot be read.
pub(super) fn scan(
    scanner: &mut Scanner,
    ranges: &[ScanRange],
    selection: &LetterSelection,
    mut each: impl OnLetter,
) -> Result<LettersRead, Error> {
    let mut read = LettersRead::default();
    let _ = scanner.read(ranges, |event| {
        let ScanEvent::Record(view) = event else { return ControlFlow::Continue(()) };
        read.records += 1;
        let Some(letter) = Letter::of(view.headers) else { return ControlFlow::Continue(()) };
        read.letters += 1;
        if !selection.includes(&letter) {
            return ControlFlow::Continue(());
        }
        read.selected += 1;
        each(&view.to_record(), &letter)
    })?;
    Ok(read)
}

/// Returns the offsets of a topic between start and stop.
fn ranges(
    scanner: &Scanner,
    section: &KafkaSection,
    name: &str,
    (start, stop): (Option<Pos>, Option<Pos>),
    group: Option<&str>,
) -> Result<Vec<ScanRange>, Error> {
    let topics = if let Some(topic) = scanner.topic_to_read(name, Duration::ZERO)? {
        vec![topic]
    } else {
        let named = TopicArgs { names: vec![name.to_owned()], ..TopicArgs::default() };
        named.choose(section, &scanner.topics()?)?
    };
    let partitions: Vec<Partition> =
        topics.iter().flat_map(|topic| (0..topic.partitions).map(|index| Partition { topic: topic.topic, index })).collect();
    let (low, end) = (scanner.ends(&partitions, OffsetSpec::Start)?, scanner.reachable(&partitions)?);
    let committed = group.map(|group| scanner.committed(group, &partitions)).transpose()?.unwrap_or_default();
    let now = jiff::Timestamp::now().as_millisecond();
    let mut at_time = HashMap::new();
    for time in [start, stop].into_iter().flatten().filter_map(|pos| pos.time(now)) {
        at_time.insert(time, scanner.ends(&partitions, OffsetSpec::Time(time))?);
    }
    let range = |partition: Partition| {
        let bounds = Bounds {
            low: low.get(&partition).copied().unwrap_or(0),
            end: end.get(&partition).copied().unwrap_or(0),
            committed: committed.get(&partition).copied(),
            at_time: None,
        };
        let offset = |pos: Option<Pos>, default: i64| {
            let Some(pos) = pos else { return Ok(default) };
            let at_time = pos.time(now).and_then(|time: i64| at_time.get(&time)?.get(&partition).copied());
            pos.offset(&Bounds { at_time, ..bounds }).map_err(|why| Error::Usage {
                what: format!("a position is outside {partition}: {why}"),
                hint: "name an offset that each partition has".to_owned(),
            })
        };
        let from = offset(start.or(group.map(|_| Pos::Committed)), bounds.low)?;
        Ok(ScanRange { partition, from: from.max(bounds.low), to: offset(stop, bounds.end)?.min(bounds.end) })
    };
    partitions.into_iter().map(range).collect()
}

/// Returns the time of a position in a file, which has no other positions.
fn file_time(pos: Option<Pos>) -> Result<Option<i64>, Error> {
    let now = jiff::Timestamp::now().as_millisecond();
    match pos {
        None | Some(Pos::Beginning | Pos::End) => Ok(None),
        Some(pos) => pos.time(now).map(Some).ok_or_else(|| Error::Usage {
            what: format!("`{pos}` is not a position in a file"),
            hint: "use a time, as in @-1h or @2026-03-01".to_owned(),
        }),
    }
}

fn read_file(
    path: &Path,
    selection: &LetterSelection,
    (start, stop): (Option<i64>, Option<i64>),
    mut each: impl OnLetter,
) -> Result<LettersRead, Error> {
    let shown = path.display().to_string();
    let unreadable = |error: std::io::Error| Failure::new(format!("cannot read `{shown}`")).because(error);
    let file = BufReader::new(std::fs::File::open(path).map_err(unreadable)?);
    let mut found = LettersRead::default();
    for (number, line) in (1..).zip(file.split(b'\n')) {
        let line = line.map_err(unreadable)?;
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let parsed =
            read(line).map_err(|why| Failure::new(format!("line {number} of `{shown}` is not a record")).because(why))?;
        found.records += 1;
        let ParsedLine::Record(record) = parsed else { continue };
        let Some(letter) = Letter::of(&record.headers) else { continue };
        found.letters += 1;
        let is_in_time = |time: i64| start.is_none_or(|start| time >= start) && stop.is_none_or(|stop| time < stop);
        if !selection.includes(&letter) || !record.timestamp.is_none_or(is_in_time) {
            continue;
        }
        found.selected += 1;
        // Its place is its line.
        if each(&Record { partition: Partition::new(&shown, 0), offset: number, ..record }, &letter).is_break() {
            break;
        }
    }
    Ok(found)
}

/// Says how many records were not letters, and why nothing is shown.
pub(super) fn say_read(context: &Context, read: LettersRead) {
    let others = read.records - read.letters;
    if read.records == 0 {
        context.say("there are no letters\n");
    } else if read.selected == 0 {
        context.say(&format!("none of {} is selected\n", counted(read.letters, "letter")));
    }
    if others > 0 {
        let are = if others == 1 { "is" } else { "are" };
        context.say(&format!("{} {are} not dead letters\n", counted(others, "record")));
    }
}
