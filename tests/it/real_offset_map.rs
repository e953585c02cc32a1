//! The hand-over of consumer groups to a copy, on real clusters, checked by content with kcat.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

use crate::harness::{
    Clusters, Content, Dice, Finished, ReadRecord, Running, Sdl, Sender, eventually, read, read_as_group_with_kcat, setting,
    unique,
};

const PARTITIONS: i32 = 6;
const GROUPS: usize = 10;
/// The records of a committed transaction.
const IN_ROUND: i64 = 150;

/// Returns a record: in each partition one in three is filtered, and one in eleven is bad.
fn record(number: i64) -> (i32, Content) {
    let (partition, nth) = (number % i64::from(PARTITIONS), number / i64::from(PARTITIONS));
    let value = match nth {
        bad if bad % 11 == 0 => format!("{{\"keep\": 1, \"n\": \"{number}\"}}"),
        nth => format!("{{\"keep\": {}, \"n\": {number}}}", i64::from(nth % 3 != 0)),
    };
    // Some keys are found again: the cleaner makes holes.
    let key = Some(format!("{}", number % 1009).into_bytes());
    let timestamp = Some(1_700_000_000_000 + number * 10);
    let partition = i32::try_from(partition).expect("a small number");
    (partition, Content { timestamp, key, value: Some(value.into()), headers: Vec::new() })
}

/// Returns whether the copy has a record of the source.
fn is_copied(record: &ReadRecord) -> bool {
    let value: serde_json::Value = serde_json::from_slice(record.content.value.as_deref().expect("a value")).expect("JSON");
    value["n"].is_i64() && value["keep"] == 1
}

struct HandOver {
    clusters: Clusters,
    topic: String,
    sender: Sender,
    rounds: i64,
}

impl HandOver {
    fn new() -> Self {
        let (clusters, topic) = (Clusters::shared(), unique("hand-over"));
        let settings = [("cleanup.policy", "compact"), ("segment.ms", "1000"), ("min.cleanable.dirty.ratio", "0.01")];
        clusters.source.create_topic(&topic, PARTITIONS, &settings);
        clusters.target.create_topic(&topic, PARTITIONS, &[("retention.ms", "-1")]);
        let sender = Sender::transactional(&clusters.source, &unique("id"));
        Self { clusters, topic, sender, rounds: 0 }
    }

    fn copy(&self, flags: &str) -> Sdl {
        self.copy_as(&self.topic, flags)
    }

    fn copy_as(&self, group: &str, flags: &str) -> Sdl {
        let topic = &self.topic;
        let shape = "--where keep=1 --require n:int";
        let letters = format!("--dead-letters topic:{topic}-bad --dead-letter-limit 100000/1s");
        self.sdl(&format!("replicate {topic} --group {group} {shape} {letters} {flags}"))
    }

    fn sdl(&self, arguments: &str) -> Sdl {
        Sdl::new(arguments).profile(&self.clusters.profile("unused"))
    }

    fn run(&self, arguments: &str, code: i32) -> Finished {
        self.sdl(arguments).run().expect(code)
    }

    /// Sends records, with a transaction that is aborted in every round.
    fn fill(&mut self, rounds: i64) {
        for round in self.rounds..self.rounds + rounds {
            let numbers = |from: i64| (from..from + IN_ROUND).map(record).collect::<Vec<_>>();
            self.sender.transaction(&self.topic, &numbers(round * IN_ROUND), true);
            self.sender.transaction(&self.topic, &numbers(1_000_000 + round * IN_ROUND)[..20], false);
        }
        self.rounds += rounds;
    }

    /// Sends records until the cleaner has made holes, and makes it stop: what a group would read next stays the same.
    fn fill_with_holes(&mut self) {
        self.fill(20);
        eventually("the log has holes", Duration::from_secs(60), || {
            std::thread::sleep(Duration::from_secs(1)); // a segment ends with the first record after a second
            self.fill(1);
            let sent = usize::try_from(self.rounds * IN_ROUND).expect("a small number");
            (read(&self.clusters.source, &self.topic).len() < sent).then_some(())
        });
        self.clusters.source.set_topic(&self.topic, &[("cleanup.policy", "delete"), ("retention.ms", "-1")]);
    }

    /// Commits a position of each partition on the source, as a consumer does.
    fn commit(&self, group: &str, positions: &[i64]) {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in (0..).zip(positions) {
            list.add_partition_offset(&self.topic, partition, Offset::Offset(*offset)).expect("a valid offset");
        }
        self.clusters.source.consumer(group).commit(&list, CommitMode::Sync).expect("the commit is taken");
    }

    /// Returns the positions of a group on the target.
    fn handed_over(&self, group: &str) -> Vec<Option<i64>> {
        self.clusters.target.committed(group, &self.topic)
    }

    fn start_translation(&self, groups: &[String]) -> Running {
        self.sdl(&format!("offsets translate {} --yes --every 200ms", groups.join(" "))).start()
    }

    /// Lets a consumer of each group read on, with kcat, where it would on the source and where it does on the target.
    #[track_caller]
    fn assert_continues(&self, group: &str) {
        let (source, target) = (&self.clusters.source, &self.clusters.target);
        let wanted = read_as_group_with_kcat(source, group, &self.topic);
        let found = read_as_group_with_kcat(target, group, &self.topic);
        for partition in 0..PARTITIONS {
            let of = |records: &[ReadRecord]| -> Vec<Content> {
                records.iter().filter(|record| record.partition == partition).map(|record| record.content.clone()).collect()
            };
            let wanted = of(&wanted.iter().filter(|record| is_copied(record)).cloned().collect::<Vec<_>>());
            let found = of(&found);
            assert_eq!(found.first(), wanted.first(), "{group}, partition {partition}: the next record");
            let by_value = |records: &[Content]| {
                records.iter().map(|record| (record.value.clone(), record.clone())).collect::<BTreeMap<_, _>>()
            };
            assert_eq!(by_value(&found), by_value(&wanted), "{group}, partition {partition}: all that follows");
        }
    }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_every_group_goes_on_at_the_record_that_it_would_have_read_next() {
    let (mut hand_over, mut dice) = (HandOver::new(), Dice::of_environment());
    hand_over.fill_with_holes();
    let groups: Vec<String> = (0..GROUPS).map(|number| unique(&format!("consumers-{number}"))).collect();
    let mut positions: BTreeMap<&String, Vec<i64>> = groups.iter().map(|group| (group, vec![0; PARTITIONS as usize])).collect();
    let mut before: BTreeMap<&String, Vec<Option<i64>>> = BTreeMap::new();
    let mut move_on = |hand_over: &HandOver, dice: &mut Dice| {
        let ends: Vec<i64> = hand_over.clusters.source.offsets(&hand_over.topic).into_iter().map(|(_, end)| end).collect();
        for (group, positions) in &mut positions {
            for (position, end) in positions.iter_mut().zip(&ends) {
                let below = u64::try_from(*end - *position).expect("a position in the log");
                let further = i64::try_from(dice.between(0, below)).expect("an offset");
                // Most stay behind, some are at the end.
                *position = if dice.one_in(15) { *end } else { *position + further / 4 };
            }
            hand_over.commit(group, positions);
        }
    };
    move_on(&hand_over, &mut dice);
    let mut translation = hand_over.start_translation(&groups);
    for _ in 0..setting("SDL_TEST_KILLS", 4) {
        hand_over.fill(1);
        let copied = hand_over.clusters.target.count(&hand_over.topic);
        let mut copy = hand_over.copy("--rate 600 --batch 20 --instance-id one").start();
        move_on(&hand_over, &mut dice);
        copy.wait_for_count(&hand_over.clusters.target, &hand_over.topic, copied + 20);
        copy.kill_within(Duration::from_millis(1500), &mut dice);
        let _ = copy.wait();
        translation.signal("KILL");
        let _ = translation.wait();
        for group in &groups {
            let now = hand_over.handed_over(group);
            if let Some(earlier) = before.insert(group, now.clone()) {
                assert!(earlier.iter().zip(&now).all(|(earlier, now)| earlier <= now), "{group} went back: {earlier:?}, {now:?}");
            }
        }
        translation = hand_over.start_translation(&groups);
    }
    translation.wait_for_stderr("group `"); // it has begun: it can be asked to end
    translation.end();
    hand_over.fill(3);
    hand_over.copy("--until-caught-up --instance-id one").run().expect(3);
    move_on(&hand_over, &mut dice);
    hand_over.run(&format!("offsets translate {} --yes", groups.join(" ")), 0);
    std::thread::scope(|scope| {
        for group in &groups {
            let hand_over = &hand_over;
            scope.spawn(move || hand_over.assert_continues(group));
        }
    });
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_group_with_members_on_the_target_is_refused_and_they_are_named() {
    let mut hand_over = HandOver::new();
    hand_over.fill(1);
    let topic = &hand_over.topic;
    hand_over.copy("--until-caught-up").run().expect(3);
    let (group, other) = (unique("busy"), unique("idle"));
    for group in [&group, &other] {
        hand_over.clusters.source.commit(group, topic, 0, 3, "");
    }
    let member = hand_over.clusters.target.join(&group, topic);
    let refused = hand_over.run(&format!("offsets translate {group} --yes"), 5);
    assert!(refused.stderr.contains(&format!("`{group}`: it has active members: member-of-{group} at ")), "{}", refused.stderr);
    hand_over.run(&format!("offsets translate {group} {other} --yes"), 4);
    assert!(hand_over.handed_over(&other)[0].is_some());
    drop(member);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_groups_are_translated_beside_the_copy() {
    let mut hand_over = HandOver::new();
    hand_over.fill(1);
    let group = unique("beside");
    hand_over.commit(&group, &[3; PARTITIONS as usize]);
    let copied = hand_over.copy("--until-caught-up").arg("--groups").arg(&group).run().expect(3);
    assert!(copied.stderr.contains(&format!("group `{group}`: 6 positions translated")), "{}", copied.stderr);
    hand_over.assert_continues(&group);
    let hidden = hand_over.run("topics --source local_kafka", 0);
    assert!(!String::from_utf8_lossy(&hidden.stdout).contains("__sdl-offsets"));
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_copy_goes_on_without_its_map_when_the_topic_of_the_map_is_deleted() {
    let mut hand_over = HandOver::new();
    hand_over.fill(4);
    let map = unique("map");
    let mut copy = hand_over.copy(&format!("--offset-map {map} --rate 100 --batch 20")).start();
    copy.wait_for_count(&hand_over.clusters.target, &map, 1);
    hand_over.clusters.target.delete_topic(&map);
    copy.wait_for_stderr("the copy goes on without it");
    let printed = copy.end().stderr;
    assert!(printed.contains(&format!("the offset map `{map}` on `local_kafka` cannot be written: ")), "{printed}");
    // The next run makes another one, which knows nothing of what was copied before.
    hand_over.fill(1);
    let committed = hand_over.clusters.source.committed(&hand_over.topic, &hand_over.topic);
    hand_over.copy(&format!("--offset-map {map} --until-caught-up")).run().expect(3);
    let group = unique("late");
    let from: Vec<i64> = committed.into_iter().map(|position| position.expect("a position")).collect();
    hand_over.commit(&group, &from);
    hand_over.run(&format!("offsets translate {group} --yes --offset-map {map}"), 0);
    hand_over.assert_continues(&group);
    let early = unique("early");
    hand_over.commit(&early, &[0; PARTITIONS as usize]);
    let unknown = hand_over.run(&format!("offsets translate {early} --yes --offset-map {map}"), 5);
    assert!(String::from_utf8_lossy(&unknown.stdout).contains(" no map"), "{}", unknown.stderr);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_the_map_of_a_topic_that_was_created_again_does_not_count() {
    let mut hand_over = HandOver::new();
    let plain = [("retention.ms", "-1")];
    hand_over.fill(2);
    hand_over.copy("--until-caught-up").run().expect(3);
    let group = unique("again");
    hand_over.commit(&group, &[5; PARTITIONS as usize]);
    let translated = |hand_over: &HandOver, code| {
        let done = hand_over.run(&format!("offsets translate {group} --yes"), code);
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    translated(&hand_over, 0);
    // The target, with other records in it.
    hand_over.clusters.target.delete_topic(&hand_over.topic);
    assert!(translated(&hand_over, 5).contains(" no map"), "the topic is gone");
    hand_over.clusters.target.create_topic(&hand_over.topic, PARTITIONS, &plain);
    assert!(translated(&hand_over, 5).contains(" no map"), "the topic is empty");
    hand_over.copy_as(&unique("again"), "--until-caught-up --from-beginning").run().expect(3);
    translated(&hand_over, 0);
    hand_over.assert_continues(&group);
    // The source.
    hand_over.clusters.source.delete_topic(&hand_over.topic);
    hand_over.clusters.source.create_topic(&hand_over.topic, PARTITIONS, &plain);
    hand_over.sender = Sender::transactional(&hand_over.clusters.source, &unique("id"));
    hand_over.fill(2);
    hand_over.commit(&group, &[50; PARTITIONS as usize]);
    assert!(translated(&hand_over, 5).contains(" no map"), "what was copied was another topic");
}
