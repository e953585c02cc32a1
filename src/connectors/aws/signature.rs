//! AWS Signature Version 4, as a presigned URL and as headers. Pure: the time is an argument.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::connectors::http_client::percent_encoded;
use crate::profile::Secret;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// An access key of AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AwsCredentials {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: Secret,
    /// Of temporary credentials.
    pub(crate) session_token: Option<Secret>,
    /// When they expire, in milliseconds since the Unix epoch.
    pub(crate) expires_at: Option<i64>,
}

/// Signs requests to one service of one region, at one time.
#[derive(Debug)]
pub(crate) struct AwsSigner<'a> {
    pub(crate) credentials: &'a AwsCredentials,
    pub(crate) region: &'a str,
    pub(crate) service: &'a str,
    /// In seconds since the Unix epoch.
    pub(crate) time: i64,
}

/// A request to sign.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnsignedRequest<'a> {
    pub(crate) method: &'a str,
    /// With the port, unless it is the scheme's own.
    pub(crate) host: &'a str,
    /// As it is sent: percent-encoded.
    pub(crate) path: &'a str,
    pub(crate) query: &'a [(&'a str, &'a str)],
}

impl AwsSigner<'_> {
    /// Returns the URL of `request` with a signature that is valid for `seconds`.
    pub(crate) fn presigned_url(&self, request: UnsignedRequest<'_>, seconds: u32) -> String {
        let (time, seconds) = (self.timestamp(), seconds.to_string());
        let credential = format!("{}/{}", self.credentials.access_key_id, self.scope());
        let mut query = request.query.to_vec();
        query.extend([
            ("X-Amz-Algorithm", ALGORITHM),
            ("X-Amz-Credential", &credential),
            ("X-Amz-Date", &time),
            ("X-Amz-Expires", &seconds),
            ("X-Amz-SignedHeaders", "host"),
        ]);
        if let Some(token) = &self.credentials.session_token {
            query.push(("X-Amz-Security-Token", token.reveal()));
        }
        let headers = [("host", request.host.to_owned())];
        let signed = UnsignedRequest { query: &query, ..request };
        let signature = self.signature(signed, &headers, &sha256_hex(b""));
        let UnsignedRequest { host, path, .. } = request;
        format!("https://{host}{path}?{}&X-Amz-Signature={signature}", encoded_pairs(&query).join("&"))
    }

    /// Returns the headers that sign `request` with its body.
    pub(crate) fn headers(&self, request: UnsignedRequest<'_>, body: &[u8]) -> Vec<(&'static str, Secret)> {
        let (time, digest) = (self.timestamp(), sha256_hex(body));
        let mut signed = vec![("host", request.host.to_owned()), ("x-amz-content-sha256", digest.clone()), ("x-amz-date", time)];
        if let Some(token) = &self.credentials.session_token {
            signed.push(("x-amz-security-token", token.reveal().to_owned()));
        }
        let signature = self.signature(request, &signed, &digest);
        let authorization = format!(
            "{ALGORITHM} Credential={}/{}, SignedHeaders={}, Signature={signature}",
            self.credentials.access_key_id,
            self.scope(),
            names(&signed)
        );
        // The client sends the host by itself.
        let headers = signed.into_iter().skip(1).chain([("authorization", authorization)]);
        headers.map(|(name, value)| (name, Secret::new(value))).collect()
    }

    /// Returns the signature; the names of `headers` are in small letters and in order.
    fn signature(&self, request: UnsignedRequest<'_>, headers: &[(&str, String)], digest: &str) -> String {
        let UnsignedRequest { method, path, query, .. } = request;
        // Every service but S3 encodes the path again.
        let path = path.split('/').map(percent_encoded).collect::<Vec<_>>().join("/");
        let mut canonical = format!("{method}\n{path}\n{}\n", encoded_query(query));
        for (name, value) in headers {
            let _ = writeln!(canonical, "{name}:{value}");
        }
        let _ = write!(canonical, "\n{}\n{digest}", names(headers));
        let text = format!("{ALGORITHM}\n{}\n{}\n{}", self.timestamp(), self.scope(), sha256_hex(canonical.as_bytes()));
        let secret = format!("AWS4{}", self.credentials.secret_access_key.reveal());
        let parts = [&self.timestamp()[..8], self.region, self.service, "aws4_request"];
        let key = parts.iter().fold(secret.into_bytes(), |key, part| hmac(&key, part.as_bytes()));
        hex(&hmac(&key, text.as_bytes()))
    }

    fn scope(&self) -> String {
        format!("{}/{}/{}/aws4_request", &self.timestamp()[..8], self.region, self.service)
    }

    /// Returns the time as `20260102T030405Z`.
    fn timestamp(&self) -> String {
        let time = jiff::Timestamp::from_second(self.time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        time.strftime("%Y%m%dT%H%M%SZ").to_string()
    }
}

/// Returns a query in the canonical form: encoded, and in order of the names.
pub(crate) fn encoded_query(query: &[(&str, &str)]) -> String {
    let mut query = query.to_vec();
    query.sort_by_cached_key(|(name, value)| (percent_encoded(name), percent_encoded(value)));
    encoded_pairs(&query).join("&")
}

fn encoded_pairs(query: &[(&str, &str)]) -> Vec<String> {
    query.iter().map(|(name, value)| format!("{}={}", percent_encoded(name), percent_encoded(value))).collect()
}

fn names(headers: &[(&str, String)]) -> String {
    headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";")
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-02T03:04:05Z.
    const TIME: i64 = 1_767_323_045;

    fn credentials(token: Option<&str>) -> AwsCredentials {
        AwsCredentials {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned()),
            session_token: token.map(|token| Secret::new(token.to_owned())),
            expires_at: None,
        }
    }

    /// The expected values are those of botocore's `SigV4Auth`, with the same clock and credentials.
    #[test]
    fn signed_headers_are_those_of_aws() {
        let sign = |token: Option<&str>, service, request, body: &[u8]| {
            let credentials = credentials(token);
            let signer = AwsSigner { credentials: &credentials, region: "eu-central-1", service, time: TIME };
            let headers = signer.headers(request, body);
            headers.iter().map(|(name, value)| format!("{name}: {}", value.reveal())).collect::<Vec<_>>()
        };
        let (host, empty) = ("search-x.eu-central-1.es.amazonaws.com", b"".as_slice());
        let put = UnsignedRequest { method: "PUT", host: "x.eu-central-1.aoss.amazonaws.com", path: "/i", query: &[] };
        assert_eq!(
            sign(None, "aoss", put, b"{}"),
            [
                "x-amz-content-sha256: 44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
                "x-amz-date: 20260102T030405Z",
                "authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/eu-central-1/aoss/aws4_request, \
                 SignedHeaders=host;x-amz-content-sha256;x-amz-date, \
                 Signature=7723be0a772fbe10a8cc7a2930f1512be30701931fb6e7715ac5d3ff09adf17c",
            ]
        );
        let query = [("refresh", "false"), ("filter_path", "items.error")];
        let port = format!("{host}:9443");
        let bulk = UnsignedRequest { method: "POST", host: &port, path: "/a%3Cb%20c/_bulk", query: &query };
        let signed = sign(Some("TOKEN+/="), "es", bulk, b"{\"index\":{}}\n{}\n");
        assert_eq!(signed[2], "x-amz-security-token: TOKEN+/=");
        assert!(signed[3].ends_with(BULK_SIGNATURE), "{}", signed[3]);
        let get = UnsignedRequest { method: "GET", host, path: "/_nodes/_local", query: &[("filter_path", "a.*,b")] };
        let signed = sign(None, "es", get, empty);
        assert!(signed[2].ends_with(GET_SIGNATURE), "{}", signed[2]);
    }

    const BULK_SIGNATURE: &str = "Signature=95771afa52c4d00def18d8f108f1a8bea2fc39471426bacf249ff92536b3ff3a";
    const GET_SIGNATURE: &str = "Signature=6138c9b48601ad6236fede27dd7e5cca469188873a82802a69fea9f7c64883b7";

    #[test]
    fn a_secret_is_not_printed() {
        let credentials = credentials(Some("session-token"));
        let shown = format!("{:?}", AwsSigner { credentials: &credentials, region: "r", service: "s", time: 0 });
        assert!(!shown.contains("wJal") && !shown.contains("session-token"), "{shown}");
    }
}
