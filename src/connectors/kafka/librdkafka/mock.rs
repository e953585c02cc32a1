//! A setting of the mock brokers that rdkafka does not wrap.

use rdkafka::bindings as rd;
use rdkafka::client::{Client, ClientContext};

/// Makes groups assign as soon as the first member joins; by default mock brokers wait 3 s for others.
pub(crate) fn disable_rebalance_delay<C: ClientContext>(owner: &Client<C>) {
    // SAFETY: a live handle; the cluster, null when the client has none, lives in it.
    unsafe {
        let cluster = rd::rd_kafka_handle_mock_cluster(owner.native_ptr());
        if !cluster.is_null() {
            rd::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0);
        }
    }
}
