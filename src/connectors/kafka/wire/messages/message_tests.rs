//! Messages as Kafka's schema has them, in every version, and bytes that are none.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::record::Topic;

/// Messages in hexadecimal digits, made with an independent implementation of the schema: name, version, bytes.
const MESSAGES: &str = include_str!("messages.txt");

const ID: [u8; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

fn messages() -> impl Iterator<Item = (&'static str, i16, Vec<u8>)> {
    MESSAGES.lines().map(|line| {
        let [name, version, hex] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("three fields: {line}") };
        let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        (name, version.parse().unwrap(), bytes)
    })
}

/// Decodes a response; returns the bytes that are left.
fn decode(name: &str, version: i16, bytes: Vec<u8>) -> Result<(String, usize), DecodeError> {
    fn of<R: WireRequest>(version: i16, bytes: Vec<u8>) -> Result<(String, usize), DecodeError>
    where
        R::Response: std::fmt::Debug,
    {
        let mut from = MessageReader::new(Bytes::from(bytes), version >= R::FLEXIBLE);
        let response = R::decode(version, &mut from)?;
        Ok((format!("{response:?}"), from.remaining()))
    }
    match name {
        "ApiVersions" => of::<ApiVersionsRequest>(version, bytes),
        "SaslHandshake" => of::<SaslHandshakeRequest<'_>>(version, bytes),
        "SaslAuthenticate" => of::<SaslAuthenticateRequest<'_>>(version, bytes),
        "Metadata" => of::<MetadataRequest<'_>>(version, bytes),
        "Fetch" => of::<FetchRequest>(version, bytes),
        "Produce" => of::<ProduceRequest>(version, bytes),
        "InitProducerId" => of::<InitProducerIdRequest>(version, bytes),
        "ListOffsets" => of::<OffsetsByTimeRequest<'_>>(version, bytes),
        "OffsetForLeaderEpoch" => of::<OffsetForLeaderEpochRequest<'_>>(version, bytes),
        _ => panic!("{name} is no response"),
    }
}

fn encode(name: &str, version: i16) -> Vec<u8> {
    let topic = TopicRef { name: Topic::named("t"), id: ID };
    let query = [PartitionQuery { index: 3, leader_epoch: 4, of: if name == "ListOffsetsRequest" { -1 } else { 2 } }];
    let partition = FetchPartition { index: 3, leader_epoch: 4, offset: 77, last_fetched_epoch: 2, max_bytes: 4096 };
    let header = Bytes::from(vec![7; 61]);
    let batch = |index, body| ProducePartition { index, header: header.clone(), body: Bytes::from(vec![8; body]) };
    let parts = match name {
        "ApiVersionsRequest" => encode_request(&ApiVersionsRequest, version, 77, "sdl"),
        "SaslHandshakeRequest" => encode_request(&SaslHandshakeRequest { mechanism: "PLAIN" }, version, 77, "sdl"),
        "SaslAuthenticateRequest" => encode_request(&SaslAuthenticateRequest { message: b"\0u\0p" }, version, 77, "sdl"),
        "MetadataRequest" => encode_request(&MetadataRequest { topics: &["a", "b"] }, version, 77, "sdl"),
        "FetchRequest" => {
            let (isolation, topics) = (IsolationLevel::ReadCommitted, vec![FetchTopic { topic, partitions: vec![partition] }]);
            let request = FetchRequest { max_wait_ms: 500, min_bytes: 1, max_bytes: 1 << 20, isolation, topics };
            encode_request(&request, version, 77, "sdl")
        }
        "ProduceRequest" => {
            let topics = vec![ProduceTopic { topic, partitions: vec![batch(3, 200), batch(4, 0)] }];
            let request = ProduceRequest { transactional_id: Some("tx".to_owned()), timeout_ms: 30_000, topics };
            encode_request(&request, version, 77, "sdl")
        }
        "InitProducerIdRequest" => {
            let (producer_id, producer_epoch) = (5, 6);
            let transactional_id = None;
            let request = InitProducerIdRequest { transactional_id, transaction_timeout_ms: 60_000, producer_id, producer_epoch };
            encode_request(&request, version, 77, "sdl")
        }
        "ListOffsetsRequest" => {
            let isolation = IsolationLevel::ReadCommitted;
            encode_request(&OffsetsByTimeRequest { isolation, topic: "t", partitions: &query }, version, 77, "sdl")
        }
        "OffsetForLeaderEpochRequest" => {
            encode_request(&OffsetForLeaderEpochRequest { topic: "t", partitions: &query }, version, 77, "sdl")
        }
        _ => panic!("{name} is no request"),
    };
    parts.concat()
}

#[test]
fn requests_are_the_bytes_of_the_schema_in_each_version() {
    for (name, version, bytes) in messages().filter(|(name, ..)| name.ends_with("Request")) {
        assert_eq!(encode(name, version), bytes, "{name} {version}");
    }
}

#[test]
fn responses_are_read_to_their_end_in_each_version() {
    let mut seen = 0;
    for (name, version, bytes) in messages().filter(|(name, ..)| !name.ends_with("Request")) {
        let (response, rest) = decode(name, version, bytes).unwrap_or_else(|error| panic!("{name} {version}: {error}"));
        assert_eq!(rest, 0, "{name} {version}");
        let field = match name {
            "Fetch" => "high_watermark: 50, last_stable_offset: 40",
            "Produce" => "error: 87, base_offset: 50",
            "Metadata" => r#"brokers: [BrokerEndpoint { id: 2, host: "::1", port: 9092 }]"#,
            "ListOffsets" => "timestamp: 1000, offset: 50",
            "OffsetForLeaderEpoch" => "epoch: 2, end_offset: 50",
            "InitProducerId" => "producer_id: 99, producer_epoch: 3",
            "ApiVersions" => "min: 4, max: 18",
            _ => "",
        };
        assert!(response.contains(field), "{name} {version}: {response}");
        seen += 1;
    }
    assert_eq!(seen, 54);
}

#[test]
fn a_response_that_ends_early_is_an_error() {
    for (name, version, bytes) in messages().filter(|(name, ..)| !name.ends_with("Request")) {
        for end in 0..bytes.len() {
            assert!(decode(name, version, bytes[..end].to_vec()).is_err(), "{name} {version}: {end} of {} bytes", bytes.len());
        }
    }
}

#[test]
fn an_array_is_no_longer_than_the_response() {
    for count in [[0x7f, 0xff, 0xff, 0xff], [0xff, 0xff, 0xff, 0xfe]] {
        let mut bytes = vec![0, 0, 0, 0];
        bytes.extend_from_slice(&count);
        bytes.extend_from_slice(&[0; 40]);
        assert!(decode("Fetch", 4, bytes).is_err());
    }
    let bytes = [&[0; 10][..], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[0; 40]].concat();
    assert!(decode("Fetch", 12, bytes).is_err());
}

#[test]
fn the_newest_version_that_both_sides_know_is_taken() {
    let versions = |min, max| ApiVersionsResponse { ranges: vec![ApiVersionRange { key: 1, min, max }], ..Default::default() };
    assert_eq!(versions(0, 11).common::<FetchRequest>(), Some(11));
    assert_eq!(versions(4, 18).common::<FetchRequest>(), Some(13));
    assert_eq!(versions(14, 18).common::<FetchRequest>(), None);
    assert_eq!(versions(0, 3).common::<FetchRequest>(), None);
    assert_eq!(versions(0, 3).common::<ProduceRequest>(), None, "the broker does not list it");
}

proptest! {
    #[test]
    fn changed_responses_are_no_panic(
        index in any::<prop::sample::Index>(), changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let responses: Vec<_> = messages().filter(|(name, ..)| !name.ends_with("Request")).collect();
        let (name, version, mut bytes) = responses[index.index(responses.len())].clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = decode(name, version, bytes);
    }
}
