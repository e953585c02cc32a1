//! The ends: each translates between one kind of server and the ports of the pipeline, and does nothing else.

pub mod elastic;
pub mod kafka;
pub mod mongo;
pub mod ndjson;
