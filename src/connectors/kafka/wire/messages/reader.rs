//! Responses, read from the front with each length checked.

use bytes::{Buf, Bytes};

/// A response that is not what the protocol says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the response of the broker cannot be decoded: {0}")]
pub struct DecodeError(pub(super) &'static str);

/// Elements of an array that are reserved before the first was read.
const RESERVED: usize = 256;

/// The rest of a response. Flexible versions have short lengths and tagged fields.
#[derive(Clone, Debug)]
pub struct MessageReader {
    bytes: Bytes,
    is_flexible: bool,
}

impl MessageReader {
    /// Returns a reader of these bytes.
    #[must_use]
    pub fn new(bytes: Bytes, is_flexible: bool) -> Self {
        Self { bytes, is_flexible }
    }

    /// Returns the rest as a message whose version is flexible or not.
    #[must_use]
    pub fn with_flexibility(self, is_flexible: bool) -> Self {
        Self { is_flexible, ..self }
    }

    /// Returns how many bytes are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let fixed = *self.bytes.first_chunk().ok_or(DecodeError("it ends early"))?;
        self.bytes.advance(N);
        Ok(fixed)
    }

    pub(super) fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.fixed::<1>()? != [0])
    }

    pub(super) fn i16(&mut self) -> Result<i16, DecodeError> {
        self.fixed().map(i16::from_be_bytes)
    }

    /// Reads a number of 32 bits.
    ///
    /// # Errors
    /// When the response ends before.
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        self.fixed().map(i32::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, DecodeError> {
        self.fixed().map(i64::from_be_bytes)
    }

    pub(super) fn uuid(&mut self) -> Result<[u8; 16], DecodeError> {
        self.fixed()
    }

    fn unsigned(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0_u32;
        for shift in (0..35).step_by(7) {
            let [byte] = self.fixed()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError("a number exceeds 32 bits"))
    }

    /// Reads a length; `None` is null. Old versions have lengths of `wide` or 16 bits.
    fn length(&mut self, wide: bool) -> Result<Option<usize>, DecodeError> {
        let length = if self.is_flexible {
            return Ok((self.unsigned()? as usize).checked_sub(1));
        } else if wide {
            self.i32()?
        } else {
            i32::from(self.i16()?)
        };
        if length == -1 {
            return Ok(None);
        }
        usize::try_from(length).map(Some).map_err(|_| DecodeError("a length is negative"))
    }

    fn take(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        if length > self.bytes.len() {
            return Err(DecodeError("a length exceeds the response"));
        }
        Ok(self.bytes.split_to(length))
    }

    pub(super) fn nullable_string(&mut self) -> Result<Option<String>, DecodeError> {
        let Some(length) = self.length(false)? else { return Ok(None) };
        let text = self.take(length)?;
        String::from_utf8(text.into()).map(Some).map_err(|_| DecodeError("a text is not UTF-8"))
    }

    pub(super) fn string(&mut self) -> Result<String, DecodeError> {
        self.nullable_string()?.ok_or(DecodeError("a text is null"))
    }

    pub(super) fn nullable_bytes(&mut self) -> Result<Option<Bytes>, DecodeError> {
        self.length(true)?.map(|length| self.take(length)).transpose()
    }

    /// Reads an array; null is empty.
    pub(super) fn array<T>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.length(true)?.unwrap_or_default();
        // An element has a byte at least.
        if count > self.bytes.len() {
            return Err(DecodeError("an array exceeds the response"));
        }
        let mut elements = Vec::with_capacity(count.min(RESERVED));
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(elements)
    }

    /// Skips the tagged fields.
    ///
    /// # Errors
    /// When the response ends before.
    pub fn skip_tags(&mut self) -> Result<(), DecodeError> {
        self.tags(|_, _| Ok(()))
    }

    /// Reads the tagged fields: `field` receives the number of each, and its bytes.
    pub(super) fn tags(&mut self, mut field: impl FnMut(u32, &mut Self) -> Result<(), DecodeError>) -> Result<(), DecodeError> {
        if !self.is_flexible {
            return Ok(());
        }
        for _ in 0..self.unsigned()? {
            let (tag, length) = (self.unsigned()?, self.unsigned()? as usize);
            let bytes = self.take(length)?;
            field(tag, &mut Self { bytes, is_flexible: true })?;
        }
        Ok(())
    }
}
