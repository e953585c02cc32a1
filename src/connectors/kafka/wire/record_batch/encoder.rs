//! New batches.

use bytes::Bytes;

use crate::connectors::kafka::wire::record_batch::codec::{Codec, Compressor};
use crate::connectors::kafka::wire::record_batch::error::BatchError;
use crate::connectors::kafka::wire::record_batch::header::{CHECKED_FROM, HEADER_BYTES, LENGTH_PREFIX, RecordBatch};
use crate::connectors::kafka::wire::record_batch::records::RecordFrame;
use crate::connectors::kafka::wire::record_batch::varint::{put_varlong, varlong_bytes};

/// The most bytes of a batch: the protocol counts with 31 bits.
const MOST_BYTES: usize = i32::MAX as usize - (1 << 20);

/// Collects records for one batch, which starts at offset 0 and has no producer.
#[derive(Debug, Default)]
pub struct BatchEncoder {
    /// The place of the header, then the records; empty before the first.
    bytes: Vec<u8>,
    count: u32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchEncoder {
    /// Returns how many records were added.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Returns the bytes of the batch before compression.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len().max(HEADER_BYTES)
    }

    /// Drops the records.
    pub(super) fn clear(&mut self) {
        self.count = 0;
        self.bytes.clear();
    }

    /// Makes room for as many more bytes.
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve(HEADER_BYTES + bytes);
    }

    /// Adds a record.
    ///
    /// # Errors
    /// When one batch cannot hold it; nothing is added.
    pub fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) -> Result<(), BatchError> {
        let counted = |bytes: Option<&[u8]>| bytes.map_or(1, |bytes| varlong_bytes(length(bytes.len())) + bytes.len());
        let in_headers = headers.iter().map(|(name, value)| counted(Some(name)) + counted(*value)).sum::<usize>();
        let content = counted(key) + counted(value) + varlong_bytes(length(headers.len())) + in_headers;
        self.start_record(0, timestamp, content)?;
        put_nullable(&mut self.bytes, key);
        put_nullable(&mut self.bytes, value);
        put_varlong(&mut self.bytes, length(headers.len()));
        for (name, value) in headers {
            put_nullable(&mut self.bytes, Some(name));
            put_nullable(&mut self.bytes, *value);
        }
        Ok(())
    }

    /// Adds a record of another batch. Key, value and headers are copied as they are.
    #[inline]
    pub(super) fn push_frame(&mut self, frame: &RecordFrame<'_>) -> Result<(), BatchError> {
        self.start_record(frame.attributes, frame.timestamp, frame.content.len())?;
        self.bytes.extend_from_slice(frame.content);
        Ok(())
    }

    /// Writes everything before `content` bytes of key, value and headers.
    #[inline]
    fn start_record(&mut self, attributes: u8, timestamp: i64, content: usize) -> Result<(), BatchError> {
        if content > MOST_BYTES - self.bytes().min(MOST_BYTES) || self.count >= i32::MAX.cast_unsigned() {
            return Err(BatchError::Full);
        }
        if self.count == 0 {
            self.bytes.clear();
            self.bytes.resize(HEADER_BYTES, 0);
            (self.base_timestamp, self.max_timestamp) = (timestamp, timestamp);
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        // Readers add with numbers that wrap.
        let timestamp_delta = timestamp.wrapping_sub(self.base_timestamp);
        let offset_delta = i64::from(self.count);
        let bytes = 1 + varlong_bytes(timestamp_delta) + varlong_bytes(offset_delta) + content;
        put_varlong(&mut self.bytes, length(bytes));
        self.bytes.push(attributes);
        put_varlong(&mut self.bytes, timestamp_delta);
        put_varlong(&mut self.bytes, offset_delta);
        self.count += 1;
        Ok(())
    }

    /// Returns the batch, and starts a new one; `None` without records.
    ///
    /// # Errors
    /// When the codec fails.
    pub fn finish(&mut self, codec: Codec, compressor: &mut Compressor) -> Result<Option<RecordBatch>, BatchError> {
        let (count, plain) = (std::mem::take(&mut self.count), std::mem::take(&mut self.bytes));
        if count == 0 {
            return Ok(None);
        }
        let mut bytes = if codec == Codec::None {
            plain
        } else {
            let mut bytes = vec![0; HEADER_BYTES];
            compressor.compress(codec, &plain[HEADER_BYTES..], &mut bytes)?;
            // The buffer serves the next batch.
            self.bytes = plain;
            self.bytes.clear();
            bytes
        };
        let batch_length = i32::try_from(bytes.len() - LENGTH_PREFIX).map_err(|_| BatchError::Full)?;
        bytes[8..12].copy_from_slice(&batch_length.to_be_bytes());
        bytes[12..16].copy_from_slice(&(-1_i32).to_be_bytes());
        bytes[16] = 2;
        bytes[21..23].copy_from_slice(&codec.attribute().to_be_bytes());
        bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        bytes[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        bytes[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        // Producer id, epoch and sequence.
        bytes[43..57].fill(0xff);
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        let checksum = crc32c::crc32c(&bytes[CHECKED_FROM..]);
        bytes[17..21].copy_from_slice(&checksum.to_be_bytes());
        Ok(Some(RecordBatch::encoded(Bytes::from(bytes))))
    }
}

fn length(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    put_varlong(out, bytes.map_or(-1, |bytes| length(bytes.len())));
    out.extend_from_slice(bytes.unwrap_or_default());
}
