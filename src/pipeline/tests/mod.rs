//! The promises of the engine, on a broker and a sink in memory, with paused time.

mod broker;
mod destination;
mod log;

mod bad_records;
mod delivery;
mod observer_events;
mod preparation;
mod rebalances;
mod stopping;
mod storm;
mod unclear;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::broker::Broker;
use self::destination::{PrepareScript, Script, Scripted, Switch, takes_all};
use self::log::{Entry, Log, audit};
use crate::pipeline::delivery::Destination;
use crate::pipeline::{
    BadRecordPolicy, ConnectorError, DeadLetters, Limits, Ordering, Pipeline, RunReport, Transform, TransformResult,
};
use crate::record::{Partition, Record};

/// Partition `index` of the topic of these tests.
fn p(index: i32) -> Partition {
    Partition::new("t", index)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A run that is about to begin.
struct Setup {
    log: Log,
    broker: Broker,
    limits: Limits,
    ordering: Ordering,
    bad_records: BadRecordPolicy,
    transform: Option<Transform>,
    sink: Script,
    letters: Script,
    prepare: Option<PrepareScript>,
    is_available: Box<dyn Fn() -> bool + Send + Sync>,
    is_gone: bool,
    letters_are_gone: bool,
    is_refused: Switch,
}

/// A run that is under way.
struct Run {
    log: Log,
    broker: Broker,
    limits: Limits,
    ordering: Ordering,
    stop: watch::Sender<bool>,
    engine: JoinHandle<RunReport>,
}

/// Returns a run from one partition with records 0 to `records`, in batches of 10, which ends when they are read.
fn run_of(records: i64) -> Setup {
    let setup = follow();
    setup.broker.partition(p(0), 0..records, records);
    setup.broker.assign(&[p(0)]);
    setup.broker.end();
    setup
}

/// Returns a run without partitions, which follows.
fn follow() -> Setup {
    let log = Log::default();
    let limits = Limits {
        batch: 10,
        batch_bytes: 1 << 20,
        linger: ms(50),
        in_flight: 2,
        rate: None,
        count: None,
        commit_each: false,
        retry_for: None,
        breaker: None,
        shutdown_timeout: Duration::from_secs(25),
    };
    Setup {
        broker: Broker::new(&log),
        log,
        limits,
        ordering: Ordering::Overlapping,
        bad_records: BadRecordPolicy::Stop,
        transform: None,
        sink: takes_all(),
        letters: takes_all(),
        prepare: None,
        is_available: Box::new(|| true),
        is_gone: false,
        letters_are_gone: false,
        is_refused: Switch::default(),
    }
}

impl Setup {
    fn sink(self, sink: Script) -> Self {
        Self { sink, ..self }
    }

    fn preparing(self, prepare: impl FnMut(usize) -> (Duration, Result<(), ConnectorError>) + Send + 'static) -> Self {
        Self { prepare: Some(Box::new(prepare)), ..self }
    }

    fn available(self, is_available: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { is_available: Box::new(is_available), ..self }
    }

    fn gone_at_the_end(self) -> Self {
        Self { is_gone: true, ..self }
    }

    fn letters_gone_at_the_end(self) -> Self {
        Self { letters_are_gone: true, ..self }
    }

    fn refused(self, is_refused: &Switch) -> Self {
        Self { is_refused: Arc::clone(is_refused), ..self }
    }

    fn ordering(self, ordering: Ordering) -> Self {
        Self { ordering, ..self }
    }

    fn skipping(self) -> Self {
        Self { bad_records: BadRecordPolicy::Skip, ..self }
    }

    fn letters(self, letters: Script) -> Self {
        Self { bad_records: BadRecordPolicy::DeadLetters, letters, ..self }
    }

    fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }

    fn transform(self, shape: impl Fn(&mut Record) -> TransformResult + Send + 'static) -> Self {
        let log = self.log.clone();
        let transform: Transform = Box::new(move |record: &mut Record| {
            let shaped = shape(record);
            if shaped == TransformResult::Filtered {
                log.note(Entry::Spared(log::coordinates(record)));
            }
            shaped
        });
        Self { transform: Some(transform), ..self }
    }

    fn start(self) -> Run {
        let Self { log, broker, limits, ordering, bad_records, transform, sink, letters, .. } = self;
        let (prepare, is_available, is_gone) = (self.prepare, self.is_available, self.is_gone);
        let (stop, stopped) = watch::channel(false);
        let letters = Scripted::new(Destination::DeadLetters, Ordering::Overlapping, &log, letters).gone(self.letters_are_gone);
        let sink = Scripted::new(Destination::Sink, ordering, &log, sink).available(is_available).gone(is_gone);
        let mut sink = sink.refused(self.is_refused);
        if let Some(prepare) = prepare {
            sink = sink.preparing(prepare);
        }
        let pipeline = Pipeline {
            source: broker.clone(),
            sink,
            dead_letters: Some(DeadLetters { sink: letters, build: Box::new(|record, _, _| record.clone()) }),
            transform,
            bad_records,
            limits,
            observer: Arc::new(log.clone()),
            stop: stopped,
        };
        Run { log, broker, limits, ordering, stop, engine: tokio::spawn(pipeline.run()) }
    }

    /// Runs to the end, which must come by itself.
    async fn finish(self) -> (RunReport, Log) {
        self.start().finish().await
    }
}

impl Run {
    /// Waits for the end and checks what must always hold.
    async fn finish(self) -> (RunReport, Log) {
        let within = Duration::from_secs(24 * 3600);
        let finished = tokio::time::timeout(within, self.engine).await.expect("the run hangs").expect("the run panicked");
        let most = if self.limits.commit_each { 1 } else { self.limits.batch * self.limits.in_flight };
        audit(&self.log, &finished, self.ordering, most);
        (finished, self.log)
    }

    fn stop(&self) {
        self.stop.send_replace(true);
    }
}
