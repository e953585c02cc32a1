//! A JSON value that is parsed only where a rule reaches, so that everything else keeps its text.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The deepest nesting that is walked, as in serde_json and in most parsers.
pub(super) const MAX_DEPTH: usize = 128;

/// Why a text is not a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ParseError {
    NotJson(String),
    TooDeep,
}

/// A value inside a document.
#[derive(Debug)]
pub(super) enum Node<'a> {
    /// A value as it is written; owned when it was changed.
    Text(Cow<'a, str>),
    /// A parsed object.
    Object(Object<'a>),
    /// A parsed array.
    Array(Array<'a>),
}

/// A parsed object. A name may occur twice: lookups return the last, changes apply to all.
#[derive(Debug)]
pub(super) struct Object<'a> {
    text: &'a str,
    /// Names as they are written, and values.
    pub(super) members: Vec<(Cow<'a, str>, Node<'a>)>,
    /// Whether members were added, removed or replaced.
    pub(super) structure_changed: bool,
}

#[derive(Debug)]
pub(super) struct Array<'a> {
    text: &'a str,
    pub(super) elements: Vec<Node<'a>>,
    /// Whether elements were removed.
    pub(super) structure_changed: bool,
}

impl<'a> Node<'a> {
    /// Parses `text`, one level deep if it is an object. A byte order mark is skipped.
    ///
    /// # Errors
    /// When the text is not JSON, or is nested too deeply: every walk below is at most [`MAX_DEPTH`] levels deep, and reads the
    /// text once per level.
    pub(super) fn parse(text: &'a str) -> Result<Self, ParseError> {
        let text = without_bom(text).trim_ascii();
        if !is_walkable(text) {
            return Err(ParseError::TooDeep);
        }
        let not_json = |error: serde_json::Error| ParseError::NotJson(json_error(&error));
        if text.starts_with('{') {
            return Ok(Self::Object(Object { text, members: members(text).map_err(not_json)?, structure_changed: false }));
        }
        Ok(Self::Text(Cow::Borrowed(serde_json::from_str::<&RawValue>(text).map_err(not_json)?.get())))
    }

    /// Returns an object that is known to be valid, of any depth.
    pub(super) fn of_object(text: &'a str) -> Self {
        let text = text.trim_ascii();
        Self::Object(Object { text, members: members(text).expect("a valid object"), structure_changed: false })
    }

    /// Returns the first names of an object.
    pub(super) fn names(&self) -> Vec<String> {
        let Self::Object(object) = self else { return Vec::new() };
        object.members.iter().take(100).map(|(name, _)| plain_text(name).chars().take(60).collect()).collect()
    }

    /// Parses one level of an object or array. A value that was replaced stays text.
    pub(super) fn open(&mut self) -> &mut Self {
        if let Self::Text(Cow::Borrowed(text)) = *self {
            match text.as_bytes().first() {
                Some(b'{') => {
                    let members = members(text).expect("the document was valid as a whole");
                    *self = Self::Object(Object { text, members, structure_changed: false });
                }
                Some(b'[') => {
                    let elements = elements(text).map(|element| Self::Text(element.into())).collect();
                    *self = Self::Array(Array { text, elements, structure_changed: false });
                }
                _ => {}
            }
        }
        self
    }

    /// Returns the value's original text.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Object(object) => object.text,
            Self::Array(array) => array.text,
        }
    }

    /// Returns whether this is null; null counts as missing.
    pub(super) fn is_null(&self) -> bool {
        self.text() == "null"
    }

    /// Calls `with` for every value at `path` until one fails. An array at the end of the path stands for its elements, unless
    /// `whole` is set.
    pub(super) fn modify<E>(
        &mut self,
        path: &[String],
        whole: bool,
        with: &mut impl FnMut(&mut Cow<'a, str>) -> Result<(), E>,
    ) -> Result<(), E> {
        match (self.open(), path) {
            (Self::Array(array), path) if !(whole && path.is_empty()) => {
                array.elements.iter_mut().try_for_each(|element| element.modify(path, whole, with))
            }
            (Self::Object(object), [name, rest @ ..]) => object.named(name).try_for_each(|value| value.modify(rest, whole, with)),
            (Self::Object(Object { text, .. }) | Self::Array(Array { text, .. }), _) => {
                let mut text = Cow::Borrowed(*text);
                with(&mut text)?;
                if let Cow::Owned(_) = text {
                    *self = Self::Text(text);
                }
                Ok(())
            }
            (Self::Text(text), []) => with(text),
            (Self::Text(_), _) => Ok(()),
        }
    }

    /// Calls `with` for every value at `path`, or with `None` where it is missing; of a name that occurs twice, the last counts.
    /// A document that is an array has no fields.
    pub(super) fn visit(&mut self, path: &[String], with: &mut impl FnMut(Option<&Self>)) {
        match self.open() {
            Self::Array(_) => with(None),
            document => document.visit_below(path, with),
        }
    }

    fn visit_below(&mut self, path: &[String], with: &mut impl FnMut(Option<&Self>)) {
        let Some((name, rest)) = path.split_first() else {
            return with(if self.is_null() { None } else { Some(self) });
        };
        match self.open() {
            Self::Object(object) => match object.named(name).last() {
                Some(value) => value.visit_below(rest, with),
                None => with(None),
            },
            Self::Array(array) => array.elements.iter_mut().for_each(|element| element.visit_below(path, with)),
            Self::Text(_) => with(None),
        }
    }

    /// Returns whether a value other than null is at `path`, in any element of the arrays on the way.
    pub(super) fn contains(&mut self, path: &[String]) -> bool {
        match (self.open(), path) {
            (value, []) => !value.is_null(),
            (Self::Array(array), path) => array.elements.iter_mut().any(|element| element.contains(path)),
            (Self::Object(object), [name, rest @ ..]) => object.named(name).any(|value| value.contains(rest)),
            (Self::Text(_), _) => false,
        }
    }

    /// Returns the content of a string; any other value as it is written.
    pub(super) fn plain(&self) -> Cow<'_, str> {
        plain_text(self.text())
    }

    /// Returns whether anything changed.
    pub(super) fn is_changed(&self) -> bool {
        match self {
            Self::Text(text) => matches!(text, Cow::Owned(_)),
            Self::Object(object) => object.structure_changed || object.members.iter().any(|(_, value)| value.is_changed()),
            Self::Array(array) => array.structure_changed || array.elements.iter().any(Self::is_changed),
        }
    }

    /// Appends the document to `out`.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let separate = |i, out: &mut Vec<u8>| out.extend_from_slice(if i == 0 { b"" } else { b"," });
        match self {
            _ if !self.is_changed() => out.extend_from_slice(self.text().as_bytes()),
            Self::Text(text) => out.extend_from_slice(text.as_bytes()),
            Self::Object(object) => {
                out.push(b'{');
                for (i, (name, value)) in object.members.iter().enumerate() {
                    separate(i, out);
                    out.extend_from_slice(name.as_bytes());
                    out.push(b':');
                    value.write(out);
                }
                out.push(b'}');
            }
            Self::Array(array) => {
                out.push(b'[');
                for (i, element) in array.elements.iter().enumerate() {
                    separate(i, out);
                    element.write(out);
                }
                out.push(b']');
            }
        }
    }
}

impl<'a> Object<'a> {
    /// Returns an empty object that is new in its document.
    pub(super) fn new() -> Self {
        Self { text: "{}", members: Vec::new(), structure_changed: true }
    }

    /// Returns the values called `name`, in their order.
    pub(super) fn named(&mut self, name: &str) -> impl Iterator<Item = &mut Node<'a>> {
        self.members.iter_mut().filter(move |(written, _)| is_name(written, name)).map(|(_, value)| value)
    }
}

/// Returns the text of a JSON error, without the name of a parser's token.
pub(crate) fn json_error(error: &serde_json::Error) -> String {
    error.to_string().replace("expected ident", "unexpected character")
}

/// Returns `text` without its byte order mark.
pub(crate) fn without_bom(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Returns whether `text` is nested at most [`MAX_DEPTH`] levels deep, so that a recursive walk is safe.
pub(crate) fn is_walkable(text: &str) -> bool {
    nesting(text) <= MAX_DEPTH
}

/// Returns how deeply the objects and arrays in `text` are nested; linear, and safe for any text.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Returns the raw elements of a JSON array.
pub(super) fn elements(array: &str) -> impl Iterator<Item = &str> {
    let elements: Vec<&RawValue> = serde_json::from_str(array).expect("the document was valid as a whole");
    elements.into_iter().map(RawValue::get)
}

/// Returns the text at `names` inside the JSON `text`; `None` if the path meets an array or a scalar.
pub(super) fn value_at<'a>(text: &'a str, names: &[String]) -> Option<&'a str> {
    let Some((name, rest)) = names.split_first() else { return Some(text) };
    if !text.starts_with('{') {
        return None;
    }
    let members: Vec<(&str, &str)> = borrowed_members(text).ok()?;
    let (_, value) = members.into_iter().rev().find(|(written, _)| is_name(written, name))?;
    value_at(value, rest)
}

/// Returns the content of a JSON string; any other value as it is written.
pub(super) fn plain_text(json: &str) -> Cow<'_, str> {
    match json.starts_with('"').then(|| serde_json::from_str::<String>(json)) {
        Some(Ok(text)) => Cow::Owned(text),
        _ => Cow::Borrowed(json),
    }
}

/// Returns `text` as a JSON string.
pub(super) fn json_string(text: &str) -> String {
    serde_json::to_string(text).expect("text is JSON")
}

/// Returns whether the JSON string `written` is `name`.
pub(super) fn is_name(written: &str, name: &str) -> bool {
    if written.contains('\\') {
        return serde_json::from_str::<String>(written).is_ok_and(|written| written == name);
    }
    written.len() == name.len() + 2 && &written[1..=name.len()] == name
}

fn members(text: &str) -> Result<Vec<(Cow<'_, str>, Node<'_>)>, serde_json::Error> {
    let members = borrowed_members(text)?;
    Ok(members.into_iter().map(|(name, value)| (name.into(), Node::Text(value.into()))).collect())
}

/// Returns the raw names and values of an object.
fn borrowed_members(text: &str) -> Result<Vec<(&str, &str)>, serde_json::Error> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(&'de str, &'de str)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::with_capacity(16);
            while let Some((name, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                members.push((name.get(), value.get()));
            }
            Ok(members)
        }
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let members = json.deserialize_map(Members)?;
    json.end()?;
    Ok(members)
}
