//! JSON numbers of any size, compared without rounding.

use std::cmp::Ordering;

/// A number: `0.DIGITS * 10^point`, where the digits neither begin nor end with 0; none of them is zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    negative: bool,
    digits: Vec<u8>,
    point: i64,
}

impl Decimal {
    /// Parses a number in JSON's grammar.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (mantissa, ""),
        };
        let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let leading_zero = whole.len() > 1 && whole.starts_with('0');
        if whole.is_empty() || leading_zero || !are_digits(whole) || !are_digits(fraction) {
            return None;
        }
        let exponent_digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        if exponent_digits.is_empty() || !are_digits(exponent_digits) {
            return None;
        }
        let far = if exponent.starts_with('-') { i64::MIN / 2 } else { i64::MAX / 2 };
        let exponent: i64 = exponent.parse().unwrap_or(far).clamp(i64::MIN / 2, i64::MAX / 2);

        let all = || whole.bytes().chain(fraction.bytes());
        let zeros = all().take_while(|digit| *digit == b'0').count();
        let mut digits: Vec<u8> = all().skip(zeros).collect();
        while digits.last() == Some(&b'0') {
            digits.pop();
        }
        if digits.is_empty() {
            return Some(Self { negative: false, digits, point: 0 });
        }
        let length = |count: usize| i64::try_from(count).expect("a text's length");
        Some(Self { negative, digits, point: length(whole.len()) - length(zeros) + exponent })
    }

    /// Returns the number times `10^places`, truncated; `None` beyond 10^30.
    pub(super) fn scaled(&self, places: i64) -> Option<i128> {
        let length = usize::try_from((self.point + places).max(0)).ok().filter(|length| *length <= 30)?;
        let digits = self.digits.iter().copied().chain(std::iter::repeat(b'0')).take(length);
        let value = digits.fold(0, |value: i128, digit| value * 10 + i128::from(digit - b'0'));
        Some(if self.negative { -value } else { value })
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let sign = |number: &Self| match (number.digits.is_empty(), number.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        };
        let size = || (self.point, &self.digits).cmp(&(other.point, &other.digits));
        sign(self).cmp(&sign(other)).then_with(|| if self.negative { size().reverse() } else { size() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(text: &str) -> Decimal {
        Decimal::parse(text).unwrap_or_else(|| panic!("`{text}` is a number"))
    }

    #[test]
    fn notations_of_one_number_are_equal() {
        for (one, other) in [("1", "1.0"), ("100", "1e2"), ("0.05", "5E-2"), ("-0", "0"), ("0e5", "0.00"), ("1200", "1.2e+3")] {
            assert_eq!(number(one), number(other));
        }
    }

    #[test]
    fn numbers_that_round_to_one_float_stay_distinct() {
        assert!(number("12345678901234567890") < number("12345678901234567891"));
        assert!(number("1e400") < number("1e401"));
        assert!(number("-1e400") < number("1e-400"));
        assert!(number("1e99999999999999999999") > number("1e9"));
    }

    #[test]
    fn only_json_numbers_parse() {
        for text in ["", "-", "+1", "01", "1.", ".5", "1e", "1e+", "0x1", "1_000", "NaN", "1 ", "١"] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
    }

    #[test]
    fn scaling_truncates_the_fraction() {
        assert_eq!(number("1.23456").scaled(3), Some(1234));
        assert_eq!(number("-1.5").scaled(0), Some(-1));
        assert_eq!(number("0.0001").scaled(2), Some(0));
        assert_eq!(number("5").scaled(2), Some(500));
        assert_eq!(number("1e60").scaled(0), None);
    }

    proptest! {
        #[test]
        fn integers_compare_by_value(one in any::<i64>(), other in any::<i64>()) {
            prop_assert_eq!(number(&one.to_string()).cmp(&number(&other.to_string())), one.cmp(&other));
            prop_assert_eq!(number(&one.to_string()).scaled(0), Some(i128::from(one)));
        }

        #[test]
        fn fractions_compare_by_value(one in -1e6..1e6, other in -1e6..1e6) {
            let (one, other): (f64, f64) = (one, other);
            prop_assert_eq!(number(&one.to_string()).cmp(&number(&other.to_string())), one.total_cmp(&other));
        }
    }
}
