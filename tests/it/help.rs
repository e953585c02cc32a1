//! The `--help` text of every command.

use clap::Command;

/// Returns every command with subcommands of its own, as it is typed.
fn commands(command: &Command, typed: &str, found: &mut Vec<String>) {
    found.push(typed.to_owned());
    for subcommand in command.get_subcommands() {
        commands(subcommand, &format!("{typed} {}", subcommand.get_name()), found);
    }
}

/// Returns the long help of the command that `typed` names, 100 columns wide.
fn long_help(typed: &str) -> String {
    let mut root = sdl::cli::command().term_width(100);
    root.build();
    let command = typed.split(' ').skip(1).fold(&mut root, |command, name| command.find_subcommand_mut(name).unwrap());
    let help = command.clone().term_width(100).render_long_help().to_string();
    help.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_help_of_every_command_is_its_snapshot() {
    let mut found = Vec::new();
    commands(&sdl::cli::command(), "sdl", &mut found);
    assert!(found.len() > 3, "{found:?}");
    for typed in found {
        insta::assert_snapshot!(format!("help {typed}").replace(' ', "_"), long_help(&typed));
    }
}

#[test]
fn the_command_line_is_consistent() {
    sdl::cli::command().debug_assert();
}

#[test]
fn every_command_and_flag_is_described() {
    fn check(command: &Command, path: &str) {
        assert!(command.get_about().is_some(), "{path} has no description");
        for arg in command.get_arguments() {
            let help = arg.get_help().unwrap_or_else(|| panic!("{path}: {} has no description", arg.get_id())).to_string();
            assert!(!help.ends_with('.'), "{path}: {}: no full stop: {help}", arg.get_id());
        }
        command.get_subcommands().for_each(|sub| check(sub, &format!("{path} {}", sub.get_name())));
    }
    check(&sdl::cli::command(), "sdl");
}

#[test]
fn help_explains_commands_and_topics() {
    let folder = crate::run::Folder::new();
    for (topic, first) in [
        ("offsets", "Offsets and positions\n"),
        ("formats", "Formats\n"),
        ("guarantees", "What is promised\n"),
        ("exit-codes", "Exit codes\n"),
    ] {
        let ended = folder.run(&format!("help {topic}"));
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        assert!(ended.stdout.starts_with(first), "{}", ended.stdout);
        let wide = ended.stdout.lines().find(|line| line.chars().count() > 92);
        assert_eq!(wide, None, "a line of `help {topic}` is too wide for a terminal");
    }
    for command in ["", "replicate", "profile show", "offsets reset"] {
        let (helped, asked) = (folder.run(&format!("help {command}")), folder.run(&format!("{command} --help")));
        assert_eq!((helped.code, &helped.stdout), (Some(0), &asked.stdout), "sdl help {command}");
    }
}

#[test]
fn an_unknown_help_topic_is_a_usage_error() {
    let folder = crate::run::Folder::new();
    for (words, stderr) in [
        ("help offset", "error: there is no help for `offset`\nhint: did you mean `offsets`?\n"),
        ("help replicat", "error: there is no help for `replicat`\nhint: did you mean `replicate`?\n"),
        ("help lag offsets", "error: `offsets` is a help topic, which stands alone\nhint: see `sdl help offsets`\n"),
        ("help offsets lag", "error: there is no help for `lag`\nhint: choose one of: show, reset, export, import, delete\n"),
        ("help guarantees lag", "error: `guarantees` is a help topic, which stands alone\nhint: see `sdl help guarantees`\n"),
        ("help lag groups", "error: there is no help for `groups`\nhint: `sdl lag` has no subcommands; see `sdl lag --help`\n"),
        ("help profile everything", "error: there is no help for `everything`\nhint: choose one of: list, show, init\n"),
    ] {
        let ended = folder.run(words);
        assert_eq!((ended.stderr.as_str(), ended.stdout.as_str(), ended.code), (stderr, "", Some(2)));
    }
}
