//! Kafka: source, sink and admin.

mod client;
mod native;
