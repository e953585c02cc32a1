//! Parses answers that quote documents: servers copy lone surrogates and cut characters of payloads into their JSON. Pure.

use serde_json::Value;

/// Parses `bytes`, also with invalid characters in strings; null if they are not JSON.
pub(super) fn value(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).or_else(|_| serde_json::from_slice(&repair(bytes))).unwrap_or_default()
}

/// Returns `bytes` with U+FFFD in place of invalid characters.
pub(super) fn repair(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    let unit = |at: usize| {
        let hex = text.as_bytes().get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
    };
    let mut repaired = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.as_bytes().get(at) {
        let length = match (byte, unit(at)) {
            (b'\\', Some(0xd800..=0xdbff)) if matches!(unit(at + 6), Some(0xdc00..=0xdfff)) => 12,
            (b'\\', Some(0xd800..=0xdfff)) => {
                repaired.extend_from_slice(b"\\ufffd");
                at += 6;
                continue;
            }
            (b'\\', _) => 2,
            _ => 1,
        };
        let end = (at + length).min(text.len());
        repaired.extend_from_slice(&text.as_bytes()[at..end]);
        at = end;
    }
    repaired
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_with_a_quoted_payload_is_parsed() {
        for (text, expected) in [
            (&br#"{"a":"x\ud800y"}"#[..], "x\u{fffd}y"),
            (br#"{"a":"\udc00\ud83d\ude00"}"#, "\u{fffd}\u{1f600}"),
            (br#"{"a":"\\ud800\ud800\ud800"}"#, "\\ud800\u{fffd}\u{fffd}"),
            (b"{\"a\":\"\xc3\"}", "\u{fffd}"),
        ] {
            assert_eq!(value(text), json!({"a": expected}));
        }
        assert_eq!(value(b"{\"a\":"), Value::Null);
    }
}
