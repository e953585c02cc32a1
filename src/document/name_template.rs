//! Names made of records: `logins-{topic}-%Y-%m-%d`.

use std::collections::HashSet;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;

use crate::pipeline::Reason;
use crate::record::Topic;
use crate::shape::FieldPath;

/// The syntax of a template, for help and errors.
pub const GRAMMAR: &str = "text with {topic}, {topic:lower}, {field} and dates such as %Y-%m-%d";

/// A name with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern {
    text: String,
    parts: Vec<PatternPart>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PatternPart {
    Text(String),
    Topic,
    LowerTopic,
    Field(FieldPath),
    /// A strftime conversion of the record's time in UTC.
    Time(String),
}

impl FromStr for NamePattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let part = match c {
                '{' => {
                    let end = rest.find('}').ok_or_else(|| format!("`{{` without `}}`: use {GRAMMAR}"))?;
                    let name = &rest[1..end];
                    rest = &rest[end + 1..];
                    match name {
                        "topic" => PatternPart::Topic,
                        "topic:lower" => PatternPart::LowerTopic,
                        field if field.ends_with(":lower") => {
                            return Err(format!("`{{{field}}}` is not known, only {{topic:lower}}: use {GRAMMAR}"));
                        }
                        field => PatternPart::Field(FieldPath::parse(field)?),
                    }
                }
                '%' if rest.starts_with("%%") => {
                    plain.push('%');
                    rest = &rest[2..];
                    continue;
                }
                '%' => {
                    let end = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
                    let conversion = &rest[..end];
                    rest = &rest[end..];
                    if !is_part_of_a_date(conversion) {
                        return Err(format!("`{conversion}` is not a part of a date: use {GRAMMAR}"));
                    }
                    PatternPart::Time(conversion.to_owned())
                }
                c => {
                    plain.push(c);
                    rest = &rest[c.len_utf8()..];
                    continue;
                }
            };
            if !plain.is_empty() {
                parts.push(PatternPart::Text(std::mem::take(&mut plain)));
            }
            parts.push(part);
        }
        if !plain.is_empty() {
            parts.push(PatternPart::Text(plain));
        }
        if parts.is_empty() {
            return Err(format!("a name is missing: use {GRAMMAR}"));
        }
        Ok(Self { text: text.to_owned(), parts })
    }
}

fn render(conversion: &str, time: Timestamp) -> Result<String, ()> {
    strtime::format(conversion, &time.to_zoned(TimeZone::UTC)).map_err(|_| ())
}

/// Returns whether the conversion exists and depends on the time: in UTC a time zone such as `%Q` does not.
fn is_part_of_a_date(conversion: &str) -> bool {
    // 2001-11-13T15:16:17.123Z differs from the epoch in every part.
    let other = Timestamp::from_millisecond(1_005_664_577_123).unwrap_or_default();
    match (render(conversion, Timestamp::UNIX_EPOCH), render(conversion, other)) {
        (Ok(one), Ok(other)) => one != other,
        _ => false,
    }
}

impl std::fmt::Display for NamePattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl NamePattern {
    /// Returns the fields whose values it takes.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &FieldPath> {
        self.parts.iter().filter_map(|part| if let PatternPart::Field(path) = part { Some(path) } else { None })
    }

    /// Returns whether the name depends on the time of a record.
    pub(crate) fn is_dated(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, PatternPart::Time(_)))
    }

    /// Returns the name, if it is the same for every record.
    pub(crate) fn constant(&self) -> Option<&str> {
        if let [PatternPart::Text(text)] = self.parts.as_slice() { Some(text) } else { None }
    }

    /// Returns a name that a record of `topic` can have.
    fn sample(&self, topic: Topic) -> String {
        let part = |part: &PatternPart| match part {
            PatternPart::Text(text) => text.clone(),
            PatternPart::Topic => topic.name().to_owned(),
            PatternPart::LowerTopic => topic.name().to_lowercase(),
            PatternPart::Field(_) => "x".to_owned(),
            PatternPart::Time(conversion) => render(conversion, Timestamp::UNIX_EPOCH).unwrap_or_default(),
        };
        self.parts.iter().map(part).collect()
    }

    /// Returns the pattern with `{topic:lower}` for `{topic}`.
    fn with_lower_topic(&self) -> Self {
        let lower = |part: &PatternPart| if *part == PatternPart::Topic { PatternPart::LowerTopic } else { part.clone() };
        Self { text: self.text.replace("{topic}", "{topic:lower}"), parts: self.parts.iter().map(lower).collect() }
    }

    /// Returns the name with `*` for every placeholder.
    pub(crate) fn wildcard(&self) -> String {
        let part = |part: &PatternPart| if let PatternPart::Text(text) = part { text.clone() } else { "*".to_owned() };
        self.parts.iter().map(part).collect()
    }

    /// Appends the name for a record of `topic` at `time`, in milliseconds since the Unix epoch, to `name`. `field` gives the JSON
    /// text of a field.
    fn write<'f>(
        &self,
        topic: Topic,
        time: Option<i64>,
        field: impl Fn(&FieldPath) -> Option<&'f str>,
        name: &mut String,
    ) -> Result<(), Reason> {
        for part in &self.parts {
            match part {
                PatternPart::Text(text) => name.push_str(text),
                PatternPart::Topic => name.push_str(topic.name()),
                PatternPart::LowerTopic => name.push_str(&topic.name().to_lowercase()),
                PatternPart::Field(path) => {
                    let missing = || {
                        let what = format!(
                            "the field `{path}` is missing, and the name `{self}` needs it; besides fields a name takes {{topic}}, \
                             {{topic:lower}} and dates such as %Y-%m-%d"
                        );
                        Reason::new("missing_field", what).at(path.to_string())
                    };
                    let value = field(path).ok_or_else(missing)?;
                    match serde_json::from_str::<String>(value) {
                        Ok(text) => name.push_str(&text),
                        Err(_) if value.starts_with(['{', '[']) || value == "null" => return Err(missing()),
                        Err(_) => name.push_str(value),
                    }
                }
                PatternPart::Time(conversion) => {
                    let time = time.and_then(|time| Timestamp::from_millisecond(time).ok());
                    let time = time.ok_or_else(|| {
                        Reason::new("missing_timestamp", format!("the record has no time, and the name `{self}` needs one"))
                    })?;
                    name.push_str(&render(conversion, time).expect("the conversion was tried when the pattern was parsed"));
                }
            }
        }
        Ok(())
    }
}

/// Names derived from records, checked and limited in number.
#[derive(Debug)]
pub struct NameTemplate {
    pattern: NamePattern,
    rule: fn(&str) -> Result<(), String>,
    /// The maximum number of distinct names in a run; unlimited if absent.
    limit: Option<usize>,
    checked: Mutex<HashSet<String>>,
}

impl NameTemplate {
    /// Returns a template of at most `limit` names, which have to pass `rule`.
    ///
    /// # Errors
    /// When the name is the same for every record, and fails the rule.
    pub fn new(pattern: NamePattern, rule: fn(&str) -> Result<(), String>, limit: usize) -> Result<Self, String> {
        if let Some(name) = pattern.constant() {
            rule(name)?;
        }
        Ok(Self { pattern, rule, limit: Some(limit), checked: Mutex::default() })
    }

    /// Returns a template of values that are neither checked nor counted.
    #[must_use]
    pub fn unchecked(pattern: NamePattern) -> Self {
        Self { pattern, rule: |_| Ok(()), limit: None, checked: Mutex::default() }
    }

    pub(crate) fn pattern(&self) -> &NamePattern {
        &self.pattern
    }

    /// Checks that records of `topic` can have a name.
    ///
    /// # Errors
    /// When the rule forbids it whatever the record: the reason, and a template that it allows.
    pub(crate) fn check_topic(&self, topic: Topic) -> Result<(), (String, Option<String>)> {
        (self.rule)(&self.pattern.sample(topic)).map_err(|why| {
            let lower = self.pattern.with_lower_topic();
            let is_allowed = (self.rule)(&lower.sample(topic)).is_ok();
            (why, is_allowed.then_some(lower.text))
        })
    }

    /// Appends the name for a record to `text`, by the rules of [`NamePattern`].
    ///
    /// # Errors
    /// When the record lacks a part of the name, or the name fails the rule or exceeds the limit.
    pub(super) fn write<'f>(
        &self,
        topic: Topic,
        time: Option<i64>,
        field: impl Fn(&FieldPath) -> Option<&'f str>,
        text: &mut String,
    ) -> Result<(), Reason> {
        if let Some(constant) = self.pattern.constant() {
            text.push_str(constant);
            return Ok(());
        }
        let start = text.len();
        self.pattern.write(topic, time, field, text)?;
        let (name, Some(limit)) = (&text[start..], self.limit) else { return Ok(()) };
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.contains(name) {
            return Ok(());
        }
        let pattern = &self.pattern;
        (self.rule)(name).map_err(|why| Reason::new("bad_name", format!("the name `{name}` of `{pattern}`: {why}")))?;
        if checked.len() >= limit {
            let what = format!("`{pattern}` has made {limit} names, and `{name}` would be one more");
            return Err(Reason::new("too_many_names", what));
        }
        checked.insert(name.to_owned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(template: &str, value: Option<&'static str>) -> Result<String, String> {
        let mut name = String::new();
        let template: NamePattern = template.parse().unwrap();
        let written = template.write(Topic::named("logins"), Some(1_694_479_551_123), |_| value, &mut name);
        written.map(|()| name).map_err(|reason| reason.code().to_owned())
    }

    #[test]
    fn only_the_topic_has_a_lower_form() {
        let refused = "logs-{locale:lower}".parse::<NamePattern>().unwrap_err();
        assert!(refused.contains("`{locale:lower}` is not known, only {topic:lower}"), "{refused}");
    }

    #[test]
    fn a_name_is_made_of_topic_fields_and_dates() {
        assert_eq!(name("raw", None), Ok("raw".to_owned()));
        assert_eq!(name("{topic}-%Y.%m.%d", None), Ok("logins-2023.09.12".to_owned()));
        assert_eq!(name("a-{user.country}-100%%", Some("\"de\"")), Ok("a-de-100%".to_owned()));
        assert_eq!(name("{n}", Some("7")), Ok("7".to_owned()));
        let mut lower = String::new();
        let template: NamePattern = "logs-{topic:lower}".parse().unwrap();
        template.write(Topic::named("User-Login"), None, |_| None, &mut lower).unwrap();
        assert_eq!(lower, "logs-user-login");
        for odd in [None, Some("null"), Some("{}"), Some("[1]")] {
            assert_eq!(name("{n}", odd), Err("missing_field".to_owned()), "{odd:?}");
        }
    }

    #[test]
    fn a_wildcard_matches_every_name() {
        let pattern = |text: &str| text.parse::<NamePattern>().unwrap().wildcard();
        assert_eq!(pattern("raw"), "raw");
        assert_eq!(pattern("a-{topic}-%Y"), "a-*-*");
    }

    #[test]
    fn text_that_is_not_a_template_is_refused() {
        for text in ["", "{topic", "{}", "{a..b}", "%", "x-%!"] {
            assert!(text.parse::<NamePattern>().is_err(), "{text}");
        }
        let unknown = "x-%Q".parse::<NamePattern>().unwrap_err();
        assert!(unknown.starts_with("`%Q` is not a part of a date: use text with {topic}"), "{unknown}");
        for part in [
            "%Y", "%y", "%C", "%G", "%g", "%m", "%b", "%d", "%e", "%j", "%U", "%V", "%a", "%u", "%H", "%I", "%p", "%M", "%S",
            "%s",
        ] {
            assert!(part.parse::<NamePattern>().is_ok(), "{part}");
        }
    }

    #[test]
    fn names_are_checked_and_limited() {
        let rule = |name: &str| if name.contains('/') { Err("`/` is not allowed".to_owned()) } else { Ok(()) };
        assert!(NameTemplate::new("a/b".parse().unwrap(), rule, 1).is_err());
        let template = NameTemplate::new("x-{n}".parse().unwrap(), rule, 2).unwrap();
        let write = |value: &'static str| {
            let mut name = String::new();
            let written = template.write(Topic::named("t"), None, |_| Some(value), &mut name);
            written.map(|()| name).map_err(|reason| reason.code().to_owned())
        };
        assert_eq!(write("1"), Ok("x-1".to_owned()));
        assert_eq!(write("\"../2\""), Err("bad_name".to_owned()));
        assert_eq!(write("2"), Ok("x-2".to_owned()));
        assert_eq!(write("3"), Err("too_many_names".to_owned()));
        assert_eq!(write("1"), Ok("x-1".to_owned()));
    }

    #[test]
    fn a_topic_whose_every_name_is_invalid_is_refused_before_the_first_record() {
        let rule = |name: &str| if name.chars().any(char::is_uppercase) { Err("capitals".to_owned()) } else { Ok(()) };
        let check = |template: &str, topic: &str| {
            NameTemplate::new(template.parse().unwrap(), rule, 10).unwrap().check_topic(Topic::named(topic))
        };
        let capitals = |allowed: Option<&str>| Err(("capitals".to_owned(), allowed.map(str::to_owned)));
        assert_eq!(check("logs-{topic}-{n}-%Y", "logins"), Ok(()));
        assert_eq!(check("logs-{topic}-{n}-%Y", "Logins"), capitals(Some("logs-{topic:lower}-{n}-%Y")));
        assert_eq!(check("logs-{topic:lower}", "Logins"), Ok(()));
        assert_eq!(check("Logs-{topic}", "logins"), capitals(None));
    }

    #[test]
    fn unchecked_values_are_neither_checked_nor_counted() {
        let template = NameTemplate::unchecked("{n}".parse().unwrap());
        for value in ["1", "\"../2\"", "3"] {
            template.write(Topic::named("t"), None, |_| Some(value), &mut String::new()).unwrap();
        }
    }
}
