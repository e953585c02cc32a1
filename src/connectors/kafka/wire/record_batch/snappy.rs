//! Snappy as Kafka's clients write it: one raw block, or the blocks of snappy-java's stream, each after its length.

use std::borrow::Cow;

use crate::connectors::kafka::wire::record_batch::error::BatchError;

/// How the stream of snappy-java begins; two versions of four bytes follow.
const STREAM_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const STREAM_HEADER_BYTES: usize = 16;
/// A copy of three bytes gives 64.
const MOST_EXPANSION: usize = 22;

/// Appends the plain bytes to `out`, which may have `limit` bytes afterwards.
pub(super) fn decompress(bytes: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), BatchError> {
    if !bytes.starts_with(&STREAM_MAGIC) {
        return decompress_block(bytes, limit, out);
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        // Streams may follow each other.
        if rest.starts_with(&STREAM_MAGIC) {
            rest = rest.get(STREAM_HEADER_BYTES..).ok_or_else(|| corrupt("the stream's header is incomplete"))?;
            continue;
        }
        let (length, after) = rest.split_first_chunk().ok_or_else(|| corrupt("a block's length is incomplete"))?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok();
        let (block, after) =
            length.and_then(|length| after.split_at_checked(length)).ok_or_else(|| corrupt("a block is incomplete"))?;
        decompress_block(block, limit, out)?;
        rest = after;
    }
    Ok(())
}

fn decompress_block(block: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), BatchError> {
    let plain = snap::raw::decompress_len(block).map_err(|error| corrupt(error.to_string()))?;
    if plain > block.len().saturating_mul(MOST_EXPANSION) {
        return Err(corrupt("a block states more bytes than it can hold"));
    }
    if plain > limit.saturating_sub(out.len()) {
        return Err(BatchError::TooLarge { compressed: block.len(), limit });
    }
    let start = out.len();
    out.resize(start + plain, 0);
    let written = snap::raw::Decoder::new().decompress(block, &mut out[start..]).map_err(|error| corrupt(error.to_string()))?;
    out.truncate(start + written);
    Ok(())
}

/// Appends one raw block to `out`, which every client reads.
pub(super) fn compress(plain: &[u8], out: &mut Vec<u8>) -> Result<(), BatchError> {
    let start = out.len();
    out.resize(start + snap::raw::max_compress_len(plain.len()), 0);
    let written = snap::raw::Encoder::new().compress(plain, &mut out[start..]).map_err(|error| corrupt(error.to_string()))?;
    out.truncate(start + written);
    Ok(())
}

fn corrupt(reason: impl Into<Cow<'static, str>>) -> BatchError {
    BatchError::Compression { codec: "snappy", reason: reason.into().into_owned() }
}
