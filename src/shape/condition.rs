//! `--where`: which records are wanted.

use std::cmp::Ordering;

use regex::Regex;
use serde_json::value::RawValue;

use crate::shape::decimal::Decimal;
use crate::shape::document::Node;
use crate::shape::path::{Path, split_before};

/// How a condition is written.
pub(super) const GRAMMAR: &str = "FIELD, or FIELD with =, !=, <, <=, >, >= or ~ and a value: 'device_type = iOS'";

/// What a field of a wanted record is like.
#[derive(Debug)]
pub(super) struct Condition {
    path: Path,
    test: Test,
}

#[derive(Debug)]
enum Test {
    Present,
    Equal(Operand),
    Unequal(Operand),
    Ordered(fn(Ordering) -> bool, Operand),
    Matches(Regex),
}

/// The value that a field is compared with.
#[derive(Debug)]
struct Operand {
    text: String,
    number: Option<Decimal>,
    /// Written in quotes: text and nothing else.
    quoted: bool,
}

impl Condition {
    /// Returns the condition that `text` says.
    ///
    /// # Errors
    /// When it says none, with the reason.
    pub(super) fn parse(written: &str) -> Result<Self, String> {
        let (path, comparison) = split_before(written, |c| "=!<>~".contains(c));
        let path = Path::parse(path)?;
        if comparison.is_empty() {
            return Ok(Self { path, test: Test::Present });
        }
        let operator = ["!=", "<=", ">=", "=", "<", ">", "~"].into_iter().find(|operator| comparison.starts_with(operator));
        let operator = operator.ok_or_else(|| format!("`{comparison}` begins with no comparison"))?;
        let value = comparison[operator.len()..].trim();
        let test = match operator {
            "~" => Test::Matches(Regex::new(value).map_err(|error| error.to_string())?),
            "=" => Test::Equal(Operand::parse(value)?),
            "!=" => Test::Unequal(Operand::parse(value)?),
            "<" => Test::Ordered(Ordering::is_lt, Operand::parse(value)?),
            "<=" => Test::Ordered(Ordering::is_le, Operand::parse(value)?),
            ">" => Test::Ordered(Ordering::is_gt, Operand::parse(value)?),
            _ => Test::Ordered(Ordering::is_ge, Operand::parse(value)?),
        };
        Ok(Self { path, test })
    }

    /// Returns whether the condition holds: for the field, or for any element where it goes through an array.
    pub(super) fn matches(&self, document: &mut Node<'_>) -> bool {
        let mut any = false;
        document.visit(&self.path.names, &mut |value| {
            any = any || value.is_some_and(|value| each(value.text(), &|text| self.test.passes(text)));
        });
        // The exact opposite of `=`: a field that is not there is not equal to anything.
        any != matches!(self.test, Test::Unequal(_))
    }
}

/// Returns whether `passes` says so of the value, or of any element if it is an array.
fn each(text: &str, passes: &impl Fn(&str) -> bool) -> bool {
    if passes(text) {
        return true;
    }
    let elements: Vec<&RawValue> =
        if text.starts_with('[') { serde_json::from_str(text).unwrap_or_default() } else { Vec::new() };
    elements.into_iter().any(|element| each(element.get(), passes))
}

impl Test {
    /// Returns whether the value `text`, as it is written, passes; for [`Test::Unequal`], whether it is equal.
    fn passes(&self, text: &str) -> bool {
        let Some(plain) = plain(text) else {
            return matches!(self, Self::Present);
        };
        let is_text = text.starts_with('"');
        match self {
            Self::Present => true,
            Self::Matches(regex) => regex.is_match(&plain),
            Self::Equal(operand) | Self::Unequal(operand) if is_text => plain == operand.text,
            Self::Equal(operand) | Self::Unequal(operand) if operand.quoted => false,
            Self::Equal(operand) | Self::Unequal(operand) => match (&operand.number, Decimal::parse(&plain)) {
                (Some(wanted), Some(number)) => number == *wanted,
                _ => plain == operand.text,
            },
            Self::Ordered(fits, operand) => fits(match (&operand.number, Decimal::parse(&plain)) {
                (Some(limit), Some(number)) => number.cmp(limit),
                (None, _) if is_text => plain.as_str().cmp(&operand.text),
                _ => return false,
            }),
        }
    }
}

/// Returns what a value says: text without quotes, numbers, true and false as they are written.
fn plain(text: &str) -> Option<String> {
    match text.as_bytes().first()? {
        b'{' | b'[' => None,
        b'"' => serde_json::from_str(text).ok(),
        _ => Some(text.to_owned()),
    }
}

impl Operand {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a value is missing; the empty text is \"\"".to_owned());
        }
        if text.starts_with('"') {
            let text = serde_json::from_str(text).map_err(|_| format!("`{text}` is not text in quotes"))?;
            return Ok(Self { text, number: None, quoted: true });
        }
        Ok(Self { text: text.to_owned(), number: Decimal::parse(text), quoted: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(condition: &str, document: &str) -> bool {
        Condition::parse(condition).unwrap().matches(&mut Node::parse(document).unwrap())
    }

    #[test]
    fn every_comparison_does_what_it_says() {
        let login = r#"{"device_type": "iOS", "n": 10, "at": "1694479551", "ok": true, "no": null, "big": 12345678901234567890}"#;
        for wanted in [
            "device_type = iOS",
            "device_type=iOS",
            "device_type != android",
            "device_type",
            "device_type ~ ^i",
            "device_type < jOS",
            "n = 10.0",
            "n < 1e2",
            "n <= 10",
            "n >= 10",
            "n > 9",
            "n ~ ^1",
            "at = 1694479551",
            "at > 999",
            "ok = true",
            "big > 12345678901234567889",
            "big != 12345678901234567891",
            "missing != x",
            "no != x",
            r#"device_type = "iOS""#,
            r#"n != "10""#,
        ] {
            assert!(holds(wanted, login), "{wanted}");
        }
        for unwanted in [
            "device_type = ios",
            "device_type != iOS",
            "missing",
            "missing = x",
            "missing < 5",
            "missing ~ .",
            "no",
            "device_type > 5",
            "n < 9",
            "n > x",
            "ok = 1",
            r#"n = "10""#,
            "big = 12345678901234567891",
        ] {
            assert!(!holds(unwanted, login), "{unwanted}");
        }
    }

    #[test]
    fn a_condition_reaches_into_objects_and_arrays() {
        let order = r#"{"items": [{"sku": "a"}, {"sku": "b"}], "tags": ["x", "y"], "a.b": 1, "buyer": {"id": 7}}"#;
        for wanted in ["items.sku = b", "items.sku != c", "tags = y", "buyer.id = 7", "buyer", r"a\.b = 1", "tags"] {
            assert!(holds(wanted, order), "{wanted}");
        }
        for unwanted in ["items.sku != b", "tags = z", "buyer = 7", "buyer.id.x", "items.id"] {
            assert!(!holds(unwanted, order), "{unwanted}");
        }
    }

    #[test]
    fn of_a_name_that_is_there_twice_the_last_counts() {
        assert!(holds("a = 2", r#"{"a": 1, "\u0061": 2}"#));
        assert!(!holds("a = 1", r#"{"a": 1, "\u0061": 2}"#));
    }

    #[test]
    fn a_value_may_hold_what_a_comparison_is_written_with() {
        assert!(holds("a = b=c", r#"{"a": "b=c"}"#));
        assert!(holds(r"a\=b ~ ^<.>$", r#"{"a=b": "<x>"}"#));
        assert!(holds(r#"a = "  ""#, r#"{"a": "  "}"#));
    }

    #[test]
    fn what_is_no_condition_says_why() {
        let wrong = |text| Condition::parse(text).unwrap_err();
        assert_eq!(wrong("= 5"), "`` has a field without a name");
        assert_eq!(wrong("a ! 5"), "`! 5` begins with no comparison");
        assert_eq!(wrong("a ="), "a value is missing; the empty text is \"\"");
        assert_eq!(wrong("a = \"x"), "`\"x` is not text in quotes");
        assert!(wrong("a ~ (").contains("unclosed group"));
    }
}
