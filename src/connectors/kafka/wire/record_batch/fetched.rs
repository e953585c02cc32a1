//! The batches of a fetch response.

use bytes::Bytes;

use crate::connectors::kafka::wire::record_batch::error::BatchError;
use crate::connectors::kafka::wire::record_batch::header::{LENGTH_PREFIX, RecordBatch};

/// Where every version of the format has its magic, and how many bytes that takes.
const MAGIC_AT: usize = 16;

/// One batch of a fetch response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchedBatch {
    /// Of magic 2.
    Batch(RecordBatch),
    /// Older than Kafka 0.11: a message, which may wrap a compressed message set.
    Legacy {
        /// Of the message; of the last one that it wraps.
        offset: i64,
        /// 0 or 1.
        magic: i8,
    },
}

/// Splits the records of one partition in a fetch response. A broker may cut the last batch; the cut one is left out.
#[derive(Clone, Debug)]
pub struct FetchedBatches {
    rest: Bytes,
}

impl FetchedBatches {
    /// Returns the batches of these bytes.
    #[must_use]
    pub fn new(records: Bytes) -> Self {
        Self { rest: records }
    }

    /// Returns the bytes after the last batch that is complete, when every batch was taken.
    #[must_use]
    pub fn incomplete(&self) -> usize {
        self.rest.len()
    }

    fn take(&mut self) -> Result<Option<FetchedBatch>, BatchError> {
        let Some(head) = self.rest.first_chunk::<{ MAGIC_AT + 1 }>() else { return Ok(None) };
        let magic = i8::from_be_bytes([head[MAGIC_AT]]);
        let [.., a, b, c, d, _, _, _, _, _] = *head;
        let length = usize::try_from(i32::from_be_bytes([a, b, c, d]));
        let length = length.ok().and_then(|length| length.checked_add(LENGTH_PREFIX));
        let length = length.filter(|length| *length > MAGIC_AT).ok_or(BatchError::Corrupt("the length of a batch is wrong"))?;
        if !(0..=2).contains(&magic) {
            return Err(BatchError::Magic(magic));
        }
        if length > self.rest.len() {
            return Ok(None);
        }
        let bytes = self.rest.split_to(length);
        if magic == 2 {
            return RecordBatch::parse(bytes).map(|batch| Some(FetchedBatch::Batch(batch)));
        }
        let mut offset = [0; 8];
        offset.copy_from_slice(&bytes[..8]);
        let offset = i64::from_be_bytes(offset);
        if !(0..i64::MAX).contains(&offset) {
            return Err(BatchError::Corrupt("an offset is out of range"));
        }
        Ok(Some(FetchedBatch::Legacy { offset, magic }))
    }
}

impl Iterator for FetchedBatches {
    type Item = Result<FetchedBatch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let taken = self.take();
        if taken.is_err() {
            self.rest.clear();
        }
        taken.transpose()
    }
}
