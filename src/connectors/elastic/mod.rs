//! Elasticsearch and OpenSearch: records as documents, written in bulks and judged one by one.

mod bootstrap;
mod bulk_writer;
mod checkup;
mod client;
mod cluster;
mod diagnosis;
mod identity;
mod index;
mod lenient_json;
mod lookup;
mod merge;
mod metadata_json;
mod names;
mod reason;
mod request;
mod response;
mod signing;
mod sink;
mod target;

pub use bootstrap::Bootstrap;
pub(crate) use checkup::{ClusterRoom, IndexFacts, connect_failure, servers};
pub use client::{ElasticClient, check};
pub use cluster::{ClusterInfo, Flavour};
pub use identity::IndexIdentity;
pub use index::IndexKind;
pub use names::index_rule;
pub use request::BulkFormat;
pub use response::BulkAction;
pub use sink::ElasticSink;
pub use target::{ElasticSinkOptions, InvalidElasticOptions, Op};
