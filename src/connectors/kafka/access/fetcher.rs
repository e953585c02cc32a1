//! Fetches a token from wherever the section gets its tokens.

use std::time::Duration;

use crate::connectors::access_error::AccessError;
use crate::connectors::aws::AwsCredentialsChain;
use crate::connectors::http_client::HttpClient;
use crate::connectors::kafka::access::jwt::AccessToken;
use crate::connectors::kafka::access::{command, endpoint, msk};
use crate::profile::{TokenAccess, TokenEndpoint, TokenSource};

/// How long a token endpoint may take.
const ENDPOINT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a command may take: some of them start an interpreter, and ask a server.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(20);

pub(super) enum TokenFetcher {
    Endpoint(HttpClient, TokenEndpoint),
    Command(Vec<String>),
    File(String),
    Aws(AwsCredentialsChain),
}

impl TokenFetcher {
    /// # Errors
    /// When the CA's file cannot be used.
    pub(super) fn new(access: &TokenAccess) -> Result<Self, AccessError> {
        Ok(match &access.source {
            TokenSource::Endpoint(endpoint) => Self::Endpoint(endpoint::client(endpoint)?, endpoint.clone()),
            TokenSource::Command(command) => Self::Command(command.clone()),
            TokenSource::File(path) => Self::File(path.clone()),
            TokenSource::Aws(access) => Self::Aws(AwsCredentialsChain::new(access.clone())),
        })
    }

    /// Fetches a token; a renewal may take as long as the old one is valid, and at least a moment. May block its thread.
    ///
    /// # Errors
    /// When none can be had in time, or it is expired.
    pub(super) async fn fetch(&self, now: i64, left: Option<Duration>) -> Result<AccessToken, AccessError> {
        let within = |timeout: Duration| left.map_or(timeout, |left| timeout.min(left.max(Duration::from_secs(2))));
        let token = match self {
            Self::Endpoint(client, of) => endpoint::fetch(client, of, now, within(ENDPOINT_TIMEOUT)).await?,
            Self::Command(line) => AccessToken::new(command::run(line, within(COMMAND_TIMEOUT))?, None, now),
            Self::File(path) => AccessToken::new(command::read(path)?, None, now),
            Self::Aws(chain) => msk::token(&chain.credentials(now).await?, chain.region(), now),
        };
        if token.expires_at > now {
            return Ok(token);
        }
        let (what, hint) = match self {
            Self::Endpoint(..) => {
                ("the token endpoint gives out a token that is expired".to_owned(), "correct its clock, or this machine's")
            }
            Self::Command(line) => {
                let program = line.first().map_or("", String::as_str);
                (format!("the token command `{program}` prints a token that is expired"), "log in again with the program")
            }
            Self::File(path) => {
                (format!("the token in the file `{path}` is expired"), "see whether the program that renews it runs")
            }
            Self::Aws(_) => ("the AWS credentials are expired".to_owned(), "log in to AWS again"),
        };
        Err(AccessError::passing(what, hint))
    }
}
