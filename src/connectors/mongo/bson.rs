//! Writes BSON. Pure.

use mongodb::bson::RawDocument;

use crate::pipeline::Reason;

pub(super) const DOUBLE: u8 = 0x01;
pub(super) const TEXT: u8 = 0x02;
pub(super) const DOCUMENT: u8 = 0x03;
pub(super) const ARRAY: u8 = 0x04;
const BINARY: u8 = 0x05;
pub(super) const BOOLEAN: u8 = 0x08;
pub(super) const DATE: u8 = 0x09;
pub(super) const NULL: u8 = 0x0a;
pub(super) const INT32: u8 = 0x10;
pub(super) const INT64: u8 = 0x12;
pub(super) const DECIMAL: u8 = 0x13;

/// The generic binary subtype.
pub(super) const GENERIC: u8 = 0;
/// The subtype of a UUID.
pub(super) const UUID: u8 = 4;

/// An open document or array: the position of its length.
#[must_use]
pub(super) struct OpenDocument(usize);

/// BSON as it is written.
#[derive(Debug, Default)]
pub(super) struct Bson {
    pub(super) bytes: Vec<u8>,
    /// The ranges of the names of the objects that are open.
    pub(super) names: Vec<(usize, usize)>,
}

impl Bson {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), names: Vec::new() }
    }

    /// Begins the outermost document.
    pub(super) fn begin(&mut self) -> OpenDocument {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        OpenDocument(at)
    }

    /// Begins a document called `name`.
    pub(super) fn begin_document(&mut self, name: &str) -> OpenDocument {
        self.name(DOCUMENT, name);
        self.begin()
    }

    /// Begins an array called `name`.
    pub(super) fn begin_array(&mut self, name: &str) -> OpenDocument {
        self.name(ARRAY, name);
        self.begin()
    }

    /// Begins the document at place `index` of an array.
    pub(super) fn begin_item(&mut self, index: usize) -> OpenDocument {
        self.bytes.push(DOCUMENT);
        self.index(index);
        self.begin()
    }

    /// Ends a document or an array.
    #[expect(clippy::needless_pass_by_value, reason = "it ends once")]
    pub(super) fn end(&mut self, begun: OpenDocument) {
        self.bytes.push(0);
        let length = i32::try_from(self.bytes.len() - begun.0).unwrap_or(i32::MAX); // above any limit, and then never sent
        self.bytes[begun.0..begun.0 + 4].copy_from_slice(&length.to_le_bytes());
    }

    pub(super) fn text(&mut self, name: &str, text: &str) {
        self.name(TEXT, name);
        self.text_value(text);
    }

    pub(super) fn binary(&mut self, name: &str, subtype: u8, bytes: &[u8]) {
        self.name(BINARY, name);
        self.length(bytes.len());
        self.bytes.push(subtype);
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn boolean(&mut self, name: &str, value: bool) {
        self.name(BOOLEAN, name);
        self.bytes.push(value.into());
    }

    /// Adds a time, in milliseconds since the Unix epoch.
    pub(super) fn date(&mut self, name: &str, time: i64) {
        self.name(DATE, name);
        self.bytes.extend_from_slice(&time.to_le_bytes());
    }

    pub(super) fn int32(&mut self, name: &str, number: i32) {
        self.name(INT32, name);
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn int64(&mut self, name: &str, number: i64) {
        self.name(INT64, name);
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn name(&mut self, kind: u8, name: &str) {
        self.bytes.push(kind);
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
    }

    pub(super) fn index(&mut self, index: usize) {
        let mut digits = [0; 20];
        let (mut at, mut rest) = (digits.len(), index);
        loop {
            at -= 1;
            digits[at] = b'0' + u8::try_from(rest % 10).expect("a digit is small");
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.bytes.extend_from_slice(&digits[at..]);
        self.bytes.push(0);
    }

    fn length(&mut self, length: usize) {
        let length = i32::try_from(length).unwrap_or(i32::MAX); // above any limit, and then never sent
        self.bytes.extend_from_slice(&length.to_le_bytes());
    }

    pub(super) fn text_value(&mut self, text: &str) {
        self.length(text.len() + 1);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }
}

impl Bson {
    /// Rejects names, among the fields from byte `first` on, that `$set` would take for a path or an operator.
    ///
    /// # Errors
    /// When there is one.
    pub(super) fn require_literal_names(&mut self, first: usize) -> Result<(), Reason> {
        let mut copy = Self::with_capacity(self.bytes.len() - first + 5);
        let begun = copy.begin();
        copy.bytes.extend_from_slice(&self.bytes[first..]);
        copy.end(begun);
        let document = RawDocument::from_bytes(&copy.bytes).expect("each document is ended");
        let names = document.iter_elements().flatten().map(|element| element.key().as_str().to_owned());
        for name in names {
            if name.is_empty() || name.starts_with('$') || name.contains('.') {
                let what = format!("an update cannot set a field of the name `{name}`");
                return Err(Reason::new("no_literal_name", what).at(name));
            }
        }
        Ok(())
    }
}

impl Bson {
    /// Returns a name that occurs twice among those from `first` on.
    pub(super) fn repeated_name(&self, first: usize) -> Option<String> {
        let name = |(start, end): &(usize, usize)| &self.bytes[*start..*end];
        let names = &self.names[first..];
        let repeated = if names.len() <= 16 {
            names
                .iter()
                .enumerate()
                .find(|(at, one)| names[..*at].iter().any(|other| name(other) == name(one)))
                .map(|(_, one)| one)
        } else {
            let mut sorted: Vec<_> = names.iter().collect();
            sorted.sort_unstable_by_key(|one| name(one));
            sorted.windows(2).find(|pair| name(pair[0]) == name(pair[1])).map(|pair| pair[0])
        };
        repeated.map(|one| String::from_utf8_lossy(name(one)).into_owned())
    }

    /// Truncates to this many bytes.
    pub(super) fn truncate(&mut self, bytes: usize) {
        self.bytes.truncate(bytes);
        self.names.clear();
    }
}
