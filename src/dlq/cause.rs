//! The message of a failure without what differs from record to record.

use std::sync::LazyLock;

use regex::{Captures, Regex};

/// The most characters of a normalised cause.
const MAX_CAUSE_CHARS: usize = 160;

/// What is replaced: quoted text (not the names in backticks), UUIDs, times, long hexadecimal ids, numbers.
static VARIABLE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r#"(?P<text>"[^"\n]*"|'[^'\n]*')"#,
        r"|(?P<uuid>\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b)",
        r"|(?P<time>\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?\b)",
        r"|(?P<number>[+-]?\d+([.,]\d+)*\b)",
        r"|(?P<id>\b[0-9a-f]*\d[0-9a-f]*\b)",
    ))
    .expect("the expression is valid")
});

/// Returns the first line of `message` with placeholders for quoted text, ids, times and numbers, with single blanks.
pub(super) fn normalised(message: &str) -> String {
    let line = message.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let replaced = VARIABLE.replace_all(line, |found: &Captures<'_>| placeholder(found));
    let mut cause = String::with_capacity(replaced.len());
    for (number, word) in replaced.split_whitespace().enumerate() {
        if number > 0 {
            cause.push(' ');
        }
        cause.push_str(word);
    }
    match cause.char_indices().nth(MAX_CAUSE_CHARS) {
        Some((end, _)) => cause[..end].to_owned() + "…",
        None => cause,
    }
}

fn placeholder(found: &Captures<'_>) -> String {
    let matched = |name: &str| found.name(name).is_some();
    let text = &found[0];
    if matched("text") {
        "<text>".to_owned()
    } else if matched("uuid") {
        "<uuid>".to_owned()
    } else if matched("time") {
        "<time>".to_owned()
    } else if matched("number") {
        "<n>".to_owned()
    } else if text.len() >= 8 {
        "<id>".to_owned()
    } else {
        // A word with a digit, such as `e2`: only its number differs.
        text.split_inclusive(|c: char| c.is_ascii_digit()).fold(String::new(), |mut word, part| {
            let letters = part.trim_end_matches(|c: char| c.is_ascii_digit());
            if !letters.is_empty() || word.is_empty() {
                word.push_str(letters);
                if letters.len() < part.len() {
                    word.push_str("<n>");
                }
            }
            word
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_differs_from_record_to_record_is_replaced() {
        for (message, cause) in [
            ("`timestamp` is missing", "`timestamp` is missing"),
            ("`timestamp` is text: Preview: 'abc'", "`timestamp` is text: Preview: <text>"),
            ("For input string: \"12a\"", "For input string: <text>"),
            ("the record has 1,048 bytes, above the 512", "the record has <n> bytes, above the <n>"),
            ("user 7c9e6679-7425-40de-944b-e07fc1f90ae7 at -1.5", "user <uuid> at <n>"),
            ("no such order 64f0c1e2a9b34d77aa10", "no such order <id>"),
            ("late: 2026-03-01T09:14:07.123Z", "late: <time>"),
            ("not JSON: expected value at line 1 column 22", "not JSON: expected value at line <n> column <n>"),
            ("  first\t line \nsecond line", "first line"),
            ("", ""),
        ] {
            assert_eq!(normalised(message), cause, "{message}");
        }
        assert_eq!(normalised(&"word ".repeat(100)).chars().count(), MAX_CAUSE_CHARS + 1);
    }

    proptest! {
        #[test]
        fn two_messages_that_differ_in_a_number_have_one_cause(one in any::<u32>(), other in any::<u32>()) {
            let cause = |number: u32| normalised(&format!("offset {number} of 'a{number}' is bad"));
            prop_assert_eq!(cause(one), cause(other));
        }

        #[test]
        fn a_cause_is_one_short_line(message in "\\PC*|[a-f0-9 \n\"']*") {
            let cause = normalised(&message);
            prop_assert!(!cause.contains('\n') && cause.chars().count() <= MAX_CAUSE_CHARS + 1, "{}", cause);
        }
    }
}
