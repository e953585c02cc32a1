//! OAUTHBEARER (RFC 7628).

use std::future::Future;
use std::pin::Pin;

use crate::connectors::kafka::wire::error::WireError;
use crate::profile::Secret;

/// A token, or the reason why there is none.
pub type TokenFuture<'a> = Pin<Box<dyn Future<Output = Result<BearerToken, String>> + Send + 'a>>;

/// Gives a token for each login.
pub trait BearerTokenSource: Send + Sync {
    /// Returns a token that is valid now.
    fn token(&self) -> TokenFuture<'_>;
}

/// A token with the extensions that some brokers want.
#[derive(Clone, Debug)]
pub struct BearerToken {
    /// The token.
    pub value: Secret,
    /// Names and values.
    pub extensions: Vec<(String, String)>,
}

/// Returns the message with the token.
pub(super) fn first_message(token: &BearerToken) -> Result<Vec<u8>, WireError> {
    let is_visible = |text: &str| text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if token.value.reveal().is_empty() || !is_visible(token.value.reveal()) {
        return Err(WireError::Credentials("the token of the login is empty or has characters that no token has".to_owned()));
    }
    let mut message = format!("n,,\x01auth=Bearer {}\x01", token.value.reveal());
    for (name, value) in &token.extensions {
        let is_name = !name.is_empty() && name != "auth" && name.bytes().all(|byte| byte.is_ascii_alphabetic());
        if !is_name || !value.bytes().all(|byte| (0x20..0x7f).contains(&byte) || b"\t\r\n".contains(&byte)) {
            return Err(WireError::Credentials(format!("`{name}` cannot be an extension of a token")));
        }
        message.extend([name, "=", value, "\x01"]);
    }
    message.push('\x01');
    Ok(message.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_holds_token_and_extensions_and_nothing_that_ends_a_field() {
        let token = |value: &str, extensions: &[(&str, &str)]| BearerToken {
            value: Secret::new(value.to_owned()),
            extensions: extensions.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        };
        assert_eq!(first_message(&token("abc.d", &[])).unwrap(), b"n,,\x01auth=Bearer abc.d\x01\x01");
        let message = first_message(&token("t", &[("logicalCluster", "lkc-1")])).unwrap();
        assert_eq!(message, b"n,,\x01auth=Bearer t\x01logicalCluster=lkc-1\x01\x01");
        for refused in [token("", &[]), token("a\x01b", &[]), token("a", &[("auth", "x")]), token("a", &[("b", "x\x01y")])] {
            let error = first_message(&refused).unwrap_err().to_string();
            assert!(!error.contains('\x01'), "{error:?}");
        }
    }
}
