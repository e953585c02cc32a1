//! `sdl tail` on real clusters, beside kcat. `scripts/test` runs these.

use std::process::Command;
use std::time::Duration;

use crate::harness::{
    Cluster, Clusters, Content, Finished, Sdl, Sender, edge_cases, eventually, numbered, read_with_kcat, setting, stack, unique,
};

/// A topic on a real cluster.
struct Topic {
    clusters: Clusters,
    name: String,
}

impl Topic {
    #[track_caller]
    fn new(name: &str, partitions: i32) -> Self {
        Self::on(Clusters::shared(), name, partitions, &[])
    }

    #[track_caller]
    fn on(clusters: Clusters, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Self {
        let name = unique(name);
        clusters.source.create_topic(&name, partitions, settings);
        Self { clusters, name }
    }

    fn cluster(&self) -> &Cluster {
        &self.clusters.source
    }

    fn send(&self, records: &[(i32, Content)]) {
        Sender::new(self.cluster(), &[]).send(&self.name, records);
    }

    /// Returns `sdl tail` of this topic.
    fn sdl(&self, arguments: &str) -> Sdl {
        self.sdl_without_name(&format!("{} {arguments}", self.name))
    }

    fn sdl_without_name(&self, arguments: &str) -> Sdl {
        // Values are shorter to expect than JSON lines.
        let profile = format!("[local_kafka]\nservers = {}\n\n[run.tail]\noutput = value\n", self.cluster().servers);
        Sdl::new(&format!("tail {arguments}")).profile(&profile)
    }

    #[track_caller]
    fn tail(&self, arguments: &str) -> Finished {
        self.sdl(arguments).run().expect(0)
    }

    /// Returns the output of a run that must succeed.
    #[track_caller]
    fn shown(&self, arguments: &str) -> String {
        let ended = self.tail(arguments);
        assert_eq!(ended.stderr, "", "{arguments}");
        String::from_utf8(ended.stdout).expect("text")
    }

    /// Returns kcat's output for the whole topic.
    #[track_caller]
    fn kcat(&self, arguments: &[&str]) -> Vec<u8> {
        let common = ["-C", "-b", &self.cluster().servers, "-t", &self.name, "-o", "beginning", "-e", "-q"];
        let ran = Command::new("kcat").args(common).args(arguments).output().expect("kcat starts");
        assert!(ran.status.success(), "kcat: {}", String::from_utf8_lossy(&ran.stderr));
        ran.stdout
    }
}

fn in_partition(partition: i32, contents: impl IntoIterator<Item = Content>) -> Vec<(i32, Content)> {
    contents.into_iter().map(|content| (partition, content)).collect()
}

/// Returns a record with this value, at a time in seconds.
fn at(seconds: i64, value: &str) -> Content {
    let (timestamp, value) = (Some(1_700_000_000_000 + 1000 * seconds), Some(value.as_bytes().to_vec()));
    Content { timestamp, value, ..Content::default() }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_ndjson_output_replays_to_the_same_records() {
    let topic = Topic::new("told", 1);
    topic.send(&in_partition(0, edge_cases()));
    let lines = topic.tail("--start beginning -o ndjson").stdout;
    let copy = unique("replayed");
    topic.cluster().create_topic(&copy, 1, &[]);
    let replay = Sdl::new(&format!("produce-fake {copy} --file lines.ndjson"))
        .profile(&format!("[local_kafka]\nservers = {}\n", topic.cluster().servers));
    std::fs::write(replay.home().join("lines.ndjson"), lines).expect("the lines are written");
    replay.run().expect(0);
    let seen = |topic_name: &str| read_with_kcat(topic.cluster(), topic_name).into_iter().map(|seen| seen.content);
    let sent = edge_cases();
    assert_eq!(seen(&topic.name).collect::<Vec<_>>(), sent);
    assert_eq!(seen(&copy).collect::<Vec<_>>(), sent);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_format_writes_what_kcat_writes() {
    let topic = Topic::new("formats", 1);
    // kcat ends a header's value at its first zero byte.
    let whole =
        |content: &Content| content.headers.iter().all(|(_, value)| value.as_ref().is_none_or(|value| !value.contains(&0)));
    topic.send(&in_partition(0, edge_cases().into_iter().filter(whole)));
    for format in [
        "%s\\n",
        "%k\\t%s\\n",
        "Topic %t [%p] at offset %o: key %k (%K), %S bytes, %T, %h: 100%%\\r\\n",
        "%R%s%R",
        "\\x41\\x0a\\\\%o\\q",
        "no token",
        "",
    ] {
        let ours = topic.sdl("--start beginning -f").arg(format).run().expect(0);
        assert_eq!(ours.stderr, "", "{format}");
        assert!(ours.stdout == topic.kcat(&["-f", format]), "`{format}` is written otherwise by kcat");
    }
    assert!(topic.tail("--start beginning").stdout == topic.kcat(&[]), "a value a line, as kcat writes it unasked");
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_the_last_records_are_the_newest_of_all_topics_and_partitions() {
    let topic = Topic::new("newest", 3);
    let other = format!("{}-too", topic.name);
    topic.cluster().create_topic(&other, 1, &[]);
    // The third partition is a day behind, and one clock in the first runs ahead.
    let records: Vec<_> =
        (0..60).map(|i: i32| (i % 3, at(i64::from(i) - if i % 3 == 2 { 86_400 } else { 0 }, &i.to_string()))).collect();
    topic.send(&records);
    Sender::new(topic.cluster(), &[]).send(&other, &[(0, at(56, "other"))]);
    assert_eq!(topic.shown("-n 5"), "52\n54\n55\n57\n58\n");
    let both = topic.sdl_without_name(&format!("{} {other} -n 5", topic.name)).run().expect(0);
    assert_eq!(String::from_utf8_lossy(&both.stdout), "54\n55\nother\n57\n58\n");
    let matching = topic.sdl_without_name(&format!("--topics-matching {}.* --exclude .*-too -n 2", topic.name)).run().expect(0);
    assert_eq!(String::from_utf8_lossy(&matching.stdout), "57\n58\n");
    topic.send(&[(0, at(1_000_000, "ahead")), (0, at(59, "behind it"))]);
    assert_eq!(topic.shown("-n 3"), "58\nahead\nbehind it\n", "a partition's order is kept");
    assert_eq!(topic.shown("-n 100 --partitions 2").lines().count(), 20);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_offsets_and_times_select_the_start_and_the_end() {
    let topic = Topic::new("positions", 1);
    topic.send(&in_partition(0, (0..10).map(|i| at(i, &i.to_string()))));
    topic.cluster().delete_records(&topic.name, 0, 2);
    topic.cluster().commit("tail-positions", &topic.name, 0, 7, "");
    for (arguments, wanted) in [
        ("--start beginning", "23456789"),
        ("--start beginning --stop 5", "234"),
        ("--start -3", "789"),
        ("--start 4 -n 2", "45"),
        ("--start @1700000006", "6789"),
        ("--start @1700000003500 --stop @2023-11-14T22:13:26Z", "45"),
        ("--start -100 --stop -7", "2"),
        ("--stop 6 -n 3", "345"),
        ("--start committed --group tail-positions", "789"),
        ("--stop committed --group tail-positions -n 2", "56"),
    ] {
        assert_eq!(topic.shown(&format!("{arguments} -f %s")), wanted, "{arguments}");
    }
    assert_eq!(topic.cluster().committed("tail-positions", &topic.name), [Some(7)]);
    let unknown = topic.sdl("--start committed --group tail-postions").run().expect(1);
    assert!(unknown.stderr.contains("error: group `tail-postions` does not exist on"), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("did you mean `tail-positions`?") && unknown.stdout.is_empty(), "{}", unknown.stderr);
    topic.send(&in_partition(0, [Content { timestamp: None, ..at(0, "now") }]));
    assert_eq!(topic.shown("--start @-1h"), "now\n");
    let gone = topic.sdl("--start 1").run().expect(5);
    assert!(gone.stderr.contains("offset 1 is not between 2 and 11"), "{}", gone.stderr);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_date_is_a_day_in_the_zone_of_the_variable_tz() {
    let topic = Topic::new("zones", 1);
    // Midnight of 15 November 2023 in Berlin, half an hour later, and midnight in UTC.
    topic.send(&in_partition(0, [(2_800, "a"), (4_600, "b"), (6_400, "c")].map(|(seconds, value)| at(seconds, value))));
    for (zone, shown) in [("Europe/Berlin", "abc"), ("UTC", "c")] {
        let ended = topic.sdl("--start @2023-11-15 -f %s").env("TZ", zone).run().expect(0);
        assert_eq!((String::from_utf8_lossy(&ended.stdout).as_ref(), ended.stderr.as_str()), (shown, ""), "{zone}");
    }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_aborted_and_open_transactions_are_not_shown() {
    let topic = Topic::new("transactions", 1);
    let value = |value: &str| in_partition(0, [at(1, value)]);
    let sender = Sender::long_transactional(topic.cluster(), &topic.name);
    sender.open_transaction(&topic.name, &value("open at first"));
    let only_open = topic.tail("");
    let remark = format!("topic `{}` holds only records of open transactions; --read-uncommitted shows them\n", topic.name);
    assert_eq!((only_open.stdout.len(), only_open.stderr.as_str()), (0, remark.as_str()));
    assert_eq!(topic.shown("--read-uncommitted"), "open at first\n");
    drop(sender);

    let topic = Topic::new("aborted", 1);
    let sender = Sender::long_transactional(topic.cluster(), &topic.name);
    sender.transaction(&topic.name, &value("aborted at first"), false);
    let only_aborted = topic.tail("");
    assert!(only_aborted.stderr.contains("holds no readable record there"), "{}", only_aborted.stderr);
    sender.transaction(&topic.name, &value("committed"), true);
    for _ in 0..30 {
        sender.transaction(&topic.name, &value("aborted"), false);
    }
    sender.open_transaction(&topic.name, &value("open"));
    let held_back = format!(
        "{}: an open transaction holds readers back in 1 partition: the last 1 offsets are not read; --read-uncommitted reads them\n",
        topic.name
    );
    for arguments in ["-n 1", "", "--start beginning", "--start 2 --stop end"] {
        let ended = topic.tail(arguments);
        let shown = (std::str::from_utf8(&ended.stdout).expect("text"), ended.stderr.as_str());
        assert_eq!(shown, ("committed\n", held_back.as_str()), "{arguments}");
    }
    assert_eq!(topic.shown("--read-uncommitted -n 2"), "aborted\nopen\n");
    assert_eq!(topic.shown("--read-uncommitted --start beginning").lines().count(), 33);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_the_last_records_are_found_across_compacted_offsets() {
    let settings = [("cleanup.policy", "compact"), ("segment.ms", "1000"), ("min.cleanable.dirty.ratio", "0.01")];
    let topic = Topic::on(Clusters::shared(), "compacted", 1, &settings);
    let keyed = |key: &str, i: i64| Content { key: Some(key.as_bytes().to_vec()), ..at(i, &format!("{key}{i}")) };
    let sender = Sender::new(topic.cluster(), &[]);
    sender.send(&topic.name, &in_partition(0, [keyed("a", 0), keyed("b", 1)]));
    // A segment is closed by a record that is a second younger than its first.
    for i in 2..40 {
        sender.send(&topic.name, &in_partition(0, (0..10).map(|_| keyed("c", 2 * i))));
    }
    eventually("the log is compacted", Duration::from_secs(90), || (topic.kcat(&[]).len() < 300).then_some(()));
    // The log may be compacted further at any time: a reading counts if the readings before and after it are equal.
    let (ours, all) = eventually("the log stays as it is for a look", Duration::from_secs(60), || {
        let before = topic.kcat(&["-f", "%s "]);
        let count = before.iter().filter(|byte| byte.is_ascii_whitespace()).count();
        let ours = topic.sdl(&format!("-n {count} -f")).arg("%s ").run().expect(0).stdout;
        (topic.kcat(&["-f", "%s "]) == before).then_some((ours, before))
    });
    let (ours, all) = (String::from_utf8(ours).expect("text"), String::from_utf8(all).expect("text"));
    assert!(all.starts_with("a0 b1 "), "{all}");
    assert_eq!(ours, all);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_topics_and_partitions_created_later_are_followed() {
    let topic = Topic::new("later", 1);
    topic.send(&in_partition(0, [at(1, "1")]));
    let running = topic.sdl_without_name(&format!("--topics-matching {}.* -F -f", topic.name)).arg("%t/%p %s\\n").start();
    let shown = |text: String| eventually(&text, Duration::from_secs(60), || running.stdout().contains(&text).then_some(()));
    shown(format!("{}/0 1\n", topic.name));
    topic.cluster().grow_topic(&topic.name, 2);
    topic.send(&in_partition(1, [at(2, "2")]));
    let other = format!("{}-too", topic.name);
    topic.cluster().create_topic(&other, 1, &[]);
    Sender::new(topic.cluster(), &[]).send(&other, &in_partition(0, [at(3, "3")]));
    shown(format!("{}/1 2\n", topic.name));
    shown(format!("{other}/0 3\n"));
    running.end();
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_broker_that_restarts_is_waited_for() {
    let topic = Topic::on(Clusters::exclusive(), "restarted", 1, &[]);
    topic.send(&in_partition(0, [at(1, "before")]));
    let running = topic.sdl("-F").deadline(Duration::from_secs(120)).start();
    let shown = |text: &str| eventually(text, Duration::from_secs(60), || running.stdout().contains(text).then_some(()));
    shown("before\n");
    topic.cluster().server("kill");
    eventually("it says what is the matter", Duration::from_secs(30), || running.stderr().contains("WARN").then_some(()));
    topic.cluster().server("start");
    topic.send(&in_partition(0, [at(2, "after")]));
    shown("after\n");
    running.signal("INT");
    let ended = running.wait().expect(0);
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "before\nafter\n");
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_no_group_is_joined_and_nothing_is_committed() {
    let topic = Topic::on(Clusters::exclusive(), "groupless", 3, &[]);
    topic.send(&numbered(1, 0, 300, 3));
    let groups = || {
        let listed = stack(&["tool", "groups", "--bootstrap-server", &topic.cluster().servers, "--list"]);
        listed.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let before = groups();
    let running = topic.sdl("-F -n 300").start();
    eventually("all is shown", Duration::from_secs(30), || (running.stdout().lines().count() == 300).then_some(()));
    let stderr = topic.sdl("--start beginning --where a=1 --stop committed --group nobody").run().expect(1).stderr;
    assert!(stderr.contains("group `nobody` does not exist on `local_kafka`"), "{stderr}");
    let new: Vec<_> = groups().into_iter().filter(|group| !before.contains(group)).collect();
    assert_eq!(new, Vec::<String>::new());
    running.signal("INT");
    running.wait().expect(0);
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_memory_stays_bounded_for_any_topic() {
    let topic = Topic::new("large", 6);
    let count = setting("SDL_TEST_RECORDS", 2_000_000);
    let profile = format!("[local_kafka]\nservers = {}\n", topic.cluster().servers);
    let produce = Sdl::new(&format!("produce-fake {} -n {count} --seed 7", topic.name)).profile(&profile);
    produce.deadline(Duration::from_secs(300)).run().expect(0);
    // The last 10, then the whole topic without a match, then all of it.
    for (arguments, lines) in [("", 10), ("--grep nowhere", 0), ("--start beginning -o ndjson", count)] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let counted = std::thread::spawn(move || std::io::BufRead::split(std::io::BufReader::new(reader), b'\n').count() as u64);
        let (finished, peak) = topic.sdl(arguments).stdout(writer).deadline(Duration::from_secs(300)).start().wait_with_peak();
        finished.expect(0);
        assert_eq!(counted.join().expect("the reader ends"), lines, "{arguments}");
        assert!(peak < 64, "{peak} MiB for `{arguments}`");
    }
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_a_closed_pipe_ends_tail_quietly() {
    let topic = Topic::new("closed", 2);
    topic.send(&numbered(1, 0, 50_000, 2));
    for arguments in ["", "--start beginning", "--start beginning -F", "-F -o ndjson"] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let running = topic.sdl(arguments).stdout(writer).start();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(reader), &mut line).expect("a line");
        assert!(line.ends_with('\n'), "{arguments}");
        let ended = running.wait().expect(0);
        assert_eq!(ended.stderr, "", "{arguments}");
    }
}
