//! The position in one partition, and what a fetch response means for it. No clock, no connection.

use std::collections::HashSet;

use crate::connectors::kafka::wire::messages::error_code::OFFSET_OUT_OF_RANGE;
use crate::connectors::kafka::wire::messages::{AbortedTransaction, DivergingEpoch, EpochEndOffset, FetchedPartition};
use crate::connectors::kafka::wire::record_batch::{BatchError, FetchedBatch, FetchedBatches, RecordBatch, Records};

/// The type of an abort marker, in its key.
const ABORT: [u8; 2] = [0, 0];

/// The position in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionCursor {
    /// The offset to read next.
    pub offset: i64,
    /// The leader epoch of the last batch before it, -1 if unknown.
    pub last_epoch: i32,
}

/// A batch that was read. Neither a marker nor of an aborted transaction, and never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadBatch {
    /// The batch.
    pub batch: RecordBatch,
    /// Records before this offset were not asked for.
    pub from: i64,
}

impl ReadBatch {
    /// Returns whether the position was inside the batch.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.from > self.batch.base_offset()
    }
}

/// What a fetch brought for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartitionRead {
    /// Batches, perhaps none; the position is after them, and after all that was left out.
    Batches(Vec<ReadBatch>),
    /// Not even one batch arrived as a whole.
    Incomplete,
    /// The log does not have the offset.
    OutOfRange,
    /// The log was truncated: up to here it is the one that was read.
    Diverged(DivergingEpoch),
    /// The broker's error code.
    Failed(i16),
}

/// Why the records of a partition cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// A batch is corrupt.
    #[error("offset {offset}: {error}")]
    Batch {
        /// The position before the batch.
        offset: i64,
        /// The reason.
        error: BatchError,
    },
    /// A message older than Kafka 0.11.
    #[error("offset {offset}: a message of magic {magic}, which this data path does not read")]
    Legacy {
        /// The message's offset.
        offset: i64,
        /// 0 or 1.
        magic: i8,
    },
}

impl PartitionCursor {
    /// Takes over a response; moves the position.
    ///
    /// # Errors
    /// When the bytes are not batches of magic 2; the position is before the one at fault.
    pub fn read(&mut self, fetched: FetchedPartition) -> Result<PartitionRead, CursorError> {
        match fetched.error {
            0 => {}
            OFFSET_OUT_OF_RANGE => return Ok(PartitionRead::OutOfRange),
            code => return Ok(PartitionRead::Failed(code)),
        }
        if let Some(diverging) = fetched.diverging {
            return Ok(PartitionRead::Diverged(diverging));
        }
        let mut aborted = AbortedProducers::new(fetched.aborted);
        let mut fetched = FetchedBatches::new(fetched.records);
        let (mut read, mut is_first) = (Vec::new(), true);
        for batch in fetched.by_ref() {
            is_first = false;
            let batch = match batch.map_err(|error| CursorError::Batch { offset: self.offset, error })? {
                FetchedBatch::Batch(batch) => batch,
                FetchedBatch::Legacy { offset, magic } => return Err(CursorError::Legacy { offset, magic }),
            };
            let is_wanted = aborted.admits(&batch).map_err(|error| CursorError::Batch { offset: self.offset, error })?;
            // A fetch may begin with batches before its offset.
            if batch.next_offset() <= self.offset {
                continue;
            }
            let from = self.offset.max(batch.base_offset());
            // The end comes from the header: compaction may have removed the last records, or all.
            (self.offset, self.last_epoch) = (batch.next_offset(), batch.leader_epoch());
            if is_wanted && batch.count() > 0 {
                read.push(ReadBatch { batch, from });
            }
        }
        if is_first && fetched.incomplete() > 0 {
            return Ok(PartitionRead::Incomplete);
        }
        Ok(PartitionRead::Batches(read))
    }

    /// Returns up to where the log is the one that was read, if a new leader's log ends the last epoch before the position.
    #[must_use]
    pub fn divergence(&self, end: &EpochEndOffset) -> Option<DivergingEpoch> {
        let is_known = end.error == 0 && end.end_offset >= 0 && self.last_epoch >= 0;
        let is_diverged = is_known && (end.end_offset < self.offset || end.epoch < self.last_epoch);
        is_diverged.then_some(DivergingEpoch { epoch: end.epoch, end_offset: end.end_offset })
    }
}

/// The producers whose transaction was aborted, at the batch that is looked at.
struct AbortedProducers {
    /// The transactions that begin later, the next one last.
    later: Vec<AbortedTransaction>,
    producers: HashSet<i64>,
}

impl AbortedProducers {
    fn new(mut aborted: Vec<AbortedTransaction>) -> Self {
        aborted.sort_by_key(|transaction| std::cmp::Reverse(transaction.first_offset));
        Self { later: aborted, producers: HashSet::new() }
    }

    /// Returns whether the batch holds records that readers see.
    fn admits(&mut self, batch: &RecordBatch) -> Result<bool, BatchError> {
        while let Some(next) = self.later.pop_if(|next| next.first_offset < batch.next_offset()) {
            self.producers.insert(next.producer_id);
        }
        if batch.is_control() {
            if is_abort_marker(batch)? {
                self.producers.remove(&batch.producer_id());
            }
            return Ok(false);
        }
        Ok(!(batch.is_transactional() && self.producers.contains(&batch.producer_id())))
    }
}

fn is_abort_marker(batch: &RecordBatch) -> Result<bool, BatchError> {
    let body = batch.body();
    let Some(marker) = Records::new(batch, &body)?.next().transpose()? else { return Ok(false) };
    // Version and type.
    Ok(marker.key.and_then(|key| key.get(2..4)) == Some(&ABORT[..]))
}
