//! Runs of source offsets that became the same. Pure.

/// Why a source offset has no copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Absence {
    /// The source has no record there: compaction, a transaction marker, an aborted transaction.
    Hole,
    Filtered,
    DeadLettered,
    Skipped,
    /// Copied, and the broker did not tell where.
    Unknown,
}

impl Absence {
    pub(super) const ALL: [Self; 5] = [Self::Hole, Self::Filtered, Self::DeadLettered, Self::Skipped, Self::Unknown];

    pub(super) fn code(self) -> u8 {
        self as u8
    }

    pub(super) fn of(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

/// Consecutive source offsets that became the same; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    /// To consecutive offsets of the target, from `target` on.
    Copied {
        target: i64,
        count: i64,
    },
    Absent {
        why: Absence,
        count: i64,
    },
}

impl Segment {
    pub(crate) fn count(self) -> i64 {
        match self {
            Self::Copied { count, .. } | Self::Absent { count, .. } => count,
        }
    }

    /// Returns the first `count` offsets of the segment, and the others.
    pub(super) fn split(self, count: i64) -> (Option<Self>, Option<Self>) {
        let of = |skip: i64, count: i64| {
            (count > 0).then(|| match self {
                Self::Copied { target, .. } => Self::Copied { target: target + skip, count },
                Self::Absent { why, .. } => Self::Absent { why, count },
            })
        };
        let count = count.clamp(0, self.count());
        (of(0, count), of(count, self.count() - count))
    }

    /// Returns this segment with `next` behind it, if the two are one.
    fn joined(self, next: Self) -> Option<Self> {
        match (self, next) {
            (Self::Copied { target, count }, Self::Copied { target: next, count: more }) if target + count == next => {
                Some(Self::Copied { target, count: count + more })
            }
            (Self::Absent { why, count }, Self::Absent { why: next, count: more }) if why == next => {
                Some(Self::Absent { why, count: count + more })
            }
            _ => None,
        }
    }
}

/// Adds a segment to a list without adjacent ones that are the same.
pub(super) fn push(segments: &mut Vec<Segment>, next: Segment) {
    let joined = segments.last().and_then(|last| last.joined(next));
    match (joined, segments.last_mut()) {
        (Some(joined), Some(last)) => *last = joined,
        _ => segments.push(next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_that_continue_are_one() {
        let copied = |target, count| Segment::Copied { target, count };
        let hole = |count| Segment::Absent { why: Absence::Hole, count };
        let mut segments = Vec::new();
        for next in
            [copied(5, 2), copied(7, 1), copied(9, 1), hole(1), hole(2), Segment::Absent { why: Absence::Skipped, count: 1 }]
        {
            push(&mut segments, next);
        }
        assert_eq!(segments, [copied(5, 3), copied(9, 1), hole(3), Segment::Absent { why: Absence::Skipped, count: 1 }]);
        assert_eq!(copied(5, 3).split(1), (Some(copied(5, 1)), Some(copied(6, 2))));
        assert_eq!(hole(3).split(3), (Some(hole(3)), None));
        assert_eq!(hole(3).split(0), (None, Some(hole(3))));
    }
}
