//! JSON text straight to BSON bytes. Pure.
//!
//! An integer is an int32 or int64 by its size, one beyond int64 a decimal128 of all its digits; any other number is the nearest double.
//! Names have no meaning: `$where`, `$oid` and `a.b` are names like any other. A value that BSON cannot hold, or that readers would
//! understand differently, is an error of the record: a NUL in a name, a repeated name, a number beyond a double, a lone surrogate.

use mongodb::bson::Decimal128;

use crate::connectors::mongo::bson::{ARRAY, BOOLEAN, Bson, DATE, DECIMAL, DOCUMENT, DOUBLE, INT32, INT64, NULL, TEXT};
use crate::pipeline::Reason;
use crate::shape::{self, FieldTree};

/// The most levels of a document, itself included.
pub(super) const MAX_LEVELS: usize = 100;

impl Bson {
    /// Adds the JSON text `value` to a document of `levels` levels so far; the fields in `dates` become dates.
    ///
    /// # Errors
    /// When BSON cannot hold it.
    pub(super) fn json(&mut self, name: &str, value: &str, levels: usize, dates: &FieldTree) -> Result<(), Reason> {
        let mut walk = JsonToBson { text: value, at: 0, out: self, levels };
        walk.out.name(0, name);
        let at = walk.out.bytes.len() - name.len() - 2;
        let kind = walk.value(some(dates)).map_err(|error| error.under(name).reason())?;
        walk.out.bytes[at] = kind;
        Ok(())
    }

    /// Adds the fields of the JSON object `object`; those in `dates` become dates.
    ///
    /// # Errors
    /// When BSON cannot hold it.
    pub(super) fn fields(&mut self, object: &str, dates: &FieldTree) -> Result<(), Reason> {
        let mut walk = JsonToBson { text: object, at: 0, out: self, levels: 0 };
        walk.blanks();
        walk.object(some(dates)).map_err(Unrepresentable::reason)
    }
}

/// Returns the fields that become dates, if there are any.
fn some(dates: &FieldTree) -> Option<&FieldTree> {
    Some(dates).filter(|dates| !dates.is_empty())
}

/// A value that BSON cannot hold.
struct Unrepresentable {
    code: &'static str,
    what: String,
    /// The path of the value, innermost name first.
    path: Vec<String>,
}

impl Unrepresentable {
    fn new(code: &'static str, what: impl Into<String>) -> Self {
        Self { code, what: what.into(), path: Vec::new() }
    }

    #[cold]
    fn under(mut self, name: &str) -> Self {
        self.path.push(name.to_owned());
        self
    }

    #[cold]
    fn reason(mut self) -> Reason {
        self.path.reverse();
        let reason = Reason::new(self.code, self.what);
        if self.path.is_empty() { reason } else { reason.at(self.path.join(".")) }
    }
}

/// A walk through JSON text that was validated.
struct JsonToBson<'t, 'o> {
    text: &'t str,
    at: usize,
    out: &'o mut Bson,
    levels: usize,
}

impl<'t> JsonToBson<'t, '_> {
    fn blanks(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().position(|b| !matches!(b, b' ' | b'\n' | b'\r' | b'\t')).unwrap_or(rest.len());
    }

    fn next(&mut self) -> u8 {
        self.blanks();
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    /// Steps over `byte`.
    fn expect(&mut self, byte: u8) -> Result<(), Unrepresentable> {
        if self.next() != byte {
            return Err(self.not_json());
        }
        self.at += 1;
        Ok(())
    }

    fn not_json(&self) -> Unrepresentable {
        Unrepresentable::new("not_json", format!("the value is not JSON at byte {}", self.at))
    }

    /// Writes a value and returns its type. `dates` are the fields that become dates, from here on.
    fn value(&mut self, dates: Option<&FieldTree>) -> Result<u8, Unrepresentable> {
        let is_date = dates.is_some_and(FieldTree::is_field);
        match self.next() {
            b'"' => self.string(is_date),
            b'{' => self.object_value(dates),
            b'[' => self.array(dates.filter(|dates| !dates.is_field())),
            b't' => self.word("true", BOOLEAN, &[1]),
            b'f' => self.word("false", BOOLEAN, &[0]),
            b'n' => self.word("null", NULL, &[]),
            _ => self.number(is_date),
        }
    }

    /// Writes the time in the JSON text `value`, if it is one.
    fn date(&mut self, value: &str) -> Option<u8> {
        let time = shape::parse_time(value)?.as_millisecond();
        self.out.bytes.extend_from_slice(&time.to_le_bytes());
        Some(DATE)
    }

    fn word(&mut self, word: &str, kind: u8, bytes: &[u8]) -> Result<u8, Unrepresentable> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.not_json());
        }
        self.at += word.len();
        self.out.bytes.extend_from_slice(bytes);
        Ok(kind)
    }

    fn number(&mut self, is_date: bool) -> Result<u8, Unrepresentable> {
        let rest = &self.text[self.at..];
        let end = rest.bytes().position(|b| !matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')).unwrap_or(rest.len());
        let text = &rest[..end];
        self.at += end;
        if !text.ends_with(|c: char| c.is_ascii_digit()) {
            return Err(self.not_json());
        }
        if is_date && let Some(kind) = self.date(text) {
            return Ok(kind);
        }
        // Minus zero is a double: integers have none.
        if text != "-0" && !text.bytes().any(|b| matches!(b, b'.' | b'e' | b'E')) {
            if let Ok(number) = text.parse::<i64>() {
                return Ok(if let Ok(small) = i32::try_from(number) {
                    self.out.bytes.extend_from_slice(&small.to_le_bytes());
                    INT32
                } else {
                    self.out.bytes.extend_from_slice(&number.to_le_bytes());
                    INT64
                });
            }
            let large = text.parse::<Decimal128>().map_err(|_| {
                Unrepresentable::new("number_too_long", format!("an integer of {} digits is beyond a decimal128", text.len()))
            })?;
            self.out.bytes.extend_from_slice(&large.bytes());
            return Ok(DECIMAL);
        }
        let number: f64 = text.parse().map_err(|_| self.not_json())?;
        if number.is_infinite() {
            return Err(Unrepresentable::new("number_too_large", "a number is beyond a double"));
        }
        self.out.bytes.extend_from_slice(&number.to_le_bytes());
        Ok(DOUBLE)
    }

    /// Returns a string with its quotes, as it is written, and whether it has escapes.
    fn raw_string(&mut self) -> Result<(&'t str, bool), Unrepresentable> {
        let start = self.at;
        self.expect(b'"')?;
        let bytes = self.text.as_bytes();
        let mut escapes = false;
        loop {
            let rest = &bytes[self.at..];
            let length = rest.iter().position(|b| matches!(b, b'"' | b'\\')).ok_or_else(|| self.not_json())?;
            self.at += length + 1;
            if rest[length] == b'"' {
                return Ok((&self.text[start..self.at], escapes));
            }
            escapes = true;
            self.at = (self.at + 1).min(bytes.len()); // the character behind the backslash
        }
    }

    fn string(&mut self, is_date: bool) -> Result<u8, Unrepresentable> {
        let (raw, escapes) = self.raw_string()?;
        if is_date && let Some(kind) = self.date(raw) {
            return Ok(kind);
        }
        if escapes {
            self.out.text_value(&unescaped(raw)?);
        } else {
            self.out.text_value(&raw[1..raw.len() - 1]);
        }
        Ok(TEXT)
    }

    /// Writes a name, ended by NUL, and returns its range.
    fn name(&mut self) -> Result<(usize, usize), Unrepresentable> {
        self.blanks();
        let (raw, escapes) = self.raw_string()?;
        let start = self.out.bytes.len();
        if escapes {
            let name = unescaped(raw)?;
            if name.contains('\0') {
                let error = Unrepresentable::new("nul_in_name", "a name has a NUL character, which BSON does not allow");
                return Err(error.under(&name.replace('\0', "\\u0000")));
            }
            self.out.bytes.extend_from_slice(name.as_bytes());
        } else {
            self.out.bytes.extend_from_slice(&raw.as_bytes()[1..raw.len() - 1]);
        }
        let end = self.out.bytes.len();
        self.out.bytes.push(0);
        Ok((start, end))
    }

    fn deeper(&mut self) -> Result<(), Unrepresentable> {
        self.levels += 1;
        if self.levels > MAX_LEVELS {
            return Err(Unrepresentable::new("too_deep", format!("the document has more than {MAX_LEVELS} levels")));
        }
        Ok(())
    }

    fn object_value(&mut self, dates: Option<&FieldTree>) -> Result<u8, Unrepresentable> {
        let begun = self.out.begin();
        self.object(dates)?;
        self.out.end(begun);
        Ok(DOCUMENT)
    }

    /// Writes the fields of an object.
    fn object(&mut self, dates: Option<&FieldTree>) -> Result<(), Unrepresentable> {
        self.deeper()?;
        self.expect(b'{')?;
        let first = self.out.names.len();
        if self.next() == b'}' {
            self.at += 1;
        } else {
            loop {
                let kind_at = self.out.bytes.len();
                self.out.bytes.push(NULL);
                let (start, end) = self.name()?;
                self.out.names.push((start, end));
                self.expect(b':')?;
                let below = dates.and_then(|dates| dates.child(&self.out.bytes[start..end]));
                match self.value(below) {
                    Ok(kind) => self.out.bytes[kind_at] = kind,
                    Err(error) => return Err(error.under(&String::from_utf8_lossy(&self.out.bytes[start..end]))),
                }
                if self.next() != b',' {
                    break;
                }
                self.at += 1;
            }
            self.expect(b'}')?;
        }
        if let Some(name) = self.out.repeated_name(first) {
            let error = Unrepresentable::new("repeated_name", format!("the field `{name}` occurs twice"));
            return Err(error.under(&name));
        }
        self.out.names.truncate(first);
        self.levels -= 1;
        Ok(())
    }

    fn array(&mut self, dates: Option<&FieldTree>) -> Result<u8, Unrepresentable> {
        self.deeper()?;
        self.expect(b'[')?;
        let begun = self.out.begin();
        if self.next() == b']' {
            self.at += 1;
        } else {
            for index in 0.. {
                let kind_at = self.out.bytes.len();
                self.out.bytes.push(NULL);
                self.out.index(index);
                let kind = self.value(dates).map_err(|error| error.under(&index.to_string()))?;
                self.out.bytes[kind_at] = kind;
                if self.next() != b',' {
                    break;
                }
                self.at += 1;
            }
            self.expect(b']')?;
        }
        self.out.end(begun);
        self.levels -= 1;
        Ok(ARRAY)
    }
}

fn unescaped(raw: &str) -> Result<String, Unrepresentable> {
    serde_json::from_str(raw)
        .map_err(|_| Unrepresentable::new("not_text", "a string has a lone surrogate, which is not a character"))
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
