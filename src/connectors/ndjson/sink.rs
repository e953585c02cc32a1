//! A sink that writes lines.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::connectors::ndjson::envelope::write;
use crate::pipeline::{Answers, Batch, ConnectorError, Failure, Ordering, Outcome, Sink};
use crate::record::{Partition, Record, RecordView};

/// Writes each record as a line, which is delivered once flushed. Clones share one output.
pub struct NdjsonSink<W> {
    shared: Arc<Mutex<Shared<W>>>,
    partition: Partition,
}

struct Shared<W> {
    out: W,
    error: Option<io::Error>,
}

impl<W> Clone for NdjsonSink<W> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), partition: self.partition }
    }
}

impl<W: Write + Send + 'static> NdjsonSink<W> {
    /// Returns a sink that writes to `out`. Every line has the coordinates of `partition`, not those of its source.
    #[must_use]
    pub fn new(out: W, partition: Partition) -> Self {
        Self { shared: Arc::new(Mutex::new(Shared { out, error: None })), partition }
    }

    /// Takes the write error, for the caller to distinguish a closed pipe from a failure.
    #[must_use]
    pub fn error(&self) -> Option<io::Error> {
        self.shared().error.take()
    }

    fn shared(&self) -> MutexGuard<'_, Shared<W>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, records: &[Record]) -> Result<(), Failure> {
        let mut lines = Vec::with_capacity(records.iter().map(|record| record.bytes() + 128).sum());
        for record in records {
            write(&RecordView { partition: self.partition, ..record.view() }, &mut lines);
        }
        let shared = &mut *self.shared();
        shared.out.write_all(&lines).and_then(|()| shared.out.flush()).map_err(|error| {
            let failure = Failure::new("cannot write lines").because(&error);
            shared.error = Some(error);
            failure
        })
    }
}

impl<W: Write + Send + 'static> Sink for NdjsonSink<W> {
    async fn submit(&self, batch: Batch) -> Result<Answers, ConnectorError> {
        let sink = self.clone();
        let records = batch.len();
        match tokio::task::spawn_blocking(move || sink.append(&batch)).await {
            Ok(appended) => appended?,
            Err(error) => return Err(Failure::new("cannot write lines").because(error).into()),
        }
        Ok(Box::pin(std::future::ready(vec![Outcome::Delivered; records])))
    }

    async fn check(&self) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn ordering(&self) -> Ordering {
        // `submit` returns when the lines are written.
        Ordering::Overlapping
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn batch() -> Batch {
        let value = Some(Bytes::from_static(b"{}"));
        let partition = Partition::new("fake", 0);
        Arc::new(vec![Record { partition, offset: 7, timestamp: None, key: None, value, headers: Vec::new() }])
    }

    #[tokio::test]
    async fn a_record_is_delivered_when_its_line_is_written() {
        let sink = NdjsonSink::new(Vec::new(), Partition::new("user-login", -1));
        assert_eq!(sink.submit(batch()).await.unwrap().await, [Outcome::Delivered]);
        assert_eq!(
            String::from_utf8(sink.shared().out.clone()).unwrap(),
            r#"{"topic":"user-login","partition":-1,"offset":7,"tstype":"unknown","ts":-1,"key":null,"payload":"{}"}"#.to_owned()
                + "\n"
        );
        assert!(sink.error().is_none());
    }

    #[tokio::test]
    async fn a_closed_output_ends_the_run_and_keeps_the_error() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let sink = NdjsonSink::new(writer, Partition::new("user-login", -1));
        assert!(sink.submit(batch()).await.is_err());
        assert_eq!(sink.error().unwrap().kind(), io::ErrorKind::BrokenPipe);
    }
}
