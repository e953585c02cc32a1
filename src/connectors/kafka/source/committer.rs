//! Commits the watermarks: one request at a time, each answered before the next, always with the newest watermark.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::connectors::kafka::commit_metadata::{CommitMetadata, TargetIds};
use crate::connectors::kafka::librdkafka::commits::{CommitQueue, MAX_COMMIT_PARTITIONS, fully_committed};
use crate::connectors::kafka::librdkafka::{NativeError, set_leader_epochs};
use crate::connectors::kafka::resume::ResumeRules;
use crate::connectors::kafka::source::given_up::GivenUp;
use crate::connectors::kafka::source::partitions::TopicIds;
use crate::connectors::kafka::source::read_history::ReadHistory;
use crate::pipeline::{Commit, Signal};
use crate::record::{Fingerprint, NextOffset, Partition};

/// After this long without a response, a commit counts as refused. A broker answers the requests of a connection one after the other:
/// while the group waits for another member to join again, the request to join holds up the commits behind it.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);
/// For so long every commit is refused, or not answered, until that is a stall.
const STALLED_AFTER: Duration = Duration::from_secs(3);
/// Pause before a refused commit is sent again while a caller waits.
const RETRY_BACKOFF: Duration = Duration::from_millis(100);
/// Timeout of the last commit of revoked partitions.
const REVOKED_TIMEOUT: Duration = Duration::from_secs(5);

/// What is known of the logs that the offsets count in.
#[derive(Clone, Copy)]
pub(crate) struct KnownLogs<'a> {
    pub(crate) topic_ids: &'a TopicIds,
    pub(crate) history: &'a ReadHistory,
}

pub(crate) struct Committer {
    responses: CommitQueue,
    flow: String,
    target_ids: TargetIds,
    /// None: the target commits the offsets.
    interval: Option<Duration>,
    last_sent: Instant,
    /// The newest watermark of each partition.
    pending: HashMap<Partition, Commit>,
    /// Partitions that may be committed at a lower offset than before: librdkafka does not send a stored offset that is not greater
    /// than the last one that it committed.
    rewound: HashSet<Partition>,
    /// The last commits that do not name the target topic: they do not show that it was re-created, or name the one before it.
    unnamed: HashMap<Partition, Commit>,
    confirmed: HashMap<Partition, Commit>,
    /// Partitions that a rebalance has taken away, whose last commit may follow.
    leaving: HashMap<Partition, Leaving>,
    given_up: GivenUp,
    /// Whether what was refused was taken away: the group has accepted nothing since.
    is_unresolved: bool,
    in_flight: Option<InFlightCommit>,
    /// When the missing response was last reported.
    reported: Option<Instant>,
    /// Whether a commit was refused since one was last confirmed.
    is_refused: bool,
    /// Since when every commit was refused.
    refused_since: Option<Instant>,
    /// Whether commits name the leader epoch before their offsets: some brokers that are not Apache Kafka's refuse any but the present one.
    names_epochs: bool,
}

/// A partition between a rebalance and its last commit.
struct Leaving {
    /// The delivered records that its commits cover.
    confirmed: u64,
    /// The last watermark that was noted before.
    last: Commit,
}

struct InFlightCommit {
    since: Instant,
    commits: Vec<Commit>,
    /// Whether there were too many partitions for one request.
    more: bool,
}

impl Committer {
    pub(crate) fn new<C: ConsumerContext>(consumer: &BaseConsumer<C>, rules: &ResumeRules, interval: Option<Duration>) -> Self {
        Self {
            responses: CommitQueue::new(consumer.client()),
            flow: rules.flow.clone(),
            target_ids: rules.target_ids.clone(),
            interval,
            last_sent: Instant::now(),
            pending: HashMap::new(),
            rewound: HashSet::new(),
            unnamed: HashMap::new(),
            confirmed: HashMap::new(),
            leaving: HashMap::new(),
            given_up: GivenUp::default(),
            is_unresolved: false,
            in_flight: None,
            reported: None,
            is_refused: false,
            refused_since: None,
            names_epochs: true,
        }
    }

    /// Returns the last record before the watermark of a partition.
    pub(crate) fn fingerprint(&self, partition: Partition) -> Option<Fingerprint> {
        self.pending.get(&partition)?.fingerprint
    }

    /// Returns the watermarks of these partitions.
    pub(crate) fn watermarks(&self, partitions: &[Partition]) -> Vec<Commit> {
        partitions.iter().filter_map(|partition| self.pending.get(partition)).copied().collect()
    }

    /// Notes a watermark for the next request.
    pub(crate) fn note(&mut self, commit: Commit) {
        self.pending.insert(commit.partition, commit);
    }

    /// Allows the next commit of a partition at any offset: it is assigned anew, and perhaps starts before its last commit.
    pub(crate) fn rewind(&mut self, partition: Partition) {
        self.rewound.insert(partition);
    }

    /// Commits the start of a partition that was read before: its next owner continues from there, with or without records.
    pub(crate) fn note_start(&mut self, partition: Partition, next: NextOffset) {
        self.renew(Commit { partition, next, fingerprint: None, delivered: 0 });
    }

    /// Commits a position again: another flow committed it, and it is this flow's from now on, or the commit lacks what this one names.
    pub(crate) fn renew(&mut self, commit: Commit) {
        self.rewind(commit.partition);
        if self.interval.is_some() {
            self.note(commit);
        }
    }

    /// Notes what the group has committed without the target topic, or with another: it is committed again when the topic's id is
    /// known.
    pub(crate) fn note_unnamed(&mut self, commit: Commit) {
        if self.interval.is_some() {
            self.unnamed.insert(commit.partition, commit);
        }
    }

    /// Has the commits that do not name the target topic sent again if its id is known by now.
    fn renew_unnamed(&mut self) {
        let named: Vec<Commit> = self.unnamed.values().filter(|of| self.target_ids.knows(of.partition.topic)).copied().collect();
        for commit in named {
            self.unnamed.remove(&commit.partition);
            self.confirmed.remove(&commit.partition);
            self.pending.entry(commit.partition).or_insert(commit); // unless a newer one is there
            self.rewind(commit.partition);
        }
    }

    /// Forgets partitions that a rebalance takes away. Afterwards their last commit is confirmed, or they are given up.
    pub(crate) fn take_away(&mut self, partitions: &[Partition]) {
        self.note_leaving(partitions);
        self.forget(partitions);
    }

    fn note_leaving(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            // Unless it is noted: librdkafka may have refused it before the event that takes it away.
            if let Some(last) = self.pending.get(partition) {
                let confirmed = self.confirmed.get(partition).map_or(0, |commit| commit.delivered);
                self.leaving.insert(*partition, Leaving { confirmed, last: *last });
            }
        }
        self.is_unresolved |= self.is_refused && !partitions.is_empty();
    }

    /// Notes that the last commits of partitions that were taken away are confirmed.
    pub(crate) fn on_last_confirmed(&mut self, commits: &[Commit]) {
        for commit in commits {
            self.leaving.remove(&commit.partition);
            self.given_up.on_position(commit.partition, commit.next);
        }
        self.is_unresolved &= commits.is_empty();
    }

    /// Gives up the commits of partitions that were taken away, `last` or those that were noted before; returns how many delivered
    /// records they would have covered.
    pub(crate) fn give_up(&mut self, partitions: &[Partition], last: &[Commit]) -> u64 {
        let mut records = 0;
        for partition in partitions {
            let noted = self.leaving.remove(partition);
            let last = last.iter().find(|commit| commit.partition == *partition).copied();
            if let Some(last) = last.or(noted.as_ref().map(|leaving| leaving.last)) {
                records += self.given_up.note(last, noted.map_or(0, |leaving| leaving.confirmed));
            }
        }
        records
    }

    /// Notes that the group has given this member its partitions, or none: its coordinator answers.
    pub(crate) fn on_assigned(&mut self) {
        self.is_unresolved = false;
    }

    /// Fails while what was refused is taken away, and the group has accepted nothing since.
    pub(crate) fn refuse_unresolved(&self) -> Result<(), NativeError> {
        if self.is_unresolved { Err(NativeError::coordinator_timed_out()) } else { Ok(()) }
    }

    /// Notes that this member reads a partition again. With `is_new` its topic is another one, and nothing is repeated.
    pub(crate) fn on_start(&mut self, partition: Partition, start: NextOffset, is_new: bool) {
        self.leaving.remove(&partition);
        self.given_up.on_position(partition, if is_new { NextOffset(i64::MAX) } else { start });
    }

    /// Returns the partitions whose delivered records the group has not committed, as far as this member knows.
    pub(crate) fn given_up(&self) -> &GivenUp {
        &self.given_up
    }

    /// Forgets partitions that this member no longer owns.
    pub(crate) fn forget(&mut self, partitions: &[Partition]) {
        if let Some(sent) = &mut self.in_flight {
            sent.commits.retain(|commit| !partitions.contains(&commit.partition));
        }
        self.pending.retain(|partition, _| !partitions.contains(partition));
        self.confirmed.retain(|partition, _| !partitions.contains(partition));
        self.unnamed.retain(|partition, _| !partitions.contains(partition));
    }

    /// Takes a response that has arrived and sends what is due, without waiting. Returns what the engine should know.
    pub(crate) fn serve<C: ConsumerContext>(&mut self, consumer: &BaseConsumer<C>, logs: KnownLogs<'_>) -> Vec<Signal> {
        let mut signals = Vec::new();
        let more = self.in_flight.as_ref().is_some_and(|sent| sent.more);
        let answered = self.take_response(Duration::ZERO, &mut signals);
        let is_due = self.interval.is_some_and(|interval| self.last_sent.elapsed() >= interval);
        if self.in_flight.is_none() && (is_due || (more && matches!(answered, Some(Ok(()))))) {
            self.send(consumer, logs, &mut signals);
        }
        signals
    }

    /// Waits until the broker has confirmed every watermark, at most until `deadline`.
    pub(crate) fn flush<C: ConsumerContext>(
        &mut self,
        consumer: &BaseConsumer<C>,
        logs: KnownLogs<'_>,
        deadline: Instant,
        signals: &mut Vec<Signal>,
    ) -> Result<(), NativeError> {
        loop {
            if self.in_flight.is_none() {
                self.send(consumer, logs, signals);
            }
            if self.in_flight.is_none() {
                return Ok(()); // everything is committed
            }
            match self.take_response(Duration::from_millis(100), signals) {
                Some(Err(error)) if error.is_final() || Instant::now() > deadline => return Err(error),
                // A coordinator that moves or loads accepts the watermark, by then perhaps a newer one, a moment later.
                Some(Err(_)) => std::thread::sleep(RETRY_BACKOFF),
                None if Instant::now() > deadline => return Err(NativeError::coordinator_timed_out()),
                Some(Ok(())) | None => {}
            }
        }
    }

    fn send<C: ConsumerContext>(&mut self, consumer: &BaseConsumer<C>, logs: KnownLogs<'_>, signals: &mut Vec<Signal>) {
        self.last_sent = Instant::now();
        self.renew_unnamed();
        let unconfirmed =
            |commit: &&Commit| self.confirmed.get(&commit.partition).is_none_or(|confirmed| confirmed.next != commit.next);
        let mut commits: Vec<Commit> =
            self.pending.values().filter(unconfirmed).take(MAX_COMMIT_PARTITIONS + 1).copied().collect();
        let is_rewound = |commit: &Commit| self.rewound.contains(&commit.partition);
        let rewinds = commits.iter().any(is_rewound);
        let more = rewinds || commits.len() > MAX_COMMIT_PARTITIONS;
        if rewinds {
            commits.retain(is_rewound); // the others follow
        }
        commits.truncate(MAX_COMMIT_PARTITIONS);
        if commits.is_empty() {
            if !self.is_unresolved {
                self.report_recovery(signals); // what was refused is confirmed, or is committed by another way
            }
            return;
        }
        // Before the list is made: an id may become known meanwhile.
        for commit in &commits {
            if self.target_ids.knows(commit.partition.topic) {
                self.unnamed.remove(&commit.partition);
            } else {
                self.unnamed.insert(commit.partition, *commit);
            }
        }
        let list = self.list(&commits, logs);
        // librdkafka refuses a partition that the consumer has lost, without a request.
        let stored = consumer.store_offsets(&list);
        let refused: Vec<Partition> = list
            .elements()
            .iter()
            .filter(|element| element.error().is_err())
            .map(|element| Partition::new(element.topic(), element.partition()))
            .collect();
        self.note_leaving(&refused);
        self.pending.retain(|partition, _| !refused.contains(partition));
        commits.retain(|commit| !refused.contains(&commit.partition));
        if stored.is_err() || commits.is_empty() {
            return;
        }
        let rewound = rewinds.then(|| self.list(&commits, logs));
        match self.responses.commit(consumer.client(), rewound.as_ref()) {
            Ok(()) => self.in_flight = Some(InFlightCommit { since: Instant::now(), commits, more }),
            Err(error) => self.report_refusal(&error, signals),
        }
    }

    /// Takes the response to the commit in flight, if it arrives within `timeout`.
    fn take_response(&mut self, timeout: Duration, signals: &mut Vec<Signal>) -> Option<Result<(), NativeError>> {
        let since = self.in_flight.as_ref()?.since;
        let Some(response) = self.responses.wait(timeout) else {
            // Not sent again meanwhile: a late response could not be told from the response to the second request.
            if self.reported.unwrap_or(since).elapsed() > RESPONSE_TIMEOUT {
                self.reported = Some(Instant::now());
                self.refused_since.get_or_insert(since);
                self.report_refusal(&NativeError::coordinator_timed_out(), signals);
            }
            return None;
        };
        self.reported = None;
        let sent = self.in_flight.take().expect("checked above");
        let is_owned = |commit: &Commit| self.pending.contains_key(&commit.partition);
        if let Err(error) = fully_committed(response) {
            if error.code == RDKafkaErrorCode::NoOffset && !sent.commits.iter().any(is_owned) {
                return Some(Ok(())); // nothing was sent: the partitions were revoked meanwhile
            }
            self.names_epochs &= !error.is_of_leader_epoch();
            self.report_refusal(&error, signals);
            return Some(Err(error));
        }
        let confirmed: Vec<_> = sent.commits.iter().map(|commit| (commit.partition, commit.next)).collect();
        self.rewound.retain(|partition| !confirmed.iter().any(|(confirmed, _)| confirmed == partition));
        // Only of partitions that are still owned: a later assignment starts from the broker's position.
        let owned = sent.commits.iter().filter(|commit| self.pending.contains_key(&commit.partition));
        self.confirmed.extend(owned.map(|commit| (commit.partition, *commit)));
        for (partition, next) in &confirmed {
            self.given_up.on_position(*partition, *next);
        }
        self.is_unresolved = false;
        self.report_recovery(signals);
        signals.push(Signal::Committed(confirmed));
        Some(Ok(()))
    }

    /// Reports commits that are refused or unanswered for a while: one refusal or two belong to every rebalance and every coordinator that moves.
    fn report_refusal(&mut self, error: &NativeError, signals: &mut Vec<Signal>) {
        self.is_refused = true;
        let now = Instant::now();
        if now - *self.refused_since.get_or_insert(now) >= STALLED_AFTER || error.is_denied() {
            signals.push(Signal::CommitsDegraded(Some(refusal_reason(error))));
        }
    }

    fn report_recovery(&mut self, signals: &mut Vec<Signal>) {
        self.refused_since = None;
        if std::mem::take(&mut self.is_refused) {
            signals.push(Signal::CommitsDegraded(None));
        }
    }

    /// Commits the final watermarks of partitions that are being revoked, and only these. Waits for the group's coordinator.
    pub(crate) fn commit_revoked<C: ConsumerContext>(
        &self,
        consumer: &BaseConsumer<C>,
        logs: KnownLogs<'_>,
        commits: &[Commit],
    ) -> Result<(), NativeError> {
        let responses = CommitQueue::new(consumer.client());
        let deadline = Instant::now() + REVOKED_TIMEOUT;
        for commits in commits.chunks(MAX_COMMIT_PARTITIONS) {
            let list = self.list(commits, logs);
            let attempt = || {
                consumer.store_offsets(&list)?;
                responses.commit(consumer.client(), Some(&list))?;
                let left = deadline.saturating_duration_since(Instant::now());
                fully_committed(responses.wait(left).ok_or_else(NativeError::coordinator_timed_out)?)
            };
            let mut outcome = attempt();
            while outcome.as_ref().is_err_and(|error| !error.is_final()) && Instant::now() + RETRY_BACKOFF < deadline {
                std::thread::sleep(RETRY_BACKOFF);
                outcome = attempt();
            }
            outcome?;
        }
        Ok(())
    }

    fn list(&self, commits: &[Commit], logs: KnownLogs<'_>) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(commits.len());
        for commit in commits {
            let topic_id = logs.topic_ids.get(commit.partition).map(ToOwned::to_owned);
            let mut element = list.add_partition(commit.partition.topic.name(), commit.partition.index);
            element.set_offset(Offset::Offset(commit.next.0)).expect("an offset is not negative");
            let metadata = CommitMetadata::new(&self.flow, commit.fingerprint).with_topic_id(topic_id);
            element.set_metadata(metadata.with_target_id(self.target_ids.get(commit.partition.topic)).to_json());
        }
        if self.names_epochs {
            let epoch = |commit: &Commit| logs.history.leader_epoch(commit.partition, commit.next.0);
            set_leader_epochs(&mut list, &commits.iter().map(epoch).collect::<Vec<_>>());
        }
        list
    }
}

/// Returns why commits fail. The same for each attempt, and for each way in which a coordinator can be silent.
fn refusal_reason(error: &NativeError) -> String {
    if error.is_unanswered() {
        return format!("{} (it is away, or the group rebalances)", NativeError::coordinator_timed_out());
    }
    format!("offset commit failed: {}", error.summary())
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;

    use super::*;
    use crate::connectors::kafka::client_log::LogContext;
    use crate::connectors::kafka::resume::OnGap;

    #[allow(clippy::disallowed_methods, reason = "it connects to no broker")]
    fn committer() -> (BaseConsumer<LogContext>, Committer) {
        let consumer: BaseConsumer<LogContext> =
            ClientConfig::new().set("group.id", "g").create_with_context(LogContext::default()).unwrap();
        let (flow, target_ids) = ("replicate a/t".to_owned(), TargetIds::default());
        let rules = ResumeRules { flow, adopt: false, on_gap: OnGap::Refuse, target_ids };
        let committer = Committer::new(&consumer, &rules, Some(Duration::ZERO));
        (consumer, committer)
    }

    #[test]
    fn a_silent_coordinator_has_one_reason_and_a_refusal_that_of_the_broker() {
        use RDKafkaErrorCode as Code;
        let silent = [Code::WaitingForCoordinator, Code::OperationTimedOut, Code::TimedOutQueue];
        for code in silent.into_iter().chain([Code::BrokerTransportFailure, Code::DestroyBroker]) {
            let reason = "the group's coordinator does not answer (it is away, or the group rebalances)";
            assert_eq!(refusal_reason(&code.into()), reason, "{code:?}");
        }
        let text = "Broker: Coordinator load in progress".to_owned();
        let loading = NativeError { code: Code::CoordinatorLoadInProgress, text };
        assert_eq!(refusal_reason(&loading), "offset commit failed: coordinator load in progress");
    }

    #[test]
    fn a_commit_that_is_not_answered_is_a_stall_as_soon_as_one_that_is_refused() {
        let ago = |millis| Instant::now().checked_sub(Duration::from_millis(millis)).expect("the machine runs for longer");
        let is_stalled = |refused: Option<u64>, sent| {
            let (_consumer, mut committer) = committer();
            committer.refused_since = refused.map(ago);
            committer.in_flight = Some(InFlightCommit { since: ago(sent), commits: Vec::new(), more: false });
            let mut signals = Vec::new();
            assert!(committer.take_response(Duration::ZERO, &mut signals).is_none());
            matches!(signals[..], [Signal::CommitsDegraded(Some(_))])
        };
        assert!(!is_stalled(None, 0));
        assert!(!is_stalled(None, 1_500), "a slow answer");
        assert!(is_stalled(None, 3_000));
        assert!(is_stalled(Some(3_000), 1_100), "those before were refused");
        assert!(!is_stalled(Some(9_000), 0), "perhaps this one is accepted");
        let (_consumer, mut committer) = committer();
        let mut signals = Vec::new();
        committer.report_refusal(&RDKafkaErrorCode::NotCoordinator.into(), &mut signals);
        assert!(signals.is_empty(), "a coordinator that moves refuses one or two");
        committer.refused_since = Some(ago(3_000));
        committer.report_refusal(&RDKafkaErrorCode::NotCoordinator.into(), &mut signals);
        assert!(matches!(signals[..], [Signal::CommitsDegraded(Some(_))]));
    }

    #[test]
    fn commits_of_a_lost_partition_stay_stalled_until_the_group_gives_partitions_again() {
        let (consumer, mut committer) = committer();
        let (partition, topic_ids, history) = (Partition::new("committer", 0), TopicIds::default(), ReadHistory::default());
        let logs = KnownLogs { topic_ids: &topic_ids, history: &history };
        let recoveries = |signals: Vec<Signal>| signals.iter().filter(|of| matches!(of, Signal::CommitsDegraded(None))).count();
        committer.note(Commit { partition, next: NextOffset(2_500), fingerprint: None, delivered: 2_000 });
        committer.report_refusal(&NativeError::coordinator_timed_out(), &mut Vec::new());
        for _ in 0..3 {
            // The consumer does not own the partition: librdkafka refuses to commit it.
            assert_eq!(recoveries(committer.serve(&consumer, logs)), 0, "nothing was committed");
        }
        committer.take_away(&[partition]);
        assert_eq!(committer.give_up(&[partition], &[]), 2_000);
        assert_eq!(recoveries(committer.serve(&consumer, logs)), 0);
        assert!(committer.refuse_unresolved().is_err(), "no caller that waits for the broker is told otherwise");
        committer.on_assigned();
        assert_eq!(committer.refuse_unresolved(), Ok(()));
        assert_eq!(recoveries(committer.serve(&consumer, logs)), 1);
        assert_eq!(committer.given_up().iter().collect::<Vec<_>>(), [(partition, NextOffset(2_500))], "it is read again");
        committer.on_start(partition, NextOffset(508), false);
        assert_eq!(committer.given_up().iter().count(), 1, "from where the group was");
        committer.on_start(partition, NextOffset(2_500), false);
        assert_eq!(committer.given_up().iter().count(), 0, "another member has committed it");
    }

    #[test]
    fn a_last_commit_that_is_confirmed_is_not_given_up_and_one_that_is_refused_is() {
        let (_consumer, mut committer) = committer();
        let [first, second] = [0, 1].map(|index| Partition::new("committer", index));
        let commit =
            |partition, next| Commit { partition, next: NextOffset(next), fingerprint: None, delivered: next.unsigned_abs() };
        committer.note(commit(first, 10));
        committer.take_away(&[first, second]);
        committer.on_last_confirmed(&[commit(first, 20)]);
        assert_eq!(committer.give_up(&[first], &[]), 0);
        assert_eq!(committer.give_up(&[second], &[commit(second, 30)]), 30, "delivered while it was revoked");
        assert_eq!(committer.given_up().iter().collect::<Vec<_>>(), [(second, NextOffset(30))]);
    }
}
