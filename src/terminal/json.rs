//! JSON in colour, as many members on a line as fit.

use std::fmt::Write as _;

use clap::builder::styling::{AnsiColor, Style};
use unicode_width::UnicodeWidthStr as _;

/// How the parts of JSON look.
#[derive(Clone, Copy, Debug)]
pub(super) struct JsonStyle {
    pub(super) name: Style,
    pub(super) text: Style,
    pub(super) number: Style,
    pub(super) word: Style,
}

impl JsonStyle {
    /// Returns the look in colour, or without any.
    pub(super) fn new(color: bool) -> Self {
        if !color {
            return Self { name: Style::new(), text: Style::new(), number: Style::new(), word: Style::new() };
        }
        Self {
            name: AnsiColor::Blue.on_default(),
            text: AnsiColor::Green.on_default(),
            number: AnsiColor::Yellow.on_default(),
            word: AnsiColor::Magenta.on_default(),
        }
    }
}

/// A value that is laid out.
enum LaidOutNode<'a> {
    Plain(&'a str),
    Object(Vec<(&'a str, LaidOutNode<'a>)>),
    Array(Vec<LaidOutNode<'a>>),
}

/// Appends `json`, which must be valid and harmless, in lines of at most `width` columns where that can be; every line begins
/// with `margin` blanks. Numbers, names and text keep their writing; members keep their order.
pub(super) fn lay_out(json: &str, width: usize, margin: usize, look: &JsonStyle, out: &mut String) {
    let mut rest = json;
    let node = parse(&mut rest);
    let mut layout = JsonWriter { width, look, column: margin, lines: 0, out };
    layout.blanks(margin);
    layout.write(&node, margin, 0);
    out.push('\n');
}

/// Returns the next value and takes it away; what is not JSON becomes a word.
fn parse<'a>(rest: &mut &'a str) -> LaidOutNode<'a> {
    skip(rest);
    match rest.bytes().next() {
        Some(b'{') => {
            let mut members = Vec::new();
            *rest = &rest[1..];
            loop {
                skip(rest);
                match rest.bytes().next() {
                    Some(b',' | b':') => *rest = &rest[1..],
                    Some(b'"') => {
                        let name = word(rest);
                        skip(rest);
                        *rest = rest.strip_prefix(':').unwrap_or(rest);
                        members.push((name, parse(rest)));
                    }
                    Some(b'}') => {
                        *rest = &rest[1..];
                        return LaidOutNode::Object(members);
                    }
                    _ => return LaidOutNode::Object(members),
                }
            }
        }
        Some(b'[') => {
            let mut elements = Vec::new();
            *rest = &rest[1..];
            loop {
                skip(rest);
                match rest.bytes().next() {
                    Some(b',') => *rest = &rest[1..],
                    Some(b']') => {
                        *rest = &rest[1..];
                        return LaidOutNode::Array(elements);
                    }
                    Some(_) => elements.push(parse(rest)),
                    None => return LaidOutNode::Array(elements),
                }
            }
        }
        _ => LaidOutNode::Plain(word(rest)),
    }
}

fn skip(rest: &mut &str) {
    *rest = rest.trim_start_matches([' ', '\t', '\n', '\r']);
}

/// Returns the text, number or word that `rest` begins with, as it is written, and takes it away.
fn word<'a>(rest: &mut &'a str) -> &'a str {
    let bytes = rest.as_bytes();
    let end = if bytes.first() == Some(&b'"') {
        let mut at = 1;
        while at < bytes.len() && bytes[at] != b'"' {
            at += if bytes[at] == b'\\' { 2 } else { 1 };
        }
        (at + 1).min(bytes.len())
    } else {
        bytes.iter().position(|byte| b",]} \t\r\n".contains(byte)).unwrap_or(bytes.len()).max(1).min(bytes.len())
    };
    let (word, behind) = rest.split_at(end);
    *rest = behind;
    word
}

struct JsonWriter<'a> {
    width: usize,
    look: &'a JsonStyle,
    column: usize,
    lines: usize,
    out: &'a mut String,
}

impl JsonWriter<'_> {
    /// Writes a value whose first column is `self.column`; `indent` is where its line began, and `behind` columns must be left
    /// for what follows it.
    fn write(&mut self, node: &LaidOutNode<'_>, indent: usize, behind: usize) {
        let most = self.width;
        let fits = |at: usize, node: &LaidOutNode<'_>, behind| width(node, most).is_some_and(|wide| at + wide + behind <= most);
        match node {
            LaidOutNode::Plain(word) => self.put(word, self.of(word)),
            LaidOutNode::Object(members) => {
                let flat = fits(self.column, node, behind);
                self.put("{", Style::new());
                let mut broken = false;
                for (i, (name, value)) in members.iter().enumerate() {
                    let comma = usize::from(i + 1 < members.len());
                    let wide = name.width() + 2;
                    self.separate(i, flat || !broken && fits(self.column + 2 + wide, value, comma.max(behind)), indent + 1);
                    let line = self.lines;
                    self.put(name, self.look.name);
                    self.put(": ", Style::new());
                    self.write(value, indent + 1, comma.max(behind));
                    // What stands behind a member of several lines would be overlooked.
                    broken = self.lines > line;
                }
                self.put("}", Style::new());
            }
            LaidOutNode::Array(elements) => {
                let flat = fits(self.column, node, behind);
                self.put("[", Style::new());
                let mut broken = false;
                for (i, value) in elements.iter().enumerate() {
                    let comma = usize::from(i + 1 < elements.len());
                    self.separate(i, flat || !broken && fits(self.column + 2, value, comma.max(behind)), indent + 1);
                    let line = self.lines;
                    self.write(value, indent + 1, comma.max(behind));
                    // What stands behind a member of several lines would be overlooked.
                    broken = self.lines > line;
                }
                self.put("]", Style::new());
            }
        }
    }

    /// Writes what stands between two members: a blank when the next still fits on this line, else a new line.
    fn separate(&mut self, i: usize, fits: bool, indent: usize) {
        if i == 0 {
            return;
        }
        self.put(",", Style::new());
        if fits {
            self.put(" ", Style::new());
        } else {
            self.out.push('\n');
            self.column = indent;
            self.lines += 1;
            self.blanks(indent);
        }
    }

    fn of(&self, word: &str) -> Style {
        match word.as_bytes().first() {
            Some(b'"') => self.look.text,
            Some(b'0'..=b'9' | b'-') => self.look.number,
            _ => self.look.word,
        }
    }

    fn put(&mut self, text: &str, style: Style) {
        self.column += text.width();
        let _ = write!(self.out, "{style}{text}{style:#}");
    }

    fn blanks(&mut self, count: usize) {
        self.out.extend(std::iter::repeat_n(' ', count));
    }
}

/// Returns how wide a value is on one line, unless that is more than `most`.
fn width(node: &LaidOutNode<'_>, most: usize) -> Option<usize> {
    let sum = |widths: &mut dyn Iterator<Item = Option<usize>>, count: usize| {
        let mut all = 2 + 2 * count.saturating_sub(1);
        for width in widths {
            all += width?;
            if all > most {
                return None;
            }
        }
        Some(all)
    };
    match node {
        LaidOutNode::Plain(word) => Some(word.width()),
        LaidOutNode::Object(members) => {
            let mut widths = members.iter().map(|(name, value)| Some(name.width() + 2 + width(value, most)?));
            sum(&mut widths, members.len())
        }
        LaidOutNode::Array(elements) => sum(&mut elements.iter().map(|element| width(element, most)), elements.len()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn laid_out(json: &str, width: usize) -> String {
        let mut out = String::new();
        lay_out(json, width, 2, &JsonStyle::new(false), &mut out);
        out
    }

    #[test]
    fn what_fits_stands_on_one_line() {
        assert_eq!(laid_out("[1,2 , {\"a\":\ttrue}]", 40), "  [1, 2, {\"a\": true}]\n");
        assert_eq!(laid_out("{}", 40), "  {}\n");
        assert_eq!(laid_out(" \"a, b\\\"]\" ", 40), "  \"a, b\\\"]\"\n");
    }

    #[test]
    fn what_does_not_fit_is_broken_between_members() {
        let json = r#"{"name": "value", "list": [1, 2, 3], "deep": {"one": "xxxxxxxx", "two": "yyyyyyyyyyyyyyy"}, "n": 1e5}"#;
        let expected = r#"
  {"name": "value", "list": [1, 2, 3],
   "deep": {"one": "xxxxxxxx",
    "two": "yyyyyyyyyyyyyyy"},
   "n": 1e5}
"#;
        assert_eq!(laid_out(json, 40), expected[1..]);
    }

    #[test]
    fn colour_is_around_each_part() {
        let mut out = String::new();
        lay_out(r#"{"a":[-1,null,"x"]}"#, 40, 0, &JsonStyle::new(true), &mut out);
        assert_eq!(out, "{\x1b[34m\"a\"\x1b[0m: [\x1b[33m-1\x1b[0m, \x1b[35mnull\x1b[0m, \x1b[32m\"x\"\x1b[0m]}\n");
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                proptest::collection::hash_map(any::<String>(), inner, 0..6)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_value_stays_the_same(value in any_json(), width in 0_usize..60, pretty in any::<bool>()) {
            let json = if pretty { format!("{value:#}") } else { value.to_string() };
            let shown = laid_out(&json, width);
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = laid_out(&text, 20);
        }
    }
}
