//! The stream to a broker: TCP, or TLS on it.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::connectors::kafka::wire::address::BrokerAddress;
use crate::connectors::kafka::wire::error::WireError;

type BrokerReader = Box<dyn AsyncRead + Send + Unpin>;
type BrokerWriter = Box<dyn AsyncWrite + Send + Unpin>;

/// Connects; returns the two directions. The addresses of the name share `timeout`; the caller limits the whole.
pub(super) async fn connect(
    address: &BrokerAddress,
    timeout: Duration,
    tls: Option<&Arc<ClientConfig>>,
) -> Result<(BrokerReader, BrokerWriter), WireError> {
    let tcp = connect_tcp(address, timeout).await?;
    // Requests leave as a whole.
    tcp.set_nodelay(true).map_err(|error| WireError::io("connecting", &error))?;
    let Some(config) = tls else {
        let (read, write) = tcp.into_split();
        return Ok((Box::new(read), Box::new(write)));
    };
    let host = address.host().trim_end_matches('.').to_owned();
    let name = ServerName::try_from(host).map_err(|_| WireError::Credentials(format!("TLS: `{}` is no name", address.host())))?;
    let stream = TlsConnector::from(Arc::clone(config)).connect(name, tcp).await;
    let stream = stream.map_err(|error| WireError::io("TLS handshake", &error))?;
    let (read, write): (ReadHalf<_>, WriteHalf<_>) = tokio::io::split(stream);
    Ok((Box::new(read), Box::new(write)))
}

/// Tries each address of the name: one that does not answer must not hide the next.
async fn connect_tcp(address: &BrokerAddress, timeout: Duration) -> Result<TcpStream, WireError> {
    let unresolved = || WireError::NameNotResolved(address.host().to_owned());
    let found = tokio::net::lookup_host((address.host(), address.port())).await.map_err(|_| unresolved())?;
    let found: Vec<_> = found.collect();
    let share = timeout / u32::try_from(found.len().max(1)).unwrap_or(u32::MAX);
    let mut last = unresolved();
    for socket in found {
        last = match tokio::time::timeout(share, TcpStream::connect(socket)).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(error)) => WireError::Io { step: "connecting", kind: error.kind(), reason: error.to_string() },
            Err(_) => WireError::NoAnswer(share),
        };
    }
    Err(last)
}
