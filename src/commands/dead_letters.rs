//! Opens the destination of dead letters.

use std::time::Duration;

use crate::commands::Context;
use crate::commands::args::{DeadLetterTarget, FailureArgs, ReadArgs};
use crate::connectors::kafka::{Admin, KafkaSink, ProducerOptions, Targets, TopicInfo, TopicPlan};
use crate::connectors::ndjson::DeadLetterFile;
use crate::error::Error;
use crate::error::hints::may_not_create;
use crate::pipeline::{
    Answers, Batch, ConnectorError, DeadLetterBuilder, DeadLetterCause, DeadLetters, FailureStage, Ordering, Refused, Sink,
    dead_letter,
};
use crate::profile::KafkaSection;
use crate::record::Topic;

/// A topic or a file of dead letters.
pub(crate) enum DeadLetterSink {
    Topic(KafkaSink),
    File(DeadLetterFile),
}

/// Checks that no dead letter is read by the run that writes it, or mixed with the records that it delivers: `writes` returns whether
/// the run writes to a topic, given section and name.
///
/// # Errors
/// When one would be, or the cluster of the dead letters does not answer.
pub(crate) async fn check_feedback(
    args: &FailureArgs,
    context: &Context,
    home: &KafkaSection,
    source: &Admin,
    (read, topics): (&ReadArgs, &[TopicInfo]),
    writes: impl Fn(&str, &str) -> bool,
) -> Result<(), Error> {
    let Some(DeadLetterTarget::Topic { section, name }) = &args.dead_letters else { return Ok(()) };
    let section = section.as_deref().map_or_else(|| Ok(home.clone()), |name| context.profile.kafka(name))?;
    let refused = |what: String| {
        let hint = "name another topic with --dead-letters, or leave it out with --exclude REGEX".to_owned();
        Error::Refused(Refused { what, numbers: vec![format!("dead letters go to `{name}` on `{}`", section.name)], hint })
    };
    if writes(&section.name, name) {
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

/// Opens the destination that the flags name, if any; `home` is the cluster of a topic without a section. Creates the topic if
/// it does not exist and `create` allows it.
///
/// # Errors
/// When it cannot be opened or created.
pub(crate) async fn open(
    args: &FailureArgs,
    context: &Context,
    home: &KafkaSection,
    run: &str,
    create: bool,
) -> Result<Option<DeadLetters<DeadLetterSink>>, Error> {
    let sink = match &args.dead_letters {
        None => return Ok(None),
        Some(DeadLetterTarget::File(path)) => DeadLetterSink::File(DeadLetterFile::open(path)?),
        Some(DeadLetterTarget::Topic { section, name }) => {
            let section = section.as_deref().map_or_else(|| Ok(home.clone()), |name| context.profile.kafka(name))?;
            let admin = Admin::connect(&section, args.wait).await?;
            if admin.topic(name).await?.is_none() {
                if !create {
                    return Err(may_not_create(&format!("the dead-letter topic `{name}`"), &section.name).into());
                }
                tracing::info!("{name}: will be created with 1 partition, for the dead letters");
                admin.create_topic(&topic_plan(name)).await?;
            }
            let topic = Topic::named(name);
            let targets = Targets::default();
            admin.load_topic_limits(topic, &targets).await?;
            let options =
                ProducerOptions { compression: "lz4".to_owned(), linger: Duration::from_millis(5), keep_timestamps: false };
            DeadLetterSink::Topic(KafkaSink::open(&section, &options, targets, Box::new(move |_| (topic, None)))?)
        }
    };
    let run = run.to_owned();
    let build: DeadLetterBuilder = Box::new(move |record, reason, attempts| {
        let stage = if attempts == 0 { FailureStage::Shaping } else { FailureStage::Delivery };
        dead_letter(record, &DeadLetterCause { run: &run, stage, attempts, reason })
    });
    Ok(Some(DeadLetters { sink, build }))
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
