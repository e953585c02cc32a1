//! `sdl completions`, and the candidates that a shell asks for.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::builder::ValueHint;
use clap::{Arg, Command};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::{Bash, CompleteEnv, EnvCompleter, Fish, Shells, Zsh};

use crate::commands::{SystemEnvironment, help};
use crate::error::Error;
use crate::pipeline::Failure;
use crate::profile::{Profile, SERVER_KINDS, SectionKind, WELL_KNOWN};

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
        if matches!(self.shell, Shell::Bash) {
            script = with_whole_words(&String::from_utf8_lossy(&script)).into_bytes();
        }
        if matches!(self.shell, Shell::Zsh) {
            // Zsh autoloads a file of $fpath at the first completion and runs it then.
            script.extend_from_slice(b"[[ $funcstack[1] = _sdl ]] && _clap_dynamic_completer_sdl \"$@\"\n");
        }
        Ok(std::io::stdout().write_all(&script)?)
    }
}

/// Returns the script of bash with words that bash splits at colons, such as `topic:orders`, in one piece.
fn with_whole_words(script: &str) -> String {
    let (words, after) = ("    COMPREPLY=( $( \\\n", "    elif [[ $_CLAP_COMPLETE_SPACE == false ]]");
    script.replacen(words, &format!("{JOIN_WORDS}{words}"), 1).replacen(after, &format!("{CUT_REPLIES}{after}"), 1)
}

const JOIN_WORDS: &str = r#"    local line=${COMP_LINE:0:${COMP_POINT:-0}} before=
    local typed=${line##*[[:space:]]}
    if [[ $typed == *:* ]]; then
        local at=$COMP_CWORD joined=${COMP_WORDS[COMP_CWORD]}
        while [[ $joined != "$typed" ]] && ((at > 1)); do
            ((at--))
            joined=${COMP_WORDS[at]}$joined
        done
        words=("${COMP_WORDS[@]:0:at}" "$typed")
        _CLAP_COMPLETE_INDEX=$at
        before=${typed%"${typed##*:}"}
    fi
"#;

const CUT_REPLIES: &str = r#"    elif [[ -n $before ]]; then
        COMPREPLY=("${COMPREPLY[@]#"$before"}")
"#;

/// A shell that is offered flags only where a dash was typed.
struct FlagsAfterDash<'s>(&'s dyn EnvCompleter);

impl EnvCompleter for FlagsAfterDash<'_> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn is(&self, name: &str) -> bool {
        self.0.is(name)
    }

    fn write_registration(&self, var: &str, name: &str, bin: &str, completer: &str, buf: &mut dyn Write) -> io::Result<()> {
        self.0.write_registration(var, name, bin, completer, buf)
    }

    fn write_complete(&self, cmd: &mut Command, args: Vec<OsString>, dir: Option<&Path>, buf: &mut dyn Write) -> io::Result<()> {
        let set = |name: &str| std::env::var(name).ok();
        // Fish completes the last word, the other shells say which.
        let index = set("_CLAP_COMPLETE_INDEX").and_then(|index| index.parse().ok()).unwrap_or(args.len().saturating_sub(1));
        if args.get(index).is_some_and(|word| word.as_encoded_bytes().starts_with(b"-")) {
            return self.0.write_complete(cmd, args, dir, buf);
        }
        let mut all = Vec::new();
        self.0.write_complete(cmd, args, dir, &mut all)?;
        let separator = set("_CLAP_IFS").unwrap_or_else(|| "\n".to_owned());
        let all = String::from_utf8_lossy(&all);
        let offered: Vec<_> = all.split(separator.as_str()).filter(|candidate| !candidate.starts_with('-')).collect();
        buf.write_all(offered.join(&separator).as_bytes())
    }
}

/// Answers a shell that asks for candidates; returns whether one did.
///
/// # Errors
/// When the shell is unknown, or stdout fails.
pub fn answer(command: fn() -> Command) -> Result<bool, Error> {
    let directory = std::env::current_dir().ok();
    let (bash, zsh, fish) = (FlagsAfterDash(&Bash), FlagsAfterDash(&Zsh), FlagsAfterDash(&Fish));
    let shells: [&dyn EnvCompleter; 3] = [&bash, &zsh, &fish];
    let completer = CompleteEnv::with_factory(move || with_all_candidates(command())).shells(Shells(&shells));
    let completer = completer.var(REQUEST_VARIABLE).bin("sdl").completer("sdl");
    let answered = completer.try_complete(std::env::args_os(), directory.as_deref());
    answered.map_err(|error| Failure::new("cannot complete the command line").because(error).into())
}

/// Returns the command line with candidates, also for the arguments of `sdl help`.
fn with_all_candidates(root: Command) -> Command {
    let commands: BTreeSet<String> = root.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    // `offsets` is a command and a topic.
    let words = commands.iter().cloned().chain(help::topics().map(str::to_owned)).collect();
    let complete = |name: &str, root: Command, words: BTreeSet<String>| {
        let candidates = ArgValueCandidates::new(move || words.iter().map(CompletionCandidate::new).collect());
        root.mut_subcommand(name, |command| command.mut_arg("words", |words| words.add(candidates)))
    };
    complete("man", complete("help", with_candidates(root), words), commands)
}

/// Returns `command` with candidates for every flag and argument whose values the profile knows. A flag means the same in every
/// command: its name is enough.
fn with_candidates(command: Command) -> Command {
    // The default target of sink-es depends on the profile.
    let searches = command.get_name() == "sink-es";
    let examines = command.get_name() == "doctor";
    let command = command.mut_args(|arg| match arg.get_id().as_str() {
        "source" => arg.add(ArgValueCandidates::new(|| sections(&[SectionKind::Kafka]))),
        "target" if searches => {
            arg.add(ArgValueCandidates::new(|| sections(&[SectionKind::Elasticsearch, SectionKind::Opensearch])))
        }
        "section" if examines => arg.add(ArgValueCandidates::new(|| sections(&SERVER_KINDS))),
        "target" | "section" => {
            let kind = kind_of(&arg);
            arg.add(ArgValueCandidates::new(move || sections(kind.as_slice())))
        }
        "shape" => arg.add(from_profile(|profile| profile.shape_names().map(str::to_owned).collect())),
        "topic" | "topics" => {
            arg.add(from_profile(|profile| values(profile, &["default_consumer_topic", "default_producer_topic"])))
        }
        "dead_letters" => arg.add(from_profile(|profile| {
            let topics = values(profile, &["default_consumer_topic", "default_producer_topic"]);
            let topics = topics.iter().map(|topic| format!("topic:{topic}-dead-letters"));
            let sections = profile.section_names().filter(|name| profile.kind(name) == Some(SectionKind::Kafka));
            topics.chain(sections.map(|section| format!("topic:{section}/"))).chain(["file:".to_owned()]).collect()
        })),
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
