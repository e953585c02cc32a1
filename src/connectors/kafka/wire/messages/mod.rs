//! The few messages that the data path needs, in the versions from Kafka 0.11 on.
//!
//! Written by hand: a general library reserves memory for as many elements as a response states, and copies the records of a
//! produce request.

mod api_versions;
pub mod error_code;
mod fetch;
mod init_producer_id;
mod metadata;
mod offsets;
mod produce;
mod reader;
mod request;
mod sasl;
mod writer;

pub use api_versions::{ApiVersionRange, ApiVersionsRequest, ApiVersionsResponse, UNSUPPORTED_VERSION};
pub use fetch::{
    AbortedTransaction, DivergingEpoch, FetchPartition, FetchRequest, FetchResponse, FetchTopic, FetchedPartition, IsolationLevel,
};
pub use init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
pub use metadata::{BrokerEndpoint, MetadataPartition, MetadataRequest, MetadataResponse, MetadataTopic};
pub use offsets::{
    EpochEndOffset, EpochEndOffsets, OffsetByTime, OffsetForLeaderEpochRequest, OffsetsByTime, OffsetsByTimeRequest,
    PartitionQuery,
};
pub use produce::{ProducePartition, ProduceRequest, ProduceResponse, ProduceTopic, ProducedPartition, RecordError};
pub use reader::{DecodeError, MessageReader};
pub use request::{ApiKey, PartitionLeader, TopicKey, TopicRef, WireRequest, encode_request};
pub use sasl::{SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse};
pub use writer::MessageWriter;

#[cfg(test)]
mod message_tests;
