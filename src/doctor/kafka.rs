//! The examination of a Kafka cluster.

mod judgements;

use std::collections::HashSet;

use futures_util::future::join_all;

use crate::connectors::dial;
use crate::connectors::kafka::{
    self, AclOperation, Admin, AdvertisedBroker, CONTACT_TIMEOUT, RightAnswer, TopicRight, connect_failure,
};
use crate::doctor::kafka::judgements::{CLUSTER, LISTENERS, RECORD_SIZE, REPLICAS, TOPICS, VERSIONS};
use crate::doctor::probes::Probes;
use crate::doctor::report::{CLOCK, DoctorReport, LOGIN, NAME, RIGHTS, ROUNDTRIP, Step, TCP, TLS, certificate, clock, resolved};
use crate::number::counted;
use crate::pipeline::ConnectorError;
use crate::profile::{KafkaSection, SectionKind};
use crate::record::Topic;

/// The steps in their order.
pub(crate) const STEPS: [&str; 12] =
    [NAME, TCP, TLS, LOGIN, VERSIONS, CLUSTER, LISTENERS, TOPICS, RIGHTS, RECORD_SIZE, REPLICAS, CLOCK];

/// The brokers that are contacted at once.
const CONTACTS: usize = 8;

/// What to examine beside the section's own keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct KafkaExamination {
    /// The transactional id that the section's group would use.
    pub(crate) transactional_id: Option<String>,
    /// The topic that a record is written to, and that is deleted then.
    pub(crate) probe_topic: Option<String>,
    /// Why the clock is not examined without such a topic: what is needed.
    pub(crate) without_probe: &'static str,
    pub(crate) probes: Probes,
}

/// Examines the cluster of `section`.
pub(crate) async fn examine(section: &KafkaSection, examination: &KafkaExamination) -> DoctorReport {
    let mut report = DoctorReport::new(&section.name, SectionKind::Kafka);
    if let Some((admin, brokers)) = connect(&mut report, section).await
        && reach_listeners(&mut report, section, &brokers).await
    {
        let topics = find_topics(&mut report, section, &admin).await;
        if !report.has_failed() {
            ask_for_rights(&mut report, section, &admin, &topics, examination.transactional_id.as_deref()).await;
            compare_sizes(&mut report, section, &admin, &topics).await;
            count_replicas(&mut report, &admin, &topics).await;
            make_round_trip(&mut report, &admin, examination).await;
        }
    }
    report.skip_rest(&STEPS);
    if examination.probe_topic.is_some() {
        report.skip_rest(&[ROUNDTRIP]);
    }
    report
}

/// Examines names, ports, TLS, login and the first requests; returns the connection, and the brokers that a bootstrap server has
/// named.
async fn connect(report: &mut DoctorReport, section: &KafkaSection) -> Option<(Admin, Vec<AdvertisedBroker>)> {
    dial_servers(report, section).await?;
    let contact = judgements::contact(section);
    match Admin::connect(section, CONTACT_TIMEOUT).await {
        Ok(admin) => {
            let valid_until =
                if contact.is_encrypted { kafka::certificate_valid_until(section).await.ok().flatten() } else { None };
            report.push(valid_until.map_or(contact.tls, |until| certificate(until, jiff::Timestamp::now().as_second())));
            report.push(contact.login);
            let introduction = kafka::read_introduction(section, CONTACT_TIMEOUT).await.unwrap_or_default();
            report.push(judgements::versions(&introduction.versions));
            report.push(Step::ok(CLUSTER, judgements::cluster(section, admin.cluster_id())));
            Some((admin, introduction.brokers))
        }
        // It has answered, and is another cluster.
        Err(error @ (ConnectorError::Refused(_) | ConnectorError::Refusal(_))) => {
            for step in [contact.tls, contact.login, Step::ok(VERSIONS, "the cluster answers"), Step::failed(CLUSTER, &error)] {
                report.push(step);
            }
            None
        }
        Err(error) => {
            report.push_failed_contact(&error, &contact, VERSIONS);
            None
        }
    }
}

/// Looks up and opens each bootstrap server. One of several is enough.
async fn dial_servers(report: &mut DoctorReport, section: &KafkaSection) -> Option<()> {
    let servers = kafka::servers(section);
    let found = join_all(servers.iter().map(|server| dial::resolve(server))).await;
    let answers = servers.iter().zip(&found).map(|(server, answer)| match answer {
        Ok(addresses) => Ok(resolved(server, addresses)),
        Err(cause) => Err(connect_failure(section, server, cause.clone())),
    });
    let has_name = report.push_servers(NAME, answers.collect());
    if !has_name {
        return None;
    }
    let found = servers.iter().zip(found).filter_map(|(server, answer)| Some((server, answer.ok()?)));
    let opened = join_all(found.map(async |(server, addresses)| match dial::open(&addresses).await {
        Ok(_) => Ok(server.clone()),
        Err(cause) => Err(connect_failure(section, server, cause)),
    }));
    report.push_servers(TCP, opened.await).then_some(())
}

/// Reaches each broker at the address that it advertises, as a client of the section; returns whether all can be reached.
async fn reach_listeners(report: &mut DoctorReport, section: &KafkaSection, brokers: &[AdvertisedBroker]) -> bool {
    if brokers.is_empty() {
        report.push(Step::skipped(LISTENERS, "the bootstrap servers do not name the brokers"));
        return true;
    }
    let mut unreachable = Vec::new();
    for some in brokers.chunks(CONTACTS) {
        let contacts = join_all(some.iter().map(|broker| reach_listener(section, broker))).await;
        unreachable.extend(contacts.into_iter().flatten());
    }
    if unreachable.is_empty() {
        report.push(judgements::listeners(brokers));
        return true;
    }
    for step in unreachable {
        report.push(step);
    }
    false
}

/// Returns the step of a broker that cannot be reached at the address that it advertises.
async fn reach_listener(section: &KafkaSection, broker: &AdvertisedBroker) -> Option<Step> {
    let cause = match dial::resolve(&broker.address).await {
        Ok(addresses) => dial::open(&addresses).await.err(),
        Err(cause) => Some(cause),
    };
    if let Some(cause) = cause {
        let failure = connect_failure(section, &broker.address, cause);
        return Some(judgements::unreachable_listener(broker, &failure));
    }
    if kafka::servers(section) == [broker.address.clone()] {
        return None; // the connection that has answered
    }
    let alone = KafkaSection { servers: broker.address.clone(), cluster_id: None, ..section.clone() };
    match kafka::reach(&alone, CONTACT_TIMEOUT).await {
        Ok(_) => None,
        Err(ConnectorError::Failed(failure)) => Some(judgements::unreachable_listener(broker, &failure)),
        Err(error) => Some(Step::failed(LISTENERS, &error)),
    }
}

/// The topics of the section that exist.
#[derive(Default)]
struct SectionTopics {
    read: Option<Topic>,
    written: Option<Topic>,
}

/// Looks for the section's topics among those that the user can see.
async fn find_topics(report: &mut DoctorReport, section: &KafkaSection, admin: &Admin) -> SectionTopics {
    let mut topics = SectionTopics::default();
    match admin.topics().await {
        Ok(seen) => {
            let names = seen.iter().map(|topic| topic.topic.name());
            report.push(judgements::topics(section, names));
        }
        Err(error) => {
            report.push(Step::failed(TOPICS, &error));
            return topics;
        }
    }
    let keys = ["default_consumer_topic", "default_producer_topic"];
    let names = [section.default_consumer_topic.as_deref(), section.default_producer_topic.as_deref()];
    let [read, written] = std::array::from_fn(|at| {
        let fault = judgements::invalid_topic(&section.name, keys[at], names[at]?);
        if let Some(step) = fault {
            report.push(step);
            return None;
        }
        names[at]
    });
    if let Some(name) = read {
        match admin.topic(name).await {
            Ok(Some(found)) => {
                report.push(Step::ok(TOPICS, format!("`{name}` has {}", counted(partitions(found.partitions), "partition"))));
                topics.read = Some(found.topic);
            }
            Ok(None) => report.push(judgements::missing_read_topic(section, name)),
            Err(error) => report.push(Step::failed(TOPICS, &error)),
        }
    }
    if let Some(name) = written {
        match admin.topic(name).await {
            Ok(Some(found)) => {
                if read != written {
                    let partitions = counted(partitions(found.partitions), "partition");
                    report.push(Step::ok(TOPICS, format!("`{name}` has {partitions}")));
                }
                topics.written = Some(found.topic);
            }
            Ok(None) if read == written => {}
            Ok(None) => {
                let may_create = if admin.is_embedded() { Ok(RightAnswer::Untold) } else { admin.may_create(name).await };
                report.push(may_create.map_or_else(
                    |error| Step::failed(TOPICS, &error),
                    |answer| judgements::missing_written_topic(&section.name, name, &answer),
                ));
            }
            Err(error) => report.push(Step::failed(TOPICS, &error)),
        }
    }
    topics
}

fn partitions(count: i32) -> u64 {
    u64::try_from(count).unwrap_or_default()
}

/// Asks what the user may do with the section's topics, its group, and the transactional id.
async fn ask_for_rights(
    report: &mut DoctorReport,
    section: &KafkaSection,
    admin: &Admin,
    topics: &SectionTopics,
    transactional_id: Option<&str>,
) {
    if admin.is_embedded() {
        return report.push(Step::skipped(RIGHTS, "embedded brokers know no rights"));
    }
    let mut asked = 0;
    let wanted = [(topics.read, TopicRight::Read), (topics.written, TopicRight::Write)];
    for (topic, right) in wanted.into_iter().filter_map(|(topic, right)| Some((topic?, right))) {
        asked += 1;
        match admin.topic_rights(topic, &[right, TopicRight::DescribeConfigs]).await {
            Ok(answers) => {
                for step in judgements::topic_rights(topic.name(), right, &answers) {
                    report.push_once(step);
                }
            }
            Err(error) => report.push(Step::failed(RIGHTS, &error)),
        }
    }
    if let Some(group) = section.default_consumer_group_id.as_deref() {
        asked += 1;
        match admin.may_use_group(group).await {
            Ok(answer) => report.push(judgements::right_step(AclOperation::ReadGroup(group), &answer)),
            Err(error) => report.push(Step::failed(RIGHTS, &error)),
        }
    }
    if let Some(id) = transactional_id {
        let group: Vec<String> = section.default_consumer_group_id.iter().cloned().collect();
        let groups = admin.groups(&group).await.unwrap_or_default();
        if groups.iter().any(|group| group.members.as_deref().is_none_or(|members| !members.is_empty())) {
            report.push(Step::note(RIGHTS, format!("transactional id `{id}` not tried: the group may have members")));
            return;
        }
        match admin.may_use_transactional_id(id).await {
            Ok(RightAnswer::Denied) => {
                let operation = AclOperation::UseTransactionalId(id);
                report.push(Step::warn(RIGHTS, format!("not allowed to {operation}, as `sdl aggregate` does"), operation.hint()));
            }
            Ok(_) => report.push(Step::ok(RIGHTS, format!("may {}", AclOperation::UseTransactionalId(id)))),
            Err(error) => report.push(Step::note(RIGHTS, format!("transactional id `{id}` not tried: {error}"))),
        }
    }
    if asked == 0 {
        report.push(Step::skipped(RIGHTS, format!("[{}] names no topic and no group", section.name)));
    }
}

/// Compares the largest records that may be written with those that may be there to read.
async fn compare_sizes(report: &mut DoctorReport, section: &KafkaSection, admin: &Admin, topics: &SectionTopics) {
    let Some(written) = topics.written else {
        let because = format!("[{}] names no `default_producer_topic` that exists", section.name);
        return report.push(Step::skipped(RECORD_SIZE, because));
    };
    let limit = async |topic: Topic| {
        let settings = admin.settings(topic).await.ok().flatten()?;
        settings.get("max.message.bytes")?.value.parse::<u64>().ok()
    };
    let largest = limit(written).await;
    let of_read = match topics.read.filter(|read| *read != written) {
        Some(read) => limit(read).await.map(|size| (read, size)),
        None => None,
    };
    report.push(judgements::record_size(written.name(), largest, of_read));
}

/// Compares the replicas in sync with those that a write needs.
async fn count_replicas(report: &mut DoctorReport, admin: &Admin, topics: &SectionTopics) {
    let both: HashSet<Topic> = topics.read.into_iter().chain(topics.written).collect();
    let mut both: Vec<_> = both.into_iter().collect();
    both.sort_unstable_by_key(|topic| topic.name());
    if both.is_empty() {
        return report.push(Step::skipped(REPLICAS, "the section names no topic that exists"));
    }
    for topic in both {
        let settings = admin.settings(topic).await.ok().flatten().unwrap_or_default();
        let minimum = settings.get("min.insync.replicas").and_then(|setting| setting.value.parse().ok());
        match admin.replicas(topic).await {
            Ok(partitions) => report.push(judgements::replicas(topic.name(), &partitions, minimum)),
            Err(error) => report.push(Step::failed(REPLICAS, &error)),
        }
    }
}

/// Writes a record to a topic of its own and reads it, if that was asked for; a broker shows its clock by that only.
async fn make_round_trip(report: &mut DoctorReport, admin: &Admin, examination: &KafkaExamination) {
    let Some(topic) = examination.probe_topic.as_deref() else {
        return report.push(Step::note(CLOCK, examination.without_probe));
    };
    let place = format!("topic `{topic}` on `{}`", report.section);
    let Some((result, is_removed)) = examination.probes.run(place.clone(), admin.round_trip(topic)).await else { return };
    match result {
        Ok(broker_time) => {
            match broker_time {
                Some((there, here)) => report.push(clock("broker", there, here)),
                None => report.push(Step::skipped(CLOCK, "the broker did not stamp the record")),
            }
            report.push(judgements::round_trip(topic, is_removed));
        }
        Err(error) => {
            report.push(Step::failed(ROUNDTRIP, &error));
            if !is_removed {
                report.push(Step::left_behind(&place));
            }
        }
    }
}
