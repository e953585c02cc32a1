//! Fields of JSON values, for the columns of a table.

use crate::shape::document::Node;
use crate::shape::path::Path;
use crate::shape::rules::{BadRule, RuleKind, ShapeRules};

/// The fields that `--keep` names, in their order.
#[derive(Clone, Debug)]
pub struct Fields(Vec<Path>);

impl Fields {
    /// Returns the fields that `rules` keep, or `None` when they keep everything.
    ///
    /// # Errors
    /// When a list of fields cannot be read.
    pub fn parse(rules: &ShapeRules) -> Result<Option<Self>, BadRule> {
        let paths = super::paths(rules, RuleKind::Keep)?;
        Ok((!paths.is_empty()).then_some(Self(paths)))
    }

    /// Returns the names as they were written.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(ToString::to_string)
    }

    /// Returns what stands in each field of `value`: text without its quotes, anything else as it is written, several values
    /// (a path goes through arrays) with commas; `None` where there is nothing, or null, or no JSON.
    #[must_use]
    pub fn of(&self, value: Option<&[u8]>) -> Vec<Option<String>> {
        let text = value.and_then(|value| std::str::from_utf8(value).ok());
        let Some(mut document) = text.and_then(|text| Node::parse(text).ok()) else { return vec![None; self.0.len()] };
        let mut of = |path: &Path| {
            let mut found: Vec<String> = Vec::new();
            document.look(&path.names, &mut |value| found.extend(value.map(|value| plain(value.text()))));
            (!found.is_empty()).then(|| found.join(", "))
        };
        self.0.iter().map(&mut of).collect()
    }
}

fn plain(text: &str) -> String {
    match serde_json::from_str(text) {
        Ok(serde_json::Value::String(plain)) => plain,
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_what_stands_there() {
        let mut rules = ShapeRules::default();
        rules.flag(RuleKind::Keep, r"name,user.id,items.sku,a\.b");
        rules.flag(RuleKind::Keep, "gone");
        let fields = Fields::parse(&rules).unwrap().unwrap();
        assert_eq!(fields.names().collect::<Vec<_>>(), ["name", "user.id", "items.sku", r"a\.b", "gone"]);
        let of = |value: &str| fields.of(Some(value.as_bytes()));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            of(r#"{"name": "\u00e9\n\"", "user": {"id": 1.0e3}, "items": [{"sku": "a"}, {"sku": 2}], "a.b": {"c": [1, 2]}}"#),
            [some("é\n\""), some("1.0e3"), some("a, 2"), some(r#"{"c": [1, 2]}"#), None]
        );
        assert_eq!(of(r#"{"name": null, "user": 5, "items": [], "a.b": ""}"#), [None, None, None, some(""), None]);
        for none in [&b"\xff"[..], b"no json", b"[1]", b""] {
            assert_eq!(fields.of(Some(none)), vec![None; 5]);
        }
        assert_eq!(fields.of(None), vec![None; 5]);
    }

    #[test]
    fn without_keep_there_are_none() {
        assert!(Fields::parse(&ShapeRules::default()).unwrap().is_none());
    }
}
