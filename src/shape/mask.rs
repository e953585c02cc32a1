//! Hides values: `mask` and `mask_ip`.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hmac::{Hmac, KeyInit as _, Mac as _};
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

/// Replaces an address by its network: `a.b.c.xxx` for IPv4, also inside IPv6 (mapped, 6to4, NAT64), and the first 48 bits of any
/// other IPv6 address. A value that is not an address becomes `xxx`, unless it is masked already; null stays null.
pub(super) fn mask_ip(value: &mut Cow<'_, str>) {
    if value == "null" {
        return;
    }
    let text = plain_text(value);
    let masked = match text.trim().parse::<IpAddr>() {
        Ok(address) => network(address),
        Err(_) if is_masked(&text) => return,
        Err(_) => "xxx".to_owned(),
    };
    *value = Cow::Owned(json_string(&masked));
}

fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}.xxx")
        }
        IpAddr::V6(address) => match (embedded_ipv4(address), address.segments()) {
            (Some(address), _) => network(address.into()),
            (None, [a, b, c, ..]) => format!("{a:x}:{b:x}:{c:x}::xxx"),
        },
    }
}

/// Returns the IPv4 address in an address of 6to4 (2002::/16) or NAT64 (64:ff9b::/96); in the first it lies within the /48.
fn embedded_ipv4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let pair = |high: u16, low: u16| Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match address.segments() {
        [0x2002, high, low, ..] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => pair(high, low),
        _ => None,
    }
}

/// Returns whether `text` is exactly what [`network`] returns.
fn is_masked(text: &str) -> bool {
    let Some(prefix) = text.strip_suffix("xxx") else { return false };
    let host = if prefix.ends_with('.') { "0" } else { "" };
    prefix.is_empty() || format!("{prefix}{host}").parse().is_ok_and(|address| network(address) == text)
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
    fn a_mask_is_the_hmac_of_the_value() {
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
            (r#""2001:0DB8:85A3:0000:0000:8A2E:0370:7334""#, r#""2001:db8:85a3::xxx""#),
            (r#""::ffff:10.1.2.3""#, r#""10.1.2.xxx""#),
            (r#""::ffff:a01:203""#, r#""10.1.2.xxx""#),
            (r#""2002:c0a8:0109::1""#, r#""192.168.1.xxx""#),
            (r#""64:ff9b::203.0.113.7""#, r#""203.0.113.xxx""#),
            (r#""64:ff9b:1:2:3::203.0.113.7""#, r#""64:ff9b:1::xxx""#),
            (r#""::10.1.2.3""#, r#""0:0:0::xxx""#),
            (r#""2001:0:4136:e378:8000:63bf:3fff:fdd2""#, r#""2001:0:4136::xxx""#),
            (r#""fe80::1%eth0""#, r#""xxx""#),
            (r#""10.0.0.1:443""#, r#""xxx""#),
            (r#""[2001:db8::1]:443""#, r#""xxx""#),
            (r#""2002:c0a8:109::xxx""#, r#""xxx""#),
            (r#""1:2:3:4:5:6::xxx""#, r#""xxx""#),
            (r#""::ffff:10.1.2.xxx""#, r#""xxx""#),
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
        fn no_address_passes_unmasked(v4 in any::<[u8; 4]>(), v6 in any::<[u16; 8]>()) {
            for address in [IpAddr::from(v4), IpAddr::from(v6)] {
                let masked = changed(&json_string(&address.to_string()), mask_ip);
                prop_assert!(!masked.contains(&address.to_string()));
                prop_assert_eq!(changed(&masked, mask_ip), masked);
            }
        }

        #[test]
        fn a_masked_address_hides_the_last_bits(v4 in any::<[u8; 4]>(), v6 in any::<[u16; 8]>(), other in any::<[u16; 8]>()) {
            let mask = |address: IpAddr| changed(&json_string(&address.to_string()), mask_ip);
            let [a, b, c, d] = v4;
            prop_assert_eq!(mask([a, b, c, d].into()), mask([a, b, c, d.wrapping_add(1)].into()));
            let words = |c: u8, d: u8| (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let ((high, low), (_, next)) = (words(c, d), words(c, d.wrapping_add(1)));
            for (one, two) in [
                ([0, 0, 0, 0, 0, 0xffff, high, low], [0, 0, 0, 0, 0, 0xffff, high, next]),
                ([0x2002, high, low, 0, 0, 0, 0, 1], [0x2002, high, next, 0, 0, 0, 0, 1]),
                ([0x64, 0xff9b, 0, 0, 0, 0, high, low], [0x64, 0xff9b, 0, 0, 0, 0, high, next]),
            ] {
                prop_assert_eq!(mask(one.into()), mask(two.into()));
            }
            if v6[0] > 0x2002 {
                let sibling = [v6[0], v6[1], v6[2], other[3], other[4], other[5], other[6], other[7]];
                prop_assert_eq!(mask(v6.into()), mask(sibling.into()));
            }
        }
    }
}
