//! JSON in colour, as many members on a line as fit.

use std::fmt::Write as _;

use clap::builder::styling::{AnsiColor, Style};
use unicode_width::UnicodeWidthStr as _;

/// How the parts of JSON look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) name: Style,
    pub(super) text: Style,
    pub(super) number: Style,
    pub(super) word: Style,
}

impl Look {
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
enum Node<'a> {
    Plain(&'a str),
    Object(Vec<(&'a str, Node<'a>)>),
    Array(Vec<Node<'a>>),
}

/// Appends `json`, which must be valid and harmless, in lines of at most `width` columns where that can be; every line begins
/// with `margin` blanks. Numbers, names and text keep their writing; members keep their order.
pub(super) fn lay_out(json: &str, width: usize, margin: usize, look: &Look, out: &mut String) {
    let mut rest = json;
    let node = parse(&mut rest);
    let mut layout = Layout { width, look, column: margin, out };
    layout.blanks(margin);
    layout.write(&node, margin, 0);
    out.push('\n');
}

/// Returns the next value and takes it away; what is not JSON becomes a word.
fn parse<'a>(rest: &mut &'a str) -> Node<'a> {
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
                        return Node::Object(members);
                    }
                    _ => return Node::Object(members),
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
                        return Node::Array(elements);
                    }
                    Some(_) => elements.push(parse(rest)),
                    None => return Node::Array(elements),
                }
            }
        }
        _ => Node::Plain(word(rest)),
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
        bytes.iter().position(|byte| b",]} \t\r\n".contains(byte)).unwrap_or(bytes.len()).max(1)
    };
    let (word, behind) = rest.split_at(end);
    *rest = behind;
    word
}

struct Layout<'a> {
    width: usize,
    look: &'a Look,
    column: usize,
    out: &'a mut String,
}

impl Layout<'_> {
    /// Writes a value whose first column is `self.column`; `indent` is where its line began, and `behind` columns must be left
    /// for what follows it.
    fn write(&mut self, node: &Node<'_>, indent: usize, behind: usize) {
        let most = self.width;
        let fits = |at: usize, node: &Node<'_>, behind| width(node, most).is_some_and(|wide| at + wide + behind <= most);
        match node {
            Node::Plain(word) => self.put(word, self.of(word)),
            Node::Object(members) => {
                let flat = fits(self.column, node, behind);
                self.put("{", Style::new());
                for (i, (name, value)) in members.iter().enumerate() {
                    let comma = usize::from(i + 1 < members.len());
                    let wide = name.width() + 2;
                    self.separate(i, flat || fits(self.column + 1 + wide, value, comma.max(behind)), indent + 1);
                    self.put(name, self.look.name);
                    self.put(": ", Style::new());
                    self.write(value, indent + 1, comma.max(behind));
                }
                self.put("}", Style::new());
            }
            Node::Array(elements) => {
                let flat = fits(self.column, node, behind);
                self.put("[", Style::new());
                for (i, value) in elements.iter().enumerate() {
                    let comma = usize::from(i + 1 < elements.len());
                    self.separate(i, flat || fits(self.column + 1, value, comma.max(behind)), indent + 1);
                    self.write(value, indent + 1, comma.max(behind));
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
fn width(node: &Node<'_>, most: usize) -> Option<usize> {
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
        Node::Plain(word) => Some(word.width()),
        Node::Object(members) => {
            let mut widths = members.iter().map(|(name, value)| Some(name.width() + 2 + width(value, most)?));
            sum(&mut widths, members.len())
        }
        Node::Array(elements) => sum(&mut elements.iter().map(|element| width(element, most)), elements.len()),
    }
}
