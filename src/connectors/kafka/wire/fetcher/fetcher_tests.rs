//! Positions of hostile and compacted logs, and fetches from scripted brokers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::connectors::kafka::wire::address::BrokerAddress;
use crate::connectors::kafka::wire::connection::ConnectOptions;
use crate::connectors::kafka::wire::messages::{
    AbortedTransaction, DivergingEpoch, EpochEndOffset, FetchedPartition, IsolationLevel, error_code,
};
use crate::connectors::kafka::wire::record_batch::{BatchEncoder, BatchError, Codec, Compressor};
use crate::record::Partition;

const TRANSACTIONAL: u8 = 0x10;
const CONTROL: u8 = 0x20;

/// A batch of a log: of `count` records, the last of them at `last_delta`.
fn stored(base: i64, count: u32, last_delta: i32, producer: i64, attributes: u8, key: Option<&[u8]>) -> Bytes {
    let mut encoder = BatchEncoder::default();
    for record in 0..count.max(1) {
        encoder.push(record.into(), key, Some(b"value"), &[]).unwrap();
    }
    let batch = encoder.finish(Codec::None, &mut Compressor::default()).unwrap().unwrap();
    let mut bytes = batch.bytes().to_vec();
    if count == 0 {
        bytes.truncate(61);
        bytes[8..12].copy_from_slice(&49_i32.to_be_bytes());
        bytes[57..61].fill(0);
    }
    bytes[..8].copy_from_slice(&base.to_be_bytes());
    bytes[12..16].copy_from_slice(&3_i32.to_be_bytes());
    bytes[22] = attributes;
    bytes[23..27].copy_from_slice(&last_delta.to_be_bytes());
    bytes[43..51].copy_from_slice(&producer.to_be_bytes());
    let checksum = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&checksum.to_be_bytes());
    Bytes::from(bytes)
}

fn data(base: i64, count: u32) -> Bytes {
    stored(base, count, i32::try_from(count).unwrap() - 1, -1, 0, None)
}

fn marker(offset: i64, producer: i64, is_commit: bool) -> Bytes {
    stored(offset, 1, 0, producer, TRANSACTIONAL | CONTROL, Some(&[0, 0, 0, is_commit.into()]))
}

fn transactional(base: i64, producer: i64) -> Bytes {
    stored(base, 1, 0, producer, TRANSACTIONAL, None)
}

fn fetched(records: &[Bytes]) -> FetchedPartition {
    FetchedPartition {
        index: 0,
        error: 0,
        high_watermark: 1000,
        last_stable_offset: 1000,
        log_start_offset: 0,
        aborted: Vec::new(),
        records: Bytes::from(records.concat()),
        diverging: None,
        leader: None,
    }
}

/// Reads a response; returns base offsets, and the position.
fn read(offset: i64, fetched: FetchedPartition) -> (Vec<i64>, i64) {
    let mut cursor = PartitionCursor { offset, last_epoch: -1 };
    let Ok(PartitionRead::Batches(batches)) = cursor.read(fetched) else { panic!("batches") };
    (batches.iter().map(|read| read.batch.base_offset()).collect(), cursor.offset)
}

#[test]
fn an_aborted_transaction_is_left_out_and_the_next_one_of_its_producer_is_not() {
    let log = [
        transactional(10, 7),
        data(11, 1),
        transactional(12, 8),
        transactional(13, 7),
        marker(14, 7, false),
        transactional(15, 7),
        marker(16, 8, true),
        marker(17, 7, true),
    ];
    let aborted = vec![AbortedTransaction { producer_id: 7, first_offset: 10 }];
    assert_eq!(read(10, FetchedPartition { aborted, ..fetched(&log) }), (vec![11, 12, 15], 18));
    // The response begins in the middle of the transaction.
    let aborted = vec![AbortedTransaction { producer_id: 7, first_offset: 2 }];
    assert_eq!(read(13, FetchedPartition { aborted, ..fetched(&log[3..]) }), (vec![15], 18));
    assert_eq!(read(10, fetched(&log)).0, [10, 11, 12, 13, 15], "nothing was aborted");
}

#[test]
fn two_aborted_transactions_of_one_producer_in_one_response() {
    let log = [
        transactional(1, 7),
        marker(2, 7, false),
        transactional(3, 7),
        marker(4, 7, true),
        transactional(5, 7),
        marker(6, 7, false),
    ];
    let abort = |first_offset| AbortedTransaction { producer_id: 7, first_offset };
    let aborted = vec![abort(5), abort(1)];
    assert_eq!(read(1, FetchedPartition { aborted, ..fetched(&log) }), (vec![3], 7));
}

#[test]
fn a_compacted_log_moves_the_position_to_its_end() {
    assert_eq!(read(0, fetched(&[stored(0, 1, 9, -1, 0, None)])), (vec![0], 10), "the tail is gone");
    assert_eq!(read(0, fetched(&[stored(0, 0, 9, 5, 0, None)])), (vec![], 10), "all is gone");
    assert_eq!(read(0, fetched(&[stored(0, 0, 0, 5, TRANSACTIONAL | CONTROL, None)])), (vec![], 1), "a marker is gone");
    assert_eq!(read(5, fetched(&[stored(20, 1, 9, -1, 0, None)])), (vec![20], 30), "the offset is gone");
    assert_eq!(read(5, fetched(&[])), (vec![], 5));
}

#[test]
fn a_position_inside_a_batch_reads_the_rest_of_it() {
    let mut cursor = PartitionCursor { offset: 25, last_epoch: -1 };
    let Ok(PartitionRead::Batches(batches)) = cursor.read(fetched(&[data(0, 20), data(20, 10), data(30, 5)])) else { panic!() };
    let cuts: Vec<_> = batches.iter().map(|read| (read.batch.base_offset(), read.from, read.is_cut())).collect();
    assert_eq!(cuts, [(20, 25, true), (30, 30, false)]);
    assert_eq!(cursor, PartitionCursor { offset: 35, last_epoch: 3 });
}

#[test]
fn a_corrupt_batch_leaves_the_position_before_it() {
    let mut bad = data(10, 1).to_vec();
    bad[70] ^= 1;
    let mut cursor = PartitionCursor { offset: 0, last_epoch: -1 };
    let error = cursor.read(fetched(&[data(0, 10), Bytes::from(bad)])).unwrap_err();
    assert!(matches!(error, CursorError::Batch { offset: 10, error: BatchError::Checksum { .. } }), "{error}");
    let mut old = vec![0; 60];
    (old[7], old[11], old[16]) = (9, 48, 1);
    let error = cursor.read(fetched(&[Bytes::from(old)])).unwrap_err();
    assert_eq!(error, CursorError::Legacy { offset: 9, magic: 1 });
}

#[test]
fn a_log_that_ends_the_epoch_earlier_was_truncated() {
    let cursor = PartitionCursor { offset: 100, last_epoch: 5 };
    let end = |epoch, end_offset| EpochEndOffset { error: 0, index: 0, epoch, end_offset };
    assert_eq!(cursor.divergence(&end(5, 100)), None);
    assert_eq!(cursor.divergence(&end(5, 180)), None);
    assert_eq!(cursor.divergence(&end(5, 90)), Some(DivergingEpoch { epoch: 5, end_offset: 90 }));
    assert_eq!(cursor.divergence(&end(4, 120)), Some(DivergingEpoch { epoch: 4, end_offset: 120 }));
    assert_eq!(cursor.divergence(&end(-1, -1)), None, "the broker does not know");
    assert_eq!(PartitionCursor { last_epoch: -1, ..cursor }.divergence(&end(5, 90)), None);
}

proptest! {
    #[test]
    fn changed_records_are_no_panic_and_move_the_position_forward_only(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), offset in 0..50_i64,
    ) {
        let log = [transactional(10, 7), data(11, 3), marker(14, 7, false), stored(15, 0, 3, 1, 0, None), data(19, 4)];
        let mut bytes = log.concat();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut cursor = PartitionCursor { offset, last_epoch: -1 };
        let aborted = vec![AbortedTransaction { producer_id: 7, first_offset: 10 }];
        let _ = cursor.read(FetchedPartition { records: Bytes::from(bytes), aborted, ..fetched(&[]) });
        prop_assert!(cursor.offset >= offset);
    }
}

/// A broker that speaks Metadata 7, Fetch 11 and OffsetForLeaderEpoch 3, as its script says.
#[derive(Clone)]
struct ScriptedLeader {
    script: Arc<Mutex<LeaderScript>>,
    address: BrokerAddress,
}

struct LeaderScript {
    /// The leader that metadata names, 1 or 2, and its epoch.
    leader: (i32, i32),
    brokers: [u16; 2],
    /// For each fetch: the offset that is expected, error code and records; then nothing is answered.
    fetches: Vec<(i64, i16, Bytes)>,
    /// The end of the epoch in question.
    epoch_end: (i32, i64),
    compared: usize,
}

/// Starts two brokers with one script.
async fn leaders(fetches: Vec<(i64, i16, Bytes)>) -> ScriptedLeader {
    let listeners = [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
    let ports = listeners.each_ref().map(|listener| listener.local_addr().unwrap().port());
    let script = LeaderScript { leader: (1, 0), brokers: ports, fetches, epoch_end: (3, 1000), compared: 0 };
    let script = Arc::new(Mutex::new(script));
    for (listener, id) in listeners.into_iter().zip([1, 2]) {
        let script = Arc::clone(&script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, id, Arc::clone(&script)));
            }
        });
    }
    ScriptedLeader { script, address: BrokerAddress::new("127.0.0.1", ports[0]) }
}

async fn serve(mut stream: TcpStream, id: i32, script: Arc<Mutex<LeaderScript>>) -> Option<()> {
    loop {
        let length = stream.read_i32().await.ok()?;
        let mut bytes = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut bytes).await.ok()?;
        let body = match bytes[1] {
            18 => vec![0, 0, 4, 0, 3, 0, 0, 0, 7, 0, 0, 1, 0, 4, 0, 11, 0, 0, 23, 0, 2, 0, 3, 0, 0, 0, 0, 0, 0],
            3 => script.lock().unwrap().metadata(),
            23 => script.lock().unwrap().epoch_end(),
            1 => {
                let answer = script.lock().unwrap().fetched(id, &bytes);
                let Some(answer) = answer else {
                    // Nothing more: until the client leaves.
                    let _ = stream.read_i32().await;
                    return None;
                };
                answer
            }
            key => panic!("request {key}"),
        };
        let length = i32::try_from(body.len() + 4).unwrap();
        stream.write_all(&[&length.to_be_bytes()[..], &bytes[4..8], &body].concat()).await.ok()?;
    }
}

impl LeaderScript {
    fn metadata(&self) -> Vec<u8> {
        let mut body = vec![0, 0, 0, 0, 0, 0, 0, 2];
        for (id, port) in [1_i32, 2].iter().zip(self.brokers) {
            body.extend_from_slice(
                &[&id.to_be_bytes()[..], &[0, 9], b"127.0.0.1", &i32::from(port).to_be_bytes(), &[0xff, 0xff]].concat(),
            );
        }
        body.extend_from_slice(&[0xff, 0xff, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, b't', 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        body.extend_from_slice(&self.leader.0.to_be_bytes());
        body.extend_from_slice(&self.leader.1.to_be_bytes());
        // No replicas.
        body.extend_from_slice(&[0; 12]);
        body
    }

    fn epoch_end(&mut self) -> Vec<u8> {
        self.compared += 1;
        let (epoch, end) = self.epoch_end;
        [&[0, 0, 0, 0, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &epoch.to_be_bytes(), &end.to_be_bytes()]
            .concat()
    }

    fn fetched(&mut self, id: i32, request: &[u8]) -> Option<Vec<u8>> {
        // At the end: offset, log start, bytes; no forgotten topics, no rack.
        let at = request.len() - 26;
        let offset = i64::from_be_bytes(request[at..at + 8].try_into().unwrap());
        let (code, records) = if id == self.leader.0 {
            if self.fetches.is_empty() {
                return None;
            }
            let (expected, code, records) = self.fetches.remove(0);
            assert_eq!(offset, expected);
            (code, records)
        } else {
            (error_code::NOT_LEADER_OR_FOLLOWER, Bytes::new())
        };
        let mut body = vec![0; 10];
        body.extend_from_slice(&[0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0]);
        body.extend_from_slice(&code.to_be_bytes());
        for number in [500_i64, 500, 100] {
            body.extend_from_slice(&number.to_be_bytes());
        }
        // No aborted transactions, no preferred replica.
        body.extend_from_slice(&[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        body.extend_from_slice(&i32::try_from(records.len()).unwrap().to_be_bytes());
        body.extend_from_slice(&records);
        Some(body)
    }
}

fn options() -> FetchOptions {
    let timeout = Duration::from_secs(60);
    let connect = ConnectOptions { client_id: "sdl".to_owned(), timeout, most_response_bytes: 1 << 24, tls: None, login: None };
    FetchOptions {
        connect,
        max_wait: Duration::from_millis(10),
        max_bytes: 1 << 20,
        partition_bytes: 1 << 20,
        isolation: IsolationLevel::ReadCommitted,
        pause: Duration::from_millis(5),
    }
}

fn partition() -> Partition {
    Partition::new("t", 0)
}

fn reading(broker: &ScriptedLeader, offset: i64, last_epoch: i32) -> Fetcher {
    let mut fetcher = Fetcher::new(vec![broker.address.clone()], options());
    fetcher.assign(partition(), PartitionCursor { offset, last_epoch });
    fetcher
}

#[tokio::test]
async fn batches_arrive_in_order_from_the_leader_that_follows_a_leader() {
    let script = vec![(100, 0, data(100, 5)), (105, 0, data(105, 5)), (110, 0, data(110, 1)), (111, 0, Bytes::new())];
    let broker = leaders(script).await;
    let mut fetcher = reading(&broker, 100, -1);
    let mut offsets = Vec::new();
    while offsets.len() < 3 {
        if let FetchEvent::Batches { batches, next_offset, end_offset, .. } = fetcher.next().await {
            offsets.extend(batches.iter().map(|read| read.batch.base_offset()));
            assert_eq!((next_offset, end_offset), (offsets.last().unwrap() + if offsets.len() == 3 { 1 } else { 5 }, 500));
            broker.script.lock().unwrap().leader = (2, 1);
        }
    }
    assert_eq!(offsets, [100, 105, 110]);
    assert_eq!(broker.script.lock().unwrap().compared, 1, "the log of the second leader was compared once");
}

#[tokio::test]
async fn an_offset_out_of_range_waits_for_a_decision() {
    let broker =
        leaders(vec![(7, error_code::OFFSET_OUT_OF_RANGE, Bytes::new()), (100, 0, data(100, 1)), (101, 0, Bytes::new())]).await;
    let mut fetcher = reading(&broker, 7, -1);
    assert!(matches!(fetcher.next().await, FetchEvent::OutOfRange { offset: 7, .. }));
    let nothing = tokio::time::timeout(Duration::from_millis(50), fetcher.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    fetcher.assign(partition(), PartitionCursor { offset: 100, last_epoch: -1 });
    assert!(matches!(fetcher.next().await, FetchEvent::Batches { next_offset: 101, .. }));
}

#[tokio::test]
async fn a_truncated_log_is_seen_before_anything_is_read_of_it() {
    let broker = leaders(vec![(300, 0, data(300, 1))]).await;
    broker.script.lock().unwrap().epoch_end = (2, 250);
    let mut fetcher = reading(&broker, 300, 2);
    let event = fetcher.next().await;
    let expected = DivergingEpoch { epoch: 2, end_offset: 250 };
    assert!(matches!(&event, FetchEvent::Diverged { offset: 300, diverging, .. } if *diverging == expected), "{event:?}");
    assert_eq!(broker.script.lock().unwrap().fetches.len(), 1, "nothing was fetched");
}

#[tokio::test]
async fn errors_of_a_partition_and_lost_connections_are_tried_again() {
    let script = vec![(100, error_code::OFFSET_NOT_AVAILABLE, Bytes::new()), (100, 0, data(100, 1)), (101, 0, Bytes::new())];
    let broker = leaders(script).await;
    let mut fetcher = Fetcher::new(vec![BrokerAddress::new("127.0.0.1", 1), broker.address.clone()], options());
    fetcher.assign(partition(), PartitionCursor { offset: 100, last_epoch: -1 });
    assert!(matches!(fetcher.next().await, FetchEvent::Unavailable { .. }), "the first server");
    assert!(matches!(fetcher.next().await, FetchEvent::Refused { code: error_code::OFFSET_NOT_AVAILABLE, .. }));
    assert!(matches!(fetcher.next().await, FetchEvent::Batches { next_offset: 101, .. }));
}

#[tokio::test]
async fn a_batch_that_does_not_fit_is_fetched_with_more_bytes() {
    let batch = data(100, 50);
    let broker = leaders(vec![(100, 0, batch.slice(..90)), (100, 0, batch), (150, 0, Bytes::new())]).await;
    let mut fetcher = reading(&broker, 100, -1);
    assert!(matches!(fetcher.next().await, FetchEvent::Batches { next_offset: 150, .. }));
}

#[tokio::test]
async fn a_response_for_a_position_that_has_changed_is_dropped() {
    let broker =
        leaders(vec![(100, 0, data(100, 5)), (105, 0, data(105, 5)), (200, 0, data(200, 1)), (201, 0, Bytes::new())]).await;
    let mut fetcher = reading(&broker, 100, -1);
    assert!(matches!(fetcher.next().await, FetchEvent::Batches { next_offset: 105, .. }));
    // The fetch of 105 is on its way.
    fetcher.assign(partition(), PartitionCursor { offset: 200, last_epoch: -1 });
    assert!(matches!(fetcher.next().await, FetchEvent::Batches { next_offset: 201, .. }));
    fetcher.unassign(partition());
    let nothing = tokio::time::timeout(Duration::from_millis(50), fetcher.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
}
