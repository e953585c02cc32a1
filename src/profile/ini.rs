//! Parses a profile into sections and keys with their line numbers.
//!
//! A line is a section header, a comment (`#` or `;` first), blank, `key = value` (also `key: value`), or, indented deeper than the
//! key above it, the continuation of that key's value. A value is the text after the first delimiter, without the blanks around
//! it: nothing is quoted, escaped, interpolated or cut off at a comment sign, so that a password arrives as it was written.
//! Except for interpolation, this is what Python's configparser reads.

use crate::profile::error::{ProfileError, ProfileErrorKind, SyntaxErrorKind};

/// The section whose keys the others inherit.
pub(crate) const DEFAULT_SECTION: &str = "DEFAULT";

/// A section as written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RawSection {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) entries: Vec<IniEntry>,
}

/// A key and its value as written.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct IniEntry {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) line: usize,
}

impl std::fmt::Debug for IniEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} = *** (line {})", self.key, self.line)
    }
}

/// Returns the sections of `text` in their order; lines count from 1. Keys are in lower case, except the field names of
/// `[shape.NAME]`.
///
/// # Errors
/// On a line that is none of the above, and on a section or key that is given twice. The error has a line, and no path yet.
pub(crate) fn parse(text: &str) -> Result<Vec<RawSection>, ProfileError> {
    let mut sections: Vec<RawSection> = Vec::new();
    // The indentation of the key above; `None` behind a section header.
    let mut key_indent: Option<usize> = None;
    for (index, written) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate() {
        let (number, line) = (index + 1, written.trim());
        let syntax = |kind| ProfileError::new(ProfileErrorKind::Syntax(kind)).line(number);
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let indent = written.len() - written.trim_start().len();
        if key_indent.is_some_and(|above| indent > above) {
            if let Some(key) = assigned_key(line) {
                return Err(ProfileError::new(ProfileErrorKind::IndentedKey { key: key.to_owned() }).line(number));
            }
            if let Some(entry) = sections.last_mut().and_then(|section| section.entries.last_mut()) {
                if !entry.value.is_empty() {
                    entry.value.push('\n');
                }
                entry.value.push_str(line);
            }
            continue;
        }
        if let Some(header) = line.strip_prefix('[') {
            let name = header.strip_suffix(']').map(str::trim).filter(|name| !name.is_empty());
            let name = name.ok_or_else(|| syntax(SyntaxErrorKind::Header))?;
            if let Some(first) = sections.iter().find(|section| section.name == name) {
                return Err(ProfileError::new(ProfileErrorKind::DuplicateSection { first: first.line })
                    .section(name)
                    .line(number));
            }
            sections.push(RawSection { name: name.to_owned(), line: number, entries: Vec::new() });
            key_indent = None;
            continue;
        }
        let (key, value) = line.split_once(['=', ':']).ok_or_else(|| syntax(SyntaxErrorKind::Line))?;
        let key = key.trim_end();
        if key.is_empty() {
            return Err(syntax(SyntaxErrorKind::Line));
        }
        let section = sections.last_mut().ok_or_else(|| syntax(SyntaxErrorKind::KeyWithoutSection))?;
        let key = if section.name.starts_with("shape.") { key.to_owned() } else { key.to_lowercase() };
        if let Some(first) = section.entries.iter().find(|entry| entry.key == key) {
            let error = ProfileError::new(ProfileErrorKind::DuplicateKey { first: first.line });
            return Err(error.section(&section.name).key(&key).line(number));
        }
        section.entries.push(IniEntry { key, value: value.trim_start().to_owned(), line: number });
        key_indent = Some(indent);
    }
    Ok(sections)
}

/// Returns the key, if a continuation line looks like `key = value`: then its indentation is most likely a mistake.
fn assigned_key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once('=')?;
    let key = key.trim_end();
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (!key.is_empty() && key.chars().all(is_word)).then_some(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries(text: &str) -> Vec<(String, String)> {
        let sections = parse(text).unwrap();
        sections.into_iter().flat_map(|section| section.entries).map(|entry| (entry.key, entry.value)).collect()
    }

    fn entry(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn an_indented_line_continues_the_value_above() {
        let text = "[a]\nservers =\n    one:1,\n  # comment\n\n    two:2\nother: x\n y; z\n";
        assert_eq!(entries(text), [entry("servers", "one:1,\ntwo:2"), entry("other", "x\ny; z")]);
        let text = "[a]\n  one = 1\n  two = 2\n three = 3\n";
        assert_eq!(entries(text), [entry("one", "1"), entry("two", "2"), entry("three", "3")]);
        assert_eq!(entries("  [a]\n    one = 1\n  [b]\ntwo = 2"), [entry("one", "1"), entry("two", "2")]);
    }

    #[test]
    fn an_indented_key_is_refused() {
        let error = parse("[a]\none = 1\n  two = 2\n").unwrap_err();
        assert_eq!(
            error.causes(),
            ["`two` at the profile:3 is indented deeper than the key above it, and would continue that key's value"]
        );
    }

    #[test]
    fn keys_are_in_lower_case_but_fields_are_not() {
        assert_eq!(entries("[a]\nSERVERS = X\n"), [entry("servers", "X")]);
        assert_eq!(entries("[shape.a]\ndefault.userId = X\n"), [entry("default.userId", "X")]);
        assert!(parse("[a]\nSERVERS = X\nservers = Y\n").is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}", typed in "[\\[\\]a-c=:#; \t\n\r%]{0,60}") {
            let _ = parse(&text);
            let _ = parse(&typed);
        }

        #[test]
        fn a_value_arrives_as_it_was_written(value in "[!-~]([ -~]{0,30}[!-~])?") {
            let text = format!("[a]\nfirst = 1\npassword = {value}\nlast = 2\n");
            prop_assert_eq!(entries(&text), [entry("first", "1"), entry("password", &value), entry("last", "2")]);
        }
    }
}
