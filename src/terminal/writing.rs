//! How the bytes of others are written.

use base64::prelude::{BASE64_STANDARD, Engine as _};

use crate::terminal::{escape_controls, escape_controls_text};

/// How keys, values and headers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteEncoding {
    /// As they are, byte by byte: for files and pipes.
    AsIs,
    /// So that they cannot steer a terminal.
    Harmless,
    /// In base64.
    Base64,
}

impl ByteEncoding {
    /// Appends what may have several lines.
    pub fn text(self, bytes: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::AsIs => out.extend_from_slice(bytes),
            Self::Harmless => out.extend_from_slice(escape_controls_text(bytes).as_bytes()),
            Self::Base64 => out.extend_from_slice(BASE64_STANDARD.encode(bytes).as_bytes()),
        }
    }

    /// Appends what stands on one line.
    pub fn name(self, bytes: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Harmless => out.extend_from_slice(escape_controls(bytes).as_bytes()),
            other => other.text(bytes, out),
        }
    }

    /// Appends what stands on one line and is never in base64: a header's name.
    pub fn plain_name(self, bytes: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Harmless => self.name(bytes, out),
            Self::AsIs | Self::Base64 => out.extend_from_slice(bytes),
        }
    }
}
