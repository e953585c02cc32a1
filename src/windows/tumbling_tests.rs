use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::windows::projection::FieldSelector;

const RULES: WindowRules = WindowRules { length: 10_000, grace: 5_000, idle: 3_000 };

fn partition(index: i32) -> Partition {
    Partition::new("windows", index)
}

fn at(seconds: i64) -> Now {
    Now { wall: 1_000_000_000_000, steady: seconds * 1000 }
}

fn selector() -> FieldSelector {
    FieldSelector::new(&["kind".to_owned()], &[], None).unwrap()
}

fn windows(partitions: i32) -> Windows {
    let mut windows = Windows::new(RULES, (0..partitions).map(partition));
    for index in 0..partitions {
        windows.assign(partition(index), PartitionStart::default(), at(0));
    }
    windows
}

/// Counts an event at that second.
fn count(windows: &mut Windows, index: i32, offset: i64, second: i64, now: Now) -> Classification {
    let selector = selector();
    windows.run(partition(index), now).count(offset, second * 1000, &selector.select(b"{\"kind\": \"a\"}").unwrap())
}

/// Returns the starts, in seconds, of the windows that close at `now`, with their numbers of events.
fn closed(windows: &mut Windows, now: Now) -> Vec<(i64, u64)> {
    let until = windows.due(now, true);
    let closed = until.map(|until| windows.close(until)).unwrap_or_default();
    closed.iter().map(|window| (window.start / 1000, window.counts.events)).collect()
}

fn resume(windows: &Windows) -> Vec<(i64, i64)> {
    windows.positions().iter().map(|position| (position.resume.0, position.read.0)).collect()
}

#[test]
fn an_event_of_a_closed_window_is_not_counted_again_after_a_restart() {
    // Offsets 100 (first window), 101 (second), 102 (first), and the first window closes.
    let mut before = Windows::new(RULES, [partition(0)]);
    before.assign(partition(0), PartitionStart { next: 100, ..PartitionStart::default() }, at(0));
    for (offset, second) in [(100, 1), (101, 16), (102, 2)] {
        assert_eq!(count(&mut before, 0, offset, second, at(0)), Classification::Counted);
    }
    assert_eq!(closed(&mut before, at(0)), [(0, 2)]);
    assert_eq!(resume(&before), [(101, 103)]);

    let mut after = Windows::new(RULES, [partition(0)]);
    let start = PartitionStart { next: 101, read: Some(103), closed: before.closed(), last: None };
    after.assign(partition(0), start, at(0));
    assert_eq!(count(&mut after, 0, 101, 16, at(0)), Classification::Counted);
    assert_eq!(closed(&mut after, at(0)), [], "the replay comes first");
    assert_eq!(count(&mut after, 0, 102, 2, at(0)), Classification::Replayed);
    assert_eq!(count(&mut after, 0, 103, 3, at(0)), Classification::Late);
    assert_eq!(count(&mut after, 0, 104, 27, at(0)), Classification::Counted);
    assert_eq!(closed(&mut after, at(0)), [(10, 1)]);
    assert_eq!(resume(&after), [(104, 105)]);
}

#[test]
fn a_window_closes_when_every_busy_partition_has_passed_its_end_and_the_grace() {
    let mut windows = windows(2);
    count(&mut windows, 0, 0, 1, at(0));
    count(&mut windows, 0, 1, 30, at(0));
    assert_eq!(closed(&mut windows, at(0)), [], "the other partition has no event yet");
    count(&mut windows, 1, 0, 14, at(0));
    assert_eq!(closed(&mut windows, at(0)), [], "grace");
    count(&mut windows, 1, 1, 15, at(0));
    assert_eq!(closed(&mut windows, at(0)), [(0, 1)]);
    assert_eq!(count(&mut windows, 1, 2, 9, at(0)), Classification::Late);
    assert_eq!(resume(&windows), [(1, 2), (0, 3)]);
}

#[test]
fn an_idle_topic_closes_its_window_by_the_clock_and_not_early() {
    let mut windows = windows(2);
    count(&mut windows, 0, 0, 1, at(100));
    count(&mut windows, 1, 0, 4, at(100));
    assert_eq!(closed(&mut windows, at(1000)), [], "the end offset is unknown");
    windows.set_ends(&[(partition(0), 1), (partition(1), 1)]);
    // The newest event is of second 4; second 15 is eleven seconds later.
    assert_eq!(closed(&mut windows, at(110)), []);
    assert_eq!(closed(&mut windows, at(111)), [(0, 2)]);
}

#[test]
fn a_partition_without_a_fresh_end_offset_is_not_idle() {
    let mut windows = windows(1);
    windows.set_ends(&[(partition(0), 1)]);
    count(&mut windows, 0, 0, 1, at(0));
    assert_eq!((windows.due(at(60), false), windows.due(at(60), true)), (None, Some(50_000)));
    windows.set_ends(&[(partition(0), 2)]);
    assert_eq!(windows.due(at(60), true), None, "there is more to read");
}

#[test]
fn a_partition_with_stuck_event_time_does_not_hold_windows_open() {
    let mut windows = windows(2);
    windows.set_ends(&[(partition(0), 9), (partition(1), 100)]);
    count(&mut windows, 0, 0, 1, at(0));
    for offset in 1..9 {
        windows.run(partition(0), at(offset)).skip(offset);
    }
    count(&mut windows, 1, 0, 50, at(8));
    assert_eq!(closed(&mut windows, at(8)), [(0, 1)]);
}

#[test]
fn an_idle_or_empty_partition_does_not_hold_windows_open() {
    let mut windows = windows(3);
    windows.set_ends(&[(partition(0), 1), (partition(1), 100), (partition(2), 0)]);
    count(&mut windows, 0, 0, 1, at(0));
    count(&mut windows, 1, 0, 50, at(0));
    assert_eq!(closed(&mut windows, at(2)), []);
    count(&mut windows, 1, 1, 51, at(3));
    assert_eq!(closed(&mut windows, at(3)), [(0, 1)]);
}

#[test]
fn an_event_from_the_future_closes_nothing() {
    let mut windows = windows(1);
    count(&mut windows, 0, 0, 1, at(0));
    let wall = Now { wall: 9_000, steady: 0 };
    assert_eq!(count(&mut windows, 0, 1, 3_000, wall), Classification::Counted);
    assert_eq!(closed(&mut windows, at(0)), []);
    assert_eq!(windows.newest_end(wall), Some(10_000), "a window that has not begun is not closed");
    assert_eq!(count(&mut windows, 0, 2, 90_000, wall), Classification::Late, "it would be open for a day");
    let now = Now { wall: 5_000, steady: 0 };
    assert_eq!(event_time(Some(90_000), Some(1000), now), (1000, true));
    assert_eq!(event_time(Some(61_000), Some(1000), now), (61_000, false), "clocks are never quite right");
    assert_eq!((event_time(None, Some(1000), now), event_time(None, None, now)), ((1000, false), (5_000, false)));
    assert_eq!(event_time(Some(0), Some(1000), now), (0, false), "1970 is late, and not wrong");
}

#[test]
fn no_window_closes_while_a_partition_is_away_and_it_is_counted_again_when_it_returns() {
    let mut windows = windows(2);
    for (index, offset, second) in [(0, 0, 1), (1, 0, 2), (0, 1, 30), (1, 1, 30)] {
        count(&mut windows, index, offset, second, at(0));
    }
    windows.remove(&[partition(1)]);
    assert_eq!(windows.missing_partitions().collect::<Vec<_>>(), [partition(1)]);
    assert_eq!(closed(&mut windows, at(0)), []);
    assert_eq!(resume(&windows), [(0, 2)], "partitions of other members are not committed");
    assert_eq!(windows.assign(partition(1), PartitionStart::default(), at(0)), 2);
    assert_eq!(closed(&mut windows, at(0)), []);
    count(&mut windows, 1, 0, 2, at(0));
    count(&mut windows, 1, 1, 30, at(0));
    assert_eq!(closed(&mut windows, at(0)), [(0, 2)]);
}

#[test]
fn counting_continues_after_an_offset_gap() {
    let mut windows = windows(1);
    count(&mut windows, 0, 0, 1, at(0));
    windows.remove(&[partition(0)]);
    assert_eq!(windows.assign(partition(0), PartitionStart { next: 50, ..PartitionStart::default() }, at(0)), 0);
    count(&mut windows, 0, 50, 2, at(0));
    count(&mut windows, 0, 51, 20, at(0));
    assert_eq!(closed(&mut windows, at(0)), [(0, 2)]);
}

#[test]
fn windows_are_complete_when_the_replay_is() {
    let mut windows = Windows::new(RULES, [partition(0)]);
    assert!(!windows.is_whole());
    windows.assign(partition(0), PartitionStart { next: 3, read: Some(5), closed: None, last: None }, at(0));
    count(&mut windows, 0, 3, 1, at(0));
    assert!(!windows.is_whole());
    windows.advance(&[(partition(0), NextOffset(5))]);
    assert!(windows.is_whole());
}

#[test]
fn skipped_records_advance_the_position_and_the_end_of_a_run_closes_open_windows() {
    let mut windows = windows(1);
    assert!(!windows.run(partition(0), at(0)).skip(0));
    assert_eq!((windows.newest_end(at(0)), windows.due(at(0), true)), (None, None));
    count(&mut windows, 0, 1, 12, at(0));
    windows.advance(&[(partition(0), NextOffset(9))]);
    assert_eq!(resume(&windows), [(1, 9)]);
    let until = windows.newest_end(at(0)).unwrap();
    assert_eq!(until, 20_000);
    assert_eq!(windows.open_events(), 1);
    assert_eq!(windows.close(until).len(), 1);
    assert_eq!((windows.open_events(), resume(&windows)), (0, vec![(9, 9)]));
}

/// Content of a transaction: the windows, and the offsets to resume from.
#[derive(Clone, Default)]
struct Published {
    events: BTreeMap<i64, u64>,
    positions: BTreeMap<i32, (i64, i64)>,
    closed: Option<i64>,
    late: u64,
}

#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)] // small numbers
mod recount {
    use super::*;

    proptest! {
        /// After any kills between transactions and any rebalances, each event is in its window once, unless it was late.
        #[test]
        fn restarted_windows_equal_a_recount(
            logs in proptest::collection::vec(proptest::collection::vec(0_i64..120, 0..60), 1..4),
            steps in proptest::collection::vec((0_usize..4, 1_usize..9, 0_u8..12), 1..80),
        ) {
            let mut published = Published::default();
            let begin = |published: &Published| {
                let mut windows = Windows::new(RULES, (0..logs.len()).map(|index| partition(index as i32)));
                for index in 0..logs.len() as i32 {
                    let (next, read) = published.positions.get(&index).copied().map_or((0, None), |(next, read)| (next, Some(read)));
                    windows.assign(partition(index), PartitionStart { next, read, closed: published.closed, last: None }, at(0));
                }
                windows
            };
            let mut windows = begin(&published);
            let mut next: Vec<i64> = vec![0; logs.len()];
            let mut late = 0;
            let publish = |windows: &mut Windows, until: i64, published: &mut Published, late: u64| {
                for window in windows.close(until) {
                    *published.events.entry(window.start).or_default() += window.counts.events;
                }
                for position in windows.positions() {
                    published.positions.insert(position.partition.index, (position.resume.0, position.read.0));
                }
                published.closed = windows.closed();
                published.late += late;
            };
            let read = |windows: &mut Windows, next: &mut [i64], late: &mut u64, index: usize, records: usize| {
                for _ in 0..records {
                    let Some(second) = logs[index].get(next[index] as usize) else { break };
                    *late += u64::from(count(windows, index as i32, next[index], *second, at(0)) == Classification::Late);
                    next[index] += 1;
                }
            };
            for (index, records, what) in steps {
                match what {
                    // A kill: unpublished windows are lost.
                    0 => {
                        windows = begin(&published);
                        late = 0;
                        for (index, next) in next.iter_mut().enumerate() {
                            *next = published.positions.get(&(index as i32)).map_or(0, |(resume, _)| *resume);
                        }
                    }
                    1 => {
                        let index = index % logs.len();
                        windows.remove(&[partition(index as i32)]);
                        let (resume, read) = published.positions.get(&(index as i32)).copied().unwrap_or((0, 0));
                        let start = PartitionStart { next: resume, read: Some(read), closed: published.closed, last: None };
                        windows.assign(partition(index as i32), start, at(0));
                        next[index] = resume;
                    }
                    _ => {
                        read(&mut windows, &mut next, &mut late, index % logs.len(), records);
                        if let Some(until) = windows.due(at(0), true) {
                            publish(&mut windows, until, &mut published, late);
                            late = 0;
                        }
                    }
                }
            }
            for index in 0..logs.len() {
                read(&mut windows, &mut next, &mut late, index, 100);
            }
            if let Some(until) = windows.newest_end(at(0)) {
                publish(&mut windows, until, &mut published, late);
            }
            let mut recount: BTreeMap<i64, u64> = BTreeMap::new();
            for second in logs.iter().flatten() {
                *recount.entry(second / 10 * 10_000).or_default() += 1;
            }
            let all: u64 = recount.values().sum();
            let counted: u64 = published.events.values().sum();
            prop_assert!(published.events.iter().all(|(start, events)| *events <= recount[start]));
            prop_assert!(counted + published.late >= all, "{counted} counted and {} late of {all}", published.late);
            if published.late == 0 {
                prop_assert_eq!(published.events, recount);
            }
        }
    }
}
