//! `sdl completions`, and what a shell gets when it asks for candidates.

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

/// The variable by which a shell's script asks for candidates.
const ASKED: &str = "_SDL_COMPLETE";

/// Print the completions of a shell
///
/// They know the commands and flags, and the sections, shapes, topics and groups that the profile names.
///
/// bash: `sdl completions bash > ~/.local/share/bash-completion/completions/sdl`. zsh: `sdl completions zsh > _sdl` in a folder
/// of $fpath. fish: `sdl completions fish > ~/.config/fish/completions/sdl.fish`. Print them anew after an upgrade.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    shell: Supported,
}

/// The shells that completions are kept for.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Supported {
    Bash,
    Zsh,
    Fish,
}

impl Args {
    /// Prints what the shell has to read once.
    ///
    /// # Errors
    /// When standard output cannot be written to.
    pub fn run(self) -> Result<(), Error> {
        let shell: &dyn EnvCompleter = match self.shell {
            Supported::Bash => &Bash,
            Supported::Zsh => &Zsh,
            Supported::Fish => &Fish,
        };
        let mut script = Vec::new();
        shell.write_registration(ASKED, "sdl", "sdl", "sdl", &mut script)?;
        if matches!(self.shell, Supported::Zsh) {
            // From a folder of $fpath, zsh runs the file for the first word it completes.
            script.extend_from_slice(b"[[ $funcstack[1] = _sdl ]] && _clap_dynamic_completer_sdl \"$@\"\n");
        }
        Ok(std::io::stdout().write_all(&script)?)
    }
}

/// Answers a shell that asks for candidates; returns whether one has asked.
///
/// # Errors
/// When the shell is not known, or does not listen.
pub fn answer(command: fn() -> Command) -> Result<bool, Error> {
    let here = std::env::current_dir().ok();
    let asked = CompleteEnv::with_factory(move || with_all_candidates(command())).var(ASKED).bin("sdl").completer("sdl");
    let answered = asked.try_complete(std::env::args_os(), here.as_deref());
    answered.map_err(|error| Failure::new("cannot complete the command line").because(error).into())
}

/// Returns the whole command line with candidates, also for what `sdl help` explains.
fn with_all_candidates(root: Command) -> Command {
    let commands = root.get_subcommands().map(Command::get_name);
    let words: Vec<String> = commands.chain(help::topics()).map(str::to_owned).collect();
    let candidates = ArgValueCandidates::new(move || words.iter().map(CompletionCandidate::new).collect());
    with_candidates(root).mut_subcommand("help", |help| help.mut_arg("words", |words| words.add(candidates)))
}

/// Returns `command` with candidates for every flag and argument whose values the profile knows. A name means the same in every
/// command, so the names are all there is to tell.
fn with_candidates(command: Command) -> Command {
    // Of two kinds of sections the profile decides which one is the default.
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
        "group" | "groups" => {
            arg.add(from_profile(|profile| values(profile, &["default_consumer_group_id", "consumer_group_id"])))
        }
        "profile" | "file" => arg.value_hint(ValueHint::FilePath),
        "log_dir" => arg.value_hint(ValueHint::DirPath),
        _ => arg,
    });
    command.mut_subcommands(with_candidates)
}

/// Returns the type of section that a flag wants, by the section that it takes without being given.
fn kind_of(arg: &Arg) -> Option<SectionKind> {
    let default = arg.get_default_values().first()?;
    WELL_KNOWN.iter().find(|(name, _)| *name == default).map(|(_, kind)| *kind)
}

/// Returns the sections of these kinds, or of every kind.
fn sections(kinds: &[SectionKind]) -> Vec<CompletionCandidate> {
    let profile = profile();
    let wanted = |name: &&str| kinds.is_empty() || profile.kind(name).is_some_and(|kind| kinds.contains(&kind));
    let candidate = |name: &str| CompletionCandidate::new(name).help(profile.servers(name).map(Into::into));
    profile.section_names().filter(wanted).map(candidate).collect()
}

fn from_profile(values: fn(&Profile) -> Vec<String>) -> ArgValueCandidates {
    ArgValueCandidates::new(move || values(&profile()).into_iter().map(CompletionCandidate::new).collect())
}

/// Returns the values of these keys in all sections, each once.
fn values(profile: &Profile, keys: &[&str]) -> Vec<String> {
    let shown = profile.section_names().filter_map(|name| profile.displayed_values(name).ok()).flatten();
    let mut values: Vec<_> = shown.filter(|shown| keys.contains(&shown.key.as_str())).map(|shown| shown.value).collect();
    values.sort();
    values.dedup();
    values
}

/// Returns the profile that the line being typed would use; an empty one if it cannot be read, as completing is no time to complain.
fn profile() -> Profile {
    let typed: Vec<_> = std::env::args_os().skip_while(|argument| argument != "--").skip(1).collect();
    let named = typed.iter().enumerate().find_map(|(at, word)| match word.to_str()?.strip_prefix("--profile")? {
        "" => typed.get(at + 1).map(PathBuf::from),
        rest => rest.strip_prefix('=').map(PathBuf::from),
    });
    Profile::load(named.as_deref(), Arc::new(SystemEnvironment)).unwrap_or_default()
}
