//! Parses a profile into sections and keys with their line numbers.
//!
//! A line is a section header, a comment (`#` or `;` first), blank, or `key = value` (also `key: value`). A value is what
//! stands after the first delimiter, without the blanks around it: nothing is quoted, escaped, continued or cut off at a
//! comment sign, so that a password arrives as it was written.

use ::ini::{Ini, ParseOption};

use crate::profile::error::{ProfileError, ProfileErrorKind};

/// A section as written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RawSection {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) entries: Vec<IniEntry>,
}

/// A key and its value as written.
#[derive(PartialEq, Eq)]
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

/// Returns the sections of `text` in their order; lines count from 1.
///
/// # Errors
/// On a line that is none of the above, and on a section or key that is given twice. The error has a line, and no path yet.
pub(crate) fn parse(text: &str) -> Result<Vec<RawSection>, ProfileError> {
    let mut sections: Vec<RawSection> = Vec::new();
    for (number, line) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate() {
        let (number, line) = (number + 1, line.trim());
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(header) = line.strip_prefix('[') {
            let name = header.strip_suffix(']').map(str::trim).filter(|name| !name.is_empty());
            let name =
                name.ok_or_else(|| ProfileError::new(ProfileErrorKind::Syntax("a section is written `[name]`")).line(number))?;
            if let Some(first) = sections.iter().find(|section| section.name == name) {
                return Err(ProfileError::new(ProfileErrorKind::DuplicateSection { first: first.line })
                    .section(name)
                    .line(number));
            }
            sections.push(RawSection { name: name.to_owned(), line: number, entries: Vec::new() });
            continue;
        }
        let (key, value) = pair(line)
            .ok_or_else(|| ProfileError::new(ProfileErrorKind::Syntax("a line is written `key = value`")).line(number))?;
        let Some(section) = sections.last_mut() else {
            return Err(ProfileError::new(ProfileErrorKind::Syntax("a key stands below a `[section]`")).line(number));
        };
        if let Some(first) = section.entries.iter().find(|entry| entry.key == key) {
            let error = ProfileError::new(ProfileErrorKind::DuplicateKey { first: first.line });
            return Err(error.section(&section.name).key(&key).line(number));
        }
        section.entries.push(IniEntry { key, value, line: number });
    }
    Ok(sections)
}

/// Returns key and value of one line.
///
/// rust-ini is given the line alone: of a whole file it tells no line numbers, and it joins a value that ends in a backslash, as a
/// password may, with the line below.
fn pair(line: &str) -> Option<(String, String)> {
    let as_written = ParseOption { enabled_escape: false, enabled_quote: false, ..ParseOption::default() };
    let read = Ini::load_from_str_opt(line, as_written).ok()?;
    let (key, value) = read.general_section().iter().next()?;
    (!key.is_empty()).then(|| (key.to_owned(), value.to_owned()))
}
