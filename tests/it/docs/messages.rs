//! Each message that docs/troubleshooting.md explains is met by a test that runs the program into the fault.

use super::*;

/// The messages that no run of a test meets, each with the reason. One that a test meets has to be removed.
const UNMET: [(&str, &str); 1] = [(
    "the name ends with a dot, which TLS does not allow",
    "only a name server resolves such a name, and the tests have none: src/connectors/kafka/diagnosis_tests.rs has librdkafka's lines",
)];

/// A shorter part of a message says too little, unless it is all there is of it.
const SHORTEST_PART: usize = 8;

/// Returns the string literals of Rust code, as the compiler reads them; comments have none.
fn literals(code: &str) -> Vec<String> {
    let tokens = pattern(concat!(
        r"(?s)//[^\n]*|/\*.*?\*/|'(?:\\.[^']*|[^\\'\n])'",
        r##"|r#"(?<hashed>.*?)"#|r"(?<raw>[^"]*)"|"(?<usual>(?:\\.|[^"\\])*)""##
    ));
    let sequence = pattern(r"(?s)\\(\n\s*|.)");
    let escaped = |found: &regex::Captures<'_>| match &found[1] {
        "n" => "\n".to_owned(),
        "t" => "\t".to_owned(),
        line if line.starts_with('\n') => String::new(),
        other => other.to_owned(),
    };
    let literal = |found: regex::Captures<'_>| {
        let raw = found.name("hashed").or_else(|| found.name("raw")).map(|raw| raw.as_str().to_owned());
        raw.or_else(|| found.name("usual").map(|usual| sequence.replace_all(usual.as_str(), escaped).into_owned()))
    };
    tokens.captures_iter(code).filter_map(literal).collect()
}

/// Returns the string literals of the tests that run the program, and of what the tests of several sinks expect; not those of the rest
/// of the harness, nor those about the pages.
fn literals_of_runs() -> Vec<String> {
    let runs = pattern(r"\bSdl\b|\bFolder\b|\.sdl\(|\.fails\(");
    let expected_of_sinks = fs::read_to_string(root().join("tests/it/harness/taken_ids.rs")).unwrap();
    let (mut found, mut folders) = (literals(&expected_of_sinks), vec![root().join("tests/it")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            if matches!(name, "docs" | "harness") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let code = fs::read_to_string(path).unwrap();
                if runs.is_match(&code) {
                    found.extend(literals(&code));
                }
            }
        }
    }
    assert!(found.len() > 1_000, "{} literals are found", found.len());
    found
}

/// Returns the literal parts of the first column of each row of the page's tables.
fn explained(page: &str) -> Vec<String> {
    let (spans, gaps) = (pattern(r"`([^`]+)`"), pattern(r"\.\.\.|\b[NM]\b"));
    let mut parts = Vec::new();
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| message |")) {
        let cell = row.trim_start_matches("| ").split(" | ").next().unwrap();
        let mut messages: Vec<&str> = spans.captures_iter(cell).map(|span| span.get(1).unwrap().as_str()).collect();
        if messages.is_empty() {
            messages.push(cell);
        }
        for message in messages {
            let own: Vec<&str> = gaps.split(message).map(|part| part.trim_matches([' ', ':', ','])).collect();
            let longest = own.iter().map(|part| part.len()).max().unwrap_or_default();
            parts.extend(own.into_iter().filter(|part| part.len() >= longest.min(SHORTEST_PART)).map(str::to_owned));
        }
    }
    parts
}

#[test]
fn each_explained_message_is_met_by_a_run() {
    let page = fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    let (parts, literals) = (explained(&page), literals_of_runs());
    let is_met = |part: &str| literals.iter().any(|literal| literal.contains(part));
    let is_excepted = |part: &str| UNMET.iter().any(|(unmet, _)| *unmet == part);
    let unmet: Vec<_> = parts.iter().filter(|part| !is_met(part) && !is_excepted(part)).collect();
    assert!(unmet.is_empty() && parts.len() > 90, "{} parts; no test expects {unmet:#?}", parts.len());
    for (part, _) in UNMET {
        assert!(parts.iter().any(|explained| explained == part), "`{part}` is not on the page: it needs no exception");
        assert!(!is_met(part), "a test meets `{part}`: it needs no exception");
    }
}

#[test]
fn string_literals_are_told_from_comments_and_characters() {
    let code = r##"
        // "a comment"
        /* "another
           one" */
        let (quote, lifetime): (char, &'static str) = ('"', "a \"quote\" and // no comment"); // it's "one"
        let (escaped, raw) = ('\'', r"a\b");
        let hashed = r#"{"a": 1}"#;
        let long = "over two \
                    lines\n";
    "##;
    let expected = ["a \"quote\" and // no comment", r"a\b", r#"{"a": 1}"#, "over two lines\n"];
    assert_eq!(literals(code), expected);
}

#[test]
fn a_message_is_split_at_its_names_and_numbers() {
    let page = "| message | cause |\n|---|---|\n| `group ... has N of ... members`, `0 of ... matched` (exit 4) | why |\n\
                | a symptom | why |\n| `broker N, advertised as ...` | `not this` |\n";
    assert_eq!(explained(page), ["members", "matched", "a symptom", "advertised as"]);
}
