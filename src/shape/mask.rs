//! Hides values: `mask` and `mask_ip`.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::shape::document::{json_string, plain_text};

/// The keyed hash that hides a value. HMAC-SHA-256: without the key, guesses cannot be checked.
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

    /// Hides `value`. The string "7" and the number 7 have the same hash; null stays null.
    pub(super) fn apply(&self, value: &mut Cow<'_, str>) {
        if value == "null" {
            return;
        }
        let mut mac = self.0.clone();
        mac.update(plain_text(value).as_bytes());
        let mut hidden = String::with_capacity(66);
        hidden.push('"');
        for byte in mac.finalize().into_bytes() {
            let _ = write!(hidden, "{byte:02x}");
        }
        hidden.push('"');
        *value = Cow::Owned(hidden);
    }
}

/// Replaces an address by its network: `a.b.c.xxx`, or the first 48 bits of IPv6. A value that is not an address becomes `xxx`,
/// unless it is masked already; null stays null.
pub(super) fn mask_ip(value: &mut Cow<'_, str>) {
    if value == "null" {
        return;
    }
    let text = plain_text(value);
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
    *value = Cow::Owned(json_string(&masked));
}

fn is_masked(text: &str) -> bool {
    let Some(network) = text.strip_suffix("xxx") else { return false };
    let padded = |rest: &str| format!("{network}{rest}").parse::<IpAddr>().is_ok();
    network.is_empty() || (network.ends_with('.') && padded("0")) || (network.ends_with("::") && padded(""))
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

    proptest! {
        #[test]
        fn no_address_comes_through_unmasked(address in any::<[u8; 4]>()) {
            let address = IpAddr::from(address).to_string();
            prop_assert!(!changed(&json_string(&address), mask_ip).contains(&address));
        }
    }
}
