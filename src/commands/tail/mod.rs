//! `sdl tail`.

mod filter;
mod last;
mod out;
mod output;
mod print;
mod tail_run;

use std::io::{IsTerminal as _, stdout};
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser as Text;
use regex::bytes::Regex;

use crate::commands::args::{PartitionList, ReportingShape, ShapingArgs, TopicArgs, parse_partitions, parse_position};
use crate::commands::{Context, run};
use crate::connectors::kafka::{Pos, Scanner, TopicInfo};
use crate::error::Error;
use crate::pipeline::Failure;
use crate::record::Partition;
use crate::shape::SelectedFields;
use crate::terminal::{ByteEncoding, LineFormat, PrettyPrinter};
use filter::{Filter, HeaderTest};
use output::Output;
use print::{Columns, Printer};
use tail_run::TailRun;

/// How long the first answer of a cluster is waited for.
const WAIT: Duration = Duration::from_secs(10);
/// How many records are shown unless it is said.
const LAST: u64 = 10;

/// Look at records: the last ones, those from a position on, or those to come
///
/// On a terminal the last 10 and then whatever comes, until interrupted; in a pipe the last 10. The last ones are those of all
/// topics and partitions together, by time. With filters they are the last that fit: the topics are searched backwards from
/// their ends, as far as it takes. It joins no group and commits nothing.
///
/// A terminal is shown records in colour, with nothing of them that could steer it. A pipe or file gets them as JSON lines, or with
/// `-o value` the values alone.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The Kafka section of the profile to read from
    #[arg(long, value_name = "SECTION", default_value = "local_kafka")]
    source: String,
    #[command(flatten)]
    what: SelectArgs,
    #[command(flatten)]
    which: FilterArgs,
    #[command(flatten)]
    shaping: ShapingArgs,
    #[command(flatten)]
    how: FormatArgs,
}

const EXAMPLES: &str = "\
Examples:
  sdl tail user-login
  sdl tail user-login -n 100 -o value | jq .device_type | sort | uniq -c
  sdl tail orders --start @-1h --where 'total > 100' --keep id,total
  sdl tail orders --grep 4711 -f '%t/%p@%o %k: %s\\n'
  sdl tail orders --start beginning -o ndjson | sdl produce-fake orders-copy --file -";

/// Flags that say what is read.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "What is read")]
struct SelectArgs {
    #[command(flatten)]
    topics: TopicArgs,
    /// Read only these partitions: 0,2-5
    #[arg(long, value_name = "LIST", value_parser = parse_partitions)]
    partitions: Option<PartitionList>,
    /// Where to start: `beginning`, `end`, `committed` (with --group), an offset, -N (N before the end), @UNIX, @RFC3339, @DATE, @-1h
    #[arg(long, value_name = "POS", allow_hyphen_values = true, value_parser = parse_position)]
    start: Option<Pos>,
    /// Where to stop, like --start [default: the end that there is now]
    #[arg(long, value_name = "POS", allow_hyphen_values = true, value_parser = parse_position, conflicts_with = "follow")]
    stop: Option<Pos>,
    /// The last so many records, which are held in memory; with --start the first so many from there
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<u64>,
    /// Go on with what comes, until interrupted [default: on a terminal, without --start, --stop and -n]
    #[arg(short = 'F', long)]
    follow: bool,
    /// The group whose position `committed` is; it is only asked for
    #[arg(long, value_name = "NAME", value_parser = Text::new())]
    group: Option<String>,
    /// Read records of open and aborted transactions too
    #[arg(long)]
    read_uncommitted: bool,
}

/// Flags that say which records are shown.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Which records are shown (all conditions must hold; see also --where)")]
struct FilterArgs {
    /// Only records whose key or value fits this regular expression
    #[arg(long, value_name = "REGEX")]
    grep: Vec<Regex>,
    /// Only records with this header, or with this value of it
    #[arg(long, value_name = "NAME[=VALUE]")]
    header: Vec<HeaderTest>,
}

/// Flags that say how records are shown.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "How they are shown")]
struct FormatArgs {
    /// Write each record like this, with kcat's tokens (see --help)
    ///
    /// %s value, %k key, %t topic, %p partition, %o offset, %T time in ms, %h headers (n=v,...), %S and %K length of value and key (-1
    /// for null), %R length of the value in four bytes, %% a percent sign; \n, \r, \t, \xNN, \0NNN (octal) for bytes. Null is written
    /// as nothing.
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<LineFormat>,
    /// Form of the output [default: `pretty` on a terminal, else `ndjson`; with --keep `table`]
    #[arg(short, long, value_name = "FORM", conflicts_with = "format")]
    output: Option<OutputFormat>,
    /// Write keys, headers and values as offset, hex and ASCII
    #[arg(long, conflicts_with_all = ["format", "output"])]
    hex: bool,
    /// Write keys, values and what headers hold in base64: a value a line, or in a --format
    #[arg(long, conflicts_with_all = ["output", "hex"])]
    base64: bool,
    /// Write values, or what --format or csv takes, byte by byte even on a terminal, which may obey them
    #[arg(long, conflicts_with_all = ["hex", "base64"])]
    raw_output: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum OutputFormat {
    /// For people: place, time, key, headers, and the value with its JSON in colour
    Pretty,
    /// The value and a line feed; null is an empty line
    Value,
    /// A JSON object a line with kcat's names; `sdl produce-fake --file -` reads it
    Ndjson,
    /// A row each, with the fields that --keep names
    Table,
    /// As a table, for programs
    Csv,
}

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// When the profile or the cluster cannot be used, a topic or partition is not there, or a flag does not fit.
    pub async fn run(self, context: &Context) -> Result<(), Error> {
        let section = context.kafka(&self.source)?;
        self.what.check()?;
        self.how.check()?;
        self.what.topics.named(&section)?;
        let shape = self.shaping.build(&context.profile, section.mask_key.as_ref())?;
        let filter = Filter { patterns: self.which.grep, headers: self.which.header, shape: shape.map(ReportingShape) };
        let terminal = stdout().is_terminal();
        let printer = self.how.printer(context, self.shaping.fields(&context.profile)?, terminal);
        let stop = run::stop_signal()?;
        let reader = Scanner::connect(&section, self.what.group.as_deref(), self.what.read_uncommitted, WAIT).await?;
        let screen = (context.screen.clone(), context.global.quiet);
        let what = self.what;
        let look = tokio::task::spawn_blocking(move || {
            let gate = Output::new((filter, printer), screen, stop, terminal)?;
            TailRun { reader, gate }.run(&what, &section, terminal)
        });
        look.await.map_err(|error| Failure::new("the records could not be read").because(error))?
    }
}

impl SelectArgs {
    fn check(&self) -> Result<(), Error> {
        if self.group.is_none() && [self.start, self.stop].contains(&Some(Pos::Committed)) {
            return Err(Error::Usage {
                what: "`committed` is the position of a group, and none is named".to_owned(),
                hint: "add --group NAME; the group is not joined, and nothing of it is changed".to_owned(),
            });
        }
        Ok(())
    }

    /// Returns the partitions of a topic that are read.
    fn partitions_of(&self, topic: &TopicInfo) -> impl Iterator<Item = Partition> {
        let wanted = |index: &i32| self.partitions.as_ref().is_none_or(|list| list.0.contains(index));
        (0..topic.partitions).filter(wanted).map(|index| Partition { topic: topic.topic, index })
    }

    /// Returns whether to go on behind the present end.
    fn follows(&self, terminal: bool) -> bool {
        self.follow || (terminal && self.start.is_none() && self.stop.is_none() && self.count.is_none())
    }
}

impl FormatArgs {
    fn check(&self) -> Result<(), Error> {
        if self.raw_output && matches!(self.output, Some(OutputFormat::Pretty | OutputFormat::Ndjson | OutputFormat::Table)) {
            return Err(Error::Usage {
                what: "--raw-output goes with values, --format and csv only".to_owned(),
                hint: "add -o value, or leave --raw-output out".to_owned(),
            });
        }
        Ok(())
    }

    /// Returns the form, for a terminal or for what is none.
    fn printer(&self, context: &Context, fields: Option<SelectedFields>, terminal: bool) -> Printer {
        let writing = match (self.base64, terminal && !self.raw_output) {
            (true, _) => ByteEncoding::Base64,
            (_, true) => ByteEncoding::Escaped,
            (_, false) => ByteEncoding::Raw,
        };
        if let Some(format) = &self.format {
            return Printer::Format(format.clone(), writing);
        }
        let pretty =
            PrettyPrinter::new(out::width(), context.global.color.on(terminal), jiff::tz::TimeZone::system(), "--hex shows them");
        if self.hex {
            return Printer::Dump(pretty);
        }
        match self.output.unwrap_or_else(|| self.usual(fields.is_some(), terminal)) {
            OutputFormat::Value => Printer::Format(LineFormat::value(), writing),
            OutputFormat::Ndjson => Printer::Ndjson,
            OutputFormat::Pretty => Printer::Pretty(pretty),
            OutputFormat::Table => Printer::table(Columns(fields), pretty),
            OutputFormat::Csv => Printer::Csv { columns: Columns(fields), writing, begun: false },
        }
    }

    fn usual(&self, fields: bool, terminal: bool) -> OutputFormat {
        match (self.base64 || (self.raw_output && terminal), fields, terminal) {
            (true, ..) => OutputFormat::Value,
            (_, true, _) => OutputFormat::Table,
            (.., true) => OutputFormat::Pretty,
            (.., false) => OutputFormat::Ndjson,
        }
    }
}
