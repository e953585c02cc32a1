//! Files of records, a JSON object a line: written by `tail -o ndjson` and as dead letters, read back by `produce-fake --file`.
//!
//! A line has kcat's `-J` names: `topic`, `partition`, `offset`, `tstype`, `ts` (milliseconds), `headers` (names and values in
//! turn), `key` and `payload`; null is null. A key or payload that is not UTF-8 is written as base64 in `key_base64` or
//! `payload_base64`, and a header name or value that is not UTF-8 as `{"base64": "..."}`.

mod dead_letter_file;
mod envelope;
mod sink;
mod source;

pub use dead_letter_file::DeadLetterFile;
pub use envelope::{ParsedLine, read, write};
pub use sink::NdjsonSink;
pub use source::NdjsonSource;
