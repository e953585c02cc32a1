//! Kafka's protocol without librdkafka: record batches that travel from one cluster to another as they are.
//!
//! No command uses it yet. Groups, commits and admin calls stay with librdkafka.

pub mod address;
pub mod auth;
pub mod connection;
pub mod error;
pub mod fetcher;
pub mod leaders;
pub mod messages;
pub mod record_batch;
pub mod tls;
