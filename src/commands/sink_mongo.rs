//! `sdl sink-mongo`: Kafka to MongoDB.

use crate::commands::documents::{Documents, both};
use crate::commands::flow::{DOCUMENTS, DeliveryArgs, Flow};
use crate::commands::record_hints::WithHints;
use crate::commands::run::{self, ReportArgs};
use crate::commands::select::{self, ReadArgs};
use crate::commands::{Context, Shaping, transform};
use crate::connectors::kafka::Admin;
use crate::connectors::mongo::{InvalidMongoOptions, MongoClient, MongoSink, Write, collection_rule, database_rule};
use crate::error::Error;
use crate::pipeline::Sink as _;
use crate::profile::MongoSection;

/// Load topics into MongoDB
///
/// Each record becomes one document, acknowledged by a majority before its offset is committed. With the usual ids a record that
/// is delivered again changes nothing, so a run that was killed goes on where it left off: nothing is lost, and nothing is there
/// twice.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    select: ReadArgs,
    /// Section to read from
    #[arg(long, value_name = "SECTION", default_value = "local_kafka")]
    source: String,
    /// Section to write to
    #[arg(long, value_name = "SECTION", default_value = "mongodb")]
    target: String,
    /// Database, with {topic}, {field} and %Y-%m-%d of the record's time [default: the section's `default_database`]
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    /// Collection, likewise [default: the section's `default_collection`]
    #[arg(long, value_name = "NAME")]
    collection: Option<String>,
    /// How documents are written [default: insert, or replace with --id key and field]
    ///
    /// With `replace` and `update`, an older record never overwrites a newer one. `update` sets each field of the payload that
    /// stands outermost, and leaves the other fields of the document as they are.
    #[arg(long, value_name = "HOW")]
    write: Option<Write>,
    #[command(flatten)]
    documents: Documents,
    #[command(flatten)]
    shaping: Shaping,
    #[command(flatten)]
    deliver: DeliveryArgs,
    #[command(flatten)]
    watch: ReportArgs,
}

const EXAMPLES: &str = "\
Numbers: an integer is an int or a long by its size, and a decimal128 beyond that; any other number
is a double.

A delete leaves nothing behind that would tell an older write from a newer one. Such a write cannot
overtake a delete here, but one that the server carries out after it was given up (no answer for
30 s) brings the document back.

Examples:
  sdl sink-mongo                                   as the profile says, until it is interrupted
  sdl sink-mongo user-login --until-caught-up      up to the end that the topic has now
  sdl sink-mongo user-login --time-field timestamp --dead-letters topic:bad-logins
  sdl sink-mongo --topics-matching 'shop\\..*' --collection '{topic}-%Y-%m'
  sdl sink-mongo users --id key --on-tombstone delete      the newest version of each user";

/// Returns the error of options that do not go together.
fn invalid(options: InvalidMongoOptions) -> Error {
    let hint = match options {
        InvalidMongoOptions::InsertRepeatingIds => "use --write replace or --write update",
        InvalidMongoOptions::OverwriteRandomIds => "leave --write out",
        InvalidMongoOptions::OverwriteWithoutMetadata => "leave --no-meta out, or use --id offset without --write",
    };
    Error::Usage { what: options.to_string(), hint: hint.to_owned() }
}

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// When the run does not end well; see the exit codes.
    pub async fn run(self, context: &Context) -> Result<(), Error> {
        let (from, to) = (context.kafka(&self.source)?, context.mongo(&self.target)?);
        let (database, collection) = self.names(&to)?;
        let templates = vec![
            self.documents.naming("--database", &database, database_rule)?,
            self.documents.naming("--collection", &collection, collection_rule)?,
        ];
        let mapper = self.documents.mapper(templates)?;
        let write = Write::choose(self.write, &mapper).map_err(invalid)?;
        let watching = self.watch.begin(None).await?;
        let source = Admin::connect(&from, self.deliver.care.wait).await?;
        let topics = self.select.topics(&source, &from).await?;
        self.documents.check_topics(topics.len(), self.select.topics.topics_matching.is_some())?;
        let tombstones = self.documents.tombstones();
        let limits = self.deliver.limits(&DOCUMENTS, true, self.select.count);
        let client = MongoClient::connect(&to, limits.in_flight, self.deliver.care.wait).await?;
        let sink = MongoSink::new(client, mapper, Some(write), tombstones.is_none()).map_err(invalid)?;

        let group = self.select.group(&from, to.consumer_group_id.as_deref())?;
        let rules = self.select.rules(format!("sink-mongo {}/{database}.{collection}", to.name));
        let plan = self.select.plan(&source, &from, &topics, &group, &rules, context.global.yes).await?;
        let each_partition = self.watch.dry_run || context.global.verbose > 0;
        for line in select::plan_lines(&plan, each_partition).into_iter().chain(sink.plan().await?) {
            tracing::info!("{line}");
        }
        if self.watch.dry_run {
            context.say("dry run: nothing was changed\n");
            return Ok(());
        }
        // Before anything of the flow is changed: a run that cannot write, or set bad records aside, should not begin.
        sink.check().await?;
        let run = run::name();
        let letters = self.deliver.care.open_dead_letters(&context.profile, &from, &run, true).await?;
        plan.begin(&source, &rules.flow).await?;

        let records = self.select.open(&from, &plan, rules, &self.deliver.source_limits(&limits))?;
        let shape = self.shaping.build(&context.profile, from.mask_key.as_ref())?.map(transform);
        let flow = Flow {
            command: "sink-mongo",
            run,
            sections: [from.name, to.name],
            select: &self.select,
            deliver: &self.deliver,
            watching,
            backlog: plan.backlog(),
            source: records,
            sink: WithHints(sink),
            letters,
            transform: both(shape, tombstones),
            limits,
        };
        flow.run(context).await
    }

    /// Returns the templates of database and collection.
    fn names(&self, section: &MongoSection) -> Result<(String, String), Error> {
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
