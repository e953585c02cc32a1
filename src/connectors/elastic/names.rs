//! Names of indices.

use std::fmt::Write as _;

/// The longest name, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// Checks the name of an index.
///
/// # Errors
/// When the servers reject it: the reason.
pub fn index_rule(name: &str) -> Result<(), String> {
    const FORBIDDEN: [char; 13] = ['\\', '/', '*', '?', '"', '<', '>', '|', ' ', ',', '#', ':', '\u{7f}'];
    if let Some(c) = name.chars().find(|c| FORBIDDEN.contains(c) || c.is_control()) {
        return Err(format!("an index cannot have `{}` in its name", c.escape_debug()));
    }
    if name.is_empty() || name == "." || name == ".." {
        return Err("that is not a valid index name".to_owned());
    }
    if name.starts_with(['-', '_', '+', '.']) {
        return Err("the name of an index cannot begin with `-`, `_`, `+` or `.`".to_owned());
    }
    if name.chars().any(char::is_uppercase) {
        return Err("the name of an index cannot have capitals".to_owned());
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(format!("the name of an index has at most {MAX_NAME_BYTES} bytes"));
    }
    Ok(())
}

/// Returns `name` as a part of a path.
pub(super) fn in_path(name: &str) -> String {
    let mut path = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            path.push(byte.into());
        } else {
            write!(path, "%{byte:02X}").expect("memory takes it");
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_the_servers_reject_is_invalid() {
        for name in ["logins", "logins-2026.11.21", "a_b+c", "ümlaut", "%7b", &"x".repeat(255)] {
            assert_eq!(index_rule(name), Ok(()), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "a*",
            "a?",
            "a b",
            "a,b",
            "a#b",
            "a:b",
            "a\\b",
            "a\"b",
            "<now>",
            "a|b",
            "Logins",
            "Ü",
            "-a",
            "_all",
            "_bulk",
            "+a",
            ".kibana",
            "a\nb",
            "a\u{7f}",
            &"x".repeat(256),
        ] {
            assert!(index_rule(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_name_in_a_path_is_one_segment() {
        assert_eq!(in_path("logins-2026.11.21"), "logins-2026.11.21");
        assert_eq!(in_path("ü%&{x}"), "%C3%BC%25%26%7Bx%7D");
    }
}
