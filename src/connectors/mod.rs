//! Connectors: each translates between one kind of server and the ports of the pipeline, and decides nothing.

mod access_error;
mod aws;
mod connect_error;
pub(crate) mod dial;
pub mod elastic;
mod http_client;
pub mod kafka;
pub mod mongo;
pub mod ndjson;
