//! The token endpoint of an OpenID provider: client credentials, as RFC 6749 has them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::Method;
use serde_json::Value;

use crate::connectors::access_error::AccessError;
use crate::connectors::connect_error::without_secrets;
use crate::connectors::http_client::{HttpAnswer, HttpCall, HttpClient, form, percent_encoded};
use crate::connectors::kafka::access::jwt::{AccessToken, is_token};
use crate::profile::TokenEndpoint;

/// The most of an error's description that is quoted, in characters.
const MAX_DESCRIPTION: usize = 200;
const NOUN: &str = "token endpoint";

/// Returns the client for the endpoint.
///
/// # Errors
/// When the CA's file cannot be used.
pub(super) fn client(endpoint: &TokenEndpoint) -> Result<HttpClient, AccessError> {
    let wrong = |text: String| AccessError::lasting(text, "correct `oauth_ca_location` under []");
    let Some(path) = &endpoint.ca_location else {
        return HttpClient::new(None).ok_or_else(|| AccessError::lasting("the HTTP client cannot be created", ""));
    };
    let pem = std::fs::read(path).map_err(|error| {
        wrong(format!("cannot read the file `{path}` of `oauth_ca_location`: {}", crate::profile::reason(&error)))
    })?;
    HttpClient::new(Some(&pem)).ok_or_else(|| wrong("the file of `oauth_ca_location` is not a PEM certificate".to_owned()))
}

/// Asks the endpoint for a token.
///
/// # Errors
/// When it does not answer, or answers without a token.
pub(super) async fn fetch(
    client: &HttpClient,
    endpoint: &TokenEndpoint,
    now: i64,
    deadline: Duration,
) -> Result<AccessToken, AccessError> {
    let (id, secret) = (&*endpoint.client_id, endpoint.client_secret.reveal());
    let answer = ask(client, endpoint, (id, secret), deadline).await?;
    let answer = match (percent_encoded(id), percent_encoded(secret)) {
        // The standard wants them encoded; most clients, and with them many servers, do not.
        (encoded_id, encoded_secret) if answer.status == 401 && (encoded_id != id || encoded_secret != secret) => {
            ask(client, endpoint, (&encoded_id, &encoded_secret), deadline).await?
        }
        _ => answer,
    };
    parse(endpoint, &answer, now)
}

async fn ask(
    client: &HttpClient,
    endpoint: &TokenEndpoint,
    (id, secret): (&str, &str),
    deadline: Duration,
) -> Result<HttpAnswer, AccessError> {
    let login = format!("Basic {}", BASE64.encode(format!("{id}:{secret}")));
    let headers = [
        ("authorization", login.as_str()),
        ("content-type", "application/x-www-form-urlencoded"),
        ("accept", "application/json"),
    ];
    let mut fields = vec![("grant_type", "client_credentials")];
    fields.extend(endpoint.scope.as_deref().map(|scope| ("scope", scope)));
    let call = HttpCall { method: Method::POST, url: &endpoint.url, headers: &headers, body: form(&fields), deadline };
    let hint = || "correct `oauth_token_url` or `oauth_ca_location` under [], or see whether the token endpoint is up";
    client.call(call).await.map_err(|cause| AccessError::of_cause(NOUN, &endpoint.url, &cause, hint()))
}

/// Reads the answer. Pure.
fn parse(endpoint: &TokenEndpoint, answer: &HttpAnswer, now: i64) -> Result<AccessToken, AccessError> {
    let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if (200..300).contains(&answer.status) {
        let token = document["access_token"].as_str().filter(|token| is_token(token)).ok_or_else(|| {
            let text = format!("{} answers without an access token", endpoint.url);
            AccessError::lasting(text, "correct `oauth_token_url` under []")
        })?;
        // The clock of the endpoint may be another than that of this machine; a life is the same on both.
        let life = &document["expires_in"];
        let life = life.as_i64().or_else(|| life.as_str()?.parse().ok()).filter(|seconds| *seconds > 0);
        return Ok(AccessToken::new(token.to_owned(), life.map(|seconds| now.saturating_add(seconds.saturating_mul(1000))), now));
    }
    let (id, code) = (&endpoint.client_id, document["error"].as_str().unwrap_or_default());
    let described = document["error_description"].as_str().map_or_else(String::new, |text| {
        let text: String = without_secrets(text, [&endpoint.client_secret]).chars().take(MAX_DESCRIPTION).collect();
        format!(" ({text})")
    });
    Err(match (answer.status, code) {
        (_, "invalid_client" | "unauthorized_client") | (401 | 403, "") => AccessError::lasting(
            format!("the token endpoint does not accept client `{id}`{described}"),
            "correct `oauth_client_id` or `oauth_client_secret` under []",
        ),
        (_, "invalid_scope") => AccessError::lasting(
            format!("the token endpoint does not accept the scope of client `{id}`{described}"),
            "correct `oauth_scope` under []",
        ),
        (status @ (429 | 500..), _) => AccessError::passing(
            format!("{} answers with status {status}{described}", endpoint.url),
            "see the log of the token endpoint",
        ),
        (status, code) => {
            let code = without_secrets(code, [&endpoint.client_secret]);
            let code: String = code.chars().take(MAX_DESCRIPTION).collect();
            let named = if code.is_empty() { String::new() } else { format!(", `{code}`") };
            AccessError::lasting(
                format!("{} answers with status {status}{named}{described}", endpoint.url),
                "correct `oauth_token_url` under []",
            )
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Secret;

    fn parsed(status: u16, body: &str) -> Result<AccessToken, AccessError> {
        let endpoint = TokenEndpoint {
            url: "https://idp/token".to_owned(),
            client_id: "x".to_owned(),
            client_secret: Secret::new("canary".to_owned()),
            scope: None,
            ca_location: None,
        };
        parse(&endpoint, &HttpAnswer { status, body: body.as_bytes().to_vec() }, 1_000)
    }

    #[test]
    fn an_answer_has_the_token_and_its_life() {
        for life in ["60", "\"60\""] {
            let token = parsed(200, &format!(r#"{{"access_token":"a.b.c","expires_in":{life}}}"#)).unwrap();
            assert_eq!((token.value.reveal(), token.expires_at), ("a.b.c", 61_000));
        }
        for body in ["", "<html>", "{}", r#"{"access_token":""}"#, r#"{"access_token":"a b"}"#] {
            assert_eq!(parsed(200, body).unwrap_err().text, "https://idp/token answers without an access token", "{body}");
        }
    }

    #[test]
    fn a_refusal_names_what_is_refused_and_no_secret() {
        for (status, body, text, is_lasting) in [
            (401, "", "the token endpoint does not accept client `x`", true),
            (
                400,
                r#"{"error":"invalid_client","error_description":"no canary"}"#,
                "the token endpoint does not accept client `x` (no ***)",
                true,
            ),
            (400, r#"{"error":"invalid_scope"}"#, "the token endpoint does not accept the scope of client `x`", true),
            (404, "", "https://idp/token answers with status 404", true),
            (302, "", "https://idp/token answers with status 302", true),
            (400, r#"{"error":"canary"}"#, "https://idp/token answers with status 400, `***`", true),
            (503, "", "https://idp/token answers with status 503", false),
            (429, "", "https://idp/token answers with status 429", false),
        ] {
            let error = parsed(status, body).unwrap_err();
            assert_eq!((error.text.as_str(), error.is_lasting), (text, is_lasting));
        }
    }
}
