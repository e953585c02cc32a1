//! Reads batches of partitions from their leaders.

mod cursor;
mod round;

pub use cursor::{CursorError, PartitionCursor, PartitionRead, ReadBatch};
pub use round::{FetchEvent, FetchOptions, Fetcher};

#[cfg(test)]
mod fetcher_tests;
