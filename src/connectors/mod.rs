//! Connectors: each translates between one kind of server and the ports of the pipeline, and decides nothing.

mod connect_error;
pub mod elastic;
pub mod kafka;
pub mod mongo;
pub mod ndjson;
