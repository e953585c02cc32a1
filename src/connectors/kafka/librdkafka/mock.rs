//! The one setting of the mock brokers that rdkafka leaves out.

use rdkafka::bindings as rd;
use rdkafka::client::{Client, ClientContext};

/// Lets groups assign as soon as a member is there; mock brokers wait 3 s for others otherwise.
pub(crate) fn assign_at_once<C: ClientContext>(owner: &Client<C>) {
    // SAFETY: a live handle; the cluster, null when the client has none, lives in it.
    unsafe {
        let cluster = rd::rd_kafka_handle_mock_cluster(owner.native_ptr());
        if !cluster.is_null() {
            rd::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0);
        }
    }
}
