//! The header of a batch as a view, and the stamp of another producer.

use bytes::Bytes;

use crate::connectors::kafka::wire::record_batch::checksum;
use crate::connectors::kafka::wire::record_batch::codec::Codec;
use crate::connectors::kafka::wire::record_batch::error::BatchError;

/// The bytes of a header.
pub const HEADER_BYTES: usize = 61;

/// The bytes before those that the length of a batch counts.
pub(super) const LENGTH_PREFIX: usize = 12;
/// The checksum covers everything from here.
pub(super) const CHECKED_FROM: usize = 21;
/// The fewest bytes of a record: six numbers of one byte, and its attributes.
pub(super) const LEAST_RECORD_BYTES: usize = 7;

const CODEC_BITS: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// A batch of magic 2 with a right checksum and a plausible header. A clone copies no bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordBatch {
    bytes: Bytes,
}

/// What a producer writes into the header of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerStamp {
    /// The producer's id; -1 without idempotence.
    pub producer_id: i64,
    /// The producer's epoch.
    pub producer_epoch: i16,
    /// The sequence of the first record.
    pub base_sequence: i32,
    /// Whether the batch belongs to the producer's transaction.
    pub is_transactional: bool,
}

impl ProducerStamp {
    /// The stamp of a producer without idempotence.
    pub const NONE: Self = Self { producer_id: -1, producer_epoch: -1, base_sequence: -1, is_transactional: false };

    /// Returns the stamp of the batch after one of `count` records. Sequences continue with 0 after the largest.
    #[must_use]
    pub fn after(self, count: u32) -> Self {
        if self.base_sequence < 0 {
            return self;
        }
        let next = (i64::from(self.base_sequence) + i64::from(count)) & i64::from(i32::MAX);
        Self { base_sequence: i32::try_from(next).unwrap_or_default(), ..self }
    }
}

/// Why a batch cannot be produced as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// It holds the marker of a transaction: it is not to be produced at all. A broker would store it as a record.
    Control,
    /// Compaction removed each record: nothing is left to produce.
    Empty,
    /// Compaction removed records: a broker rejects it.
    Holes,
    /// Its records have the time of their append, which only the header has: the times of the producer would come back.
    LogAppendTime,
}

impl RecordBatch {
    /// Returns the batch that `bytes` are, all of them.
    ///
    /// # Errors
    /// When the header contradicts itself or the checksum does not match.
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        if bytes.len() < HEADER_BYTES {
            return Err(BatchError::Corrupt("the header is incomplete"));
        }
        let batch = Self { bytes };
        if batch.magic() != 2 {
            return Err(BatchError::Magic(batch.magic()));
        }
        if usize::try_from(batch.field_i32(8)).ok() != Some(batch.bytes.len() - LENGTH_PREFIX) {
            return Err(BatchError::Corrupt("the length of the batch is wrong"));
        }
        let (stated, computed) = (batch.checksum(), crc32c::crc32c(&batch.bytes[CHECKED_FROM..]));
        if stated != computed {
            return Err(BatchError::Checksum { stated, computed });
        }
        Codec::of_attributes(batch.attributes())?;
        let (last_delta, count) = (batch.last_offset_delta(), batch.field_i32(57));
        if last_delta < 0 || count < 0 || i64::from(count) > i64::from(last_delta) + 1 {
            return Err(BatchError::Corrupt("the number of records contradicts the offsets"));
        }
        if batch.base_offset() < 0 || batch.base_offset().checked_add(i64::from(last_delta) + 1).is_none() {
            return Err(BatchError::Corrupt("an offset is out of range"));
        }
        Ok(batch)
    }

    /// Returns a batch that the encoder made.
    pub(super) fn encoded(bytes: Bytes) -> Self {
        debug_assert_eq!(Self::parse(bytes.clone()).map(|batch| batch.count()).err(), None);
        Self { bytes }
    }

    /// Returns header and records.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns the records as they are stored, without copying them.
    #[must_use]
    pub fn body(&self) -> Bytes {
        self.bytes.slice(HEADER_BYTES..)
    }

    pub(super) fn body_slice(&self) -> &[u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// Returns the offset of the first record that the batch was written with.
    #[must_use]
    pub fn base_offset(&self) -> i64 {
        i64::from_be_bytes(self.field(0))
    }

    /// Returns the epoch of the leader that appended the batch.
    #[must_use]
    pub fn leader_epoch(&self) -> i32 {
        self.field_i32(12)
    }

    /// Returns the last offset that the batch was written with, from the base.
    #[must_use]
    pub fn last_offset_delta(&self) -> i32 {
        self.field_i32(23)
    }

    /// Returns the offset to fetch after this batch. Compaction leaves it as it was, whatever it removes.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.base_offset() + i64::from(self.last_offset_delta()) + 1
    }

    /// Returns the time that the records count theirs from; the delete horizon of a compacted batch.
    #[must_use]
    pub fn base_timestamp(&self) -> i64 {
        i64::from_be_bytes(self.field(27))
    }

    /// Returns the newest time of a record, or the time of the append.
    #[must_use]
    pub fn max_timestamp(&self) -> i64 {
        i64::from_be_bytes(self.field(35))
    }

    /// Returns the id of the producer, -1 without idempotence.
    #[must_use]
    pub fn producer_id(&self) -> i64 {
        i64::from_be_bytes(self.field(43))
    }

    /// Returns the epoch of the producer.
    #[must_use]
    pub fn producer_epoch(&self) -> i16 {
        i16::from_be_bytes(self.field(51))
    }

    /// Returns the sequence of the first record.
    #[must_use]
    pub fn base_sequence(&self) -> i32 {
        self.field_i32(53)
    }

    /// Returns how many records the batch has.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::from_be_bytes(self.field(57))
    }

    /// Returns the codec of the records.
    #[must_use]
    pub fn codec(&self) -> Codec {
        Codec::of_attributes(self.attributes()).unwrap_or(Codec::None)
    }

    /// Returns whether the records have the time of their append.
    #[must_use]
    pub fn is_log_append_time(&self) -> bool {
        self.attributes() & LOG_APPEND_TIME != 0
    }

    /// Returns whether a transaction wrote the batch.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes() & TRANSACTIONAL != 0
    }

    /// Returns whether the batch holds the marker of a transaction.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes() & CONTROL != 0
    }

    /// Returns why the batch cannot be produced as it is.
    #[must_use]
    pub fn obstacle(&self) -> Option<Obstacle> {
        if self.is_control() {
            Some(Obstacle::Control)
        } else if self.count() == 0 {
            Some(Obstacle::Empty)
        } else if i64::from(self.count()) != i64::from(self.last_offset_delta()) + 1 {
            Some(Obstacle::Holes)
        } else if self.is_log_append_time() {
            Some(Obstacle::LogAppendTime)
        } else {
            None
        }
    }

    /// Returns the header for another producer; the records stay as they are.
    ///
    /// # Errors
    /// When the batch cannot be produced as it is: brokers accept some such batches and store something else.
    pub fn restamp(&self, stamp: ProducerStamp) -> Result<[u8; HEADER_BYTES], Obstacle> {
        if let Some(obstacle) = self.obstacle() {
            return Err(obstacle);
        }
        let mut header: [u8; HEADER_BYTES] = self.field(0);
        header[..8].fill(0);
        header[12..16].copy_from_slice(&(-1_i32).to_be_bytes());
        // The time type, the old transaction and the delete horizon go; both timestamps stay, the records count from the first.
        let attributes = self.attributes() & CODEC_BITS | if stamp.is_transactional { TRANSACTIONAL } else { 0 };
        header[21..23].copy_from_slice(&attributes.to_be_bytes());
        header[43..51].copy_from_slice(&stamp.producer_id.to_be_bytes());
        header[51..53].copy_from_slice(&stamp.producer_epoch.to_be_bytes());
        header[53..57].copy_from_slice(&stamp.base_sequence.to_be_bytes());
        let old = &self.bytes[CHECKED_FROM..HEADER_BYTES];
        let checksum = checksum::replaced(self.checksum(), old, &header[CHECKED_FROM..], self.bytes.len() - HEADER_BYTES);
        header[17..21].copy_from_slice(&checksum.to_be_bytes());
        Ok(header)
    }

    fn magic(&self) -> i8 {
        i8::from_be_bytes(self.field(16))
    }

    fn checksum(&self) -> u32 {
        u32::from_be_bytes(self.field(17))
    }

    fn attributes(&self) -> i16 {
        i16::from_be_bytes(self.field(21))
    }

    fn field_i32(&self, at: usize) -> i32 {
        i32::from_be_bytes(self.field(at))
    }

    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut field = [0; N];
        field.copy_from_slice(&self.bytes[at..at + N]);
        field
    }
}
