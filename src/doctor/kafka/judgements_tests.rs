use super::*;
use crate::doctor::StepStatus;
use crate::profile::Secret;

fn broker() -> AdvertisedBroker {
    AdvertisedBroker { id: 1, address: "kafka:9092".to_owned() }
}

fn unreachable(step: ConnectStep, why: &str) -> Step {
    let failure = Failure::new("cannot connect to `s`").because(format!("kafka:9092: {why}")).hint("correct it");
    unreachable_listener(&broker(), &failure.kind(FailureKind::Connect(step)))
}

#[test]
fn an_advertised_name_that_does_not_resolve_is_told_from_an_address_that_is_not_reached() {
    let step = unreachable(ConnectStep::NameLookup, "looking up the name: the name does not resolve");
    assert_eq!(
        format!("{}: {}", step.finding, step.hint.unwrap()),
        "bootstrap answers, but broker 1 advertises kafka:9092, and that name does not resolve here: set its advertised.listeners, or run \
         sdl where it resolves"
    );
    let step = unreachable(ConnectStep::Connect, "connecting: connection refused");
    assert_eq!(
        step.finding,
        "bootstrap answers, but broker 1 advertises kafka:9092, and that address cannot be reached from here: connecting: connection refused"
    );
    let step = unreachable(ConnectStep::TlsHandshake, "TLS handshake: the broker's certificate is for another host name");
    assert_eq!(step.hint.as_deref(), Some("advertise a name of its certificate"));
    let step = unreachable(ConnectStep::Login, "logging in: authentication failed for `u`");
    assert_eq!((step.status, step.hint.as_deref()), (StepStatus::Fail, Some("correct it")));
}

#[test]
fn a_section_says_how_it_connects() {
    let plain = KafkaSection { name: "s".to_owned(), ..KafkaSection::default() };
    let contact_of = |section: &KafkaSection| {
        let Contact { is_encrypted, logs_in, tls, login } = contact(section);
        (is_encrypted, logs_in, tls.finding, login.finding)
    };
    let (none, off) = ("not used: the section has none", "not used: `security_protocol` under [s] is PLAINTEXT");
    assert_eq!(contact_of(&plain), (false, false, off.to_owned(), none.to_owned()));
    let secured = KafkaSection {
        username: Some("loader".to_owned()),
        password: Some(Secret::new("canary".to_owned())),
        security_protocol: Some("SASL_SSL".to_owned()),
        ..plain
    };
    let (is_encrypted, logs_in, _, login) = contact_of(&secured);
    assert_eq!((is_encrypted, logs_in, login.as_str()), (true, true, "`loader` (PLAIN)"));
}

#[test]
fn a_write_needs_the_minimum_of_replicas_in_sync() {
    let of = |replicas_in_sync: &[(usize, usize)], minimum: usize| {
        let partition = |(partition, (replicas, in_sync)): (i32, &(usize, usize))| PartitionReplicas {
            partition,
            has_leader: true,
            replicas: *replicas,
            in_sync: *in_sync,
        };
        let partitions: Vec<_> = (0..).zip(replicas_in_sync).map(partition).collect();
        let step = replicas("t", &partitions, Some(minimum));
        (step.status, step.finding, step.hint.unwrap_or_default())
    };
    assert_eq!(of(&[(3, 3), (3, 3)], 2).0, StepStatus::Ok);
    assert_eq!(of(&[(1, 1)], 1).0, StepStatus::Ok, "one broker");
    let (status, finding, _) = of(&[(3, 3), (3, 2)], 2);
    assert_eq!(status, StepStatus::Warn);
    assert_eq!(finding, "partition t/1 has 2 of 3 replicas in sync, and `min.insync.replicas` is 2");
    let (status, finding, hint) = of(&[(3, 1)], 2);
    assert_eq!((status, hint.as_str()), (StepStatus::Fail, "start the brokers that are down"));
    assert!(finding.starts_with("writes are refused: partition t/0 has 1 of 3 replicas in sync"), "{finding}");
    let (status, _, hint) = of(&[(1, 1)], 2);
    assert_eq!(
        (status, hint.as_str()),
        (StepStatus::Fail, "set `min.insync.replicas = 1` of the topic, or give it more replicas")
    );
    let (status, _, hint) = of(&[(3, 3)], 3);
    assert_eq!((status, hint.as_str()), (StepStatus::Warn, "set `min.insync.replicas = 2` of topic `t`"));
    let dead = PartitionReplicas { partition: 4, has_leader: false, replicas: 3, in_sync: 0 };
    let step = replicas("t", &[dead, PartitionReplicas { partition: 5, ..dead }], None);
    assert_eq!((step.status, step.finding.as_str()), (StepStatus::Fail, "partition t/4, and 1 more: no leader"));
}

#[test]
fn records_that_the_written_topic_does_not_take_are_a_warning() {
    let read = |size| Some((Topic::named("r"), size));
    assert_eq!(record_size("w", Some(1_048_588), read(1_048_588)).status, StepStatus::Ok);
    assert_eq!(record_size("w", Some(1_048_588), None).status, StepStatus::Ok);
    assert_eq!(record_size("w", None, read(1)).status, StepStatus::Skipped);
    let step = record_size("w", Some(1_000_000), read(2_000_000));
    assert_eq!(step.finding, "topic `w` takes records of up to 1,000,000 bytes, and topic `r` may hold some of 2,000,000");
    assert_eq!(step.hint.as_deref(), Some("set `max.message.bytes = 2000000` of topic `w`; larger records are bad records"));
}

#[test]
fn a_missing_right_names_the_right_to_give() {
    let steps = topic_rights("t", TopicRight::Write, &[RightAnswer::Denied, RightAnswer::Denied]);
    assert_eq!(steps[0], Step::fail(RIGHTS, "not allowed to write to topic `t`", "give the user WRITE on the topic"));
    assert_eq!(steps[1].status, StepStatus::Warn);
    let steps = topic_rights("t", TopicRight::Read, &[RightAnswer::Allowed, RightAnswer::Allowed]);
    assert_eq!(steps, [Step::ok(RIGHTS, "may read topic `t`")]);
    let steps = topic_rights("t", TopicRight::Read, &[RightAnswer::Untold, RightAnswer::Untold]);
    assert_eq!(steps[0].status, StepStatus::Skipped);
}

#[test]
fn a_missing_topic_fails_unless_it_would_be_created() {
    let section = KafkaSection { name: "s".to_owned(), ..KafkaSection::default() };
    assert_eq!(missing_read_topic(&section, "t").finding, "topic `t` does not exist");
    for (answer, status) in
        [(RightAnswer::Allowed, StepStatus::Ok), (RightAnswer::Denied, StepStatus::Fail), (RightAnswer::Untold, StepStatus::Fail)]
    {
        assert_eq!(missing_written_topic("s", "t", &answer).status, status);
    }
}

#[test]
fn topics_of_kafka_itself_are_not_counted() {
    let section = KafkaSection { name: "s".to_owned(), ..KafkaSection::default() };
    let seen = ["__consumer_offsets", "orders", "__transaction_state"];
    assert_eq!(topics(&section, seen.into_iter()), Step::ok(TOPICS, "the cluster has 1 topic"));
}
