//! The address of a broker.

use std::fmt;

/// Host and port of a broker, as a profile or a broker names them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BrokerAddress {
    host: String,
    port: u16,
}

impl BrokerAddress {
    /// The port of a server that a profile names without one.
    const DEFAULT_PORT: u16 = 9092;

    /// Returns the address of an advertised listener. Some brokers put an IPv6 address in brackets, others do not.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Self { host: bare.to_owned(), port }
    }

    /// Returns the address of a server in a profile: `host`, `host:9092`, `[::1]:9092`; `None` if it is none.
    #[must_use]
    pub fn parse(server: &str) -> Option<Self> {
        let is_ipv6 = |host: &str| host.parse::<std::net::Ipv6Addr>().is_ok();
        if is_ipv6(server) {
            return Some(Self::new(server, Self::DEFAULT_PORT));
        }
        let (host, port) = match server.rsplit_once(':') {
            // The last colon of an IPv6 address without a port.
            Some((_, rest)) if rest.ends_with(']') => (server, Self::DEFAULT_PORT),
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0)?),
            None => (server, Self::DEFAULT_PORT),
        };
        let address = Self::new(host, port);
        let is_valid = !address.host.is_empty() && (!address.host.contains([':', '[', ']']) || is_ipv6(&address.host));
        is_valid.then_some(address)
    }

    /// Returns the name or the address, an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_has_brackets_only_where_it_is_shown() {
        for (host, shown) in [("::1", "[::1]:9092"), ("[::1]", "[::1]:9092"), ("fe80::2", "[fe80::2]:9092"), ("b", "b:9092")] {
            let address = BrokerAddress::new(host, 9092);
            assert_eq!(address.to_string(), shown);
            assert!(!address.host().contains('['));
            assert_eq!(BrokerAddress::parse(shown), Some(address));
        }
        for (server, shown) in
            [("a", "a:9092"), ("a:1", "a:1"), ("[::1]", "[::1]:9092"), ("::1", "[::1]:9092"), ("1.2.3.4:5", "1.2.3.4:5")]
        {
            assert_eq!(BrokerAddress::parse(server).map(|address| address.to_string()).as_deref(), Some(shown), "{server}");
        }
        for server in ["", ":1", "a:0", "a:", "a:port", "[]:1", "[a:b]:1", "a]:1"] {
            assert_eq!(BrokerAddress::parse(server), None, "{server}");
        }
    }
}
