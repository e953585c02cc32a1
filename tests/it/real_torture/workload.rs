//! Records that are hard to keep as they are. Each differs from every other one of its topic.

use super::scenario::{Command, Scenario};
use crate::harness::{Content, Dice};

/// Makes the records of a scenario, numbered from 0.
pub(super) struct Workload {
    next: u64,
    began: i64,
    /// Timestamps do not identify records.
    replaced_timestamps: bool,
    needs_key: bool,
    json: bool,
    /// Objects hold nothing that a document store takes for another type than before.
    plain: bool,
    max_message_bytes: usize,
}

impl Workload {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis();
        Self {
            next: 0,
            began: i64::try_from(now).expect("a small number") - 3_600_000,
            replaced_timestamps: scenario.log_append_time,
            needs_key: scenario.compacted,
            json: scenario.json,
            plain: scenario.command != Command::Replicate,
            max_message_bytes: scenario.max_message_bytes,
        }
    }

    /// The topic begins anew, without the settings of the one before.
    pub(super) fn restart(&mut self) {
        (self.replaced_timestamps, self.needs_key) = (false, false);
    }

    /// Returns one more record. A large one fills a batch of its own up to the source's limit, or nearly.
    pub(super) fn record(&mut self, dice: &mut Dice, large: bool) -> Content {
        let n = self.next;
        self.next += 1;
        let named = |text: &str| format!("{text}{n}").into_bytes();
        let key = match dice.below(6) {
            _ if self.needs_key => Some(format!("k{}", n % 20).into_bytes()),
            0 => None,
            1 => Some(Vec::new()),
            2 => Some(dice.bytes(9)),
            3 => Some([b"\0\xff".to_vec(), named("long").repeat(20)].concat()),
            _ => Some(format!("k{}", n % 40).into_bytes()),
        };
        let mut headers = Vec::new();
        if self.replaced_timestamps {
            headers.push(("n".to_owned(), Some(named(""))));
        }
        for _ in 0..dice.below(4) {
            let name = dice.pick(&["", "same", "same", "näme 🦀", "a.very-long_name.of a header, with blanks = and : signs"]);
            let value = match dice.below(4) {
                0 => None,
                1 => Some(Vec::new()),
                2 => Some(dice.bytes(20)),
                _ => Some(named("v")),
            };
            headers.push((name.to_owned(), value));
        }
        let value = match dice.below(6) {
            _ if self.json => Some(self.object(dice, n)),
            0 => None,
            1 => Some(Vec::new()),
            2 => Some(dice.bytes(60)),
            3 => Some(b"\0\0\0\0\x07framed".to_vec()),
            _ => Some(named("{not json ").repeat(3)),
        };
        let timestamp = Some(self.began + i64::try_from(n).expect("a small number") * if n.is_multiple_of(7) { -1 } else { 3 });
        let mut content = Content { timestamp, key, value, headers };
        if large {
            self.enlarge(&mut content, dice);
        }
        content
    }

    fn object(&self, dice: &mut Dice, n: u64) -> Vec<u8> {
        let more = dice.pick(&[
            "",
            ", \"text\": \"näme \\\"quoted\\\" \\/\"",
            ",  \"x\" : 1e3",
            ", \"big\": 123456789012345678901234567890",
            ", \"a\": {\"b\": [1, null, {\"c\": \"\\ud83e\\udd80 \\u0000\"}]}",
        ]);
        let more = if self.plain && !more.contains("text") { "" } else { more };
        format!("{{\"n\": {n}{more}}}").into_bytes()
    }

    /// Makes a record as large as its topic takes, or a few bytes less.
    fn enlarge(&self, content: &mut Content, dice: &mut Dice) {
        let limit = self.max_message_bytes - dice.pick(&[0, 0, 1, 17]);
        let incompressible = dice.one_in(2);
        let mut missing = limit.saturating_sub(batch_bytes(content));
        // The length of a length may grow by a byte or two.
        while missing > 0 {
            let padding = if incompressible && !self.json { dice.bytes(missing) } else { vec![b'x'; missing] };
            let mut enlarged = content.clone();
            let value = enlarged.value.take().unwrap_or_default();
            enlarged.value = Some(if self.json {
                let text = String::from_utf8(value).expect("JSON is text");
                let padding = String::from_utf8(padding).expect("ASCII");
                format!("{},\"p\":\"{padding}\"}}", text.strip_suffix('}').expect("an object")).into_bytes()
            } else {
                [value, padding].concat()
            });
            let size = batch_bytes(&enlarged);
            if size <= limit {
                *content = enlarged;
                return;
            }
            missing = missing.saturating_sub(size - limit);
        }
    }
}

/// Returns the size of a batch that holds only this record, not compressed.
pub(super) fn batch_bytes(content: &Content) -> usize {
    const BATCH_HEADER: usize = 61;
    let field = |bytes: Option<&[u8]>| bytes.map_or(1, |bytes| varint(bytes.len()) + bytes.len());
    let headers = |(name, value): &(String, Option<Vec<u8>>)| field(Some(name.as_bytes())) + field(value.as_deref());
    let body = 3
        + field(content.key.as_deref())
        + field(content.value.as_deref())
        + varint(content.headers.len())
        + content.headers.iter().map(headers).sum::<usize>();
    BATCH_HEADER + varint(body) + body
}

/// Returns the size of a length in Kafka's encoding.
fn varint(number: usize) -> usize {
    let zigzag = number << 1;
    (usize::BITS - zigzag.leading_zeros()).div_ceil(7).max(1) as usize
}

#[test]
fn the_size_of_a_batch_is_that_of_the_protocol() {
    assert_eq!(batch_bytes(&Content::default()), 61 + 1 + 6);
    let content = Content { value: Some(vec![0; 64]), ..Content::default() };
    assert_eq!(batch_bytes(&content), 61 + 2 + 6 + 65);
}
