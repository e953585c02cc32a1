//! The map of a partition, put together from its chunks. Pure.

use bytes::Bytes;

use crate::record::Fingerprint;
use crate::replication::offset_map::chunk::{Chunk, ChunkHead, ChunkRange, parse_head};
use crate::replication::offset_map::segment::{Absence, Segment};

/// Where a position of the source is on the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MappedPosition {
    /// The next record of the source is the next one there.
    Exact(i64),
    /// The next record was left out; this is the next that was not.
    NextCopied(i64),
    NotCopiedYet,
    /// The map does not say what became of the next record.
    NoMap,
}

#[derive(Clone, Debug)]
struct StoredChunk {
    number: u64,
    range: ChunkRange,
    head: ChunkHead,
    bytes: Bytes,
}

/// The chunks of a source partition that was copied to one topic.
#[derive(Clone, Debug, Default)]
pub(crate) struct PartitionMap {
    /// By number.
    chunks: Vec<StoredChunk>,
}

impl PartitionMap {
    /// Adds a chunk; one with the same number is replaced, and one whose bytes are not valid is left out.
    pub(crate) fn insert(&mut self, number: u64, bytes: Bytes) {
        let Ok((range, head)) = parse_head(&bytes) else { return };
        let chunk = StoredChunk { number, range, head, bytes };
        match self.chunks.binary_search_by_key(&number, |chunk| chunk.number) {
            Ok(at) => self.chunks[at] = chunk,
            Err(at) => self.chunks.insert(at, chunk),
        }
    }

    /// Adds the chunks of another flow that copies the same partition to the same topic.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.chunks.extend(other.chunks.iter().cloned());
        self.chunks.sort_by_key(|chunk| chunk.number);
    }

    /// Removes the chunk with this number.
    pub(crate) fn remove(&mut self, number: u64) {
        self.chunks.retain(|chunk| chunk.number != number);
    }

    /// Removes the chunks of other target topics than the one with this id.
    pub(crate) fn keep_target(&mut self, id: &str) {
        self.chunks.retain(|chunk| chunk.head.target_id.as_deref().is_none_or(|of| of == id));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Returns the fingerprints of a source record and of a copy that the newest chunk names.
    pub(crate) fn marks(&self) -> (Option<Fingerprint>, Option<Fingerprint>) {
        let newest = |of: fn(&StoredChunk) -> Option<Fingerprint>| self.chunks.iter().rev().find_map(of);
        (newest(|chunk| chunk.head.source.map(Into::into)), newest(|chunk| chunk.head.copy.map(Into::into)))
    }

    /// Returns where `position` is on the target.
    pub(crate) fn find(&self, position: i64) -> MappedPosition {
        let Some(end) = self.chunks.iter().map(|chunk| chunk.range.to).max() else { return MappedPosition::NoMap };
        if position > end {
            return MappedPosition::NotCopiedYet;
        }
        let (mut at, mut is_exact) = (position, true);
        while at < end {
            // The last copy of an offset is in the chunk with the greatest number.
            let Some(owner) = self.chunks.iter().rev().position(|chunk| chunk.range.from <= at && at < chunk.range.to) else {
                return MappedPosition::NoMap;
            };
            let owner = self.chunks.len() - 1 - owner;
            let newer = self.chunks[owner + 1..].iter().map(|chunk| chunk.range.from).filter(|from| *from > at).min();
            let until = newer.map_or(self.chunks[owner].range.to, |from| from.min(self.chunks[owner].range.to));
            let Ok(chunk) = Chunk::parse(&self.chunks[owner].bytes) else { return MappedPosition::NoMap };
            let mut from = chunk.from;
            for segment in &chunk.segments {
                let to = from + segment.count();
                if to > at && from < until {
                    match segment {
                        Segment::Copied { target, .. } => {
                            let target = target + (at - from).max(0);
                            return self.before_what_follows(owner, target, is_exact);
                        }
                        Segment::Absent { why: Absence::Unknown, .. } => return MappedPosition::NoMap,
                        Segment::Absent { why, .. } => is_exact &= *why == Absence::Hole,
                    }
                    at = to.min(until);
                }
                from = to;
            }
        }
        // Everything that was copied is before the position.
        let ends = |chunks: fn(&StoredChunk, i64) -> bool| {
            self.chunks.iter().filter(|chunk| chunks(chunk, end)).filter_map(|chunk| chunk.head.target_end).max()
        };
        match ends(|chunk, end| chunk.range.to == end).or_else(|| ends(|_, _| true)) {
            Some(target) if is_exact => MappedPosition::Exact(target),
            Some(target) => MappedPosition::NextCopied(target),
            None => MappedPosition::NotCopiedYet,
        }
    }
}

impl PartitionMap {
    /// Returns `target`, which is in the chunk `owner`, or an earlier place: offsets behind the chunk that were not copied again are only
    /// there, and must not be skipped.
    fn before_what_follows(&self, owner: usize, target: i64, is_exact: bool) -> MappedPosition {
        let found = if is_exact { MappedPosition::Exact(target) } else { MappedPosition::NextCopied(target) };
        let end = self.chunks[owner].range.to;
        if self.chunks[..owner].iter().all(|older| older.range.to <= end) {
            return found;
        }
        match self.find(end) {
            MappedPosition::Exact(next) | MappedPosition::NextCopied(next) if next < target => MappedPosition::NextCopied(next),
            MappedPosition::NoMap => MappedPosition::NoMap,
            _ => found,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::replication::offset_map::chunk::ChunkBuilder;
    use crate::replication::offset_map::chunk::tests::segments;

    fn map(chunks: &[(u64, i64, &[Segment])]) -> PartitionMap {
        let mut map = PartitionMap::default();
        for (number, from, segments) in chunks {
            let mut builder = ChunkBuilder::new(*number, *from);
            assert_eq!(builder.append(segments), []);
            map.insert(*number, builder.to_bytes().into());
        }
        map
    }

    fn copied(target: i64, count: i64) -> Segment {
        Segment::Copied { target, count }
    }

    fn absent(why: Absence, count: i64) -> Segment {
        Segment::Absent { why, count }
    }

    #[test]
    fn a_position_is_where_its_next_record_is() {
        use MappedPosition::{Exact, NextCopied, NoMap, NotCopiedYet};
        let segments = [
            copied(100, 2),
            absent(Absence::Hole, 1),
            copied(102, 1),
            absent(Absence::Filtered, 2),
            absent(Absence::Hole, 1),
            copied(110, 1),
            absent(Absence::DeadLettered, 1),
        ];
        let map = map(&[(1, 10, &segments)]);
        for (position, expected) in [
            (9, NoMap),
            (10, Exact(100)),
            (11, Exact(101)),
            (12, Exact(102)), // a marker
            (13, Exact(102)),
            (14, NextCopied(110)),
            (16, Exact(110)),
            (17, Exact(110)),
            (18, NextCopied(111)), // the last one is among the dead letters
            (19, Exact(111)),      // the end
            (20, NotCopiedYet),
        ] {
            assert_eq!(map.find(position), expected, "{position}");
        }
        assert_eq!(PartitionMap::default().find(0), NoMap);
    }

    #[test]
    fn a_repeated_offset_is_where_its_last_copy_is() {
        use MappedPosition::{Exact, NextCopied, NoMap, NotCopiedYet};
        let first = (1, 0, &[copied(0, 10)][..]);
        let again = map(&[first, (2, 4, &[copied(10, 6)])]);
        assert_eq!([3, 4, 6, 7, 10].map(|position| again.find(position)), [Exact(3), Exact(10), Exact(12), Exact(13), Exact(16)]);
        // What was not copied again is before what was: it is not skipped.
        let in_part = map(&[first, (2, 4, &[copied(10, 3)])]);
        assert_eq!(
            [3, 4, 6, 7, 10].map(|position| in_part.find(position)),
            [Exact(3), NextCopied(7), NextCopied(7), Exact(7), Exact(10)]
        );
        let after_gap = map(&[first, (2, 20, &[copied(10, 3)])]);
        assert_eq!(
            [9, 10, 15, 20, 23, 24].map(|position| after_gap.find(position)),
            [Exact(9), NoMap, NoMap, Exact(10), Exact(13), NotCopiedYet]
        );
        let unknown = map(&[(1, 0, &[absent(Absence::Unknown, 1), copied(5, 1)])]);
        assert_eq!([0, 1].map(|position| unknown.find(position)), [NoMap, Exact(5)]);
        let nothing = map(&[(1, 0, &[absent(Absence::Filtered, 5)])]);
        assert_eq!([0, 5].map(|position| nothing.find(position)), [NotCopiedYet; 2], "there is no copy to go on behind");
    }

    #[test]
    fn chunks_of_another_target_topic_and_invalid_ones_do_not_count() {
        let mut map = PartitionMap::default();
        for (number, id) in [(1, Some("old")), (2, Some("new")), (3, None)] {
            let mut builder = ChunkBuilder::new(number, 0);
            builder.append(&[copied(i64::try_from(number).unwrap() * 100, 1)]);
            builder.head.target_id = id.map(str::to_owned);
            map.insert(number, builder.to_bytes().into());
        }
        map.insert(4, Bytes::from_static(b"\x01nonsense"));
        assert_eq!(map.find(0), MappedPosition::Exact(300));
        map.keep_target("old");
        assert_eq!(map.chunks.iter().map(|chunk| chunk.number).collect::<Vec<_>>(), [1, 3]);
    }

    /// What became of an offset: the target of its last copy, or why it has none.
    type Model = BTreeMap<i64, Result<i64, Absence>>;

    fn expected(model: &Model, position: i64) -> MappedPosition {
        let Some((end, _)) = model.last_key_value() else { return MappedPosition::NoMap };
        if position > end + 1 {
            return MappedPosition::NotCopiedYet;
        }
        let mut is_exact = true;
        let found = |is_exact, target| {
            if is_exact { MappedPosition::Exact(target) } else { MappedPosition::NextCopied(target) }
        };
        for offset in position..=*end {
            match model.get(&offset) {
                None | Some(Err(Absence::Unknown)) => return MappedPosition::NoMap,
                Some(Ok(target)) => return found(is_exact, *target),
                Some(Err(why)) => is_exact &= *why == Absence::Hole,
            }
        }
        MappedPosition::NotCopiedYet // or behind the last copy, which the test knows
    }

    proptest! {
        #[test]
        fn chunks_in_any_places_answer_as_a_map_of_every_offset(
            drawn in prop::collection::vec((0..60_i64, segments()), 1..5), positions in prop::collection::vec(0..200_i64, 1..20)
        ) {
            let (mut model, mut map, mut ends) = (Model::new(), PartitionMap::default(), Vec::new());
            for (number, (from, segments)) in (1..).zip(&drawn) {
                let mut builder = ChunkBuilder::new(number, *from);
                let (mut offset, mut target_end) = (*from, None);
                for segment in segments {
                    let (Some(segment), _) = segment.split(30) else { continue };
                    // Each chunk is a later run: its targets are greater.
                    let segment = match segment {
                        Segment::Copied { target, count } => {
                            let target = target + i64::try_from(number).unwrap() * 1_000_000_000;
                            target_end = target_end.max(Some(target + count));
                            Segment::Copied { target, count }
                        }
                        absent @ Segment::Absent { .. } => absent,
                    };
                    builder.append(&[segment]);
                    for n in 0..segment.count() {
                        model.insert(offset, match segment {
                            Segment::Copied { target, .. } => Ok(target + n),
                            Segment::Absent { why, .. } => Err(why),
                        });
                        offset += 1;
                    }
                }
                map.insert(number, builder.to_bytes().into());
                ends.push((offset, target_end));
            }
            let end = map.chunks.iter().map(|chunk| chunk.range.to).max().unwrap();
            let model_end = model.last_key_value().map_or(i64::MIN, |(end, _)| end + 1);
            prop_assume!(end == model_end);
            let last = |of_last: bool| ends.iter().filter(|(to, _)| !of_last || *to == end).filter_map(|(_, target)| *target).max();
            let target_end = last(true).or_else(|| last(false));
            for position in positions {
                let found = map.find(position);
                match expected(&model, position) {
                    MappedPosition::NotCopiedYet if position <= end => {
                        let is_exact = (position..end).all(|offset| model[&offset] == Err(Absence::Hole));
                        let expected = match target_end {
                            None => MappedPosition::NotCopiedYet,
                            Some(target) if is_exact => MappedPosition::Exact(target),
                            Some(target) => MappedPosition::NextCopied(target),
                        };
                        prop_assert_eq!(found, expected, "{}", position);
                    }
                    MappedPosition::NoMap => prop_assert_eq!(found, MappedPosition::NoMap, "{}", position),
                    expected => {
                        // The last copy of the next offset, unless the last copy of a later one is before it.
                        let later: Vec<_> = (position..end).filter_map(|offset| model.get(&offset)?.ok()).collect();
                        let first = later.iter().min().copied();
                        match (found, expected) {
                            (MappedPosition::Exact(_), _) => prop_assert_eq!(found, expected, "{}", position),
                            (MappedPosition::NextCopied(place), MappedPosition::NextCopied(known) | MappedPosition::Exact(known)) => {
                                prop_assert!(place <= known, "{}: {} behind {}", position, place, known);
                            }
                            (MappedPosition::NoMap, _) => {
                                let is_unknown = |offset| matches!(model.get(&offset), None | Some(Err(Absence::Unknown)));
                                prop_assert!((position..end).any(is_unknown), "{}", position);
                                continue;
                            }
                            _ => prop_assert_eq!(found, expected, "{}", position),
                        }
                        let place = match found {
                            MappedPosition::Exact(place) | MappedPosition::NextCopied(place) => Some(place),
                            _ => None,
                        };
                        let is_unknown = |offset| matches!(model.get(&offset), None | Some(Err(Absence::Unknown)));
                        if !(position..end).any(is_unknown) {
                            prop_assert_eq!(place, first, "{}: a record behind it is skipped, or too much is repeated", position);
                        }
                    }
                }
            }
        }
    }
}
