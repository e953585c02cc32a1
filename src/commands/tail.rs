//! `sdl tail`.

mod filter;
mod last;
mod out;
mod output;
mod print;
mod select_args;
mod tail_run;

use std::io::{IsTerminal as _, stdout};
use std::time::Duration;

use regex::bytes::Regex;

use crate::commands::args::{ReportingShape, ShapingArgs, parse_regex};
use crate::commands::{Context, terminal_width};
use crate::connectors::kafka::Scanner;
use crate::error::Error;
use crate::pipeline::Failure;
use crate::shape::SelectedFields;
use crate::terminal::{ByteEncoding, LineFormat, PrettyPrinter};
use filter::{Filter, HeaderTest};
use output::Output;
use print::{Columns, Printer};
use select_args::SelectArgs;
use tail_run::{SelectedPartitions, TailRun};

/// How long the command waits for the first answer of the cluster.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Show records: the last ones, those from a position on, or new ones
///
/// On a terminal: the last 10 records, then new ones until interrupted. In a pipe: the last 10. "Last" is by time, over all topics
/// and partitions together; with filters, the last that match: the topics are searched backwards from their ends as far as
/// necessary. Joins no group and commits nothing.
///
/// On a terminal, records are coloured and control characters in them are escaped. A pipe or file gets JSON lines, or with
/// `-o value` the values alone.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Kafka section of the profile to read from
    #[arg(long, value_name = "SECTION", default_value = "local_kafka")]
    source: String,
    #[command(flatten)]
    select: SelectArgs,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    shaping: ShapingArgs,
    #[command(flatten)]
    format: FormatArgs,
}

const EXAMPLES: &str = "\
Examples:
  sdl tail user-login
  sdl tail user-login -n 100 -o value | jq .device_type | sort | uniq -c
  sdl tail orders --start @-1h --where 'total > 100' --keep id,total
  sdl tail orders --grep 4711 -f '%t/%p@%o %k: %s\\n'
  sdl tail orders --start beginning -o ndjson | sdl produce-fake orders-copy --file -";

/// Flags that choose which records are shown.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Which records are shown (all conditions must hold; see also --where)")]
struct FilterArgs {
    /// Only records whose key or value matches this regular expression
    #[arg(long, value_name = "REGEX", value_parser = parse_regex)]
    grep: Vec<Regex>,
    /// Only records with this header, or with this value of the header
    #[arg(long, value_name = "NAME[=VALUE]")]
    header: Vec<HeaderTest>,
}

/// Flags that choose the output format.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "How records are shown")]
struct FormatArgs {
    /// Write each record in this format, with kcat's tokens (see --help)
    ///
    /// %s value, %k key, %t topic, %p partition, %o offset, %T time in ms, %h headers (n=v,...), %S and %K length of value and key (-1
    /// for null), %R length of the value in four bytes, %% a percent sign; \n, \r, \t, \xNN, \0NNN (octal) for bytes. Null is
    /// written as nothing.
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<LineFormat>,
    /// Output format [default: `pretty` on a terminal, else `ndjson`; with --keep `table`]
    #[arg(short, long, value_name = "FORMAT", conflicts_with = "format")]
    output: Option<TailFormat>,
    /// Write keys, headers and values as a hex dump with offsets and ASCII
    #[arg(long, conflicts_with_all = ["format", "output"])]
    hex: bool,
    /// Write keys, values and header values in base64: one value per line, or in a --format
    #[arg(long, conflicts_with_all = ["output", "hex"])]
    base64: bool,
    /// Write values, --format and csv unescaped even on a terminal, which may interpret control characters
    #[arg(long, conflicts_with_all = ["hex", "base64"])]
    raw_output: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum TailFormat {
    /// For people: partition, offset, time, key, headers, and the value with coloured JSON
    Pretty,
    /// The value and a newline; null is an empty line
    Value,
    /// One JSON object per line with kcat's names; `sdl produce-fake --file -` reads it
    Ndjson,
    /// One row per record, with the fields that --keep names
    Table,
    /// Like table, for programs
    Csv,
}

impl Args {
    /// Runs the command.
    ///
    /// # Errors
    /// When the profile or the cluster cannot be used, a topic or partition does not exist, or a flag is wrong.
    pub async fn run(self, context: &Context) -> Result<(), Error> {
        let section = context.kafka(&self.source)?;
        self.select.check()?;
        self.format.check()?;
        self.select.topics.named(&section)?;
        let shape = self.shaping.build(&context.profile, section.mask_key.as_ref())?;
        let filter = Filter {
            patterns: self.filter.grep,
            headers: self.filter.header,
            shape: shape.map(|shape| ReportingShape { shape, commits: false }),
        };
        let terminal = stdout().is_terminal();
        let printer = self.format.printer(context, self.shaping.fields(&context.profile)?, terminal);
        let stop = context.stop.clone();
        let scanner =
            Scanner::connect(&section, self.select.group.as_deref(), self.select.read_uncommitted, CONNECT_TIMEOUT).await?;
        let screen = (context.screen.clone(), context.global.quiet);
        let select = self.select;
        let running = tokio::task::spawn_blocking(move || {
            let partitions = SelectedPartitions::find(&scanner, &select, &section, select.follows(terminal))?;
            let output = Output::new((filter, printer), screen, stop.receiver(), terminal)?;
            TailRun { scanner, output }.run(&select, &section, &partitions, terminal)
        });
        running.await.map_err(|error| Failure::new("the records could not be read").because(error))?
    }
}

impl FormatArgs {
    fn check(&self) -> Result<(), Error> {
        if self.raw_output && matches!(self.output, Some(TailFormat::Pretty | TailFormat::Ndjson | TailFormat::Table)) {
            return Err(Error::Usage {
                what: "--raw-output applies to values, --format and csv only".to_owned(),
                hint: "add -o value, or remove --raw-output".to_owned(),
            });
        }
        Ok(())
    }

    fn printer(&self, context: &Context, fields: Option<SelectedFields>, terminal: bool) -> Printer {
        let encoding = match (self.base64, terminal && !self.raw_output) {
            (true, _) => ByteEncoding::Base64,
            (_, true) => ByteEncoding::Escaped,
            (_, false) => ByteEncoding::Raw,
        };
        if let Some(format) = &self.format {
            return Printer::Format(format.clone(), encoding);
        }
        let pretty = PrettyPrinter::new(
            terminal_width().unwrap_or(100),
            context.global.color.on(terminal),
            jiff::tz::TimeZone::system(),
            "--hex shows them",
        );
        if self.hex {
            return Printer::Dump(pretty);
        }
        match self.output.unwrap_or_else(|| self.default_format(fields.is_some(), terminal)) {
            TailFormat::Value => Printer::Format(LineFormat::value(), encoding),
            TailFormat::Ndjson => Printer::Ndjson,
            TailFormat::Pretty => Printer::Pretty(pretty),
            TailFormat::Table => Printer::table(Columns(fields), pretty),
            TailFormat::Csv => Printer::Csv { columns: Columns(fields), encoding, header_written: false },
        }
    }

    fn default_format(&self, fields: bool, terminal: bool) -> TailFormat {
        match (self.base64 || (self.raw_output && terminal), fields, terminal) {
            (true, ..) => TailFormat::Value,
            (_, true, _) => TailFormat::Table,
            (.., true) => TailFormat::Pretty,
            (.., false) => TailFormat::Ndjson,
        }
    }
}
