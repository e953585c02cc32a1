//! The fields that records have, for messages about one that none has.

use crate::spelling::nearest_or_longer;

/// The records whose fields are noted: the first ones.
pub(crate) const SEEN_RECORDS: u64 = 1_000;
/// The most fields that are noted, and the most that a message lists.
const MAX_SEEN: usize = 200;
const MAX_SHOWN: usize = 20;

/// The top-level fields of some records, in the order in which they were first seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SeenFields(Vec<String>);

impl SeenFields {
    /// Notes the fields of a record, as far as there is room.
    pub(crate) fn add(&mut self, names: impl IntoIterator<Item = String>) {
        for name in names {
            if self.0.len() < MAX_SEEN && !self.0.contains(&name) {
                self.0.push(name);
            }
        }
    }

    /// Returns them as part of a sentence.
    pub(crate) fn listed(&self) -> String {
        if self.0.is_empty() {
            return "no fields".to_owned();
        }
        let shown: Vec<_> = self.0.iter().take(MAX_SHOWN).map(|name| format!("`{name}`")).collect();
        match self.0.len() - shown.len() {
            0 => shown.join(", "),
            more => format!("{} and {more} more", shown.join(", ")),
        }
    }

    /// Returns the question at the end of a message that no record has the fields `absent`; empty if none is similar.
    pub(crate) fn question(&self, absent: &[String]) -> String {
        let near = |name: &String| Some((name.clone(), nearest_or_longer(name, self.0.iter().map(String::as_str))?));
        let near: Vec<_> = absent.iter().filter_map(near).collect();
        match near.as_slice() {
            [] => String::new(),
            [(_, near)] if absent.len() == 1 => format!("; did you mean `{near}`?"),
            several => {
                let each: Vec<_> = several.iter().map(|(name, near)| format!("`{near}` for `{name}`")).collect();
                format!("; did you mean {}?", each.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(records: &[&[&str]]) -> SeenFields {
        let mut seen = SeenFields::default();
        for names in records {
            seen.add(names.iter().map(|name| (*name).to_owned()));
        }
        seen
    }

    #[test]
    fn the_fields_of_all_records_are_listed_once() {
        assert_eq!(seen(&[&["a", "b"], &["b", "c"]]).listed(), "`a`, `b`, `c`");
        assert_eq!(seen(&[&[]]).listed(), "no fields");
        let many: Vec<String> = (0..500).map(|number| format!("f{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let listed = seen(&[&many]).listed();
        assert!(listed.ends_with("`f19` and 180 more"), "{listed}");
    }

    #[test]
    fn a_similar_field_is_suggested_also_if_the_first_record_lacks_it() {
        let seen = seen(&[&["ip"], &["device_type", "timestamp"]]);
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(seen.question(&names(&["device_typ"])), "; did you mean `device_type`?");
        assert_eq!(seen.question(&names(&["device"])), "; did you mean `device_type`?");
        assert_eq!(seen.question(&names(&["gone", "tmestamp"])), "; did you mean `timestamp` for `tmestamp`?");
        assert_eq!(seen.question(&names(&["gone"])), "");
    }
}
