//! `require`: the fields that a record must have.

use crate::shape::document::Node;
use crate::shape::path::{Path, split_before};
use crate::shape::result::ShapeError;

/// How a requirement is written.
pub(super) const GRAMMAR: &str = "FIELD or FIELD:TYPE with string, int, number, bool, object or array: user_id,timestamp:int";

/// A field that must be there and not null, of a certain type.
#[derive(Debug)]
pub(super) struct Requirement {
    path: Path,
    kind: Option<JsonType>,
}

/// The type of a JSON value; whole numbers have their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JsonType {
    String,
    Int,
    Number,
    Bool,
    Object,
    Array,
}

impl JsonType {
    const ALL: [(&'static str, Self, &'static str); 6] = [
        ("string", Self::String, "text"),
        ("int", Self::Int, "a whole number"),
        ("number", Self::Number, "a number"),
        ("bool", Self::Bool, "true or false"),
        ("object", Self::Object, "an object"),
        ("array", Self::Array, "an array"),
    ];

    fn description(self) -> &'static str {
        Self::ALL[self as usize].2
    }

    /// Returns the type of the JSON value `text`.
    fn of(text: &str) -> Self {
        match text.as_bytes().first() {
            Some(b'"') => Self::String,
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            Some(b't' | b'f') => Self::Bool,
            _ if text.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit()) => Self::Int,
            _ => Self::Number,
        }
    }
}

impl Requirement {
    /// Parses `FIELD` or `FIELD:TYPE`.
    ///
    /// # Errors
    /// With the reason.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (path, kind) = split_before(text, |c| c == ':');
        let kind = match kind.strip_prefix(':').map(str::trim) {
            None => None,
            Some(name) => match JsonType::ALL.iter().find(|(known, _, _)| *known == name) {
                Some((_, kind, _)) => Some(*kind),
                None => return Err(format!("`{name}` is not a type")),
            },
        };
        Ok(Self { path: Path::parse(path)?, kind })
    }

    /// Returns the error of a document that does not meet the requirement.
    pub(super) fn check(&self, document: &mut Node<'_>) -> Option<ShapeError> {
        let mut fault = None;
        document.visit(&self.path.names, &mut |value| {
            let text = value.map(Node::text);
            let wrong = match (text, self.kind) {
                (None, _) => ShapeError::new("missing_field", format!("`{}` is missing", self.path)),
                (Some(text), Some(kind)) => match JsonType::of(text) {
                    found if found == kind || (found, kind) == (JsonType::Int, JsonType::Number) => return,
                    found => ShapeError::new(
                        "wrong_type",
                        format!("`{}` is {}, not {}", self.path, found.description(), kind.description()),
                    ),
                },
                (Some(_), None) => return,
            };
            fault.get_or_insert(wrong.at(&self.path));
        });
        fault
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(requirement: &str, document: &str) -> Option<String> {
        let fault = Requirement::parse(requirement).unwrap().check(&mut Node::parse(document).unwrap());
        fault.map(|fault| format!("{}: {}", fault.code, fault.message))
    }

    #[test]
    fn a_field_must_be_there_and_not_null() {
        assert_eq!(fault("a", r#"{"a": ""}"#), None);
        assert_eq!(fault("a", r#"{"a": null}"#).unwrap(), "missing_field: `a` is missing");
        assert_eq!(fault("a.b", r#"{"a": 1}"#).unwrap(), "missing_field: `a.b` is missing");
        for no_object in ["7", "[]", r#"[{"a": 1}]"#] {
            assert_eq!(fault("a", no_object).unwrap(), "missing_field: `a` is missing");
        }
        assert_eq!(fault("items.id", r#"{"items": []}"#), None, "no item lacks its id");
        assert_eq!(fault("items.id", r#"{"items": [{"id": 1}, {}]}"#).unwrap(), "missing_field: `items.id` is missing");
    }

    #[test]
    fn a_field_must_have_its_type() {
        for (kind, value) in [
            ("string", "\"1\""),
            ("int", "-1"),
            ("number", "1"),
            ("number", "1.5"),
            ("bool", "true"),
            ("object", "{}"),
            ("array", "[]"),
        ] {
            assert_eq!(fault(&format!("a : {kind}"), &format!("{{\"a\":{value}}}")), None, "{kind} {value}");
        }
        for (kind, value, found, wanted) in [
            ("string", "1", "a whole number", "text"),
            ("int", "\"1\"", "text", "a whole number"),
            ("int", "1.5", "a number", "a whole number"),
            ("number", "[1]", "an array", "a number"),
            ("bool", "{}", "an object", "true or false"),
            ("object", "false", "true or false", "an object"),
            ("array", "1e3", "a number", "an array"),
        ] {
            assert_eq!(
                fault(&format!("a:{kind}"), &format!("{{\"a\":{value}}}")).unwrap(),
                format!("wrong_type: `a` is {found}, not {wanted}")
            );
        }
    }

    #[test]
    fn an_unknown_type_is_refused() {
        assert_eq!(Requirement::parse("a:uuid").unwrap_err(), "`uuid` is not a type");
    }
}
