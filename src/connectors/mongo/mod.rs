//! MongoDB, and servers that speak its protocol.

mod bson;
mod bulk;
mod client;
mod conflict;
mod diagnosis;
mod document;
mod json;
mod look;
mod names;
mod sink;
mod verdict;
mod writing;

pub use client::MongoClient;
pub use document::document;
pub use names::{collection_rule, database_rule};
pub use sink::{MongoSink, Write};
