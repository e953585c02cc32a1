//! Fields of JSON values, for the columns of a table.

use crate::shape::document::{Node, plain_text};
use crate::shape::path::Path;
use crate::shape::rules::{InvalidRule, RuleKind, ShapeRules};

/// The fields to show, in the order in which they were named.
#[derive(Clone, Debug)]
pub(crate) struct SelectedFields(Vec<Path>);

impl SelectedFields {
    /// Returns the fields that `rules` keep, or `None` if they keep everything.
    ///
    /// # Errors
    /// When a list of fields cannot be parsed.
    pub(crate) fn parse(rules: &ShapeRules) -> Result<Option<Self>, InvalidRule> {
        let paths = rules.paths(RuleKind::Keep)?;
        Ok((!paths.is_empty()).then_some(Self(paths)))
    }

    /// Returns the names as written.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(ToString::to_string)
    }

    /// Returns each field of `value`: strings without quotes, other values as written, several values (a path goes through
    /// arrays) joined by commas; `None` for a missing field, null, and a value that is not JSON.
    #[must_use]
    pub(crate) fn values(&self, value: Option<&[u8]>) -> Vec<Option<String>> {
        let text = value.and_then(|value| std::str::from_utf8(value).ok());
        let Some(mut document) = text.and_then(|text| Node::parse(text).ok()) else { return vec![None; self.0.len()] };
        let mut of = |path: &Path| {
            let mut found: Vec<String> = Vec::new();
            document.visit(&path.names, &mut |value| found.extend(value.map(|value| plain_text(value.text()).into_owned())));
            (!found.is_empty()).then(|| found.join(", "))
        };
        self.0.iter().map(&mut of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_copied_unchanged() {
        let mut rules = ShapeRules::default();
        rules.add(RuleKind::Keep, r"name,user.id,items.sku,a\.b", "");
        rules.add(RuleKind::Keep, "gone", "");
        let fields = SelectedFields::parse(&rules).unwrap().unwrap();
        assert_eq!(fields.names().collect::<Vec<_>>(), ["name", "user.id", "items.sku", r"a\.b", "gone"]);
        let of = |value: &str| fields.values(Some(value.as_bytes()));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            of(r#"{"name": "\u00e9\n\"", "user": {"id": 1.0e3}, "items": [{"sku": "a"}, {"sku": 2}], "a.b": {"c": [1, 2]}}"#),
            [some("é\n\""), some("1.0e3"), some("a, 2"), some(r#"{"c": [1, 2]}"#), None]
        );
        assert_eq!(of(r#"{"name": null, "user": 5, "items": [], "a.b": ""}"#), [None, None, None, some(""), None]);
        for none in [&b"\xff"[..], b"no json", b"[1]", b""] {
            assert_eq!(fields.values(Some(none)), vec![None; 5]);
        }
        assert_eq!(fields.values(None), vec![None; 5]);
    }

    #[test]
    fn no_fields_are_selected_without_keep() {
        assert!(SelectedFields::parse(&ShapeRules::default()).unwrap().is_none());
    }
}
