//! MongoDB, and servers that speak its protocol.

mod bson;
mod bulk_writer;
mod checkup;
mod client;
mod command;
mod command_error;
mod diagnosis;
mod document;
mod identity;
mod json;
mod lookup;
mod names;
mod response;
mod sink;
mod target;

pub(crate) use checkup::{CollectionFacts, CollectionKind, MongoTopology, Withheld};
pub use client::MongoClient;
pub(crate) use client::servers;
pub(crate) use diagnosis::{connect_failure, security};
pub use document::document;
pub use identity::CollectionIdentity;
pub use names::{collection_rule, database_rule};
pub use sink::MongoSink;
pub use target::{InvalidMongoOptions, Write};
