//! Reads dead letters once, without a group and without a commit.

use std::collections::{BTreeSet, HashMap};
use std::io::{BufRead as _, BufReader};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use crate::commands::Context;
use crate::commands::args::TopicArgs;
use crate::commands::dlq::select_letters::{LetterPlace, LetterSelectionArgs};
use crate::connectors::kafka::{Bounds, OffsetSpec, Pos, ScanEvent, ScanRange, Scanner};
use crate::connectors::ndjson::{ParsedLine, read};
use crate::dlq::{Letter, LetterSelection, kept};
use crate::error::Error;
use crate::number::none_of;
use crate::pipeline::{Failure, Refused};
use crate::profile::KafkaSection;
use crate::record::{Partition, Record};
use crate::report::{counted, grouped};
use crate::terminal::escape_controls;

/// How long the commands wait for the first answer of the cluster.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What was read.
#[derive(Clone, Debug, Default)]
pub(super) struct LettersRead {
    pub(super) records: u64,
    pub(super) letters: u64,
    pub(super) selected: u64,
    /// Offsets that were not read because a group has read them, and those outside of the positions that were asked for.
    pub(super) read_before: u64,
    pub(super) outside: u64,
    selection: LetterSelection,
    /// Codes of the letters, at most [`MAX_CODES`].
    codes: BTreeSet<String>,
}

/// The most codes that are remembered.
const MAX_CODES: usize = 10;

impl LettersRead {
    fn new(selection: &LetterSelection) -> Self {
        Self { selection: selection.clone(), ..Self::default() }
    }

    /// Counts a letter; returns whether it is selected.
    fn add(&mut self, letter: &Letter, is_in_time: bool) -> bool {
        self.letters += 1;
        if self.codes.len() < MAX_CODES && !self.codes.contains(letter.code()) {
            self.codes.insert(kept(letter.code()));
        }
        let is_selected = is_in_time && self.selection.includes(letter);
        self.selected += u64::from(is_selected);
        is_selected
    }

    /// Returns that no letter was selected, and what there is instead.
    fn none_selected(&self) -> String {
        let codes: Vec<&str> = self.codes.iter().map(String::as_str).collect();
        let more = if codes.len() < MAX_CODES { "" } else { ", ..." };
        let whose = if self.letters == 1 { "its code" } else { "their codes" };
        let found = format!("{whose}: {}{more}", codes.join(", "));
        let LetterSelection { cause, codes, paths, topics } = &self.selection;
        let one_of = |values: &[String]| values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(" or ");
        let (verb, negated, wanted) = match (cause, codes.as_slice(), paths.as_slice(), topics.as_slice()) {
            (None, codes @ [_, ..], [], []) => ("has", "does not have", format!(" code {}", one_of(codes))),
            (None, [], paths @ [_, ..], []) => ("has", "does not have", format!(" path {}", one_of(paths))),
            (None, [], [], topics @ [_, ..]) => ("is", "is not", format!(" of topic {}", one_of(topics))),
            (Some((cause, _)), [], [], []) => ("has", "does not have", format!(" cause `{cause}`")),
            _ => ("is selected", "is not selected", String::new()),
        };
        let none = none_of(self.letters, "dead letter", verb, negated);
        escape_controls(&format!("{none}{wanted}; {found}")).into_owned()
    }
}

/// A consumer group from whose positions letters are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct LetterGroup<'a> {
    pub(super) name: &'a str,
    /// Whether it goes on from its positions where they are beyond the start.
    pub(super) goes_on: bool,
}

/// What gets the selected letters, until it breaks off.
pub(super) trait OnLetter: FnMut(&Record, &Letter) -> ControlFlow<()> {}

impl<T: FnMut(&Record, &Letter) -> ControlFlow<()>> OnLetter for T {}

/// Gives the selected letters of a topic or a file to `each`. Without a start, or if the group goes on, the letters of a topic are read
/// from the positions of `group` on, if one is named.
///
/// # Errors
/// When the place cannot be read, or holds records and none of them is a dead letter.
pub(super) async fn read_letters<S: Send + 'static>(
    place: &LetterPlace<'_>,
    args: &LetterSelectionArgs,
    group: Option<LetterGroup<'_>>,
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
                check(&read, &format!("file `{}`", path.display())).map(|()| (state, read))
            })
        }
        LetterPlace::Topic(section, name) => {
            let (section, name) = ((**section).clone(), (*name).to_owned());
            let group = group.map(|group| (group.name.to_owned(), group.goes_on));
            let group_name = group.as_ref().map(|(name, _)| name.as_str());
            let mut scanner = Scanner::connect(&section, group_name, false, CONNECT_TIMEOUT).await?;
            tokio::task::spawn_blocking(move || {
                let group = group.as_ref().map(|(name, goes_on)| LetterGroup { name, goes_on: *goes_on });
                let (ranges, left_out) = ranges(&scanner, &section, &name, (start, stop), group)?;
                let read = scan(&mut scanner, &ranges, &selection, |record, letter| each(&mut state, record, letter))?;
                let read = LettersRead { read_before: left_out.read_before, outside: left_out.outside, ..read };
                check(&read, &format!("topic `{name}` of `{}`", section.name)).map(|()| (state, read))
            })
        }
    };
    reading.await.map_err(|error| Failure::new("the dead letters could not be read").because(error))?
}

/// Refuses records none of which is a letter.
fn check(read: &LettersRead, place: &str) -> Result<(), Error> {
    if read.letters > 0 || read.records == 0 {
        return Ok(());
    }
    Err(Error::Refused(Refused {
        what: format!("{place} holds no dead letters"),
        numbers: vec![format!("{} without the headers of a dead letter", counted(read.records, "record"))],
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
    let mut read = LettersRead::new(selection);
    let _ = scanner.read(ranges, |event| {
        let ScanEvent::Record(view) = event else { return ControlFlow::Continue(()) };
        read.records += 1;
        let Some(letter) = Letter::of(view.headers) else { return ControlFlow::Continue(()) };
        if !read.add(&letter, true) {
            return ControlFlow::Continue(());
        }
        each(&view.to_record(), &letter)
    })?;
    Ok(read)
}

/// The offsets that are not read.
#[derive(Default)]
struct UnreadOffsets {
    read_before: u64,
    outside: u64,
}

/// Returns the offsets of a topic between start and stop, and how many there are beside.
fn ranges(
    scanner: &Scanner,
    section: &KafkaSection,
    name: &str,
    (start, stop): (Option<Pos>, Option<Pos>),
    group: Option<LetterGroup<'_>>,
) -> Result<(Vec<ScanRange>, UnreadOffsets), Error> {
    let topics = if let Some(topic) = scanner.topic_to_read(name, Duration::ZERO)? {
        vec![topic]
    } else {
        let named = TopicArgs { names: vec![name.to_owned()], ..TopicArgs::default() };
        named.choose(section, &scanner.topics()?)?
    };
    let partitions: Vec<Partition> =
        topics.iter().flat_map(|topic| (0..topic.partitions).map(|index| Partition { topic: topic.topic, index })).collect();
    let (low, end) = (scanner.ends(&partitions, OffsetSpec::Start)?, scanner.reachable(&partitions)?);
    let committed = group.map(|group| scanner.committed(group.name, &partitions)).transpose()?.unwrap_or_default();
    let now = jiff::Timestamp::now().as_millisecond();
    let mut at_time = HashMap::new();
    for time in [start, stop].into_iter().flatten().filter_map(|pos| pos.time(now)) {
        at_time.insert(time, scanner.ends(&partitions, OffsetSpec::Time(time))?);
    }
    let mut left_out = UnreadOffsets::default();
    let goes_on = group.is_some_and(|group| group.goes_on || start.is_none());
    let mut range = |partition: Partition| {
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
        let (begin, to) = (offset(start, bounds.low)?.max(bounds.low), offset(stop, bounds.end)?.min(bounds.end));
        // A commit beyond the end is of another log: the run, which is told, refuses or goes on as requested.
        let committed = bounds.committed.filter(|committed| goes_on && *committed <= bounds.end);
        let from = committed.map_or(begin, |committed| committed.max(begin));
        let count = |from: i64, to: i64| u64::try_from(to - from).unwrap_or(0);
        left_out.read_before += count(begin, from.min(to));
        left_out.outside += count(bounds.low, begin) + count(to, bounds.end);
        Ok(ScanRange { partition, from, to })
    };
    let ranges: Result<Vec<ScanRange>, Error> = partitions.into_iter().map(&mut range).collect();
    Ok((ranges?, left_out))
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
    let mut found = LettersRead::new(selection);
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
        let is_in_time = |time: i64| start.is_none_or(|start| time >= start) && stop.is_none_or(|stop| time < stop);
        if !found.add(&letter, record.timestamp.is_none_or(is_in_time)) {
            continue;
        }
        // Its place is its line.
        if each(&Record { partition: Partition::new(&shown, 0), offset: number, ..record }, &letter).is_break() {
            break;
        }
    }
    Ok(found)
}

/// Says why nothing is replayed: nothing is selected, everything was read before by this group, or there are no letters.
pub(super) fn say_nothing_to_replay(context: &Context, read: &LettersRead, group: Option<&str>) {
    match group {
        _ if read.records > 0 => say_read(context, read),
        Some(group) if read.read_before > 0 => {
            context.say(&format!("nothing to replay: group `{}` has read every dead letter\n", escape_controls(group)));
        }
        _ if read.outside > 0 => context.say("nothing to replay: no dead letter is between --start and --stop\n"),
        _ => say_read(context, read),
    }
}

/// Returns that letters have later ones: "10 are earlier letters of the same records".
pub(super) fn earlier_letters(count: u64) -> String {
    if count == 1 {
        "1 is an earlier letter of the same record".to_owned()
    } else {
        format!("{} are earlier letters of the same records", grouped(count))
    }
}

/// Says how many records were not letters, and why nothing is shown.
pub(super) fn say_read(context: &Context, read: &LettersRead) {
    let others = read.records - read.letters;
    if read.records == 0 {
        context.say("there are no dead letters\n");
    } else if read.selected == 0 {
        context.say(&format!("{}\n", read.none_selected()));
    }
    if others > 0 {
        let are = if others == 1 { "is" } else { "are" };
        context.say(&format!("{} {are} not dead letters\n", counted(others, "record")));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::record::Headers;

    fn none_selected(selection: &LetterSelection, codes: &[&str]) -> String {
        let mut read = LettersRead::new(selection);
        for code in codes {
            let headers: Headers = [("__connect.errors.topic", "logins"), ("sdl.dlq.code", *code)]
                .map(|(name, value)| (Bytes::copy_from_slice(name.as_bytes()), Some(Bytes::copy_from_slice(value.as_bytes()))))
                .into();
            assert!(!read.add(&Letter::of(&headers).unwrap(), true), "{code}");
        }
        read.none_selected()
    }

    #[test]
    fn a_selection_without_letters_names_what_was_asked_for_and_the_codes_that_there_are() {
        let codes =
            |codes: &[&str]| LetterSelection { codes: codes.iter().map(ToString::to_string).collect(), ..Default::default() };
        assert_eq!(
            none_selected(&codes(&["nosuch"]), &["not_json", "missing_field", "not_json"]),
            "none of 3 dead letters has code `nosuch`; their codes: missing_field, not_json"
        );
        assert_eq!(
            none_selected(&codes(&["one", "two"]), &["not_json"]),
            "the only dead letter does not have code `one` or `two`; its code: not_json"
        );
        let path = LetterSelection { paths: vec!["a.b".to_owned()], ..LetterSelection::default() };
        assert_eq!(none_selected(&path, &["x"; 20]), "none of 20 dead letters has path `a.b`; their codes: x");
        let both = LetterSelection { topics: vec!["t".to_owned()], ..path };
        assert_eq!(none_selected(&both, &["x", "x"]), "none of 2 dead letters is selected; their codes: x");
        let many: Vec<String> = (10..30).map(|number| format!("c{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(none_selected(&codes(&["nosuch"]), &many).ends_with("c18, c19, ..."));
    }
}
