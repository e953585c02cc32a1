//! Missing rights, as brokers report them.

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use crate::harness::{Cluster, Mock, Sdl, Sender, numbered};

const DENIED: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
const GROUP_DENIED: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED;

/// Two clusters, the sections `remote_kafka` and `local_kafka`, with the topic `orders`, which has records in the first.
struct Secured {
    remote: Mock,
    local: Mock,
}

impl Secured {
    fn new() -> Self {
        let secured = Self { remote: Mock::start(1), local: Mock::start(1) };
        secured.remote.create_topic("orders", 1);
        secured.local.create_topic("orders", 1);
        Sender::new(&secured.remote.cluster(), &[]).send("orders", &numbered(1, 0, 10, 1));
        secured
    }

    /// Expects this command to fail with these lines.
    #[track_caller]
    fn fails(&self, arguments: &str, lines: &str) {
        let profile = Cluster::profile(&self.remote.cluster(), &self.local.cluster(), "billing");
        let sinks = "[mongodb]\nhost = 127.0.0.213\n[elasticsearch]\nurl = http://127.0.0.213:9\n";
        let profile = format!("{profile}\n{sinks}");
        let stderr = Sdl::new(arguments).profile(&profile).run().expect(1).stderr;
        assert!(stderr.ends_with(lines), "{arguments}: {stderr}");
    }
}

#[test]
fn a_topic_that_may_not_be_described_is_not_called_missing() {
    let secured = Secured::new();
    secured.remote.faults().topic_error("orders", DENIED).unwrap();
    let denied = "error: not allowed to describe topic `orders` of `remote_kafka`\n\
                  hint: give the user DESCRIBE on the topic; READ and WRITE include it\n";
    for arguments in [
        "replicate orders",
        "replicate orders --dry-run",
        "sink-mongo orders --source remote_kafka --collection d --database d",
        "sink-es orders --source remote_kafka --index i",
        "aggregate orders --source remote_kafka",
        "tail orders --source remote_kafka",
        "produce-fake orders --target remote_kafka -n 1",
    ] {
        secured.fails(arguments, denied);
    }
    secured.local.faults().topic_error("orders", DENIED).unwrap();
    secured.remote.faults().topic_error("orders", RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    secured.fails("replicate orders", &denied.replace("remote", "local"));
}

#[test]
fn a_group_that_may_not_be_used_is_named_with_the_right_to_give() {
    let secured = Secured::new();
    let refuse = || secured.remote.faults().request_errors(RDKafkaApiKey::OffsetFetch, &[GROUP_DENIED; 3]);
    refuse();
    let denied = "error: not allowed to use group `billing` of `remote_kafka`\nhint: give the user READ on the group\n";
    secured.fails("replicate orders --dry-run", denied);
    secured.remote.faults().clear_request_errors(RDKafkaApiKey::OffsetFetch);
    refuse();
    let denied = "error: not allowed to describe group `billing` of `remote_kafka`\n\
                  hint: give the user DESCRIBE on the group; READ includes it\n";
    secured.fails("tail orders --source remote_kafka --start committed --group billing", denied);
}

#[test]
fn a_topic_that_may_not_be_read_or_written_is_named_with_the_right_to_give() {
    let secured = Secured::new();
    secured.local.faults().request_errors(RDKafkaApiKey::Produce, &[DENIED; 3]);
    let denied = "  caused by: not allowed to write to topic `orders`\nhint: give the user WRITE on the topic\n";
    secured.fails("replicate orders --until-caught-up", denied);
    secured.remote.faults().request_errors(RDKafkaApiKey::Fetch, &[DENIED; 100]);
    let denied = "error: not allowed to read topic `orders` of `remote_kafka`\nhint: give the user READ on the topic\n";
    secured.fails("tail orders --source remote_kafka", denied);
}
