//! Lines of records, next to those of kcat.

use std::process::Command;

use bytes::Bytes;
use sdl::connectors::ndjson::{ParsedLine, read as read_line, write};
use sdl::record::{Partition, Record};

use crate::harness::{Clusters, Content, Sender, edge_cases, unique};

/// Returns whether every part of a record is text: kcat writes other bytes as they are, which is then no JSON.
fn is_text(content: &Content) -> bool {
    let text = |part: &Option<Vec<u8>>| part.as_ref().is_none_or(|part| std::str::from_utf8(part).is_ok());
    text(&content.key) && text(&content.value) && content.headers.iter().all(|(_, value)| text(value))
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_lines_of_kcat_are_read_and_written_alike() {
    let clusters = Clusters::shared();
    let topic = unique("lines");
    clusters.source.create_topic(&topic, 1, &[]);
    let sent: Vec<_> = edge_cases().into_iter().filter(is_text).map(|content| (0, content)).collect();
    Sender::new(&clusters.source, &[]).send(&topic, &sent);
    let kcat = Command::new("kcat")
        .args(["-C", "-b", &clusters.source.servers, "-t", &topic, "-o", "beginning", "-e", "-q", "-J"])
        .output()
        .expect("kcat starts");
    let kcat = String::from_utf8(kcat.stdout).expect("text records are text");
    assert_eq!(kcat.lines().count(), sent.len());
    for (offset, ((_, content), theirs)) in (0..).zip(sent.into_iter().zip(kcat.lines())) {
        let Content { timestamp, key, value, headers } = content;
        let headers = headers.into_iter().map(|(name, value)| (name.into(), value.map(Bytes::from))).collect();
        let (key, value) = (key.map(Bytes::from), value.map(Bytes::from));
        let record = Record { partition: Partition::new(&topic, 0), offset, timestamp, key, value, headers };
        assert_eq!(read_line(theirs.as_bytes()), Ok(ParsedLine::Record(record.clone())), "{theirs}");

        let mut ours = Vec::new();
        write(&record.view(), &mut ours);
        let fields = |line: &[u8]| serde_json::from_slice::<serde_json::Map<_, serde_json::Value>>(line).expect("JSON");
        let mut theirs = fields(theirs.as_bytes());
        theirs.remove("broker");
        assert_eq!(fields(&ours), theirs, "apart from the broker, which a record does not know");
    }
}
