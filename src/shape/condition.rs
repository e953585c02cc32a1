//! `where`: the records to keep.
//!
//! ```text
//! condition  = comparison { "and" comparison }
//! comparison = FIELD
//!            | FIELD ( "=" | "==" | "!=" | "<" | "<=" | ">" | ">=" | "~" ) value
//!            | FIELD "in" "(" value { "," value } ")"
//! value      = WORD | "'" text "'" | JSON string
//! ```
//! A word ends at white space, inside `in ( )` also at a comma or parenthesis. Anything else is refused with its place.

use std::cmp::Ordering;

use regex::Regex;

use crate::shape::decimal::Decimal;
use crate::shape::document::{Node, elements, plain_text};
use crate::shape::path::Path;

/// The syntax of a condition, for hints.
pub(super) const GRAMMAR: &str = "FIELD, FIELD = VALUE (or ==, !=, <, <=, >, >=, ~ for a regex) or FIELD in (A, B), \
                                  several joined by `and`, values with blanks in quotes: \"city = 'New York' and n > 5\"";

/// A test of one field.
#[derive(Debug)]
pub(super) struct Condition {
    pub(super) path: Path,
    test: Test,
}

#[derive(Debug)]
enum Test {
    Present,
    OneOf(Vec<Operand>),
    Unequal(Operand),
    Ordered(fn(Ordering) -> bool, Operand),
    Matches(Regex),
}

/// The value that a field is compared with.
#[derive(Debug)]
struct Operand {
    text: String,
    number: Option<Decimal>,
    /// Written in quotes: equals strings only.
    quoted: bool,
}

impl Condition {
    /// Parses comparisons joined by `and`.
    ///
    /// # Errors
    /// With the reason and the place.
    pub(super) fn parse(text: &str) -> Result<Vec<Self>, String> {
        let mut parser = Parser { text, rest: text };
        let mut conditions = Vec::new();
        loop {
            conditions.push(parser.comparison()?);
            if parser.is_at_end() {
                return Ok(conditions);
            }
            if !parser.take_keyword("and") {
                return Err(parser.unexpected());
            }
        }
    }

    /// Returns whether the condition holds: for the field, or for any element where its path goes through an array.
    pub(super) fn matches(&self, document: &mut Node<'_>) -> bool {
        let mut any = false;
        document.visit(&self.path.names, &mut |value| {
            any = any || value.is_some_and(|value| any_element(value.text(), &|text| self.test.passes(text)));
        });
        // The exact opposite of `=`: a missing field is unequal to everything.
        any != matches!(self.test, Test::Unequal(_))
    }
}

/// Returns the error of a regular expression in one line, without the picture of it.
pub(crate) fn regex_error(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.rsplit('\n').next().unwrap_or_default();
    last.trim_start_matches("error: ").trim_end_matches('.').to_owned()
}

/// Returns whether the value passes, or any element of an array.
fn any_element(text: &str, passes: &impl Fn(&str) -> bool) -> bool {
    passes(text) || text.starts_with('[') && elements(text).any(|element| any_element(element, passes))
}

impl Test {
    /// Returns whether the JSON value `text` passes; for [`Test::Unequal`], whether it is equal.
    fn passes(&self, text: &str) -> bool {
        if text.starts_with(['{', '[']) {
            return matches!(self, Self::Present);
        }
        let plain = plain_text(text);
        let is_string = text.starts_with('"');
        match self {
            Self::Present => true,
            Self::Matches(regex) => regex.is_match(&plain),
            Self::OneOf(operands) => operands.iter().any(|operand| operand.equals(&plain, is_string)),
            Self::Unequal(operand) => operand.equals(&plain, is_string),
            Self::Ordered(fits, operand) => fits(match (&operand.number, Decimal::parse(&plain)) {
                (Some(limit), Some(number)) => number.cmp(limit),
                (None, _) if is_string => plain.as_ref().cmp(&operand.text),
                _ => return false,
            }),
        }
    }
}

impl Operand {
    fn word(text: &str) -> Self {
        Self { text: text.to_owned(), number: Decimal::parse(text), quoted: false }
    }

    fn equals(&self, plain: &str, is_string: bool) -> bool {
        if is_string {
            return plain == self.text;
        }
        !self.quoted
            && match (&self.number, Decimal::parse(plain)) {
                (Some(wanted), Some(number)) => number == *wanted,
                _ => plain == self.text,
            }
    }
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn comparison(&mut self) -> Result<Condition, String> {
        self.skip_blanks();
        let path = self.path()?;
        let test = if self.is_at_end() || self.is_at_keyword("and") {
            Test::Present
        } else if self.take_keyword("in") {
            Test::OneOf(self.list()?)
        } else {
            self.operator_and_value()?
        };
        Ok(Condition { path, test })
    }

    fn path(&mut self) -> Result<Path, String> {
        let mut escaped = false;
        let end = self.rest.find(|c: char| {
            let here = !escaped && (c.is_whitespace() || "=!<>~()'\"".contains(c));
            escaped = !escaped && c == '\\';
            here
        });
        let (path, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        if path.is_empty() {
            return Err(if self.rest.is_empty() { format!("a field is missing {}", self.place()) } else { self.unexpected() });
        }
        self.rest = rest;
        Path::parse(path)
    }

    fn operator_and_value(&mut self) -> Result<Test, String> {
        self.skip_blanks();
        let operators = ["==", "!=", "<=", ">=", "=", "<", ">", "~"];
        let Some(operator) = operators.into_iter().find(|operator| self.rest.starts_with(operator)) else {
            return Err(self.unexpected());
        };
        self.rest = &self.rest[operator.len()..];
        self.skip_blanks();
        if operator == "~" {
            let regex = self.value(|_| false)?;
            let invalid = |error: regex::Error| format!("`{}` is not a regular expression: {}", regex.text, regex_error(&error));
            return Ok(Test::Matches(Regex::new(&regex.text).map_err(invalid)?));
        }
        if self.rest.starts_with(['=', '!', '<', '>', '~']) {
            return Err(self.unexpected());
        }
        let operand = self.value(|_| false)?;
        Ok(match operator {
            "=" | "==" => Test::OneOf(vec![operand]),
            "!=" => Test::Unequal(operand),
            "<" => Test::Ordered(Ordering::is_lt, operand),
            "<=" => Test::Ordered(Ordering::is_le, operand),
            ">" => Test::Ordered(Ordering::is_gt, operand),
            _ => Test::Ordered(Ordering::is_ge, operand),
        })
    }

    fn list(&mut self) -> Result<Vec<Operand>, String> {
        self.expect('(', "`(` is missing")?;
        let mut operands = Vec::new();
        loop {
            self.skip_blanks();
            operands.push(self.value(|c| ",()".contains(c))?);
            self.skip_blanks();
            match self.rest.strip_prefix(',') {
                Some(rest) => self.rest = rest,
                None => break,
            }
        }
        self.expect(')', "`)` is missing")?;
        Ok(operands)
    }

    /// Takes a word or a quoted text; a word also ends at a character that `ends` selects.
    fn value(&mut self, ends: impl Fn(char) -> bool) -> Result<Operand, String> {
        let place = self.place();
        match self.rest.chars().next() {
            Some('\'') => {
                let end = self.rest[1..].find('\'').ok_or_else(|| format!("a closing `'` is missing {place}"))? + 1;
                self.quoted(end + 1, self.rest[1..end].to_owned())
            }
            Some('"') => {
                let mut strings = serde_json::Deserializer::from_str(self.rest).into_iter::<String>();
                match strings.next() {
                    Some(Ok(text)) => self.quoted(strings.byte_offset(), text),
                    _ => Err(format!("the text {place} is not a JSON string; in '...' nothing needs an escape")),
                }
            }
            Some(quote @ ('‘' | '’' | '‚' | '“' | '”' | '„' | '`' | '´')) => {
                Err(format!("`{quote}` {place} is not a quote: use ' or \""))
            }
            _ => {
                let end = self.rest.find(|c: char| c.is_whitespace() || ends(c)).unwrap_or(self.rest.len());
                let (word, rest) = self.rest.split_at(end);
                if word.is_empty() {
                    return Err(format!("a value is missing {place}; the empty text is ''"));
                }
                self.rest = rest;
                Ok(Operand::word(word))
            }
        }
    }

    /// Returns `text`, which was written in the next `length` bytes.
    fn quoted(&mut self, length: usize, text: String) -> Result<Operand, String> {
        self.rest = &self.rest[length..];
        match self.rest.chars().next() {
            Some(c) if !c.is_whitespace() && !",()".contains(c) => Err(self.unexpected()),
            _ => Ok(Operand { number: None, text, quoted: true }),
        }
    }

    fn expect(&mut self, wanted: char, problem: &str) -> Result<(), String> {
        self.skip_blanks();
        self.rest = self.rest.strip_prefix(wanted).ok_or_else(|| format!("{problem} {}", self.place()))?;
        Ok(())
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn is_at_end(&mut self) -> bool {
        self.skip_blanks();
        self.rest.is_empty()
    }

    fn word(&self) -> &'a str {
        let end = self.rest.find(|c: char| c.is_whitespace() || c == '(').unwrap_or(self.rest.len());
        &self.rest[..end]
    }

    fn is_at_keyword(&mut self, keyword: &str) -> bool {
        self.skip_blanks();
        self.word().eq_ignore_ascii_case(keyword)
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        let found = self.is_at_keyword(keyword);
        if found {
            self.rest = &self.rest[keyword.len()..];
        }
        found
    }

    /// Returns where the parser is: `at column 5` (of characters, from 1), or `at the end`.
    fn place(&self) -> String {
        if self.rest.is_empty() {
            return "at the end".to_owned();
        }
        format!("at column {}", self.text[..self.text.len() - self.rest.len()].chars().count() + 1)
    }

    /// Returns the error of what stands here, with the likely intention.
    fn unexpected(&mut self) -> String {
        self.skip_blanks();
        let word = match self.word() {
            "" => self.rest.get(..1).unwrap_or(self.rest),
            word => word,
        };
        let advice = match word.to_ascii_lowercase().as_str() {
            "or" | "||" => "; for one of several values use `in (A, B)`",
            "&&" | "," | ";" => "; join conditions with `and`",
            "not" | "!" => "; the only negation is `!=`",
            "is" | "eq" | "equals" => "; use `=`",
            "like" | "matches" | "=~" => "; use `~` with a regex",
            "<>" | "=!" => "; use `!=`",
            "=<" => "; use `<=`",
            "=>" => "; use `>=`",
            _ => "",
        };
        format!("unexpected `{word}` {}{advice}", self.place())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(condition: &str, document: &str) -> bool {
        let mut document = Node::parse(document).unwrap();
        let conditions = Condition::parse(condition).unwrap_or_else(|why| panic!("{condition}: {why}"));
        conditions.iter().all(|condition| condition.matches(&mut document))
    }

    #[test]
    fn every_comparison_is_evaluated() {
        let login = r#"{"device_type": "iOS", "n": 10, "at": "1694479551", "ok": true, "no": null, "big": 12345678901234567890}"#;
        for wanted in [
            "device_type = iOS",
            "device_type=iOS",
            "device_type == iOS",
            "device_type = 'iOS'",
            "device_type == \"iOS\"",
            "device_type in (android, iOS)",
            "device_type IN ('iOS')",
            "device_type in(\"iOS\",x)",
            "device_type != android",
            "device_type",
            "device_type ~ ^i",
            "device_type ~ '^i O?|S'",
            "device_type < jOS",
            "device_type = iOS and n = 10",
            "device_type AND n > 9 and ok",
            "n = 10.0",
            "n in (9, 1e1)",
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
            assert!(matches(wanted, login), "{wanted}");
        }
        for unwanted in [
            "device_type = ios",
            "device_type != iOS",
            "device_type in (android, ios)",
            "device_type = iOS and n = 11",
            "missing",
            "missing = x",
            "missing < 5",
            "missing ~ .",
            "missing in (x)",
            "no",
            "device_type > 5",
            "n < 9",
            "n > x",
            "ok = 1",
            r#"n = "10""#,
            "n = '10'",
            "big = 12345678901234567891",
        ] {
            assert!(!matches(unwanted, login), "{unwanted}");
        }
    }

    #[test]
    fn a_condition_reaches_into_objects_and_arrays() {
        let order = r#"{"items": [{"sku": "a"}, {"sku": "b"}], "tags": ["x", "y"], "a.b": 1, "buyer": {"id": 7}}"#;
        for wanted in ["items.sku = b", "items.sku != c", "tags = y", "buyer.id = 7", "buyer", r"a\.b = 1", "tags"] {
            assert!(matches(wanted, order), "{wanted}");
        }
        for unwanted in ["items.sku != b", "tags = z", "buyer = 7", "buyer.id.x", "items.id"] {
            assert!(!matches(unwanted, order), "{unwanted}");
        }
    }

    #[test]
    fn the_last_of_duplicate_names_counts() {
        assert!(matches("a = 2", r#"{"a": 1, "\u0061": 2}"#));
        assert!(!matches("a = 1", r#"{"a": 1, "\u0061": 2}"#));
    }

    #[test]
    fn a_value_may_hold_operators_and_quotes() {
        assert!(matches("a = b=c", r#"{"a": "b=c"}"#));
        assert!(matches("a = f(x),1 and a != 'and'", r#"{"a": "f(x),1"}"#));
        assert!(matches("a = 'O\"Brien and sons'", r#"{"a": "O\"Brien and sons"}"#));
        assert!(matches("a = O'Brien", r#"{"a": "O'Brien"}"#));
        assert!(matches(r"a\=b ~ ^<.>$", r#"{"a=b": "<x>"}"#));
        assert!(matches(r"a\ b = 1", r#"{"a b": 1}"#));
        assert!(matches(r#"a = "  ""#, r#"{"a": "  "}"#));
        assert!(matches("a = ''", r#"{"a": ""}"#));
    }

    #[test]
    fn an_invalid_condition_is_refused_with_its_column() {
        for (condition, why) in [
            ("", "a field is missing at the end"),
            ("= 5", "unexpected `=` at column 1"),
            ("a ! 5", "unexpected `!` at column 3; the only negation is `!=`"),
            ("!a", "unexpected `!a` at column 1"),
            ("a =", "a value is missing at the end; the empty text is ''"),
            ("a = \"x", "the text at column 5 is not a JSON string; in '...' nothing needs an escape"),
            ("a = 'x", "a closing `'` is missing at column 5"),
            ("a = 'x'y", "unexpected `y` at column 8"),
            ("a = \u{201c}x\u{201d}", "`\u{201c}` at column 5 is not a quote: use ' or \""),
            ("a === b", "unexpected `=` at column 5"),
            ("a <> b", "unexpected `>` at column 4"),
            ("a = < b", "unexpected `<` at column 5"),
            ("locale IN FR", "`(` is missing at column 11"),
            ("locale in (FR", "`)` is missing at the end"),
            ("locale in (FR, )", "a value is missing at column 16; the empty text is ''"),
            ("locale in ()", "a value is missing at column 12; the empty text is ''"),
            ("locale = FR or locale = DE", "unexpected `or` at column 13; for one of several values use `in (A, B)`"),
            ("locale = FR && n = 1", "unexpected `&&` at column 13; join conditions with `and`"),
            ("city = New York", "unexpected `York` at column 12"),
            ("größe is 5", "unexpected `is` at column 7; use `=`"),
            ("a like x", "unexpected `like` at column 3; use `~` with a regex"),
            ("a not in (b)", "unexpected `not` at column 3; the only negation is `!=`"),
            ("a = b and", "a field is missing at the end"),
            ("a..b = 1", "`a..b` has a field without a name"),
            ("a ~ (", "`(` is not a regular expression: unclosed group"),
        ] {
            assert_eq!(Condition::parse(condition).unwrap_err(), why, "{condition}");
        }
    }

    proptest! {
        #[test]
        fn no_condition_makes_the_parser_panic(text in "\\PC{0,40}", typed in "[a-c=!<>~'\"(),. \\\\andiou]{0,30}") {
            for text in [&text, &typed] {
                if let Ok(conditions) = Condition::parse(text) {
                    prop_assert!(!conditions.is_empty());
                    let mut document = Node::parse(r#"{"a": [1, "b"], "b": {"c": null}, "c": "x"}"#).unwrap();
                    for condition in &conditions {
                        condition.matches(&mut document);
                    }
                }
            }
        }

        #[test]
        fn a_quoted_value_equals_the_text_between_its_quotes(text in "[^']{0,20}") {
            let document = serde_json::json!({ "a": text }).to_string();
            let (single, double) = (format!("a = '{text}'"), format!("a == {}", serde_json::json!(text)));
            prop_assert!(matches(&single, &document));
            prop_assert!(matches(&double, &document));
        }
    }
}
