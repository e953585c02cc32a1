//! The command line as data, for programs that build command lines or check them.

use clap::{Arg, ArgAction, Command};
use serde::Serialize;

use crate::commands::help::{EXIT_CODES, topics};

/// The document of `sdl help --json`; a contract, versioned by `schema`.
#[derive(Serialize)]
struct Reference {
    schema: u32,
    version: &'static str,
    command: CommandReference,
    exit_codes: Vec<ExitCode>,
    topics: [&'static str; 4],
}

#[derive(Serialize)]
struct ExitCode {
    code: u8,
    meaning: &'static str,
}

#[derive(Serialize)]
struct CommandReference {
    /// As it is typed: `sdl offsets show`.
    name: String,
    about: String,
    description: Option<String>,
    arguments: Vec<ArgReference>,
    options: Vec<ArgReference>,
    commands: Vec<CommandReference>,
}

#[derive(Serialize)]
struct ArgReference {
    /// `--start`; of a positional argument the name of its value.
    name: String,
    short: Option<String>,
    help: String,
    heading: Option<String>,
    /// The names of its values: none for a switch.
    value_names: Vec<String>,
    default: Option<Vec<String>>,
    /// All there are, where they can be listed.
    values: Option<Vec<String>>,
    required: bool,
    repeatable: bool,
    /// Whether every command has it.
    global: bool,
}

/// Returns the reference of a command, which is built.
pub(super) fn json(command: &Command) -> String {
    let exit_codes = EXIT_CODES.map(|(code, meaning)| ExitCode { code, meaning }).into();
    let (version, command) = (env!("CARGO_PKG_VERSION"), command_reference(command));
    let reference = Reference { schema: 1, version, command, exit_codes, topics: topics() };
    serde_json::to_string_pretty(&reference).expect("texts and numbers are JSON") + "\n"
}

fn command_reference(command: &Command) -> CommandReference {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let long_about = command.get_long_about().map(ToString::to_string);
    let description = long_about.and_then(|long| Some(long.strip_prefix(&about)?.trim().to_owned()));
    let (positional, options): (Vec<_>, Vec<_>) =
        command.get_arguments().filter(|arg| !arg.is_hide_set()).partition(|arg| arg.is_positional());
    CommandReference {
        name: command.get_bin_name().unwrap_or(command.get_name()).to_owned(),
        about,
        description: description.filter(|text| !text.is_empty()),
        arguments: positional.into_iter().map(arg_reference).collect(),
        options: options.into_iter().map(arg_reference).collect(),
        commands: command.get_subcommands().filter(|sub| !sub.is_hide_set()).map(command_reference).collect(),
    }
}

fn arg_reference(arg: &Arg) -> ArgReference {
    let takes_values = arg.get_action().takes_values();
    let names = arg.get_value_names().unwrap_or_default().iter().filter(|_| takes_values);
    let value_names: Vec<_> = names.map(ToString::to_string).collect();
    let default: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    let values: Vec<_> = arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    let first_name = || value_names.first().cloned().unwrap_or_else(|| arg.get_id().to_string().to_uppercase());
    ArgReference {
        name: arg.get_long().map_or_else(first_name, |long| format!("--{long}")),
        short: arg.get_short().map(|short| format!("-{short}")),
        help: arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default(),
        heading: arg.get_help_heading().map(ToOwned::to_owned),
        default: Some(default).filter(|default| takes_values && !default.is_empty()),
        values: Some(values).filter(|values| takes_values && !values.is_empty()),
        value_names,
        required: arg.is_required_set(),
        repeatable: matches!(arg.get_action(), ArgAction::Append | ArgAction::Count),
        global: arg.is_global_set(),
    }
}
