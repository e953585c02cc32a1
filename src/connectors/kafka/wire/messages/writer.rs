//! Requests, written in parts: the bytes of records stay where they are.

use bytes::{BufMut, Bytes, BytesMut};

/// A request that is being written.
#[derive(Debug)]
pub struct MessageWriter {
    parts: Vec<Bytes>,
    last: BytesMut,
    is_flexible: bool,
}

impl MessageWriter {
    pub(super) fn new(is_flexible: bool) -> Self {
        Self { parts: Vec::new(), last: BytesMut::with_capacity(128), is_flexible }
    }

    /// Returns the parts behind their length, which is the first four bytes.
    pub(super) fn finish(mut self) -> Vec<Bytes> {
        if !self.last.is_empty() {
            self.parts.push(self.last.freeze());
        }
        let length: usize = self.parts.iter().map(Bytes::len).sum();
        let mut first = BytesMut::with_capacity(4);
        first.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        self.parts.insert(0, first.freeze());
        self.parts
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.last.put_u8(value.into());
    }

    pub(super) fn i8(&mut self, value: i8) {
        self.last.put_i8(value);
    }

    pub(super) fn i16(&mut self, value: i16) {
        self.last.put_i16(value);
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.last.put_i32(value);
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.last.put_i64(value);
    }

    pub(super) fn uuid(&mut self, id: [u8; 16]) {
        self.last.put_slice(&id);
    }

    fn unsigned(&mut self, mut value: u32) {
        while value >= 0x80 {
            #[expect(clippy::cast_possible_truncation, reason = "the lowest 7 bits are meant")]
            self.last.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        #[expect(clippy::cast_possible_truncation, reason = "less than 0x80")]
        self.last.put_u8(value as u8);
    }

    fn length(&mut self, length: Option<usize>, wide: bool) {
        let length = length.map(|length| i32::try_from(length).unwrap_or(i32::MAX));
        if self.is_flexible {
            self.unsigned(length.map_or(0, |length| length.cast_unsigned() + 1));
        } else if wide {
            self.last.put_i32(length.unwrap_or(-1));
        } else {
            self.last.put_i16(length.map_or(-1, |length| i16::try_from(length).unwrap_or(i16::MAX)));
        }
    }

    /// Writes a text, at most as many bytes as an old version can count.
    pub(super) fn nullable_string(&mut self, text: Option<&str>) {
        let text = text.map(|text| &text.as_bytes()[..text.len().min(i16::MAX as usize)]);
        self.length(text.map(<[u8]>::len), false);
        self.last.put_slice(text.unwrap_or_default());
    }

    pub(super) fn string(&mut self, text: &str) {
        self.nullable_string(Some(text));
    }

    /// The header of a request has its client id in the old form in every version.
    pub(super) fn old_string(&mut self, text: &str) {
        let is_flexible = std::mem::replace(&mut self.is_flexible, false);
        self.string(text);
        self.is_flexible = is_flexible;
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.length(Some(bytes.len()), true);
        self.last.put_slice(bytes);
    }

    /// Writes bytes of several buffers as one field. Nothing is copied.
    pub(super) fn joined(&mut self, buffers: &[Bytes]) {
        self.length(Some(buffers.iter().map(Bytes::len).sum()), true);
        self.parts.push(self.last.split().freeze());
        self.parts.extend(buffers.iter().filter(|buffer| !buffer.is_empty()).cloned());
    }

    pub(super) fn array<T>(&mut self, elements: &[T], mut element: impl FnMut(&mut Self, &T)) {
        self.length(Some(elements.len()), true);
        for one in elements {
            element(self, one);
        }
    }

    pub(super) fn no_tags(&mut self) {
        if self.is_flexible {
            self.last.put_u8(0);
        }
    }
}
