//! LZ4 frames, block by block into the bytes of the batch. The checksum of the batch covers the frame's own ones.

use std::borrow::Cow;

use lz4_flex::block;

use crate::connectors::kafka::wire::record_batch::error::BatchError;

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// How far back a block can refer to the blocks before it.
const WINDOW: usize = 64 << 10;
/// The bit of a block's length that says that the block is not compressed.
const PLAIN: u32 = 1 << 31;
/// A byte of a length gives 255 bytes.
const MOST_EXPANSION: usize = 255;

/// What the header of a frame says.
struct FrameFlags {
    are_linked: bool,
    has_block_checksums: bool,
    has_content_checksum: bool,
    most_block_bytes: usize,
}

/// Appends the plain bytes to `out`, which may have `limit` bytes afterwards.
pub(super) fn decompress(bytes: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), BatchError> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let flags = frame(&mut rest)?;
        let start = out.len();
        loop {
            let length = u32::from_le_bytes(take(&mut rest)?);
            if length == 0 {
                break;
            }
            let block = (length & !PLAIN) as usize;
            let (block, after) = rest.split_at_checked(block).ok_or_else(|| corrupt("a block is incomplete"))?;
            rest = after;
            if flags.has_block_checksums {
                take::<4>(&mut rest)?;
            }
            let most = flags.most_block_bytes.min(block.len().saturating_mul(MOST_EXPANSION));
            let room = most.min(limit.saturating_add(1).saturating_sub(out.len()));
            if length & PLAIN != 0 {
                out.extend_from_slice(block.get(..room).unwrap_or(block));
            } else {
                append_block(block, room, if flags.are_linked { start } else { out.len() }, out)
                    .map_err(|error| if room < most { too_large(bytes, limit) } else { error })?;
            }
            if out.len() > limit {
                return Err(too_large(bytes, limit));
            }
        }
        if flags.has_content_checksum {
            take::<4>(&mut rest)?;
        }
    }
    Ok(())
}

/// Decompresses a block that may refer to what `out` has from `linked_from` on.
fn append_block(block: &[u8], room: usize, linked_from: usize, out: &mut Vec<u8>) -> Result<(), BatchError> {
    let start = out.len();
    out.resize(start + room, 0);
    let (before, space) = out.split_at_mut(start);
    let window = &before[linked_from.max(start.saturating_sub(WINDOW))..];
    let written = block::decompress_into_with_dict(block, space, window);
    let written = written.map_err(|error| corrupt(error.to_string()));
    out.truncate(start + written.as_ref().copied().unwrap_or_default());
    written.map(drop)
}

fn frame(rest: &mut &[u8]) -> Result<FrameFlags, BatchError> {
    if take::<4>(rest)? != MAGIC {
        return Err(corrupt("this is not a frame"));
    }
    let [flags, block_size] = take(rest)?;
    if flags >> 6 != 1 || flags & 0x03 != 0 {
        return Err(corrupt("the version of the frame, or its dictionary, is not supported"));
    }
    let most_block_bytes = match block_size >> 4 & 7 {
        code @ 4..=7 => 1 << (8 + 2 * code),
        _ => return Err(corrupt("the block size is invalid")),
    };
    if flags & 0x08 != 0 {
        // The size of the content, which the blocks have too.
        take::<8>(rest)?;
    }
    // The checksum of this header.
    take::<1>(rest)?;
    Ok(FrameFlags {
        are_linked: flags & 0x20 == 0,
        has_block_checksums: flags & 0x10 != 0,
        has_content_checksum: flags & 0x04 != 0,
        most_block_bytes,
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], BatchError> {
    let (taken, after) = rest.split_first_chunk().ok_or_else(|| corrupt("the frame is incomplete"))?;
    *rest = after;
    Ok(*taken)
}

fn too_large(bytes: &[u8], limit: usize) -> BatchError {
    BatchError::TooLarge { compressed: bytes.len(), limit }
}

fn corrupt(reason: impl Into<Cow<'static, str>>) -> BatchError {
    BatchError::Compression { codec: "lz4", reason: reason.into().into_owned() }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    use proptest::prelude::*;

    use super::*;

    fn framed(plain: &[u8], info: FrameInfo) -> Vec<u8> {
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn repetitive(length: usize, period: usize) -> Vec<u8> {
        (0..length).map(|at| u8::try_from(at % period.max(1) % 251).unwrap() ^ u8::try_from(at / 7000 % 256).unwrap()).collect()
    }

    proptest! {
        #[test]
        fn frames_of_every_kind_are_read(
            length in 0_usize..300_000, period in 1_usize..5000, linked in any::<bool>(), checksums in any::<bool>(), size in any::<bool>(),
        ) {
            let plain = repetitive(length, period);
            let mode = if linked { BlockMode::Linked } else { BlockMode::Independent };
            let info = FrameInfo::new().block_mode(mode).block_size(BlockSize::Max64KB);
            let info = info.block_checksums(checksums).content_checksum(checksums).content_size(size.then_some(length as u64));
            let (mut out, frame) = (Vec::new(), framed(&plain, info));
            prop_assert_eq!(decompress(&frame, 1 << 20, &mut out), Ok(()));
            prop_assert!(out == plain);
            out.clear();
            let result = decompress(&frame, length / 2, &mut out);
            prop_assert!(length < 2 || matches!(result, Err(BatchError::TooLarge { .. })), "{:?}", result);
            prop_assert!(out.len() <= length / 2 + 1);
        }
    }

    #[test]
    fn frames_may_follow_each_other_and_refer_to_their_own_blocks_only() {
        let info = || FrameInfo::new().block_mode(BlockMode::Linked).block_size(BlockSize::Max64KB);
        let frames = [framed(&repetitive(100_000, 50), info()), framed(&repetitive(90_000, 60), info())].concat();
        let mut out = Vec::new();
        decompress(&frames, 1 << 20, &mut out).unwrap();
        assert!(out == [repetitive(100_000, 50), repetitive(90_000, 60)].concat());
        for cut in 1..frames.len().min(300) {
            out.clear();
            assert!(decompress(&frames[..cut], 1 << 20, &mut out).is_err(), "{cut}");
        }
    }
}
