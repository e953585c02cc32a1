//! CRC32C, and what a change of the header does to it.

/// The polynomial of CRC32C, reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// x to the power of 2^k modulo the polynomial, for each k.
const POWERS: [u32; 64] = {
    let mut powers = [0; 64];
    powers[0] = 1 << 30;
    let mut k = 1;
    while k < powers.len() {
        powers[k] = multiply(powers[k - 1], powers[k - 1]);
        k += 1;
    }
    powers
};

/// Returns the checksum of a batch whose first bytes change from `old` to `new`, both of one length, before `tail` bytes that stay.
///
/// CRCs are linear: the change travels through the bytes that stay as a multiplication with x^(8 * tail). This takes well below a
/// microsecond for any length, where a second pass over the bytes takes longer than that for a batch of some 10 kB.
pub(super) fn replaced(checksum: u32, old: &[u8], new: &[u8], tail: usize) -> u32 {
    debug_assert_eq!(old.len(), new.len());
    let change = crc32c::crc32c(old) ^ crc32c::crc32c(new);
    checksum ^ shift(change, tail)
}

/// Multiplies with x^(8 * bytes).
fn shift(checksum: u32, bytes: usize) -> u32 {
    let (mut shifted, mut exponent, mut k) = (checksum, bytes, 3);
    while exponent > 0 {
        if exponent & 1 == 1 {
            shifted = multiply(POWERS[k], shifted);
        }
        exponent >>= 1;
        k += 1;
        if k == POWERS.len() {
            break;
        }
    }
    shifted
}

/// Multiplies two polynomials modulo the polynomial of CRC32C. The highest bit is the coefficient of x^0.
const fn multiply(a: u32, b: u32) -> u32 {
    let (mut product, mut b, mut bit) = (0, b, 32);
    while bit > 0 {
        bit -= 1;
        if a >> bit & 1 == 1 {
            product ^= b;
        }
        b = if b & 1 == 1 { b >> 1 ^ POLYNOMIAL } else { b >> 1 };
    }
    product
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_checksum_is_castagnoli_s() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    }

    proptest! {
        #[test]
        fn a_replaced_head_gives_the_checksum_of_the_new_bytes(
            old in any::<[u8; 40]>(), new in any::<[u8; 40]>(), tail in proptest::collection::vec(any::<u8>(), 0..5000),
        ) {
            let before = crc32c::crc32c_append(crc32c::crc32c(&old), &tail);
            let after = crc32c::crc32c_append(crc32c::crc32c(&new), &tail);
            prop_assert_eq!(replaced(before, &old, &new, tail.len()), after);
        }
    }

    #[test]
    fn a_long_tail_is_no_exception() {
        let tail = vec![7; 3_000_001];
        let sum = |head: &[u8]| crc32c::crc32c_append(crc32c::crc32c(head), &tail);
        assert_eq!(replaced(sum(b"abcd"), b"abcd", b"\0\xff.,", tail.len()), sum(b"\0\xff.,"));
    }
}
