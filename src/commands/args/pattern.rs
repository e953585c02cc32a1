//! Patterns of names: regular expressions, which some mistake for globs.

use regex::Regex;

/// Returns a pattern as it was typed.
pub(crate) fn shown_pattern(pattern: &Regex) -> &str {
    pattern.as_str().trim_start_matches("^(?:").trim_end_matches(")$")
}

/// Returns the end of a sentence about a pattern that matches nothing: what it is, if it looks like a glob.
pub(crate) fn glob_advice(pattern: &Regex) -> String {
    regex_of_glob(shown_pattern(pattern)).map_or_else(String::new, |meant| format!("; {}", meant_regex(&meant)))
}

/// Returns the advice for somebody who meant this expression.
pub(crate) fn meant_regex(meant: &str) -> String {
    format!("a pattern is a regular expression: did you mean `{meant}`?")
}

/// Returns the regular expression for a text that looks like a glob: `log*` and `*-eu` do, `log.*` and `[a-z]*` do not.
pub(crate) fn regex_of_glob(text: &str) -> Option<String> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '*');
    let mut before = None;
    let mut has_glob_star = false;
    for c in text.chars() {
        if !is_of_name(c) || (c == '*' && before == Some('.')) {
            return None;
        }
        has_glob_star |= c == '*';
        before = Some(c);
    }
    has_glob_star.then(|| text.replace('.', "\\.").replace('*', ".*"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::args::parse_pattern;

    #[test]
    fn a_glob_is_told_from_a_regular_expression() {
        for (text, meant) in [
            ("log*", Some("log.*")),
            ("*", Some(".*")),
            ("*-eu", Some(".*-eu")),
            ("shop.orders*", Some("shop\\.orders.*")),
            ("log.*", None),
            ("logins", None),
            ("[a-z]*", None),
            ("(a|b)*", None),
            ("", None),
        ] {
            assert_eq!(regex_of_glob(text).as_deref(), meant, "{text}");
        }
    }

    #[test]
    fn the_advice_quotes_what_was_meant() {
        let advice = |pattern: &str| glob_advice(&parse_pattern(pattern).unwrap());
        assert_eq!(advice("log*"), "; a pattern is a regular expression: did you mean `log.*`?");
        assert_eq!(advice("log.*"), "");
    }
}
