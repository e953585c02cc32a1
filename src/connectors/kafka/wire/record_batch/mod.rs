//! Record batches of magic 2, the format of Kafka 0.11 and later.
//!
//! A batch is a header of 61 bytes and records, which may be compressed as one. [`RecordBatch`] is a view of both; a producer's
//! stamp changes the header only. [`Records`] walks over the records without copying them, [`BatchEncoder`] writes new ones, and
//! [`plan_batches`] decides which batches a broker accepts as they are.

mod checksum;
mod codec;
mod encoder;
mod error;
mod fetched;
mod header;
mod lz4;
mod records;
mod rewrite;
mod snappy;
mod varint;

pub use codec::{Codec, Compressor, DecompressionLimits, Decompressor};
pub use encoder::BatchEncoder;
pub use error::BatchError;
pub use fetched::{FetchedBatch, FetchedBatches};
pub use header::{HEADER_BYTES, Obstacle, ProducerStamp, RecordBatch};
pub use records::{RecordHeaders, Records, WireRecord};
pub use rewrite::{BatchRewriter, MERGED_BYTES, OutgoingBatch, plan_batches};

#[cfg(test)]
mod batch_tests;
