//! `sdl offsets` on embedded brokers, which list no groups, show no members and have no admin API.

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::harness::{Content, Mock, Sender};
use crate::run::{Ended, Folder};

/// The metadata of a flow's commit.
const FLOW: &str = r#"{"sdl":1,"flow":"replicate local_kafka/copies","offset":3,"timestamp":1,"crc":5}"#;

/// A cluster with `logins`, which holds ten records in each of three partitions, and the group `billing`, which has committed in
/// two of them.
struct Billing {
    mock: Mock,
    folder: Folder,
}

impl Billing {
    fn new() -> Self {
        Self::with("")
    }

    /// As [`Self::new`], with these lines in the profile's section.
    fn with(lines: &str) -> Self {
        let mock = Mock::start(1);
        mock.create_topic("logins", 3);
        let content = Content { value: Some(b"v".to_vec()), ..Content::default() };
        let records: Vec<_> = (0..30).map(|number| (number % 3, content.clone())).collect();
        Sender::new(&mock.cluster(), &[]).send("logins", &records);
        let profile = format!("[local_kafka]\nservers = {}\n{lines}", mock.cluster().servers);
        let billing = Self { folder: Folder::with_profile(&profile), mock };
        billing.commit("billing", &[(0, 4), (1, 10)], "");
        billing
    }

    fn commit(&self, group: &str, offsets: &[(i32, i64)], metadata: &str) {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            let mut element = list.add_partition("logins", *partition);
            element.set_offset(Offset::Offset(*offset)).unwrap();
            element.set_metadata(metadata);
        }
        self.mock.cluster().consumer(group).commit(&list, CommitMode::Sync).unwrap();
    }

    fn committed(&self, group: &str) -> [Option<i64>; 3] {
        self.mock.cluster().committed(group, "logins").try_into().unwrap()
    }

    #[track_caller]
    fn offsets(&self, arguments: &str, code: i32) -> Ended {
        let ended = self.folder.run(&format!("offsets {arguments}"));
        assert_eq!(ended.code, Some(code), "{arguments}: {}{}", ended.stdout, ended.stderr);
        ended
    }

    /// Expects this on standard error, nothing on standard output, and this exit code.
    #[track_caller]
    fn fails(&self, arguments: &str, code: i32, stderr: &str) {
        let ended = self.offsets(arguments, code);
        assert_eq!((ended.stderr.as_str(), ended.stdout.as_str()), (stderr, ""), "{arguments}");
    }
}

#[test]
fn committed_offsets_are_shown_in_every_format() {
    let billing = Billing::new();
    let table = "\
GROUP    TOPIC   PARTITION  OFFSET  END  LAG
billing  logins          0       4   10    6
billing  logins          1      10   10    0
";
    let shown = billing.offsets("show billing", 0);
    assert_eq!((shown.stdout.as_str(), shown.stderr.as_str()), (table, ""));
    let csv = "group,topic,partition,offset,end,lag,metadata\r\nbilling,logins,0,4,10,6,\r\nbilling,logins,1,10,10,0,\r\n";
    assert_eq!(billing.offsets("show billing -o csv", 0).stdout, csv);
    assert_eq!(billing.offsets("export billing", 0).stdout, csv, "what import reads");
    let lines = billing.offsets("export billing --partitions 0 -o ndjson", 0).stdout;
    let line = json!({
        "schema": 1, "group": "billing", "topic": "logins", "partition": 0, "offset": 4, "end": 10, "lag": 6, "metadata": "",
    });
    assert_eq!(serde_json::from_str::<Value>(&lines).unwrap(), line);
    billing.commit("copying", &[(2, 1)], FLOW);
    let flow = billing.offsets("show copying", 0).stdout;
    assert!(
        flow.ends_with("  METADATA\ncopying  logins          2       1   10    9  flow replicate local_kafka/copies\n"),
        "{flow}"
    );
    let whole: Value = serde_json::from_str(&billing.offsets("show copying -o json", 0).stdout).unwrap();
    assert_eq!(whole["positions"][0]["metadata"], FLOW);
}

#[test]
fn a_group_that_is_not_there_is_reported_with_a_hint() {
    let billing = Billing::new();
    let unnamed = |command: &str| {
        format!(
            "error: cannot list the groups of `local_kafka`\n  caused by: embedded brokers do not list their groups\n\
             hint: name the group: sdl offsets {command} GROUP\n"
        )
    };
    billing.fails("show", 1, &unnamed("show"));
    billing.fails("export", 1, &unnamed("export"));
    let is_topic =
        "error: group `logins` does not exist on `local_kafka`\nhint: `logins` is a topic: sdl offsets show --topic logins\n";
    billing.fails("show logins", 1, is_topic);
}

#[test]
fn a_reset_shows_before_and_after_and_changes_nothing_without_yes() {
    let billing = Billing::new();
    let table = "\
TOPIC   PARTITION  END  BEFORE  AFTER  SKIPPED  READ AGAIN
logins          0   10       4      7        3           0
logins          1   10      10      7        0           3
logins          2   10       -      7        -           -
";
    let what = "3 offsets of group `billing`: at most 3 records skipped, 3 read again, not counting 1 that had no commit\n";
    for (flags, last) in
        [("", "dry run: nothing was changed; add --yes to apply\n"), ("--dry-run --yes", "dry run: nothing was changed\n")]
    {
        let dry = billing.offsets(&format!("reset billing --position -3 {flags}"), 0);
        assert_eq!((dry.stdout.as_str(), dry.stderr.as_str()), (table, format!("would change {what}{last}").as_str()));
        assert_eq!(billing.committed("billing"), [Some(4), Some(10), None]);
    }
    let done = billing.offsets("reset billing --position -3 --yes", 0);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), (table, format!("changed {what}").as_str()));
    assert_eq!(billing.committed("billing"), [Some(7); 3]);
    let again = billing.offsets("reset billing --position -3 --yes", 0);
    assert_eq!(again.stderr, "nothing changes: the group is at that position already\n");
}

#[test]
fn a_reset_goes_to_any_position_of_topics_and_partitions() {
    let billing = Billing::new();
    for (arguments, after) in [
        ("--position beginning", [Some(0), Some(0), Some(0)]),
        ("logins --position end --partitions 1-2", [Some(0), Some(10), Some(10)]),
        ("--position 3 --partitions 0", [Some(3), Some(10), Some(10)]),
        ("--shift -4 --partitions 0,1", [Some(0), Some(6), Some(10)]),
        ("logins --shift 3", [Some(3), Some(9), Some(10)]),
        ("--shift +100", [Some(10), Some(10), Some(10)]),
        ("--position -20", [Some(0), Some(0), Some(0)]),
    ] {
        billing.offsets(&format!("reset billing {arguments} --yes"), 0);
        assert_eq!(billing.committed("billing"), after, "{arguments}");
    }
}

#[test]
fn a_group_can_be_moved_to_the_offsets_of_another() {
    let billing = Billing::new();
    let created = billing.offsets("reset new --to-group billing --yes", 0);
    let expected = "group `new` has committed nothing yet: this creates it\n\
                    changed 2 offsets of group `new`: it had committed nothing there\n";
    assert_eq!(created.stderr, expected);
    assert_eq!(billing.committed("new"), [Some(4), Some(10), None]);
    billing.commit("ahead", &[(0, 8)], "");
    billing.offsets("reset billing --to-group ahead --yes", 0);
    assert_eq!(billing.committed("billing"), [Some(8), Some(10), None], "only where the other has committed");
}

#[test]
fn a_reset_without_anything_to_move_is_an_error() {
    let billing = Billing::new();
    for (arguments, code, stderr) in [
        (
            "reset nobody --position end",
            2,
            "error: group `nobody` has committed nothing on `local_kafka`, and no topic is named\n\
             hint: name topics of `local_kafka`; its only topic is `logins`\n",
        ),
        (
            "reset nobody --shift 1",
            1,
            "error: group `nobody` has committed nothing on `local_kafka`\n\
             hint: check the name and the section: embedded brokers do not list their groups\n",
        ),
        (
            "reset billing --to-group nobody",
            1,
            "error: group `nobody` has committed nothing on `local_kafka`\n\
             hint: check the name and the section: embedded brokers do not list their groups\n",
        ),
        (
            "reset billing --shift 1 --partitions 2",
            1,
            "error: group `billing` has no committed offset in these topics and partitions\n\
             hint: see what it has: sdl offsets show billing --source local_kafka\n",
        ),
        (
            "reset billing login --position end",
            1,
            "error: topic `login` does not exist on `local_kafka`\nhint: did you mean `logins`?\n",
        ),
        (
            "reset billing logins --position end --partitions 3",
            2,
            "error: topic `logins` has no partition 3\nhint: it has partitions 0 to 2\n",
        ),
        (
            "reset billing --position 11",
            5,
            "error: the position does not fit every partition\n  logins/0: offset 11 is not between 0 and 10\n  \
             logins/1: offset 11 is not between 0 and 10\n  logins/2: offset 11 is not between 0 and 10\n\
             hint: name an offset that each partition has, or choose partitions with --partitions\n",
        ),
        (
            "reset billing --position @-1h",
            1,
            "error: cannot list the offsets of `local_kafka`\n  caused by: embedded brokers find no offsets by time\n\
             hint: name an offset, `beginning` or `end`\n",
        ),
    ] {
        billing.fails(arguments, code, stderr);
    }
}

#[test]
fn invalid_flags_are_usage_errors() {
    let folder = Folder::with_profile("[local_kafka]\nservers = 127.0.0.213:9\n");
    for (arguments, expected) in [
        ("", "Usage: sdl offsets"),
        ("reset g", "the following required arguments were not provided:\n  <--position <POS>|--shift <N>|--to-group <GROUP>>"),
        ("reset g --position end --shift 1", "cannot be used with"),
        ("reset g --position nowhere", "invalid value 'nowhere' for '--position <POS>': not a position: use beginning, end"),
        ("reset g --shift -1h", "invalid value '-1h' for '--shift <N>': a number of offsets is needed, such as -100 or 1"),
        ("export -o json", "invalid value 'json' for '--output <FORMAT>'"),
        ("import", "the following required arguments were not provided:\n  <FILE>"),
    ] {
        let ended = folder.run(&format!("offsets {arguments}"));
        assert_eq!(ended.code, Some(2), "{arguments}: {}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{arguments} printed\n{}", ended.stderr);
    }
}

#[test]
fn a_group_that_has_members_keeps_its_offsets() {
    let billing = Billing::new();
    billing.commit("busy", &[(0, 4)], "");
    let member = billing.mock.cluster().join("busy", "logins");
    let refused = billing.offsets("reset busy --position beginning --yes", 1);
    assert!(refused.stderr.contains("error: cannot commit the offsets of group `busy` on `local_kafka`\n"), "{}", refused.stderr);
    assert!(refused.stderr.contains("caused by: 0 of 3 offsets are committed\n"), "{}", refused.stderr);
    assert_eq!(billing.committed("busy"), [Some(4), None, None]);
    drop(member);
}

#[test]
fn a_protected_cluster_is_not_changed() {
    let read_only = |what: &str| {
        format!(
            "error: `local_kafka` is read-only (protect = readonly)\n  this would {what}\n\
             hint: name another section with --target, or change `protect` in the profile\n"
        )
    };
    let billing = Billing::with("protect = readonly\n");
    billing.folder.write("positions.csv", "group,topic,partition,offset\nbilling,logins,0,1\n");
    for (arguments, what) in [
        ("reset billing --position end", "change the offsets of group `billing`"),
        ("import positions.csv", "change the offsets of groups"),
        ("delete billing", "delete group `billing`"),
        ("delete billing logins", "delete offsets of group `billing`"),
    ] {
        for yes in ["", " --yes"] {
            billing.fails(&format!("{arguments}{yes}"), 5, &read_only(what));
        }
    }
    assert_eq!(billing.offsets("show billing", 0).stderr, "");
    assert_eq!(billing.committed("billing"), [Some(4), Some(10), None]);
    let confirmed = Billing::with("protect = confirm\n");
    confirmed.offsets("reset billing --position end", 0);
    confirmed.offsets("reset billing --position end --yes", 0);
    assert_eq!(confirmed.committed("billing"), [Some(10); 3]);
}

#[test]
fn exported_offsets_can_be_imported() {
    for format in ["csv", "ndjson"] {
        let billing = Billing::new();
        billing.commit("streams", &[(2, 5)], "a \"state\",\nof 2 lines");
        let saved = billing.offsets(&format!("export billing --group streams -o {format}"), 0).stdout;
        billing.folder.write("positions", &saved);
        billing.offsets("reset billing --position beginning --yes", 0);
        billing.commit("streams", &[(2, 6)], "");
        let dry = billing.offsets("import positions", 0);
        let table = "\
GROUP    TOPIC   PARTITION  END  BEFORE  AFTER  SKIPPED  READ AGAIN
billing  logins          0   10       0      4        4           0
billing  logins          1   10       0     10       10           0
streams  logins          2   10       6      5        0           1
";
        let what = "3 offsets of 2 groups: at most 14 records skipped, 1 read again\n";
        let last = "dry run: nothing was changed; add --yes to apply\n";
        assert_eq!(
            (dry.stdout.as_str(), dry.stderr.as_str()),
            (table, format!("would change {what}{last}").as_str()),
            "{format}"
        );
        assert_eq!(billing.committed("streams"), [None, None, Some(6)]);
        assert_eq!(billing.offsets("import positions --yes", 0).stderr, format!("changed {what}"));
        assert_eq!(billing.committed("billing"), [Some(4), Some(10), Some(0)], "what the file does not name stays");
        let shown: Value = serde_json::from_str(&billing.offsets("show streams -o json", 0).stdout).unwrap();
        let position = &shown["positions"][0];
        assert_eq!((&position["offset"], &position["metadata"]), (&json!(5), &json!("a \"state\",\nof 2 lines")));
        assert_eq!(billing.offsets("import positions --yes", 0).stderr, "nothing changes: the offsets are there already\n");
    }
}

#[test]
fn groups_that_cannot_be_imported_do_not_stop_the_others() {
    let billing = Billing::new();
    billing.commit("copying", &[(0, 1)], FLOW);
    let header = "group,topic,partition,offset,metadata\n";
    let flow = format!("saved,logins,0,1,\"{}\"\n", FLOW.replace('"', "\"\""));
    let out = format!("copying,logins,0,2,\n{flow}far,logins,0,11,\ngone,orders,0,0,\n");
    let reasons = [
        "`copying`: it is the group of the flow `replicate local_kafka/copies`",
        "`far`: logins/0: offset 11 is not between 0 and 10",
        "`gone`: topic `orders` does not exist",
        "`saved`: its positions in the file are those of the flow `replicate local_kafka/copies`",
    ];
    let reset = "move the group of a flow of sdl with `sdl offsets reset GROUP TOPIC --position POS`\n";
    let hint =
        "hint: correct the file or the groups, and import it again: offsets that are there already stay; ".to_owned() + reset;
    billing.folder.write("some.csv", &format!("{header}{out}billing,logins,0,9,\n"));
    let causes = format!("  caused by: {}\n", reasons.join("\n  caused by: "));
    let some = billing.offsets("import some.csv --yes", 4);
    let changed = "changed 1 offset of group `billing`: at most 5 records skipped, 0 read again\n";
    assert_eq!(some.stderr, format!("{changed}error: 4 of 5 groups were not imported\n{causes}{hint}"));
    assert_eq!(billing.committed("billing"), [Some(9), Some(10), None]);
    assert_eq!(billing.committed("copying"), [Some(1), None, None]);
    billing.folder.write("all.csv", &format!("{header}{out}"));
    let numbers = format!("  {}\n", reasons.join("\n  "));
    billing.fails("import all.csv", 5, &format!("error: none of 4 groups was imported\n{numbers}{hint}"));
    billing.folder.write("flow.csv", &format!("{header}{flow}"));
    let refused = format!("error: the group was not imported\n  {}\nhint: {reset}", reasons[3]);
    billing.fails("import flow.csv", 5, &refused);
    billing.offsets("reset saved logins --position 1", 0);
}

#[test]
fn a_group_that_is_on_another_cluster_of_the_profile_is_named_with_the_flag_for_it() {
    let (billing, other) = (Billing::new(), Mock::start(1));
    other.create_topic("orders", 1);
    let profile = |one: &str, two: &str| {
        let (here, there) = (billing.mock.cluster().servers.clone(), other.cluster().servers.clone());
        Folder::with_profile(&format!("[{one}]\nservers = {here}\n[{two}]\nservers = {there}\n"))
    };
    let folder = profile("remote_kafka", "local_kafka");
    let told = |arguments: &str, code: i32| {
        let ended = folder.run(&format!("offsets {arguments}"));
        assert_eq!(ended.code, Some(code), "{arguments}: {}", ended.stderr);
        ended.stderr
    };
    for (command, flag) in [("show billing", "--source"), ("export billing", "--source"), ("delete billing", "--target")] {
        assert!(
            told(command, 1).ends_with(&format!("hint: group `billing` is on `remote_kafka`: {flag} remote_kafka\n")),
            "{command}"
        );
    }
    for position in ["--position beginning", "--shift 1", "--to-group billing"] {
        let stderr = told(&format!("reset billing {position}"), 1);
        let expected = "error: group `billing` has committed nothing on `local_kafka`\n\
                        hint: group `billing` is on `remote_kafka`: --target remote_kafka\n";
        assert!(stderr.ends_with(expected), "{position}: {stderr}");
    }
    let dry = told("reset billing orders --position beginning", 0);
    let line =
        "group `billing` has committed nothing on `local_kafka`; group `billing` is on `remote_kafka`: --target remote_kafka\n";
    assert!(dry.contains(line) && !dry.contains("this creates it"), "{dry}");
    assert!(!told("show nobody", 1).contains("is on `"));
    assert!(told("reset billing-new orders --position beginning", 0).contains("this creates it"));
    assert_eq!(other.cluster().committed("billing", "orders"), [None]);
}

#[test]
fn a_file_that_cannot_be_read_changes_nothing() {
    let billing = Billing::new();
    let hint = "hint: write it with `sdl offsets export`; nothing was changed\n";
    for (text, why) in [
        ("group,topic,partition,offset\nbilling,logins,0,1\nbilling,logins,zero,1\n", "line 3: partition `zero` is not a number"),
        ("billing,logins,0,1\n", "line 1: the header has no column `group`: group, topic, partition and offset are needed"),
        ("group,topic,partition,offset\n", "it has no offsets"),
        (
            "group,topic,partition,offset\nbilling,logins,0,1\nbilling,logins,0,2\n",
            "line 3: logins/0 of group `billing` is given twice: first in line 2",
        ),
    ] {
        billing.folder.write("positions.csv", text);
        billing.fails("import positions.csv --yes", 2, &format!("error: cannot import `positions.csv`: {why}\n{hint}"));
    }
    billing.fails("import - --yes", 2, &format!("error: cannot import stdin: line 1: the header line is missing\n{hint}"));
    let missing = billing.offsets("import gone.csv", 1);
    assert!(missing.stderr.starts_with("error: cannot read `gone.csv`\n  caused by: "), "{}", missing.stderr);
    assert_eq!(billing.committed("billing"), [Some(4), Some(10), None]);
}

#[test]
fn a_flow_keeps_its_group_when_it_is_moved() {
    let billing = Billing::new();
    billing.commit("copying", &[(0, 4)], FLOW);
    let moved = billing.offsets("reset copying --position 2 --yes", 0);
    let expected = "group `copying` belongs to the flow `replicate local_kafka/copies`: stop its run first; a run with --partitions \
                    does not join the group and cannot be detected\n\
                    changed 3 offsets of group `copying`: at most 0 records skipped, 2 read again, not counting 2 that had no commit\n";
    assert_eq!(moved.stderr, expected);
    let shown: Value = serde_json::from_str(&billing.offsets("show copying -o json", 0).stdout).unwrap();
    for position in shown["positions"].as_array().unwrap() {
        let metadata: Value = serde_json::from_str(position["metadata"].as_str().unwrap()).unwrap();
        assert_eq!(metadata, json!({"sdl": 1, "flow": "replicate local_kafka/copies"}), "without the record before it");
    }
}

#[test]
fn the_state_of_windows_is_not_moved() {
    let billing = Billing::new();
    let state = r#"{"sdl":1,"flow":"aggregate local_kafka/counts","extension":"{\"read\":4}"}"#;
    billing.commit("counting", &[(0, 4)], state);
    let refused = "error: the offsets of group `counting` belong to open windows and totals\n  \
                   committed by: aggregate local_kafka/counts\n\
                   hint: start it from there with `sdl aggregate --start POS`, which knows its windows and totals\n";
    billing.fails("reset counting --position beginning --yes", 5, refused);
    assert_eq!(billing.committed("counting"), [Some(4), None, None]);
}

#[test]
fn a_deletion_shows_what_goes_and_needs_a_real_cluster() {
    let billing = Billing::new();
    let table = "\
GROUP    TOPIC   PARTITION  OFFSET  END  LAG
billing  logins          0       4   10    6
billing  logins          1      10   10    0
";
    let last = "dry run: nothing was changed; add --yes to apply\n";
    let dry = billing.offsets("delete billing", 0);
    let expected = format!("would delete group `billing` with 2 committed offsets\n{last}");
    assert_eq!((dry.stdout.as_str(), dry.stderr.as_str()), (table, expected.as_str()));
    let some = billing.offsets("delete billing logins --partitions 1", 0);
    assert_eq!(some.stderr, format!("would delete 1 committed offset of group `billing`\n{last}"));
    let refused = billing.offsets("delete billing --yes", 1);
    let expected = "error: cannot delete group `billing` of `local_kafka`\n  caused by: embedded brokers have no admin API\n";
    assert_eq!(refused.stderr, expected);
    let offsets = billing.offsets("delete billing logins --yes", 1);
    assert!(
        offsets.stderr.starts_with("error: cannot delete offsets of group `billing` of `local_kafka`\n"),
        "{}",
        offsets.stderr
    );
    billing.fails(
        "delete billing login",
        1,
        "error: group `billing` has committed nothing in topic `login`\nhint: did you mean `logins`?\n",
    );
    billing.fails(
        "delete nobody",
        1,
        "error: group `nobody` has committed nothing on `local_kafka`\n\
         hint: check the name and the section: embedded brokers do not list their groups\n",
    );
}
