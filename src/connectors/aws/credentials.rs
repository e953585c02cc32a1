//! The default credentials chain of AWS: variables, web identity, profile files, container, instance metadata.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::connectors::access_error::AccessError;
use crate::connectors::aws::profile_file::{ProfileSettings, settings};
use crate::connectors::aws::signature::{AwsCredentials, AwsSigner, UnsignedRequest};
use crate::connectors::http_client::{HttpCall, HttpClient, form};
use crate::profile::{AwsAccess, Secret};

/// The timeout of a request to STS.
const STS_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout of a request to an address that exists on AWS's machines only.
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);
/// Credentials are renewed when they have less left, in milliseconds, as AWS's own libraries do it.
const RENEWAL_MARGIN: i64 = 5 * 60 * 1000;
/// The deepest chain of profiles with a `source_profile`.
const MAX_PROFILES: usize = 5;
const SESSION: &str = "sdl";

/// Finds credentials, and keeps them until they are about to expire.
#[derive(Debug)]
pub(crate) struct AwsCredentialsChain {
    access: AwsAccess,
    kept: Mutex<Option<AwsCredentials>>,
}

impl AwsCredentialsChain {
    pub(crate) fn new(access: AwsAccess) -> Self {
        Self { access, kept: Mutex::new(None) }
    }

    pub(crate) fn region(&self) -> &str {
        &self.access.region
    }

    /// Returns credentials that are valid now, in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// When no link of the chain has any, or the first that is configured gives none.
    pub(crate) async fn credentials(&self, now: i64) -> Result<AwsCredentials, AccessError> {
        let mut kept = self.kept.lock().await;
        if let Some(fresh) = kept.as_ref().filter(|kept| kept.expires_at.is_none_or(|at| at - RENEWAL_MARGIN > now)) {
            return Ok(fresh.clone());
        }
        match self.find(now).await {
            Ok(found) => Ok(kept.insert(found).clone()),
            // They are good until they expire.
            Err(error) => kept.clone().filter(|kept| kept.expires_at.is_some_and(|at| at > now)).ok_or(error),
        }
    }

    async fn find(&self, now: i64) -> Result<AwsCredentials, AccessError> {
        let variable = |name: &str| self.access.variable(name);
        if let (Some(id), Some(secret)) = (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
            return Ok(long_lived(id, secret, variable("AWS_SESSION_TOKEN")));
        }
        if let (Some(file), Some(role)) = (variable("AWS_WEB_IDENTITY_TOKEN_FILE"), variable("AWS_ROLE_ARN")) {
            return self.by_web_identity(file, role, variable("AWS_ROLE_SESSION_NAME")).await;
        }
        let named = variable("AWS_PROFILE").or_else(|| variable("AWS_DEFAULT_PROFILE"));
        if let Some(found) = self.by_profile(named, now).await? {
            return Ok(found);
        }
        if let Some(url) = self.container_url()? {
            return self.by_container(&url).await;
        }
        self.by_instance().await
    }

    /// Returns the credentials of a profile of AWS's files; `None` if no profile is named, and the default one has none.
    async fn by_profile(&self, named: Option<&str>, now: i64) -> Result<Option<AwsCredentials>, AccessError> {
        let first = named.unwrap_or("default");
        let (credentials, config) =
            (self.file("AWS_SHARED_CREDENTIALS_FILE", "credentials")?, self.file("AWS_CONFIG_FILE", "config")?);
        // The roles to assume, the last one first.
        let (mut roles, mut name) = (Vec::new(), first.to_owned());
        for _ in 0..MAX_PROFILES {
            let profile = settings(&credentials, &config, &name);
            let get = |key: &str| profile.get(key).map(String::as_str);
            let found = match (get("aws_access_key_id"), get("aws_secret_access_key"), get("role_arn")) {
                (_, _, Some(role)) if get("web_identity_token_file").is_some() => {
                    let file = get("web_identity_token_file").unwrap_or_default();
                    Some(self.by_web_identity(file, role, get("role_session_name")).await?)
                }
                (_, _, Some(_)) if get("source_profile").is_some_and(|source| source != name) => {
                    name = get("source_profile").unwrap_or_default().to_owned();
                    roles.push(profile);
                    continue;
                }
                (Some(id), Some(secret), Some(_)) if get("source_profile").is_some() => {
                    let found = long_lived(id, secret, get("aws_session_token"));
                    roles.push(profile.clone());
                    Some(found)
                }
                (Some(id), Some(secret), None) => Some(long_lived(id, secret, get("aws_session_token"))),
                _ => None,
            };
            let Some(mut found) = found else {
                return if named.is_none() && roles.is_empty() && !is_unsupported(&profile) {
                    Ok(None)
                } else {
                    Err(unusable(&name, &profile))
                };
            };
            while let Some(role) = roles.pop() {
                found = self.assume_role(&found, &role, now).await?;
            }
            return Ok(Some(found));
        }
        Err(AccessError::lasting(
            format!("the AWS profile `{first}` refers to itself"),
            "correct `source_profile` in ~/.aws/config",
        ))
    }

    /// Returns the text of one of AWS's files; empty if there is none.
    fn file(&self, variable: &str, name: &str) -> Result<String, AccessError> {
        let named = self.access.variable(variable).map(PathBuf::from);
        let of_home = || Some(PathBuf::from(self.access.variable("HOME")?).join(".aws").join(name));
        let Some(path) = named.or_else(of_home) else { return Ok(String::new()) };
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(unreadable(&path.display().to_string(), &error)),
        }
    }

    async fn by_web_identity(&self, file: &str, role: &str, session: Option<&str>) -> Result<AwsCredentials, AccessError> {
        let token = std::fs::read_to_string(file).map_err(|error| unreadable(file, &error))?;
        let fields = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", role),
            ("RoleSessionName", session.unwrap_or(SESSION)),
            ("WebIdentityToken", token.trim()),
        ];
        self.ask_sts(role, form(&fields), &[]).await
    }

    async fn assume_role(&self, by: &AwsCredentials, profile: &ProfileSettings, now: i64) -> Result<AwsCredentials, AccessError> {
        let get = |key: &str| profile.get(key).map(String::as_str);
        let role = get("role_arn").unwrap_or_default();
        let mut fields = vec![
            ("Action", "AssumeRole"),
            ("Version", "2011-06-15"),
            ("RoleArn", role),
            ("RoleSessionName", get("role_session_name").unwrap_or(SESSION)),
        ];
        fields.extend(get("external_id").map(|id| ("ExternalId", id)));
        let (body, url) = (form(&fields), self.sts_url());
        let host = url.split_once("://").map_or("", |(_, host)| host.trim_end_matches('/'));
        let signer = AwsSigner { credentials: by, region: &self.access.region, service: "sts", time: now / 1000 };
        let headers = signer.headers(UnsignedRequest { method: "POST", host, path: "/", query: &[] }, body.as_bytes());
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.reveal())).collect();
        self.ask_sts(role, body, &headers).await
    }

    fn sts_url(&self) -> String {
        let own = |url: &str| url.trim_end_matches('/').to_owned() + "/";
        let region = &self.access.region;
        let regional = || format!("https://sts.{region}.{}/", domain(region));
        self.access.variable("AWS_ENDPOINT_URL_STS").map_or_else(regional, own)
    }

    async fn ask_sts(&self, role: &str, body: String, signed: &[(&str, &str)]) -> Result<AwsCredentials, AccessError> {
        let url = self.sts_url();
        let headers = [&[("content-type", "application/x-www-form-urlencoded")], signed].concat();
        let hint = format!("see the trust policy of `{role}`");
        let bundle = match self.access.variable("AWS_CA_BUNDLE") {
            Some(path) => Some(std::fs::read(path).map_err(|error| unreadable(path, &error))?),
            None => None,
        };
        let call = HttpCall { method: Method::POST, url: &url, headers: &headers, body, deadline: STS_TIMEOUT };
        let client = client(bundle.as_deref())?;
        let answer = client.call(call).await.map_err(|cause| AccessError::of_cause("server", &url, &cause, &*hint))?;
        let text = String::from_utf8_lossy(&answer.body);
        if answer.status != 200 {
            let code = element(&text, "Code").map_or_else(|| format!("status {}", answer.status), |code| format!("`{code}`"));
            let text = format!("AWS STS does not give the credentials of role `{role}`: {code}");
            return Err(AccessError { text, hint, is_lasting: (400..500).contains(&answer.status) && answer.status != 429 });
        }
        let get = |name: &str| element(&text, name).ok_or_else(|| incomplete(&url));
        Ok(AwsCredentials {
            access_key_id: get("AccessKeyId")?.to_owned(),
            secret_access_key: Secret::new(get("SecretAccessKey")?.to_owned()),
            session_token: Some(Secret::new(get("SessionToken")?.to_owned())),
            expires_at: milliseconds(get("Expiration")?),
        })
    }

    /// Returns where a container gets its credentials.
    fn container_url(&self) -> Result<Option<String>, AccessError> {
        if let Some(path) = self.access.variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").filter(|path| path.starts_with('/')) {
            return Ok(Some(format!("http://169.254.170.2{path}")));
        }
        let Some(url) = self.access.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI") else { return Ok(None) };
        if is_trusted(url) {
            return Ok(Some(url.to_owned()));
        }
        let text = "the URL in `AWS_CONTAINER_CREDENTIALS_FULL_URI` is neither https nor of this machine";
        Err(AccessError::lasting(text, "correct it, or unset it"))
    }

    async fn by_container(&self, url: &str) -> Result<AwsCredentials, AccessError> {
        let token = match self.access.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
            Some(file) => Some(std::fs::read_to_string(file).map_err(|error| unreadable(file, &error))?),
            None => self.access.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(str::to_owned),
        };
        let headers: Vec<_> = token.iter().map(|token| ("authorization", token.trim())).collect();
        of_document(url, &ask(Method::GET, url, &headers).await?)
    }

    async fn by_instance(&self) -> Result<AwsCredentials, AccessError> {
        let variable = |name: &str| self.access.variable(name);
        if variable("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Err(nothing_found());
        }
        let is_v6 = variable("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE").is_some_and(|mode| mode.eq_ignore_ascii_case("ipv6"));
        let default = if is_v6 { "http://[fd00:ec2::254]" } else { "http://169.254.169.254" };
        let endpoint = variable("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or(default).trim_end_matches('/');
        let lifetime = [("x-aws-ec2-metadata-token-ttl-seconds", "21600")];
        let token = ask(Method::PUT, &format!("{endpoint}/latest/api/token"), &lifetime).await.map_err(|_| nothing_found())?;
        let token = String::from_utf8_lossy(&token).into_owned();
        let headers = [("x-aws-ec2-metadata-token", token.trim())];
        let folder = format!("{endpoint}/latest/meta-data/iam/security-credentials/");
        let roles = ask(Method::GET, &folder, &headers).await.map_err(|_| nothing_found())?;
        let roles = String::from_utf8_lossy(&roles).into_owned();
        let Some(role) = roles.lines().map(str::trim).find(|role| !role.is_empty()) else { return Err(nothing_found()) };
        let url = format!("{folder}{role}");
        of_document(&url, &ask(Method::GET, &url, &headers).await?)
    }
}

async fn ask(method: Method, url: &str, headers: &[(&str, &str)]) -> Result<Vec<u8>, AccessError> {
    const HINT: &str = "see the role of this machine or container";
    let call = HttpCall { method, url, headers, body: String::new(), deadline: METADATA_TIMEOUT };
    let answer = client(None)?.call(call).await.map_err(|cause| AccessError::of_cause("server", url, &cause, HINT))?;
    match answer.status {
        200 => Ok(answer.body),
        status => {
            let text = format!("{url} answers with status {status}");
            Err(AccessError { text, hint: HINT.to_owned(), is_lasting: (400..500).contains(&status) })
        }
    }
}

fn client(ca: Option<&[u8]>) -> Result<HttpClient, AccessError> {
    let no_certificate =
        || AccessError::lasting("the file of `AWS_CA_BUNDLE` has no certificate in PEM", "correct it, or unset it");
    HttpClient::new(ca).ok_or_else(no_certificate)
}

fn long_lived(id: &str, secret: &str, token: Option<&str>) -> AwsCredentials {
    AwsCredentials {
        access_key_id: id.to_owned(),
        secret_access_key: Secret::new(secret.to_owned()),
        session_token: token.map(|token| Secret::new(token.to_owned())),
        expires_at: None,
    }
}

/// Parses what containers and instances are given.
fn of_document(url: &str, body: &[u8]) -> Result<AwsCredentials, AccessError> {
    let document: Value = serde_json::from_slice(body).map_err(|_| incomplete(url))?;
    let get = |name: &str| document[name].as_str().ok_or_else(|| incomplete(url));
    Ok(AwsCredentials {
        access_key_id: get("AccessKeyId")?.to_owned(),
        secret_access_key: Secret::new(get("SecretAccessKey")?.to_owned()),
        session_token: document["Token"].as_str().map(|token| Secret::new(token.to_owned())),
        expires_at: document["Expiration"].as_str().and_then(milliseconds),
    })
}

/// Returns the text of the first XML element with this name.
fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once("</").map(|(text, _)| text.trim())
}

fn milliseconds(time: &str) -> Option<i64> {
    time.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}

/// Returns the domain of AWS's services in a region.
fn domain(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}

/// Returns whether credentials may be asked for at this URL: over TLS, or without leaving the machine.
fn is_trusted(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return url.starts_with("https://") };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.trim_matches(['[', ']']);
    let is_of_aws = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"].contains(&host);
    is_of_aws || host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_unsupported(profile: &ProfileSettings) -> bool {
    profile.keys().any(|key| key == "credential_process" || key.starts_with("sso_") || key == "role_arn")
}

fn unusable(name: &str, profile: &ProfileSettings) -> AccessError {
    let why = if profile.is_empty() {
        "is not in AWS's files".to_owned()
    } else if let Some(key) = profile.keys().find(|key| *key == "credential_process" || key.starts_with("sso_")) {
        format!("gets its credentials by `{key}`, which sdl does not support")
    } else {
        "has no credentials".to_owned()
    };
    let hint = "correct `AWS_PROFILE`, or set the variables that `aws configure export-credentials` prints";
    AccessError::lasting(format!("the AWS profile `{name}` {why}"), hint)
}

fn unreadable(path: &str, error: &std::io::Error) -> AccessError {
    let text = format!("cannot read the file `{path}`: {}", crate::profile::reason(error));
    AccessError::lasting(text, format!("see `ls -l {path}`"))
}

fn incomplete(url: &str) -> AccessError {
    AccessError::passing(format!("{url} answers without credentials"), "see the role of this machine or container")
}

fn nothing_found() -> AccessError {
    let text =
        "there are no AWS credentials: neither in variables, a web identity or AWS's files, nor of a container or an instance";
    AccessError::lasting(text, "set `AWS_PROFILE`, or `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`")
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
