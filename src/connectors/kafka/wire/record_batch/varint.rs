//! Numbers of variable length, in zigzag order: 7 bits per byte, the lowest first.

use crate::connectors::kafka::wire::record_batch::error::BatchError;

/// Bytes that are read from the front, with each length checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct ByteReader<'a> {
    rest: &'a [u8],
}

impl<'a> ByteReader<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn byte(&mut self) -> Result<u8, BatchError> {
        let (&first, rest) = self.rest.split_first().ok_or(BatchError::Corrupt("a record ends early"))?;
        self.rest = rest;
        Ok(first)
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], BatchError> {
        let (taken, rest) =
            self.rest.split_at_checked(length).ok_or(BatchError::Corrupt("a length exceeds the bytes of the batch"))?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<i32, BatchError> {
        let [first, rest @ ..] = self.rest else { return Err(BatchError::Corrupt("a record ends early")) };
        if *first < 0x80 {
            self.rest = rest;
            return Ok(i32::from(first >> 1) ^ -i32::from(first & 1));
        }
        let raw = self.unsigned(5)?;
        let raw = u32::try_from(raw).map_err(|_| BatchError::Corrupt("a number exceeds 32 bits"))?;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    #[inline]
    pub(super) fn varlong(&mut self) -> Result<i64, BatchError> {
        let [first, rest @ ..] = self.rest else { return Err(BatchError::Corrupt("a record ends early")) };
        if *first < 0x80 {
            self.rest = rest;
            return Ok(i64::from(first >> 1) ^ -i64::from(first & 1));
        }
        let raw = self.unsigned(10)?;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    /// Reads a length, then as many bytes; -1 stands for null.
    #[inline]
    pub(super) fn nullable(&mut self) -> Result<Option<&'a [u8]>, BatchError> {
        match self.varint()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| BatchError::Corrupt("a length is negative"))?;
                self.take(length).map(Some)
            }
        }
    }

    fn unsigned(&mut self, longest: usize) -> Result<u64, BatchError> {
        let mut value = 0_u64;
        for (index, &byte) in self.rest.iter().enumerate().take(longest) {
            let bits = u64::from(byte & 0x7f);
            let shift = 7 * index;
            if shift == 63 && bits > 1 {
                return Err(BatchError::Corrupt("a number exceeds 64 bits"));
            }
            value |= bits << shift;
            if byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err(BatchError::Corrupt(if self.rest.len() < longest { "a record ends early" } else { "a number does not end" }))
    }
}

/// Appends a number of at most 64 bits.
#[inline]
pub(super) fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while raw >= 0x80 {
        #[expect(clippy::cast_possible_truncation, reason = "the lowest 7 bits are meant")]
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    #[expect(clippy::cast_possible_truncation, reason = "less than 0x80")]
    out.push(raw as u8);
}

/// Returns how many bytes [`put_varlong`] writes.
#[inline]
pub(super) fn varlong_bytes(value: i64) -> usize {
    let raw = ((value << 1) ^ (value >> 63)).cast_unsigned();
    // 7 bits a byte, and one byte for zero.
    (70 - (raw | 1).leading_zeros() as usize) / 7
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_number_is_read_as_it_was_written(value in any::<i64>(), shift in 0_u32..64, tail in any::<[u8; 2]>()) {
            let value = value >> shift;
            let mut bytes = Vec::new();
            put_varlong(&mut bytes, value);
            prop_assert_eq!(bytes.len(), varlong_bytes(value));
            bytes.extend_from_slice(&tail);
            let mut reader = ByteReader::new(&bytes);
            prop_assert_eq!(reader.varlong(), Ok(value));
            prop_assert_eq!(reader.rest(), &tail[..]);
            let mut reader = ByteReader::new(&bytes);
            prop_assert_eq!(reader.varint().ok(), i32::try_from(value).ok());
        }
    }

    #[test]
    fn a_number_that_does_not_end_is_corrupt() {
        assert!(ByteReader::new(&[0xff; 20]).varlong().is_err());
        assert!(ByteReader::new(&[0xff; 20]).varint().is_err());
        assert!(ByteReader::new(&[0x80; 3]).varint().is_err());
        assert!(ByteReader::new(&[]).varlong().is_err());
        assert!(ByteReader::new(&[0xff, 0xff, 0xff, 0xff, 0x1f]).varint().is_err(), "33 bits");
        assert_eq!(ByteReader::new(&[0xff, 0xff, 0xff, 0xff, 0x0f]).varint(), Ok(i32::MIN));
    }
}
