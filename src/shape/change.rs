//! What is done to single values: `--mask`, `--mask-ip` and `--date`.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;

use hmac::{Hmac, Mac as _};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use sha2::Sha256;

use crate::shape::decimal::Decimal;

/// The keyed hash that hides a value: HMAC-SHA-256, so that nobody without the key can try names until one fits.
#[derive(Clone)]
pub(super) struct Mask(Hmac<Sha256>);

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mask(***)")
    }
}

impl Mask {
    pub(super) fn new(key: &str) -> Self {
        Self(Hmac::new_from_slice(key.as_bytes()).expect("a key of any length will do"))
    }

    /// Hides `value`: text and numbers by what they say, so that 7 and "7" stay alike. Null stays null.
    pub(super) fn apply(&self, value: &mut Cow<'_, str>) {
        if value == "null" {
            return;
        }
        let mut mac = self.0.clone();
        mac.update(said(value).as_bytes());
        let mut hidden = String::with_capacity(66);
        hidden.push('"');
        for byte in mac.finalize().into_bytes() {
            let _ = write!(hidden, "{byte:02x}");
        }
        hidden.push('"');
        *value = Cow::Owned(hidden);
    }
}

/// Returns what a value says: its text, or else how it is written.
fn said(value: &str) -> Cow<'_, str> {
    match value.starts_with('"').then(|| serde_json::from_str::<String>(value)) {
        Some(Ok(text)) => Cow::Owned(text),
        _ => Cow::Borrowed(value),
    }
}

fn json(text: &str) -> String {
    serde_json::to_string(text).expect("text is JSON")
}

/// Replaces an address by its network: `a.b.c.xxx`, and the first 48 bits of IPv6. What is no address is hidden whole, except
/// what is masked already. Null stays null.
pub(super) fn mask_ip(value: &mut Cow<'_, str>) {
    if value == "null" {
        return;
    }
    let text = said(value);
    let masked = match text.trim().parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(address)) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}.xxx")
        }
        Ok(IpAddr::V6(address)) => {
            let [a, b, c, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}::xxx")
        }
        Err(_) if is_masked(&text) => return,
        Err(_) => "xxx".to_owned(),
    };
    *value = Cow::Owned(json(&masked));
}

fn is_masked(text: &str) -> bool {
    let Some(network) = text.strip_suffix("xxx") else { return false };
    let padded = |rest: &str| format!("{network}{rest}").parse::<IpAddr>().is_ok();
    network.is_empty() || (network.ends_with('.') && padded("0")) || (network.ends_with("::") && padded(""))
}

/// From here on a number is milliseconds: as seconds it is the year 5138, as milliseconds March 1973.
const DIGITS_OF_MILLISECONDS: i64 = 12;

/// Replaces a time by ISO 8601 in UTC: `2023-09-12T00:45:51Z`. A time is Unix seconds or milliseconds, as a number or text, or a
/// date with or without time and zone; without a zone it is UTC. Null stays null.
///
/// # Errors
/// When the value is no time, or none between the years -9999 and 9999.
pub(super) fn date(value: &mut Cow<'_, str>) -> Result<(), ()> {
    if value == "null" {
        return Ok(());
    }
    let date = json(&time(value).ok_or(())?.to_string());
    if date != *value {
        *value = Cow::Owned(date);
    }
    Ok(())
}

/// Returns the time that a JSON value says, as [`date`] reads it.
pub(super) fn time(value: &str) -> Option<Timestamp> {
    let text = said(value);
    let text = text.trim();
    match Decimal::parse(text) {
        Some(number) => {
            let places = if number.whole_digits() >= DIGITS_OF_MILLISECONDS { 6 } else { 9 };
            number.scaled(places).and_then(|nanoseconds| Timestamp::from_nanosecond(nanoseconds).ok())
        }
        None => text.parse().ok().or_else(|| {
            let civil: DateTime = text.parse().ok()?;
            TimeZone::UTC.to_timestamp(civil).ok()
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn changed(value: &str, change: impl Fn(&mut Cow<'_, str>)) -> String {
        let mut value = Cow::Borrowed(value);
        change(&mut value);
        value.into_owned()
    }

    fn dated(value: &str) -> String {
        changed(value, |value| date(value).unwrap())
    }

    #[test]
    fn a_mask_is_the_hmac_of_what_the_value_says() {
        // RFC 4231, test case 2.
        let mask = Mask::new("Jefe");
        let hidden = changed(r#""what do ya want for nothing?""#, |value| mask.apply(value));
        assert_eq!(hidden, r#""5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843""#);
        let escaped = changed(r#""what do ya want for nothin\u0067?""#, |value| mask.apply(value));
        assert_eq!(escaped, hidden);
        assert_eq!(changed("7", |value| mask.apply(value)), changed("\"7\"", |value| mask.apply(value)));
        assert_eq!(changed("null", |value| mask.apply(value)), "null");
        assert_eq!(format!("{mask:?}"), "Mask(***)");
    }

    #[test]
    fn an_address_becomes_its_network() {
        for (address, masked) in [
            (r#""199.172.111.135""#, r#""199.172.111.xxx""#),
            (r#""2001:db8:85a3::8a2e:370:7334""#, r#""2001:db8:85a3::xxx""#),
            (r#""::ffff:10.1.2.3""#, r#""10.1.2.xxx""#),
            (r#"" 10.0.0.1 ""#, r#""10.0.0.xxx""#),
            (r#""10.0.0.1, 10.0.0.2""#, r#""xxx""#),
            (r#""localhost""#, r#""xxx""#),
            (r#""secret.xxx""#, r#""xxx""#),
            (r#"["10.0.0.1"]"#, r#""xxx""#),
            ("3232235777", r#""xxx""#),
            ("null", "null"),
        ] {
            assert_eq!(changed(address, mask_ip), masked, "{address}");
            assert_eq!(changed(masked, mask_ip), masked, "{masked} once more");
        }
    }

    #[test]
    fn a_time_becomes_iso_8601_however_it_is_written() {
        for (time, date) in [
            ("1694479551", "2023-09-12T00:45:51Z"),
            ("\"1694479551\"", "2023-09-12T00:45:51Z"),
            ("1694479551123", "2023-09-12T00:45:51.123Z"),
            ("\"1694479551000\"", "2023-09-12T00:45:51Z"),
            ("1694479551.25", "2023-09-12T00:45:51.25Z"),
            ("1.694479551e9", "2023-09-12T00:45:51Z"),
            ("0", "1970-01-01T00:00:00Z"),
            ("-1", "1969-12-31T23:59:59Z"),
            ("99999999999", "5138-11-16T09:46:39Z"),
            ("100000000000", "1973-03-03T09:46:40Z"),
            ("\"2023-09-12T02:45:51+02:00\"", "2023-09-12T00:45:51Z"),
            ("\"2023-09-12T00:45:51Z\"", "2023-09-12T00:45:51Z"),
            ("\"2023-09-12 00:45:51.5\"", "2023-09-12T00:45:51.5Z"),
            ("\"2023-09-12\"", "2023-09-12T00:00:00Z"),
        ] {
            assert_eq!(dated(time), format!("\"{date}\""), "{time}");
        }
        assert_eq!(dated("null"), "null");
    }

    #[test]
    fn what_is_no_time_is_not_taken_for_one() {
        for value in ["\"yesterday\"", "\"\"", "true", "{}", "1e30", "1e300", "\"2023-13-01\"", "\"12:30\""] {
            let mut text = Cow::Borrowed(value);
            assert_eq!(date(&mut text), Err(()), "{value}");
            assert_eq!(text, value);
        }
    }

    proptest! {
        #[test]
        fn a_date_stays_the_date_that_it_is(time in -300_000_000_000_i64..300_000_000_000_000) {
            if let Ok(()) = date(&mut Cow::Owned(time.to_string())) {
                let once = dated(&time.to_string());
                prop_assert_eq!(dated(&once), once);
            }
        }

        #[test]
        fn no_address_comes_through_unmasked(address in any::<[u8; 4]>()) {
            let address = IpAddr::from(address).to_string();
            prop_assert!(!changed(&json(&address), mask_ip).contains(&address));
        }
    }
}
