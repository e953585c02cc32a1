//! Renders an event as JSON.

use std::io::Write as _;

use crate::logins::fake::user::User;

#[derive(Debug)]
pub(super) struct LoginEvent {
    pub(super) user: User,
    pub(super) ip: [u8; 4],
    /// Unix seconds.
    pub(super) time: i64,
    /// A bit per missing field, in the order of the fields.
    pub(super) missing_fields: u8,
    pub(super) time_as_text: bool,
    pub(super) has_wrong_types: bool,
}

const PIECES: [&[u8]; 7] = [
    b", \"user_id\": ",
    b", \"app_version\": ",
    b", \"device_type\": ",
    b", \"ip\": ",
    b", \"locale\": ",
    b", \"device_id\": ",
    b", \"timestamp\": ",
];

impl LoginEvent {
    /// Appends the event to `out`.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let User { user_id, device_id, app_version, device_type, locale, .. } = &self.user;
        let field = |number: usize, out: &mut Vec<u8>| {
            let there = self.missing_fields & (1 << number) == 0;
            if there {
                out.extend_from_slice(PIECES[number]);
            }
            there
        };
        if field(0, out) {
            if self.has_wrong_types {
                // The first digits of the id, as a number; a leading 0 would not be JSON.
                out.push(b'1');
                out.extend(user_id.iter().filter(|byte| byte.is_ascii_digit()).take(9));
            } else {
                text(user_id, out);
            }
        }
        for (number, value) in [(1, app_version), (2, device_type)] {
            if field(number, out) {
                text(value.as_bytes(), out);
            }
        }
        if field(3, out) {
            out.push(b'"');
            for (i, octet) in self.ip.into_iter().enumerate() {
                out.extend_from_slice(if i == 0 { b"" } else { b"." });
                decimal(octet, out);
            }
            out.push(b'"');
        }
        if field(4, out) {
            text(locale.as_bytes(), out);
        }
        if field(5, out) {
            text(device_id, out);
        }
        if field(6, out) {
            let time = self.time;
            match (self.has_wrong_types, self.time_as_text) {
                (true, _) => write!(out, r#"{{"seconds": {time}}}"#),
                (_, true) => write!(out, "\"{time}\""),
                (_, false) => write!(out, "{time}"),
            }
            .expect("memory takes it");
        }
        if out.len() == start {
            out.extend_from_slice(b"{");
        } else {
            // The brace replaces the comma before the first field.
            out.remove(start);
            out[start] = b'{';
        }
        out.push(b'}');
    }
}

fn text(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(text);
    out.push(b'"');
}

fn decimal(octet: u8, out: &mut Vec<u8>) {
    if octet >= 100 {
        out.push(b'0' + octet / 100);
    }
    if octet >= 10 {
        out.push(b'0' + octet / 10 % 10);
    }
    out.push(b'0' + octet % 10);
}
