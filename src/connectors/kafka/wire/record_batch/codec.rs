//! The five codecs of record batches, and bounds for what a batch may be after decompression.

use std::borrow::Cow;
use std::fmt;
use std::io::{Read, Write};

use bytes::Bytes;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use zstd_safe::{CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer, ResetDirective};

use crate::connectors::kafka::wire::record_batch::error::BatchError;
use crate::connectors::kafka::wire::record_batch::{lz4, snappy};

/// A codec of record batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// No compression.
    None,
    /// Of zlib.
    Gzip,
    /// Raw, or as the stream of snappy-java.
    Snappy,
    /// The frame format.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Codec {
    pub(super) fn of_attributes(attributes: i16) -> Result<Self, BatchError> {
        Ok(match attributes & 0x07 {
            0 => Self::None,
            1 => Self::Gzip,
            2 => Self::Snappy,
            3 => Self::Lz4,
            4 => Self::Zstd,
            unknown => return Err(BatchError::Codec(unknown)),
        })
    }

    pub(super) fn attribute(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How large a batch may be after decompression: `ratio` times its compressed bytes, or `always` if that is more, but never more
/// than `most`.
#[derive(Clone, Copy, Debug)]
pub struct DecompressionLimits {
    /// For batches of any size.
    pub always: usize,
    /// Plain bytes for a compressed one. Gzip reaches 1032; only zstd can exceed that.
    pub ratio: usize,
    /// The upper bound.
    pub most: usize,
}

impl Default for DecompressionLimits {
    fn default() -> Self {
        Self { always: 16 << 20, ratio: 1040, most: 256 << 20 }
    }
}

impl DecompressionLimits {
    fn of(self, compressed: usize) -> usize {
        compressed.saturating_mul(self.ratio).max(self.always).min(self.most)
    }
}

/// Decompresses the records of batches, one after the other.
#[derive(Default)]
pub struct Decompressor {
    limits: DecompressionLimits,
    zstd: Option<DCtx<'static>>,
}

impl Decompressor {
    /// Returns a decompressor with these limits.
    #[must_use]
    pub fn new(limits: DecompressionLimits) -> Self {
        Self { limits, zstd: None }
    }

    /// Returns the records of a batch after decompression: a view of `body` without compression.
    ///
    /// # Errors
    /// When the codec cannot read the bytes, or they exceed the limits.
    pub fn plain(&mut self, codec: Codec, body: &Bytes) -> Result<Bytes, BatchError> {
        if codec == Codec::None {
            return Ok(body.clone());
        }
        let mut out = Vec::new();
        self.decompress(codec, body, &mut out)?;
        Ok(Bytes::from(out))
    }

    /// Replaces `out` with the plain bytes of `body`.
    ///
    /// # Errors
    /// As [`Self::plain`]; `out` has an arbitrary part of the bytes then.
    pub fn decompress(&mut self, codec: Codec, body: &[u8], out: &mut Vec<u8>) -> Result<(), BatchError> {
        let limit = self.limits.of(body.len());
        out.clear();
        match codec {
            Codec::None => out.extend_from_slice(body),
            Codec::Gzip => read_all(codec, flate2::bufread::MultiGzDecoder::new(body), body.len(), limit, out)?,
            Codec::Snappy => snappy::decompress(body, limit, out)?,
            Codec::Lz4 => lz4::decompress(body, limit, out)?,
            Codec::Zstd => self.decompress_zstd(body, limit, out)?,
        }
        Ok(())
    }

    fn decompress_zstd(&mut self, body: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), BatchError> {
        let context = match &mut self.zstd {
            Some(context) => context,
            none => none.insert(DCtx::try_create().ok_or_else(|| failed(Codec::Zstd, "no memory"))?),
        };
        let check = |result: Result<usize, usize>| result.map_err(|code| failed(Codec::Zstd, zstd_safe::get_error_name(code)));
        check(context.reset(ResetDirective::SessionOnly))?;
        // The decoder holds a window of a size that the bytes choose, up to a power of two.
        check(context.set_parameter(DParameter::WindowLogMax((limit.max(1).ilog2() + 1).clamp(10, 27))))?;
        let mut input = InBuffer::around(body);
        let mut filled = 0;
        loop {
            if filled == out.len() {
                let more = body.len().saturating_mul(4).clamp(4096, 1 << 20).max(filled);
                out.resize(filled.saturating_add(more).min(limit + 1), 0);
            }
            let mut output = OutBuffer::around_pos(&mut out[..], filled);
            let wanted = check(context.decompress_stream(&mut output, &mut input))?;
            filled = output.pos();
            if filled > limit {
                return Err(BatchError::TooLarge { compressed: body.len(), limit });
            }
            let is_read = input.pos() == body.len();
            if is_read && wanted == 0 {
                out.truncate(filled);
                return Ok(());
            }
            if is_read && filled < out.len() {
                return Err(failed(Codec::Zstd, "the frame is incomplete"));
            }
        }
    }
}

/// Appends all that `source` gives to `out`.
fn read_all(codec: Codec, source: impl Read, compressed: usize, limit: usize, out: &mut Vec<u8>) -> Result<(), BatchError> {
    out.reserve(compressed.saturating_mul(2).min(limit));
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    source.take(most).read_to_end(out).map_err(|error| failed(codec, error.to_string()))?;
    if out.len() > limit { Err(BatchError::TooLarge { compressed, limit }) } else { Ok(()) }
}

/// Compresses the records of batches, one after the other.
#[derive(Default)]
pub struct Compressor {
    zstd: Option<CCtx<'static>>,
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Compressor")
    }
}

impl Compressor {
    /// Appends the compressed bytes of `plain` to `out`, at the codec's default level.
    ///
    /// # Errors
    /// When the codec fails.
    pub fn compress(&mut self, codec: Codec, plain: &[u8], out: &mut Vec<u8>) -> Result<(), BatchError> {
        match codec {
            Codec::None => out.extend_from_slice(plain),
            Codec::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::default());
                let written = encoder.write_all(plain).and_then(|()| encoder.finish().map(drop));
                written.map_err(|error| failed(codec, error.to_string()))?;
            }
            Codec::Snappy => snappy::compress(plain, out)?,
            Codec::Lz4 => {
                // Java's clients read independent blocks only.
                let frame = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
                let mut encoder = FrameEncoder::with_frame_info(frame, out);
                encoder.write_all(plain).map_err(|error| failed(codec, error.to_string()))?;
                encoder.finish().map_err(|error| failed(codec, error.to_string()))?;
            }
            Codec::Zstd => self.compress_zstd(plain, out)?,
        }
        Ok(())
    }

    fn compress_zstd(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), BatchError> {
        let context = match &mut self.zstd {
            Some(context) => context,
            none => none.insert(CCtx::try_create().ok_or_else(|| failed(Codec::Zstd, "no memory"))?),
        };
        let check = |result: Result<usize, usize>| result.map_err(|code| failed(Codec::Zstd, zstd_safe::get_error_name(code)));
        check(context.reset(ResetDirective::SessionOnly))?;
        check(context.set_parameter(CParameter::CompressionLevel(zstd_safe::CLEVEL_DEFAULT)))?;
        check(context.set_pledged_src_size(Some(plain.len() as u64)))?;
        // Everything fits.
        let start = out.len();
        out.resize(start + zstd_safe::compress_bound(plain.len()), 0);
        let mut output = OutBuffer::around_pos(&mut out[..], start);
        let mut input = InBuffer::around(plain);
        while input.pos() < plain.len() {
            check(context.compress_stream(&mut output, &mut input))?;
        }
        let missing = check(context.end_stream(&mut output))?;
        let written = output.pos();
        out.truncate(written);
        if missing == 0 { Ok(()) } else { Err(failed(Codec::Zstd, "the bound of the compressed bytes is wrong")) }
    }
}

fn failed(codec: Codec, reason: impl Into<Cow<'static, str>>) -> BatchError {
    BatchError::Compression { codec: codec.name(), reason: reason.into().into_owned() }
}
