//! Signatures of AWS for requests to OpenSearch.

use std::sync::Arc;
use std::time::SystemTime;

use elasticsearch::http::Method;
use elasticsearch::http::headers::{HeaderMap, HeaderName, HeaderValue};

use crate::connectors::access_error::AccessError;
use crate::connectors::aws::{AwsCredentialsChain, AwsSigner, UnsignedRequest, encoded_query};
use crate::profile::{ElasticLogin, ElasticSection};

/// Signs each request of a section that logs in by AWS; clones share the credentials.
#[derive(Clone)]
pub(super) struct RequestSigner {
    chain: Arc<AwsCredentialsChain>,
    service: String,
}

impl RequestSigner {
    pub(super) fn of(section: &ElasticSection) -> Option<Self> {
        let ElasticLogin::Aws { access, service } = &section.login else { return None };
        Some(Self { chain: Arc::new(AwsCredentialsChain::new(access.clone())), service: service.clone() })
    }

    /// Adds the signature to `headers`. Returns the path with the query, in the form that is signed.
    ///
    /// # Errors
    /// When there are no credentials.
    pub(super) async fn sign(
        &self,
        headers: &mut HeaderMap,
        node: &str,
        (method, path, query): (Method, &str, &[(&str, &str)]),
        body: &[u8],
    ) -> Result<String, AccessError> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let credentials = self.chain.credentials(now).await?;
        let (host, whole) = (host(node), format!("{}{path}", folder(node)));
        let method = match method {
            Method::Get => "GET",
            Method::Put => "PUT",
            Method::Post => "POST",
            Method::Delete => "DELETE",
            Method::Head => "HEAD",
        };
        let (region, service) = (self.chain.region(), &self.service);
        let signer = AwsSigner { credentials: &credentials, region, service, time: now / 1000 };
        for (name, value) in signer.headers(UnsignedRequest { method, host: &host, path: &whole, query }, body) {
            let unfit =
                |_| AccessError::lasting("an AWS credential has a character that is not allowed in a header", "correct it");
            let mut value = HeaderValue::try_from(value.reveal()).map_err(unfit)?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static(name), value);
        }
        Ok(if query.is_empty() { path.to_owned() } else { format!("{path}?{}", encoded_query(query)) })
    }
}

/// Returns the host as the client sends it: without the scheme's own port.
fn host(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.split('/').next().unwrap_or_default().to_ascii_lowercase();
    let own = if scheme == "https" { ":443" } else { ":80" };
    authority.strip_suffix(own).unwrap_or(&authority).to_owned()
}

/// Returns the path that stands before every path of a request, without a slash at its end.
fn folder(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.find('/').map_or("", |at| rest[at..].trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_folder_are_those_of_the_request() {
        for (url, expected) in [
            ("https://Search:443", ("search", "")),
            ("https://search:9443/behind/proxy", ("search:9443", "/behind/proxy")),
            ("http://[::1]:80/", ("[::1]", "")),
            ("http://a:443", ("a:443", "")),
        ] {
            assert_eq!((host(url).as_str(), folder(url)), expected, "{url}");
        }
    }
}
