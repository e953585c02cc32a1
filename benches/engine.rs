//! What the engine itself costs: CPU seconds per million records between a source and a sink that do next to nothing.
//!
//! `cargo bench --bench engine` runs a million records through each of a few shapes, five times, and prints the median. The cost
//! of making the records is measured alone and taken off. On Linux the time is the thread's CPU time, elsewhere the wall clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sdl::pipeline::{
    Answers, Assignment, Batch, Commit, ConnectorError, Demand, Event, Limits, Observer, Ordering, Outcome, Pipeline, Signal,
    Sink, Source,
};
use sdl::record::{NextOffset, Partition, Record};
use tokio::sync::watch;

const RECORDS: i64 = 1_000_000;

/// Partitions full of records, handed over in chunks.
struct Feed {
    partitions: Vec<(Partition, i64)>,
    key: Bytes,
    value: Bytes,
    chunk: usize,
    /// How many records of one partition follow each other.
    run: usize,
    left: i64,
    turn: usize,
    assigned: bool,
}

impl Feed {
    fn new(shape: &Shape) -> Self {
        Self {
            partitions: (0..shape.partitions).map(|index| (Partition::new("bench", index), 0)).collect(),
            key: Bytes::from_static(b"0123456789abcdef"),
            value: Bytes::from(vec![b'x'; 200]),
            chunk: shape.chunk,
            run: shape.run,
            left: RECORDS,
            turn: 0,
            assigned: false,
        }
    }

    fn records(&mut self, most: usize) -> Vec<Record> {
        let count = most.min(self.chunk).min(usize::try_from(self.left).expect("a count"));
        let mut records = Vec::with_capacity(count);
        for at in 0..count {
            if at % self.run == 0 {
                self.turn = (self.turn + 1) % self.partitions.len();
            }
            let (partition, next) = &mut self.partitions[self.turn];
            let (key, value) = (Some(self.key.clone()), Some(self.value.clone()));
            records.push(Record {
                partition: *partition,
                offset: *next,
                timestamp: Some(*next),
                key,
                value,
                headers: Vec::new(),
            });
            *next += 1;
        }
        self.left -= i64::try_from(count).expect("a count");
        records
    }
}

impl Source for Feed {
    async fn next(&mut self, appetite: Demand) -> Result<Signal, ConnectorError> {
        if !self.assigned {
            self.assigned = true;
            let assign = |(partition, _): &(Partition, i64)| Assignment {
                partition: *partition,
                start: NextOffset(0),
                fingerprint: None,
                extension: None,
            };
            return Ok(Signal::Assigned(self.partitions.iter().map(assign).collect()));
        }
        match appetite {
            Demand::Records(most) if self.left > 0 => Ok(Signal::Records(self.records(most))),
            Demand::Records(_) => Ok(Signal::End),
            Demand::Signals => std::future::pending().await,
        }
    }

    fn commit(&mut self, _: Vec<Commit>) {}

    async fn flush(&mut self) -> Result<(), ConnectorError> {
        Ok(())
    }

    async fn close(self) -> Result<(), ConnectorError> {
        Ok(())
    }
}

/// Takes everything and answers when it is asked next.
struct Hole(Ordering);

impl Sink for Hole {
    async fn submit(&self, batch: Batch) -> Result<Answers, ConnectorError> {
        Ok(Box::pin(async move { vec![Outcome::Delivered; batch.len()] }))
    }

    async fn check(&self) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn ordering(&self) -> Ordering {
        self.0
    }
}

struct Deaf;

impl Observer for Deaf {
    fn on(&self, _: &Event<'_>) {}
}

/// What is run.
struct Shape {
    name: &'static str,
    ordering: Ordering,
    batch: usize,
    in_flight: usize,
    partitions: i32,
    chunk: usize,
    run: usize,
}

const SHAPES: [Shape; 6] = [
    Shape {
        name: "replicate",
        ordering: Ordering::Overlapping,
        batch: 1000,
        in_flight: 16,
        partitions: 6,
        chunk: 1000,
        run: 500,
    },
    Shape {
        name: "replicate, huge chunks",
        ordering: Ordering::Overlapping,
        batch: 1000,
        in_flight: 16,
        partitions: 6,
        chunk: 16_000,
        run: 500,
    },
    Shape { name: "sink", ordering: Ordering::Overlapping, batch: 5000, in_flight: 4, partitions: 6, chunk: 1000, run: 500 },
    Shape {
        name: "sink, one by one",
        ordering: Ordering::OneByOne,
        batch: 5000,
        in_flight: 4,
        partitions: 6,
        chunk: 1000,
        run: 500,
    },
    Shape { name: "trickle", ordering: Ordering::Overlapping, batch: 5000, in_flight: 4, partitions: 200, chunk: 3, run: 1 },
    Shape {
        name: "trickle, one by one",
        ordering: Ordering::OneByOne,
        batch: 5000,
        in_flight: 4,
        partitions: 200,
        chunk: 3,
        run: 1,
    },
];

fn cpu() -> Duration {
    static BEGUN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let thread = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = thread.and_then(|text| text.split_whitespace().next().and_then(|nanos| nanos.parse().ok()));
    nanos.map_or_else(|| BEGUN.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}

fn making(shape: &Shape) -> Duration {
    let mut feed = Feed::new(shape);
    let before = cpu();
    while feed.left > 0 {
        std::hint::black_box(feed.records(usize::MAX));
    }
    cpu().saturating_sub(before)
}

fn running(shape: &Shape) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let limits = Limits {
        batch: shape.batch,
        batch_bytes: 8 << 20,
        linger: Duration::from_millis(5),
        in_flight: shape.in_flight,
        rate: None,
        count: None,
        commit_each: false,
        retry_for: None,
        breaker: None,
        shutdown_timeout: Duration::from_secs(25),
    };
    let (_stop, stop) = watch::channel(false);
    let pipeline: Pipeline<Feed, Hole, Hole> = Pipeline {
        source: Feed::new(shape),
        sink: Hole(shape.ordering),
        dead_letters: None,
        transform: None,
        bad_records: sdl::pipeline::BadRecordPolicy::Stop,
        limits,
        observer: Arc::new(Deaf),
        stop,
    };
    let before = cpu();
    let finished = runtime.block_on(pipeline.run());
    let taken = cpu().saturating_sub(before);
    assert_eq!(finished.tally.delivered, RECORDS.unsigned_abs(), "everything is delivered: {:?}", finished.tally);
    taken
}

fn main() {
    println!("{:<24} {:>12} {:>12}", "CPU s per million", "records", "engine");
    for shape in &SHAPES {
        let median = |measure: fn(&Shape) -> Duration| {
            let mut times: Vec<Duration> = (0..5).map(|_| measure(shape)).collect();
            times.sort_unstable();
            times[2].as_secs_f64()
        };
        let (making, running) = (median(making), median(running));
        println!("{:<24} {making:>12.3} {:>12.3}", shape.name, running - making);
    }
}
