//! Counts events in windows, and publishes each closed window together with the positions of its events.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::number::none_of;
use crate::pipeline::transaction::{Messages, OffsetCommit, OutgoingMessage, Receipt, TransactionFlow, TransactionIntake};
use crate::pipeline::{Assignment, ConnectorError, Failure, LOSS_TARGET, Refused, Transform, TransformResult};
use crate::record::{Headers, NextOffset, Partition, Record, Topic};
use crate::shape::{SEEN_RECORDS, SeenFields};
use crate::terminal::escape_controls;
use crate::windows::counts::Counts;
use crate::windows::live_view::LiveView;
use crate::windows::output::WindowFormatter;
use crate::windows::projection::{EventFields, FieldSelector};
use crate::windows::restart_state::RestartState;
use crate::windows::tumbling::{Classification, Now, PartitionStart, ResumePosition, Window, Windows, event_time};

/// How often end offsets are asked for while a partition seems idle.
const END_OFFSETS_INTERVAL: Duration = Duration::from_millis(100);
/// How often positions are committed that moved without a closed window.
const COMMIT_INTERVAL: Duration = Duration::from_secs(5);
/// After this number of events, a field that none of them has is reported.
const FIELD_CHECK_EVENTS: u64 = 100_000;
/// How long another member may own some of the partitions, as happens while a group rebalances.
const SHARING_TIMEOUT: Duration = Duration::from_secs(30);

/// Clock of the event time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum TimeSource {
    /// Its time field; without a time there, the timestamp of its record
    #[default]
    Event,
    /// The timestamp of its record
    Record,
    /// The clock of this machine, when the record is read
    Processing,
}

type EndOffsets = Vec<(Partition, i64)>;

/// Asks the brokers for the end offsets of partitions.
pub(crate) type EndOffsetQuery =
    Box<dyn Fn(Vec<Partition>) -> Pin<Box<dyn Future<Output = Result<EndOffsets, ConnectorError>> + Send>> + Send>;

/// The parts of a flow, as the command configures them.
pub(crate) struct WindowFlowOptions {
    pub(crate) windows: Windows,
    pub(crate) selector: FieldSelector,
    pub(crate) time: TimeSource,
    pub(crate) formatter: WindowFormatter,
    pub(crate) target: Topic,
    /// Everything up to the last closed window.
    pub(crate) total: Counts,
    /// Partition and offset of the last summary.
    pub(crate) last_output: Option<Receipt>,
    pub(crate) end_offsets: EndOffsetQuery,
    /// Idle time after which the live view shows zeros.
    pub(crate) idle: Duration,
    pub(crate) live_view: LiveView,
}

pub(crate) struct WindowFlow {
    options: WindowFlowOptions,
    fresh_ends: Option<oneshot::Receiver<Result<EndOffsets, ConnectorError>>>,
    ends_asked: Instant,
    /// The newest time of the wall clock.
    clock: i64,
    committed: HashMap<Partition, NextOffset>,
    committed_at: Instant,
    closed_at: Instant,
    /// The windows and the positions of the transaction under way.
    publishing: (Vec<(Window, u64)>, Vec<ResumePosition>),
    /// Since when another member owns some of the partitions.
    shared_since: Option<Instant>,
    /// Whether this instance has to show that it is the newest: partitions were assigned for the first time, or another member owns
    /// some. Of two instances that start at the same moment the fenced one ends, and the other does not.
    must_prove: bool,
    /// Owned partitions that do not answer.
    waiting: HashSet<Partition>,
    fields: FieldCheck,
    began: Instant,
}

/// Finds configured fields that no event has.
#[derive(Default)]
struct FieldCheck {
    events: u64,
    present: u32,
    has_time: bool,
    /// Top-level fields of the first events.
    seen: SeenFields,
    done: bool,
}

impl FieldCheck {
    #[allow(clippy::zero_sized_map_values)] // only the names are of interest
    fn add(&mut self, fields: &EventFields<'_>, event: &[u8]) {
        if self.events < SEEN_RECORDS {
            let names: BTreeMap<String, serde::de::IgnoredAny> = serde_json::from_slice(event).unwrap_or_default();
            self.seen.add(names.into_keys());
        }
        self.events += 1;
        self.present |= fields.present();
        self.has_time |= fields.time().is_some();
    }

    /// Reports the fields, once.
    fn report(&mut self, selector: &FieldSelector, time: TimeSource) {
        if !std::mem::replace(&mut self.done, self.events > 0) {
            self.messages(selector, time).for_each(|message| tracing::warn!(target: LOSS_TARGET, "{message}"));
        }
    }

    fn messages(&self, selector: &FieldSelector, time: TimeSource) -> impl Iterator<Item = String> {
        let quoted =
            |names: &[String]| names.iter().map(|name| format!("`{}`", escape_controls(name))).collect::<Vec<_>>().join(", ");
        let absent = Some(selector.absent(self.present)).filter(|absent| self.events > 0 && !absent.is_empty());
        let none = none_of(self.events, "event", "has", "does not have");
        let absent = absent.map(|absent| {
            let fields = if absent.len() == 1 { "field" } else { "fields" };
            let have = if self.events == 1 { "it has" } else { "they have" };
            let (listed, question) = (self.seen.listed(), self.seen.question(&absent));
            format!("{none} the {fields} {}: {have} {}", quoted(&absent), escape_controls(&format!("{listed}{question}")))
        });
        let timeless = self.events > 0 && time == TimeSource::Event && !self.has_time;
        let timeless = timeless.then(|| format!("{none} a time in its time field: the time of its record counts"));
        absent.into_iter().chain(timeless)
    }
}

impl WindowFlow {
    pub(crate) fn new(options: WindowFlowOptions) -> Self {
        let now = Instant::now();
        Self {
            options,
            fresh_ends: None,
            ends_asked: now,
            clock: i64::MIN,
            committed: HashMap::new(),
            committed_at: now,
            closed_at: now,
            publishing: (Vec::new(), Vec::new()),
            shared_since: None,
            must_prove: true,
            waiting: HashSet::new(),
            fields: FieldCheck::default(),
            began: now,
        }
    }

    fn now(&self) -> Now {
        let steady = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        Now { wall: jiff::Timestamp::now().as_millisecond(), steady }
    }

    /// Returns the time up to which windows can be closed. If idle partitions decide, fresh end offsets must confirm first that
    /// nothing is left to read.
    fn due_until(&mut self) -> Option<i64> {
        let until = self.options.windows.due(self.now(), false);
        if until.is_some() || self.options.windows.due(self.now(), true).is_none() {
            self.fresh_ends = None; // asked before the latest records
            return until;
        }
        let Some(answer) = &mut self.fresh_ends else {
            if self.ends_asked.elapsed() >= END_OFFSETS_INTERVAL {
                self.ask_ends();
            }
            return None;
        };
        let ends = match answer.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => return None,
            Err(oneshot::error::TryRecvError::Closed) => None,
            Ok(Err(error)) => {
                tracing::debug!(%error, "The brokers did not answer for end offsets.");
                None
            }
            Ok(Ok(ends)) => Some(ends),
        };
        self.fresh_ends = None;
        self.options.windows.set_ends(&ends?);
        self.options.windows.due(self.now(), true)
    }

    fn ask_ends(&mut self) {
        let owned = self.options.windows.positions().iter().map(|position| position.partition).collect();
        let query = (self.options.end_offsets)(owned);
        let (sender, answer) = oneshot::channel();
        tokio::spawn(async move {
            // The flow may not need it any more.
            let _ = sender.send(query.await);
        });
        (self.fresh_ends, self.ends_asked) = (Some(answer), Instant::now());
    }

    /// Closes the windows that end at or before `until`, and returns their messages.
    fn close(&mut self, until: i64) -> Vec<OutgoingMessage> {
        let WindowFlowOptions { windows, formatter, total, target, .. } = &mut self.options;
        let mut messages = Vec::new();
        for window in windows.close(until) {
            total.merge(&window.counts);
            messages.extend(formatter.messages(&window, total).into_iter().map(|(key, value)| OutgoingMessage {
                topic: *target,
                partition: None,
                timestamp: None,
                key: Some(Bytes::from(key)),
                value: Some(Bytes::from(value)),
                headers: Headers::new(),
                origin: None,
            }));
            self.publishing.0.push((window, total.events));
        }
        self.publishing.1 = windows.positions();
        messages
    }

    /// Returns whether positions have moved that can be committed without a closed window.
    fn has_moved(&mut self) -> bool {
        let windows = &self.options.windows;
        let positions = windows.positions();
        let moved = positions.iter().any(|position| self.committed.get(&position.partition) != Some(&position.resume));
        let moved = moved && windows.missing_partitions().next().is_none();
        if moved {
            self.publishing.1 = positions;
        }
        moved
    }

    /// Refuses to share the partitions with another member: neither would see a whole window.
    fn refuse_sharing(&mut self) -> Result<(), ConnectorError> {
        let windows = &self.options.windows;
        let missing = windows.missing_partitions().filter(|partition| !self.waiting.contains(partition));
        let missing: Vec<String> = missing.map(|partition| format!("not owned: {partition}")).collect();
        if missing.is_empty() || windows.positions().is_empty() {
            self.shared_since = None;
            return Ok(());
        }
        self.must_prove |= self.shared_since.is_none();
        if self.shared_since.get_or_insert_with(Instant::now).elapsed() < SHARING_TIMEOUT {
            return Ok(());
        }
        Err(Refused {
            what:
                "some partitions are not read by this run, and no window would be whole: another member of the group owns them, \
                   or their topic was deleted"
                    .to_owned(),
            numbers: missing,
            hint: "only one instance of a group can be active: stop the other one, or give it another group".to_owned(),
        }
        .into())
    }
}

impl TransactionFlow for WindowFlow {
    fn on_assigned(&mut self, assigned: &[Assignment]) -> u64 {
        let now = self.now();
        let mut again = 0;
        for assignment in assigned {
            let state = assignment.extension.as_deref().and_then(RestartState::parse);
            let start = PartitionStart {
                next: assignment.start.0,
                read: state.map(|state| state.read),
                closed: state.and_then(|state| state.closed),
                last: assignment.fingerprint,
            };
            again += self.options.windows.assign(assignment.partition, start, now);
            self.committed.insert(assignment.partition, assignment.start);
        }
        again
    }

    /// Leaves pending messages alone: this is the only writer, since another instance would fence its producer.
    fn on_removed(&mut self, partitions: &[Partition], _: bool, _: &mut Vec<Messages>) -> u64 {
        self.options.windows.remove(partitions);
        0
    }

    fn on_positions(&mut self, positions: &[(Partition, NextOffset)]) {
        self.options.windows.advance(positions);
    }

    fn on_log_end_offsets(&mut self, ends: &[(Partition, Option<i64>)]) {
        let known: Vec<_> = ends.iter().filter_map(|(partition, end)| Some((*partition, (*end)?))).collect();
        self.options.windows.set_ends(&known);
        self.waiting = ends.iter().filter(|(_, end)| end.is_none()).map(|(partition, _)| *partition).collect();
    }

    fn on_records(&mut self, mut records: Vec<Record>, transform: Option<&Transform>) -> TransactionIntake {
        let now = self.now();
        self.clock = self.clock.max(now.wall);
        let WindowFlowOptions { windows, selector, time, live_view, .. } = &mut self.options;
        let closed = windows.closed().unwrap_or(i64::MIN);
        let (mut intake, mut clamped) = (TransactionIntake::default(), 0);
        for records in records.chunk_by_mut(|one, other| one.partition == other.partition) {
            let last = records.last().map(Record::fingerprint).expect("a chunk has records");
            let mut run = windows.run(records[0].partition, now);
            for record in records {
                let (offset, timestamp) = (record.offset, record.timestamp);
                let shaped = transform.map_or(TransformResult::Keep, |transform| transform(record));
                let selected = match (shaped, &record.value) {
                    (TransformResult::Bad(reason), _) => Err(Some(reason)),
                    (TransformResult::Filtered, _) | (TransformResult::Keep, None) => Err(None),
                    (TransformResult::Keep, Some(value)) => selector.select(value).map_err(Some),
                };
                match selected {
                    Err(reason) => match (run.skip(offset), reason) {
                        (true, _) => intake.replayed += 1,
                        (false, None) => intake.filtered += 1,
                        (false, Some(reason)) => intake.bad.push((record.clone(), reason)),
                    },
                    Ok(fields) => {
                        if !self.fields.done {
                            self.fields.add(&fields, record.value.as_deref().unwrap_or_default());
                        }
                        let (time, is_clamped) = match time {
                            TimeSource::Event => event_time(fields.time(), timestamp, now),
                            TimeSource::Record => (timestamp.unwrap_or(now.wall), false),
                            TimeSource::Processing => (self.clock.max(closed), false),
                        };
                        match run.count(offset, time, &fields) {
                            Classification::Counted => clamped += u64::from(is_clamped),
                            Classification::Late => intake.late += 1,
                            Classification::Replayed => intake.replayed += 1,
                        }
                    }
                }
            }
            run.end(last);
        }
        live_view.add_irregular(intake.late, clamped);
        live_view.window_open(windows.oldest_open());
        if self.fields.events >= FIELD_CHECK_EVENTS {
            self.fields.report(selector, *time);
        }
        intake
    }

    fn due(&mut self) -> Result<Option<Vec<OutgoingMessage>>, ConnectorError> {
        if let Some(until) = self.due_until() {
            self.closed_at = Instant::now();
            return Ok(Some(self.close(until)));
        }
        if self.closed_at.elapsed() > self.options.idle && self.options.windows.open_events() == 0 {
            self.options.live_view.idle();
        }
        self.refuse_sharing()?;
        if self.committed_at.elapsed() > COMMIT_INTERVAL {
            self.committed_at = Instant::now();
            return Ok(self.has_moved().then(Vec::new));
        }
        Ok(None)
    }

    fn proof(&mut self) -> Option<Vec<OffsetCommit>> {
        let commit = |position: &ResumePosition| OffsetCommit {
            partition: position.partition,
            next: position.resume,
            fingerprint: position.last,
            extension: None,
        };
        let offsets: Vec<_> = self.options.windows.positions().iter().map(commit).collect();
        (!offsets.is_empty() && std::mem::take(&mut self.must_prove)).then_some(offsets)
    }

    fn finish(&mut self, complete: bool) -> Result<Option<Vec<OutgoingMessage>>, ConnectorError> {
        self.fields.report(&self.options.selector, self.options.time);
        if complete && let Some(end) = self.options.windows.newest_end(self.now()) {
            if !self.options.windows.is_whole() {
                let what =
                    "the run ended before everything was read again that belongs to the open windows: they are not published";
                return Err(Failure::new(what).hint("start again and read further: nothing is lost").into());
            }
            return Ok(Some(self.close(end)));
        }
        Ok(self.has_moved().then(Vec::new))
    }

    fn commits(&self, receipts: &[Receipt]) -> Vec<OffsetCommit> {
        let last_output = receipts.last().copied().filter(|_| self.options.formatter.has_totals()).or(self.options.last_output);
        let closed = self.options.windows.closed();
        let commit = |position: &ResumePosition| OffsetCommit {
            partition: position.partition,
            next: position.resume,
            fingerprint: position.last,
            extension: Some(RestartState { read: position.read.0, closed, last_output }.text()),
        };
        self.publishing.1.iter().map(commit).collect()
    }

    fn positions(&self) -> Vec<(Partition, NextOffset)> {
        self.options.windows.positions().iter().map(|position| (position.partition, position.resume)).collect()
    }

    fn on_committed(&mut self, receipts: &[Receipt]) -> u64 {
        let (windows, positions) = std::mem::take(&mut self.publishing);
        if let Some(last) = receipts.last().filter(|_| self.options.formatter.has_totals()) {
            self.options.last_output = Some(*last);
        }
        self.committed = positions.iter().map(|position| (position.partition, position.resume)).collect();
        self.committed_at = Instant::now();
        self.options.live_view.window_open(self.options.windows.oldest_open());
        for (window, total) in &windows {
            tracing::debug!(start = window.start, end = window.end, events = window.counts.events, "A window is closed.");
            self.options.live_view.window_closed(window, *total);
        }
        windows.iter().map(|(window, _)| window.counts.events).sum()
    }

    fn held(&self) -> u64 {
        self.options.windows.open_events()
    }

    fn read_positions(&self) -> Vec<(Partition, NextOffset)> {
        self.options.windows.positions().iter().map(|position| (position.partition, position.read)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_no_event_has_are_named_with_the_fields_that_the_events_have() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let selector =
            FieldSelector::new(&names(&["device_typ", "locale"]), &names(&["user_id", "ip"]), Some("tmestamp")).unwrap();
        let mut check = FieldCheck::default();
        assert_eq!(check.messages(&selector, TimeSource::Event).count(), 0, "no event says nothing");
        for event in [r#"{"locale": "FR", "timestamp": 1}"#, r#"{"user_id": "a"}"#] {
            check.add(&selector.select(event.as_bytes()).unwrap(), event.as_bytes());
        }
        let absent = "none of 2 events has the fields `device_typ`, `ip`, `tmestamp`: they have `locale`, `timestamp`, \
                      `user_id`; did you mean `timestamp` for `tmestamp`?";
        let timeless = "none of 2 events has a time in its time field: the time of its record counts";
        assert_eq!(check.messages(&selector, TimeSource::Event).collect::<Vec<_>>(), [absent, timeless]);
        assert_eq!(check.messages(&selector, TimeSource::Record).collect::<Vec<_>>(), [absent]);

        let (selector, mut check) = (FieldSelector::new(&names(&["gone"]), &names(&[]), None).unwrap(), FieldCheck::default());
        check.add(&selector.select(br#"{"a": 1}"#).unwrap(), br#"{"a": 1}"#);
        let one = "the only event does not have the field `gone`: it has `a`";
        assert_eq!(check.messages(&selector, TimeSource::Record).collect::<Vec<_>>(), [one]);
    }
}
