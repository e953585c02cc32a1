//! The offset map of a copy: which offset of the target topic each source offset was copied to.
//!
//! The map of a partition is a sequence of chunks in a compacted topic of the target. A chunk is true for ever: it says what became
//! of each offset of a range. Of chunks that overlap, the one with the greatest number has the last copy.

mod chunk;
mod chunk_key;
mod map_reader;
mod map_writer;
mod mapped_source;
mod partition_map;
mod recorder;
mod segment;

pub(crate) use chunk_key::MapIdentity;
pub(crate) use map_reader::{MapPosition, read_map};
pub(crate) use map_writer::{MapFlow, MapWriterHandle};
pub(crate) use mapped_source::MappedSource;
pub(crate) use partition_map::{MappedPosition, PartitionMap};
pub(crate) use recorder::CopyRecorder;

/// The topic of the target that has the map, unless another is named.
pub(crate) const MAP_TOPIC: &str = "__sdl-offsets";
