//! The command line: parse, dispatch, print the error, exit code.

mod run_section;

use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal as _, Write as _, stderr};
use std::path::PathBuf;
use std::sync::Arc;

use clap::error::{ContextKind, ContextValue};
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _};

use crate::commands::args::{ReportArgs, SummaryFormat, fault_warnings as shape_warnings};
use crate::commands::run;
use crate::commands::stop_signal::StopSignal;
use crate::commands::{Color, Context, Global, LogFormat, SystemEnvironment};
use crate::commands::{
    aggregate, completions, demo, dlq, doctor, health, help, lag, man, offsets, produce_fake, profile, replicate, sandbox,
    sink_es, sink_mongo, tail, topics,
};
use crate::error::Error;
use crate::pipeline::Failure;
use crate::profile::{Profile, SectionKind};
use crate::report::{LogOptions, Screen};

/// Move Kafka records where they are needed, and account for every one
///
/// One binary and one profile (`database.ini`). Every command has its own --help.
#[derive(Debug, clap::Parser)]
#[command(name = "sdl", version, max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
#[command(disable_help_subcommand = true)]
#[command(after_help = after_help())]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

fn after_help() -> String {
    let codes: Vec<_> = help::EXIT_CODES.iter().map(|(code, meaning)| format!("{code} {meaning}")).collect();
    format!(
        "More: sdl help {}
Exit codes: {}",
        help::topics().join(", "),
        codes.join(" · ")
    )
}

/// The commands, one file of `commands/` each.
#[derive(Debug, clap::Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one, made once")]
enum Command {
    Replicate(Box<replicate::Args>),
    SinkMongo(Box<sink_mongo::Args>),
    SinkEs(Box<sink_es::Args>),
    Aggregate(Box<aggregate::Args>),
    ProduceFake(produce_fake::Args),
    Tail(Box<tail::Args>),
    Lag(Box<lag::Args>),
    Topics(topics::Args),
    Offsets(offsets::Args),
    Dlq(dlq::Args),
    Doctor(doctor::Args),
    Profile(profile::Args),
    Demo(demo::Args),
    Sandbox(sandbox::Args),
    Health(health::Args),
    Help(help::Args),
    Man(man::Args),
    Completions(completions::Args),
}

impl Command {
    async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Self::Replicate(args) => args.run(context).await,
            Self::SinkMongo(args) => args.run(context).await,
            Self::SinkEs(args) => args.run(context).await,
            Self::Aggregate(args) => args.run(context).await,
            Self::ProduceFake(args) => args.run(context).await,
            Self::Tail(args) => args.run(context).await,
            Self::Lag(args) => args.run(context).await,
            Self::Topics(args) => args.run(context).await,
            Self::Offsets(args) => args.run(context).await,
            Self::Dlq(args) => args.run(context).await,
            Self::Doctor(args) => args.run(context).await,
            Self::Profile(args) => args.run(context).await,
            Self::Demo(args) => args.run(context).await,
            Self::Sandbox(args) => args.run(context).await,
            Self::Health(args) => args.run(context).await,
            Self::Help(args) => args.run(context, command()),
            Self::Man(args) => args.run(context, command()),
            Self::Completions(args) => args.run(),
        }
    }
}

/// Returns the command line with help texts, for help and completions.
#[must_use]
pub fn command() -> clap::Command {
    accept_signs(Cli::command())
}

/// The names of values that begin with a number.
const NUMBERS: [&str; 7] = ["N", "DURATION", "SIZE", "RATE", "FRACTION", "N/DURATION", "FRACTION:DURATION"];

/// Lets `-n -5` and `--wait -5s` reach the parser of the value, whose error names what is expected.
fn accept_signs(command: clap::Command) -> clap::Command {
    let accept = |arg: clap::Arg| {
        let is_option = arg.get_action().takes_values() && !arg.is_positional();
        let names = arg.get_value_names().unwrap_or_default();
        if is_option && names.iter().any(|name| NUMBERS.contains(&name.as_str())) {
            arg.allow_hyphen_values(true)
        } else if is_option {
            arg.allow_negative_numbers(true)
        } else {
            arg
        }
    };
    command.mut_args(accept).mut_subcommands(accept_signs)
}

/// Removes the tip to write `-- -5s`, which is wrong for the value of a flag.
fn without_escape_tip(mut error: clap::Error) -> clap::Error {
    let is_number =
        |argument: &str| argument.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if matches!(error.get(ContextKind::InvalidArg), Some(ContextValue::String(argument)) if is_number(argument)) {
        error.remove(ContextKind::Suggested);
    }
    error
}

/// Parses the command line, runs the command and returns the exit code.
#[must_use]
pub fn main() -> u8 {
    std::panic::set_hook(Box::new(report_panic));
    match completions::answer(command) {
        Ok(false) => {}
        Ok(true) => return 0,
        Err(error) => return report(&error, Color::Auto),
    }
    let arguments: Vec<_> = std::env::args_os().collect();
    match parse(&arguments) {
        Ok((command, context, matches)) => {
            if let Err(error) = start_logging(&command, &context, &matches) {
                return report(&error, context.global.color);
            }
            let outcome = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
                Ok(runtime) => {
                    let outcome = runtime.block_on(async {
                        if command.runs_until_stopped() {
                            context.stop.listen(command.unbegun_summary(), context.screen.clone())?;
                        }
                        Box::pin(command.run(&context)).await
                    });
                    runtime.shutdown_background();
                    outcome
                }
                Err(error) => Err(Error::Failed(Failure::new("cannot start").because(error))),
            };
            outcome.map_or_else(|error| report_run(&error, &context.global), |()| 0)
        }
        Err(Unparsed::Usage(error)) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            // A closed pipe is not a failure.
            let _ = error.print();
            code
        }
        Err(Unparsed::Error(error, color)) => report(&error, color),
    }
}

/// Returns stderr, with progress bars only for text logs on a terminal.
fn screen(global: &Global) -> Screen {
    Screen::new(stderr().is_terminal() && global.log_format == LogFormat::Text)
}

/// Initialises logging, and logs the warnings of the profile. A dry run has no log file, and checks that there could be one.
fn start_logging(command: &Command, context: &Context, matches: &ArgMatches) -> Result<(), Error> {
    crate::commands::environment::check_time_zone()?;
    let Global { log_format, log_dir, quiet, verbose, color, yes, .. } = &context.global;
    let is_dry_run = command.is_dry_run(*yes);
    let stamp = jiff::Zoned::now().strftime("%Y%m%d_%H%M%S").to_string();
    let file = log_dir.as_ref().map(|dir| dir.join(format!("{stamp}_{}.log", command.name())));
    let unusable = |failure: Failure| failure.hint("name a writable directory with --log-dir");
    if let Some(file) = file.as_ref().filter(|_| is_dry_run) {
        crate::report::check_log_file(file).map_err(unusable)?;
    }
    let options = LogOptions {
        json: *log_format == LogFormat::Json,
        quiet: *quiet,
        verbose: *verbose,
        color: color.on(stderr().is_terminal()),
        file: file.filter(|_| !is_dry_run),
    };
    crate::report::init(&options, &context.screen).map_err(unusable)?;
    Context::warn(context.profile.warnings());
    let profile = &context.profile;
    let is_used = |section: &str, kind| command.uses(profile, section, kind) || names(matches, section);
    Context::warn(&profile.fault_warnings(is_used));
    Context::warn(&run_section::fault_warnings(&self::command(), command.name(), profile));
    Context::warn(&shape_warnings(profile, |shape| values_of(matches, "shape").iter().any(|value| *value == shape)));
    Ok(())
}

/// Returns whether an argument names the section, alone or in `topic:SECTION/NAME`.
fn names(matches: &ArgMatches, section: &str) -> bool {
    let values = matches.ids().filter_map(|id| matches.try_get_raw(id.as_str()).ok().flatten()).flatten();
    let topic = format!("topic:{section}/");
    let is_named = values.filter_map(OsStr::to_str).any(|value| value == section || value.starts_with(&topic));
    is_named || matches.subcommand().is_some_and(|(_, matches)| names(matches, section))
}

/// Returns the values of an argument, of the program or of its subcommands.
fn values_of<'a>(matches: &'a ArgMatches, id: &str) -> Vec<&'a OsStr> {
    let own = matches.try_get_raw(id).ok().flatten().into_iter().flatten();
    own.chain(matches.subcommand().into_iter().flat_map(|(_, matches)| values_of(matches, id))).collect()
}

/// Outcome of a command line without a command to run.
enum Unparsed {
    Usage(clap::Error),
    Error(Error, Color),
}

/// Returns the command, its context and its arguments. Flags of the command that `[run.COMMAND]` sets and `arguments` do not are as if typed.
fn parse(arguments: &[OsString]) -> Result<(Command, Context, ArgMatches), Unparsed> {
    let parsed = |arguments: &[OsString]| {
        let matches = command().try_get_matches_from(arguments).map_err(|error| Unparsed::Usage(without_escape_tip(error)))?;
        let cli = Cli::from_arg_matches(&matches).map_err(Unparsed::Usage)?;
        Ok((cli, matches))
    };
    let (cli, matches) = parsed(arguments)?;
    let color = cli.global.color;
    let wrong = |error: Error| Unparsed::Error(error, color);
    if !cli.command.needs_profile() {
        return Ok((cli.command, context(Profile::default(), cli.global), matches));
    }
    let file: Option<PathBuf> = cli.global.profile.clone();
    let profile = Profile::load(file.as_deref(), Arc::new(SystemEnvironment)).map_err(|error| wrong(error.into()))?;
    let set = run_section::flags(&command(), &matches, &profile).map_err(|error| wrong(error.into()))?;
    let (cli, matches) = if set.is_empty() {
        (cli, matches)
    } else {
        match parsed(&run_section::inserted(arguments, &set)) {
            Ok(parsed) => parsed,
            Err(Unparsed::Usage(error)) => {
                let error = run_section::blame(&error, &matches, &set, &profile)
                    .map_or(Unparsed::Usage(error), |blamed| wrong(blamed.into()));
                return Err(error);
            }
            Err(error) => return Err(error),
        }
    };
    Ok((cli.command, context(profile, cli.global), matches))
}

fn context(profile: Profile, global: Global) -> Context {
    Context { profile, screen: screen(&global), stop: StopSignal::default(), global }
}

impl Command {
    /// Returns the command's name as it is typed.
    fn name(&self) -> &'static str {
        match self {
            Self::Replicate(_) => "replicate",
            Self::SinkMongo(_) => "sink-mongo",
            Self::SinkEs(_) => "sink-es",
            Self::Aggregate(_) => "aggregate",
            Self::ProduceFake(_) => "produce-fake",
            Self::Tail(_) => "tail",
            Self::Lag(_) => "lag",
            Self::Topics(_) => "topics",
            Self::Offsets(_) => "offsets",
            Self::Dlq(_) => "dlq",
            Self::Doctor(_) => "doctor",
            Self::Profile(_) => "profile",
            Self::Demo(_) => "demo",
            Self::Sandbox(_) => "sandbox",
            Self::Health(_) => "health",
            Self::Help(_) => "help",
            Self::Man(_) => "man",
            Self::Completions(_) => "completions",
        }
    }

    /// Returns how a run of the command is reported, if it moves records.
    fn reporting(&self) -> Option<ReportArgs> {
        match self {
            Self::Replicate(args) => Some(args.reporting()),
            Self::SinkMongo(args) => Some(args.reporting()),
            Self::SinkEs(args) => Some(args.reporting()),
            Self::Aggregate(args) => Some(args.reporting()),
            Self::ProduceFake(args) => Some(args.reporting()),
            Self::Dlq(args) => args.reporting(),
            Self::Tail(_)
            | Self::Lag(_)
            | Self::Topics(_)
            | Self::Offsets(_)
            | Self::Doctor(_)
            | Self::Profile(_)
            | Self::Demo(_)
            | Self::Sandbox(_)
            | Self::Health(_)
            | Self::Help(_)
            | Self::Man(_)
            | Self::Completions(_) => None,
        }
    }

    /// Returns whether the command only shows what it would do; `yes` is the global flag.
    fn is_dry_run(&self, yes: bool) -> bool {
        match self {
            Self::Offsets(args) => args.is_dry_run(yes),
            _ => self.reporting().is_some_and(|report| report.dry_run),
        }
    }

    /// Returns the summary of a run that a signal ends before it begins, if stdout gets one.
    fn unbegun_summary(&self) -> Option<String> {
        let report = self.reporting().filter(|report| report.output == SummaryFormat::Json && !report.dry_run);
        report.map(|_| run::unbegun_summary(self.name(), !matches!(self, Self::ProduceFake(_))))
    }

    /// Returns whether a signal stops the command, rather than kill it.
    fn runs_until_stopped(&self) -> bool {
        match self {
            Self::Replicate(_)
            | Self::SinkMongo(_)
            | Self::SinkEs(_)
            | Self::Aggregate(_)
            | Self::ProduceFake(_)
            | Self::Tail(_)
            | Self::Demo(_)
            | Self::Sandbox(_) => true,
            Self::Lag(args) => args.repeats(),
            Self::Dlq(args) => args.reporting().is_some(),
            Self::Doctor(args) => args.makes_round_trips(),
            Self::Offsets(args) => args.repeats(),
            Self::Topics(_) | Self::Profile(_) | Self::Health(_) | Self::Help(_) | Self::Man(_) | Self::Completions(_) => false,
        }
    }

    /// Returns whether the command uses the section, which is of this type, without being given its name.
    fn uses(&self, profile: &Profile, section: &str, kind: Option<SectionKind>) -> bool {
        match self {
            Self::SinkEs(args) => args.target(profile) == section,
            Self::Lag(args) => kind == Some(SectionKind::Kafka) && args.surveys_every_cluster(),
            Self::Topics(args) => kind == Some(SectionKind::Kafka) && args.surveys_every_cluster(),
            Self::Dlq(args) => kind == Some(SectionKind::Kafka) && args.surveys_every_cluster(),
            Self::Doctor(args) => args.examines(kind),
            Self::Profile(args) => args.shows_every_section(),
            _ => false,
        }
    }

    /// Returns whether the command reads the profile: one that does not must run beside a broken one.
    fn needs_profile(&self) -> bool {
        match self {
            Self::Demo(_) | Self::Sandbox(_) | Self::Health(_) | Self::Help(_) | Self::Man(_) | Self::Completions(_) => false,
            Self::Profile(args) => args.needs_profile(),
            Self::Aggregate(_)
            | Self::Replicate(_)
            | Self::SinkEs(_)
            | Self::ProduceFake(_)
            | Self::SinkMongo(_)
            | Self::Tail(_)
            | Self::Lag(_)
            | Self::Topics(_)
            | Self::Offsets(_)
            | Self::Dlq(_)
            | Self::Doctor(_) => true,
        }
    }
}

/// Logs the error that ended a command, prints it where people read stderr, and returns its exit code.
fn report_run(error: &Error, global: &Global) -> u8 {
    let code = error.exit_code();
    if code != 0 {
        let (what, mut causes) = error.what_and_causes();
        if let Error::Refused(refused) = error {
            causes.extend(refused.numbers.iter().cloned());
        }
        crate::report::log_error(&what, &causes, error.hint().as_deref(), code);
    }
    if global.log_format == LogFormat::Json { code } else { report(error, global.color) }
}

/// Prints the error to stderr, except for a closed pipe, and returns its exit code.
fn report(error: &Error, color: Color) -> u8 {
    let code = error.exit_code();
    if code != 0 {
        let mut text = error.render();
        if color.on(stderr().is_terminal()) {
            text = coloured(&text);
        }
        // A failed write to stderr cannot be reported.
        let _ = stderr().write_all(text.as_bytes());
    }
    code
}

/// Returns the rendered error with its labels in colour.
fn coloured(text: &str) -> String {
    use clap::builder::styling::AnsiColor;
    let label = |line: &str, label: &str, color: AnsiColor| {
        let style = color.on_default().bold();
        line.strip_prefix(label).map(|rest| format!("{style}{label}{style:#}{rest}\n"))
    };
    let line = |line: &str| {
        label(line, "error:", AnsiColor::Red)
            .or_else(|| label(line, "hint:", AnsiColor::Cyan))
            .unwrap_or_else(|| format!("{line}\n"))
    };
    text.lines().map(line).collect()
}

/// Reports an internal error by its location. A formatted message can quote a payload: only a literal message is shown.
fn report_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let place = panic.location().map_or_else(String::new, |place| format!(" at {}:{}", place.file(), place.line()));
    let sentence =
        panic.payload().downcast_ref::<&'static str>().map_or_else(String::new, |text| format!("\n  caused by: {text}"));
    let hint = "hint: this is a bug in sdl; the next run reads uncommitted records again";
    let backtrace = std::backtrace::Backtrace::capture();
    let backtrace =
        if backtrace.status() == std::backtrace::BacktraceStatus::Captured { format!("{backtrace}") } else { String::new() };
    let _ = stderr().write_all(format!("internal error{place}{sentence}\n{hint}\n{backtrace}").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the names of the commands, each with its flags whose value has this name.
    fn flags(value: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for subcommand in command().get_subcommands() {
            for arg in subcommand.get_arguments() {
                let is_meant = arg.get_value_names().unwrap_or_default().iter().any(|name| name.as_str() == value);
                if let Some(long) = arg.get_long().filter(|_| is_meant) {
                    found.push((subcommand.get_name().to_owned(), format!("--{long}")));
                }
            }
        }
        found
    }

    #[test]
    fn a_malformed_number_with_a_unit_is_refused_in_the_same_words_by_every_flag() {
        for (value, at_least, expected) in [
            ("DURATION", 20, "not a duration: use numbers with units, as in 500ms, 30s or 1h30m"),
            ("SIZE", 3, "not a size: use bytes, kB, MB, GB, KiB, MiB or GiB, as in 8MB"),
            ("RATE", 4, "not a rate: use records per second, as in 5000, or bytes per second, as in 5MB"),
        ] {
            let flags = flags(value);
            assert!(flags.len() >= at_least, "{value}: {flags:?}");
            for (name, flag) in flags {
                for text in ["-5s", "-5MB", "5 parsecs", "five", ""] {
                    let error =
                        command().try_get_matches_from(["sdl", name.as_str(), flag.as_str(), text]).unwrap_err().to_string();
                    assert!(error.contains(expected), "{name} {flag} {text}: {error}");
                }
            }
        }
    }

    #[test]
    fn a_count_with_a_unit_is_refused_by_its_parser() {
        let error = command().try_get_matches_from(["sdl", "tail", "t", "-n", "-5k"]).unwrap_err().to_string();
        assert!(error.contains("a whole number is needed"), "{error}");
    }
}
