//! `[run.COMMAND]`: flags that stand in the profile.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::profile::{Profile, ProfileError, RunValue, parse_flag};

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
    let flags: Vec<&Arg> = settable(command).collect();
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
        let arguments = arguments(arg, &flag, &value).map_err(|cause| profile.invalid_flag(name, &value, cause))?;
        set.push(Set { flag, value, arguments });
    }
    Ok(set)
}

/// Returns a warning for each key that is of no flag, in the `[run.COMMAND]` of commands other than `name`.
pub(super) fn fault_warnings(root: &Command, name: &str, profile: &Profile) -> Vec<String> {
    let mut root = root.clone();
    root.build();
    let others = root.get_subcommands().filter(|command| command.get_name() != name);
    let warnings = others.flat_map(|command| {
        let flags: Vec<_> = settable(command).collect();
        let longs: Vec<_> = flags.iter().filter_map(|arg| arg.get_long()).collect();
        let values = profile.written_values(&format!("run.{}", command.get_name()));
        let unknown = values.into_iter().filter(|value| !longs.contains(&value.key.replace('_', "-").as_str()));
        unknown.map(|value| profile.unknown_flag(command.get_name(), &value, &longs).of_unused_section()).collect::<Vec<_>>()
    });
    warnings.collect()
}

/// Returns the flags of the command that a profile can set.
fn settable(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| arg.get_long().is_some_and(|long| !NOT_IN_A_PROFILE.contains(&long)))
}

fn conflicts(command: &Command, one: &Arg, other: &Arg) -> bool {
    command.get_arg_conflicts_with(one).iter().any(|arg| arg.get_id() == other.get_id())
}

/// Returns what would be typed for the value.
fn arguments(arg: &Arg, flag: &str, value: &RunValue) -> Result<Vec<OsString>, String> {
    let text = &value.value;
    let typed = |times: usize| vec![OsString::from(format!("--{flag}")); times];
    match arg.get_action() {
        ArgAction::SetTrue | ArgAction::SetFalse => match parse_flag(text) {
            Some(true) => Ok(typed(1)),
            Some(false) => Ok(Vec::new()),
            None => Err("it is neither `true` nor `false`".to_owned()),
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
    Some(profile.invalid_flag(matches.subcommand_name()?, &set.value, cause))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::profile::Environment;

    /// One profile and nothing else.
    struct Only(String);

    impl Environment for Only {
        fn variable(&self, name: &str) -> Option<String> {
            (name == "SDL_RUN_LOAD_LINGER").then(|| "9s".to_owned())
        }

        fn variable_names(&self) -> Vec<String> {
            vec!["SDL_RUN_LOAD_LINGER".to_owned()]
        }

        fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
            Ok(self.0.clone().into_bytes())
        }

        fn others_can_read(&self, _: &Path) -> bool {
            false
        }
    }

    fn root() -> Command {
        let load = Command::new("load")
            .arg(Arg::new("topic"))
            .arg(Arg::new("batch").long("batch").value_parser(crate::commands::args::parse_whole::<u32>(1, 1000)))
            .arg(Arg::new("dead-letters").long("dead-letters"))
            .arg(Arg::new("linger").long("linger"))
            .arg(Arg::new("keep").long("keep").value_delimiter(',').action(ArgAction::Append))
            .arg(Arg::new("where").long("where").action(ArgAction::Append))
            .arg(Arg::new("follow").long("follow").action(ArgAction::SetTrue))
            .arg(Arg::new("start").long("start").conflicts_with("from-beginning"))
            .arg(Arg::new("from-beginning").long("from-beginning").action(ArgAction::SetTrue));
        let verbose = Arg::new("verbose").short('v').long("verbose").action(ArgAction::Count).global(true);
        let profile = Arg::new("profile").long("profile").global(true);
        Command::new("sdl").arg(verbose).arg(profile).subcommand(load).subcommand(Command::new("tail"))
    }

    /// Returns the effective flags for a section with `lines`, or the cause of the error.
    fn typed(lines: &str, arguments: &str) -> Result<String, String> {
        let profile = Profile::load(None, Arc::new(Only(format!("[run.load]\n{lines}")))).unwrap();
        let arguments: Vec<OsString> = arguments.split(' ').map(OsString::from).collect();
        let matches = root().try_get_matches_from(&arguments).unwrap();
        let located =
            |error: ProfileError| format!("{}; {}", error.causes().join("; "), crate::error::Error::from(error).hint().unwrap());
        let set = flags(&root(), &matches, &profile).map_err(located)?;
        let arguments = inserted(&arguments, &set);
        match root().try_get_matches_from(&arguments) {
            Ok(_) => Ok(arguments.iter().map(|argument| argument.to_str().unwrap()).collect::<Vec<_>>().join(" ")),
            Err(error) => Err(located(blame(&error, &matches, &set, &profile).unwrap())),
        }
    }

    #[test]
    fn the_section_gives_flags_their_values() {
        let lines = "batch = 500\ndead_letters = topic:x\nkeep = a,b\nwhere = a = 1, b\nfollow = true\nverbose = 2\n";
        let expected =
            "sdl load --batch=500 --dead-letters=topic:x --keep=a,b --where=a = 1, b --follow --verbose --verbose --linger=9s";
        assert_eq!(typed(lines, "sdl load").unwrap(), expected);
        assert_eq!(typed("from-beginning = true\n", "sdl load").unwrap(), "sdl load --from-beginning --linger=9s");
        for (words, flag) in [(["true", "yes", "On", "1"], " --follow"), (["false", "No", "off", "0"], "")] {
            for word in words {
                let expected = format!("sdl load{flag} --linger=9s");
                assert_eq!(typed(&format!("follow = {word}\n"), "sdl load").unwrap(), expected, "{word}");
            }
        }
    }

    #[test]
    fn typed_flags_override_the_section() {
        assert_eq!(typed("batch = 500\n", "sdl load --batch 7 --linger=1s").unwrap(), "sdl load --batch 7 --linger=1s");
        assert_eq!(typed("verbose = 1\n", "sdl -v load --linger 1s").unwrap(), "sdl -v load --linger 1s");
        assert_eq!(typed("keep = a\n", "sdl load --keep b --linger 1s").unwrap(), "sdl load --keep b --linger 1s");
    }

    #[test]
    fn a_typed_flag_overrides_the_keys_that_it_excludes() {
        assert_eq!(
            typed("start = 5\n", "sdl load --from-beginning --linger=1s").unwrap(),
            "sdl load --from-beginning --linger=1s"
        );
        assert_eq!(typed("from_beginning = true\n", "sdl load --start 5 --linger=1s").unwrap(), "sdl load --start 5 --linger=1s");
    }

    #[test]
    fn flags_precede_positional_arguments() {
        assert_eq!(typed("batch = 1\n", "sdl load -- -odd").unwrap(), "sdl load --batch=1 --linger=9s -- -odd");
    }

    #[test]
    fn sections_of_other_commands_are_ignored() {
        assert_eq!(typed("batch = 1\n", "sdl tail").unwrap(), "sdl tail");
    }

    #[test]
    fn an_unknown_flag_is_reported_with_its_line_and_a_suggestion() {
        let expected = "unknown key `dead_leters` at ./database.ini:3; did you mean `dead_letters`?";
        assert_eq!(typed("batch = 1\ndead_leters = x\n", "sdl load").unwrap_err(), expected);
        let expected = "unknown key `profile` at ./database.ini:2; see `sdl load --help` for the flags";
        assert_eq!(typed("profile = x\n", "sdl load").unwrap_err(), expected);
        assert!(typed("topic = x\n", "sdl load").unwrap_err().starts_with("unknown key `topic`"), "arguments are typed");
    }

    #[test]
    fn an_invalid_value_is_reported_with_its_line() {
        let expected = "key `batch` at ./database.ini:2: invalid value 'many' for '--batch <batch>': a whole number from 1 to 1000 is needed; \
                        correct it in [run.load], or remove it";
        assert_eq!(typed("batch = many\n", "sdl load").unwrap_err(), expected);
        assert!(
            typed("follow = maybe\n", "sdl load")
                .unwrap_err()
                .starts_with("key `follow` at ./database.ini:2: it is neither `true` nor `false`")
        );
        assert!(
            typed("verbose = x\n", "sdl load").unwrap_err().starts_with("key `verbose` at ./database.ini:2: it is not a number")
        );
    }

    #[test]
    fn two_keys_that_exclude_each_other_are_refused() {
        let error = typed("start = 5\nfrom_beginning = true\n", "sdl load").unwrap_err();
        assert!(error.contains("at ./database.ini:"), "{error}");
        assert!(error.contains("cannot be used with"), "{error}");
    }
}
