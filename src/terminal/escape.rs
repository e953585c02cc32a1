//! Escapes control characters in foreign text, so that it cannot control the terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Escapes `text` for one line: control characters, bidirectional controls, invisible characters and bytes that are not UTF-8
/// become `\n`, `\x1b`, `\u{202e}`.
#[must_use]
pub(crate) fn escape_controls<T: AsRef<[u8]> + ?Sized>(text: &T) -> Cow<'_, str> {
    escape_where(text.as_ref(), is_control)
}

/// Escapes `text` for lines of its own: as [`escape_controls`], but line feeds and tabs stay.
#[must_use]
pub(crate) fn escape_controls_text<T: AsRef<[u8]> + ?Sized>(text: &T) -> Cow<'_, str> {
    escape_where(text.as_ref(), |c| is_control(c) && !matches!(c, '\n' | '\t'))
}

fn escape_where(bytes: &[u8], is_harmful: impl Fn(char) -> bool) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.contains(&is_harmful)
    {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                c if !is_harmful(c) => shown.push(c),
                '\n' => shown.push_str("\\n"),
                '\r' => shown.push_str("\\r"),
                '\t' => shown.push_str("\\t"),
                c if c.is_ascii() => push_byte_escape(u32::from(c), &mut shown),
                c => {
                    let _ = write!(shown, "{}", c.escape_unicode());
                }
            }
        }
        chunk.invalid().iter().for_each(|byte| push_byte_escape(u32::from(*byte), &mut shown));
    }
    Cow::Owned(shown)
}

fn push_byte_escape(byte: u32, shown: &mut String) {
    let _ = write!(shown, "\\x{byte:02x}");
}

/// Returns equivalent JSON: what [`escape_controls`] escapes becomes `\u....`, except the white space between tokens.
#[must_use]
pub(crate) fn escape_controls_json(json: &str) -> Cow<'_, str> {
    let harmful = |c| is_control(c) && !matches!(c, '\n' | '\r' | '\t');
    if !json.contains(harmful) {
        return Cow::Borrowed(json);
    }
    let mut shown = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if harmful(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// Returns whether a terminal may interpret `c`, or show nothing for it.
fn is_control(c: char) -> bool {
    let directs = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    // Line separators and invisible characters: two keys must not look alike.
    c.is_control()
        || directs
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{e0000}'..='\u{e007f}' | '\u{ad}' | '\u{200b}' | '\u{feff}')
        || matches!(c, '\u{180e}' | '\u{2060}'..='\u{2064}' | '\u{206a}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_text_is_shown_as_it_is() {
        for text in ["", "plain", "größe 漢字 👩‍💻 \\n", "{\"a\": 1}"] {
            assert!(matches!(escape_controls(text), Cow::Borrowed(shown) if shown == text));
        }
    }

    #[test]
    fn terminal_control_sequences_are_shown_as_escapes() {
        for (text, shown) in [
            (&b"\x1b]0;owned\x07"[..], "\\x1b]0;owned\\x07"),
            (b"\x1b[2J\x1b[1;1H", "\\x1b[2J\\x1b[1;1H"),
            (b"a\r\n\tb\0\x7f", "a\\r\\n\\tb\\x00\\x7f"),
            ("\u{9b}31m".as_bytes(), "\\u{9b}31m"),
            ("user\u{202e}gpj.exe".as_bytes(), "user\\u{202e}gpj.exe"),
            ("a\u{2028}b\u{e0041}".as_bytes(), "a\\u{2028}b\\u{e0041}"),
            ("a\u{2060}b\u{fff9}".as_bytes(), "a\\u{2060}b\\u{fff9}"),
            (b"\xff\x9b\xc3(", "\\xff\\x9b\\xc3("),
        ] {
            assert_eq!(escape_controls(text), shown);
        }
    }

    #[test]
    fn line_feeds_are_kept_in_multi_line_text() {
        assert_eq!(escape_controls_text("a\n\tb\r\x1b[2J"), "a\n\tb\\r\\x1b[2J");
        assert!(matches!(escape_controls_text("a\n"), Cow::Borrowed("a\n")));
    }

    #[test]
    fn escaped_json_has_the_same_value() {
        let json = "{\n\"a\": \"\u{9b}31m\u{202e}\u{7f}\u{e0041}\"}";
        let shown = escape_controls_json(json);
        assert_eq!(
            shown,
            r#"{
"a": "\u009b31m\u202e\u007f\udb40\udc41"}"#
        );
        let value = |json| serde_json::from_str::<serde_json::Value>(json).unwrap();
        assert_eq!(value(&shown), value(json));
    }

    proptest! {
        #[test]
        fn no_control_character_passes(bytes in proptest::collection::vec(any::<u8>(), 0..60), text in any::<String>()) {
            for shown in [escape_controls(&bytes), escape_controls(&text)] {
                prop_assert!(!shown.contains(is_control), "{shown:?}");
            }
            let json = serde_json::to_string(&text).unwrap();
            let shown = escape_controls_json(&json);
            prop_assert!(!shown.contains(is_control), "{shown:?}");
            prop_assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
        }
    }
}
