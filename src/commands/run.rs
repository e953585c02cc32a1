//! Runs a pipeline for a person, a pipe or a service: signals, progress, summary, exit code.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::commands::hints::with_hint;
use crate::commands::{Context, LogFormat};
use crate::error::Error;
use crate::pipeline::{ConnectorError, Failure, Observer, Pipeline, RunOutcome, RunReport, Sink, Source, Tally};
use crate::report::{
    Endpoint, ExtraLines, ExtraMetrics, LogObserver, Metrics, Monitored, RunBar, RunInfo, RunStatus, StatusLines, Summary,
    log_summary, parse_address,
};

/// How often status lines are looked at when nothing happens.
const TICK: Duration = Duration::from_secs(1);

/// Flags that say what is shown.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "What is shown")]
pub struct ReportArgs {
    /// Without a terminal: a status line every so many records, and at least every 10 s
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub log_interval: u64,
    /// How the summary is written: `text` on stderr, or `json` on stdout
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: SummaryFormat,
    /// Show what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Serve Prometheus metrics at this address (9464, 0.0.0.0:9464) while it runs: /metrics, /healthz, /readyz
    ///
    /// A port alone is one of the loopback interface. /readyz is 200 while partitions are assigned and records are taken.
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    pub metrics: Option<SocketAddr>,
}

/// A run that is watched: the flags, what is known of it, and its metrics where they are served. They are served until this is
/// dropped.
pub struct RunReporting<'a> {
    flags: &'a ReportArgs,
    journal: Arc<RunStatus>,
    metrics: Option<(Arc<Metrics>, Serving)>,
}

/// An endpoint that answers until this is dropped.
struct Serving(JoinHandle<()>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ReportArgs {
    /// Begins to watch a run that is about to be put together: from now on metrics are served, if that was asked for. `appendix`
    /// adds those that only this command has. To be called before a server is asked for anything.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub(crate) async fn begin(&self, appendix: Option<ExtraMetrics>) -> Result<RunReporting<'_>, Error> {
        let journal = Arc::new(RunStatus::default());
        let mut metrics = None;
        if let Some(address) = self.metrics.filter(|_| !self.dry_run) {
            let endpoint =
                Endpoint::listen(address).await.map_err(|failure| failure.hint("choose another address with --metrics ADDR"))?;
            tracing::info!("Serving metrics at http://{}/metrics", endpoint.address());
            let told = Arc::new(Metrics::new(Arc::clone(&journal), appendix));
            let serving = Serving(tokio::spawn(endpoint.serve(Arc::clone(&told) as Arc<dyn Monitored>)));
            metrics = Some((told, serving));
        }
        Ok(RunReporting { flags: self, journal, metrics })
    }
}

impl RunReporting<'_> {
    /// Returns who must hear of what happens: the journal, and the metrics if they are served.
    #[must_use]
    pub fn observers(&self) -> Vec<Box<dyn Observer>> {
        let journal: Box<dyn Observer> = Box::new(SharedObserver(Arc::clone(&self.journal)));
        let metrics = self.metrics.iter().map(|(metrics, _)| Box::new(SharedObserver(Arc::clone(metrics))) as Box<dyn Observer>);
        std::iter::once(journal).chain(metrics).collect()
    }
}

/// How the summary is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SummaryFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON document.
    Json,
}

/// What is to be shown of a run.
pub struct Presentation<'a> {
    /// What it is called.
    pub(crate) headline: RunInfo,
    /// How many records are expected, if that is known.
    pub expected: Option<u64>,
    /// Whether it ends by itself.
    pub bounded: bool,
    /// How it is watched.
    pub watching: RunReporting<'a>,
    /// What else a terminal shows, below the progress bar.
    pub more: Option<ExtraLines>,
}

/// Returns the name of a new run: the time and eight random digits.
#[must_use]
pub fn name() -> String {
    format!("{}-{:08x}", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ"), random())
}

/// Returns a random number.
#[must_use]
pub fn random() -> u32 {
    use std::hash::{BuildHasher as _, RandomState};
    // The keys of a hasher are random in every process and differ from call to call.
    (RandomState::new().hash_one(std::process::id()) >> 32) as u32
}

/// Returns what turns true at the first SIGINT or SIGTERM; the second one ends the process at once with 130.
///
/// # Errors
/// When signals cannot be listened to.
pub fn stop_signal() -> Result<watch::Receiver<bool>, Error> {
    let listen = |kind| signal(kind).map_err(|error| Failure::new("cannot listen to signals").because(error));
    let (mut interrupts, mut terminations) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let (told, stop) = watch::channel(false);
    tokio::spawn(async move {
        for count in 0.. {
            tokio::select! {
                _ = interrupts.recv() => {}
                _ = terminations.recv() => {}
            }
            if count > 0 {
                // Asked twice, nothing is worth waiting for.
                crate::connectors::kafka::end_process(130);
            }
            // The run may be over already.
            let _ = told.send(true);
        }
    });
    Ok(stop)
}

/// Runs `make(observer, stop)` and tells how it went.
///
/// # Errors
/// When the run ended other than well, or with records that need a person.
pub async fn run<S: Source, K: Sink + 'static, D: Sink + 'static>(
    context: &Context,
    show: Presentation<'_>,
    make: impl FnOnce(Arc<dyn Observer>, watch::Receiver<bool>) -> Pipeline<S, K, D>,
) -> Result<(), Error> {
    watched(context, show, |observer, stop| make(observer, stop).run()).await
}

/// Does `work(observer, stop)` and tells how it went.
///
/// # Errors
/// When the run ended other than well, or with records that need a person.
pub async fn watched<W: Future<Output = RunReport>>(
    context: &Context,
    show: Presentation<'_>,
    work: impl FnOnce(Arc<dyn Observer>, watch::Receiver<bool>) -> W,
) -> Result<(), Error> {
    let RunReporting { flags, journal, .. } = &show.watching;
    let mut observers = show.watching.observers();
    observers.push(Box::new(LogObserver::new(context.global.verbose >= 2)));
    let bar = (context.screen.is_terminal() && !context.global.quiet)
        .then(|| Arc::new(RunBar::new(&context.screen, Arc::clone(journal), show.expected, show.more)));
    let lines = bar.is_none().then(|| Arc::new(StatusLines::new(Arc::clone(journal), flags.log_interval)));
    if let Some(bar) = &bar {
        observers.push(Box::new(SharedObserver(Arc::clone(bar))));
    }
    let ticking = lines.map(|lines| {
        observers.push(Box::new(SharedObserver(Arc::clone(&lines))));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(TICK).await;
                lines.tick();
            }
        })
    });
    let finished = work(Arc::new(observers), stop_signal()?).await;
    if let Some(ticking) = ticking {
        ticking.abort();
    }
    if let Some(bar) = bar {
        bar.finish();
    }
    let summary = Summary::new(&show.headline, &finished, journal);
    log_summary(&summary);
    match flags.output {
        SummaryFormat::Json => context.print(&summary.json())?,
        SummaryFormat::Text if context.global.log_format == LogFormat::Json => {}
        SummaryFormat::Text => context.screen.write(&summary.text(context.global.quiet)),
    }
    conclude(finished, show.bounded)
}

/// Shares an observer.
struct SharedObserver<T>(Arc<T>);

impl<T: Observer> Observer for SharedObserver<T> {
    fn on(&self, event: &crate::pipeline::Event<'_>) {
        self.0.on(event);
    }

    fn wants_every_record(&self) -> bool {
        self.0.wants_every_record()
    }
}

/// Returns what a finished run means for who started it.
fn conclude(finished: RunReport, bounded: bool) -> Result<(), Error> {
    let RunReport { tally, outcome: ending, closed, .. } = finished;
    match ending {
        RunOutcome::Failed(ConnectorError::Failed(failure)) => return Err(with_hint(failure).into()),
        RunOutcome::Failed(error) => return Err(error.into()),
        RunOutcome::Record(failure) => return Err(Error::Record(with_hint(failure))),
        RunOutcome::Complete | RunOutcome::Interrupted => {}
    }
    let Tally { dead_lettered, skipped, undelivered, .. } = tally;
    if undelivered > 0 {
        let failure = Failure::new(format!("{undelivered} records were read and not delivered"));
        return Err(Error::Record(failure.hint("start again: they are not committed, and are read once more")));
    }
    closed.map_err(|error| match error {
        ConnectorError::Failed(failure) => {
            Error::Failed(failure.hint("everything was delivered; the next run repeats what was not committed"))
        }
        refused @ ConnectorError::Refused(_) => refused.into(),
    })?;
    if bounded && dead_lettered + skipped > 0 {
        let parts = [(dead_lettered, "dead-lettered"), (skipped, "skipped")];
        let parts: Vec<_> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        let failure = Failure::new(format!("bad records were set aside: {}", parts.join(", ")));
        return Err(Error::Record(failure.hint("everything else was delivered; look at the bad records")));
    }
    Ok(())
}
