//! The direction of dependencies.

use std::fs;
use std::path::{Path, PathBuf};

/// Each layer, and what it may use besides itself.
const LAYERS: [(&str, &[&str]); 14] = [
    ("main", &["cli"]),
    (
        "cli",
        &[
            "commands",
            "windows",
            "report",
            "terminal",
            "connectors",
            "logins",
            "document",
            "pipeline",
            "profile",
            "shape",
            "record",
            "error",
        ],
    ),
    (
        "commands",
        &["windows", "report", "terminal", "connectors", "logins", "document", "pipeline", "profile", "shape", "record", "error"],
    ),
    ("windows", &["report", "terminal", "connectors", "logins", "pipeline", "profile", "shape", "record"]),
    ("report", &["pipeline", "profile", "shape", "record"]),
    ("terminal", &["pipeline", "profile", "shape", "record"]),
    ("connectors", &["document", "pipeline", "profile", "shape", "record"]),
    ("logins", &["pipeline", "profile", "shape", "record"]),
    ("error", &["pipeline", "profile", "shape", "record"]),
    ("document", &["pipeline", "shape", "record"]),
    ("pipeline", &["shape", "record"]),
    ("profile", &["shape", "record"]),
    ("shape", &["record"]),
    ("record", &[]),
];

/// What only the commands and what stands above them may do.
const ABOVE_ONLY: [&str; 7] = ["println!", "eprintln!", "print!", "eprint!", "std::env", "process::exit", "env::var"];

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Returns every source file with its layer and the code before its tests.
fn sources() -> Vec<(PathBuf, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    let layer = |path: &Path| {
        let first = path.strip_prefix(&root).unwrap().components().next().unwrap();
        Path::new(first.as_os_str()).file_stem().unwrap().to_str().unwrap().to_owned()
    };
    let code = |path: &Path| fs::read_to_string(path).unwrap().split("#[cfg(test)]\nmod tests").next().unwrap().to_owned();
    let is_code = |path: &&PathBuf| !path.ends_with("lib.rs") && !path.to_string_lossy().ends_with("_tests.rs");
    files.iter().filter(is_code).map(|path| (path.clone(), layer(path), code(path))).collect()
}

/// Returns the layers that `line` names after `crate::`.
fn used(line: &str) -> Vec<&str> {
    line.match_indices("crate::")
        .filter(|(at, _)| !line[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        .map(|(at, found)| line[at + found.len()..].split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap())
        .collect()
}

#[test]
fn a_module_uses_only_what_stands_below_it() {
    let mut wrong = Vec::new();
    for (path, layer, code) in sources() {
        let (_, below) = LAYERS.iter().find(|(name, _)| *name == layer).unwrap_or_else(|| panic!("`{layer}` has no place"));
        for (number, line) in code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for name in used(line) {
                if name != layer && !below.contains(&name) {
                    wrong.push(format!("{}:{}: `{layer}` uses `{name}`", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn connectors_do_not_know_each_other() {
    let mut wrong = Vec::new();
    for (path, layer, code) in sources() {
        let Ok(inside) = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/connectors")) else { continue };
        let own = Path::new(inside.components().next().unwrap().as_os_str()).file_stem().unwrap().to_str().unwrap();
        assert_eq!(layer, "connectors");
        for (number, line) in code.lines().enumerate().filter(|_| own != "mod") {
            if let Some((_, other)) = line.split_once("crate::connectors::") {
                let other = other.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
                if other != own {
                    wrong.push(format!("{}:{}: `{own}` uses `{other}`", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_below_the_commands_prints_or_exits_or_reads_the_environment() {
    let mut wrong = Vec::new();
    for (path, layer, code) in sources() {
        if ["main", "cli", "commands"].contains(&layer.as_str()) {
            continue;
        }
        for (number, line) in code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for found in ABOVE_ONLY.iter().filter(|found| line.contains(*found)) {
                wrong.push(format!("{}:{}: `{found}`", path.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_check_sees_what_it_looks_for() {
    assert_eq!(used("use crate::pipeline::{EndError, Sink};"), ["pipeline"]);
    assert_eq!(used("let x = crate::cli::command(crate::record::Record);"), ["cli", "record"]);
    assert_eq!(used("use not_crate::cli;"), Vec::<&str>::new());
    assert!(sources().len() > 20, "the sources are found");
}
