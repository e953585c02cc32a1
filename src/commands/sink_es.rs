//! `sdl sink-es`: Kafka to Elasticsearch or OpenSearch.

use std::sync::Arc;

use crate::commands::Context;
use crate::commands::args::{
    DOCUMENT_DEFAULTS, DeliveryArgs, DocumentArgs, ReadArgs, ReportArgs, ShapingArgs, chain, named_by, transform,
};
use crate::commands::record_hints::WithHints;
use crate::commands::session::{FlowNames, FlowTarget, Replay, Session, warn_of_missing_destination};
use crate::commands::target_watch::watch_documents;
use crate::connectors::elastic::{
    Bootstrap, ElasticClient, ElasticSink, ElasticSinkOptions, IndexKind, InvalidElasticOptions, Op, index_rule,
};
use crate::connectors::kafka::ReadPlan;
use crate::document::{Ids, NamePattern, NameTemplate, TEMPLATE_GRAMMAR};
use crate::error::Error;
use crate::error::hints::may_not_create;
use crate::pipeline::{ConnectorError, Failure, Refused, Sink as _, WatchedSink};
use crate::profile::{ElasticSection, Profile};

/// Load topics into Elasticsearch or OpenSearch
///
/// Each record becomes one document, and its offset is committed once the server has acknowledged that document. With the default
/// ids a redelivered record changes nothing: a run that was killed resumes where it stopped, and nothing is lost or stored twice.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    /// Section to read from
    #[arg(long, value_name = "SECTION", default_value = "local_kafka")]
    pub(crate) source: String,
    /// Section to write to [default: elasticsearch, or opensearch if only that is there]
    #[arg(long, value_name = "SECTION")]
    pub(crate) target: Option<String>,
    #[command(flatten)]
    pub(crate) index: IndexArgs,
    #[command(flatten)]
    pub(crate) documents: DocumentArgs,
    #[command(flatten)]
    pub(crate) shaping: ShapingArgs,
    #[command(flatten)]
    pub(crate) delivery: DeliveryArgs,
    #[command(flatten)]
    pub(crate) report: ReportArgs,
}

/// Where documents go, and how.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct IndexArgs {
    /// Index, with {topic}, {topic:lower}, {field} and %Y-%m-%d of the record's time [default: the section's `default_index`]
    #[arg(long, value_name = "NAME")]
    pub(crate) index: Option<String>,
    /// The index is a data stream
    ///
    /// Duplicates are found in the newest backing index only: after a rollover a redelivery creates a duplicate.
    #[arg(long)]
    data_stream: bool,
    /// How documents are written [default: create, or index with --id key and field]
    ///
    /// With --id key and field, an older record never overwrites a newer one.
    #[arg(long, value_name = "HOW")]
    op: Option<Op>,
    /// Ingest pipeline of the server to send documents through
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
    /// Routing of a document, with {topic}, {topic:lower}, {field} and %Y-%m-%d of the record's time
    #[arg(long, value_name = "TEXT", value_parser = routing)]
    routing: Option<NamePattern>,
    /// Compress requests: for slow networks; costs about 1 s of CPU per million records
    #[arg(long)]
    compress: bool,
    /// Install an index template for these records first, with a strict mapping
    #[arg(long, value_name = "RECORDS")]
    bootstrap: Option<Bootstrap>,
    /// Refuse to create an index that is not there
    #[arg(long, conflicts_with = "bootstrap")]
    no_create: bool,
}

const EXAMPLES: &str = "\
Documents get an `@timestamp`, of --time-field or else of the record, unless they have one; with
--no-meta only if --time-field or --data-stream asks for it.

Examples:
  sdl sink-es                                      as the profile says, until it is interrupted
  sdl sink-es user-login --until-caught-up         up to the end that the topic has now
  sdl sink-es user-login --bootstrap user-login --time-field timestamp --dead-letters topic:bad-logins
  sdl sink-es --topics-matching 'shop\\..*' --index '{topic}-%Y.%m.%d'
  sdl sink-es users --id key --on-tombstone delete      the newest version of each user";

fn routing(text: &str) -> Result<NamePattern, String> {
    text.parse().map_err(|why| format!("{why}; use {TEMPLATE_GRAMMAR}"))
}

/// Returns the error of options that do not go together.
fn invalid(options: InvalidElasticOptions) -> Error {
    let hint = match options {
        InvalidElasticOptions::CreateRepeatingIds => "use --op index, update or upsert",
        InvalidElasticOptions::MergeUniqueIds => "use --id key or field:PATH, or remove --op",
        InvalidElasticOptions::MergeWithoutMetadata => "remove --no-meta, or use --op index",
        InvalidElasticOptions::DataStreamOp => "use --id offset or uuid, and remove --op",
    };
    Error::Usage { what: options.to_string(), hint: hint.to_owned() }
}

/// Names the flag that installs a missing template.
fn with_template_hint(error: ConnectorError) -> Error {
    match error {
        ConnectorError::Refused(refused) => {
            let hint = "create an index template with `data_stream`, or use --bootstrap user-login".to_owned();
            Error::Refused(Refused { hint, ..refused })
        }
        error => error.into(),
    }
}

impl Args {
    /// Returns how the run is reported.
    #[must_use]
    pub(crate) fn reporting(&self) -> ReportArgs {
        self.report.clone()
    }

    /// Runs the command.
    ///
    /// # Errors
    /// When the run does not end well; see the exit codes.
    pub async fn run(self, context: &Context) -> Result<(), Error> {
        self.load(context, "sink-es", None).await
    }

    /// Loads the topics, or replays the dead letters that they hold.
    ///
    /// # Errors
    /// When the run fails; see the exit codes.
    pub(crate) async fn load(self, context: &Context, command: &'static str, replay: Option<Replay>) -> Result<(), Error> {
        let (from, to) = (context.kafka(&self.source)?, self.section(context)?);
        let index = self.index.name(&to)?;
        let mut templates =
            vec![self.documents.naming(&named_by(self.index.index.as_ref(), "index", &to.name), &index, index_rule)?];
        templates.extend(self.index.routing.clone().map(NameTemplate::unchecked));
        let mapper = self.documents.mapper(templates)?;
        let tombstones = self.documents.tombstones();
        let limits = self.delivery.limits(&DOCUMENT_DEFAULTS, self.read.count);
        let options = ElasticSinkOptions {
            op: self.index.op,
            data_stream: self.index.data_stream,
            pipeline: self.index.pipeline.clone(),
            routing: self.index.routing.is_some(),
            compress: self.index.compress,
            in_flight: limits.in_flight,
            deletes: tombstones.is_none(),
        };
        options.choose_op(&mapper).map_err(invalid)?;
        let shape = self.shaping.build(&context.profile, from.mask_key.as_ref())?.map(transform);
        let args = (&self.read, &self.delivery.failure, &self.report);
        let session = Session::connect(context, command, from, args, None).await?.replaying(replay.as_ref());
        self.documents.check(&mapper, Replay::origins(replay.as_ref(), &session.topics), &self.read.topics)?;
        let client = ElasticClient::connect(&to, self.delivery.failure.wait).await?;
        let sink = ElasticSink::new(client, mapper, options).map_err(invalid)?;
        let names = FlowNames::of_sink("sink-es", &to.name, &index, to.consumer_group_id.clone());
        let mut destination = TargetIndex { names, index, args: &self, found: None, sink: &sink };
        let Some(session) = session.start(&mut destination).await? else { return Ok(()) };

        let (transform, source_limits) = (chain(shape, tombstones), self.delivery.source_limits(&limits));
        let watcher = sink.identity().map(Arc::new).map(|identity| {
            watch_documents(format!("index `{}` of `{}`", identity.name(), to.name), move || {
                let identity = Arc::clone(&identity);
                async move { identity.look().await }
            })
        });
        Box::pin(session.run(WatchedSink::new(WithHints(sink), watcher), transform, limits, &source_limits)).await
    }

    /// Returns the section to write to.
    fn section(&self, context: &Context) -> Result<ElasticSection, Error> {
        context.elastic(self.target(&context.profile))
    }

    /// Returns the name of the section to write to.
    pub(crate) fn target<'a>(&'a self, profile: &Profile) -> &'a str {
        target_section(self.target.as_deref(), profile)
    }

    /// Checks that an index is written to as an index, and a data stream as a data stream.
    fn check_kind(&self, found: &IndexKind, index: &str, section: &str) -> Result<(), Error> {
        let failure = |what: &str| Failure::new(format!("`{index}` of `{section}` {what}"));
        match found {
            IndexKind::DataStream if !self.index.data_stream => Err(failure("is a data stream").hint("add --data-stream").into()),
            IndexKind::Indices if self.documents.ids() != Ids::Random => Err(Error::Refused(Refused {
                what: format!(
                    "`{index}` of `{section}` is an alias of several indices: a repeated record would be stored in each"
                ),
                numbers: Vec::new(),
                hint: "write to one index, or use --id uuid if repeated documents do not matter".to_owned(),
            })),
            IndexKind::Index | IndexKind::Indices if self.index.data_stream => {
                Err(failure("is not a data stream").hint("remove --data-stream").into())
            }
            _ => Ok(()),
        }
    }
}

/// Returns the section to write to: the one that is named, or else the one that the profile has.
pub(crate) fn target_section<'a>(named: Option<&'a str>, profile: &Profile) -> &'a str {
    let has = |name: &str| profile.section_names().any(|section| section == name);
    let usual = if has("opensearch") && !has("elasticsearch") { "opensearch" } else { "elasticsearch" };
    named.unwrap_or(usual)
}

impl IndexArgs {
    /// Returns the template of the index.
    ///
    /// # Errors
    /// When neither the flag nor the section names one.
    pub(crate) fn name(&self, section: &ElasticSection) -> Result<String, Error> {
        self.index.clone().or_else(|| section.default_index.clone()).ok_or_else(|| Error::Usage {
            what: "no index is named".to_owned(),
            hint: format!("name one with --index, or set `default_index` under [{}]", section.name),
        })
    }
}

/// The index, while the command starts.
struct TargetIndex<'a> {
    names: FlowNames,
    index: String,
    args: &'a Args,
    found: Option<IndexKind>,
    sink: &'a ElasticSink,
}

impl FlowTarget for TargetIndex<'_> {
    fn names(&self) -> &FlowNames {
        &self.names
    }

    async fn plan(&mut self, plan: &ReadPlan) -> Result<Vec<String>, Error> {
        let found = self.sink.index().await?;
        self.args.check_kind(&found, &self.index, &self.names.section)?;
        if self.args.index.no_create && found == IndexKind::Missing {
            return Err(may_not_create(&format!("`{}`", self.index), &self.names.section).into());
        }
        self.sink.check_pipeline().await?;
        if found == IndexKind::Missing {
            warn_of_missing_destination(&plan.partitions, &format!("index `{}`", self.index));
        }
        let template = self.args.index.bootstrap.map(|records| self.sink.template(records)).transpose()?;
        let template = template.map(|(name, names)| format!("index template {name} will be installed, for {names}"));
        let lines = self.sink.plan(&found).into_iter().chain(template).chain(self.args.documents.tombstone_line()).collect();
        self.found = Some(found);
        Ok(lines)
    }

    fn may_create(&self) -> bool {
        !self.args.index.no_create
    }

    async fn prepare(&mut self) -> Result<(), Error> {
        if let Some(records) = self.args.index.bootstrap {
            self.sink.bootstrap(records).await?;
        }
        self.sink.create(self.found.as_ref().expect("the plan has looked at the index")).await.map_err(with_template_hint)?;
        Ok(self.sink.check().await?)
    }
}
