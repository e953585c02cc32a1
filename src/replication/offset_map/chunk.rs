//! A chunk of the map, and its bytes. Pure.
//!
//! Version, first offset, number of offsets, head (JSON with its length), and blocks up to the end. A block begins with a number whose
//! lowest two bits are its kind: a run of copies, a run of offsets without a copy, or a bitmap of short runs of both, in which copies
//! have consecutive targets and the others have one reason. Targets are differences from the end of the copy before.

use serde::{Deserialize, Serialize};

use crate::record::Fingerprint;
use crate::replication::offset_map::segment::{Absence, Segment, push};

/// The version of this format.
const VERSION: u8 = 1;
/// The most bytes of a chunk.
pub(crate) const MAX_CHUNK_BYTES: usize = 256 * 1024;
/// A chunk of this size is not continued: each commit writes the last chunk again.
const FULL_CHUNK_BYTES: usize = 8 * 1024;
/// The most segments that are added before the size is looked at: of 20 bytes each at most.
const MAX_ADDED_SEGMENTS: usize = 8192;
/// Segments of at most this many offsets go into bitmaps.
const SHORT: i64 = 16;
/// Fewer short segments than these are not worth a bitmap.
const MIN_BITMAP_SEGMENTS: usize = 4;

const COPIED: u64 = 0;
const ABSENT: u64 = 1;
const BITMAP: u64 = 2;

/// What a chunk says besides the offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChunkHead {
    /// The id of the topic that holds the copies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) target_id: Option<String>,
    /// One above the greatest target offset of a copy in this chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) target_end: Option<i64>,
    /// A record of the source in the newest run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<RecordMark>,
    /// A copy in the newest run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) copy: Option<RecordMark>,
}

/// The fingerprint of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordMark {
    offset: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timestamp: Option<i64>,
    crc: u32,
}

impl From<Fingerprint> for RecordMark {
    fn from(Fingerprint { offset, timestamp, crc }: Fingerprint) -> Self {
        Self { offset, timestamp, crc }
    }
}

impl From<RecordMark> for Fingerprint {
    fn from(RecordMark { offset, timestamp, crc }: RecordMark) -> Self {
        Self { offset, timestamp, crc }
    }
}

/// A record that was copied: its offset in the source, and the fingerprint of its copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CopyMark {
    pub(crate) source: i64,
    pub(crate) copy: Fingerprint,
}

/// What became of the source offsets from `from` on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) from: i64,
    /// In order, without a gap.
    pub(crate) segments: Vec<Segment>,
    pub(crate) head: ChunkHead,
}

/// Why bytes are not a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChunkError {
    #[error("it is longer than 256 kB")]
    TooLong,
    #[error("it has the version of another format")]
    Version,
    #[error("it ends early")]
    Truncated,
    #[error("its head is not valid")]
    Head,
    #[error("it has an invalid number")]
    Number,
    #[error("it does not have as many offsets as it says")]
    Offsets,
}

impl Chunk {
    /// Returns the offset behind the last one.
    pub(crate) fn to(&self) -> i64 {
        self.from + self.segments.iter().map(|segment| segment.count()).sum::<i64>()
    }

    /// Reads a chunk.
    ///
    /// # Errors
    /// When the bytes are not those of a chunk.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ChunkError> {
        let (ChunkRange { from, to }, head, mut body) = open(bytes)?;
        let head: ChunkHead = serde_json::from_slice(head).map_err(|_| ChunkError::Head)?;
        let (mut segments, mut left, mut next_target) = (Vec::new(), to - from, 0_i64);
        while !body.is_empty() {
            let tag = take_number(&mut body)?;
            let count = i64::try_from(tag >> 2).map_err(|_| ChunkError::Number)?;
            if count == 0 || count > left {
                return Err(ChunkError::Offsets);
            }
            left -= count;
            match tag & 3 {
                COPIED => {
                    let target = take_target(&mut body, next_target, count)?;
                    next_target = target + count;
                    push(&mut segments, Segment::Copied { target, count });
                }
                ABSENT => push(&mut segments, Segment::Absent { why: take_absence(&mut body)?, count }),
                BITMAP => {
                    let mut target = take_target(&mut body, next_target, count)?;
                    let why = take_absence(&mut body)?;
                    let length = usize::try_from(count / 8 + i64::from(count % 8 > 0)).map_err(|_| ChunkError::Number)?;
                    let (bits, rest) = body.split_at_checked(length).ok_or(ChunkError::Truncated)?;
                    body = rest;
                    for at in 0..count {
                        let byte = bits[usize::try_from(at / 8).map_err(|_| ChunkError::Number)?];
                        if byte >> (at % 8) & 1 == 1 {
                            push(&mut segments, Segment::Copied { target, count: 1 });
                            target += 1;
                        } else {
                            push(&mut segments, Segment::Absent { why, count: 1 });
                        }
                    }
                    next_target = target;
                }
                _ => return Err(ChunkError::Number),
            }
        }
        if left == 0 { Ok(Self { from, segments, head }) } else { Err(ChunkError::Offsets) }
    }
}

/// The source offsets `from..to` of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkRange {
    pub(crate) from: i64,
    pub(crate) to: i64,
}

/// Returns the range and the head of a chunk, without reading its blocks.
///
/// # Errors
/// When the bytes do not begin as a chunk.
pub(crate) fn parse_head(bytes: &[u8]) -> Result<(ChunkRange, ChunkHead), ChunkError> {
    let (range, head, _) = open(bytes)?;
    Ok((range, serde_json::from_slice(head).map_err(|_| ChunkError::Head)?))
}

/// Returns range, head and blocks.
fn open(bytes: &[u8]) -> Result<(ChunkRange, &[u8], &[u8]), ChunkError> {
    if bytes.len() > MAX_CHUNK_BYTES {
        return Err(ChunkError::TooLong);
    }
    let (version, mut rest) = bytes.split_first().ok_or(ChunkError::Truncated)?;
    if *version != VERSION {
        return Err(ChunkError::Version);
    }
    let mut number = || i64::try_from(take_number(&mut rest)?).map_err(|_| ChunkError::Number);
    let (from, count, length) = (number()?, number()?, number()?);
    let to = from.checked_add(count).ok_or(ChunkError::Number)?;
    let length = usize::try_from(length).map_err(|_| ChunkError::Number)?;
    let (head, body) = rest.split_at_checked(length).ok_or(ChunkError::Truncated)?;
    Ok((ChunkRange { from, to }, head, body))
}

/// A chunk that grows.
#[derive(Clone, Debug)]
pub(crate) struct ChunkBuilder {
    pub(crate) number: u64,
    from: i64,
    to: i64,
    /// The blocks of all segments but the last.
    body: Vec<u8>,
    /// The end of the last copy in `body`.
    next_target: i64,
    /// It may continue.
    last: Option<Segment>,
    pub(crate) head: ChunkHead,
}

impl ChunkBuilder {
    /// Returns an empty chunk.
    pub(crate) fn new(number: u64, from: i64) -> Self {
        Self { number, from, to: from, body: Vec::new(), next_target: 0, last: None, head: ChunkHead::default() }
    }

    /// Returns a chunk that begins with all of this one.
    pub(crate) fn continuing(chunk: &Chunk, number: u64) -> Self {
        let mut continued = Self::new(number, chunk.from);
        let mut rest = &*chunk.segments;
        while !rest.is_empty() {
            rest = continued.append(rest);
        }
        continued.head.clone_from(&chunk.head);
        continued
    }

    pub(crate) fn range(&self) -> ChunkRange {
        ChunkRange { from: self.from, to: self.to }
    }

    /// Returns whether the next segments need another chunk.
    pub(crate) fn is_full(&self) -> bool {
        self.body.len() >= FULL_CHUNK_BYTES
    }

    /// Adds segments, up to the bound of a chunk; returns those that are left, for the next chunk or the next call.
    pub(crate) fn append<'s>(&mut self, segments: &'s [Segment]) -> &'s [Segment] {
        let (added, rest) = segments.split_at(segments.len().min(MAX_ADDED_SEGMENTS));
        let mut all: Vec<Segment> = self.last.take().into_iter().collect();
        for segment in added {
            push(&mut all, *segment);
            self.to += segment.count();
            if let Segment::Copied { target, count } = segment {
                self.head.target_end = self.head.target_end.max(Some(target + count));
            }
        }
        self.last = all.pop();
        self.next_target = encode(&all, self.next_target, &mut self.body);
        rest
    }

    /// Returns the bytes of the chunk.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let head = serde_json::to_vec(&self.head).expect("strings and numbers are JSON");
        let mut bytes = vec![VERSION];
        for number in [self.from.cast_unsigned(), (self.to - self.from).cast_unsigned(), head.len() as u64] {
            put_number(&mut bytes, number);
        }
        bytes.extend(head);
        bytes.extend(&self.body);
        encode(self.last.as_slice(), self.next_target, &mut bytes);
        bytes
    }
}

/// Appends the blocks of segments, of which adjacent ones differ; returns the end of the last copy.
fn encode(segments: &[Segment], mut next_target: i64, bytes: &mut Vec<u8>) -> i64 {
    let mut rest = segments;
    while let Some(first) = rest.first() {
        let length = bitmap_length(rest);
        if length >= MIN_BITMAP_SEGMENTS {
            next_target = encode_bitmap(&rest[..length], next_target, bytes);
            rest = &rest[length..];
            continue;
        }
        let count = first.count().cast_unsigned();
        match *first {
            Segment::Copied { target, count: copies } => {
                put_number(bytes, count << 2 | COPIED);
                put_signed(bytes, target - next_target);
                next_target = target + copies;
            }
            Segment::Absent { why, .. } => {
                put_number(bytes, count << 2 | ABSENT);
                bytes.push(why.code());
            }
        }
        rest = &rest[1..];
    }
    next_target
}

/// Returns how many of the first segments fit one bitmap.
fn bitmap_length(segments: &[Segment]) -> usize {
    let (mut target, mut why) = (None, None);
    let fits = |segment: &&Segment| {
        let is_next = match **segment {
            Segment::Copied { target: first, count } => target.replace(first + count).is_none_or(|next| next == first),
            Segment::Absent { why: of, .. } => why.replace(of).is_none_or(|known| known == of),
        };
        is_next && segment.count() <= SHORT
    };
    segments.iter().take_while(fits).count()
}

fn encode_bitmap(segments: &[Segment], next_target: i64, bytes: &mut Vec<u8>) -> i64 {
    let count: i64 = segments.iter().map(|segment| segment.count()).sum();
    let target = |segment: &Segment| if let Segment::Copied { target, .. } = segment { Some(*target) } else { None };
    let absent = |segment: &Segment| if let Segment::Absent { why, .. } = segment { Some(*why) } else { None };
    let first = segments.iter().find_map(target).unwrap_or(next_target);
    put_number(bytes, count.cast_unsigned() << 2 | BITMAP);
    put_signed(bytes, first - next_target);
    bytes.push(segments.iter().find_map(absent).unwrap_or(Absence::Hole).code());
    let (mut byte, mut used, mut copies) = (0_u8, 0, 0);
    for segment in segments {
        let bit = u8::from(target(segment).is_some());
        copies += i64::from(bit) * segment.count();
        for _ in 0..segment.count() {
            byte |= bit << used;
            used += 1;
            if used == 8 {
                bytes.push(std::mem::take(&mut byte));
                used = 0;
            }
        }
    }
    if used > 0 {
        bytes.push(byte);
    }
    first + copies
}

fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

fn put_signed(bytes: &mut Vec<u8>, number: i64) {
    put_number(bytes, (number << 1 ^ number >> 63).cast_unsigned());
}

fn take_number(bytes: &mut &[u8]) -> Result<u64, ChunkError> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(ChunkError::Truncated)?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return Err(ChunkError::Number);
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(ChunkError::Number)
}

/// Takes a target as the difference from `next`; `count` targets from there on are valid offsets.
fn take_target(bytes: &mut &[u8], next: i64, count: i64) -> Result<i64, ChunkError> {
    let number = take_number(bytes)?;
    let difference = (number >> 1).cast_signed() ^ -(number & 1).cast_signed();
    let target = next.checked_add(difference).filter(|target| *target >= 0 && target.checked_add(count).is_some());
    target.ok_or(ChunkError::Number)
}

fn take_absence(bytes: &mut &[u8]) -> Result<Absence, ChunkError> {
    let (code, rest) = bytes.split_first().ok_or(ChunkError::Truncated)?;
    *bytes = rest;
    Absence::of(*code).ok_or(ChunkError::Number)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn segments() -> impl Strategy<Value = Vec<Segment>> {
        let short = prop_oneof![4 => 1..4_i64, 1 => 1..40_i64, 1 => 1..1_000_000_i64];
        let copied = (0..3_i64, short.clone()).prop_map(|(skip, count)| Segment::Copied { target: skip, count });
        let absent = (0..5_u8, short).prop_map(|(code, count)| Segment::Absent { why: Absence::of(code).unwrap(), count });
        prop::collection::vec(prop_oneof![copied, absent], 0..60).prop_map(|drawn| {
            // Targets rise, with and without gaps.
            let (mut next, mut segments) = (0, Vec::new());
            for segment in drawn {
                let segment = match segment {
                    Segment::Copied { target: skip, count } => {
                        let target = next + skip;
                        next = target + count;
                        Segment::Copied { target, count }
                    }
                    absent @ Segment::Absent { .. } => absent,
                };
                push(&mut segments, segment);
            }
            segments
        })
    }

    fn built(from: i64, parts: &[&[Segment]]) -> ChunkBuilder {
        let mut builder = ChunkBuilder::new(7, from);
        for part in parts {
            assert_eq!(builder.append(part), []);
        }
        builder
    }

    proptest! {
        #[test]
        fn a_chunk_that_grows_in_any_steps_is_read_as_it_was_written(
            segments in segments(), from in 0..i64::MAX / 4, cut in 0..60_usize
        ) {
            let (first, second) = segments.split_at(cut.min(segments.len()));
            let builder = built(from, &[first, second]);
            let chunk = Chunk::parse(&builder.to_bytes()).unwrap();
            prop_assert_eq!((chunk.from, chunk.to()), (builder.range().from, builder.range().to));
            prop_assert_eq!(&chunk.segments, &segments);
            prop_assert_eq!(&chunk.head, &builder.head);
            prop_assert_eq!(parse_head(&builder.to_bytes()), Ok((builder.range(), chunk.head)));
        }

        #[test]
        fn a_chunk_that_is_continued_has_all_of_the_first(segments in segments(), more in 1..1000_i64) {
            let chunk = Chunk::parse(&built(5, &[&segments]).to_bytes()).unwrap();
            let mut continued = ChunkBuilder::continuing(&chunk, 8);
            prop_assert_eq!(Chunk::parse(&continued.to_bytes()), Ok(chunk.clone()));
            let next = Segment::Copied { target: i64::MAX / 2, count: more };
            continued.append(&[next]);
            let mut both = chunk.segments.clone();
            push(&mut both, next);
            let grown = Chunk::parse(&continued.to_bytes()).unwrap();
            prop_assert_eq!((grown.segments, grown.from, grown.head.target_end), (both, 5, Some(i64::MAX / 2 + more)));
        }

        #[test]
        fn bytes_of_any_form_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = bytes;
            for version in [None, Some(VERSION)] {
                bytes.splice(0..0, version);
                if let Ok(chunk) = Chunk::parse(&bytes) {
                    prop_assert!(chunk.to() >= chunk.from);
                }
            }
        }

        #[test]
        fn a_chunk_with_a_wrong_byte_is_read_or_refused(segments in segments(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = built(5, &[&segments]).to_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = Chunk::parse(&bytes); // must not panic
            prop_assert!(Chunk::parse(&bytes[..at]).is_err());
        }
    }

    #[test]
    fn a_plain_topic_costs_a_few_bytes_and_a_filtered_one_a_bit_a_record() {
        let plain = built(0, &[&[Segment::Copied { target: 0, count: 1_000_000_000 }]]).to_bytes();
        assert!(plain.len() < 50, "{}", plain.len());
        let every_third = (0..30_000).flat_map(|number| {
            [Segment::Copied { target: number, count: 1 }, Segment::Absent { why: Absence::Filtered, count: 2 }]
        });
        let mut builder = ChunkBuilder::new(1, 0);
        let segments: Vec<Segment> = every_third.collect();
        let mut rest = &*segments;
        while !rest.is_empty() {
            rest = builder.append(rest);
        }
        let bytes = builder.to_bytes();
        assert!(bytes.len() < 90_000 / 8 + 200, "{}", bytes.len());
        assert!(builder.is_full());
        assert_eq!(Chunk::parse(&bytes).unwrap().segments, segments);
    }

    #[test]
    fn a_chunk_stays_below_its_bound_whatever_it_is_given() {
        // Targets far apart: nothing costs more.
        let far = |number: i64| Segment::Copied { target: (number % 2) * (i64::MAX / 2) + number, count: 1 };
        let segments: Vec<Segment> = (0..i64::try_from(MAX_ADDED_SEGMENTS).unwrap() + 5).map(far).collect();
        let mut builder = ChunkBuilder::new(1, 0);
        while !builder.is_full() {
            builder.append(&segments[..10]);
        }
        let rest = builder.append(&segments);
        assert_eq!(rest.len(), 5);
        assert!(builder.to_bytes().len() + 4096 < MAX_CHUNK_BYTES, "{}", builder.to_bytes().len());
    }

    #[test]
    fn hostile_bytes_are_refused() {
        let valid = built(3, &[&[Segment::Copied { target: 9, count: 4 }]]).to_bytes();
        assert!(Chunk::parse(&valid).is_ok());
        let with = |change: fn(&mut Vec<u8>)| {
            let mut bytes = valid.clone();
            change(&mut bytes);
            Chunk::parse(&bytes).unwrap_err()
        };
        assert_eq!(with(|bytes| bytes[0] = 2), ChunkError::Version);
        assert_eq!(with(Vec::clear), ChunkError::Truncated);
        assert_eq!(with(|bytes| bytes.truncate(5)), ChunkError::Truncated);
        assert_eq!(with(|bytes| bytes[2] = 5), ChunkError::Offsets, "more offsets than there are");
        assert_eq!(with(|bytes| bytes.extend([4 << 2, 0])), ChunkError::Offsets, "another run");
        assert_eq!(with(|bytes| bytes[4] = b'['), ChunkError::Head);
        assert_eq!(with(|bytes| bytes.resize(MAX_CHUNK_BYTES + 1, 0)), ChunkError::TooLong);
        let blocks = |offsets: u8, blocks: &[u8]| {
            let mut bytes = vec![VERSION, 0, offsets, 2, b'{', b'}'];
            bytes.extend(blocks);
            Chunk::parse(&bytes)
        };
        assert!(blocks(0, &[]).is_ok());
        assert_eq!(blocks(1, &[1 << 2, 1]), Err(ChunkError::Number), "a negative target");
        assert_eq!(blocks(1, &[1 << 2 | 1, 9]), Err(ChunkError::Number), "an unknown reason");
        assert_eq!(blocks(1, &[1 << 2 | 3, 0]), Err(ChunkError::Number), "an unknown kind");
        assert_eq!(blocks(9, &[9 << 2 | 2, 0, 0, 255]), Err(ChunkError::Truncated), "half a bitmap");
        assert_eq!(blocks(1, &[0xff; 11]), Err(ChunkError::Number));
        let mut far = vec![1 << 2];
        far.extend([0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        assert_eq!(blocks(1, &far), Err(ChunkError::Number), "a target beyond the greatest offset");
    }
}
