//! Kafka: source, sink and admin.

mod client;
mod diagnosis;

pub use client::{Cluster, Listening, base_config, check, reach};
pub use diagnosis::Said;
