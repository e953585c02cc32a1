//! Dead letters by cause.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::dlq::letter::{Letter, LetterWriter};
use crate::record::Record;

/// The most causes that are told apart; the letters of further ones are counted together.
const MAX_CAUSES: usize = 1000;
/// The cause of the letters beyond these.
const OTHER_CAUSES: &str = "(other causes)";

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
        if let Some((partition, _)) = letter.origin() {
            let (count, highest) = self.topics.entry(partition.topic.name().to_owned()).or_default();
            *count += 1;
            *highest = partition.index.max(*highest);
        }
        if let Some(flow) = &letter.flow {
            *self.flows.entry(flow.clone()).or_default() += 1;
        }
        let mut key = (letter.code().to_owned(), letter.path.clone(), letter.cause());
        if self.groups.len() >= MAX_CAUSES && !self.groups.contains_key(&key) {
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
        group.message.clone_from(&letter.message);
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
        for number in 0..MAX_CAUSES + 500 {
            add(&mut stats, 0, None, "c", &word(number));
        }
        let causes = stats.causes();
        assert_eq!(causes.len(), MAX_CAUSES + 1);
        assert_eq!((causes[0].cause.as_str(), causes[0].count), (OTHER_CAUSES, 500));
        assert_eq!(causes.iter().map(|group| group.count).sum::<u64>(), stats.letters);
    }
}
