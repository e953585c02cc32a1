//! `sdl completions`, and the candidates that a shell asks for.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use clap::builder::ValueHint;
use clap::{Arg, Command};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::{Bash, CompleteEnv, EnvCompleter, Fish, Zsh};

use crate::commands::{SystemEnvironment, help};
use crate::error::Error;
use crate::pipeline::Failure;
use crate::profile::{Profile, SectionKind, WELL_KNOWN};

/// The variable that a shell's script sets to ask for candidates.
const REQUEST_VARIABLE: &str = "_SDL_COMPLETE";

/// Print shell completions
///
/// They complete commands and flags, and the sections, shapes, topics and groups of the profile.
///
/// bash: `sdl completions bash > ~/.local/share/bash-completion/completions/sdl`. zsh: `sdl completions zsh > _sdl` in a
/// directory of $fpath. fish: `sdl completions fish > ~/.config/fish/completions/sdl.fish`. Repeat after an upgrade.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    shell: Shell,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Args {
    /// Prints the script that the shell loads.
    ///
    /// # Errors
    /// When stdout fails.
    pub fn run(self) -> Result<(), Error> {
        let shell: &dyn EnvCompleter = match self.shell {
            Shell::Bash => &Bash,
            Shell::Zsh => &Zsh,
            Shell::Fish => &Fish,
        };
        let mut script = Vec::new();
        shell.write_registration(REQUEST_VARIABLE, "sdl", "sdl", "sdl", &mut script)?;
        if matches!(self.shell, Shell::Zsh) {
            // Zsh autoloads a file of $fpath at the first completion and runs it then.
            script.extend_from_slice(b"[[ $funcstack[1] = _sdl ]] && _clap_dynamic_completer_sdl \"$@\"\n");
        }
        Ok(std::io::stdout().write_all(&script)?)
    }
}

/// Answers a shell that asks for candidates; returns whether one did.
///
/// # Errors
/// When the shell is unknown, or stdout fails.
pub fn answer(command: fn() -> Command) -> Result<bool, Error> {
    let directory = std::env::current_dir().ok();
    let completer =
        CompleteEnv::with_factory(move || with_all_candidates(command())).var(REQUEST_VARIABLE).bin("sdl").completer("sdl");
    let answered = completer.try_complete(std::env::args_os(), directory.as_deref());
    answered.map_err(|error| Failure::new("cannot complete the command line").because(error).into())
}

/// Returns the command line with candidates, also for the arguments of `sdl help`.
fn with_all_candidates(root: Command) -> Command {
    let commands = root.get_subcommands().map(Command::get_name);
    // `offsets` is a command and a topic.
    let words: BTreeSet<String> = commands.chain(help::topics()).map(str::to_owned).collect();
    let candidates = ArgValueCandidates::new(move || words.iter().map(CompletionCandidate::new).collect());
    with_candidates(root).mut_subcommand("help", |help| help.mut_arg("words", |words| words.add(candidates)))
}

/// Returns `command` with candidates for every flag and argument whose values the profile knows. A flag means the same in every
/// command: its name is enough.
fn with_candidates(command: Command) -> Command {
    // The default target of sink-es depends on the profile.
    let searches = command.get_name() == "sink-es";
    let command = command.mut_args(|arg| match arg.get_id().as_str() {
        "source" => arg.add(ArgValueCandidates::new(|| sections(&[SectionKind::Kafka]))),
        "target" if searches => {
            arg.add(ArgValueCandidates::new(|| sections(&[SectionKind::Elasticsearch, SectionKind::Opensearch])))
        }
        "target" | "section" => {
            let kind = kind_of(&arg);
            arg.add(ArgValueCandidates::new(move || sections(kind.as_slice())))
        }
        "shape" => arg.add(from_profile(|profile| profile.shape_names().map(str::to_owned).collect())),
        "topic" | "topics" => {
            arg.add(from_profile(|profile| values(profile, &["default_consumer_topic", "default_producer_topic"])))
        }
        "group" | "groups" | "to_group" => {
            arg.add(from_profile(|profile| values(profile, &["default_consumer_group_id", "consumer_group_id"])))
        }
        "profile" | "file" => arg.value_hint(ValueHint::FilePath),
        "log_dir" => arg.value_hint(ValueHint::DirPath),
        _ => arg,
    });
    command.mut_subcommands(with_candidates)
}

/// Returns the type of section that a flag takes, by its default.
fn kind_of(arg: &Arg) -> Option<SectionKind> {
    let default = arg.get_default_values().first()?;
    WELL_KNOWN.iter().find(|(name, _)| *name == default).map(|(_, kind)| *kind)
}

/// Returns the sections of these kinds, or all if `kinds` is empty.
fn sections(kinds: &[SectionKind]) -> Vec<CompletionCandidate> {
    let profile = profile();
    let wanted = |name: &&str| kinds.is_empty() || profile.kind(name).is_some_and(|kind| kinds.contains(&kind));
    let candidate = |name: &str| CompletionCandidate::new(name).help(profile.servers(name).map(Into::into));
    profile.section_names().filter(wanted).map(candidate).collect()
}

fn from_profile(values: fn(&Profile) -> Vec<String>) -> ArgValueCandidates {
    ArgValueCandidates::new(move || values(&profile()).into_iter().map(CompletionCandidate::new).collect())
}

/// Returns the distinct values of these keys in all sections.
fn values(profile: &Profile, keys: &[&str]) -> Vec<String> {
    let shown = profile.section_names().filter_map(|name| profile.displayed_values(name).ok()).flatten();
    let mut values: Vec<_> = shown.filter(|shown| keys.contains(&shown.key.as_str())).map(|shown| shown.value).collect();
    values.sort();
    values.dedup();
    values
}

/// Returns the profile of the command line that is being completed; an empty one if it cannot be read.
fn profile() -> Profile {
    let typed: Vec<_> = std::env::args_os().skip_while(|argument| argument != "--").skip(1).collect();
    let named = typed.iter().enumerate().find_map(|(at, word)| match word.to_str()?.strip_prefix("--profile")? {
        "" => typed.get(at + 1).map(PathBuf::from),
        rest => rest.strip_prefix('=').map(PathBuf::from),
    });
    Profile::load(named.as_deref(), Arc::new(SystemEnvironment)).unwrap_or_default()
}
