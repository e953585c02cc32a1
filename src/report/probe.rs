//! A client of the HTTP endpoint, for health checks.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::pipeline::Failure;
use crate::terminal::escape_controls;

const TIMEOUT: Duration = Duration::from_secs(10);
/// A longer answer is not that of a probe.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// The address of an endpoint: host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProbeAddress {
    host: String,
    port: u16,
}

impl FromStr for ProbeAddress {
    type Err = String;

    /// A port alone is one of the loopback interface.
    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let name = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_name = name.chars().all(|c| c.is_alphanumeric() || ".-_".contains(c) || (c == ':' && name.len() < host.len()));
        match port.parse() {
            Ok(port) if is_name && port > 0 => {
                Ok(Self { host: if name.is_empty() { "127.0.0.1" } else { name }.to_owned(), port })
            }
            _ => Err("not an address: use a port, as in 9464, or a host and a port, as in sink:9464".to_owned()),
        }
    }
}

impl fmt::Display for ProbeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Asks for a path, and returns the answer in one line.
///
/// # Errors
/// When the endpoint says no (its status is not 200), or does not answer within 10 s.
pub(crate) async fn probe(address: &ProbeAddress, path: &str) -> Result<String, Failure> {
    let no_answer = |cause: &dyn fmt::Display| Failure::new(format!("no answer from {address}{path}")).because(cause);
    let (status, text) = match tokio::time::timeout(TIMEOUT, get(address, path)).await {
        Ok(answer) => answer.map_err(|cause| no_answer(&cause))?,
        Err(_) => return Err(no_answer(&format!("nothing for {} s", TIMEOUT.as_secs()))),
    };
    let line = escape_controls(text.trim()).into_owned();
    if status == StatusCode::OK {
        Ok(line)
    } else {
        Err(Failure::new(format!("{address}{path} answers {}", status.as_u16())).because(line))
    }
}

async fn get(address: &ProbeAddress, path: &str) -> Result<(StatusCode, String), String> {
    let ProbeAddress { host, port } = address;
    let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ => error.to_string(),
    })?;
    let other = |error: &dyn fmt::Display| format!("no HTTP answer: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| other(&error))?;
    let request = Request::get(path).header(HOST, address.to_string()).header(CONNECTION, "close");
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| other(&error))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| other(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BODY_BYTES).collect().await.map_err(|error| other(&error))?;
        Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    };
    let connection = async {
        // A failure of the connection is the failure of its request.
        let _ = connection.await;
        std::future::pending().await
    };
    tokio::select! {
        answer = answer => answer,
        never = connection => never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_port_or_a_host_and_a_port() {
        let read = |text: &str| text.parse().map(|address: ProbeAddress| address.to_string());
        for (text, address) in [
            ("9464", "127.0.0.1:9464"),
            (":9464", "127.0.0.1:9464"),
            ("sink:9464", "sink:9464"),
            ("sink-1.example.com:9464", "sink-1.example.com:9464"),
            ("[::1]:9464", "[::1]:9464"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(address), "{text}");
        }
        for text in ["", "sink", "sink:", "70000", "0", "http://sink:9464", "::1:9464", "a b:1", "sink:9464/readyz"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
