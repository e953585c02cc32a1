//! A source that reads lines.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::connectors::ndjson::envelope::{ParsedLine, read};
use crate::pipeline::{Assignment, Commit, ConnectorError, Demand, Failure, Signal, Source};
use crate::record::{NextOffset, Partition, Record};

/// Records per batch of the reading thread.
const BATCH: usize = 1000;
/// Bytes of lines per batch, unless a single line is longer.
const BATCH_BYTES: usize = 1 << 20;

/// Reads lines as records of the partition `NAME/0`, with the line number (from 1) as offset; commits do nothing. A line that is
/// not a record is the value of one, and blank lines are skipped.
#[derive(Debug)]
pub struct NdjsonSource {
    first: Option<Signal>,
    batches: Receiver<Result<Vec<Record>, Failure>>,
    /// Read beyond the demand.
    waiting: VecDeque<Record>,
    ended: bool,
}

impl NdjsonSource {
    /// Returns a source that reads the file at `path`.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let unreadable = |error| {
            Failure::new(format!("cannot read `{}`", path.display()))
                .because(error)
                .hint("name a file of JSON lines, or `-` for standard input")
        };
        let file = std::fs::File::open(path).map_err(unreadable)?;
        if file.metadata().map_err(unreadable)?.is_dir() {
            return Err(unreadable(io::ErrorKind::IsADirectory.into()));
        }
        Self::of(&path.display().to_string(), file).map_err(unreadable)
    }

    /// Returns a source that reads `input`; `name` is its name in errors and coordinates.
    ///
    /// # Errors
    /// When the reading thread cannot be started.
    pub fn of(name: &str, input: impl Read + Send + 'static) -> io::Result<Self> {
        let partition = Partition::new(name, 0);
        // A thread does the blocking reads, one batch ahead.
        let (sender, batches) = channel(1);
        let reader = LineReader { input: BufReader::new(input), partition, line: 0 };
        std::thread::Builder::new().name("lines".to_owned()).spawn(move || reader.run(&sender))?;
        let first =
            Some(Signal::Assigned(vec![Assignment { partition, start: NextOffset(1), fingerprint: None, extension: None }]));
        Ok(Self { first, batches, waiting: VecDeque::new(), ended: false })
    }
}

impl Source for NdjsonSource {
    async fn next(&mut self, demand: Demand) -> Result<Signal, ConnectorError> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        let Demand::Records(most) = demand else { return std::future::pending().await };
        if most == 0 || self.ended {
            return std::future::pending().await;
        }
        if self.waiting.is_empty() {
            let Some(batch) = self.batches.recv().await.transpose()? else {
                self.ended = true;
                return Ok(Signal::End);
            };
            self.waiting.extend(batch);
        }
        let most = most.min(self.waiting.len());
        Ok(Signal::Records(self.waiting.drain(..most).collect()))
    }

    fn commit(&mut self, _: Vec<Commit>) {}

    async fn flush(&mut self) -> Result<(), ConnectorError> {
        Ok(())
    }

    async fn close(self) -> Result<(), ConnectorError> {
        Ok(())
    }
}

struct LineReader<R> {
    input: BufReader<R>,
    partition: Partition,
    line: i64,
}

impl<R: Read> LineReader<R> {
    /// Sends batches until the input ends, a line is bad or the receiver is dropped.
    fn run(mut self, batches: &Sender<Result<Vec<Record>, Failure>>) {
        loop {
            let (batch, failure) = self.batch();
            let last = failure.is_some() || batch.is_empty();
            let sent = batch.is_empty() || batches.blocking_send(Ok(batch)).is_ok();
            if let Some(failure) = failure.filter(|_| sent) {
                // The receiver may be dropped: the run ended.
                let _ = batches.blocking_send(Err(failure));
            }
            if last || !sent {
                return;
            }
        }
    }

    /// Returns the next records, none at the end, and the failure that follows them.
    fn batch(&mut self) -> (Vec<Record>, Option<Failure>) {
        let mut records = Vec::new();
        let mut bytes = 0;
        while records.len() < BATCH && bytes < BATCH_BYTES {
            let mut line = Vec::new();
            match self.input.read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(length) => bytes += length,
                Err(error) => {
                    let what = format!("cannot read `{}` after line {}", self.partition.topic, self.line);
                    return (records, Some(Failure::new(what).because(error)));
                }
            }
            self.line += 1;
            // Files from Windows begin with a byte order mark.
            let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line).trim_ascii();
            if line.is_empty() {
                continue;
            }
            let (partition, offset) = (self.partition, self.line);
            match read(line) {
                Ok(ParsedLine::Record(record)) => records.push(Record { partition, offset, ..record }),
                Ok(ParsedLine::Value(value)) => {
                    let value = Some(value);
                    records.push(Record { partition, offset, timestamp: None, key: None, value, headers: Vec::new() });
                }
                Err(why) => {
                    let failure = Failure::new(format!("line {offset} of `{}` is not a record", partition.topic)).because(why);
                    return (
                        records,
                        Some(failure.hint("each line is one JSON value, or a record as written by `sdl tail -o ndjson`")),
                    );
                }
            }
        }
        (records, None)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use bytes::Bytes;

    use super::*;
    use crate::connectors::ndjson::write;

    async fn all(mut source: NdjsonSource) -> (Vec<Record>, Option<ConnectorError>) {
        let mut records = Vec::new();
        loop {
            match source.next(Demand::Records(7)).await {
                Ok(Signal::Records(batch)) => {
                    assert!(!batch.is_empty() && batch.len() <= 7);
                    records.extend(batch);
                }
                Ok(Signal::Assigned(assigned)) => assert_eq!(assigned[0].start, NextOffset(1)),
                Ok(Signal::End) => return (records, None),
                Ok(other) => panic!("{other:?}"),
                Err(error) => return (records, Some(error)),
            }
        }
    }

    fn record(line: i64, key: Option<&'static [u8]>, value: Option<&'static [u8]>) -> Record {
        let headers = vec![(Bytes::from_static(b"h"), key.map(Bytes::from_static))];
        Record {
            partition: Partition::new("input", 0),
            offset: line,
            timestamp: Some(line * 1000),
            key: key.map(Bytes::from_static),
            value: value.map(Bytes::from_static),
            headers,
        }
    }

    #[tokio::test]
    async fn written_lines_are_read_back() {
        let records: Vec<_> = (1..=3000)
            .map(|line| match line % 3 {
                0 => record(line, None, None),
                1 => record(line, Some(b""), Some(b"\xff\0")),
                _ => record(line, Some(b"k\n"), Some(b"{\"a\": 1}\n")),
            })
            .collect();
        let mut lines = Vec::new();
        for record in &records {
            write(&record.view(), &mut lines);
        }
        let (read, error) = all(NdjsonSource::of("input", Cursor::new(lines)).unwrap()).await;
        assert!(error.is_none());
        assert_eq!(read, records);
    }

    #[tokio::test]
    async fn plain_json_is_a_value_and_empty_lines_are_skipped() {
        let (records, error) = all(NdjsonSource::of("input", Cursor::new("{\"a\": 1}\r\n\n  \n[2]")).unwrap()).await;
        assert!(error.is_none());
        let values: Vec<_> = records.iter().map(|record| (record.offset, record.value.as_deref().unwrap())).collect();
        assert_eq!(values, [(1, &b"{\"a\": 1}"[..]), (4, b"[2]")]);
        assert!(records.iter().all(|record| record.key.is_none() && record.timestamp.is_none()));
    }

    #[tokio::test]
    async fn a_byte_order_mark_before_the_first_line_is_skipped() {
        let (records, error) = all(NdjsonSource::of("input", Cursor::new("\u{feff}{\"a\": 1}\r\n[2]\r\n")).unwrap()).await;
        assert!(error.is_none());
        let values: Vec<_> = records.iter().map(|record| record.value.as_deref().unwrap()).collect();
        assert_eq!(values, [&b"{\"a\": 1}"[..], b"[2]"]);
    }

    #[tokio::test]
    async fn a_bad_line_ends_the_source_after_the_good_ones_and_is_named() {
        let (records, error) = all(NdjsonSource::of("input", Cursor::new("1\n\n2\nthree\n4\n")).unwrap()).await;
        assert_eq!(records.len(), 2);
        assert_eq!(
            error.unwrap().to_string(),
            "line 4 of `input` is not a record: not JSON: unexpected character at line 1 column 2"
        );
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_is_named() {
        let missing = NdjsonSource::open(Path::new("/nowhere/logins.ndjson")).unwrap_err();
        assert_eq!(missing.to_string(), "cannot read `/nowhere/logins.ndjson`: No such file or directory (os error 2)");
        let folder = NdjsonSource::open(Path::new("/")).unwrap_err();
        assert_eq!(folder.to_string(), "cannot read `/`: is a directory");
    }
}
