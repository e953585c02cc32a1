//! Opens the destination of dead letters.

use std::path::PathBuf;
use std::time::Duration;

use crate::commands::args::{DeadLetterTarget, FailureArgs, ReadArgs};
use crate::commands::target_watch::{LostContent, watch_topic};
use crate::commands::{Context, protect};
use crate::connectors::kafka::{Admin, KafkaSink, ProducerOptions, Targets, TopicInfo, TopicPlan, WatchedTopic};
use crate::connectors::ndjson::DeadLetterFile;
use crate::error::Error;
use crate::error::hints::may_not_create;
use crate::pipeline::{
    Answers, Batch, ConnectorError, DeadLetterBuilder, DeadLetterCause, DeadLetters, FailureStage, Ordering, Refused, Sink,
    WatchedSink, dead_letter,
};
use crate::profile::KafkaSection;
use crate::record::Topic;

/// A topic or a file of dead letters.
pub(crate) enum DeadLetterSink {
    Topic(WatchedSink<KafkaSink>),
    File(DeadLetterFile),
}

/// The letters of a topic: their records are settled.
const LETTERS: LostContent = LostContent {
    missing: ": stop the run and start it again, which creates it",
    what: "the dead letters that were written to it",
    hint: "read their records again with --from-beginning, or start again without it, to go on without these letters",
};

/// The hint for dead letters on a read-only cluster.
const OTHER_LETTERS: &str = "name another section with --dead-letters topic:SECTION/NAME or a file with --dead-letters file:PATH, or \
                             change `protect` in the profile";

/// Returns the section and the topic of the dead letters, if they go to a topic; `home` is the cluster of one without a section.
///
/// # Errors
/// When the profile does not have the section, or it is read-only.
fn letter_topic<'a>(
    args: &'a FailureArgs,
    context: &Context,
    home: &KafkaSection,
) -> Result<Option<(KafkaSection, &'a str)>, Error> {
    let Some(DeadLetterTarget::Topic { section, name }) = &args.dead_letters else { return Ok(None) };
    let section = section.as_deref().map_or_else(|| Ok(home.clone()), |name| context.profile.kafka(name))?;
    protect::refuse_read_only(&section, &[Topic::named(name)], OTHER_LETTERS)?;
    Ok(Some((section, name.as_str())))
}

/// Checks that dead letters may be written to their topic, and that none is read by the run that writes it, or mixed with the
/// records that it delivers, now or when topics appear: `writes` returns whether the run writes to a topic of `home`.
///
/// # Errors
/// When the topic is on a read-only cluster, when a dead letter would be read or mixed, or when the cluster does not answer.
pub(crate) async fn check(
    args: &FailureArgs,
    context: &Context,
    home: &KafkaSection,
    source: &Admin,
    (read, topics): (&ReadArgs, &[TopicInfo]),
    writes: impl Fn(&str) -> bool,
) -> Result<(), Error> {
    let Some((section, name)) = letter_topic(args, context, home)? else { return Ok(()) };
    let refused = |what: String| {
        let hint = format!("name another topic with --dead-letters{}", read.topics.or_exclude("it"));
        Error::Refused(Refused { what, numbers: vec![format!("dead letters go to `{name}` on `{}`", section.name)], hint })
    };
    // Two sections can name one cluster.
    if writes(name) && is_same_cluster(&section, home, args.wait).await? {
        return Err(refused(format!("dead letters would be mixed with the records of topic `{name}`")));
    }
    let is_read = read.topics.fits(name) || topics.iter().any(|topic| topic.topic.name() == name);
    if !is_read {
        return Ok(());
    }
    let same_cluster =
        section.name == source.section() || Admin::connect(&section, args.wait).await?.cluster_id() == source.cluster_id();
    if same_cluster {
        return Err(refused(format!("topic `{name}` of the dead letters would be read by the same run")));
    }
    Ok(())
}

/// Returns whether two sections name one cluster.
async fn is_same_cluster(one: &KafkaSection, other: &KafkaSection, wait: Duration) -> Result<bool, Error> {
    if one.name == other.name {
        return Ok(true);
    }
    Ok(Admin::connect(one, wait).await?.cluster_id() == Admin::connect(other, wait).await?.cluster_id())
}

/// The destination of dead letters, before it is opened.
pub(crate) enum DeadLetterPlan {
    Topic { section: Box<KafkaSection>, admin: Admin, name: String, exists: bool },
    File(PathBuf),
}

impl DeadLetterPlan {
    /// Looks at the destination that the flags name, if any, without changing it; `home` is the cluster of a topic without a section.
    ///
    /// # Errors
    /// When its cluster is read-only or does not answer, its topic does not exist and may not or cannot be created, or its file cannot
    /// be used.
    pub(crate) async fn make(
        args: &FailureArgs,
        context: &Context,
        home: &KafkaSection,
        may_create: bool,
    ) -> Result<Option<Self>, Error> {
        if let Some(DeadLetterTarget::File(path)) = &args.dead_letters {
            DeadLetterFile::check_path(path)?;
            return Ok(Some(Self::File(path.clone())));
        }
        let Some((section, name)) = letter_topic(args, context, home)? else { return Ok(None) };
        let name = name.to_owned();
        let admin = Admin::connect(&section, args.wait).await?;
        let exists = admin.find_topic(&name).await?.is_some();
        if !exists && !may_create {
            return Err(may_not_create(&format!("the dead-letter topic `{name}`"), &section.name).into());
        }
        if !exists {
            admin.check_creatable(&name)?;
        }
        KafkaSink::check_client(&section, &producer_options())?;
        Ok(Some(Self::Topic { section: Box::new(section), admin, name, exists }))
    }

    /// Returns the line of the plan.
    pub(crate) fn line(&self) -> String {
        match self {
            Self::File(path) => format!("dead letters: file {}", path.display()),
            Self::Topic { section, name, exists: true, .. } => format!("dead letters: topic {name} on {}", section.name),
            Self::Topic { section, name, .. } => {
                format!("dead letters: topic {name} on {}: will be created with 1 partition", section.name)
            }
        }
    }

    /// Returns where the dead letters are, and for a topic the command that shows them.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::File(path) => format!("file:{}", path.display()),
            Self::Topic { section, name, .. } => {
                let section = &section.name;
                format!("topic:{name} on {section}: sdl tail {name} --source {section}")
            }
        }
    }

    /// Returns the section and the topic that are written to.
    pub(crate) fn topic(&self) -> Option<(&KafkaSection, Topic)> {
        match self {
            Self::File(_) => None,
            Self::Topic { section, name, .. } => Some((section, Topic::named(name))),
        }
    }

    /// Opens the destination. Creates a topic that does not exist.
    ///
    /// # Errors
    /// When it cannot be opened or created.
    pub(crate) async fn open(self, run: &str) -> Result<DeadLetters<DeadLetterSink>, Error> {
        let sink = match self {
            Self::File(path) => DeadLetterSink::File(DeadLetterFile::open(&path)?),
            Self::Topic { section, admin, name, exists } => {
                if !exists {
                    admin.create_topic(&topic_plan(&name)).await?;
                }
                let topic = Topic::named(&name);
                let targets = Targets::default();
                admin.load_topic_limits(topic, &targets).await?;
                let options = producer_options();
                let sink = KafkaSink::open(&section, &options, targets, Box::new(move |_| (topic, None)))?;
                let watch = sink.watch();
                // Without a letter in it, a topic may be replaced: nothing is lost.
                let may_change = {
                    let watch = watch.clone();
                    move || !watch.has_stored()
                };
                let watcher = watch_topic(WatchedTopic::new(admin, topic), watch, LETTERS, may_change);
                DeadLetterSink::Topic(WatchedSink::new(sink, watcher))
            }
        };
        let run = run.to_owned();
        let build: DeadLetterBuilder = Box::new(move |record, reason, attempts| {
            let stage = if attempts == 0 { FailureStage::Shaping } else { FailureStage::Delivery };
            dead_letter(record, &DeadLetterCause { run: &run, stage, attempts, reason })
        });
        Ok(DeadLetters { sink, build })
    }
}

fn producer_options() -> ProducerOptions {
    ProducerOptions { compression: "lz4".to_owned(), linger: Duration::from_millis(5), keep_timestamps: false }
}

/// Returns the topic to create: it keeps what other topics refuse or have deleted, until a person has looked at it.
fn topic_plan(name: &str) -> TopicPlan {
    let settings =
        |settings: &[(&str, &str)]| settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    TopicPlan {
        name: name.to_owned(),
        partitions: 1,
        replication: None,
        // A letter has the timestamp of its record, which can be older than any retention, and more headers.
        config: settings(&[("cleanup.policy", "delete"), ("retention.ms", "-1")]),
        optional_config: settings(&[
            ("max.message.bytes", "100000000"),
            ("message.timestamp.after.max.ms", &i64::MAX.to_string()),
        ]),
    }
}

impl Sink for DeadLetterSink {
    async fn submit(&self, batch: Batch) -> Result<Answers, ConnectorError> {
        match self {
            Self::Topic(sink) => sink.submit(batch).await,
            Self::File(sink) => sink.submit(batch).await,
        }
    }

    async fn check(&self) -> Result<(), ConnectorError> {
        match self {
            Self::Topic(sink) => sink.check().await,
            Self::File(sink) => sink.check().await,
        }
    }

    async fn confirm(&self) -> Result<(), ConnectorError> {
        match self {
            Self::Topic(sink) => sink.confirm().await,
            Self::File(sink) => sink.confirm().await,
        }
    }

    fn refusal(&self) -> Option<ConnectorError> {
        match self {
            Self::Topic(sink) => sink.refusal(),
            Self::File(sink) => sink.refusal(),
        }
    }

    fn ordering(&self) -> Ordering {
        match self {
            Self::Topic(sink) => sink.ordering(),
            Self::File(sink) => sink.ordering(),
        }
    }

    fn degraded_reason(&self) -> Option<String> {
        match self {
            Self::Topic(sink) => sink.degraded_reason(),
            Self::File(sink) => sink.degraded_reason(),
        }
    }
}
