//! The offset map of `sdl replicate`, and `sdl offsets translate`, on embedded brokers.

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

use crate::harness::{Cluster, Content, Finished, Mock, ReadRecord, Sdl, Sender, read};

const TOPIC: &str = "orders";
const MAP: &str = "__sdl-offsets";
/// Records of every partition; those with an even number are kept by [`KEPT`].
const RECORDS: i64 = 100;
const KEPT: &str = "--where even=1";

/// Two clusters with a topic of two partitions in each, and a topic for the map in the second.
struct Flow {
    source: Mock,
    target: Mock,
}

impl Flow {
    fn new() -> Self {
        let flow = Self { source: Mock::start(1), target: Mock::start(1) };
        for mock in [&flow.source, &flow.target] {
            mock.create_topic(TOPIC, 2);
        }
        flow.target.create_topic(MAP, 1);
        flow.send(0..RECORDS);
        flow
    }

    /// Sends records with these numbers to each partition of the source.
    fn send(&self, numbers: std::ops::Range<i64>) {
        let record = |number: i64, partition: i32| {
            let value = format!("{{\"n\": {number}, \"even\": {}}}", i64::from(number % 2 == 0));
            (partition, Content { timestamp: Some(1_700_000_000_000 + number), value: Some(value.into()), ..Content::default() })
        };
        let records: Vec<_> = numbers.flat_map(|number| [0, 1].map(|partition| record(number, partition))).collect();
        Sender::new(&self.source.cluster(), &[]).send(TOPIC, &records);
    }

    fn run(&self, arguments: &str, code: i32) -> Finished {
        let profile = Cluster::profile(&self.source.cluster(), &self.target.cluster(), "copy");
        Sdl::new(arguments).profile(&profile).run().expect(code)
    }

    fn replicate(&self, flags: &str) -> Finished {
        self.run(&format!("replicate {TOPIC} --until-caught-up {flags}"), 0)
    }

    fn commit(&self, group: &str, offsets: [i64; 2]) {
        commit(&self.source, group, &offsets);
    }

    fn committed(&self, group: &str) -> Vec<Option<i64>> {
        self.target.cluster().committed(group, TOPIC)
    }

    /// Panics unless a group that goes on at `offset` of the target reads the record that it would have read next on the source.
    #[track_caller]
    fn assert_continues(&self, partition: i32, committed: i64, offset: i64, is_copied: impl Fn(&ReadRecord) -> bool) {
        let next = |cluster: &Cluster, from: i64, wanted: &dyn Fn(&ReadRecord) -> bool| {
            let records = read(cluster, TOPIC).into_iter();
            records.filter(|record| record.partition == partition && record.offset >= from).find(|record| wanted(record))
        };
        let expected = next(&self.source.cluster(), committed, &is_copied).map(|record| record.content);
        let found = next(&self.target.cluster(), offset, &|_| true).map(|record| record.content);
        assert_eq!(found, expected, "{TOPIC}/{partition}: {committed} on the source, {offset} on the target");
    }
}

/// Commits as consumers do, one offset for each partition.
fn commit(mock: &Mock, group: &str, offsets: &[i64]) {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in (0..).zip(offsets) {
        list.add_partition_offset(TOPIC, partition, Offset::Offset(*offset)).unwrap();
    }
    mock.cluster().consumer(group).commit(&list, CommitMode::Sync).unwrap();
}

fn stdout(finished: &Finished) -> String {
    String::from_utf8(finished.stdout.clone()).expect("text")
}

fn is_even(record: &ReadRecord) -> bool {
    record.offset % 2 == 0
}

#[test]
fn a_group_goes_on_at_the_record_that_it_would_have_read_next() {
    let flow = Flow::new();
    // Others have written to the target: its offsets are not those of the source.
    Sender::new(&flow.target.cluster(), &[]).send_others(TOPIC, 7);
    flow.replicate(&format!("{KEPT} --from-beginning"));
    flow.commit("billing", [40, 41]);
    let table = "\
TOPIC   PARTITION  COMMITTED  TARGET  HOW
orders          0         40      27  exact
orders          1         41      21  next copied
";
    let dry = flow.run("offsets translate billing", 0);
    assert_eq!(stdout(&dry), table);
    assert_eq!(dry.stderr, "would commit 2 positions of 1 group\ndry run: nothing was changed; add --yes to apply\n");
    assert_eq!(flow.committed("billing"), [None, None]);
    let done = flow.run("offsets translate billing --yes", 0);
    assert_eq!((stdout(&done).as_str(), done.stderr.as_str()), (table, "group `billing`: 2 positions translated\n"));
    assert_eq!(flow.committed("billing"), [Some(27), Some(21)]);
    let again = flow.run("offsets translate billing --yes", 0);
    assert_eq!(again.stderr, "nothing changes: the groups are there already\n");
    for (partition, committed, offset) in [(0, 40, 27), (1, 41, 21)] {
        flow.assert_continues(partition, committed, offset, is_even);
    }
    // The end of the copy, and one beyond it.
    flow.commit("billing", [RECORDS, RECORDS + 1]);
    let partly = flow.run("offsets translate billing --yes", 4);
    assert!(stdout(&partly).contains("orders          1        101       -  not copied yet\n"), "{}", stdout(&partly));
    assert_eq!(flow.committed("billing"), [Some(57), Some(21)], "nothing is committed ahead of the copy");
    flow.send(RECORDS..RECORDS + 10);
    flow.replicate(KEPT);
    flow.assert_continues(0, RECORDS, 57, is_even);
    flow.run("offsets translate billing --yes", 0);
    assert_eq!(flow.committed("billing"), [Some(57), Some(51)]);
}

#[test]
fn a_copy_that_is_killed_and_started_again_keeps_its_map() {
    let flow = Flow::new();
    let profile = Cluster::profile(&flow.source.cluster(), &flow.target.cluster(), "copy");
    for round in 1..=3 {
        let copy = Sdl::new(&format!("replicate {TOPIC} --partitions 0-1 --rate 100 --batch 5"));
        let mut copy = copy.profile(&profile).start();
        copy.wait_for_count(&flow.target.cluster(), TOPIC, round * 40);
        copy.signal("KILL");
        let _ = copy.wait();
    }
    flow.replicate("--partitions 0-1");
    for committed in [0, 1, 13, 25, 38, 51, 77, 99, RECORDS] {
        let group = format!("at-{committed}");
        flow.commit(&group, [committed; 2]);
        let done = flow.run(&format!("offsets translate {group} --yes"), 0);
        assert!(!stdout(&done).contains("next copied"), "{}", stdout(&done));
        for (partition, offset) in (0..).zip(flow.committed(&group)) {
            flow.assert_continues(partition, committed, offset.expect("a position"), |_| true);
        }
    }
}

#[test]
fn a_position_never_goes_back_and_those_of_consumers_are_left_alone() {
    let flow = Flow::new();
    flow.replicate("");
    flow.commit("billing", [50, 50]);
    flow.run("offsets translate billing --yes", 0);
    flow.commit("billing", [40, 60]);
    let back = flow.run("offsets translate billing --yes", 4);
    assert!(stdout(&back).contains("orders          0         40      40  exact  it is at 50 there\n"), "{}", stdout(&back));
    assert_eq!(flow.committed("billing"), [Some(50), Some(60)]);
    flow.run("offsets translate billing --yes --rewind", 0);
    assert_eq!(flow.committed("billing"), [Some(40), Some(60)]);
    // Consumers on the target go on.
    commit(&flow.target, "billing", &[45, 65]);
    flow.commit("billing", [46, 70]);
    let theirs = flow.run("offsets translate billing --yes", 5);
    assert!(stdout(&theirs).contains("exact  its consumers there have committed 65\n"), "{}", stdout(&theirs));
    assert_eq!(flow.committed("billing"), [Some(45), Some(65)]);
    flow.run("offsets translate billing --yes --overwrite", 0);
    assert_eq!(flow.committed("billing"), [Some(46), Some(70)]);
}

#[test]
fn groups_that_cannot_be_translated_do_not_stop_the_others() {
    let flow = Flow::new();
    flow.replicate("");
    flow.commit("billing", [5, 6]);
    let some = flow.run("offsets translate billing copy gone --yes", 4);
    let expected = "error: 2 of 3 groups were not translated\n  \
                    caused by: `copy`: it is the group of the flow `replicate local_kafka/{topic}`\n  \
                    caused by: `gone`: it has committed nothing on `remote_kafka`\n";
    assert!(some.stderr.contains(expected), "{}", some.stderr);
    assert_eq!(flow.committed("billing"), [Some(5), Some(6)]);
    flow.run("offsets translate copy gone --yes", 5);
}

#[test]
fn without_a_map_the_origin_header_tells_the_position() {
    let flow = Flow::new();
    flow.replicate("--offset-map off --origin-header");
    assert_eq!(flow.target.cluster().count(MAP), 0);
    flow.commit("billing", [30, RECORDS]);
    let found = flow.run("offsets translate billing --yes", 0);
    assert!(stdout(&found).contains("orders          0         30      30  origin header\n"), "{}", stdout(&found));
    assert_eq!(flow.committed("billing"), [Some(30), Some(RECORDS)]);
    // A map that begins later does not know of these copies.
    flow.send(RECORDS..RECORDS + 10);
    flow.replicate("--origin-header");
    flow.commit("billing", [40, RECORDS + 5]);
    let both = flow.run("offsets translate billing --yes", 0);
    let hows: Vec<_> = stdout(&both).lines().skip(1).map(|line| line.split("  ").last().unwrap_or_default().to_owned()).collect();
    assert_eq!(hows, ["origin header", "exact"], "{}", stdout(&both));
    let plain = Flow::new();
    plain.replicate("--offset-map off");
    plain.commit("billing", [30, 40]);
    plain.commit("shipping", [31, 40]);
    plain.run("offsets translate billing shipping --yes", 5);
    let unknown = plain.run("offsets translate billing --yes", 5);
    assert!(stdout(&unknown).contains("orders          0         30       -  no map\n"), "{}", stdout(&unknown));
    assert_eq!(plain.committed("billing"), [None, None]);
}

#[test]
fn a_renamed_topic_and_a_map_with_another_name_are_found() {
    let flow = Flow::new();
    flow.target.create_topic("eu.orders", 2);
    flow.target.create_topic("map", 1);
    flow.replicate("--prefix eu. --offset-map map");
    flow.commit("billing", [30, 40]);
    let found = flow.run("offsets translate billing --yes --offset-map map", 0);
    let first = stdout(&found).lines().take(2).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        first,
        ["TOPIC   PARTITION  COMMITTED  TARGET TOPIC  TARGET  HOW", "orders          0         30  eu.orders         30  exact"]
    );
    assert_eq!(flow.target.cluster().committed("billing", "eu.orders"), [Some(30), Some(40)]);
}

#[test]
fn translations_are_repeated_until_interrupted() {
    let flow = Flow::new();
    flow.replicate("");
    flow.commit("billing", [5, 6]);
    let profile = Cluster::profile(&flow.source.cluster(), &flow.target.cluster(), "copy");
    let mut repeated = Sdl::new("offsets translate billing --yes --every 1s").profile(&profile).start();
    repeated.wait_for_stderr("group `billing`: 2 positions translated\n");
    flow.commit("billing", [7, 6]);
    repeated.wait_for_stderr("group `billing`: 1 position translated\n");
    assert_eq!(flow.committed("billing"), [Some(7), Some(6)]);
    repeated.end();
}

#[test]
fn what_cannot_be_translated_is_refused_as_usage() {
    let flow = Flow::new();
    flow.target.create_topic("map", 1);
    for (arguments, error) in [
        ("offsets translate billing --every 10s", "error: --every commits: a dry run shows the positions once\n"),
        ("offsets translate billing --target remote_kafka", "error: `remote_kafka` and `remote_kafka` are the same cluster"),
        ("offsets translate billing --rename {topik}", "error: unknown placeholder `{topik}` in --rename\n"),
        (
            "replicate orders --groups .* --offset-map off",
            "error: --groups needs the offset map, which --offset-map off leaves out\n",
        ),
        (
            "replicate orders --to-topic __sdl-offsets",
            "error: records would be copied to `__sdl-offsets`, the topic of the offset map\n",
        ),
        (
            "replicate map --source local_kafka --prefix x. --offset-map map",
            "error: `map`, the topic of the offset map, would be copied itself\n",
        ),
        ("replicate orders --groups .* --repartition", "error: --groups needs the offset map, which --repartition leaves out\n"),
    ] {
        let refused = flow.run(arguments, 2);
        assert!(refused.stderr.starts_with(error), "{arguments}: {}", refused.stderr);
    }
}
