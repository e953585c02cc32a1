//! How keys, values and headers are written.

use base64::prelude::{BASE64_STANDARD, Engine as _};

use crate::terminal::escape::{escape_controls, escape_controls_text};

/// How keys, values and headers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ByteEncoding {
    /// Byte by byte: for files and pipes.
    Raw,
    /// With control characters escaped.
    Escaped,
    /// In base64.
    Base64,
}

impl ByteEncoding {
    /// Appends text of several lines.
    pub(crate) fn write_text(self, bytes: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Raw => out.extend_from_slice(bytes),
            Self::Escaped => out.extend_from_slice(escape_controls_text(bytes).as_bytes()),
            Self::Base64 => out.extend_from_slice(BASE64_STANDARD.encode(bytes).as_bytes()),
        }
    }

    /// Appends text of one line.
    pub(crate) fn write_line(self, bytes: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Escaped => out.extend_from_slice(escape_controls(bytes).as_bytes()),
            other => other.write_text(bytes, out),
        }
    }

    /// Appends text of one line that is never in base64: a header's name.
    pub(crate) fn write_header_name(self, bytes: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Escaped => self.write_line(bytes, out),
            Self::Raw | Self::Base64 => out.extend_from_slice(bytes),
        }
    }
}
