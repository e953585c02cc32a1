//! Which dead letters are meant.

use regex::Regex;

use crate::dlq::letter::Letter;

/// A selection of dead letters: every condition that is given holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct LetterSelection {
    /// The normalised cause, or an expression that the message or the exception matches.
    pub(crate) cause: Option<(String, Option<Regex>)>,
    /// Any of these codes.
    pub(crate) codes: Vec<String>,
    /// Any of these JSON paths.
    pub(crate) paths: Vec<String>,
    /// Any of these original topics.
    pub(crate) topics: Vec<String>,
}

impl LetterSelection {
    pub(crate) fn includes(&self, letter: &Letter) -> bool {
        let one_of = |wanted: &[String], value: Option<&str>| {
            wanted.is_empty() || value.is_some_and(|value| wanted.iter().any(|wanted| wanted == value))
        };
        one_of(&self.codes, Some(letter.code()))
            && one_of(&self.paths, letter.path.as_deref())
            && one_of(&self.topics, letter.topic.as_deref())
            && self.cause.as_ref().is_none_or(|(text, pattern)| {
                let matches = |of: Option<&str>| pattern.as_ref().zip(of).is_some_and(|(pattern, of)| pattern.is_match(of));
                matches(letter.message.as_deref()) || matches(letter.class.as_deref()) || letter.cause() == *text
            })
    }

    /// Returns eight hexadecimal digits that differ from selection to selection, of letters between the positions `bounds`; `None` for
    /// one that includes every letter.
    pub(crate) fn digest(&self, bounds: Option<&str>) -> Option<String> {
        let Self { cause, codes, paths, topics } = self;
        let cause = cause.as_ref().map(|(text, _)| text.as_str());
        if cause.is_none() && codes.is_empty() && paths.is_empty() && topics.is_empty() && bounds.is_none() {
            return None;
        }
        let sorted = |values: &[String]| {
            let mut values = values.to_vec();
            values.sort();
            values
        };
        let mut text = format!("{:?}", (cause, sorted(codes), sorted(paths), sorted(topics)));
        text.extend(bounds);
        Some(format!("{:08x}", crc32fast::hash(text.as_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::record::Headers;

    fn letter() -> Letter {
        let headers: Headers = [
            ("__connect.errors.topic", "logins"),
            ("__connect.errors.exception.class.name", "sdl.wrong_type"),
            ("__connect.errors.exception.message", "`a.b` is 12, not text"),
            ("sdl.dlq.code", "wrong_type"),
            ("sdl.dlq.path", "a.b"),
        ]
        .map(|(name, value)| (Bytes::from_static(name.as_bytes()), Some(Bytes::from_static(value.as_bytes()))))
        .into();
        Letter::of(&headers).unwrap()
    }

    fn cause(text: &str) -> LetterSelection {
        LetterSelection { cause: Some((text.to_owned(), Regex::new(text).ok())), ..LetterSelection::default() }
    }

    #[test]
    fn every_condition_must_hold_and_one_value_of_each() {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let codes = LetterSelection { codes: words(&["x", "wrong_type"]), ..LetterSelection::default() };
        assert!(LetterSelection::default().includes(&letter()));
        assert!(codes.includes(&letter()));
        assert!(LetterSelection { paths: words(&["a.b"]), topics: words(&["logins"]), ..codes.clone() }.includes(&letter()));
        assert!(!LetterSelection { paths: words(&["a"]), ..codes.clone() }.includes(&letter()));
        assert!(!LetterSelection { topics: words(&["orders"]), ..codes }.includes(&letter()));
    }

    #[test]
    fn a_cause_is_an_expression_or_what_the_statistics_show() {
        for text in ["is 12", "^sdl.wrong", "`a.b` is <n>, not text"] {
            assert!(cause(text).includes(&letter()), "{text}");
        }
        for text in ["is 13", "<n>, not", "("] {
            assert!(!cause(text).includes(&letter()), "{text}");
        }
    }

    #[test]
    fn a_digest_is_that_of_the_selection() {
        let codes = |codes: &[&str]| LetterSelection {
            codes: codes.iter().map(ToString::to_string).collect(),
            ..LetterSelection::default()
        };
        assert_eq!(LetterSelection::default().digest(None), None);
        assert_eq!(codes(&["a", "b"]).digest(None), codes(&["b", "a"]).digest(None));
        assert_ne!(codes(&["a", "b"]).digest(None), codes(&["a"]).digest(None));
        assert_ne!(cause("a").digest(None), codes(&["a"]).digest(None));
        let between = |bounds: &str| LetterSelection::default().digest(Some(bounds)).unwrap();
        assert_eq!(between("1h ago"), between("1h ago"));
        assert_ne!(between("1h ago"), between("2h ago"));
        assert_ne!(codes(&["a"]).digest(Some("1h ago")), codes(&["a"]).digest(None));
    }
}
