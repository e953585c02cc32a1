//! `[run.COMMAND]`: flags that stand in the profile.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::profile::{Profile, ProfileError, RunValue};

/// A value of the profile and the argument it stands for.
#[derive(Debug)]
pub(super) struct Set {
    flag: String,
    value: RunValue,
    arguments: Vec<OsString>,
}

/// Flags that a profile cannot set: they are looked at before it is read.
const NOT_IN_A_PROFILE: [&str; 3] = ["help", "version", "profile"];

/// Returns the flags that the profile sets for the command of `matches`: those that were not typed, and that no typed one
/// excludes.
///
/// # Errors
/// When a `[run.COMMAND]` is of no command, or one of its keys of no flag.
pub(super) fn flags(root: &Command, matches: &ArgMatches, profile: &Profile) -> Result<Vec<Set>, ProfileError> {
    let names: Vec<_> = root.get_subcommands().map(Command::get_name).collect();
    if let Some(unknown) = profile.run_names().find(|name| !names.contains(name)) {
        return Err(profile.unknown_command(unknown, &names));
    }
    let mut root = root.clone();
    root.build();
    let Some((name, matches)) = matches.subcommand() else { return Ok(Vec::new()) };
    let Some(command) = root.find_subcommand(name) else { return Ok(Vec::new()) };
    let flags: Vec<&Arg> =
        command.get_arguments().filter(|arg| arg.get_long().is_some_and(|long| !NOT_IN_A_PROFILE.contains(&long))).collect();
    let longs: Vec<_> = flags.iter().filter_map(|arg| arg.get_long()).collect();
    let is_typed = |arg: &Arg| matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);

    let mut set = Vec::new();
    for value in profile.run(name)? {
        let flag = value.key.replace('_', "-");
        let Some(arg) = flags.iter().find(|arg| arg.get_long() == Some(&flag)) else {
            return Err(profile.unknown_flag(name, &value, &longs));
        };
        let excluded = |typed: &&Arg| is_typed(typed) && (conflicts(command, typed, arg) || conflicts(command, arg, typed));
        if is_typed(arg) || command.get_arguments().any(|typed| excluded(&typed)) {
            continue;
        }
        let arguments = arguments(arg, &flag, &value).map_err(|cause| profile.wrong_flag(name, &value, cause))?;
        set.push(Set { flag, value, arguments });
    }
    Ok(set)
}

fn conflicts(command: &Command, one: &Arg, other: &Arg) -> bool {
    command.get_arg_conflicts_with(one).iter().any(|arg| arg.get_id() == other.get_id())
}

/// Returns what would be typed for the value.
fn arguments(arg: &Arg, flag: &str, value: &RunValue) -> Result<Vec<OsString>, String> {
    let text = &value.value;
    let typed = |times: usize| vec![OsString::from(format!("--{flag}")); times];
    match arg.get_action() {
        ArgAction::SetTrue | ArgAction::SetFalse => match text.as_str() {
            "true" => Ok(typed(1)),
            "false" => Ok(Vec::new()),
            _ => Err("it is neither `true` nor `false`".to_owned()),
        },
        ArgAction::Count => text.parse().map(typed).map_err(|_| "it is not a number".to_owned()),
        _ => Ok(vec![format!("--{flag}={text}").into()]),
    }
}

/// Returns `arguments` with the flags of the profile before the first `--`, or at the end.
pub(super) fn inserted(arguments: &[OsString], set: &[Set]) -> Vec<OsString> {
    let end = arguments.iter().position(|argument| argument == "--").unwrap_or(arguments.len());
    let flags = set.iter().flat_map(|set| set.arguments.iter());
    arguments[..end].iter().chain(flags).chain(&arguments[end..]).cloned().collect()
}

/// Returns the error with the profile's line, if it is about a flag that the profile set.
pub(super) fn blame(error: &clap::Error, matches: &ArgMatches, set: &[Set], profile: &Profile) -> Option<ProfileError> {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else { return None };
    let long = argument.strip_prefix("--")?.split([' ', '=']).next()?;
    let set = set.iter().find(|set| set.flag == long)?;
    let text = error.render().to_string();
    let cause = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    Some(profile.wrong_flag(matches.subcommand_name()?, &set.value, cause))
}
