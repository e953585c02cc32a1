//! Elasticsearch and OpenSearch: records as documents, written in bulks and judged one by one.

mod body;
mod bootstrap;
mod client;
mod conflict;
mod diagnosis;
mod look;
mod merge;
mod names;
mod phrases;
mod probe;
mod reason;
mod server;
mod sink;
mod verdict;
mod window;

pub use body::{Body, Writing};
pub use bootstrap::Bootstrap;
pub use client::{ElasticClient, check};
pub use names::index_rule;
pub use probe::Index;
pub use server::{Flavour, Server};
pub use sink::{ElasticSink, Op, SinkOptions};
pub use verdict::Action;
