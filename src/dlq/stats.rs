//! Dead letters by cause.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::dlq::letter::{Letter, LetterWriter};
use crate::record::Record;

/// The most causes, topics and flows that are told apart; the letters of further ones are counted together. Headers come from anywhere.
const MAX_DISTINCT: usize = 1000;
/// The most characters of a text that is kept: more than a flow or a topic has.
const MAX_TEXT_CHARS: usize = 400;
/// The cause, the topic and the flow of the letters beyond these.
const OTHER_CAUSES: &str = "(other causes)";
const OTHER_TOPICS: &str = "(other topics)";
const OTHER_FLOWS: &str = "(other flows)";

/// Returns a text of a header as it is kept.
pub(crate) fn kept(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT_CHARS) {
        Some((end, _)) => text[..end].to_owned() + "…",
        None => text.to_owned(),
    }
}

/// Returns the entry of a name, or that of `others` for a name that is too long or one too many.
fn entry<'a, C: Default>(counts: &'a mut BTreeMap<String, C>, name: &str, others: &str) -> &'a mut C {
    let is_short = name.char_indices().nth(MAX_TEXT_CHARS).is_none();
    let name = if is_short && (counts.len() < MAX_DISTINCT || counts.contains_key(name)) { name } else { others };
    counts.entry(name.to_owned()).or_default()
}

/// The letters of one cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CauseGroup {
    pub(crate) code: String,
    pub(crate) path: Option<String>,
    /// Without what differs from letter to letter.
    pub(crate) cause: String,
    pub(crate) count: u64,
    /// The times of the first and the last record, in milliseconds since the Unix epoch.
    pub(crate) first: Option<i64>,
    pub(crate) last: Option<i64>,
    /// Where the newest letter is: `bad-logins/0@42`.
    pub(crate) example: String,
    /// The message of that letter.
    pub(crate) message: Option<String>,
}

/// The counts of a set of dead letters.
#[derive(Clone, Debug, Default)]
pub(crate) struct LetterStats {
    groups: HashMap<(String, Option<String>, String), CauseGroup>,
    pub(crate) letters: u64,
    pub(crate) writers: BTreeSet<LetterWriter>,
    /// The original topics, each with its letters and the highest partition that one names.
    pub(crate) topics: BTreeMap<String, (u64, i32)>,
    /// The flows of sdl whose letters these are, and how many of each.
    pub(crate) flows: BTreeMap<String, u64>,
}

impl LetterStats {
    pub(crate) fn add(&mut self, record: &Record, letter: &Letter) {
        self.letters += 1;
        self.writers.insert(letter.writer);
        if let Some((topic, index, _)) = letter.coordinates() {
            let (count, highest) = entry(&mut self.topics, topic, OTHER_TOPICS);
            *count += 1;
            *highest = index.max(*highest);
        }
        if let Some(flow) = &letter.flow {
            *entry(&mut self.flows, flow, OTHER_FLOWS) += 1;
        }
        let mut key = (kept(letter.code()), letter.path.as_deref().map(kept), letter.cause());
        if self.groups.len() >= MAX_DISTINCT && !self.groups.contains_key(&key) {
            key = (String::new(), None, OTHER_CAUSES.to_owned());
        }
        let time = letter.timestamp.or(record.timestamp);
        let group = self.groups.entry(key).or_insert_with_key(|(code, path, cause)| CauseGroup {
            code: code.clone(),
            path: path.clone(),
            cause: cause.clone(),
            count: 0,
            first: time,
            last: time,
            example: String::new(),
            message: None,
        });
        group.count += 1;
        group.first = group.first.into_iter().chain(time).min();
        group.last = group.last.into_iter().chain(time).max();
        group.example = record.to_string();
        group.message = letter.message.as_deref().map(kept);
    }

    /// Returns the topics that the letters come from, each with the highest partition that one names; not those beyond the first ones.
    pub(crate) fn origins(&self) -> impl Iterator<Item = (&str, i32)> {
        let named = self.topics.iter().filter(|(topic, _)| topic.as_str() != OTHER_TOPICS);
        named.map(|(topic, (_, highest))| (topic.as_str(), *highest))
    }

    /// Returns the number of letters that come from a topic; as long as it is not among the first ones, that of those which may.
    pub(crate) fn count_from(&self, topic: &str) -> u64 {
        self.topics.get(topic).or_else(|| self.topics.get(OTHER_TOPICS)).map_or(0, |(count, _)| *count)
    }

    /// Returns the causes, the most frequent first.
    pub(crate) fn causes(&self) -> Vec<&CauseGroup> {
        let mut causes: Vec<&CauseGroup> = self.groups.values().collect();
        causes.sort_by(|one, other| {
            let order = |group: &CauseGroup| (group.code.clone(), group.path.clone(), group.cause.clone());
            other.count.cmp(&one.count).then_with(|| order(one).cmp(&order(other)))
        });
        causes
    }

    /// Returns the number of letters of each code, the most frequent first.
    pub(crate) fn codes(&self) -> Vec<(String, u64)> {
        let mut codes: BTreeMap<&str, u64> = BTreeMap::new();
        for group in self.groups.values() {
            let code = if group.code.is_empty() { OTHER_CAUSES } else { &group.code };
            *codes.entry(code).or_default() += group.count;
        }
        let mut codes: Vec<(String, u64)> = codes.into_iter().map(|(code, count)| (code.to_owned(), count)).collect();
        codes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        codes
    }

    /// Returns the times of the first and the last record.
    pub(crate) fn times(&self) -> (Option<i64>, Option<i64>) {
        let of = |time: fn(&CauseGroup) -> Option<i64>| self.groups.values().filter_map(time);
        (of(|group| group.first).min(), of(|group| group.last).max())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::record::{Headers, Partition};

    fn add(stats: &mut LetterStats, offset: i64, time: Option<i64>, code: &str, message: &str) {
        let headers: Headers = [
            ("__connect.errors.topic", "logins"),
            ("__connect.errors.partition", "2"),
            ("__connect.errors.offset", "5"),
            ("__connect.errors.exception.message", message),
            ("sdl.dlq.code", code),
            ("sdl.dlq.flow", "sink-mongo mongodb/a.b"),
        ]
        .map(|(name, value)| (Bytes::from_static(name.as_bytes()), Some(Bytes::copy_from_slice(value.as_bytes()))))
        .into();
        let partition = Partition::new("bad", 0);
        let record = Record { partition, offset, timestamp: time, key: None, value: None, headers };
        stats.add(&record, &Letter::of(&record.headers).unwrap());
    }

    #[test]
    fn letters_are_counted_by_cause_with_times_and_an_example() {
        let mut stats = LetterStats::default();
        add(&mut stats, 0, Some(30), "rare", "once");
        for (offset, time) in [(1, None), (2, Some(20)), (3, Some(10))] {
            add(&mut stats, offset, time, "often", &format!("number {offset}"));
        }
        let causes = stats.causes();
        let shown: Vec<_> = causes.iter().map(|group| (group.code.as_str(), group.cause.as_str(), group.count)).collect();
        assert_eq!(shown, [("often", "number <n>", 3), ("rare", "once", 1)]);
        let often = causes[0];
        assert_eq!((often.first, often.last, often.example.as_str()), (Some(10), Some(20), "bad/0@3"));
        assert_eq!(often.message.as_deref(), Some("number 3"));
        assert_eq!((stats.letters, stats.times()), (4, (Some(10), Some(30))));
        assert_eq!(stats.codes(), [("often".to_owned(), 3), ("rare".to_owned(), 1)]);
        assert_eq!(stats.topics["logins"], (4, 2));
        assert_eq!(stats.flows["sink-mongo mongodb/a.b"], 4);
    }

    #[test]
    fn memory_stays_bounded_when_every_letter_has_its_own_cause() {
        let mut stats = LetterStats::default();
        let word = |number: usize| {
            let letter = |place: u32| char::from(b'g' + u8::try_from(number / 10_usize.pow(place) % 10).unwrap());
            (0..5).map(letter).collect::<String>()
        };
        for number in 0..MAX_DISTINCT + 500 {
            add(&mut stats, 0, None, "c", &word(number));
        }
        let causes = stats.causes();
        assert_eq!(causes.len(), MAX_DISTINCT + 1);
        assert_eq!((causes[0].cause.as_str(), causes[0].count), (OTHER_CAUSES, 500));
        assert_eq!(causes.iter().map(|group| group.count).sum::<u64>(), stats.letters);
    }

    #[test]
    fn memory_stays_bounded_whatever_the_headers_hold() {
        let mut stats = LetterStats::default();
        let long = "é".repeat(1_000);
        for number in 0..MAX_DISTINCT + 500 {
            let text = |name: &str| format!("{name}{number}{long}");
            let (topic, flow, code, path) = (format!("t{number}"), text("sink-es es/"), text("c"), text("p"));
            let headers: Headers = [
                ("__connect.errors.topic", topic.as_str()),
                ("__connect.errors.partition", "2"),
                ("__connect.errors.offset", "5"),
                ("__connect.errors.exception.message", flow.as_str()),
                ("sdl.dlq.code", code.as_str()),
                ("sdl.dlq.run", "r"),
                ("sdl.dlq.path", path.as_str()),
                ("sdl.dlq.flow", flow.as_str()),
            ]
            .map(|(name, value)| (Bytes::from_static(name.as_bytes()), Some(Bytes::copy_from_slice(value.as_bytes()))))
            .into();
            let record =
                Record { partition: Partition::new("bad", 0), offset: 0, timestamp: None, key: None, value: None, headers };
            stats.add(&record, &Letter::of(&record.headers).unwrap());
        }
        let texts = stats.groups.values().flat_map(|group| {
            [Some(group.code.as_str()), group.path.as_deref(), Some(group.cause.as_str()), group.message.as_deref()]
        });
        assert!(
            texts.flatten().chain(stats.flows.keys().map(String::as_str)).all(|text| text.chars().count() <= MAX_TEXT_CHARS + 1)
        );
        assert_eq!((stats.topics.len(), stats.flows.len(), stats.groups.len()), (MAX_DISTINCT + 1, 1, MAX_DISTINCT + 1));
        assert_eq!(stats.topics.values().map(|(count, _)| count).sum::<u64>(), stats.letters);
        assert_eq!(stats.flows[OTHER_FLOWS], stats.letters, "a flow that is cut would name another destination");
        assert_eq!(stats.origins().count(), MAX_DISTINCT);
        assert_eq!((stats.count_from("t0"), stats.count_from("logins")), (1, 500), "it may be among the others");
    }
}
