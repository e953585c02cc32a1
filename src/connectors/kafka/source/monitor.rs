//! What the thread that polls keeps an eye on: ends, topics that come and go, gaps, errors.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use crate::connectors::kafka::admin::{OffsetSpec, list_ends};
use crate::connectors::kafka::librdkafka::commits::seen_ends;
use crate::connectors::kafka::rebalance::{lock, log_refusal};
use crate::connectors::kafka::resume::{self};
use crate::connectors::kafka::source::Subscription;
use crate::connectors::kafka::source::poller::Poller;
use crate::pipeline::{Assignment, Failure, Signal};
use crate::record::{NextOffset, Partition, Topic};

/// How often the ends of partitions are told.
const TELL_ENDS: Duration = Duration::from_secs(1);
/// How often the topics of a pattern are looked up.
const LOOK_FOR_TOPICS: Duration = Duration::from_secs(10);
/// How long a topic may seem to be gone, as it does while a broker that was restarted learns of it.
const MISSING: Duration = Duration::from_secs(10);

impl Poller {
    /// A member without partitions is done when the others have committed everything.
    pub(super) fn look_for_end(&mut self) {
        if !self.shared.bounded
            || self.ended
            || self.looked_for_end.elapsed() < TELL_ENDS
            || !lock(&self.shared.progress).is_empty()
        {
            return;
        }
        self.looked_for_end = Instant::now();
        let mut list = TopicPartitionList::with_capacity(self.shared.stops.len());
        for partition in self.shared.stops.keys() {
            list.add_partition(partition.topic.name(), partition.index);
        }
        let Ok(committed) = self.consumer.committed_offsets(list, Duration::from_secs(1)) else { return };
        let done = committed.elements().iter().all(|element| {
            let stop = self.shared.stops.get(&Partition::new(element.topic(), element.partition())).copied().unwrap_or(0);
            stop == 0 || matches!(element.offset(), Offset::Offset(next) if next >= stop)
        });
        if done {
            self.ended = true;
            self.shared.handover.end();
        }
    }

    pub(super) fn tell_ends(&mut self) {
        if self.told_ends.elapsed() >= TELL_ENDS {
            self.told_ends = Instant::now();
            let owned: Vec<Partition> = lock(&self.shared.progress).keys().copied().collect();
            let client = self.consumer.client();
            let end = |partition: Partition| Some((partition, seen_ends(client, partition.topic.name(), partition.index)?.1));
            self.shared.handover.signal(Signal::LogEndOffsets(owned.into_iter().filter_map(end).collect()));
        }
    }

    /// Subscribes to topics that have come to fit the pattern.
    pub(super) fn look_for_topics(&mut self) {
        let Subscription::Matching(fits) = &self.subscription else { return };
        if self.looked_for_topics.elapsed() < LOOK_FOR_TOPICS {
            return;
        }
        self.looked_for_topics = Instant::now();
        let Ok(metadata) = self.consumer.fetch_metadata(None, Duration::from_secs(2)) else { return };
        let names = metadata.topics().iter().map(rdkafka::metadata::MetadataTopic::name);
        let fitting = names.filter(|name| fits(name)).map(Topic::named).collect();
        if fitting != self.known_topics {
            tracing::info!(topics = ?fitting, "The topics that fit the pattern have changed.");
            self.known_topics = fitting;
            if let Err(error) = self.join() {
                self.shared.handover.fail(error);
            }
        }
    }

    /// Fails when a topic that was to be read has been gone for too long.
    pub(super) fn look_for_missing(&mut self) {
        if self.missing_since.is_none_or(|since| since.elapsed() < MISSING) {
            return;
        }
        self.missing_since = None;
        if matches!(self.subscription, Subscription::Matching(_)) {
            return; // what fits the pattern is looked up anyway
        }
        for topic in &self.known_topics {
            let there = self.consumer.fetch_metadata(Some(topic.name()), Duration::from_secs(2));
            if there.is_ok_and(|metadata| metadata.topics().iter().all(|topic| topic.partitions().is_empty())) {
                let failure = Failure::new(format!("topic `{topic}` is gone from `{}`", self.shared.section.name));
                let hint = "create it again or leave it out; a topic that is created anew is read with --from-beginning";
                return self.shared.handover.fail(failure.hint(hint).into());
            }
        }
    }

    /// Sorts an error of the consumer: what passes is told, what does not ends the feed.
    pub(super) fn on_consumer_error(&mut self, error: &KafkaError) {
        let section = &self.shared.section.name;
        let failure = |what: &str| Failure::new(format!("{what} `{section}`")).because(error);
        let KafkaError::MessageConsumption(code) = error else {
            if let KafkaError::MessageConsumptionFatal(RDKafkaErrorCode::FencedInstanceId) = error {
                let fenced = failure("another member took over the instance id on");
                return self.shared.handover.fail(fenced.hint("give each running member an --instance-id of its own").into());
            }
            return self.shared.handover.fail(failure("cannot read from").into());
        };
        match code {
            RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset => self.handle_out_of_range(),
            RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::GroupAuthorizationFailed => {
                let refused = failure("not allowed to read from");
                self.shared.handover.fail(refused.hint("give the user READ on the topic and on the group").into());
            }
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
                self.missing_since.get_or_insert_with(Instant::now);
                self.tell_trouble(error);
            }
            _ => self.tell_trouble(error),
        }
    }

    pub(super) fn tell_trouble(&mut self, error: &KafkaError) {
        self.troubled = true;
        let said = self.consumer.context().listening.client_log.last();
        self.shared.handover.signal(Signal::Degraded(Some(said.unwrap_or_else(|| error.to_string()))));
    }

    /// An offset that was to be read is not in the log: refuse, or go on where it was asked for.
    pub(super) fn handle_out_of_range(&mut self) {
        let owned: Vec<(Partition, i64)> =
            lock(&self.shared.progress).iter().map(|(partition, at)| (*partition, at.next)).collect();
        let partitions: Vec<Partition> = owned.iter().map(|(partition, _)| *partition).collect();
        let ends = |of| list_ends(self.consumer.client(), &partitions, of);
        let (low, end) = match (ends(OffsetSpec::Start), ends(OffsetSpec::Log)) {
            (Ok(low), Ok(end)) => (low, end),
            (Err(error), _) | (_, Err(error)) => {
                let failure = Failure::new(format!("cannot read the ends of partitions of `{}`", self.shared.section.name));
                return self.shared.handover.fail(failure.because(error).into());
            }
        };
        for (partition, wanted) in owned {
            let at = |ends: &HashMap<Partition, i64>| ends.get(&partition).copied().unwrap_or(0);
            if (at(&low)..=at(&end)).contains(&wanted) {
                continue;
            }
            match resume::gap(partition, wanted, at(&low), at(&end), self.shared.rules.on_gap) {
                Ok(next) => self.jump(partition, next),
                Err(refused) => return self.shared.handover.fail(refused.into()),
            }
        }
    }

    /// Begins a new life of a partition behind a gap.
    pub(super) fn jump(&mut self, partition: Partition, next: NextOffset) {
        tracing::warn!(%partition, offset = next.0, "Records are missing; reading goes on behind the gap.");
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(partition.topic.name(), partition.index);
        log_refusal("unassign", self.consumer.incremental_unassign(&list));
        self.shared.forget(&[partition]);
        self.shared.handover.signal(Signal::Lost(vec![partition]));
        let begun = self.shared.begin(partition, next);
        lock(&self.shared.progress).insert(partition, begun);
        self.shared.handover.signal(Signal::Assigned(vec![Assignment {
            partition,
            start: next,
            fingerprint: None,
            extension: None,
        }]));
        list.set_all_offsets(Offset::Offset(next.0)).expect("an offset is not negative");
        log_refusal("assign", self.consumer.incremental_assign(&list));
    }
}
