//! What the pure core costs: `cargo bench --bench core`. Seconds of one core per million records; the best of five rounds.

use std::hint::black_box;
use std::time::Instant;

use sdl::connectors::elastic::{BulkAction, BulkFormat};
use sdl::connectors::kafka::wire::record_batch::{
    BatchEncoder, BatchRewriter, Codec, Compressor, Decompressor, MERGED_BYTES, ProducerStamp, RecordBatch, Records, plan_batches,
};
use sdl::connectors::{mongo, ndjson};
use sdl::document::{DocumentMapper, Ids, MetadataFields, NameTemplate, RawValues, Version};
use sdl::logins::event::{FIELDS, Login};
use sdl::logins::fake::{FakePlan, Generator};
use sdl::record::{Partition, Record};
use sdl::shape::{RuleKind, Shape, ShapeRules};
use sdl::windows::projection::FieldSelector;
use sdl::windows::tumbling::{Now, PartitionStart, WindowRules, Windows, event_time};

const RECORDS: u32 = 200_000;
const BATCHES: u32 = RECORDS / 1000;

fn main() {
    let logins = || Generator::new(FakePlan::default(), Partition::new("bench", 0));
    let records: Vec<Record> = {
        let mut generator = logins();
        (0..BATCHES).flat_map(|_| generator.batch(1000)).collect()
    };
    let bytes: usize = records.iter().map(Record::bytes).sum();
    println!("{RECORDS} records of {} bytes", bytes / records.len());

    measure("produce-fake: make a login", || {
        let mut generator = logins();
        (0..BATCHES).for_each(|_| drop(black_box(generator.batch(1000))));
    });
    measure("read a login", || {
        for record in &records {
            black_box(Login::parse(record.value.as_deref().unwrap_or_default()).is_ok());
        }
    });
    measure("write a record as a line", || {
        let mut out = Vec::new();
        for record in &records {
            out.clear();
            ndjson::write(&record.view(), &mut out);
            black_box(&out);
        }
    });
    measure("write a login as a MongoDB document", || {
        let offsets = Ids::Offset { prefix: String::new() };
        let reading = DocumentMapper::new(offsets, Version::Offset, MetadataFields::default(), RawValues::Bad, None, Vec::new());
        for record in &records {
            black_box(mongo::document(&reading, record, 0).is_ok());
        }
    });
    measure("write a login into a bulk body", || {
        let offsets = Ids::Offset { prefix: String::new() };
        let naming = NameTemplate::new("logins".parse().expect("a template"), |_| Ok(()), 1).expect("a name");
        let reading =
            DocumentMapper::new(offsets, Version::Offset, MetadataFields::default(), RawValues::Bad, None, vec![naming]);
        let writing = BulkFormat::new(reading, BulkAction::Create, false, true);
        let mut bytes = Vec::new();
        for batch in records.chunks(5000) {
            bytes = black_box(writing.body(batch, 0, bytes));
        }
    });
    measure("count a login in its window", || {
        let fields = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let selector =
            FieldSelector::new(&fields(&["device_type", "locale"]), &fields(&FIELDS), Some("timestamp")).expect("fields");
        let rules = WindowRules { length: 10_000, grace: 5_000, idle: 5_000 };
        let partition = Partition::new("bench", 0);
        let now = Now { wall: i64::MAX, steady: 0 };
        let mut windows = Windows::new(rules, [partition]);
        windows.assign(partition, PartitionStart::default(), now);
        for batch in records.chunks(10_000) {
            let mut run = windows.run(partition, now);
            for record in batch {
                let fields = selector.select(record.value.as_deref().unwrap_or_default()).expect("a login");
                let (time, _) = event_time(fields.time(), record.timestamp, now);
                black_box(run.count(record.offset, time, &fields));
            }
            if let Some(until) = windows.due(now, false) {
                black_box(windows.close(until));
            }
        }
    });
    for (name, kind, text) in [
        ("--where", RuleKind::Where, "device_type = iOS"),
        ("--require", RuleKind::Require, "user_id,timestamp:int"),
        ("--drop", RuleKind::Drop, "ip"),
        ("--keep", RuleKind::Keep, "user_id,timestamp"),
        ("--mask-ip", RuleKind::MaskIp, "ip"),
        ("--mask", RuleKind::Mask, "user_id"),
        ("--date", RuleKind::Date, "timestamp"),
    ] {
        let mut rules = ShapeRules::default();
        rules.add(kind, text, text);
        let shape = Shape::parse(&rules, Some("key")).expect("the rules are right");
        measure(&format!("shape: {name} {text}"), || {
            for record in &records {
                black_box(shape.apply(record.value.as_deref()));
            }
        });
    }
    for codec in [Codec::None, Codec::Lz4, Codec::Zstd, Codec::Snappy, Codec::Gzip] {
        measure_batches(codec, &records.chunks(100).map(|records| batch(records, codec)).collect::<Vec<_>>());
    }
}

fn batch(records: &[Record], codec: Codec) -> RecordBatch {
    let mut encoder = BatchEncoder::default();
    for record in records {
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        encoder.push(record.timestamp.unwrap_or(-1), key, value, &[]).expect("room");
    }
    encoder.finish(codec, &mut Compressor::default()).expect("a batch").expect("records")
}

/// What the data path does to batches of 100 records.
fn measure_batches(codec: Codec, batches: &[RecordBatch]) {
    measure(&format!("batches, {codec}: verify the checksum"), || {
        for batch in batches {
            black_box(RecordBatch::parse(batch.bytes().clone()).is_ok());
        }
    });
    measure(&format!("batches, {codec}: restamp"), || {
        let mut stamp = ProducerStamp { producer_id: 9, producer_epoch: 1, base_sequence: 0, is_transactional: false };
        for batch in batches {
            black_box(batch.restamp(stamp).is_ok());
            stamp = stamp.after(batch.count());
        }
    });
    let mut decompressor = Decompressor::default();
    measure(&format!("batches, {codec}: decompress and read each record"), || {
        for batch in batches {
            let plain = decompressor.plain(codec, &batch.body()).expect("readable");
            for record in Records::new(batch, &plain).expect("records") {
                black_box(record.is_ok());
            }
        }
    });
    let mut rewriter = BatchRewriter::default();
    measure(&format!("batches, {codec}: write anew"), || {
        for batch in batches {
            black_box(rewriter.rewrite(std::slice::from_ref(batch), 0..i64::MAX).is_ok());
        }
    });
    if codec == Codec::None {
        measure("batches, none: merge", || {
            for outgoing in plan_batches(batches, MERGED_BYTES) {
                black_box(rewriter.rewrite(&batches[outgoing.sources], 0..i64::MAX).is_ok());
            }
        });
    }
}

fn measure(what: &str, mut work: impl FnMut()) {
    let rounds = (0..5).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed()
    });
    let best = rounds.min().unwrap_or_default();
    println!("{:8.3} s/M  {what}", best.as_secs_f64() * 1e6 / f64::from(RECORDS));
}
