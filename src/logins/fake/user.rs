//! The users that log in.

use crate::logins::fake::random::Random;

/// Countries and their share of users, in thousandths.
const LOCALES: [(&str, u64); 32] = [
    ("US", 168),
    ("IN", 119),
    ("BR", 71),
    ("ID", 63),
    ("RU", 61),
    ("MX", 49),
    ("JP", 46),
    ("DE", 41),
    ("VN", 39),
    ("PH", 35),
    ("TR", 33),
    ("GB", 31),
    ("FR", 30),
    ("IT", 24),
    ("NG", 21),
    ("EG", 20),
    ("TH", 19),
    ("PL", 17),
    ("ES", 16),
    ("KR", 15),
    ("AR", 13),
    ("UA", 11),
    ("CO", 10),
    ("CA", 9),
    ("MY", 8),
    ("ZA", 7),
    ("NL", 6),
    ("AU", 6),
    ("SE", 4),
    ("PT", 3),
    ("GR", 3),
    ("NZ", 2),
];
/// Versions of the app and their share of users, in thousandths.
const APP_VERSIONS: [(&str, u64); 8] =
    [("2.3.0", 520), ("2.2.1", 190), ("2.2.0", 110), ("2.1.4", 80), ("2.1.0", 45), ("2.0.3", 30), ("1.9.2", 18), ("1.7.0", 7)];
/// Kinds of devices and their share of users, in thousandths.
const DEVICE_TYPES: [(&str, u64); 2] = [("android", 712), ("iOS", 288)];

/// A user with a device, a country and a home address.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_field_names)] // the names of the event
pub(super) struct User {
    pub(super) user_id: [u8; 36],
    pub(super) device_id: [u8; 11],
    pub(super) app_version: &'static str,
    pub(super) device_type: &'static str,
    pub(super) locale: &'static str,
    /// The home address.
    pub(super) ip: [u8; 4],
}

impl User {
    /// Returns user `number` of `seed`.
    pub(super) fn new(seed: u64, number: u64) -> Self {
        // Streams below 16 belong to the generator.
        let mut random = Random::new(seed, number.wrapping_add(16));
        Self {
            user_id: uuid(random.bits(), random.bits()),
            device_id: device_id(&mut random),
            app_version: weighted_choice(&APP_VERSIONS, &mut random),
            device_type: weighted_choice(&DEVICE_TYPES, &mut random),
            locale: weighted_choice(&LOCALES, &mut random),
            ip: public_address(&mut random),
        }
    }
}

fn weighted_choice(among: &[(&'static str, u64)], random: &mut Random) -> &'static str {
    let mut left = random.below(1000);
    for (name, share) in among {
        match left.checked_sub(*share) {
            Some(rest) => left = rest,
            None => return name,
        }
    }
    unreachable!("the shares are thousandths of a whole")
}

/// First octets that also stand for private, shared, loopback or link-local addresses.
const RESERVED: [u8; 6] = [10, 100, 127, 169, 172, 192];

/// Returns a public IPv4 address.
pub(super) fn public_address(random: &mut Random) -> [u8; 4] {
    let [_, b, c, d, ..] = random.bits().to_be_bytes();
    let mut a = u8::try_from(1 + random.below(223 - RESERVED.len() as u64)).expect("below 224");
    for reserved in RESERVED {
        if a >= reserved {
            a += 1;
        }
    }
    [a, b, c, d]
}

/// Returns a UUID of version 4 made of random bits.
fn uuid(high: u64, low: u64) -> [u8; 36] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&high.to_be_bytes());
    bytes[8..].copy_from_slice(&low.to_be_bytes());
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (i, byte) in bytes.into_iter().enumerate() {
        at += usize::from(matches!(i, 4 | 6 | 8 | 10));
        text[at..at + 2].copy_from_slice(&hex(byte));
        at += 2;
    }
    text
}

/// Returns nine digits as `593-47-5928`.
fn device_id(random: &mut Random) -> [u8; 11] {
    let mut digits = random.below(1_000_000_000);
    let mut text = [b'-'; 11];
    for at in [10, 9, 8, 7, 5, 4, 2, 1, 0] {
        text[at] = b'0' + u8::try_from(digits % 10).expect("a digit");
        digits /= 10;
    }
    text
}

/// Returns the two hex digits of a byte.
pub(super) fn hex(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_the_same_at_every_login_and_has_a_unique_id() {
        assert_eq!(User::new(7, 3), User::new(7, 3));
        let ids: std::collections::HashSet<_> = (0..10_000).map(|number| User::new(7, number).user_id).collect();
        assert_eq!(ids.len(), 10_000);
    }

    #[test]
    fn shares_are_thousandths_of_a_whole() {
        for shares in [&LOCALES[..], &APP_VERSIONS, &DEVICE_TYPES] {
            assert_eq!(shares.iter().map(|(_, share)| share).sum::<u64>(), 1000);
        }
    }

    #[test]
    fn devices_are_as_common_as_their_share() {
        let android = (0..10_000).filter(|number| User::new(1, *number).device_type == "android").count();
        assert!((6900..7350).contains(&android), "{android}");
    }

    #[test]
    fn addresses_are_public() {
        let mut random = Random::new(1, 1);
        for _ in 0..10_000 {
            let ip = std::net::Ipv4Addr::from(public_address(&mut random));
            assert!(
                !ip.is_private() && !ip.is_loopback() && !ip.is_link_local() && !ip.is_multicast() && ip.octets()[0] > 0,
                "{ip}"
            );
        }
    }

    #[test]
    fn ids_have_the_format_of_a_uuid_and_of_a_device() {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        assert_eq!(text(&uuid(0, u64::MAX)), "00000000-0000-4000-bfff-ffffffffffff");
        assert_eq!(text(&uuid(0x0123_4567_89ab_cdef, 0)), "01234567-89ab-4def-8000-000000000000");
        let id = text(&device_id(&mut Random::new(1, 2)));
        let shape: String = id.chars().map(|c| if c.is_ascii_digit() { 'd' } else { c }).collect();
        assert_eq!(shape, "ddd-dd-dddd");
    }
}
