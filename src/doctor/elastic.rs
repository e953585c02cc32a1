//! The examination of an Elasticsearch or OpenSearch cluster.

mod judgements;
mod watermarks;

use std::time::Duration;

use futures_util::future::join_all;

use crate::connectors::dial;
use crate::connectors::elastic::{ElasticClient, IndexKind, connect_failure, servers};
use crate::doctor::elastic::judgements::{BLOCKS, Blocks, DISK, INDEX, MAPPING, NODES, PIPELINE, SHARDS, VERSION};
use crate::doctor::probes::Probes;
use crate::doctor::report::{
    CLOCK, DestinationName, DoctorReport, LOGIN, NAME, RIGHTS, ROUNDTRIP, Step, StepStatus, TCP, TLS, clock, resolved,
};
use crate::pipeline::ConnectorError;
use crate::profile::{ElasticSection, SectionKind};

/// The steps in their order.
pub(crate) const STEPS: [&str; 14] =
    [NAME, TCP, TLS, LOGIN, VERSION, NODES, CLOCK, DISK, SHARDS, INDEX, RIGHTS, BLOCKS, MAPPING, PIPELINE];

/// How long a first contact may take.
const CONTACT_TIMEOUT: Duration = Duration::from_secs(10);

/// What to examine beside the cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct ElasticExamination {
    /// The index, alias or data stream that documents are written to, if it does not depend on records.
    pub(crate) index: DestinationName<String>,
    /// The id of a document that is written and removed.
    pub(crate) probe_id: Option<String>,
    pub(crate) probes: Probes,
}

/// Examines the cluster of `section`.
pub(crate) async fn examine(section: &ElasticSection, kind: SectionKind, examination: &ElasticExamination) -> DoctorReport {
    let mut report = DoctorReport::new(&section.name, kind);
    if let Some(client) = connect(&mut report, section).await {
        let room = measure_room(&mut report, &client).await;
        match &examination.index {
            DestinationName::Fixed(index) if !report.has_failed() => {
                describe_index(&mut report, &client, index, room, examination).await;
            }
            DestinationName::Fixed(_) => {}
            invalid @ DestinationName::Invalid { .. } => {
                invalid.fault(INDEX, &section.name).into_iter().for_each(|step| report.push(step));
            }
            DestinationName::Open => {
                // Any load writes to some index.
                let block = room.blocks.as_deref().and_then(|blocks| judgements::cluster_block(blocks, false));
                let because = "the section names no index that is the same for every record";
                for step in [INDEX, RIGHTS, BLOCKS, MAPPING, PIPELINE] {
                    let block = block.clone().filter(|block| block.name == step);
                    report.push(block.unwrap_or_else(|| Step::skipped(step, because)));
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

/// Examines each node: name, port, TLS, login and the first request; returns the connection.
async fn connect(report: &mut DoctorReport, section: &ElasticSection) -> Option<ElasticClient> {
    let nodes = servers(section);
    let found = join_all(nodes.iter().map(|(server, _)| dial::resolve(server))).await;
    let names = nodes.iter().zip(&found).map(|((server, _), answer)| match answer {
        Ok(addresses) => Ok(resolved(server, addresses)),
        Err(cause) => Err(connect_failure(section, server, cause.clone())),
    });
    if !report.push_servers(NAME, names.collect()) {
        return None;
    }
    let found = nodes.iter().zip(found).filter_map(|(node, answer)| Some((node, answer.ok()?)));
    let opened = join_all(found.map(async |((server, url), addresses)| match dial::open(&addresses).await {
        Ok(_) => Ok((server.clone(), url.clone())),
        Err(cause) => Err(connect_failure(section, server, cause)),
    }));
    let opened = opened.await;
    let urls: Vec<String> = opened.iter().flatten().map(|(_, url)| url.clone()).collect();
    if !report.push_servers(TCP, opened.into_iter().map(|opened| opened.map(|(server, _)| server)).collect()) {
        return None;
    }
    let contact = judgements::contact(section);
    // One node that answers hides the others: each is asked alone.
    let answers = join_all(urls.into_iter().map(async |url| {
        let alone = ElasticSection { urls: vec![url.clone()], ..section.clone() };
        (url, ElasticClient::connect(&alone, CONTACT_TIMEOUT).await)
    }));
    let (good, bad): (Vec<_>, Vec<_>) = answers.await.into_iter().partition(|(_, answer)| answer.is_ok());
    let good: Vec<(String, ElasticClient)> = good.into_iter().filter_map(|(url, answer)| Some((url, answer.ok()?))).collect();
    let bad: Vec<(String, ConnectorError)> = bad.into_iter().filter_map(|(url, answer)| Some((url, answer.err()?))).collect();
    if good.is_empty() {
        let (_, error) = bad.first()?;
        report.push_failed_contact(error, &contact, VERSION);
        return None;
    }
    report.push(contact.tls);
    report.push(contact.login);
    report.push(judgements::versions(
        &good.iter().map(|(url, client)| (url.clone(), client.server().to_string())).collect::<Vec<_>>(),
    ));
    for step in judgements::nodes(&good.iter().map(|(url, _)| url.as_str()).collect::<Vec<_>>(), &bad) {
        report.push(step);
    }
    good.into_iter().next().map(|(_, client)| client)
}

/// What decides whether an index can be created or written to, beside the index.
struct ClusterState {
    /// Whether there is room for another index.
    has_room: bool,
    /// The blocks of the cluster; absent if the user may not ask.
    blocks: Option<Vec<String>>,
}

/// Examines clock, disks and shards.
async fn measure_room(report: &mut DoctorReport, client: &ElasticClient) -> ClusterState {
    match client.room().await {
        Ok(room) => {
            report.push(match room.times {
                Some((there, here)) => clock("server", there, here),
                None => Step::skipped(CLOCK, "the user may not ask for the statistics of the nodes"),
            });
            report.push(judgements::disks(&room));
            let (step, has_room) = judgements::shards(room.shards);
            report.push(step);
            ClusterState { has_room, blocks: room.blocks }
        }
        Err(error) => {
            report.push(Step::failed(CLOCK, &error));
            ClusterState { has_room: true, blocks: None }
        }
    }
}

/// Examines the index, alias or data stream: its kind, the user's rights, its blocks, its mapping and its pipelines.
async fn describe_index(
    report: &mut DoctorReport,
    client: &ElasticClient,
    index: &str,
    cluster: ClusterState,
    examination: &ElasticExamination,
) {
    let (kind, facts) = match client.index_facts(index).await {
        Ok(found) => found,
        Err(error) => return report.push(Step::failed(INDEX, &error)),
    };
    let is_missing = kind == IndexKind::Missing;
    let is_uncreatable =
        is_missing && cluster.blocks.as_deref().is_some_and(|blocks| judgements::cluster_block(blocks, true).is_some());
    report.push(if is_uncreatable {
        judgements::uncreatable(index)
    } else {
        judgements::index(index, &kind, &facts, cluster.has_room)
    });
    let privileges = match client.privileges(index, judgements::privileges(&kind)).await {
        Ok(privileges) => privileges,
        Err(error) => return report.push(Step::failed(RIGHTS, &error)),
    };
    let is_there = kind == IndexKind::Index || kind == IndexKind::Indices && facts.ambiguous.is_none();
    // A write to a name that is free would create it.
    let refusal = if is_there { client.try_to_write(index).await } else { Ok(None) };
    let refusal = match refusal {
        Ok(refusal) => refusal,
        Err(error) => return report.push(Step::failed(RIGHTS, &error)),
    };
    let refusal = refusal.as_ref();
    let found = Blocks { of_cluster: cluster.blocks.as_deref(), is_missing, was_tried: is_there, refusal };
    let blocks = judgements::blocks(index, &facts, &found);
    let is_blocked = blocks.status == StepStatus::Fail;
    report.push(judgements::rights(index, privileges.as_deref(), is_there, refusal, is_blocked));
    report.push(blocks);
    report.push(judgements::mapping(index, &kind, &facts));
    if facts.pipelines.is_empty() {
        report.push(Step::ok(PIPELINE, "none"));
    }
    for pipeline in &facts.pipelines {
        match client.has_pipeline(pipeline).await {
            Ok(has) => report.push(judgements::pipeline(index, pipeline, has)),
            Err(error) => report.push(Step::failed(PIPELINE, &error)),
        }
    }
    match examination.probe_id.as_deref() {
        Some(id) if is_there && !report.has_failed() => {
            let place = format!("document `{id}` in `{index}` of `{}`", report.section);
            match examination.probes.run(place.clone(), client.round_trip(index, id)).await {
                Some((Ok(()), is_removed)) => report.push(judgements::round_trip(index, id, is_removed)),
                Some((Err(error), is_removed)) => {
                    report.push(Step::failed(ROUNDTRIP, &error));
                    if !is_removed {
                        report.push(Step::left_behind(&place));
                    }
                }
                None => {}
            }
        }
        Some(_) if !report.has_failed() => {
            report.push(Step::skipped(ROUNDTRIP, "only from an index that exists can a document be removed again"));
        }
        _ => {}
    }
}
