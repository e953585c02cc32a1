//! Elasticsearch and OpenSearch: records as documents, written in bulks and judged one by one.

mod bootstrap;
mod client;
mod cluster;
mod concurrency;
mod conflict;
mod conflict_lookup;
mod diagnosis;
mod index;
mod merge;
mod metadata_json;
mod names;
mod reason;
mod request;
mod response;
mod sink;

pub use bootstrap::Bootstrap;
pub use client::{ElasticClient, check};
pub use cluster::{ClusterInfo, Flavour};
pub use index::IndexKind;
pub use names::index_rule;
pub use request::{BulkFormat, BulkRequest};
pub use response::BulkAction;
pub use sink::{ElasticSink, ElasticSinkOptions, Op};
