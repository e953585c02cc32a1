//! Files of records, a JSON object a line: written by `tail -o ndjson` and as dead letters, read back by `produce-fake --file`.
//!
//! A line has kcat's `-J` names: `topic`, `partition`, `offset`, `tstype`, `ts` (milliseconds), `headers` (names and values in
//! turn), `key` and `payload`; null is null. Bytes that are not UTF-8 have no place in JSON text, so that a line keeps every
//! record whole: such a key or payload stands as base64 in `key_base64` or `payload_base64` instead, and such a header name or
//! value as `{"base64": "..."}`.

mod envelope;
mod letters_file;
mod sink;
mod source;

pub use envelope::{Line, read, write};
pub use letters_file::LettersFile;
pub use sink::LinesSink;
pub use source::Lines;
