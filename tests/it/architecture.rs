//! The direction of dependencies, and definitions that must be unique.

mod graph;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use graph::Graph;

/// Layers that the commands and the command line may use.
const COMMAND_LAYERS: &[&str] = &[
    "commands",
    "dlq",
    "doctor",
    "lag",
    "offsets",
    "topics",
    "replication",
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
    "number",
    "spelling",
    "error",
];

/// Each layer with the layers below it that it may use.
const LAYERS: [(&str, &[&str]); 22] = [
    ("main", &["cli"]),
    ("cli", COMMAND_LAYERS),
    ("commands", COMMAND_LAYERS),
    ("dlq", &["pipeline", "record", "number"]),
    ("doctor", &["connectors", "document", "pipeline", "profile", "record", "number"]),
    ("lag", &["connectors", "pipeline", "profile", "record", "number"]),
    ("offsets", &["replication", "connectors", "pipeline", "profile", "record", "number"]),
    ("topics", &["connectors", "pipeline", "profile", "record", "number"]),
    ("replication", &["connectors", "pipeline", "profile", "record", "number"]),
    ("windows", &["report", "terminal", "connectors", "logins", "pipeline", "profile", "shape", "record", "number"]),
    ("report", &["terminal", "pipeline", "profile", "shape", "record", "number"]),
    ("terminal", &["pipeline", "profile", "shape", "record", "number"]),
    ("connectors", &["document", "pipeline", "profile", "shape", "record", "number"]),
    ("logins", &["pipeline", "profile", "shape", "record", "number"]),
    ("error", &["terminal", "pipeline", "profile", "shape", "record", "number"]),
    ("document", &["pipeline", "shape", "record", "number"]),
    ("pipeline", &["shape", "record", "number"]),
    ("profile", &["shape", "record", "number"]),
    ("shape", &["record", "number", "spelling"]),
    ("record", &[]),
    ("number", &[]),
    ("spelling", &[]),
];

/// What connectors share.
const SHARED_BY_CONNECTORS: [&str; 4] = ["connect_error", "access_error", "http_client", "aws"];

/// What only the commands and what stands above them may do.
const ABOVE_ONLY: [&str; 7] = ["println!", "eprintln!", "print!", "eprint!", "std::env", "process::exit", "env::var"];

/// Names that stand for one thing in each of several files.
const DEFINED_TWICE: [&str; 1] = [
    "Args", // the arguments of a subcommand, in the file that is called like it
];

/// Returns the code before its unit tests.
fn before_tests(code: &str) -> &str {
    let at = |marker: &str| code.find(marker).unwrap_or(code.len());
    &code[..at("#[cfg(test)]\nmod tests").min(at("#[cfg(test)]\npub(crate) mod tests"))]
}

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
    let code = |path: &Path| before_tests(&fs::read_to_string(path).unwrap()).to_owned();
    let is_code = |path: &&PathBuf| {
        !path.ends_with("lib.rs") && !path.to_string_lossy().ends_with("_tests.rs") && !path.iter().any(|part| part == "tests")
    };
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
                if other != own && !SHARED_BY_CONNECTORS.contains(&other) {
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

/// Returns the string literals of a line of code.
fn literals(line: &str) -> Vec<&str> {
    line.split('"').skip(1).step_by(2).collect()
}

/// Returns whether a text names a flag such as `--group`.
fn names_a_flag(text: &str) -> bool {
    text.match_indices("--").any(|(at, _)| {
        let starts = at == 0 || !text.as_bytes()[at - 1].is_ascii_alphanumeric() && text.as_bytes()[at - 1] != b'-';
        starts && text[at + 2..].starts_with(|c: char| c.is_ascii_lowercase())
    })
}

#[test]
fn no_two_files_use_each_other() {
    let circles = Graph::of(&sources().into_iter().map(|(path, _, code)| (path, code)).collect::<Vec<_>>()).circles();
    assert!(circles.is_empty(), "circles between files:\n{circles:#?}");
}

#[test]
fn flags_are_named_by_the_commands_only() {
    let mut wrong = Vec::new();
    for (path, layer, code) in sources() {
        if ["main", "cli", "commands", "error"].contains(&layer.as_str()) {
            continue;
        }
        for (number, line) in code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            if literals(line).into_iter().any(names_a_flag) {
                wrong.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_stays_in_the_bindings() {
    let mut wrong = Vec::new();
    for (path, _, code) in sources() {
        let inside = path.to_string_lossy().contains("connectors/kafka/librdkafka/");
        if inside {
            continue;
        }
        for (number, line) in code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            if line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe" || word == "unsafe_code") {
                wrong.push(format!("{}:{}", path.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_type_name_is_defined_once() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, _, code) in sources() {
        for line in code.lines() {
            let line = line
                .strip_prefix("pub ")
                .or_else(|| line.split_once(") ").filter(|(vis, _)| vis.starts_with("pub(")).map(|(_, rest)| rest))
                .unwrap_or(line);
            let Some((kind, rest)) = line.split_once(' ') else { continue };
            if ["struct", "enum", "trait", "type", "union"].contains(&kind) {
                let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
                places.entry(name.to_owned()).or_default().push(path.display().to_string());
            }
        }
    }
    assert!(places.contains_key("Record"), "the definitions are found");
    let twice: Vec<_> =
        places.iter().filter(|(name, places)| places.len() > 1 && !DEFINED_TWICE.contains(&name.as_str())).collect();
    assert!(twice.is_empty(), "{twice:#?}");
}

#[test]
fn the_check_detects_imports_and_flags() {
    assert_eq!(used("use crate::pipeline::{EndError, Sink};"), ["pipeline"]);
    assert_eq!(used("let x = crate::cli::command(crate::record::Record);"), ["cli", "record"]);
    assert_eq!(used("use not_crate::cli;"), Vec::<&str>::new());
    assert!(sources().len() > 20, "the sources are found");
    assert!(names_a_flag("use --group") && names_a_flag("--yes") && !names_a_flag("a -- b") && !names_a_flag("----BEGIN"));
    assert_eq!(literals(r#"f("a", "b")"#), ["a", "b"]);
}
