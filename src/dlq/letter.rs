//! What the headers of a dead letter say: those of sdl, Kafka Connect, Spring and Kafka Streams.

use bytes::Bytes;

use crate::dlq::cause::normalised;
use crate::pipeline::{REPLAYS_HEADER, truncated_header};
use crate::record::{HeaderList, Headers, Partition, Record, Topic};

/// The prefixes of the headers that the writers add.
const CONNECT: &str = "__connect.errors.";
const SDL: &str = "sdl.dlq.";
const SPRING: &str = "kafka_dlt-";
const STREAMS: &str = "__streams.errors.";

/// The program that wrote a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LetterWriter {
    Sdl,
    Connect,
    Spring,
    Streams,
}

impl LetterWriter {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sdl => "sdl",
            Self::Connect => "Kafka Connect",
            Self::Spring => "Spring",
            Self::Streams => "Kafka Streams",
        }
    }
}

/// What the headers of a dead letter say about its last failure. A text that is not UTF-8 is kept as far as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) writer: LetterWriter,
    /// The coordinates of the original record.
    pub(crate) topic: Option<String>,
    pub(crate) partition: Option<i32>,
    pub(crate) offset: Option<i64>,
    /// The timestamp of the original record, where a header has it; else the letter's own is that of the record.
    pub(crate) timestamp: Option<i64>,
    pub(crate) stage: Option<String>,
    /// The class of the exception; of sdl `sdl.` and the code.
    pub(crate) class: Option<String>,
    pub(crate) message: Option<String>,
    /// Only of sdl, as the following ones.
    code: Option<String>,
    pub(crate) path: Option<String>,
    pub(crate) attempts: Option<u32>,
    pub(crate) run: Option<String>,
    pub(crate) flow: Option<String>,
    /// How often the letter was replayed.
    pub(crate) replays: u32,
    /// The codes of the failures before the last one, oldest first.
    pub(crate) earlier: Vec<String>,
}

/// The headers of one family, the last value of each name, and its place among all headers.
#[derive(Default)]
struct Family {
    /// One past the place of the last header that shows its writer; 0 without one.
    last: usize,
    /// Name, value and place.
    values: Vec<(String, Vec<u8>, usize)>,
}

impl Family {
    fn put(&mut self, name: &str, value: &[u8], place: usize) {
        self.values.retain(|(known, ..)| known != name);
        self.values.push((name.to_owned(), value.to_owned(), place));
    }

    fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.values.iter().find(|(known, ..)| known == name).map(|(_, value, _)| value.as_slice())
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.values.iter().find(|(known, ..)| known == name).map(|(.., place)| *place)
    }

    fn text(&self, name: &str) -> Option<String> {
        self.bytes(name).map(|value| String::from_utf8_lossy(value).into_owned()).filter(|text| !text.is_empty())
    }

    fn number<N: std::str::FromStr>(&self, name: &str) -> Option<N> {
        std::str::from_utf8(self.bytes(name)?).ok()?.trim().parse().ok()
    }

    /// Returns a number that Spring writes in big-endian binary, and its imitators as text. Digits in ASCII would be a partition
    /// above 800 million or an offset above 3 * 10^18.
    fn binary<const WIDTH: usize>(&self, name: &str, read: impl Fn([u8; WIDTH]) -> i64) -> Option<i64> {
        let bytes = self.bytes(name)?;
        if bytes.iter().all(u8::is_ascii_digit) && !bytes.is_empty() {
            return self.number(name);
        }
        <[u8; WIDTH]>::try_from(bytes).ok().map(read)
    }
}

/// Returns whether a header of this name, without its prefix, is read. A message may hold any number of others.
fn is_read(name: &str) -> bool {
    matches!(
        name,
        "topic"
            | "partition"
            | "offset"
            | "stage"
            | "exception.class.name"
            | "exception.message"
            | "code"
            | "path"
            | "attempts"
            | "run"
            | "flow"
            | "replays"
            | "original-topic"
            | "original-partition"
            | "original-offset"
            | "original-timestamp"
            | "exception-cause-fqcn"
            | "exception-fqcn"
            | "exception-message"
            | "exception"
            | "message"
    )
}

impl Letter {
    /// Returns what the headers say; `None` if they are not those of a dead letter. Where several programs have written some, the
    /// last one counts, and of a repeated name the last value.
    pub(crate) fn of(headers: &dyn HeaderList) -> Option<Self> {
        let [mut connect, mut sdl, mut spring, mut streams] = [(); 4].map(|()| Family::default());
        let (mut place, mut classes) = (0, Vec::new());
        headers.each(&mut |name, value| {
            place += 1;
            let (Ok(name), Some(value)) = (std::str::from_utf8(name), value) else { return };
            let families = [(CONNECT, &mut connect), (SDL, &mut sdl), (SPRING, &mut spring), (STREAMS, &mut streams)];
            for (prefix, family) in families {
                let Some(name) = name.strip_prefix(prefix) else { continue };
                // The counter alone is on records that were replayed.
                if !(prefix == SDL && name == "replays") {
                    family.last = place;
                }
                if matches!(name, "exception.class.name" | "exception-fqcn" | "exception") {
                    classes.push(String::from_utf8_lossy(value).into_owned());
                }
                if is_read(name) {
                    family.put(name, value, place);
                }
            }
        });
        let writer = [
            (connect.last, LetterWriter::Connect),
            (sdl.last, LetterWriter::Sdl),
            (spring.last, LetterWriter::Spring),
            (streams.last, LetterWriter::Streams),
        ];
        let (_, writer) = writer.into_iter().filter(|(last, _)| *last > 0).max_by_key(|(last, _)| *last)?;
        classes.pop();
        let earlier = classes.iter().map(|class| short_class(class).to_owned()).collect();
        // A counter beyond any number was not counted by a replay: it is not a reason to begin again.
        let replays = sdl.number::<u64>("replays").map_or(0, |count| u32::try_from(count).unwrap_or(u32::MAX));
        let letter = match writer {
            LetterWriter::Sdl | LetterWriter::Connect => of_connect(writer, &connect, &sdl),
            LetterWriter::Spring => of_spring(&spring),
            LetterWriter::Streams => of_streams(&streams),
        };
        Some(Self { replays, earlier, ..letter })
    }

    fn empty(writer: LetterWriter) -> Self {
        Self {
            writer,
            topic: None,
            partition: None,
            offset: None,
            timestamp: None,
            stage: None,
            class: None,
            message: None,
            code: None,
            path: None,
            attempts: None,
            run: None,
            flow: None,
            replays: 0,
            earlier: Vec::new(),
        }
    }

    /// Returns the code of sdl, or else the name of the exception without its package.
    pub(crate) fn code(&self) -> &str {
        self.code.as_deref().or(self.class.as_deref().map(short_class)).unwrap_or("unknown")
    }

    /// Returns the message without what differs from letter to letter: numbers, quoted values, ids.
    pub(crate) fn cause(&self) -> String {
        normalised(self.message.as_deref().or(self.class.as_deref()).unwrap_or_default())
    }

    /// Returns topic, partition and offset of the original record, if the letter names all three.
    pub(crate) fn coordinates(&self) -> Option<(&str, i32, i64)> {
        let partition = self.partition.filter(|partition| *partition >= 0)?;
        let topic = self.topic.as_deref().filter(|topic| Topic::is_valid_name(topic))?;
        Some((topic, partition, self.offset.filter(|offset| *offset >= 0)?))
    }

    /// Returns the partition of the original record and its offset, if the letter names all three coordinates.
    pub(crate) fn origin(&self) -> Option<(Partition, i64)> {
        let (topic, partition, offset) = self.coordinates()?;
        Some((Partition::new(topic, partition), offset))
    }

    /// Returns the original record of the letter `record`: with its own coordinates and timestamp, and of the headers of dead letters
    /// only the counter of replays, this one included. Without all coordinates, those of the letter stay.
    pub(crate) fn original(&self, record: &Record) -> Record {
        let (partition, offset) = self.origin().unwrap_or((record.partition, record.offset));
        let is_own = |name: &[u8]| {
            let prefixes = [CONNECT, SDL, SPRING, STREAMS];
            !prefixes.iter().any(|prefix| name.starts_with(prefix.as_bytes()))
        };
        let mut headers: Headers = record.headers.iter().filter(|(name, _)| is_own(name)).cloned().collect();
        headers.push(replays_header(self.replays.saturating_add(1)));
        let timestamp = self.timestamp.or(record.timestamp);
        Record { partition, offset, timestamp, headers, ..record.clone() }
    }
}

fn of_connect(writer: LetterWriter, connect: &Family, sdl: &Family) -> Letter {
    let letter = Letter {
        topic: connect.text("topic"),
        partition: connect.number("partition"),
        offset: connect.number("offset"),
        stage: connect.text("stage"),
        class: connect.text("exception.class.name"),
        message: connect.text("exception.message"),
        ..Letter::empty(writer)
    };
    if writer == LetterWriter::Connect {
        return letter;
    }
    Letter {
        code: sdl.text("code"),
        // The last failure of a letter that failed again may have none.
        path: sdl.text("path").filter(|_| sdl.place("path") > sdl.place("run")),
        attempts: sdl.number("attempts"),
        run: sdl.text("run"),
        flow: sdl.text("flow"),
        ..letter
    }
}

fn of_spring(spring: &Family) -> Letter {
    Letter {
        topic: spring.text("original-topic"),
        partition: spring
            .binary::<4>("original-partition", |bytes| i32::from_be_bytes(bytes).into())
            .and_then(|partition| i32::try_from(partition).ok()),
        offset: spring.binary::<8>("original-offset", i64::from_be_bytes),
        timestamp: spring.binary::<8>("original-timestamp", i64::from_be_bytes).filter(|time| *time >= 0),
        // The exception itself is that of the listener's container.
        class: spring.text("exception-cause-fqcn").or_else(|| spring.text("exception-fqcn")),
        message: spring.text("exception-message"),
        ..Letter::empty(LetterWriter::Spring)
    }
}

fn of_streams(streams: &Family) -> Letter {
    Letter {
        topic: streams.text("topic"),
        partition: streams.number("partition"),
        offset: streams.number("offset"),
        class: streams.text("exception"),
        message: streams.text("message"),
        ..Letter::empty(LetterWriter::Streams)
    }
}

/// Returns the name of a class without its package.
fn short_class(class: &str) -> &str {
    class.rsplit(['.', '$']).next().unwrap_or(class)
}

/// Returns a checksum of what the first program that wrote a letter of the record says of its failure: a letter that failed again has
/// the headers of the earlier one in front.
pub(crate) fn first_failure(headers: &dyn HeaderList) -> u32 {
    let (mut first, mut seen, mut crc) = (None, Vec::new(), crc32fast::Hasher::new());
    headers.each(&mut |name, value| {
        let (Ok(name), Some(value)) = (std::str::from_utf8(name), value) else { return };
        let of_family = |prefix: &'static str| Some((prefix, name.strip_prefix(prefix)?));
        let Some((prefix, short)) = [CONNECT, SDL, SPRING, STREAMS].into_iter().find_map(of_family) else { return };
        // The counter alone is on records that were replayed.
        let is_counter = prefix == SDL && short == "replays";
        if !is_counter && *first.get_or_insert(prefix) == prefix && is_read(short) && !seen.iter().any(|known| known == short) {
            seen.push(short.to_owned());
            for part in [short.as_bytes(), value] {
                crc.update(&(part.len() as u64).to_le_bytes());
                crc.update(part);
            }
        }
    });
    crc.finalize()
}

fn replays_header(replays: u32) -> (Bytes, Option<Bytes>) {
    (Bytes::from_static(REPLAYS_HEADER.as_bytes()), Some(truncated_header(&replays.to_string())))
}

/// Returns the letter `record` before the cause of its new failure is added: with the coordinates and the timestamp of the original
/// record, all headers, and one more replay.
pub(crate) fn failed_again(record: &Record) -> Record {
    let Some(letter) = Letter::of(&record.headers) else { return record.clone() };
    let original = letter.original(record);
    let mut headers: Headers =
        record.headers.iter().filter(|(name, _)| name.as_ref() != REPLAYS_HEADER.as_bytes()).cloned().collect();
    headers.push(replays_header(letter.replays.saturating_add(1)));
    Record { headers, ..original }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::pipeline::{DeadLetterCause, FailureStage, Reason, dead_letter};

    fn headers(of: &[(&str, &[u8])]) -> Headers {
        of.iter().map(|(name, value)| (Bytes::copy_from_slice(name.as_bytes()), Some(Bytes::copy_from_slice(value)))).collect()
    }

    fn letter_record(headers: Headers) -> Record {
        Record {
            partition: Partition::new("bad-logins", 0),
            offset: 7,
            timestamp: Some(99),
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from_static(b"v")),
            headers,
        }
    }

    fn written(record: &Record, reason: &Reason) -> Record {
        let cause = DeadLetterCause {
            run: "run-1",
            flow: "sink-es elasticsearch/logins",
            stage: FailureStage::Delivery,
            attempts: 3,
            reason,
        };
        dead_letter(record, &cause)
    }

    #[test]
    fn a_letter_of_sdl_names_its_origin_and_its_cause() {
        let original = Record { partition: Partition::new("logins", 3), offset: 42, ..letter_record(Headers::new()) };
        let reason = Reason::new("wrong_type", "`timestamp` is text").at("timestamp").detail("Preview: 'abc'");
        let letter = Letter::of(&written(&original, &reason).headers).unwrap();
        assert_eq!(letter.writer, LetterWriter::Sdl);
        assert_eq!(letter.origin(), Some((original.partition, 42)));
        assert_eq!((letter.code(), letter.path.as_deref(), letter.attempts), ("wrong_type", Some("timestamp"), Some(3)));
        assert_eq!(letter.message.as_deref(), Some("`timestamp` is text: Preview: 'abc'"));
        assert_eq!(letter.flow.as_deref(), Some("sink-es elasticsearch/logins"));
        assert_eq!((letter.stage.as_deref(), letter.replays), (Some("TASK_PUT"), 0));
    }

    #[test]
    fn the_original_record_is_restored_but_for_the_counter_of_replays() {
        let own = headers(&[("trace", b"a"), ("trace", b"b")]);
        let original = Record { partition: Partition::new("logins", 3), offset: 42, ..letter_record(own.clone()) };
        let letter =
            Record { partition: Partition::new("bad-logins", 0), offset: 0, ..written(&original, &Reason::new("c", "m")) };
        let restored = Letter::of(&letter.headers).unwrap().original(&letter);
        let counted = [own, headers(&[("sdl.dlq.replays", b"1")])].concat();
        assert_eq!(restored, Record { headers: counted, ..original });
        assert_eq!(Letter::of(&restored.headers), None, "a replayed record is not a letter");
        let again = Letter::of(&written(&restored, &Reason::new("c", "m")).headers).unwrap();
        assert_eq!(again.replays, 1, "one that fails in its own topic is counted on");
    }

    #[test]
    fn a_letter_of_kafka_connect_is_understood() {
        let letter = Letter::of(&headers(&[
            ("trace", b"a"),
            ("__connect.errors.topic", b"shop-orders"),
            ("__connect.errors.partition", b"1"),
            ("__connect.errors.offset", b"200"),
            ("__connect.errors.connector.name", b"file_sink_01"),
            ("__connect.errors.task.id", b"0"),
            ("__connect.errors.stage", b"VALUE_CONVERTER"),
            ("__connect.errors.class.name", b"org.apache.kafka.connect.json.JsonConverter"),
            ("__connect.errors.exception.class.name", b"org.apache.kafka.connect.errors.DataException"),
            (
                "__connect.errors.exception.message",
                b"Converting byte[] to Kafka Connect data failed due to serialization error: ",
            ),
            ("__connect.errors.exception.stacktrace", b"org.apache..."),
        ]))
        .unwrap();
        assert_eq!(letter.writer, LetterWriter::Connect);
        assert_eq!(letter.origin(), Some((Partition::new("shop-orders", 1), 200)));
        assert_eq!((letter.code(), letter.stage.as_deref()), ("DataException", Some("VALUE_CONVERTER")));
        assert_eq!((letter.path, letter.attempts, letter.replays), (None, None, 0));
    }

    #[test]
    fn headers_that_no_program_writes_cost_little_and_promise_nothing() {
        let many: Vec<String> = (0..100_000).map(|number| format!("sdl.dlq.{number}")).collect();
        let mut hostile: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), b"".as_slice())).collect();
        hostile.extend([
            ("sdl.dlq.replays", b"4294967296".as_slice()),
            ("__connect.errors.topic", b"../x"),
            ("__connect.errors.partition", b"1"),
            ("__connect.errors.offset", b"2"),
        ]);
        let letter = Letter::of(&headers(&hostile)).unwrap();
        assert_eq!((letter.replays, letter.origin()), (u32::MAX, None), "it is not counted anew, and no topic has this name");
    }

    #[test]
    fn numbers_of_spring_are_big_endian_binary_or_text() {
        let of = |partition: &[u8], offset: &[u8], time: &[u8]| {
            Letter::of(&headers(&[
                ("kafka_dlt-original-topic", b"orders"),
                ("kafka_dlt-original-partition", partition),
                ("kafka_dlt-original-offset", offset),
                ("kafka_dlt-original-timestamp", time),
                ("kafka_dlt-original-timestamp-type", b"CreateTime"),
                ("kafka_dlt-exception-fqcn", b"org.springframework.kafka.listener.ListenerExecutionFailedException"),
                ("kafka_dlt-exception-cause-fqcn", b"java.lang.IllegalStateException"),
                ("kafka_dlt-exception-message", b"no such user 4711"),
            ]))
            .unwrap()
        };
        let binary = of(&7_i32.to_be_bytes(), &5_000_000_000_i64.to_be_bytes(), &1_700_000_000_000_i64.to_be_bytes());
        assert_eq!(binary.writer, LetterWriter::Spring);
        assert_eq!(binary.origin(), Some((Partition::new("orders", 7), 5_000_000_000)));
        assert_eq!((binary.timestamp, binary.code()), (Some(1_700_000_000_000), "IllegalStateException"));
        assert_eq!(of(b"1234", b"12345678", b"1700000000000").origin(), Some((Partition::new("orders", 1234), 12_345_678)));
        assert_eq!(of(b"\x01\x02", b"", b"").origin(), None, "a width that no number has");
        let letter = letter_record(Headers::new());
        assert_eq!(binary.original(&letter).timestamp, Some(1_700_000_000_000), "a letter of Spring has a time of its own");
    }

    #[test]
    fn a_letter_of_kafka_streams_is_understood() {
        let letter = Letter::of(&headers(&[
            ("__streams.errors.exception", b"org.apache.kafka.common.errors.SerializationException"),
            ("__streams.errors.message", b"Size of data received by IntegerDeserializer is not 4"),
            ("__streams.errors.stacktrace", b"..."),
            ("__streams.errors.topic", b"clicks"),
            ("__streams.errors.partition", b"0"),
            ("__streams.errors.offset", b"12"),
        ]))
        .unwrap();
        assert_eq!((letter.writer, letter.code()), (LetterWriter::Streams, "SerializationException"));
        assert_eq!(letter.origin(), Some((Partition::new("clicks", 0), 12)));
    }

    #[test]
    fn headers_of_other_programs_are_not_a_letter() {
        assert_eq!(Letter::of(&Headers::new()), None);
        let other = headers(&[("sdl-origin", b"x"), ("errors", b"y"), ("sdl.dlq.replays", b"2"), ("__connect.errors", b"z")]);
        assert_eq!(Letter::of(&other), None);
    }

    #[test]
    fn a_letter_that_failed_again_keeps_its_origin_and_its_history() {
        let original = Record { partition: Partition::new("logins", 3), offset: 42, ..letter_record(Headers::new()) };
        let first = written(&original, &Reason::new("first", "m").at("a.b"));
        let stored = Record { partition: Partition::new("bad-logins", 0), offset: 0, ..first };
        let second = written(&failed_again(&stored), &Reason::new("second", "m"));
        let letter = Letter::of(&second.headers).unwrap();
        assert_eq!((letter.code(), letter.earlier.as_slice(), letter.replays), ("second", &["first".to_owned()][..], 1));
        assert_eq!(letter.origin(), Some((original.partition, 42)), "not that of the letter");
        assert_eq!(letter.path, None, "that of the first failure");
        let third = Letter::of(&written(&failed_again(&second), &Reason::new("third", "m")).headers).unwrap();
        assert_eq!((third.earlier.len(), third.replays), (2, 2));
    }

    #[test]
    fn the_program_that_wrote_last_counts() {
        let original = Record { partition: Partition::new("logins", 3), offset: 42, ..letter_record(Headers::new()) };
        let mut letter = written(&original, &Reason::new("ours", "m"));
        letter.headers.extend(headers(&[
            ("__connect.errors.topic", b"bad-logins"),
            ("__connect.errors.partition", b"0"),
            ("__connect.errors.offset", b"5"),
            ("__connect.errors.exception.class.name", b"a.b.TheirException"),
        ]));
        let read = Letter::of(&letter.headers).unwrap();
        assert_eq!((read.writer, read.code(), read.attempts), (LetterWriter::Connect, "TheirException", None));
        assert_eq!(read.origin(), Some((Partition::new("bad-logins", 0), 5)));
    }

    #[test]
    fn without_all_coordinates_those_of_the_letter_stay() {
        let letter = letter_record(headers(&[("__connect.errors.topic", b"orders"), ("__connect.errors.partition", b"-1")]));
        let original = Letter::of(&letter.headers).unwrap().original(&letter);
        assert_eq!((original.partition, original.offset), (letter.partition, letter.offset));
    }

    proptest! {
        #[test]
        fn headers_of_any_form_are_a_letter_or_not(
            names in vec(
                ("(__connect.errors.|sdl.dlq.|kafka_dlt-original-|__streams.errors.|)(topic|partition|offset|timestamp|replays|code|x)",
                 option::of(vec(any::<u8>(), 0..12))),
                0..12,
            ),
        ) {
            let headers: Headers =
                names.into_iter().map(|(name, value)| (Bytes::from(name), value.map(Bytes::from))).collect();
            let record = letter_record(headers);
            if let Some(letter) = Letter::of(&record.headers) {
                let original = letter.original(&record);
                prop_assert_eq!(Letter::of(&original.headers), None);
                prop_assert!(original.partition.index >= 0 && original.offset >= 0);
                prop_assert_eq!((&original.key, &original.value), (&record.key, &record.value));
                prop_assert_eq!(Letter::of(&failed_again(&record).headers).unwrap().replays, letter.replays.saturating_add(1));
            }
        }

        #[test]
        fn every_letter_of_sdl_leads_back_to_its_record(
            index in 0..i32::MAX,
            offset in 0..i64::MAX,
            timestamp in option::of(0..i64::MAX),
            own in vec(("[a-z]{0,8}", option::of(vec(any::<u8>(), 0..8))), 0..4),
            message in "\\PC{0,200}",
        ) {
            let own: Headers = own.into_iter().map(|(name, value)| (Bytes::from(name), value.map(Bytes::from))).collect();
            let original =
                Record { partition: Partition::new("logins", index), offset, timestamp, ..letter_record(own.clone()) };
            let letter = written(&original, &Reason::new("c", message));
            let stored = Record { partition: Partition::new("bad", 0), offset: 0, ..letter };
            let restored = Letter::of(&stored.headers).unwrap().original(&stored);
            prop_assert_eq!(&restored.headers[..own.len()], &own[..]);
            prop_assert_eq!(Record { headers: own, ..restored }, original);
        }
    }
}
