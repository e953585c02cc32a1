//! A line of one's own making: kcat's format, with kcat's tokens.

use std::io::Write as _;
use std::str::FromStr;

use crate::record::RecordView;
use crate::terminal::ByteEncoding;

/// What stands for what, for errors.
const TOKENS: &str = "use %s %S %R %k %K %t %p %o %T %h or %%";

/// A format such as `%t/%p@%o %k: %s\n`, with the tokens of kcat: `%s` value, `%S` its length (-1 for null), `%R` that length as
/// four bytes, `%k` key, `%K` its length, `%t` topic, `%p` partition, `%o` offset, `%T` milliseconds, `%h` headers (`n=v,...`), `%%`;
/// `\n`, `\r`, `\t`, `\xNN` and `\0NNN` (octal) for bytes. Null is written as nothing, and as `NULL` in a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineFormat(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Value,
    ValueLength,
    ValueLengthAsBytes,
    Key,
    KeyLength,
    Topic,
    Partition,
    Offset,
    Timestamp,
    Headers,
}

impl FromStr for LineFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((first, behind)) = rest.split_first() {
            rest = behind;
            let part = match (first, rest.first()) {
                (b'\\', Some(_)) => {
                    plain.push(escaped(&mut rest));
                    continue;
                }
                (b'%', Some(token)) => match token {
                    b'%' => None,
                    b's' => Some(Part::Value),
                    b'S' => Some(Part::ValueLength),
                    b'R' => Some(Part::ValueLengthAsBytes),
                    b'k' => Some(Part::Key),
                    b'K' => Some(Part::KeyLength),
                    b't' => Some(Part::Topic),
                    b'p' => Some(Part::Partition),
                    b'o' => Some(Part::Offset),
                    b'T' => Some(Part::Timestamp),
                    b'h' => Some(Part::Headers),
                    _ => {
                        let token = String::from_utf8_lossy(rest).chars().next().unwrap_or_default();
                        return Err(format!("`%{token}` stands for nothing: {TOKENS}"));
                    }
                },
                (b'%', None) => return Err(format!("it ends in a single `%`: {TOKENS}")),
                (plain_byte, _) => {
                    plain.push(*plain_byte);
                    continue;
                }
            };
            rest = &rest[1..];
            let Some(part) = part else {
                plain.push(b'%');
                continue;
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(part);
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }
}

/// Returns the byte that is meant by what stands behind a backslash, and takes that away.
fn escaped(rest: &mut &[u8]) -> u8 {
    let Some((first, behind)) = rest.split_first() else { return b'\\' };
    let (base, most) = match first {
        b'x' => (16, 2),
        b'0' => (8, 3),
        other => {
            *rest = behind;
            return match other {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                other => *other,
            };
        }
    };
    *rest = behind;
    let mut value: u32 = 0;
    for _ in 0..most {
        let Some(digit) = rest.first().and_then(|byte| char::from(*byte).to_digit(base)) else { break };
        value = value * base + digit;
        *rest = &rest[1..];
    }
    u8::try_from(value & 0xff).expect("the mask leaves a byte")
}

impl LineFormat {
    /// Returns the format that is the value and a line feed.
    #[must_use]
    pub fn value() -> Self {
        Self(vec![Part::Value, Part::Text(b"\n".to_vec())])
    }

    /// Appends `record` to `out`, its bytes in this writing.
    pub fn write(&self, record: &RecordView<'_>, writing: ByteEncoding, out: &mut Vec<u8>) {
        for part in &self.0 {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Value => writing.text(record.value.unwrap_or_default(), out),
                Part::ValueLength => number(length(record.value), out),
                Part::ValueLengthAsBytes => {
                    let length = i32::try_from(length(record.value)).unwrap_or(i32::MAX);
                    out.extend_from_slice(&length.to_be_bytes());
                }
                Part::Key => writing.name(record.key.unwrap_or_default(), out),
                Part::KeyLength => number(length(record.key), out),
                Part::Topic => writing.plain_name(record.partition.topic.name().as_bytes(), out),
                Part::Partition => number(record.partition.index.into(), out),
                Part::Offset => number(record.offset, out),
                Part::Timestamp => number(record.timestamp.unwrap_or(-1), out),
                Part::Headers => {
                    let mut separator: &[u8] = b"";
                    record.headers.each(&mut |name, value| {
                        out.extend_from_slice(std::mem::replace(&mut separator, b","));
                        writing.plain_name(name, out);
                        out.push(b'=');
                        match value {
                            Some(value) => writing.name(value, out),
                            None => out.extend_from_slice(b"NULL"),
                        }
                    });
                }
            }
        }
    }
}

fn length(part: Option<&[u8]>) -> i64 {
    part.map_or(-1, |part| i64::try_from(part.len()).unwrap_or(i64::MAX))
}

fn number(number: i64, out: &mut Vec<u8>) {
    write!(out, "{number}").expect("memory takes it");
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::record::{Partition, Record};

    fn record() -> Record {
        Record {
            partition: Partition::new("logins", 3),
            offset: 1042,
            timestamp: Some(1_694_479_551_000),
            key: None,
            value: Some(Bytes::from_static(b"a\x1b\n")),
            headers: vec![(Bytes::from_static(b"n"), Some(Bytes::from_static(b"v\n"))), (Bytes::from_static(b"m"), None)],
        }
    }

    fn written(format: &str, record: &Record, writing: ByteEncoding) -> Vec<u8> {
        let mut out = Vec::new();
        format.parse::<LineFormat>().unwrap().write(&record.view(), writing, &mut out);
        out
    }

    #[test]
    fn every_token_stands_for_its_part() {
        let shown = |format| String::from_utf8(written(format, &record(), ByteEncoding::AsIs)).unwrap();
        assert_eq!(shown("%t/%p@%o %T %k:%K %s:%S %h %%"), "logins/3@1042 1694479551000 :-1 a\x1b\n:3 n=v\n,m=NULL %");
        assert_eq!(shown(r"\x41\x4a1\n\r\t\\\q\0101\x"), "AJ1\n\r\t\\qA\0");
        assert_eq!(shown("\\"), "\\");
        assert_eq!(shown("größe %p"), "größe 3");
        assert_eq!(written("%R", &record(), ByteEncoding::AsIs), [0, 0, 0, 3]);
        let null = Record { value: None, timestamp: None, key: Some(Bytes::new()), headers: Vec::new(), ..record() };
        assert_eq!(written("%s%S %R %T %K [%h]", &null, ByteEncoding::AsIs), b"-1 \xff\xff\xff\xff -1 0 []");
    }

    #[test]
    fn a_terminal_obeys_nothing_that_others_wrote() {
        let shown = |writing| String::from_utf8(written("\\x1b[1m%s%h", &record(), writing)).unwrap();
        assert_eq!(shown(ByteEncoding::Harmless), "\x1b[1ma\\x1b\nn=v\\n,m=NULL", "the format itself is one's own");
        assert_eq!(shown(ByteEncoding::Base64), "\x1b[1mYRsKn=dgo=,m=NULL");
    }

    #[test]
    fn what_stands_for_nothing_is_refused() {
        let wrong = |format: &str| format.parse::<LineFormat>().unwrap_err();
        assert_eq!(wrong("%z"), format!("`%z` stands for nothing: {TOKENS}"));
        assert_eq!(wrong("%é"), format!("`%é` stands for nothing: {TOKENS}"));
        assert_eq!(wrong("%s%"), format!("it ends in a single `%`: {TOKENS}"));
    }
}
