//! kcat's format strings.

use std::io::Write as _;
use std::str::FromStr;

use crate::record::RecordView;
use crate::terminal::byte_encoding::ByteEncoding;

const TOKEN_HELP: &str = "use %s %S %R %k %K %t %p %o %T %h or %%";

/// A format such as `%t/%p@%o %k: %s\n`, with the tokens of kcat: `%s` value, `%S` its length (-1 for null), `%R` that length as
/// four bytes, `%k` key, `%K` its length, `%t` topic, `%p` partition, `%o` offset, `%T` milliseconds, `%h` headers (`n=v,...`), `%%`;
/// `\n`, `\r`, `\t`, `\xNN` and `\0NNN` (octal) for bytes. Null is written as nothing, and as `NULL` in a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LineFormat(Vec<FormatToken>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum FormatToken {
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
                    plain.push(take_escape(&mut rest));
                    continue;
                }
                (b'%', Some(token)) => match token {
                    b'%' => None,
                    b's' => Some(FormatToken::Value),
                    b'S' => Some(FormatToken::ValueLength),
                    b'R' => Some(FormatToken::ValueLengthAsBytes),
                    b'k' => Some(FormatToken::Key),
                    b'K' => Some(FormatToken::KeyLength),
                    b't' => Some(FormatToken::Topic),
                    b'p' => Some(FormatToken::Partition),
                    b'o' => Some(FormatToken::Offset),
                    b'T' => Some(FormatToken::Timestamp),
                    b'h' => Some(FormatToken::Headers),
                    _ => {
                        let token = String::from_utf8_lossy(rest).chars().next().unwrap_or_default();
                        return Err(format!("unknown token `%{token}`: {TOKEN_HELP}"));
                    }
                },
                (b'%', None) => return Err(format!("the format ends in a single `%`: {TOKEN_HELP}")),
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
                parts.push(FormatToken::Text(std::mem::take(&mut plain)));
            }
            parts.push(part);
        }
        if !plain.is_empty() {
            parts.push(FormatToken::Text(plain));
        }
        Ok(Self(parts))
    }
}

/// Takes the escape behind a backslash and returns its byte.
fn take_escape(rest: &mut &[u8]) -> u8 {
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
    /// Returns the format `%s\n`.
    #[must_use]
    pub(crate) fn value() -> Self {
        Self(vec![FormatToken::Value, FormatToken::Text(b"\n".to_vec())])
    }

    /// Appends `record` to `out`, its bytes in `encoding`.
    pub(crate) fn write(&self, record: &RecordView<'_>, encoding: ByteEncoding, out: &mut Vec<u8>) {
        for part in &self.0 {
            match part {
                FormatToken::Text(text) => out.extend_from_slice(text),
                FormatToken::Value => encoding.write_text(record.value.unwrap_or_default(), out),
                FormatToken::ValueLength => number(length(record.value), out),
                FormatToken::ValueLengthAsBytes => {
                    let length = i32::try_from(length(record.value)).unwrap_or(i32::MAX);
                    out.extend_from_slice(&length.to_be_bytes());
                }
                FormatToken::Key => encoding.write_line(record.key.unwrap_or_default(), out),
                FormatToken::KeyLength => number(length(record.key), out),
                FormatToken::Topic => encoding.write_header_name(record.partition.topic.name().as_bytes(), out),
                FormatToken::Partition => number(record.partition.index.into(), out),
                FormatToken::Offset => number(record.offset, out),
                FormatToken::Timestamp => number(record.timestamp.unwrap_or(-1), out),
                FormatToken::Headers => {
                    let mut separator: &[u8] = b"";
                    record.headers.each(&mut |name, value| {
                        out.extend_from_slice(std::mem::replace(&mut separator, b","));
                        encoding.write_header_name(name, out);
                        out.push(b'=');
                        match value {
                            Some(value) => encoding.write_line(value, out),
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

    fn written(format: &str, record: &Record, encoding: ByteEncoding) -> Vec<u8> {
        let mut out = Vec::new();
        format.parse::<LineFormat>().unwrap().write(&record.view(), encoding, &mut out);
        out
    }

    #[test]
    fn every_token_writes_its_part_of_the_record() {
        let shown = |format| String::from_utf8(written(format, &record(), ByteEncoding::Raw)).unwrap();
        assert_eq!(shown("%t/%p@%o %T %k:%K %s:%S %h %%"), "logins/3@1042 1694479551000 :-1 a\x1b\n:3 n=v\n,m=NULL %");
        assert_eq!(shown(r"\x41\x4a1\n\r\t\\\q\0101\x"), "AJ1\n\r\t\\qA\0");
        assert_eq!(shown("\\"), "\\");
        assert_eq!(shown("größe %p"), "größe 3");
        assert_eq!(written("%R", &record(), ByteEncoding::Raw), [0, 0, 0, 3]);
        let null = Record { value: None, timestamp: None, key: Some(Bytes::new()), headers: Vec::new(), ..record() };
        assert_eq!(written("%s%S %R %T %K [%h]", &null, ByteEncoding::Raw), b"-1 \xff\xff\xff\xff -1 0 []");
    }

    #[test]
    fn control_sequences_of_records_are_escaped_and_those_of_the_format_are_not() {
        let shown = |encoding| String::from_utf8(written("\\x1b[1m%s%h", &record(), encoding)).unwrap();
        assert_eq!(shown(ByteEncoding::Escaped), "\x1b[1ma\\x1b\nn=v\\n,m=NULL", "the format itself is one's own");
        assert_eq!(shown(ByteEncoding::Base64), "\x1b[1mYRsKn=dgo=,m=NULL");
    }

    #[test]
    fn unknown_format_tokens_are_refused() {
        let wrong = |format: &str| format.parse::<LineFormat>().unwrap_err();
        assert_eq!(wrong("%z"), format!("unknown token `%z`: {TOKEN_HELP}"));
        assert_eq!(wrong("%é"), format!("unknown token `%é`: {TOKEN_HELP}"));
        assert_eq!(wrong("%s%"), format!("the format ends in a single `%`: {TOKEN_HELP}"));
    }
}
