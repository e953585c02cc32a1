//! A JSON value that is parsed only where a rule reaches, so that everything else keeps its text.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

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

/// A parsed array.
#[derive(Debug)]
pub(super) struct Array<'a> {
    text: &'a str,
    pub(super) elements: Vec<Node<'a>>,
    /// Whether elements were removed.
    pub(super) structure_changed: bool,
}

impl<'a> Node<'a> {
    /// Parses `text`, one level deep if it is an object.
    ///
    /// # Errors
    /// When the text is not JSON.
    pub(super) fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        if text.trim_ascii_start().starts_with('{') {
            return Ok(Self::Object(Object { text, members: members(text)?, structure_changed: false }));
        }
        Ok(Self::Text(Cow::Borrowed(serde_json::from_str::<&RawValue>(text)?.get())))
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
                    let elements: Vec<&RawValue> = serde_json::from_str(text).expect("the document was valid as a whole");
                    let elements = elements.into_iter().map(|element| Self::Text(element.get().into())).collect();
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

    /// Calls `with` for every value at `path` until one fails; an array at the end of the path stands for its elements.
    pub(super) fn modify<E>(
        &mut self,
        path: &[String],
        with: &mut impl FnMut(&mut Cow<'a, str>) -> Result<(), E>,
    ) -> Result<(), E> {
        match (self.open(), path) {
            (Self::Array(array), path) => array.elements.iter_mut().try_for_each(|element| element.modify(path, with)),
            (Self::Object(object), [name, rest @ ..]) => object.named(name).try_for_each(|value| value.modify(rest, with)),
            (Self::Object(object), []) => {
                let mut text = Cow::Borrowed(object.text);
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
