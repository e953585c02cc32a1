//! Errors of `sdl tail`.

use std::time::{Duration, Instant};

use super::Topic;
use crate::run::Folder;

#[test]
fn conflicting_flags_are_one_error() {
    let topic = Topic::with(2, &[(0, None, Some(b"x"))]);
    topic.fails("login", "error: topic `login` does not exist on `local_kafka`\nhint: did you mean `logins`?\n", 1);
    topic.fails("logins orders", "error: topic `orders` does not exist on `local_kafka`\nhint: its only topic is `logins`\n", 1);
    topic.fails(
        "--topics-matching x.*",
        "error: no topic of `local_kafka` is left to read\nhint: loosen --topics-matching or --exclude; its only topic is `logins`\n",
        1,
    );
    topic.fails(
        "",
        "error: no topic is named\nhint: name one on the command line, or set `default_consumer_topic` under [local_kafka]; \
         its only topic is `logins`\n",
        2,
    );
    topic.fails("logins --partitions 0,2", "error: topic `logins` has no partition 2\nhint: it has partitions 0 to 1\n", 2);
    topic.fails(
        "logins --start committed",
        "error: `committed` is the position of a consumer group, and none is named\n\
         hint: add --group NAME; the group is neither joined nor changed\n",
        2,
    );
    topic.fails(
        "log/ins",
        "error: `log/ins` is not a valid topic name\nhint: use up to 249 letters, digits, dots, underscores and dashes\n",
        2,
    );
    topic.fails(
        "logins --start 7",
        "error: the start offset 7 is outside logins/0\n  offset 7 is not between 0 and 1\n\
         hint: name an offset that each partition has, or choose partitions with --partitions\n",
        5,
    );
    topic.fails(
        "logins --where =1",
        "error: cannot use `--where =1`: unexpected `=1` at column 1\n\
         hint: write FIELD, FIELD = VALUE (or ==, !=, <, <=, >, >=, ~ for a regex) or FIELD in (A, B), several joined by `and`, \
         values with blanks in quotes: \"city = 'New York' and n > 5\"\n",
        2,
    );
}

#[test]
fn an_invalid_flag_value_is_refused_with_the_valid_syntax() {
    let folder = Folder::with_profile("[local_kafka]\nservers = 127.0.0.1:1\n");
    for (arguments, words) in [
        (
            "--start yesterday",
            "invalid value 'yesterday' for '--start <POS>': not a position: use beginning, end, committed, an offset",
        ),
        ("--grep (", "invalid value '(' for '--grep <REGEX>': not a regular expression: unclosed group"),
        ("-f %z", "invalid value '%z' for '--format <FORMAT>': unknown token `%z`: use %s %S %R %k %K %t %p %o %T %h or %%"),
        ("-f 100%", "ends in a single `%`"),
        ("--header =x", "the header name is missing: use NAME or NAME=VALUE, as in trace=4bf92f"),
        ("--partitions 1-", "not a list of partitions: use numbers and ranges, as in 0,2-5"),
        ("--start 9 --stop 8", "--start (offset 9) is after --stop (offset 8): no record is between them"),
        ("--start @-1h --stop @1577836800", "--start (1h ago) is after --stop (2020-01-01T00:00:00Z): no record is between them"),
        ("--start @4102444800 --stop @-1h", "--start (2100-01-01T00:00:00Z) is after --stop (1h ago)"),
        ("-F --stop end", "the argument '--follow' cannot be used with '--stop <POS>'"),
        ("-o json", "[possible values: pretty, value, ndjson, table, csv]"),
        ("--hex --base64", "cannot be used with"),
    ] {
        let ended = folder.run(&format!("tail logins {arguments}"));
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{arguments}");
        assert!(ended.stderr.contains(words), "{arguments}: {}", ended.stderr);
    }
}

#[test]
fn an_unreachable_cluster_is_named_within_ten_seconds() {
    let server = std::net::TcpListener::bind("127.0.0.215:0").unwrap().local_addr().unwrap();
    let folder = Folder::with_profile(&format!("[local_kafka]\nservers = {server}\n"));
    let expected = format!(
        "error: cannot connect to `local_kafka`\n  caused by: {server}: connecting: connection refused\n\
         hint: start the broker, or correct `servers` under [local_kafka]\n"
    );
    let is_in_time = |_| {
        let begun = Instant::now();
        let ended = folder.run("tail logins");
        assert_eq!((ended.stderr.as_str(), ended.stdout.as_str(), ended.code), (expected.as_str(), "", Some(1)));
        begun.elapsed() < Duration::from_secs(12)
    };
    // A busy machine may hold up one run or another.
    assert!((0..3).any(is_in_time), "each of three runs took longer");
}
