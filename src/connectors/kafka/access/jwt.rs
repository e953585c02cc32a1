//! The claims of a JSON web token, unverified: the brokers verify it. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64_URL;
use serde_json::Value;

use crate::profile::Secret;

/// How long a token without any statement of its expiry is used before the next is asked for, in milliseconds.
const ASSUMED_LIFE: i64 = 5 * 60 * 1000;

/// A token of a section.
#[derive(Clone, Debug)]
pub(super) struct AccessToken {
    pub(super) value: Secret,
    /// In milliseconds since the Unix epoch.
    pub(super) expires_at: i64,
    /// Whom it is for.
    pub(super) principal: String,
}

impl AccessToken {
    /// Returns the token with the expiry of its claims, unless `expires_at` says it.
    pub(super) fn new(value: String, expires_at: Option<i64>, now: i64) -> Self {
        let claims = claims(&value);
        let claimed = || Some(milliseconds(claims.as_ref()?.get("exp")?)).flatten();
        let expires_at = expires_at.or_else(claimed).unwrap_or(now + ASSUMED_LIFE);
        let subject = claims.as_ref().and_then(|claims| claims.get("sub")?.as_str());
        let principal = subject.filter(|subject| !subject.is_empty()).unwrap_or("sdl").to_owned();
        Self { value: Secret::new(value), expires_at, principal }
    }
}

/// Returns whether `text` can be a token: one word of visible characters.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn claims(token: &str) -> Option<Value> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&BASE64_URL.decode(payload.trim_end_matches('=')).ok()?).ok()
}

/// Returns a number of seconds, perhaps with a fraction, in milliseconds.
#[allow(clippy::cast_possible_truncation, reason = "a float is cut off at the bounds of the integer")]
fn milliseconds(seconds: &Value) -> Option<i64> {
    seconds.as_f64().map(|seconds| (seconds * 1000.0) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> AccessToken {
        AccessToken::new(format!("e30.{}.", BASE64_URL.encode(claims)), None, 1_000)
    }

    #[test]
    fn expiry_and_principal_are_those_of_the_claims() {
        let whole = token(r#"{"sub":"loader","exp":1767323045}"#);
        assert_eq!((whole.principal.as_str(), whole.expires_at), ("loader", 1_767_323_045_000));
        assert_eq!(token(r#"{"exp":1767323045.5}"#).expires_at, 1_767_323_045_500);
        let told = AccessToken::new("e30.e30.".to_owned(), Some(7), 0);
        assert_eq!((told.principal.as_str(), told.expires_at), ("sdl", 7));
    }

    #[test]
    fn an_opaque_token_is_used_for_a_few_minutes() {
        for text in ["ya29.a0Af", "opaque", "a.!.c", "e30.e30.x"] {
            assert_eq!(AccessToken::new(text.to_owned(), None, 1_000).expires_at, 1_000 + ASSUMED_LIFE, "{text}");
        }
    }

    #[test]
    fn a_token_is_one_word() {
        assert!(is_token("a.b-_~+/=") && !is_token("") && !is_token("a b") && !is_token("a\nb") && !is_token("ä"));
        assert!(!format!("{:?}", token("{}")).contains("e30"));
    }
}
