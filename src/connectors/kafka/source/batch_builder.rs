//! From borrowed messages to records of our own: one buffer for a batch, and every field a piece of it.

use bytes::{Bytes, BytesMut};
use rdkafka::Message as _;
use rdkafka::message::BorrowedMessage;

use crate::connectors::kafka::librdkafka::messages;
use crate::record::{Partition, Record};

/// Collects messages until they are taken as records.
#[derive(Default)]
pub(crate) struct BatchBuilder {
    buffer: BytesMut,
    spans: Vec<FieldLengths>,
    /// Lengths of names and values of all headers, in order; -1: null.
    headers: Vec<(i32, i32)>,
    /// What the last batches needed, to make room at once for the next.
    usual: usize,
}

/// Lengths in the buffer, in order: key, value, headers. -1: null.
struct FieldLengths {
    partition: Partition,
    offset: i64,
    timestamp: Option<i64>,
    key: i32,
    value: i32,
    headers: usize,
}

impl BatchBuilder {
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.buffer.len()
    }

    pub(crate) fn push(&mut self, partition: Partition, message: &BorrowedMessage<'_>) {
        let Self { buffer, spans, headers, .. } = self;
        let (key, value) = (put(buffer, message.key()), put(buffer, message.payload()));
        let before = headers.len();
        messages::headers(message, |name, value| {
            let name = put(buffer, Some(name));
            headers.push((name, put(buffer, value)));
        });
        let (offset, timestamp) = (message.offset(), message.timestamp().to_millis());
        spans.push(FieldLengths { partition, offset, timestamp, key, value, headers: headers.len() - before });
    }

    /// Forgets the messages of these partitions.
    pub(crate) fn forget(&mut self, partitions: &[Partition]) {
        let kept = self.take().into_iter().filter(|record| !partitions.contains(&record.partition));
        for record in kept.collect::<Vec<_>>() {
            self.put_back(&record);
        }
    }

    fn put_back(&mut self, record: &Record) {
        let Self { buffer, spans, headers, .. } = self;
        let (key, value) = (put(buffer, record.key.as_deref()), put(buffer, record.value.as_deref()));
        for (name, value) in &record.headers {
            let name = put(buffer, Some(name));
            headers.push((name, put(buffer, value.as_deref())));
        }
        let Record { partition, offset, timestamp, .. } = *record;
        spans.push(FieldLengths { partition, offset, timestamp, key, value, headers: record.headers.len() });
    }

    /// Returns what was collected and starts anew.
    pub(crate) fn take(&mut self) -> Vec<Record> {
        self.usual = self.buffer.len() + self.buffer.len() / 8;
        let mut all = std::mem::replace(&mut self.buffer, BytesMut::with_capacity(self.usual)).freeze();
        let mut cut = |length: i32| usize::try_from(length).ok().map(|length| all.split_to(length));
        let mut headers = self.headers.drain(..);
        let record = |span: FieldLengths| Record {
            partition: span.partition,
            offset: span.offset,
            timestamp: span.timestamp,
            key: cut(span.key),
            value: cut(span.value),
            headers: headers
                .by_ref()
                .take(span.headers)
                .map(|(name, value)| (cut(name).unwrap_or_else(Bytes::new), cut(value)))
                .collect(),
        };
        self.spans.drain(..).map(record).collect()
    }
}

/// Appends a field and returns its length; -1 for null. A message is below 2 GB.
fn put(buffer: &mut BytesMut, part: Option<&[u8]>) -> i32 {
    part.map_or(-1, |part| {
        buffer.extend_from_slice(part);
        i32::try_from(part.len()).expect("a Kafka message is below 2 GB")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_keep_null_empty_and_repeated_fields() {
        let bytes = |part: &'static [u8]| Some(Bytes::from_static(part));
        let record = |index, offset, key, value, headers| Record {
            partition: Partition::new("cutter", index),
            offset,
            timestamp: (offset > 0).then_some(offset),
            key,
            value,
            headers,
        };
        let name = Bytes::from_static(b"h");
        let records = vec![
            record(0, 0, None, bytes(b"v"), Vec::new()),
            record(1, 1, bytes(b""), None, vec![(name.clone(), bytes(b"1")), (name.clone(), None), (name, bytes(b""))]),
            record(0, 2, bytes(b"\xff\0"), bytes(b""), vec![(Bytes::from_static(b"\xfe"), bytes(b"\0"))]),
        ];
        let mut cutter = BatchBuilder::default();
        for record in &records {
            cutter.put_back(record);
        }
        assert_eq!((cutter.len(), cutter.bytes()), (3, 9));
        assert_eq!(cutter.take(), records);
        assert_eq!((cutter.len(), cutter.bytes()), (0, 0));
        for record in &records {
            cutter.put_back(record);
        }
        cutter.forget(&[Partition::new("cutter", 0)]);
        assert_eq!(cutter.take(), records[1..2]);
    }
}
