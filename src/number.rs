//! Numbers for people.

/// Returns a number with separators: `1,234,567`.
#[must_use]
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a number with its noun: `1 record`, `2,000 records`.
#[must_use]
pub(crate) fn counted(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{} {noun}s", grouped(number)) }
}

/// Returns the same with its verb: `1 record was`, `2,000 records were`.
#[must_use]
pub(crate) fn were(number: u64, noun: &str) -> String {
    format!("{} {}", counted(number, noun), if number == 1 { "was" } else { "were" })
}

/// Returns the subject and verb of a warning that none of several records matches: `none of 2,000 records has`,
/// `the only record does not have`.
#[must_use]
pub(crate) fn none_of(number: u64, noun: &str, verb: &str, negated: &str) -> String {
    if number == 1 { format!("the only {noun} {negated}") } else { format!("none of {} {noun}s {verb}", grouped(number)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_record_has_is_said_of_one_and_of_many() {
        let texts = [1, 2, 100_000].map(|number| none_of(number, "event", "has", "does not have"));
        assert_eq!(texts, ["the only event does not have", "none of 2 events has", "none of 100,000 events has"]);
    }

    #[test]
    fn a_count_of_one_is_singular() {
        assert_eq!([0, 1, 2000].map(|number| counted(number, "record")), ["0 records", "1 record", "2,000 records"]);
        assert_eq!([1, 2].map(|number| were(number, "record")), ["1 record was", "2 records were"]);
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
