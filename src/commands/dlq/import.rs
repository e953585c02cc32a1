//! `sdl dlq import`.

use std::io::stdin;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser as Text;

use crate::commands::args::{KAFKA_DEFAULTS, NewTopic, ReportArgs, parse_duration};
use crate::commands::dead_letters::DeadLetterSink;
use crate::commands::run::{self, Presentation, RunReporting};
use crate::commands::target_watch::{LostContent, watch_topic};
use crate::commands::{Context, protect};
use crate::connectors::kafka::{Admin, KafkaSink, ProducerOptions, TOPIC_NAME_RULE, Targets, WatchedTopic};
use crate::connectors::ndjson::NdjsonSource;
use crate::dlq::Letter;
use crate::error::Error;
use crate::pipeline::{BadRecordPolicy, Failure, Limits, Pipeline, Reason, Transform, TransformResult, WatchedSink};
use crate::record::Topic;
use crate::report::RunInfo;

/// Write dead letters from lines of JSON into a topic
///
/// The lines are those of `export` and of `--dead-letters file:PATH`. A line that is not a dead letter stops the import.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ImportLettersArgs {
    /// The file, or `-` for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The topic of dead letters to write to
    #[arg(value_name = "TOPIC", value_parser = Text::new())]
    topic: String,
    /// Section of the profile with the topic
    #[arg(long, value_name = "SECTION", default_value = "local_kafka")]
    target: String,
    /// Create the topic with this number of partitions and replicas if it does not exist
    #[arg(long, value_name = "PARTITIONS:REPLICATION")]
    create: Option<NewTopic>,
    /// Deadline for the first answer of the cluster
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    wait: Duration,
    #[command(flatten)]
    report: ReportArgs,
}

const EXAMPLES: &str = "\
Examples:
  sdl dlq import bad-logins.ndjson bad-logins
  sdl dlq import bad-logins.ndjson bad-logins --create 1:1
  sdl dlq export bad-logins --code wrong_type | sdl dlq import - wrong-types";

/// The letters of the topic: the file has them still.
const IMPORTED: LostContent =
    LostContent { missing: "", what: "the dead letters that were imported into it", hint: "import the file once more" };

impl ImportLettersArgs {
    pub(super) fn reporting(&self) -> ReportArgs {
        self.report.clone()
    }

    /// Writes the letters.
    ///
    /// # Errors
    /// When the file or the topic cannot be used, or a line is not a letter.
    pub(super) async fn run(self, context: &Context) -> Result<(), Error> {
        if !Topic::is_valid_name(&self.topic) {
            let what = format!("`{}` is not a valid topic name", self.topic);
            return Err(Error::Usage { what, hint: TOPIC_NAME_RULE.to_owned() });
        }
        let section = context.kafka(&self.target)?;
        let topic = Topic::named(&self.topic);
        protect::refuse_read_only(&section, &[topic], protect::OTHER_TARGET)?;
        let reporting = RunReporting::begin(&self.report, None).await?;
        let source = if self.file.as_os_str() == "-" {
            NdjsonSource::of("stdin", stdin()).map_err(|error| Failure::new("cannot read lines").because(error))?
        } else {
            NdjsonSource::open(&self.file)?
        };
        let admin = Admin::connect(&section, self.wait).await?;
        let existing = admin.find_topic(topic.name()).await?;
        let create = NewTopic::plan(self.create, &admin, topic, existing.as_ref()).await?;
        if let Some(create) = create {
            tracing::info!("{topic}: {}", create.line());
        }
        let options = ProducerOptions { compression: "lz4".to_owned(), linger: KAFKA_DEFAULTS.linger, keep_timestamps: false };
        let what = format!("the dead letters of {} into {}/{topic}", self.file.display(), section.name);
        if self.report.dry_run {
            KafkaSink::check_client(&section, &options)?;
            tracing::info!("Would import {what}");
            context.say("dry run: nothing was changed\n");
            return Ok(());
        }
        protect::confirm(context, &section, &[topic])?;
        tracing::info!("Importing {what}");
        if let Some(create) = create {
            create.create(&admin, topic).await?;
        }
        let targets = Targets::default();
        admin.load_topic_limits(topic, &targets).await?;
        let sink = KafkaSink::open(&section, &options, targets, Box::new(move |_| (topic, None)))?;
        let watcher = watch_topic(WatchedTopic::new(admin, topic), sink.watch(), IMPORTED, || false);
        let sink = WatchedSink::new(sink, watcher);
        let presentation = Presentation {
            headline: RunInfo {
                command: "dlq import",
                run: run::new_id(),
                route: format!("{} → {}/{topic}", self.file.display(), section.name),
                has_positions: false,
            },
            expected: None,
            bounded: true,
            reporting,
            extra_lines: None,
            letters: None,
        };
        let work = |observer, stop| {
            let limits = Limits {
                batch: KAFKA_DEFAULTS.batch as usize,
                batch_bytes: usize::try_from(KAFKA_DEFAULTS.batch_bytes).unwrap_or(usize::MAX),
                linger: Duration::ZERO,
                in_flight: KAFKA_DEFAULTS.in_flight as usize,
                rate: None,
                count: None,
                commit_each: false,
                retry_for: None,
                breaker: None,
                shutdown_timeout: Duration::from_secs(25),
            };
            let (dead_letters, transform, bad_records) = (None, Some(only_letters()), BadRecordPolicy::Stop);
            let pipeline: Pipeline<_, _, DeadLetterSink> =
                Pipeline { source, sink, dead_letters, transform, bad_records, limits, observer, stop };
            pipeline.run()
        };
        run::run_reported(context, presentation, work).await
    }
}

/// Returns the transform that finds records bad that are not letters.
fn only_letters() -> Transform {
    Box::new(|record| {
        if Letter::of(&record.headers).is_some() {
            return TransformResult::Keep;
        }
        let reason = Reason::new("not_a_letter", "the line is not a dead letter: it has no headers that name a cause");
        TransformResult::Bad(reason.hint("`sdl produce-fake --file` sends any records"))
    })
}
