//! The tokens of Amazon MSK: a request that AWS credentials sign. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64_URL;

use crate::connectors::aws::{AwsCredentials, AwsSigner, UnsignedRequest};
use crate::connectors::kafka::access::jwt::AccessToken;
use crate::profile::Secret;

/// The life of a token, in seconds, as AWS's own signers have it.
const LIFE: u32 = 900;
const USER_AGENT: &str = concat!("sdl%2F", env!("CARGO_PKG_VERSION"));

/// Returns the token of these credentials at a time in milliseconds since the Unix epoch.
pub(super) fn token(credentials: &AwsCredentials, region: &str, now: i64) -> AccessToken {
    let url = signed_url(credentials, region, now / 1000, USER_AGENT);
    let expires_at = (now / 1000 + i64::from(LIFE)) * 1000;
    AccessToken {
        value: Secret::new(BASE64_URL.encode(url)),
        expires_at: credentials.expires_at.map_or(expires_at, |at| at.min(expires_at)),
        principal: credentials.access_key_id.clone(),
    }
}

fn signed_url(credentials: &AwsCredentials, region: &str, time: i64, user_agent: &str) -> String {
    let signer = AwsSigner { credentials, region, service: "kafka-cluster", time };
    let host = format!("kafka.{region}.amazonaws.com");
    let query = [("Action", "kafka-cluster:Connect")];
    let request = UnsignedRequest { method: "GET", host: &host, path: "/", query: &query };
    format!("{}&User-Agent={user_agent}", signer.presigned_url(request, LIFE))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected URLs are those of aws-msk-iam-sasl-signer-python 1.0.2, with the same clock and credentials.
    #[test]
    fn a_token_is_that_of_aws_own_signer() {
        const BEFORE: &str = "https://kafka.eu-central-1.amazonaws.com/?Action=kafka-cluster%3AConnect&X-Amz-Algorithm=AWS4-HMAC-SHA256\
                              &X-Amz-Credential=AKIDEXAMPLE%2F20260102%2Feu-central-1%2Fkafka-cluster%2Faws4_request\
                              &X-Amz-Date=20260102T030405Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host";
        const AFTER: &str = "&User-Agent=aws-msk-iam-sasl-signer-python%2F1.0.2";
        for (token, between) in [
            (None, "&X-Amz-Signature=00629abe90095b91c1a9e460b67a01a8e4e7499b99f571276b99dd9258dd65e5"),
            (
                Some("FwoGZXIvYXdzEXAMPLE//////////wEaD+token=="),
                "&X-Amz-Security-Token=FwoGZXIvYXdzEXAMPLE%2F%2F%2F%2F%2F%2F%2F%2F%2F%2FwEaD%2Btoken%3D%3D\
                 &X-Amz-Signature=fffc430da27936c2890e4118df68a36bdd1b2c2e25b368149cf85f0a595f6ea6",
            ),
        ] {
            let credentials = AwsCredentials {
                access_key_id: "AKIDEXAMPLE".to_owned(),
                secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned()),
                session_token: token.map(|token| Secret::new(token.to_owned())),
                expires_at: None,
            };
            let (region, time) = ("eu-central-1", 1_767_323_045);
            let url = signed_url(&credentials, region, time, "aws-msk-iam-sasl-signer-python%2F1.0.2");
            assert_eq!(url, format!("{BEFORE}{between}{AFTER}"));
            let token = super::token(&credentials, region, time * 1000 + 999);
            assert_eq!((token.expires_at, token.principal.as_str()), (1_767_323_945_000, "AKIDEXAMPLE"));
            let decoded = BASE64_URL.decode(token.value.reveal()).unwrap();
            assert!(String::from_utf8(decoded).unwrap().starts_with(&format!("{BEFORE}{between}&User-Agent=sdl%2F")));
        }
    }
}
