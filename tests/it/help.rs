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
        (
            "help offsets lag",
            "error: there is no help for `lag`\nhint: choose one of: show, reset, translate, export, import, delete\n",
        ),
        ("help guarantees lag", "error: `guarantees` is a help topic, which stands alone\nhint: see `sdl help guarantees`\n"),
        ("help lag groups", "error: there is no help for `groups`\nhint: `sdl lag` has no subcommands; see `sdl lag --help`\n"),
        ("help profile everything", "error: there is no help for `everything`\nhint: choose one of: list, show, init\n"),
    ] {
        let ended = folder.run(words);
        assert_eq!((ended.stderr.as_str(), ended.stdout.as_str(), ended.code), (stderr, "", Some(2)));
    }
    let all = folder.run("help nosuch").stderr;
    let (_, listed) = all.split_once("choose one of: ").expect("the hint lists what there is");
    assert_eq!(listed.trim_end().split(", ").filter(|name| *name == "offsets").count(), 1, "{all}");
}

#[test]
fn the_reference_has_every_command_flag_default_and_exit_code() {
    let folder = crate::run::Folder::new();
    let reference = |words: &str| -> serde_json::Value {
        let ended = folder.run(&format!("help --json {words}"));
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        serde_json::from_str(&ended.stdout).unwrap()
    };
    let all = reference("");
    assert_eq!((&all["schema"], &all["version"]), (&1.into(), &env!("CARGO_PKG_VERSION").into()));
    let codes: Vec<_> = all["exit_codes"].as_array().unwrap().iter().map(|code| code["code"].as_u64().unwrap()).collect();
    assert_eq!(codes, [0, 1, 2, 3, 4, 5, 130]);
    let (mut typed, mut listed) = (Vec::new(), Vec::new());
    commands(&sdl::cli::command(), "sdl", &mut typed);
    let mut waiting = vec![&all["command"]];
    while let Some(command) = waiting.pop() {
        listed.push(command["name"].as_str().unwrap().to_owned());
        waiting.extend(command["commands"].as_array().unwrap());
    }
    typed.sort();
    listed.sort();
    assert_eq!(listed, typed);
    let replicate = &reference("replicate")["command"];
    let option = |name: &str| {
        let found = replicate["options"].as_array().unwrap().iter().find(|option| option["name"] == name);
        found.unwrap_or_else(|| panic!("{name} is not listed")).clone()
    };
    assert_eq!(option("--compression")["default"], serde_json::json!(["lz4"]));
    assert_eq!(option("--output")["values"], serde_json::json!(["text", "json"]));
    assert_eq!((&option("--where")["repeatable"], &option("--yes")["global"]), (&true.into(), &true.into()));
    insta::assert_snapshot!("reference_of_health", folder.run("help --json health").stdout);
    let unknown = folder.run("help --json guarantees");
    assert_eq!((unknown.code, unknown.stdout.as_str()), (Some(2), ""));
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = crate::run::Folder::new();
    let mut found = Vec::new();
    commands(&sdl::cli::command(), "sdl", &mut found);
    for typed in found {
        let ended = folder.run(&typed.replacen("sdl", "man", 1));
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{typed}");
        let heading = format!(".TH {} 1", typed.replace(' ', "-"));
        assert!(ended.stdout.contains(&heading) && ended.stdout.contains(".SH \"EXIT STATUS\""), "{typed}: {}", ended.stdout);
    }
    insta::assert_snapshot!("manual_of_health", folder.run("man health").stdout);
    let replicate = folder.run("man replicate").stdout;
    assert!(replicate.contains("\n\\fBsdl replicate\\fR [OPTIONS] [TOPIC]...\n"), "{replicate}");
    let unknown = folder.run("man replicat");
    let expected = "error: there is no help for `replicat`\nhint: did you mean `replicate`?\n";
    assert_eq!((unknown.stderr.as_str(), unknown.stdout.as_str(), unknown.code), (expected, "", Some(2)));
}
