//! The records of a batch, read where they are.

use std::iter::FusedIterator;

use crate::connectors::kafka::wire::record_batch::error::BatchError;
use crate::connectors::kafka::wire::record_batch::header::{LEAST_RECORD_BYTES, RecordBatch};
use crate::connectors::kafka::wire::record_batch::varint::ByteReader;
use crate::record::{HeaderList, WithHeader};

/// A record of a batch. Its bytes stay in the buffer of the batch.
#[derive(Clone, Copy, Debug)]
pub struct WireRecord<'a> {
    /// The offset in the partition.
    pub offset: i64,
    /// Milliseconds since the Unix epoch, -1 for none.
    pub timestamp: i64,
    /// `None` is null, which is not the empty key.
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// In order; names may repeat, and values may be null.
    pub headers: RecordHeaders<'a>,
}

/// The headers of a record, whose lengths are checked.
#[derive(Clone, Copy, Debug)]
pub struct RecordHeaders<'a> {
    count: u32,
    bytes: ByteReader<'a>,
}

impl<'a> RecordHeaders<'a> {
    /// Returns how many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// Returns names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let mut bytes = self.bytes;
        (0..self.count).map_while(move |_| header(&mut bytes).ok())
    }
}

impl HeaderList for RecordHeaders<'_> {
    fn each(&self, with: &mut WithHeader<'_>) {
        for (name, value) in self.iter() {
            with(name, value);
        }
    }
}

fn header<'a>(bytes: &mut ByteReader<'a>) -> Result<(&'a [u8], Option<&'a [u8]>), BatchError> {
    let name = bytes.nullable()?.ok_or(BatchError::Corrupt("a header has no name"))?;
    Ok((name, bytes.nullable()?))
}

/// A record whose key, value and headers are not looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordFrame<'a> {
    pub(super) attributes: u8,
    pub(super) offset: i64,
    pub(super) timestamp: i64,
    /// Key, value and headers.
    pub(super) content: &'a [u8],
}

/// The frames of the records of a batch.
pub(super) struct RecordFrames<'a> {
    bytes: ByteReader<'a>,
    remaining: u32,
    base_offset: i64,
    base_timestamp: i64,
    append_timestamp: Option<i64>,
    /// The least and the greatest delta of the next offset.
    deltas: std::ops::RangeInclusive<i32>,
}

impl<'a> RecordFrames<'a> {
    /// `plain` are the records of `batch` after decompression.
    pub(super) fn new(batch: &RecordBatch, plain: &'a [u8]) -> Result<Self, BatchError> {
        if plain.len() / LEAST_RECORD_BYTES < batch.count() as usize {
            return Err(BatchError::Corrupt("the number of records exceeds the bytes"));
        }
        Ok(Self {
            bytes: ByteReader::new(plain),
            remaining: batch.count(),
            base_offset: batch.base_offset(),
            base_timestamp: batch.base_timestamp(),
            append_timestamp: batch.is_log_append_time().then(|| batch.max_timestamp()),
            deltas: 0..=batch.last_offset_delta(),
        })
    }

    pub(super) fn remaining(&self) -> usize {
        self.remaining as usize
    }

    #[inline]
    pub(super) fn take(&mut self) -> Result<Option<RecordFrame<'a>>, BatchError> {
        if self.remaining == 0 {
            return if self.bytes.is_empty() { Ok(None) } else { Err(BatchError::Corrupt("bytes follow the last record")) };
        }
        let length = usize::try_from(self.bytes.varint()?).map_err(|_| BatchError::Corrupt("a length is negative"))?;
        let mut record = ByteReader::new(self.bytes.take(length)?);
        let attributes = record.byte()?;
        // Clients count with numbers that wrap.
        let timestamp = self.base_timestamp.wrapping_add(record.varlong()?);
        let delta = record.varint()?;
        if !self.deltas.contains(&delta) {
            return Err(BatchError::Corrupt("the offset of a record is out of order"));
        }
        self.deltas = delta.saturating_add(1)..=*self.deltas.end();
        self.remaining -= 1;
        Ok(Some(RecordFrame {
            attributes,
            offset: self.base_offset + i64::from(delta),
            timestamp: self.append_timestamp.unwrap_or(timestamp),
            content: record.rest(),
        }))
    }
}

/// Walks over the records of a batch. Ends after the first error.
pub struct Records<'a> {
    frames: RecordFrames<'a>,
    has_failed: bool,
}

impl<'a> Records<'a> {
    /// Returns the records of `batch`, where `plain` are its records after decompression.
    ///
    /// # Errors
    /// When the header states more records than the bytes can hold.
    pub fn new(batch: &RecordBatch, plain: &'a [u8]) -> Result<Self, BatchError> {
        Ok(Self { frames: RecordFrames::new(batch, plain)?, has_failed: false })
    }

    #[inline]
    fn take(&mut self) -> Result<Option<WireRecord<'a>>, BatchError> {
        let Some(frame) = self.frames.take()? else { return Ok(None) };
        let mut content = ByteReader::new(frame.content);
        let (key, value) = (content.nullable()?, content.nullable()?);
        let count = u32::try_from(content.varint()?).map_err(|_| BatchError::Corrupt("the number of headers is negative"))?;
        let headers = RecordHeaders { count, bytes: content };
        for _ in 0..count {
            header(&mut content)?;
        }
        if !content.is_empty() {
            return Err(BatchError::Corrupt("bytes follow the last header"));
        }
        Ok(Some(WireRecord { offset: frame.offset, timestamp: frame.timestamp, key, value, headers }))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<WireRecord<'a>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed {
            return None;
        }
        let taken = self.take();
        self.has_failed = taken.is_err();
        taken.transpose()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // The error after the last record counts too.
        (0, Some(self.frames.remaining() + 1))
    }
}

impl FusedIterator for Records<'_> {}
