//! The first two steps of a connection, whatever protocol follows: a name, and a port.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::connectors::connect_error::{ConnectCause, ConnectStep};

/// How long a name may take to resolve, and a port to accept a connection.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns the addresses of a server, `host:port`.
///
/// # Errors
/// When its name does not resolve in time.
pub(crate) async fn resolve(server: &str) -> Result<Vec<SocketAddr>, ConnectCause> {
    match timeout(DIAL_TIMEOUT, lookup_host(server)).await {
        Ok(Ok(found)) => Some(found.collect::<Vec<_>>()).filter(|found| !found.is_empty()).ok_or(ConnectCause::NameNotResolved),
        Ok(Err(_)) => Err(ConnectCause::NameNotResolved),
        Err(_) => {
            let within = humantime::format_duration(DIAL_TIMEOUT);
            Err(ConnectCause::other(ConnectStep::NameLookup, format!("no name server answers within {within}")))
        }
    }
}

/// Opens a connection to one of the addresses, and closes it; returns the address that accepted it.
///
/// # Errors
/// When none does in time: why the last one does not.
pub(crate) async fn open(addresses: &[SocketAddr]) -> Result<SocketAddr, ConnectCause> {
    let mut cause = ConnectCause::NameNotResolved;
    for address in addresses {
        cause = match timeout(DIAL_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return Ok(*address),
            Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => ConnectCause::ConnectionRefused,
            Ok(Err(error)) => ConnectCause::other(ConnectStep::Connect, without_code(&error.to_string()).to_lowercase()),
            Err(_) => ConnectCause::NoAnswer(Some(DIAL_TIMEOUT)),
        };
    }
    Err(cause)
}

/// Returns `No route to host (os error 113)` without its code.
fn without_code(text: &str) -> &str {
    text.split_once(" (os error").map_or(text, |(text, _)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_and_a_port_are_told_apart() {
        assert_eq!(resolve("broker.invalid:9092").await, Err(ConnectCause::NameNotResolved));
        // A port that was free a moment ago, on an address that nothing else binds.
        let listener = std::net::TcpListener::bind("127.0.0.219:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(resolve(&address.to_string()).await, Ok(vec![address]));
        assert_eq!(open(&[address]).await, Ok(address));
        drop(listener);
        assert_eq!(open(&[address]).await, Err(ConnectCause::ConnectionRefused));
        assert_eq!(without_code("No route to host (os error 113)"), "No route to host");
    }
}
