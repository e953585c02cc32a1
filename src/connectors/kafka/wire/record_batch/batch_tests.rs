//! Batches against a naive model, and bytes that are no batches.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::connectors::kafka::wire::record_batch::header::CHECKED_FROM;

const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

/// A record as a list of owned fields.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Model {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..most), (any::<u8>(), 0..most).prop_map(|(byte, length)| vec![byte; length])]
}

fn model() -> impl Strategy<Value = Model> {
    let timestamp = prop_oneof![Just(-1), any::<i64>(), 1_700_000_000_000..1_700_000_001_000_i64];
    let name = prop_oneof![Just(b"trace".to_vec()), bytes(9)];
    let headers = prop_oneof![3 => Just(Vec::new()), 1 => vec((name, proptest::option::of(bytes(20))), 0..6)];
    (timestamp, proptest::option::of(bytes(30)), proptest::option::of(bytes(300)), headers)
        .prop_map(|(timestamp, key, value, headers)| Model { timestamp, key, value, headers })
}

fn codec() -> impl Strategy<Value = Codec> {
    proptest::sample::select(&CODECS)
}

fn encode(records: &[Model], codec: Codec) -> RecordBatch {
    let mut encoder = BatchEncoder::default();
    for record in records {
        let headers: Vec<_> = record.headers.iter().map(|(name, value)| (&name[..], value.as_deref())).collect();
        encoder.push(record.timestamp, record.key.as_deref(), record.value.as_deref(), &headers).unwrap();
    }
    encoder.finish(codec, &mut Compressor::default()).unwrap().expect("records")
}

/// Returns the batch as a log has it: at an offset, with an epoch of its leader, and with the attributes of a feature.
fn stored(batch: &RecordBatch, edit: impl FnOnce(&mut Vec<u8>)) -> RecordBatch {
    let mut bytes = batch.bytes().to_vec();
    bytes[12..16].copy_from_slice(&7_i32.to_be_bytes());
    edit(&mut bytes);
    RecordBatch::parse(sealed(bytes)).unwrap()
}

/// Returns the bytes with their length and checksum.
fn sealed(mut bytes: Vec<u8>) -> Bytes {
    let length = i32::try_from(bytes.len() - 12).unwrap();
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let checksum = crc32c::crc32c(&bytes[CHECKED_FROM..]);
    bytes[17..21].copy_from_slice(&checksum.to_be_bytes());
    Bytes::from(bytes)
}

fn decode(batch: &RecordBatch) -> Result<Vec<(i64, Model)>, BatchError> {
    let plain = Decompressor::default().plain(batch.codec(), &batch.body())?;
    let records = Records::new(batch, &plain)?;
    records
        .map(|record| {
            let record = record?;
            let headers: Vec<_> = record.headers.iter().map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec))).collect();
            assert_eq!(headers.len(), record.headers.count());
            let (key, value) = (record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec));
            Ok((record.offset, Model { timestamp: record.timestamp, key, value, headers }))
        })
        .collect()
}

fn models(batch: &RecordBatch) -> Vec<Model> {
    decode(batch).unwrap().into_iter().map(|(_, record)| record).collect()
}

/// Writes a number as Kafka's Java client does.
fn naive_varlong(out: &mut Vec<u8>, value: i64) {
    let mut raw = u64::from_ne_bytes(((value << 1) ^ (value >> 63)).to_ne_bytes());
    loop {
        let low = u8::try_from(raw & 0x7f).unwrap();
        raw >>= 7;
        if raw == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

/// Writes a batch field by field, after the protocol's description: offsets with gaps, each record with its delta.
fn naive(base_offset: i64, records: &[(i32, Model)], last_delta: i32, attributes: i16) -> RecordBatch {
    let base_timestamp = records.first().map_or(-1, |(_, record)| record.timestamp);
    let most = records.iter().map(|(_, record)| record.timestamp).max().unwrap_or(-1);
    let mut body = Vec::new();
    for (delta, record) in records {
        let mut one = vec![0];
        naive_varlong(&mut one, record.timestamp.wrapping_sub(base_timestamp));
        naive_varlong(&mut one, i64::from(*delta));
        let put = |one: &mut Vec<u8>, bytes: Option<&Vec<u8>>| {
            naive_varlong(one, bytes.map_or(-1, |bytes| bytes.len().try_into().unwrap()));
            one.extend_from_slice(bytes.map_or(&[], |bytes| bytes));
        };
        put(&mut one, record.key.as_ref());
        put(&mut one, record.value.as_ref());
        naive_varlong(&mut one, record.headers.len().try_into().unwrap());
        for (name, value) in &record.headers {
            put(&mut one, Some(name));
            put(&mut one, value.as_ref());
        }
        naive_varlong(&mut body, one.len().try_into().unwrap());
        body.extend_from_slice(&one);
    }
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&base_offset.to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&3_i32.to_be_bytes());
    bytes.push(2);
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&attributes.to_be_bytes());
    bytes.extend_from_slice(&last_delta.to_be_bytes());
    bytes.extend_from_slice(&base_timestamp.to_be_bytes());
    bytes.extend_from_slice(&most.to_be_bytes());
    bytes.extend_from_slice(&42_i64.to_be_bytes());
    bytes.extend_from_slice(&5_i16.to_be_bytes());
    bytes.extend_from_slice(&900_i32.to_be_bytes());
    bytes.extend_from_slice(&i32::try_from(records.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(&body);
    RecordBatch::parse(sealed(bytes)).unwrap()
}

/// Returns the batch that arrives at a broker: the new header, then the records as they are.
fn sent(batch: &RecordBatch, stamp: ProducerStamp) -> RecordBatch {
    let header = batch.restamp(stamp).unwrap();
    RecordBatch::parse(Bytes::from([&header[..], &batch.body()].concat())).unwrap()
}

fn with_gaps() -> impl Strategy<Value = (Vec<(i32, Model)>, i32)> {
    (vec((0..3_i32, model()), 0..30), 0..3_i32).prop_map(|(gaps, tail)| {
        let mut next = 0;
        let place = |(gap, record)| {
            let delta = next + gap;
            next = delta + 1;
            (delta, record)
        };
        let records: Vec<_> = gaps.into_iter().map(place).collect();
        (records, (next - 1 + tail).max(0))
    })
}

proptest! {
    #[test]
    fn a_batch_is_read_as_it_was_encoded(records in vec(model(), 1..40), codec in codec()) {
        let batch = encode(&records, codec);
        prop_assert_eq!(batch.codec(), codec);
        prop_assert_eq!(batch.count() as usize, records.len());
        prop_assert_eq!(batch.max_timestamp(), records.iter().map(|record| record.timestamp).max().unwrap());
        let offsets: Vec<_> = decode(&batch).unwrap().iter().map(|(offset, _)| *offset).collect();
        prop_assert_eq!(offsets, (0..i64::try_from(records.len()).unwrap()).collect::<Vec<_>>());
        prop_assert_eq!(models(&batch), records);
    }

    #[test]
    fn a_batch_of_the_model_is_read_and_rewritten_without_its_holes(
        (records, last_delta) in with_gaps(), base in 0..1_i64 << 50, from in 0..40_i64, until in 0..90_i64,
        is_append_time in any::<bool>(),
    ) {
        let batch = naive(base, &records, last_delta, if is_append_time { 0x08 } else { 0 });
        prop_assert_eq!(batch.next_offset(), base + i64::from(last_delta) + 1);
        let time = |record: &Model| if is_append_time { batch.max_timestamp() } else { record.timestamp };
        let expected: Vec<_> = records
            .iter()
            .map(|(delta, record)| (base + i64::from(*delta), Model { timestamp: time(record), ..record.clone() }))
            .collect();
        prop_assert_eq!(&decode(&batch).unwrap(), &expected);
        let is_dense = !records.is_empty() && records.len() == usize::try_from(last_delta).unwrap() + 1;
        prop_assert_eq!(batch.obstacle().is_none(), is_dense && !is_append_time);
        let kept: Vec<_> =
            expected.into_iter().filter(|(offset, _)| (base + from..base + until).contains(offset)).map(|(_, record)| record).collect();
        let rewritten = BatchRewriter::default().rewrite(std::slice::from_ref(&batch), base + from..base + until).unwrap();
        prop_assert_eq!(rewritten.as_ref().and_then(RecordBatch::obstacle), None);
        prop_assert_eq!(rewritten.as_ref().map(models).unwrap_or_default(), kept);
    }

    #[test]
    fn a_stamp_changes_the_producer_and_nothing_that_a_reader_sees(
        records in vec(model(), 1..20), codec in codec(), id in any::<i64>(), epoch in any::<i16>(), sequence in any::<i32>(),
        is_transactional in any::<bool>(), horizon in any::<bool>(),
    ) {
        let batch = stored(&encode(&records, codec), |bytes| {
            bytes[..8].copy_from_slice(&1_000_000_i64.to_be_bytes());
            bytes[22] |= 0x10 | if horizon { 0x40 } else { 0 };
        });
        let stamp = ProducerStamp { producer_id: id, producer_epoch: epoch, base_sequence: sequence, is_transactional };
        let sent = sent(&batch, stamp);
        prop_assert_eq!((sent.producer_id(), sent.producer_epoch(), sent.base_sequence()), (id, epoch, sequence));
        prop_assert_eq!((sent.base_offset(), sent.leader_epoch(), sent.is_transactional()), (0, -1, is_transactional));
        prop_assert_eq!(sent.bytes()[22] & !0x17, 0);
        prop_assert_eq!(&sent.bytes()[23..43], &batch.bytes()[23..43]);
        prop_assert_eq!(sent.body(), batch.body());
        prop_assert_eq!(models(&sent), records);
    }

    #[test]
    fn neighbours_are_merged_in_order_and_none_is_lost(
        batches in vec((vec(model(), 0..6), codec(), any::<bool>()), 0..12), most in 100_usize..3000,
    ) {
        let batches: Vec<_> = batches
            .iter()
            .map(|(records, codec, is_control)| {
                if records.is_empty() {
                    return naive(0, &[], 2, 0);
                }
                stored(&encode(records, *codec), |bytes| if *is_control { bytes[22] |= 0x20 })
            })
            .collect();
        let plan = plan_batches(&batches, most);
        let mut rewriter = BatchRewriter::default();
        let mut arrived = Vec::new();
        for outgoing in &plan {
            let sources = &batches[outgoing.sources.clone()];
            let batch = if outgoing.is_as_is {
                prop_assert_eq!(sources.len(), 1);
                sources[0].clone()
            } else {
                prop_assert!(sources.iter().all(|batch| batch.codec() == Codec::None) || sources.len() == 1);
                rewriter.rewrite(sources, 0..i64::MAX).unwrap().expect("records")
            };
            arrived.extend(models(&sent(&batch, ProducerStamp::NONE)));
        }
        let expected: Vec<_> = batches.iter().filter(|batch| !batch.is_control()).flat_map(models).collect();
        prop_assert_eq!(arrived, expected);
    }

    #[test]
    fn changed_bytes_are_an_error_and_never_a_panic(
        records in vec(model(), 1..20), codec in codec(), changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in proptest::option::of(any::<prop::sample::Index>()), is_sealed in any::<bool>(),
    ) {
        let mut bytes = encode(&records, codec).bytes().to_vec();
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()).max(HEADER_BYTES));
        }
        // With a right checksum the change reaches the records.
        let bytes = if is_sealed { sealed(bytes) } else { Bytes::from(bytes) };
        if let Ok(batch) = RecordBatch::parse(bytes) {
            let mut plain = Vec::new();
            let limits = DecompressionLimits { always: 1 << 20, ratio: 1, most: 1 << 20 };
            if Decompressor::new(limits).decompress(batch.codec(), &batch.body(), &mut plain).is_ok() {
                prop_assert!(plain.len() <= 1 << 20);
                let records = Records::new(&batch, &plain).map(|records| records.filter_map(Result::ok).count());
                prop_assert!(records.unwrap_or_default() <= batch.count() as usize);
            }
            prop_assert!(plain.capacity() <= 4 << 20);
            let _ = BatchRewriter::new(Decompressor::new(limits)).rewrite(&[batch], 0..i64::MAX);
        }
    }

    #[test]
    fn any_bytes_are_split_without_a_panic(bytes in vec(any::<u8>(), 0..300)) {
        let length = bytes.len();
        prop_assert!(FetchedBatches::new(Bytes::from(bytes)).count() <= length / 17 + 1);
    }

    #[test]
    fn any_bytes_are_decompressed_within_the_limits(bytes in vec(any::<u8>(), 0..300), codec in codec()) {
        let limits = DecompressionLimits { always: 4096, ratio: 1, most: 4096 };
        let mut plain = Vec::new();
        let _ = Decompressor::new(limits).decompress(codec, &bytes, &mut plain);
        prop_assert!(plain.capacity() <= 1 << 20);
    }
}

#[test]
fn a_response_is_split_and_its_cut_end_is_left_out() {
    let batch = encode(&[Model { timestamp: 1, key: None, value: Some(vec![1; 50]), headers: Vec::new() }], Codec::None);
    let bytes = [&batch.bytes()[..], batch.bytes(), &batch.bytes()[..40]].concat();
    let mut batches = FetchedBatches::new(Bytes::from(bytes));
    let whole: Vec<_> = batches.by_ref().collect();
    assert_eq!(whole, [Ok(FetchedBatch::Batch(batch.clone())), Ok(FetchedBatch::Batch(batch))]);
    assert_eq!(batches.incomplete(), 40);
}

#[test]
fn an_emptied_batch_moves_the_position() {
    let batch = naive(100, &[], 9, 0);
    assert_eq!((batch.count(), batch.next_offset(), batch.obstacle()), (0, 110, Some(Obstacle::Empty)));
    assert_eq!(batch.restamp(ProducerStamp::NONE), Err(Obstacle::Empty));
    assert_eq!(decode(&batch), Ok(Vec::new()));
}

#[test]
fn a_marker_is_not_sent_even_without_holes() {
    let marker = Model { timestamp: 1, key: Some(vec![0, 0, 0, 1]), value: Some(vec![0; 6]), headers: Vec::new() };
    let batch = stored(&encode(&[marker], Codec::None), |bytes| bytes[22] |= 0x30);
    assert_eq!(batch.restamp(ProducerStamp::NONE), Err(Obstacle::Control));
    assert_eq!(plan_batches(&[batch], MERGED_BYTES), []);
}

#[test]
fn sequences_continue_with_zero_after_the_largest() {
    let stamp = ProducerStamp { base_sequence: i32::MAX - 2, ..ProducerStamp::NONE };
    assert_eq!(stamp.after(2).base_sequence, i32::MAX);
    assert_eq!(stamp.after(3).base_sequence, 0);
    assert_eq!(stamp.after(10).base_sequence, 7);
    assert_eq!(ProducerStamp::NONE.after(10).base_sequence, -1, "no idempotence, no sequence");
}

#[test]
fn the_count_of_the_header_is_no_reason_to_allocate() {
    let batch = encode(&[Model { timestamp: 1, key: None, value: None, headers: Vec::new() }], Codec::Lz4);
    let batch = stored(&batch, |bytes| {
        bytes[23..27].copy_from_slice(&(i32::MAX - 1).to_be_bytes());
        bytes[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
    });
    assert_eq!(decode(&batch), Err(BatchError::Corrupt("the number of records exceeds the bytes")));
    assert!(BatchRewriter::default().rewrite(&[batch], 0..i64::MAX).is_err());
}

#[test]
fn a_bomb_is_not_decompressed() {
    let plain = vec![0; 64 << 20];
    for codec in [Codec::Gzip, Codec::Lz4, Codec::Zstd, Codec::Snappy] {
        let mut bomb = Vec::new();
        Compressor::default().compress(codec, &plain, &mut bomb).unwrap();
        let limits = DecompressionLimits { always: 1 << 20, ratio: 20, most: 32 << 20 };
        let mut out = Vec::new();
        let result = Decompressor::new(limits).decompress(codec, &bomb, &mut out);
        assert!(matches!(result, Err(BatchError::TooLarge { limit, .. }) if limit <= 32 << 20), "{codec}: {result:?}");
        assert!(out.capacity() <= 64 << 20, "{codec}: {} bytes", out.capacity());
        let defaults = DecompressionLimits::default();
        let result = Decompressor::new(defaults).decompress(codec, &bomb, &mut out);
        assert_eq!(result.is_ok(), bomb.len() * defaults.ratio >= plain.len(), "{codec}: {result:?}");
    }
}

#[test]
fn a_batch_of_one_large_record_passes() {
    let record = Model { timestamp: 1, key: None, value: Some(b"0123456789abcdef".repeat(1 << 18)), headers: Vec::new() };
    for codec in CODECS {
        assert_eq!(models(&encode(std::slice::from_ref(&record), codec)), std::slice::from_ref(&record), "{codec}");
    }
}

#[test]
fn snappy_of_java_clients_is_read_also_in_several_streams() {
    let header = [&[0x82][..], b"SNAPPY\0", &[0, 0, 0, 1, 0, 0, 0, 1]].concat();
    let block = |plain: &[u8]| {
        let block = snap::raw::Encoder::new().compress_vec(plain).unwrap();
        [&u32::try_from(block.len()).unwrap().to_be_bytes()[..], &block].concat()
    };
    let stream = [&header[..], &block(b"one "), &block(b"two "), &header, &block(b"three")].concat();
    let mut plain = Vec::new();
    Decompressor::default().decompress(Codec::Snappy, &stream, &mut plain).unwrap();
    assert_eq!(plain, b"one two three");
    for cut in 1..stream.len() {
        let _ = Decompressor::default().decompress(Codec::Snappy, &stream[..cut], &mut plain);
    }
}

#[test]
fn several_gzip_members_and_zstd_frames_are_one_body() {
    for codec in [Codec::Gzip, Codec::Zstd] {
        let (mut body, mut plain) = (Vec::new(), Vec::new());
        Compressor::default().compress(codec, b"one ", &mut body).unwrap();
        Compressor::default().compress(codec, b"two", &mut body).unwrap();
        Decompressor::default().decompress(codec, &body, &mut plain).unwrap();
        assert_eq!(plain, b"one two", "{codec}");
        body.truncate(body.len() - 1);
        assert!(Decompressor::default().decompress(codec, &body, &mut plain).is_err(), "{codec}");
    }
}

/// Batches as a broker 4.3.1 stored them, one for each codec: of Kafka's console producer, and of librdkafka.
#[test]
fn batches_of_other_clients_are_read_in_each_codec() {
    let record = |key: Option<&str>, value: Option<&str>, headers: &[(&str, Option<&str>)]| {
        let owned = |text: Option<&str>| text.map(|text| text.as_bytes().to_vec());
        let headers = headers.iter().map(|(name, value)| (name.as_bytes().to_vec(), owned(*value))).collect();
        Model { timestamp: 0, key: owned(key), value: owned(value), headers }
    };
    let (one, two) = ("value one value one value one", "value two value two value two");
    let headers = [("trace", Some("1")), ("trace", None), ("other", Some("x"))];
    for (bytes, is_java) in
        [(&include_bytes!("testdata/java-4.3.1.bin")[..], true), (include_bytes!("testdata/librdkafka-2.12.1.bin"), false)]
    {
        let batches = FetchedBatches::new(Bytes::from_static(bytes)).map(|batch| match batch {
            Ok(FetchedBatch::Batch(batch)) => batch,
            other => panic!("{other:?}"),
        });
        let batches: Vec<_> = batches.collect();
        assert_eq!(batches.iter().map(RecordBatch::codec).collect::<Vec<_>>(), CODECS);
        for (batch, first) in batches.iter().zip((0..).step_by(3)) {
            // librdkafka stores a batch without compression if that takes less.
            let longer = two.repeat(if is_java || batch.codec() == Codec::None { 1 } else { 3 });
            let expected =
                [record(Some("k1"), Some(one), &headers), record(None, Some(&longer), &[]), record(Some("k3"), None, &[])];
            let (offsets, records): (Vec<_>, Vec<_>) = decode(batch).unwrap().into_iter().unzip();
            assert_eq!(offsets, [first, first + 1, first + 2], "{}", batch.codec());
            let times: Vec<_> = records.iter().map(|record| record.timestamp).collect();
            if is_java {
                assert!(times.is_sorted() && times[0] > 1_700_000_000_000, "{times:?}");
            } else {
                assert_eq!(times, [1_700_000_000_000, 1_699_999_999_000, 1_700_000_000_001], "{}", batch.codec());
            }
            let timeless: Vec<_> = records.iter().map(|record| Model { timestamp: 0, ..record.clone() }).collect();
            assert_eq!(timeless, expected, "{}", batch.codec());
            assert_eq!(models(&sent(batch, ProducerStamp::NONE)), records);
            let rewritten = BatchRewriter::default().rewrite(std::slice::from_ref(batch), 0..i64::MAX).unwrap().unwrap();
            assert_eq!((rewritten.codec(), models(&rewritten)), (batch.codec(), records));
        }
    }
}
