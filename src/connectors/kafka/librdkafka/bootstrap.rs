//! A client that has forgotten every broker gets the addresses of its profile again.

use std::ffi::c_char;
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;
use rdkafka::client::{Client, ClientContext};

/// How often a client is looked at.
const INTERVAL: Duration = Duration::from_secs(2);

/// Brings back a client that has no brokers left; its owner calls [`Self::keep`] now and then.
///
/// librdkafka 2.12 forgets every broker that a metadata response does not list. A broker that starts answers before the cluster
/// lists it, so the only broker of a cluster, or the last one that is up, is forgotten. librdkafka then adds `bootstrap.servers`
/// again, unless it finds an entry that it is about to remove: in that case none is left, and it never connects again.
pub(crate) struct BootstrapServers {
    last: Instant,
}

impl BootstrapServers {
    pub(crate) fn new() -> Self {
        Self { last: Instant::now() }
    }

    /// As [`add_servers`], every two seconds at most.
    pub(crate) fn keep<C: ClientContext>(&mut self, client: &Client<C>) {
        if self.last.elapsed() >= INTERVAL {
            self.last = Instant::now();
            add_servers(client);
        }
    }
}

/// Returns whether the last metadata response named a controller. A broker that starts answers before it knows its cluster: such a
/// response has none. Never waits.
pub(crate) fn has_controller<C: ClientContext>(client: &Client<C>) -> bool {
    // SAFETY: a live handle; without a timeout the call returns what is known.
    unsafe { rd::rd_kafka_controllerid(client.native_ptr(), 0) >= 0 }
}

/// Adds the client's `bootstrap.servers` to its brokers if the last metadata response listed no broker; those that it has are not
/// added twice.
pub(crate) fn add_servers<C: ClientContext>(client: &Client<C>) {
    // A response without brokers has no controller.
    if has_controller(client) {
        return;
    }
    let client = client.native_ptr();
    let name = c"bootstrap.servers";
    let mut size = 0;
    // SAFETY: a live handle, whose configuration lives as long; the first call returns the size with the NUL at the end, and the
    // second fills as many bytes.
    unsafe {
        let config = rd::rd_kafka_conf(client);
        let found = rd::rd_kafka_conf_get(config, name.as_ptr(), std::ptr::null_mut(), &raw mut size);
        if found != rd::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK || size == 0 {
            return;
        }
        let mut servers: Vec<c_char> = vec![0; size];
        rd::rd_kafka_conf_get(config, name.as_ptr(), servers.as_mut_ptr(), &raw mut size);
        rd::rd_kafka_brokers_add(client, servers.as_ptr());
    }
}
