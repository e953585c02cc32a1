//! Rates as they are typed.

use crate::pipeline::Rate;

/// Returns the rate that `text` says: records a second (`5000`, `0.5`) or bytes a second (`500KB`, `5MB`, `1.5GB`).
///
/// # Errors
/// When it says none.
pub(super) fn rate(text: &str) -> Result<Rate, String> {
    let wrong = || format!("`{text}` is no rate: write records a second, as 5000, or bytes, as 5MB");
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let per_second: f64 = number.trim().parse().map_err(|_| wrong())?;
    if !per_second.is_finite() || per_second <= 0.0 {
        return Err(wrong());
    }
    match text[number.len()..].to_ascii_uppercase().as_str() {
        "" => Ok(Rate::Records(per_second)),
        "B" => Ok(Rate::Bytes(per_second)),
        "KB" => Ok(Rate::Bytes(per_second * 1e3)),
        "MB" => Ok(Rate::Bytes(per_second * 1e6)),
        "GB" => Ok(Rate::Bytes(per_second * 1e9)),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_records_or_bytes() {
        assert_eq!(rate("5000"), Ok(Rate::Records(5000.0)));
        assert_eq!(rate("0.5"), Ok(Rate::Records(0.5)));
        assert_eq!(rate("5MB"), Ok(Rate::Bytes(5e6)));
        assert_eq!(rate("1.5 kb"), Ok(Rate::Bytes(1500.0)));
        for text in ["", "0", "-1", "NaN", "inf", "fast", "5MiB", "MB"] {
            assert_eq!(rate(text), Err(format!("`{text}` is no rate: write records a second, as 5000, or bytes, as 5MB")));
        }
    }
}
