//! `sdl sink-mongo`: Kafka to MongoDB.

use std::sync::Arc;

use crate::commands::Context;
use crate::commands::args::{
    DOCUMENT_DEFAULTS, DeliveryArgs, DocumentArgs, ReadArgs, ReportArgs, ShapingArgs, chain, named_by, transform,
};
use crate::commands::record_hints::WithHints;
use crate::commands::session::{FlowNames, FlowTarget, Replay, Session, warn_of_missing_destination};
use crate::commands::target_watch::watch_documents;
use crate::connectors::kafka::ReadPlan;
use crate::connectors::mongo::{InvalidMongoOptions, MongoClient, MongoSink, Write, collection_rule, database_rule};
use crate::error::Error;
use crate::pipeline::{Sink as _, WatchedSink};
use crate::profile::MongoSection;

/// Load topics into MongoDB
///
/// Each record becomes one document, acknowledged by a majority before its offset is committed. With the default ids a redelivered
/// record changes nothing: a run that was killed resumes where it stopped, and nothing is lost or stored twice.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    /// Section to read from
    #[arg(long, value_name = "SECTION", default_value = "local_kafka")]
    pub(crate) source: String,
    /// Section to write to
    #[arg(long, value_name = "SECTION", default_value = "mongodb")]
    pub(crate) target: String,
    #[command(flatten)]
    pub(crate) collection: CollectionArgs,
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
pub(crate) struct CollectionArgs {
    /// Database, with {topic}, {topic:lower}, {field} and %Y-%m-%d of the record's time [default: the section's `default_database`]
    #[arg(long, value_name = "NAME")]
    pub(crate) database: Option<String>,
    /// Collection, likewise [default: the section's `default_collection`]
    #[arg(long, value_name = "NAME")]
    pub(crate) collection: Option<String>,
    /// How documents are written [default: insert, or replace with --id key and field]
    ///
    /// With `replace` and `update`, an older record never overwrites a newer one. `update` sets each top-level field of the
    /// payload, and leaves the other fields of the document as they are.
    #[arg(long, value_name = "HOW")]
    pub(crate) write: Option<Write>,
}

const EXAMPLES: &str = "\
Numbers: an integer is an int or a long by its size, and a decimal128 beyond that; any other number
is a double.

MongoDB keeps no trace of a deleted document. A write that the server executes late (no answer for
30 s) can restore it.

Examples:
  sdl sink-mongo                                   as the profile says, until it is interrupted
  sdl sink-mongo user-login --until-caught-up      up to the end that the topic has now
  sdl sink-mongo user-login --time-field timestamp --dead-letters topic:bad-logins
  sdl sink-mongo --topics-matching 'shop\\..*' --collection '{topic}-%Y-%m'
  sdl sink-mongo users --id key --on-tombstone delete      the newest version of each user";

fn invalid(options: InvalidMongoOptions) -> Error {
    let hint = match options {
        InvalidMongoOptions::InsertRepeatingIds => "use --write replace or --write update",
        InvalidMongoOptions::OverwriteRandomIds => "remove --write",
        InvalidMongoOptions::OverwriteWithoutMetadata => "remove --no-meta, or use --id offset without --write",
    };
    Error::Usage { what: options.to_string(), hint: hint.to_owned() }
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
    /// When the run fails; see the exit codes.
    pub async fn run(self, context: &Context) -> Result<(), Error> {
        self.load(context, "sink-mongo", None).await
    }

    /// Loads the topics, or replays the dead letters that they hold.
    ///
    /// # Errors
    /// When the run fails; see the exit codes.
    pub(crate) async fn load(self, context: &Context, command: &'static str, replay: Option<Replay>) -> Result<(), Error> {
        let (from, to) = (context.kafka(&self.source)?, context.mongo(&self.target)?);
        let (database, collection) = self.collection.names(&to)?;
        let origin = |flag: &Option<String>, what| named_by(flag.as_ref(), what, &to.name);
        let mapper = self.documents.mapper(vec![
            self.documents.naming(&origin(&self.collection.database, "database"), &database, database_rule)?,
            self.documents.naming(&origin(&self.collection.collection, "collection"), &collection, collection_rule)?,
        ])?;
        let mapper = mapper.with_dates(self.shaping.dates(&context.profile)?);
        let write = Write::choose(self.collection.write, &mapper).map_err(invalid)?;
        let tombstones = self.documents.tombstones();
        let limits = self.delivery.limits(&DOCUMENT_DEFAULTS, self.read.count);
        let shape = self.shaping.build(&context.profile, from.mask_key.as_ref())?.map(transform);
        let args = (&self.read, &self.delivery.failure, &self.report);
        let session = Session::connect(context, command, from, args, None).await?.replaying(replay.as_ref());
        self.documents.check(&mapper, Replay::origins(replay.as_ref(), &session.topics), &self.read.topics)?;
        let client = MongoClient::connect(&to, limits.in_flight, self.delivery.failure.wait).await?;
        let sink = MongoSink::new(client, mapper, Some(write), tombstones.is_none()).map_err(invalid)?;
        let names = FlowNames::of_sink("sink-mongo", &to.name, &format!("{database}.{collection}"), to.consumer_group_id.clone());
        let mut destination = TargetCollection { names, documents: &self.documents, sink: &sink };
        let Some(session) = session.start(&mut destination).await? else { return Ok(()) };

        let (transform, source_limits) = (chain(shape, tombstones), self.delivery.source_limits(&limits));
        let watcher = sink.identity().map(Arc::new).map(|identity| {
            watch_documents(format!("collection `{}` of `{}`", identity.name(), to.name), move || {
                let identity = Arc::clone(&identity);
                async move { identity.look().await }
            })
        });
        Box::pin(session.run(WatchedSink::new(WithHints(sink), watcher), transform, limits, &source_limits)).await
    }
}

impl CollectionArgs {
    /// Returns the templates of database and collection.
    ///
    /// # Errors
    /// When neither a flag nor the section names one.
    pub(crate) fn names(&self, section: &MongoSection) -> Result<(String, String), Error> {
        let name = |flag: &Option<String>, default: &Option<String>, what: &str| {
            flag.clone().or_else(|| default.clone()).ok_or_else(|| Error::Usage {
                what: format!("no {what} is named"),
                hint: format!("name one with --{what}, or set `default_{what}` under [{}]", section.name),
            })
        };
        Ok((
            name(&self.database, &section.default_database, "database")?,
            name(&self.collection, &section.default_collection, "collection")?,
        ))
    }
}

/// The collection, while the command starts.
struct TargetCollection<'a> {
    names: FlowNames,
    documents: &'a DocumentArgs,
    sink: &'a MongoSink,
}

impl FlowTarget for TargetCollection<'_> {
    fn names(&self) -> &FlowNames {
        &self.names
    }

    async fn plan(&mut self, plan: &ReadPlan) -> Result<Vec<String>, Error> {
        if let Some(name) = self.sink.missing().await? {
            warn_of_missing_destination(&plan.partitions, &format!("collection `{name}`"));
        }
        Ok(self.sink.plan().await?.into_iter().chain(self.documents.tombstone_line()).collect())
    }

    async fn prepare(&mut self) -> Result<(), Error> {
        Ok(self.sink.check().await?)
    }
}
