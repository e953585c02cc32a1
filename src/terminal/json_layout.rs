//! JSON in colour, with as many members on a line as fit.

use std::fmt::Write as _;

use clap::builder::styling::{AnsiColor, Style};
use unicode_width::UnicodeWidthStr as _;

/// The styles of JSON tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct JsonStyle {
    pub(super) name: Style,
    pub(super) text: Style,
    pub(super) number: Style,
    pub(super) keyword: Style,
}

impl JsonStyle {
    pub(super) fn new(color: bool) -> Self {
        if !color {
            return Self { name: Style::new(), text: Style::new(), number: Style::new(), keyword: Style::new() };
        }
        Self {
            name: AnsiColor::Blue.on_default(),
            text: AnsiColor::Green.on_default(),
            number: AnsiColor::Yellow.on_default(),
            keyword: AnsiColor::Magenta.on_default(),
        }
    }
}

enum JsonNode<'a> {
    Plain(&'a str),
    Object(Vec<(&'a str, JsonNode<'a>)>),
    Array(Vec<JsonNode<'a>>),
}

/// Appends `json`, which must be valid and without control characters, in lines of at most `width` columns where possible, each
/// indented by `margin`. Tokens and their order do not change.
pub(super) fn lay_out(json: &str, width: usize, margin: usize, look: &JsonStyle, out: &mut String) {
    let mut rest = json;
    let node = parse(&mut rest);
    let mut layout = JsonLayout { width, style: look, column: margin, lines: 0, out };
    layout.indent(margin);
    layout.write(&node, margin, 0);
    out.push('\n');
}

/// Takes the next value; text that is not JSON becomes a token.
fn parse<'a>(rest: &mut &'a str) -> JsonNode<'a> {
    skip_whitespace(rest);
    match rest.bytes().next() {
        Some(b'{') => {
            let mut members = Vec::new();
            *rest = &rest[1..];
            loop {
                skip_whitespace(rest);
                match rest.bytes().next() {
                    Some(b',' | b':') => *rest = &rest[1..],
                    Some(b'"') => {
                        let name = take_token(rest);
                        skip_whitespace(rest);
                        *rest = rest.strip_prefix(':').unwrap_or(rest);
                        members.push((name, parse(rest)));
                    }
                    Some(b'}') => {
                        *rest = &rest[1..];
                        return JsonNode::Object(members);
                    }
                    _ => return JsonNode::Object(members),
                }
            }
        }
        Some(b'[') => {
            let mut elements = Vec::new();
            *rest = &rest[1..];
            loop {
                skip_whitespace(rest);
                match rest.bytes().next() {
                    Some(b',') => *rest = &rest[1..],
                    Some(b']') => {
                        *rest = &rest[1..];
                        return JsonNode::Array(elements);
                    }
                    Some(_) => elements.push(parse(rest)),
                    None => return JsonNode::Array(elements),
                }
            }
        }
        _ => JsonNode::Plain(take_token(rest)),
    }
}

fn skip_whitespace(rest: &mut &str) {
    *rest = rest.trim_start_matches([' ', '\t', '\n', '\r']);
}

/// Takes the string, number or keyword at the beginning of `rest`.
fn take_token<'a>(rest: &mut &'a str) -> &'a str {
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

struct JsonLayout<'a> {
    width: usize,
    style: &'a JsonStyle,
    column: usize,
    lines: usize,
    out: &'a mut String,
}

impl JsonLayout<'_> {
    /// Writes a value at `self.column`; its line began at `indent`, and `behind` columns are reserved for the text after it.
    fn write(&mut self, node: &JsonNode<'_>, indent: usize, behind: usize) {
        let most = self.width;
        let fits = |at: usize, node: &JsonNode<'_>, behind| width(node, most).is_some_and(|wide| at + wide + behind <= most);
        match node {
            JsonNode::Plain(word) => self.push(word, self.style_of(word)),
            JsonNode::Object(members) => {
                let flat = fits(self.column, node, behind);
                self.push("{", Style::new());
                let mut broken = false;
                for (i, (name, value)) in members.iter().enumerate() {
                    let comma = usize::from(i + 1 < members.len());
                    let wide = name.width() + 2;
                    self.separate(i, flat || !broken && fits(self.column + 2 + wide, value, comma.max(behind)), indent + 1);
                    let line = self.lines;
                    self.push(name, self.style.name);
                    self.push(": ", Style::new());
                    self.write(value, indent + 1, comma.max(behind));
                    // Text behind a member of several lines would be overlooked.
                    broken = self.lines > line;
                }
                self.push("}", Style::new());
            }
            JsonNode::Array(elements) => {
                let flat = fits(self.column, node, behind);
                self.push("[", Style::new());
                let mut broken = false;
                for (i, value) in elements.iter().enumerate() {
                    let comma = usize::from(i + 1 < elements.len());
                    self.separate(i, flat || !broken && fits(self.column + 2, value, comma.max(behind)), indent + 1);
                    let line = self.lines;
                    self.write(value, indent + 1, comma.max(behind));
                    // Text behind a member of several lines would be overlooked.
                    broken = self.lines > line;
                }
                self.push("]", Style::new());
            }
        }
    }

    /// Separates two members: by a blank if the next fits on this line, else by a new line.
    fn separate(&mut self, i: usize, fits: bool, indent: usize) {
        if i == 0 {
            return;
        }
        self.push(",", Style::new());
        if fits {
            self.push(" ", Style::new());
        } else {
            self.out.push('\n');
            self.column = indent;
            self.lines += 1;
            self.indent(indent);
        }
    }

    fn style_of(&self, word: &str) -> Style {
        match word.as_bytes().first() {
            Some(b'"') => self.style.text,
            Some(b'0'..=b'9' | b'-') => self.style.number,
            _ => self.style.keyword,
        }
    }

    fn push(&mut self, text: &str, style: Style) {
        self.column += text.width();
        let _ = write!(self.out, "{style}{text}{style:#}");
    }

    fn indent(&mut self, count: usize) {
        self.out.extend(std::iter::repeat_n(' ', count));
    }
}

/// Returns the width of a value on one line, if it is at most `most`.
fn width(node: &JsonNode<'_>, most: usize) -> Option<usize> {
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
        JsonNode::Plain(word) => Some(word.width()),
        JsonNode::Object(members) => {
            let mut widths = members.iter().map(|(name, value)| Some(name.width() + 2 + width(value, most)?));
            sum(&mut widths, members.len())
        }
        JsonNode::Array(elements) => sum(&mut elements.iter().map(|element| width(element, most)), elements.len()),
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
    fn short_values_are_on_one_line() {
        assert_eq!(laid_out("[1,2 , {\"a\":\ttrue}]", 40), "  [1, 2, {\"a\": true}]\n");
        assert_eq!(laid_out("{}", 40), "  {}\n");
        assert_eq!(laid_out(" \"a, b\\\"]\" ", 40), "  \"a, b\\\"]\"\n");
    }

    #[test]
    fn long_values_break_between_members() {
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
    fn each_key_and_value_is_coloured() {
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
        fn laid_out_json_has_the_same_value(value in any_json(), width in 0_usize..60, pretty in any::<bool>()) {
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
