//! Writes the map before the commits that it covers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::connectors::kafka::{Admin, KafkaSink, OffsetSpec, ProducerOptions, TargetIds, Targets, TopicInfo, partition_of};
use crate::pipeline::{Answers, Commit, ConnectorError, Failure, Outcome, Sink as _};
use crate::profile::KafkaSection;
use crate::record::{NextOffset, Partition, Record, Topic};
use crate::replication::TopicNames;
use crate::replication::offset_map::chunk::{Chunk, ChunkBuilder, ChunkHead, ChunkRange, parse_head};
use crate::replication::offset_map::chunk_key::{ChunkKey, MapIdentity};
use crate::replication::offset_map::map_reader::{MapPosition, read_map};
use crate::replication::offset_map::recorder::CopyRecorder;

/// The pause between two writes, unless the run waits for one.
const WRITE_INTERVAL: Duration = Duration::from_millis(100);
/// The longest: after many bytes it is longer, so that the map takes no more than about 1 MB/s.
const LONGEST_WRITE_INTERVAL: Duration = Duration::from_secs(2);
/// A write that takes longer is a stall.
const STALLED_AFTER: Duration = Duration::from_secs(3);
/// The pause before chunks are written again that the producer gave up.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How often chunks are deleted whose offsets the source no longer holds.
const CLEANING_INTERVAL: Duration = Duration::from_secs(600);

/// A commit of an assignment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EpochCommit {
    pub(crate) commit: Commit,
    pub(crate) epoch: u64,
}

/// A partition with its assignment.
pub(crate) type EpochPartition = (Partition, u64);

pub(crate) enum MapRequest {
    Assign(Vec<(Partition, u64, NextOffset)>),
    Forget(Vec<EpochPartition>),
    Commit(Vec<EpochCommit>),
    /// Answered when every commit so far is covered.
    Flush(oneshot::Sender<()>),
    /// As [`Self::Commit`] and [`Self::Forget`].
    Revoke {
        last: Vec<EpochCommit>,
        partitions: Vec<EpochPartition>,
        written: oneshot::Sender<()>,
    },
}

/// What a map is written for.
#[derive(Clone)]
pub(crate) struct MapFlow {
    /// As in the metadata of its commits.
    pub(crate) flow: String,
    pub(crate) source: Admin,
    pub(crate) target: Admin,
    /// Of the target.
    pub(crate) section: KafkaSection,
    pub(crate) names: TopicNames,
    /// By source topic.
    pub(crate) target_ids: TargetIds,
    /// The topic of the map.
    pub(crate) topic: TopicInfo,
}

/// What the writer tells the source.
pub(super) enum MapEvent {
    /// The map covers these commits.
    Covered(Vec<EpochCommit>),
    /// Why the map is not written, or that it is again.
    Problem(Option<String>),
}

/// The task that writes the map; it ends when this is dropped.
pub(crate) struct MapWriterHandle {
    recorder: CopyRecorder,
    requests: mpsc::UnboundedSender<MapRequest>,
    covered: mpsc::UnboundedReceiver<Vec<EpochCommit>>,
    problem: watch::Receiver<Option<String>>,
    name: String,
    task: JoinHandle<()>,
}

impl Drop for MapWriterHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl MapWriterHandle {
    /// Starts to write the map of `flow`, of which `recorder` learns.
    ///
    /// # Errors
    /// When the client cannot be created.
    pub(crate) fn start(flow: MapFlow, recorder: CopyRecorder) -> Result<Self, ConnectorError> {
        let options = ProducerOptions { compression: "none".to_owned(), linger: Duration::ZERO, keep_timestamps: false };
        let route = Box::new(|record: &Record| (record.partition.topic, Some(record.partition.index)));
        let sink = KafkaSink::open(&flow.section, &options, Targets::default(), route)?;
        let (requests, received) = mpsc::unbounded_channel();
        let (done, covered) = mpsc::unbounded_channel();
        let (report, problem) = watch::channel(None);
        let name = format!("`{}` on `{}`", flow.topic.topic, flow.section.name);
        let writer = MapWriter {
            flow,
            sink,
            recorder: recorder.clone(),
            covered: done,
            problem: report,
            partitions: HashMap::new(),
            unprepared: Vec::new(),
            pending: HashMap::new(),
            waiting: Vec::new(),
            leaving: Vec::new(),
            stored: StoredChunks::default(),
            obsolete: Vec::new(),
            last_number: 0,
            cleaned: None,
            is_off: false,
        };
        let task = tokio::spawn(writer.run(received));
        Ok(Self { recorder, requests, covered, problem, name, task })
    }

    pub(super) fn requests(&self) -> mpsc::UnboundedSender<MapRequest> {
        self.requests.clone()
    }

    pub(super) fn assign(&self, starts: Vec<(Partition, u64, NextOffset)>) {
        for (partition, epoch, start) in &starts {
            self.recorder.assign(*partition, *epoch, start.0);
        }
        let _ = self.requests.send(MapRequest::Assign(starts));
    }

    pub(super) fn forget(&self, partitions: Vec<EpochPartition>) {
        for (partition, epoch) in &partitions {
            self.recorder.forget(*partition, *epoch);
        }
        let _ = self.requests.send(MapRequest::Forget(partitions));
    }

    /// Waits for the next event. Cancel-safe.
    pub(super) async fn next(&mut self) -> MapEvent {
        tokio::select! {
            biased;
            Some(covered) = self.covered.recv() => MapEvent::Covered(covered),
            Ok(()) = self.problem.changed() => MapEvent::Problem(self.problem.borrow_and_update().clone()),
            else => std::future::pending().await,
        }
    }

    pub(super) fn try_covered(&mut self) -> Option<Vec<EpochCommit>> {
        self.covered.try_recv().ok()
    }

    /// Returns why the map is not written at present.
    pub(super) fn problem(&self) -> Option<String> {
        self.problem.borrow().clone()
    }

    pub(super) fn failure(&self) -> Failure {
        let why = self.problem().unwrap_or_else(|| "no answer in time".to_owned());
        Failure::new(format!("the offset map {} is not written, and nothing is committed without it", self.name))
            .because(why)
            .passing()
    }
}

/// The chunks of this flow in the topic.
#[derive(Default)]
struct StoredChunks {
    position: MapPosition,
    maps: HashMap<MapIdentity, BTreeMap<u64, StoredRange>>,
}

struct StoredRange {
    range: ChunkRange,
    /// Of the newest chunk.
    bytes: Option<Bytes>,
}

impl StoredChunks {
    fn on_chunk(&mut self, key: ChunkKey, value: Option<Bytes>) {
        let chunks = self.maps.entry(key.identity).or_default();
        let Some((bytes, (range, _))) = value.and_then(|bytes| Some((bytes.clone(), parse_head(&bytes).ok()?))) else {
            chunks.remove(&key.number);
            return;
        };
        if let Some((number, mut last)) = chunks.last_entry().map(|last| (*last.key(), last)) {
            if number < key.number {
                last.get_mut().bytes = None;
            } else if number > key.number {
                chunks.insert(key.number, StoredRange { range, bytes: None });
                return;
            }
        }
        chunks.insert(key.number, StoredRange { range, bytes: Some(bytes) });
    }
}

/// The map of an assigned partition.
struct MappedPartition {
    epoch: u64,
    identity: MapIdentity,
    /// Of the topic of the map.
    place: Partition,
    open: ChunkBuilder,
    /// Chunks that the open one contains, or that are of no use any more.
    to_delete: Vec<u64>,
    /// The other chunks.
    sealed: BTreeMap<u64, ChunkRange>,
}

struct MapWriter {
    flow: MapFlow,
    sink: KafkaSink,
    recorder: CopyRecorder,
    covered: mpsc::UnboundedSender<Vec<EpochCommit>>,
    problem: watch::Sender<Option<String>>,
    partitions: HashMap<Partition, MappedPartition>,
    /// Assigned partitions whose chunks are not looked up yet.
    unprepared: Vec<(Partition, u64, NextOffset)>,
    pending: HashMap<Partition, EpochCommit>,
    waiting: Vec<oneshot::Sender<()>>,
    leaving: Vec<EpochPartition>,
    stored: StoredChunks,
    /// Deletions of chunks of source topics that exist no more.
    obsolete: Vec<Record>,
    last_number: u64,
    cleaned: Option<Instant>,
    /// The topic cannot be written to: commits no longer wait.
    is_off: bool,
}

impl MapWriter {
    async fn run(mut self, mut requests: mpsc::UnboundedReceiver<MapRequest>) {
        let mut next_write = Instant::now();
        loop {
            while let Ok(request) = requests.try_recv() {
                self.on_request(request);
            }
            let is_awaited = !self.waiting.is_empty() || self.is_off;
            let has_work = !self.waiting.is_empty() || !self.pending.is_empty();
            if has_work && (is_awaited || Instant::now() >= next_write) {
                let pause = WRITE_INTERVAL + Duration::from_micros(self.write().await);
                next_write = Instant::now() + pause.min(LONGEST_WRITE_INTERVAL);
            }
            tokio::select! {
                request = requests.recv() => match request {
                    Some(request) => self.on_request(request),
                    None => return,
                },
                () = tokio::time::sleep_until(next_write), if !self.pending.is_empty() => {}
            }
        }
    }

    fn on_request(&mut self, request: MapRequest) {
        match request {
            MapRequest::Assign(starts) => self.unprepared.extend(starts),
            MapRequest::Forget(partitions) => self.forget(&partitions),
            MapRequest::Commit(commits) => self.pending.extend(commits.into_iter().map(|of| (of.commit.partition, of))),
            MapRequest::Flush(written) => self.waiting.push(written),
            MapRequest::Revoke { last, partitions, written } => {
                self.pending.extend(last.into_iter().map(|of| (of.commit.partition, of)));
                self.leaving.extend(partitions);
                self.waiting.push(written);
            }
        }
    }

    fn forget(&mut self, gone: &[EpochPartition]) {
        for (partition, epoch) in gone {
            self.recorder.forget(*partition, *epoch);
            if self.partitions.get(partition).is_some_and(|known| known.epoch == *epoch) {
                self.partitions.remove(partition);
            }
            if self.pending.get(partition).is_some_and(|pending| pending.epoch == *epoch) {
                self.pending.remove(partition);
            }
            self.unprepared.retain(|(of, of_epoch, _)| (of, of_epoch) != (partition, epoch));
        }
    }

    /// Writes what the pending commits need, then lets them and those who wait go on; returns how many bytes that were.
    async fn write(&mut self) -> u64 {
        let mut bytes = 0;
        if !self.is_off {
            let stall = StallReport {
                topic: self.flow.topic.topic,
                section: self.flow.section.name.clone(),
                problem: self.problem.clone(),
            };
            stall.watch(self.prepare(), || None).await;
            let records = self.records();
            bytes = records.iter().map(|record| record.value.as_ref().map_or(0, |value| value.len() as u64)).sum();
            if !records.is_empty()
                && let Err(why) = stall.watch(self.store(records), || self.sink.degraded_reason()).await
            {
                self.turn_off(&why);
            }
        }
        let covered: Vec<EpochCommit> = self.pending.drain().map(|(_, of)| of).collect();
        if !covered.is_empty() {
            // The source is gone at the end of the run.
            let _ = self.covered.send(covered);
        }
        let leaving = std::mem::take(&mut self.leaving);
        self.forget(&leaving);
        for written in self.waiting.drain(..) {
            let _ = written.send(());
        }
        bytes
    }

    fn turn_off(&mut self, why: &str) {
        let (topic, section) = (self.flow.topic.topic, &self.flow.section.name);
        tracing::warn!("the offset map `{topic}` on `{section}` cannot be written: {why}; the copy goes on without it");
        self.is_off = true;
        self.recorder.turn_off();
        self.partitions.clear();
        self.unprepared.clear();
        self.obsolete.clear();
    }

    fn new_number(&mut self, above: u64) -> u64 {
        let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default();
        // A member that was lost and does not know it yet takes other numbers.
        self.last_number = now.max(above + 1).max(self.last_number + 1);
        self.last_number
    }

    /// Finds the chunks that newly assigned partitions continue, and those that are of no use any more.
    async fn prepare(&mut self) {
        if !self.unprepared.is_empty() {
            self.continue_stored().await;
        }
        self.clean().await;
    }

    async fn continue_stored(&mut self) {
        let assigned = std::mem::take(&mut self.unprepared);
        let mut topics: Vec<Topic> = assigned.iter().map(|(partition, ..)| partition.topic).collect();
        topics.sort_unstable();
        topics.dedup();
        // A chunk without the id would stand for every topic of that name.
        let (ids, missing) = loop {
            match self.flow.source.existing_ids(&topics).await {
                Ok(found) => break found,
                Err(error) if error.is_passing() => tracing::debug!(%error, "The ids of the source topics are not known."),
                Err(error) => {
                    tracing::warn!(%error, "The offset map leaves out partitions: the ids of their topics cannot be had.");
                    for (partition, epoch, _) in &assigned {
                        self.recorder.forget(*partition, *epoch);
                    }
                    return;
                }
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        };
        // A topic that is gone, or that this broker does not know yet, is looked for again with the next write, and holds up no other.
        let (absent, assigned): (Vec<_>, Vec<_>) =
            assigned.into_iter().partition(|(partition, ..)| missing.contains(&partition.topic));
        self.unprepared.extend(absent);
        if let Err(error) = self.read_stored().await {
            tracing::debug!(%error, "The offset map could not be read: its last chunks are not continued.");
        }
        for (partition, epoch, start) in assigned {
            let identity = MapIdentity {
                flow: self.flow.flow.clone(),
                cluster: self.flow.source.cluster_id().to_owned(),
                topic: partition.topic.name().to_owned(),
                topic_id: ids.get(&partition.topic).cloned(),
                partition: partition.index,
                target: self.flow.names.target(partition.topic).name().to_owned(),
            };
            self.mark_obsolete(&identity);
            let mapped = self.mapped(identity, partition.topic, epoch, start);
            self.partitions.insert(partition, mapped);
        }
    }

    /// Marks the chunks for deletion of the topic that had this name before.
    fn mark_obsolete(&mut self, current: &MapIdentity) {
        if current.topic_id.is_none() {
            return;
        }
        let is_obsolete = |known: &MapIdentity| {
            let as_current = MapIdentity { topic_id: current.topic_id.clone(), ..known.clone() };
            known.topic_id.as_ref().is_some_and(|_| known != current && as_current == *current)
        };
        let obsolete: Vec<MapIdentity> = self.stored.maps.keys().filter(|known| is_obsolete(known)).cloned().collect();
        for identity in obsolete {
            let (place, chunks) = (self.place(&identity), self.stored.maps.remove(&identity).unwrap_or_default());
            self.obsolete.extend(chunks.into_keys().map(|number| chunk_record(&identity, place, number, None)));
        }
    }

    /// Returns the partition of the topic that has the chunks.
    fn place(&self, identity: &MapIdentity) -> Partition {
        let key = ChunkKey::new(identity.clone(), 0).to_json();
        Partition { topic: self.flow.topic.topic, index: partition_of(key.as_bytes(), self.flow.topic.partitions) }
    }

    /// Returns the map of a partition that is read from `start` on.
    fn mapped(&mut self, identity: MapIdentity, source: Topic, epoch: u64, start: NextOffset) -> MappedPartition {
        let target_id = self.flow.target_ids.get(source);
        let chunks = self.stored.maps.remove(&identity).unwrap_or_default();
        let newest = chunks.last_key_value().map_or(0, |(number, _)| *number);
        let number = self.new_number(newest);
        let mut sealed: BTreeMap<u64, ChunkRange> = chunks.iter().map(|(number, stored)| (*number, stored.range)).collect();
        let mut to_delete = Vec::new();
        let bytes = chunks.into_values().next_back().and_then(|stored| stored.bytes);
        let continued = bytes.and_then(|bytes| {
            // What it says of offsets behind the start stays true: they are copied again into another chunk.
            let fits = |chunk: &Chunk| chunk.head.target_id == target_id && chunk.to() == start.0;
            let chunk = Chunk::parse(&bytes).ok().filter(fits)?;
            Some(ChunkBuilder::continuing(&chunk, number)).filter(|builder| !builder.is_full())
        });
        if continued.is_some() {
            sealed.remove(&newest);
            to_delete.push(newest);
        }
        let mut open = continued.unwrap_or_else(|| ChunkBuilder::new(number, start.0));
        open.head.target_id = target_id;
        let place = self.place(&identity);
        MappedPartition { epoch, identity, place, open, to_delete, sealed }
    }

    async fn read_stored(&mut self) -> Result<(), ConnectorError> {
        let (flow, cluster) = (self.flow.flow.clone(), self.flow.source.cluster_id().to_owned());
        let (sender, chunks) = std::sync::mpsc::channel();
        let each = move |key: ChunkKey, value: Option<&[u8]>| {
            if key.identity.flow == flow && key.identity.cluster == cluster {
                let _ = sender.send((key, value.map(Bytes::copy_from_slice)));
            }
        };
        // From the beginning: what was written since is this member's own, or of a partition that another one had.
        self.stored = StoredChunks::default();
        let read = read_map(&self.flow.section, self.flow.topic.topic, &mut self.stored.position, each).await;
        for (key, value) in chunks {
            self.stored.on_chunk(key, value);
        }
        read
    }

    /// Marks the chunks for deletion whose offsets the source no longer holds, or that a newer one contains.
    async fn clean(&mut self) {
        if self.cleaned.is_some_and(|cleaned| cleaned.elapsed() < CLEANING_INTERVAL) || self.partitions.is_empty() {
            return;
        }
        self.cleaned = Some(Instant::now());
        let partitions: Vec<Partition> = self.partitions.keys().copied().collect();
        let low = self.flow.source.known_offsets(&partitions, OffsetSpec::Start).await.unwrap_or_default();
        for (partition, mapped) in &mut self.partitions {
            let low = low.get(partition).and_then(|low| low.clone().ok()).unwrap_or(0);
            mapped.mark_useless(low);
        }
    }

    /// Returns the chunks that cover the pending commits.
    fn records(&mut self) -> Vec<Record> {
        let mut records = std::mem::take(&mut self.obsolete);
        let pending: Vec<EpochCommit> = self.pending.values().copied().collect();
        for EpochCommit { commit, epoch } in pending {
            if self.partitions.get(&commit.partition).is_none_or(|mapped| mapped.epoch != epoch) {
                continue;
            }
            let Some(mut mapped) = self.partitions.remove(&commit.partition) else { continue };
            let drained = self.recorder.drain(commit.partition, epoch, commit.next.0);
            if !drained.segments.is_empty() {
                if mapped.open.head.target_id.is_none() {
                    // A topic that was created since the partition was assigned.
                    mapped.open.head.target_id = self.flow.target_ids.get(commit.partition.topic);
                }
                let mut rest = &*drained.segments;
                loop {
                    rest = mapped.open.append(rest);
                    if rest.is_empty() && !mapped.open.is_full() {
                        break;
                    }
                    if mapped.open.is_full() {
                        let next = self.new_number(mapped.open.number);
                        records.push(mapped.seal(next));
                    }
                    if rest.is_empty() {
                        break;
                    }
                }
                mapped.open.head.source = commit.fingerprint.map(Into::into).or(mapped.open.head.source);
                mapped.open.head.copy = drained.mark.map(|mark| mark.copy.into()).or(mapped.open.head.copy);
                records.push(mapped.record(&mapped.open));
                let deleted = std::mem::take(&mut mapped.to_delete);
                records.extend(deleted.into_iter().map(|number| mapped.chunk_record(number, None)));
            }
            self.partitions.insert(commit.partition, mapped);
        }
        records
    }

    /// Writes the records, however long that takes.
    ///
    /// # Errors
    /// When the topic can never be written to.
    async fn store(&self, records: Vec<Record>) -> Result<(), String> {
        let records = Arc::new(records);
        loop {
            let answers = self.sink.submit(Arc::clone(&records)).await.map_err(|error| error.to_string())?;
            let outcomes = self.answers(answers).await?;
            let lasting = outcomes.iter().find(|outcome| matches!(outcome, Outcome::Stop(_) | Outcome::Reject(_)));
            if let Some(reason) = lasting.and_then(Outcome::reason) {
                return Err(reason.to_string());
            }
            if outcomes.iter().all(|outcome| outcome.reason().is_none()) {
                return Ok(());
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Waits for the answers.
    ///
    /// # Errors
    /// When the topic was deleted.
    async fn answers(&self, mut answers: Answers) -> Result<Vec<Outcome>, String> {
        loop {
            if let Ok(outcomes) = timeout(STALLED_AFTER, &mut answers).await {
                return Ok(outcomes);
            }
            let found = self.flow.target.find_topic(self.flow.topic.topic.name()).await;
            if found.is_ok_and(|found| found.is_none()) {
                return Err("the topic does not exist any more".to_owned());
            }
        }
    }
}

/// Says that a write takes long, and when it no longer does.
struct StallReport {
    topic: Topic,
    section: String,
    problem: watch::Sender<Option<String>>,
}

impl StallReport {
    /// Waits for a part of a write; `why` says why it takes long, if known.
    async fn watch<T>(&self, part: impl Future<Output = T>, why: impl Fn() -> Option<String>) -> T {
        let mut part = std::pin::pin!(part);
        loop {
            if let Ok(ended) = timeout(STALLED_AFTER, &mut part).await {
                self.problem.send_if_modified(|problem| problem.take().is_some());
                return ended;
            }
            let why = why().unwrap_or_else(|| "no response".to_owned());
            let problem = format!("the offset map `{}` on `{}` cannot be written: {why}", self.topic, self.section);
            self.problem.send_if_modified(|known| known.replace(problem.clone()).is_none_or(|known| known != problem));
        }
    }
}

/// Returns the record of a chunk, or of its deletion.
fn chunk_record(identity: &MapIdentity, place: Partition, number: u64, value: Option<Bytes>) -> Record {
    let key = ChunkKey::new(identity.clone(), number).to_json();
    Record { partition: place, offset: 0, timestamp: None, key: Some(key.into()), value, headers: Vec::new() }
}

impl MappedPartition {
    fn record(&self, chunk: &ChunkBuilder) -> Record {
        self.chunk_record(chunk.number, Some(chunk.to_bytes().into()))
    }

    fn chunk_record(&self, number: u64, value: Option<Bytes>) -> Record {
        chunk_record(&self.identity, self.place, number, value)
    }

    /// Returns the full open chunk, and begins the next one.
    fn seal(&mut self, number: u64) -> Record {
        let record = self.record(&self.open);
        let range = self.open.range();
        self.sealed.insert(self.open.number, range);
        let mut next = ChunkBuilder::new(number, range.to);
        // The end of all copies stands in the chunks that have them.
        next.head = ChunkHead { target_end: None, ..self.open.head.clone() };
        self.open = next;
        record
    }

    /// Marks chunks for deletion: those below `low`, and those that a newer one contains.
    fn mark_useless(&mut self, low: i64) {
        let ranges: Vec<(u64, ChunkRange)> = self.sealed.iter().map(|(number, range)| (*number, *range)).collect();
        let open = (self.open.number, self.open.range());
        for (number, range) in &ranges {
            let contains =
                |(other, newer): &(u64, ChunkRange)| other > number && newer.from <= range.from && range.to <= newer.to;
            if range.to <= low || ranges.iter().chain([&open]).any(contains) {
                self.sealed.remove(number);
                self.to_delete.push(*number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_that_takes_long_is_said_and_so_is_its_end() {
        let (problem, said) = watch::channel(None);
        let stall = StallReport { topic: Topic::named("map"), section: "local_kafka".to_owned(), problem };
        let (end, ends) = oneshot::channel::<()>();
        let mut write = std::pin::pin!(stall.watch(ends, || Some("busy".to_owned())));
        assert!(timeout(STALLED_AFTER / 2, &mut write).await.is_err());
        assert_eq!(*said.borrow(), None);
        assert!(timeout(STALLED_AFTER, &mut write).await.is_err());
        assert_eq!(said.borrow().as_deref(), Some("the offset map `map` on `local_kafka` cannot be written: busy"));
        end.send(()).unwrap();
        write.await.unwrap();
        assert_eq!(*said.borrow(), None);
    }
}
