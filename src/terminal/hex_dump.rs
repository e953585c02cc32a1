//! Hex dumps.

use std::fmt::Write as _;

const BYTES_PER_LINE: usize = 16;

/// Appends `bytes` in lines such as `00000010  7b 22 61 22 3a 31 7d 00  0a                       |{"a":1}..|`, indented by `margin`.
pub(super) fn hex_dump(bytes: &[u8], margin: usize, text: &mut String) {
    for (at, line) in bytes.chunks(BYTES_PER_LINE).enumerate() {
        let _ = write!(text, "{:margin$}{:08x} ", "", at * BYTES_PER_LINE);
        for place in 0..BYTES_PER_LINE {
            text.push_str(if place == BYTES_PER_LINE / 2 { "  " } else { " " });
            match line.get(place) {
                Some(byte) => {
                    let _ = write!(text, "{byte:02x}");
                }
                None => text.push_str("  "),
            }
        }
        text.push_str("  |");
        text.extend(line.iter().map(|byte| if (b' '..=b'~').contains(byte) { char::from(*byte) } else { '.' }));
        text.push_str("|\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_offset_bytes_and_text() {
        let mut text = String::new();
        hex_dump(b"{\"a\": \"\x1b[2J\xff\"}\n|", 2, &mut text);
        let expected = "  \
  00000000  7b 22 61 22 3a 20 22 1b  5b 32 4a ff 22 7d 0a 7c  |{\"a\": \".[2J.\"}.||\n";
        assert_eq!(text, expected);
        text.clear();
        hex_dump(&[0; 17], 0, &mut text);
        assert_eq!(text.lines().nth(1), Some("00000010  00                                                |.|"));
        text.clear();
        hex_dump(b"", 0, &mut text);
        assert_eq!(text, "");
    }
}
