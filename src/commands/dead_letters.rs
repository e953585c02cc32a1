//! Opens the destination of dead letters.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering as AtomicOrdering;
use std::time::Duration;

use tokio::sync::OnceCell;

use crate::commands::args::{DeadLetterTarget, FailureArgs, ReadArgs};
use crate::commands::run::LettersPlace;
use crate::commands::target_watch::{LostContent, watch_topic};
use crate::commands::{Context, protect};
use crate::connectors::kafka::{Admin, KafkaSink, ProducerOptions, Route, Targets, TopicInfo, TopicPlan, WatchedTopic};
use crate::connectors::ndjson::DeadLetterFile;
use crate::dlq::{Letter, QUARANTINE, ReplayRules, failed_again, quarantine_of};
use crate::error::Error;
use crate::error::hints::may_not_create;
use crate::pipeline::{
    Answers, Batch, ConnectorError, DeadLetterBuilder, DeadLetterCause, DeadLetters, FailureStage, Ordering, Refused, Sink,
    WatchedSink, dead_letter,
};
use crate::profile::KafkaSection;
use crate::record::{Record, Topic};

/// A topic or a file of dead letters; a replay has a second one, for letters that are not replayed any more.
pub(crate) enum DeadLetterSink {
    Topic(WatchedSink<KafkaSink>, Option<Box<QuarantineTopic>>),
    File(DeadLetterFile, Option<Box<QuarantineFile>>),
}

/// The topic of quarantined letters. It is created with its first letter.
pub(crate) struct QuarantineTopic {
    rules: ReplayRules,
    admin: Admin,
    topic: Topic,
    targets: Targets,
    is_ready: OnceCell<()>,
}

/// The file of quarantined letters. It is created with its first letter.
pub(crate) struct QuarantineFile {
    rules: ReplayRules,
    path: PathBuf,
}

/// What the letters of a run say of it.
#[derive(Clone, Copy)]
pub(crate) struct LetterSender<'a> {
    pub(crate) run: &'a str,
    /// For the header `sdl.dlq.flow`.
    pub(crate) flow: &'a str,
    /// Set if the run replays letters: one that fails again keeps its origin and its history.
    pub(crate) replay: Option<&'a ReplayRules>,
    /// Those of [`DeadLetterPlan::places`].
    pub(crate) places: &'a [LettersPlace],
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

    /// Returns the places that the dead letters go to: behind the first, where a replay puts those that are not replayed any more, if
    /// that is elsewhere.
    pub(crate) fn places(&self, is_replay: bool) -> Vec<LettersPlace> {
        let place = |look: String| LettersPlace { look, is_used: Arc::default() };
        let of_file = |path: &Path| place(format!("sdl dlq stats file:{}", path.display()));
        let of_topic = |section: &str, name: &str| place(format!("sdl dlq stats topic:{section}/{name}"));
        let mut places = match self {
            Self::File(path) => vec![of_file(path), of_file(&quarantine_path(path))],
            Self::Topic { section, name, .. } => {
                vec![of_topic(&section.name, name), of_topic(&section.name, &quarantine_of(name))]
            }
        };
        places.truncate(if is_replay && places[0].look != places[1].look { 2 } else { 1 });
        places
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
    pub(crate) async fn open(self, sender: LetterSender<'_>) -> Result<DeadLetters<DeadLetterSink>, Error> {
        let replay = sender.replay.cloned();
        let sink = match self {
            Self::File(path) => {
                let quarantine = replay.map(|rules| QuarantineFile { rules, path: quarantine_path(&path) });
                let quarantine = quarantine.filter(|quarantine| quarantine.path != path);
                DeadLetterSink::File(DeadLetterFile::open(&path)?, quarantine.map(Box::new))
            }
            Self::Topic { section, admin, name, exists } => {
                if !exists {
                    admin.create_topic(&topic_plan(&name)).await?;
                }
                let topic = Topic::named(&name);
                let targets = Targets::default();
                admin.load_topic_limits(topic, &targets).await?;
                let quarantine = replay.map(|rules| QuarantineTopic {
                    rules,
                    admin: admin.clone(),
                    topic: Topic::named(&quarantine_of(&name)),
                    targets: Arc::clone(&targets),
                    is_ready: OnceCell::new(),
                });
                let quarantine = quarantine.filter(|quarantine| quarantine.topic != topic);
                let route: Route = match &quarantine {
                    None => Box::new(move |_| (topic, None)),
                    Some(QuarantineTopic { rules, topic: quarantine, .. }) => {
                        let (rules, quarantine) = (rules.clone(), *quarantine);
                        Box::new(move |letter| (if rules.is_quarantined(letter) { quarantine } else { topic }, None))
                    }
                };
                let sink = KafkaSink::open(&section, &producer_options(), targets, route)?;
                let watch = sink.watch();
                // Without a letter in it, a topic may be replaced: nothing is lost.
                let may_change = {
                    let watch = watch.clone();
                    move || !watch.has_stored()
                };
                let watcher = watch_topic(WatchedTopic::new(admin, topic), watch, LETTERS, may_change);
                DeadLetterSink::Topic(WatchedSink::new(sink, watcher), quarantine.map(Box::new))
            }
        };
        let (run, flow, replay) = (sender.run.to_owned(), sender.flow.to_owned(), sender.replay.cloned());
        let places = sender.places.to_vec();
        let build: DeadLetterBuilder = Box::new(move |record, reason, attempts| {
            let stage = if attempts == 0 { FailureStage::Shaping } else { FailureStage::Delivery };
            let cause = DeadLetterCause { run: &run, flow: &flow, stage, attempts, reason };
            let letter = match (&replay, Letter::of(&record.headers)) {
                (None, _) => dead_letter(record, &cause),
                // It has not failed again: it keeps its cause.
                (Some(_), Some(letter)) if ReplayRules::is_of_quarantine(reason) => {
                    Record { headers: record.headers.clone(), ..letter.original(record) }
                }
                (Some(_), _) => dead_letter(&failed_again(record), &cause),
            };
            let is_quarantined = replay.as_ref().is_some_and(|rules| rules.is_quarantined(&letter));
            if let Some(place) = places.get(usize::from(is_quarantined)).or(places.first()) {
                place.is_used.store(true, AtomicOrdering::Relaxed);
            }
            letter
        });
        Ok(DeadLetters { sink, build })
    }
}

fn quarantine_path(path: &Path) -> PathBuf {
    if path.as_os_str().as_encoded_bytes().ends_with(QUARANTINE.as_bytes()) {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(QUARANTINE);
    name.into()
}

impl QuarantineTopic {
    /// Creates the topic before the first letter for it.
    async fn prepare(&self, letters: &Batch) -> Result<(), ConnectorError> {
        if !letters.iter().any(|letter| self.rules.is_quarantined(letter)) {
            return Ok(());
        }
        let prepared = self.is_ready.get_or_try_init(|| async {
            if self.admin.find_topic(self.topic.name()).await?.is_none() {
                self.admin.create_topic(&topic_plan(self.topic.name())).await?;
            }
            self.admin.load_topic_limits(self.topic, &self.targets).await
        });
        prepared.await?;
        Ok(())
    }
}

impl QuarantineFile {
    /// Appends the quarantined letters to their file, and the others to `file`.
    async fn submit(&self, file: &DeadLetterFile, letters: Batch) -> Result<Answers, ConnectorError> {
        if !letters.iter().any(|letter| self.rules.is_quarantined(letter)) {
            return file.submit(letters).await;
        }
        let mut outcomes = Vec::with_capacity(letters.len());
        // In runs of one file, whose order is that of the batch.
        for run in letters.chunk_by(|one, other| self.rules.is_quarantined(one) == self.rules.is_quarantined(other)) {
            let batch = Arc::new(run.to_vec());
            let answers = if self.rules.is_quarantined(&run[0]) {
                DeadLetterFile::open(&self.path)?.submit(batch).await?
            } else {
                file.submit(batch).await?
            };
            outcomes.extend(answers.await);
        }
        Ok(Box::pin(std::future::ready(outcomes)))
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
            Self::Topic(sink, quarantine) => {
                if let Some(quarantine) = quarantine {
                    quarantine.prepare(&batch).await?;
                }
                sink.submit(batch).await
            }
            Self::File(sink, None) => sink.submit(batch).await,
            Self::File(sink, Some(quarantine)) => quarantine.submit(sink, batch).await,
        }
    }

    async fn check(&self) -> Result<(), ConnectorError> {
        match self {
            Self::Topic(sink, _) => sink.check().await,
            Self::File(sink, _) => sink.check().await,
        }
    }

    async fn confirm(&self) -> Result<(), ConnectorError> {
        match self {
            Self::Topic(sink, _) => sink.confirm().await,
            Self::File(sink, _) => sink.confirm().await,
        }
    }

    fn refusal(&self) -> Option<ConnectorError> {
        match self {
            Self::Topic(sink, _) => sink.refusal(),
            Self::File(sink, _) => sink.refusal(),
        }
    }

    fn ordering(&self) -> Ordering {
        match self {
            Self::Topic(sink, _) => sink.ordering(),
            Self::File(sink, _) => sink.ordering(),
        }
    }

    fn degraded_reason(&self) -> Option<String> {
        match self {
            Self::Topic(sink, _) => sink.degraded_reason(),
            Self::File(sink, _) => sink.degraded_reason(),
        }
    }
}
