//! The documentation: its links lead somewhere, the paths and messages that it names exist, and the program accepts its command lines.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use regex::Regex;

mod messages;

/// A page of the documentation.
struct Page {
    /// Path from the project's root.
    path: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns every page: those of the root, and those of `docs/`.
fn pages() -> Vec<Page> {
    let mut pages = Vec::new();
    for folder in ["", "docs"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = Path::new(folder).join(entry.unwrap().file_name());
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(root().join(&path)).unwrap();
                pages.push(Page { path: path.to_str().unwrap().to_owned(), text });
            }
        }
    }
    assert!(pages.len() > 10, "the pages are found");
    pages
}

fn pattern(expression: &'static str) -> Regex {
    Regex::new(expression).unwrap()
}

impl Page {
    /// Returns the blocks between fences, each with its language.
    fn blocks(&self) -> Vec<(String, String)> {
        let fences = pattern(r"(?ms)^ *```(\w*)\n(.*?)^ *```$");
        fences.captures_iter(&self.text).map(|block| (block[1].to_owned(), block[2].to_owned())).collect()
    }

    /// Returns the text without the blocks between fences.
    fn prose(&self) -> String {
        pattern(r"(?ms)^ *```.*?^ *```$").replace_all(&self.text, "").into_owned()
    }

    /// Returns the anchors of the headings, as GitHub and GitLab make them.
    fn anchors(&self) -> BTreeSet<String> {
        let heading = |line: &str| line.strip_prefix('#').map(|rest| rest.trim_start_matches('#').trim().to_lowercase());
        let keep = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ');
        let anchor = |heading: String| heading.chars().filter(keep).collect::<String>().replace(' ', "-");
        self.prose().lines().filter_map(heading).map(anchor).collect()
    }

    /// Returns the texts in backticks in the prose.
    fn code(&self) -> Vec<String> {
        let spans = pattern(r"`([^`\n]+)`");
        spans.captures_iter(&self.prose()).map(|code| code[1].to_owned()).collect()
    }
}

#[test]
fn every_link_target_exists() {
    let pages = pages();
    let anchors: BTreeMap<_, _> =
        pages.iter().map(|page| (root().join(&page.path).canonicalize().unwrap(), page.anchors())).collect();
    let (links, mut wrong) = (pattern(r"\]\(([^)\s]+)\)"), Vec::new());
    let mut found = 0;
    for page in &pages {
        let here = root().join(&page.path).canonicalize().unwrap();
        for link in links.captures_iter(&page.prose()) {
            let link = &link[1];
            if link.contains("://") {
                continue;
            }
            found += 1;
            let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
            let target = if path.is_empty() { Ok(here.clone()) } else { here.parent().unwrap().join(path).canonicalize() };
            let has_anchor = |target: &PathBuf| {
                anchor.is_none_or(|anchor| anchors.get(target).is_some_and(|anchors| anchors.contains(anchor)))
            };
            if !target.as_ref().is_ok_and(has_anchor) {
                wrong.push(format!("{}: {link}", page.path));
            }
        }
    }
    assert!(wrong.is_empty() && found > 50, "{found} links; without a target:\n{}", wrong.join("\n"));
}

#[test]
fn the_index_of_the_documentation_has_every_page() {
    let index = fs::read_to_string(root().join("docs/README.md")).unwrap();
    for page in pages() {
        let name = Path::new(&page.path).file_name().unwrap().to_str().unwrap();
        if page.path.starts_with("docs/") && name != "README.md" {
            assert!(index.contains(&format!("]({name})")), "docs/README.md has no link to {name}");
        }
    }
}

#[test]
fn the_readme_fits_on_two_pages() {
    let lines = fs::read_to_string(root().join("README.md")).unwrap().lines().count();
    assert!(lines <= 130, "{lines} lines: longer texts belong in docs/");
}

#[test]
fn every_path_that_the_pages_name_exists() {
    let paths = pattern(r"^(src|tests|scripts|docs|deploy|benches|completions|examples|\.ci)(/[\w@.-]+)*/?$");
    let (mut found, mut wrong) = (0, Vec::new());
    for page in pages() {
        for code in page.code().iter().filter(|code| paths.is_match(code)) {
            found += 1;
            if !root().join(code).exists() {
                wrong.push(format!("{}: {code}", page.path));
            }
        }
    }
    assert!(wrong.is_empty() && found > 10, "{found} paths; not there:\n{}", wrong.join("\n"));
}

/// Returns the command lines of `sdl` in shell code, each up to the end of its simple command.
fn command_lines(code: &str) -> Vec<String> {
    let joined = code.replace("\\\n", " ");
    let start = pattern(r"(?:^|[|;&(]\s*|\$ |\buntil |\bwhile )(sdl [^#]*)");
    let end = |line: &str| {
        let mut quote = None;
        let position = line.char_indices().find(|(at, c)| {
            match quote {
                Some(open) if open == *c => quote = None,
                None if matches!(c, '\'' | '"') => quote = Some(*c),
                None if matches!(c, '|' | ';' | '>' | ')') || (*c == '&' && line[..*at].ends_with(' ')) => return true,
                _ => {}
            }
            false
        });
        position.map_or(line.len(), |(at, _)| at)
    };
    let mut found = Vec::new();
    for line in joined.lines() {
        let mut rest = line.trim();
        while let Some(line) = start.captures(rest).and_then(|found| found.get(1)) {
            let from = &rest[line.start()..];
            let (command, after) = from.split_at(end(from));
            // In front of `>` stands the number of a stream, as in `2>`.
            let command = if after.starts_with('>') { command.trim_end_matches(" 2") } else { command };
            found.push(command.trim_end().to_owned());
            rest = after;
        }
    }
    found
}

/// Returns the words of a command line, as bash splits and expands them.
fn words(line: &str) -> Vec<String> {
    let script = format!("printf '%s\\0' {line}");
    let ran = Command::new("bash").args(["-fc", &script]).env("MASK_KEY", "k").output().expect("bash starts");
    assert!(ran.status.success(), "{line}: {}", String::from_utf8_lossy(&ran.stderr));
    ran.stdout
        .split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .filter(|word| !word.is_empty())
        .collect()
}

#[test]
fn the_program_accepts_every_command_line() {
    let (mut found, mut wrong) = (0, Vec::new());
    for page in pages() {
        let mut lines = Vec::new();
        for (language, block) in page.blocks() {
            match language.as_str() {
                "sh" | "console" | "" => lines.extend(command_lines(&block)),
                "env" | "ini" => lines.extend(block.lines().filter_map(|line| {
                    let command = line.strip_prefix("COMMAND=").or_else(|| line.strip_prefix("ExecStart=/usr/local/bin/sdl "));
                    command.map(|command| format!("sdl {command}"))
                })),
                _ => {}
            }
        }
        // Lines in the text, unless a word such as COMMAND stands for others.
        let spans = page.code();
        let typed = spans.iter().filter(|code| code.contains(" -") && !code.contains("COMMAND") && !code.contains("..."));
        lines.extend(typed.flat_map(|code| command_lines(code)));
        for line in lines {
            found += 1;
            let parsed = sdl::cli::command().try_get_matches_from(words(&line));
            // --help and --version come as errors that are not meant for stderr.
            wrong.extend(parsed.err().filter(clap::Error::use_stderr).map(|error| format!("{}: {line}\n{error}", page.path)));
        }
    }
    assert!(wrong.is_empty() && found > 60, "{found} lines; refused:\n{}", wrong.join("\n"));
}

#[test]
fn a_command_line_that_is_wrong_is_refused() {
    let lines = command_lines(
        "A=1\nuntil sdl lag g --max-lag 0 > /dev/null; do sleep 1; done\nsdl tail t --no-such-flag | sdl help 'a|b'",
    );
    assert_eq!(lines, ["sdl lag g --max-lag 0", "sdl tail t --no-such-flag", "sdl help 'a|b'"]);
    assert!(sdl::cli::command().try_get_matches_from(words(&lines[1])).is_err());
}

/// Returns the program's source as one text, with string literals on one line.
fn source() -> &'static str {
    static SOURCE: OnceLock<String> = OnceLock::new();
    SOURCE.get_or_init(|| {
        let (mut text, mut folders) = (String::new(), vec![root().join("src")]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    text.push_str(&fs::read_to_string(path).unwrap());
                }
            }
        }
        pattern(r"\\\n\s*").replace_all(&text, "").into_owned()
    })
}

#[test]
fn every_explained_message_exists_in_the_program() {
    let page = fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    let (spans, gaps) = (pattern(r"`([^`]+)`"), pattern(r"\.\.\.|\b[NM]\b|\b[01]\b"));
    let (mut found, mut wrong) = (0, Vec::new());
    for row in page.lines().filter(|line| line.starts_with("| `")) {
        let messages = row.split(" | ").next().unwrap();
        for message in spans.captures_iter(messages) {
            for part in gaps.split(&message[1]).map(|part| part.trim_matches([' ', ':'])).filter(|part| part.len() > 3) {
                found += 1;
                if !source().contains(part) {
                    wrong.push(format!("`{part}` of `{}`", &message[1]));
                }
            }
        }
    }
    assert!(wrong.is_empty() && found > 50, "{found} parts; not in src:\n{}", wrong.join("\n"));
}
