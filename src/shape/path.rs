//! Field paths.

use std::fmt;

/// The path of a field: names from the outside in, separated by dots; a backslash escapes the next character.
///
/// A path goes through arrays: it selects the field in every element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    text: String,
    pub(super) names: Vec<String>,
}

impl Path {
    /// Parses a path.
    ///
    /// # Errors
    /// When a name is empty or the text ends in a backslash.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let mut names = Vec::new();
        for name in split(text, |c| c == '.') {
            let mut plain = String::with_capacity(name.len());
            let mut chars = name.chars();
            while let Some(c) = chars.next() {
                match c {
                    '\\' => plain.push(chars.next().ok_or_else(|| format!("`{text}` ends in a backslash"))?),
                    c => plain.push(c),
                }
            }
            if plain.is_empty() {
                return Err(format!("`{text}` has a field without a name"));
            }
            names.push(plain);
        }
        Ok(Self { text: text.to_owned(), names })
    }

    /// Returns the names from the outside in, at least one.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Parses a comma-separated list.
    ///
    /// # Errors
    /// As [`Path::parse`].
    pub(super) fn list(text: &str) -> Result<Vec<Self>, String> {
        split(text, |c| c == ',').map(Self::parse).collect()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Splits `text` at the characters that `separates` selects, unless a backslash escapes them.
pub(super) fn split(text: &str, separates: impl Fn(char) -> bool) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    text.split(move |c| {
        let here = !escaped && separates(c);
        escaped = !escaped && c == '\\';
        here
    })
}

/// Splits `text` before the first character that `starts` selects and no backslash escapes.
pub(super) fn split_before(text: &str, starts: impl Fn(char) -> bool) -> (&str, &str) {
    let name = split(text, starts).next().unwrap_or_default();
    text.split_at(name.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        Path::parse(text).unwrap().names
    }

    #[test]
    fn dots_separate_names_unless_escaped() {
        assert_eq!(names("user.id"), ["user", "id"]);
        assert_eq!(names(r" user\.id "), ["user.id"]);
        assert_eq!(names(r"a\\.b"), [r"a\", "b"]);
        assert_eq!(names("größe"), ["größe"]);
    }

    #[test]
    fn commas_separate_paths_unless_escaped() {
        let paths = Path::list(r"a, b.c,d\,e").unwrap();
        assert_eq!(paths.iter().map(|path| path.names.join("/")).collect::<Vec<_>>(), ["a", "b/c", "d,e"]);
    }

    #[test]
    fn a_path_without_a_name_is_refused() {
        assert_eq!(Path::parse("a..b").unwrap_err(), "`a..b` has a field without a name");
        assert_eq!(Path::list("a,").unwrap_err(), "`` has a field without a name");
        assert_eq!(Path::parse(r"a\").unwrap_err(), r"`a\` ends in a backslash");
    }
}
