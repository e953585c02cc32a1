//! Batches that are written anew: with holes, with the time of their append, cut by a first or last offset, or merged.

use std::ops::Range;

use crate::connectors::kafka::wire::record_batch::codec::{Codec, Compressor, Decompressor};
use crate::connectors::kafka::wire::record_batch::encoder::BatchEncoder;
use crate::connectors::kafka::wire::record_batch::error::BatchError;
use crate::connectors::kafka::wire::record_batch::header::{Obstacle, RecordBatch};
use crate::connectors::kafka::wire::record_batch::records::RecordFrames;

/// The bytes up to which uncompressed neighbours are merged: what a batch costs a broker is per batch, not per record.
pub const MERGED_BYTES: usize = 400_000;

/// One batch to send, made of neighbours of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingBatch {
    /// The indexes of its batches.
    pub sources: Range<usize>,
    /// Whether it is the only one of them, as it is.
    pub is_as_is: bool,
}

/// Returns how to send the batches of one partition, in order. Control batches and empty ones are left out; each other batch
/// is part of one [`OutgoingBatch`].
#[must_use]
pub fn plan_batches(batches: &[RecordBatch], most_bytes: usize) -> Vec<OutgoingBatch> {
    let mut plan: Vec<OutgoingBatch> = Vec::new();
    // The bytes of the last entry of the plan, if a neighbour may join it.
    let mut open = None;
    for (index, batch) in batches.iter().enumerate() {
        let obstacle = batch.obstacle();
        if matches!(obstacle, Some(Obstacle::Control | Obstacle::Empty)) {
            open = None;
            continue;
        }
        let mergeable = (batch.codec() == Codec::None).then_some(batch.bytes().len());
        let joined = open.zip(mergeable).map(|(bytes, more): (usize, usize)| bytes + more);
        match (plan.last_mut(), joined) {
            (Some(last), Some(bytes)) if bytes <= most_bytes => {
                (last.sources.end, last.is_as_is) = (index + 1, false);
                open = Some(bytes);
            }
            _ => {
                plan.push(OutgoingBatch { sources: index..index + 1, is_as_is: obstacle.is_none() });
                open = mergeable;
            }
        }
    }
    plan
}

/// Writes records of batches into new batches.
#[derive(Default)]
pub struct BatchRewriter {
    encoder: BatchEncoder,
    decompressor: Decompressor,
    compressor: Compressor,
    plain: Vec<u8>,
}

impl BatchRewriter {
    /// Returns a rewriter that decompresses with `decompressor`.
    #[must_use]
    pub fn new(decompressor: Decompressor) -> Self {
        Self { decompressor, ..Self::default() }
    }

    /// Returns one dense batch with the records of `batches` whose offsets are in `offsets`, compressed as the first of them;
    /// `None` if no record is left.
    ///
    /// # Errors
    /// When a batch cannot be read, or one batch cannot hold the records.
    pub fn rewrite(&mut self, batches: &[RecordBatch], offsets: Range<i64>) -> Result<Option<RecordBatch>, BatchError> {
        let codec = batches.first().map_or(Codec::None, RecordBatch::codec);
        self.encoder.clear();
        // Deltas can grow by a few bytes.
        self.encoder.reserve(batches.iter().map(|batch| batch.bytes().len() / 16 * 17).sum());
        for batch in batches.iter().filter(|batch| !batch.is_control()) {
            let plain = if batch.codec() == Codec::None {
                batch.body_slice()
            } else {
                self.decompressor.decompress(batch.codec(), batch.body_slice(), &mut self.plain)?;
                &self.plain
            };
            let mut frames = RecordFrames::new(batch, plain)?;
            while let Some(frame) = frames.take()? {
                if offsets.contains(&frame.offset) {
                    self.encoder.push_frame(&frame)?;
                }
            }
        }
        self.encoder.finish(codec, &mut self.compressor)
    }
}
