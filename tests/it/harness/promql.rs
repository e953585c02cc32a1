//! What an expression of PromQL asks for.

/// Keywords that precede label names in parentheses.
const BEFORE_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
/// What combines series, with `by` or without.
const AGGREGATORS: [&str; 12] =
    ["sum", "min", "max", "avg", "group", "stddev", "stdvar", "count", "count_values", "bottomk", "topk", "quantile"];
/// Other words that are not metric names.
const WORDS: [&str; 8] = ["and", "or", "unless", "offset", "bool", "atan2", "inf", "nan"];

/// A metric with its matchers, as `sdl_errors_total{kind="retry"}`; ranges and offsets are left out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Selector {
    /// The metric's name.
    pub(crate) name: String,
    /// The whole of it.
    pub(crate) text: String,
}

/// Returns the metrics that an expression asks for.
pub(crate) fn selectors(expression: &str) -> Vec<Selector> {
    let mut found: Vec<Selector> = Vec::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        let word = length(rest, |c| c.is_alphanumeric() || c == '_' || c == ':' || c == '.');
        let after = rest[word..].trim_start();
        let (name, next) = (&rest[..word], after.chars().next());
        if word > 0 && first.is_ascii_digit() {
            rest = after; // a number, or a duration
        } else if BEFORE_LABELS.contains(&name) {
            rest = if next == Some('(') { past(after, ')') } else { after };
        } else if word > 0 && (next == Some('(') || WORDS.contains(&name) || AGGREGATORS.contains(&name)) {
            rest = after;
        } else if word > 0 {
            rest = if next == Some('{') { past(after, '}') } else { after };
            let matchers = &after[..after.len() - rest.len()];
            found.push(Selector { name: name.to_owned(), text: format!("{name}{matchers}") });
        } else {
            rest = match first {
                '[' => past(rest, ']'),
                '"' => past(rest, '"'),
                '{' => panic!("a selector without a name in `{expression}`"),
                _ => &rest[first.len_utf8()..],
            };
        }
    }
    found
}

fn length(text: &str, is_part: impl Fn(char) -> bool) -> usize {
    text.find(|c| !is_part(c)).unwrap_or(text.len())
}

/// Returns the text after the next unquoted `end`.
fn past(text: &str, end: char) -> &str {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == end && !quoted => return &text[at + end.len_utf8()..],
            '"' => quoted = !quoted,
            _ => {}
        }
    }
    panic!("`{text}` has no `{end}`");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(expression: &str) -> Vec<String> {
        selectors(expression).into_iter().map(|selector| selector.text).collect()
    }

    #[test]
    fn metrics_are_found_among_functions_labels_and_numbers() {
        assert_eq!(
            texts("sum by (job, le) (rate(a_total{kind=~\"x|}\"}[10m] offset 5m)) / on (job) group_left b > 0.5e3"),
            ["a_total{kind=~\"x|}\"}", "b"]
        );
        assert_eq!(texts("topk(15, c{}) unless ignoring(x) d or vector(1)"), ["c{}", "d"]);
        assert_eq!(texts("label_replace(up{job=\"kafka\"}, \"x\", \"$1\", \"y\", \"(.*)\") == 0"), ["up{job=\"kafka\"}"]);
        assert_eq!(selectors("f{x=\"1\"}")[0].name, "f");
    }
}
