//! The examination of a MongoDB server.

mod judgements;

use std::time::Duration;

use futures_util::future::join_all;

use crate::connectors::dial;
use crate::connectors::mongo::{CollectionKind, MongoClient, MongoTopology, connect_failure, servers};
use crate::doctor::mongo::judgements::{COLLECTION, INDEXES, MEMBERS, TOPOLOGY, VALIDATOR, VERSION};
use crate::doctor::probes::Probes;
use crate::doctor::report::{
    CLOCK, DestinationName, DoctorReport, LOGIN, NAME, RIGHTS, ROUNDTRIP, Step, TCP, TLS, clock, resolved,
};
use crate::pipeline::{ConnectStep, ConnectorError, FailureKind};
use crate::profile::{MongoSection, SectionKind};

/// The steps in their order.
pub(crate) const STEPS: [&str; 12] =
    [NAME, TCP, TLS, LOGIN, VERSION, TOPOLOGY, MEMBERS, CLOCK, COLLECTION, RIGHTS, VALIDATOR, INDEXES];

/// How long a first contact may take.
const CONTACT_TIMEOUT: Duration = Duration::from_secs(10);

/// What to examine beside the server.
#[derive(Clone, Debug, Default)]
pub(crate) struct MongoExamination {
    /// The database and the collection that documents are written to, if they do not depend on records.
    pub(crate) target: DestinationName<(String, String)>,
    /// The id of a document that is written and removed.
    pub(crate) probe_id: Option<String>,
    pub(crate) probes: Probes,
}

/// Examines the server of `section`.
pub(crate) async fn examine(section: &MongoSection, examination: &MongoExamination) -> DoctorReport {
    let mut report = DoctorReport::new(&section.name, SectionKind::Mongodb);
    if let Some(client) = connect(&mut report, section).await
        && describe_server(&mut report, &client, section).await
    {
        match &examination.target {
            DestinationName::Fixed((database, collection)) => {
                describe_collection(&mut report, &client, database, collection).await;
                if let Some(id) = examination.probe_id.as_deref().filter(|_| !report.has_failed()) {
                    let place = format!("document `{id}` in {database}.{collection} of `{}`", section.name);
                    match examination.probes.run(place.clone(), client.round_trip(database, collection, id)).await {
                        Some((Ok(()), is_removed)) => report.push(judgements::round_trip(database, collection, id, is_removed)),
                        Some((Err(error), is_removed)) => {
                            report.push(Step::failed(ROUNDTRIP, &error));
                            if !is_removed {
                                report.push(Step::left_behind(&place));
                            }
                        }
                        None => {}
                    }
                }
            }
            invalid @ DestinationName::Invalid { .. } => {
                invalid.fault(COLLECTION, &section.name).into_iter().for_each(|step| report.push(step));
            }
            DestinationName::Open => {
                let because = "the section names no collection that is the same for every record";
                for step in [COLLECTION, RIGHTS, VALIDATOR, INDEXES] {
                    report.push(Step::skipped(step, because));
                }
            }
        }
    }
    report.skip_rest(&STEPS);
    if examination.probe_id.is_some() {
        report.skip_rest(&[ROUNDTRIP]);
    }
    report
}

/// Examines name, port, TLS, login and the first command; returns the connection.
async fn connect(report: &mut DoctorReport, section: &MongoSection) -> Option<MongoClient> {
    let servers = match servers(section, CONTACT_TIMEOUT).await {
        Ok(servers) => servers,
        Err(failure) => {
            report.push(Step::failed(NAME, &failure.into()));
            return None;
        }
    };
    let found = join_all(servers.iter().map(|server| dial::resolve(server))).await;
    let names = servers.iter().zip(&found).map(|(server, answer)| match answer {
        Ok(addresses) => Ok(resolved(server, addresses)),
        Err(cause) => Err(connect_failure(section, server, cause.clone())),
    });
    if !report.push_servers(NAME, names.collect()) {
        return None;
    }
    let found = servers.iter().zip(found).filter_map(|(server, answer)| Some((server, answer.ok()?)));
    let opened = join_all(found.map(async |(server, addresses)| match dial::open(&addresses).await {
        Ok(_) => Ok(server.clone()),
        Err(cause) => Err(connect_failure(section, server, cause)),
    }));
    if !report.push_servers(TCP, opened.await) {
        return None;
    }
    let contact = judgements::contact(section);
    match MongoClient::connect(section, 1, CONTACT_TIMEOUT).await {
        Ok(client) => {
            report.push(contact.tls);
            report.push(contact.login);
            Some(client)
        }
        Err(error) => {
            // A set of which the advertised members cannot be reached: a server that is asked alone tells them.
            if is_of_names(&error)
                && let Ok(client) = MongoClient::connect_directly(section, CONTACT_TIMEOUT).await
            {
                report.push(contact.tls);
                report.push(contact.login);
                if describe_server(report, &client, section).await {
                    report.push(Step::failed(MEMBERS, &error));
                }
            } else {
                report.push_failed_contact(&error, &contact, VERSION);
            }
            None
        }
    }
}

/// Returns whether a name or a port is at fault: those of the section were in order.
fn is_of_names(error: &ConnectorError) -> bool {
    let kind = match error {
        ConnectorError::Failed(failure) => &failure.kind,
        _ => return false,
    };
    matches!(kind, FailureKind::Connect(ConnectStep::NameLookup | ConnectStep::Connect))
}

/// Examines version, topology, members and clock; returns whether the rest can be examined.
async fn describe_server(report: &mut DoctorReport, client: &MongoClient, section: &MongoSection) -> bool {
    let facts = match client.server_facts().await {
        Ok(facts) => facts,
        Err(error) => {
            report.push(Step::failed(VERSION, &error));
            return false;
        }
    };
    report.push(judgements::version(facts.version.as_deref()));
    report.push(match &facts.topology {
        Some(topology) => judgements::topology(section, topology),
        None => Step::skipped(TOPOLOGY, judgements::unknown_command("hello")),
    });
    match &facts.topology {
        Some(MongoTopology::ReplicaSet { members, .. }) => {
            let reached = join_all(members.iter().map(async |member| {
                let cause = match dial::resolve(member).await {
                    Ok(addresses) => dial::open(&addresses).await.err(),
                    Err(cause) => Some(cause),
                };
                (member.clone(), cause.map(|cause| connect_failure(section, member, cause)))
            }));
            for step in judgements::members(&reached.await) {
                report.push(step);
            }
        }
        Some(MongoTopology::Standalone | MongoTopology::Router) => {
            report.push(Step::skipped(MEMBERS, "the server is not a member of a replica set"));
        }
        None => report.push(Step::skipped(MEMBERS, judgements::unknown_command("hello"))),
    }
    report.push(match facts.times {
        Some((there, here)) => clock("server", there, here),
        None => Step::skipped(CLOCK, "the server does not tell its time"),
    });
    !report.has_failed()
}

/// Examines the collection: its kind, whether it can be written to, and what makes it reject documents.
async fn describe_collection(report: &mut DoctorReport, client: &MongoClient, database: &str, collection: &str) {
    let facts = match client.collection_facts(database, collection).await {
        Ok(facts) => facts,
        Err(error) => return report.push(Step::failed(COLLECTION, &error)),
    };
    report.push(judgements::collection(&format!("{database}.{collection}"), facts.kind));
    if facts.kind == CollectionKind::View {
        return;
    }
    match client.try_to_write(database, collection).await {
        Ok(()) => report.push(Step::ok(RIGHTS, format!("may write to {database}.{collection}, and a majority acknowledges"))),
        Err(error) => return report.push(Step::failed(RIGHTS, &error)),
    }
    report.push(judgements::validator(&facts));
    report.push(judgements::unique_indexes(&facts));
}
