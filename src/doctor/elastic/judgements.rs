//! What the facts about an Elasticsearch or OpenSearch cluster mean. Pure.

use crate::connectors::elastic::{ClusterRoom, IndexFacts, IndexKind};
use crate::doctor::elastic::watermarks::{DiskState, state};
use crate::doctor::report::{Contact, LOGIN, RIGHTS, ROUNDTRIP, Step, StepStatus, TLS};
use crate::document::MetadataFields;
use crate::number::{counted, grouped};
use crate::pipeline::{ConnectorError, Reason};
use crate::profile::{ElasticLogin, ElasticSection};

pub(super) const VERSION: &str = "version";
pub(super) const NODES: &str = "nodes";
pub(super) const DISK: &str = "disk";
pub(super) const SHARDS: &str = "shards";
pub(super) const INDEX: &str = "index";
pub(super) const BLOCKS: &str = "blocks";
pub(super) const MAPPING: &str = "mapping";
pub(super) const PIPELINE: &str = "pipeline";

/// The block that keeps indices from being created, and lets documents in.
const CREATE_INDEX: &str = "create_index";

/// Returns how the section connects.
pub(super) fn contact(section: &ElasticSection) -> Contact {
    let is_encrypted = section.urls.iter().any(|url| url.starts_with("https:"));
    let tls = match (is_encrypted, section.insecure) {
        (true, false) => Step::ok(TLS, "the certificates of the nodes are valid for their names"),
        (true, true) => {
            let hint = format!("set `ca_file` under [{}] to the file of the server's CA, and remove `insecure`", section.name);
            Step::warn(TLS, "any certificate is accepted: `insecure = true`", hint)
        }
        (false, _) => Step::ok(TLS, format!("not used: `url` under [{}] begins with http://", section.name)),
    };
    let login = match &section.login {
        ElasticLogin::None => Step::ok(LOGIN, "not used: the section has none"),
        ElasticLogin::Basic { username, .. } => Step::ok(LOGIN, format!("`{username}`")),
        ElasticLogin::ApiKey(_) => Step::ok(LOGIN, "by API key"),
        ElasticLogin::Bearer(_) => Step::ok(LOGIN, "by bearer token"),
        ElasticLogin::Aws { service, .. } => Step::ok(LOGIN, format!("signed for the service `{service}` of AWS")),
    };
    Contact { is_encrypted, logs_in: section.login != ElasticLogin::None, tls, login }
}

/// Judges the products and versions of the nodes that answer, by their URLs.
pub(super) fn versions(nodes: &[(String, String)]) -> Step {
    let (_, first) = &nodes[0];
    match nodes.iter().find(|(_, version)| version != first) {
        None => Step::ok(VERSION, first.clone()),
        Some((url, other)) => Step::warn(
            VERSION,
            format!("{} has {first}, and {url} has {other}", nodes[0].0),
            "name nodes of one cluster and one version in `url`",
        ),
    }
}

/// Judges the nodes: loads need one that answers, and leave out the others.
pub(super) fn nodes(good: &[&str], bad: &[(String, ConnectorError)]) -> Vec<Step> {
    let mut steps = vec![Step::ok(NODES, format!("{} answered", good.join(", ")))];
    for (_, error) in bad {
        steps.push(Step { status: StepStatus::Warn, ..Step::failed(NODES, error) });
    }
    steps
}

pub(super) fn disks(room: &ClusterRoom) -> Step {
    let worst = room.disks.iter().max_by_key(|disk| state(disk.total, disk.available, &room.watermarks));
    let Some(disk) = worst else { return Step::skipped(DISK, "the user may not ask for the disks of the nodes") };
    let full = 100 - disk.available.saturating_mul(100) / disk.total.max(1);
    let found = format!("the disk of {} is {full} % full", disk.node);
    let free = "free disk space, or add nodes";
    match state(disk.total, disk.available, &room.watermarks) {
        DiskState::Fine => Step::ok(DISK, format!("{found}, below the watermarks")),
        DiskState::AboveLow => Step::warn(DISK, format!("{found}, above the low watermark: it gets no new indices"), free),
        DiskState::AboveHigh => Step::warn(DISK, format!("{found}, above the high watermark"), free),
        DiskState::AboveFloodStage => {
            Step::fail(DISK, format!("{found}, above the flood stage: its indices are blocked for writes"), free)
        }
    }
}

/// Judges the shards and the most that there may be; returns also whether another index can be created.
pub(super) fn shards(shards: Option<(u64, u64)>) -> (Step, bool) {
    let Some((shards, most)) = shards else {
        return (Step::skipped(SHARDS, "the user may not ask for the settings of the cluster"), true);
    };
    let found = format!("{} of at most {}", counted(shards, "shard"), grouped(most));
    let hint = "delete old indices, or raise `cluster.max_shards_per_node`";
    // An index has a shard and a replica at least.
    if shards + 2 > most {
        return (Step::warn(SHARDS, format!("{found}: no index can be created"), hint), false);
    }
    let is_close = shards.saturating_mul(10) >= most.saturating_mul(9);
    (if is_close { Step::warn(SHARDS, found, hint) } else { Step::ok(SHARDS, found) }, true)
}

pub(super) fn index(name: &str, kind: &IndexKind, facts: &IndexFacts, has_room: bool) -> Step {
    match kind {
        IndexKind::Missing if !has_room => Step::fail(
            INDEX,
            format!("`{name}` does not exist, and the cluster has reached its shard limit"),
            "delete old indices, or raise `cluster.max_shards_per_node`",
        ),
        IndexKind::Missing => Step::ok(INDEX, format!("`{name}` does not exist: the load creates it")),
        IndexKind::Index => Step::ok(INDEX, format!("`{name}` is an index, or the alias of one")),
        IndexKind::Indices => match facts.ambiguous {
            Some(count) => Step::fail(
                INDEX,
                format!("`{name}` is an alias of {count} indices, none of which is the one to write to"),
                "set `is_write_index` of one of them, or name one index in `default_index`",
            ),
            None => Step::ok(INDEX, format!("`{name}` is an alias with an index to write to")),
        },
        IndexKind::DataStream => Step::warn(
            INDEX,
            format!("`{name}` is a data stream: it takes new documents only, and repeated ones after a rollover"),
            "load it as a data stream, or name an index in `default_index`",
        ),
        IndexKind::Unknown => Step::skipped(INDEX, "the user may not see the index"),
    }
}

/// Returns the step of an index that is missing while the cluster is blocked.
pub(super) fn uncreatable(name: &str) -> Step {
    Step::warn(INDEX, format!("`{name}` does not exist, and cannot be created now"), "see the step `blocks`")
}

/// Returns the privileges that a load into such an index needs.
pub(super) fn privileges(kind: &IndexKind) -> &'static [&'static str] {
    match kind {
        IndexKind::Missing => &["create_doc", "auto_configure"],
        _ => &["create_doc", "index", "read"],
    }
}

/// Judges the user's privileges, if the cluster tells them, and the answer to a write that was tried, if one was.
pub(super) fn rights(
    name: &str,
    privileges: Option<&[(String, bool)]>,
    was_tried: bool,
    refusal: Option<&(Reason, bool)>,
    is_blocked: bool,
) -> Step {
    let lacking: Vec<&str> =
        privileges.unwrap_or_default().iter().filter(|(_, has)| !has).map(|(name, _)| name.as_str()).collect();
    let may_create = privileges.is_some_and(|all| all.iter().any(|(privilege, has)| privilege == "create_doc" && *has));
    match refusal {
        // A user that may only create documents is refused the write that was tried.
        Some((reason, false)) if !(may_create && reason.code() == "security_exception") => {
            let hint = reason.hinted().map_or_else(|| format!("see the settings of `{name}`"), str::to_owned);
            return Step::fail(RIGHTS, reason.to_string(), hint);
        }
        Some((reason, true)) if is_blocked => {
            return Step::warn(RIGHTS, format!("not accepted for now: {reason}"), "see the step `blocks`");
        }
        Some((reason, true)) if reason.is_overload() => {
            return Step::warn(RIGHTS, format!("not accepted for now: {reason}"), "a load waits for it, and tries again");
        }
        Some((reason, true)) => {
            let hint = format!("see the health of the cluster and the settings of `{name}`: a load waits until it can write");
            return Step::fail(RIGHTS, format!("not accepted for now: {reason}"), hint);
        }
        _ => {}
    }
    match (privileges, lacking.as_slice()) {
        (Some(_), []) => Step::ok(RIGHTS, format!("may write to `{name}`")),
        (Some(_), lacking) => {
            let finding = format!("the user or key lacks the right {} on `{name}`", lacking.join(" and "));
            let hint = format!("grant it the index privileges {} for `{name}`", lacking.join(", "));
            // Only writes over documents need the others.
            if may_create && !lacking.contains(&"auto_configure") {
                Step::warn(RIGHTS, format!("{finding}: it can only add documents"), hint)
            } else {
                Step::fail(RIGHTS, finding, hint)
            }
        }
        (None, _) if was_tried => Step::ok(RIGHTS, format!("may write to `{name}`, by a write that changes nothing")),
        (None, _) => Step::skipped(RIGHTS, "the cluster does not tell what the user may do"),
    }
}

/// What keeps documents out of an index, or an index out of a cluster.
pub(super) struct Blocks<'a> {
    /// Those of the cluster; absent if the user may not ask.
    pub(super) of_cluster: Option<&'a [String]>,
    /// Whether the index has to be created.
    pub(super) is_missing: bool,
    /// Whether a write was tried.
    pub(super) was_tried: bool,
    /// Why it was refused, and whether that may pass.
    pub(super) refusal: Option<&'a (Reason, bool)>,
}

/// Returns the failure of a cluster that is blocked; `creates` says whether an index has to be created.
pub(super) fn cluster_block(blocks: &[String], creates: bool) -> Option<Step> {
    let block = blocks.iter().find(|block| creates || *block != CREATE_INDEX)?;
    let setting = format!("cluster.blocks.{block}");
    let what = if block == CREATE_INDEX { "new indices" } else { "writes" };
    // OpenSearch sets it when its disks are full.
    let free = if block == CREATE_INDEX { "free disk space, or " } else { "" };
    let hint = format!("{free}set `{setting}` in the settings of the cluster to null");
    Some(Step::fail(BLOCKS, format!("the cluster is blocked for {what}: `{setting}`"), hint))
}

/// Judges the blocks of an index and of its cluster, and the answer to a write that was tried: it shows also those that the user may
/// not ask for.
pub(super) fn blocks(name: &str, facts: &IndexFacts, found: &Blocks<'_>) -> Step {
    let open = || format!("open `{name}`: POST {name}/_open");
    if let Some(step) = found.of_cluster.and_then(|blocks| cluster_block(blocks, found.is_missing)) {
        return step;
    }
    if facts.is_closed {
        return Step::fail(BLOCKS, format!("`{name}` is closed"), open());
    }
    if let Some(block) = facts.blocks.first() {
        let finding = format!("`{name}` is blocked for writes: `index.blocks.{block}`");
        return match block.as_str() {
            "read_only_allow_delete" => Step::fail(BLOCKS, finding, "free disk space: the server removes the block then"),
            block => Step::fail(BLOCKS, finding, format!("set `index.blocks.{block}` of the index to false")),
        };
    }
    match found.refusal.map(|(reason, _)| (reason.code(), reason)) {
        Some(("index_closed_exception", _)) => Step::fail(BLOCKS, format!("`{name}` is closed"), open()),
        Some(("cluster_block_exception", reason)) => {
            let hint = format!("set the block to false: `index.blocks` of `{name}`, or `cluster.blocks` of the cluster");
            Step::fail(BLOCKS, reason.to_string(), hint)
        }
        None if found.was_tried => Step::ok(BLOCKS, "none"),
        _ if found.of_cluster.is_none() => Step::skipped(BLOCKS, "the user may not ask for the settings of the cluster"),
        _ => Step::ok(BLOCKS, "none"),
    }
}

pub(super) fn mapping(name: &str, kind: &IndexKind, facts: &IndexFacts) -> Step {
    match (kind, facts.dynamic.as_deref()) {
        (IndexKind::Missing, _) => Step::skipped(MAPPING, format!("`{name}` does not exist")),
        (IndexKind::Unknown, _) => Step::skipped(MAPPING, "the user may not see the index"),
        (_, None) => Step::ok(MAPPING, "fields that are new are added"),
        (_, Some("strict")) => {
            let metadata = MetadataFields::default();
            let wanted = metadata
                .names()
                .map(|names| [&names.key, &names.topic, &names.partition, &names.offset, &names.timestamp, &names.processed_at]);
            let wanted = wanted.into_iter().flatten();
            let missing: Vec<&str> = wanted.filter(|field| !facts.fields.contains(field)).map(String::as_str).collect();
            if missing.is_empty() {
                let hint = "add the fields of the records to the mapping, or set `dynamic` to true";
                return Step::warn(MAPPING, "strict: records with other fields are bad records", hint);
            }
            Step::fail(
                MAPPING,
                format!("strict, and without the metadata fields {}: every record is a bad record", missing.join(", ")),
                "add them to the mapping, set `dynamic` to true, or load without metadata",
            )
        }
        (_, Some(dynamic)) => Step::warn(
            MAPPING,
            format!("`dynamic` is {dynamic}: other fields are stored, and not indexed as usual"),
            "add the fields that are searched to the mapping",
        ),
    }
}

/// Judges an ingest pipeline of an index, and whether it exists, if that is known.
pub(super) fn pipeline(index: &str, name: &str, exists: Option<bool>) -> Step {
    match exists {
        Some(true) => Step::warn(
            PIPELINE,
            format!("documents go through `{name}`, which may change or drop them"),
            format!("see `_ingest/pipeline/{name}`"),
        ),
        Some(false) => Step::fail(
            PIPELINE,
            format!("`{index}` sends documents through `{name}`, which does not exist"),
            format!("create the pipeline, or correct `default_pipeline` and `final_pipeline` of `{index}`"),
        ),
        None => Step::skipped(PIPELINE, format!("the user may not ask for `{name}`")),
    }
}

pub(super) fn round_trip(index: &str, id: &str, is_removed: bool) -> Step {
    let done = format!("wrote a document to `{index}` and read it");
    if is_removed {
        Step::ok(ROUNDTRIP, format!("{done}; it is removed again"))
    } else {
        Step::warn(ROUNDTRIP, format!("{done}; it could not be removed"), format!("remove the document `{id}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Failure;

    fn told(privileges: &[(&str, bool)]) -> Vec<(String, bool)> {
        privileges.iter().map(|(name, has)| ((*name).to_owned(), *has)).collect()
    }

    #[test]
    fn a_missing_privilege_fails_if_every_load_needs_it() {
        let of = |privileges: &[(&str, bool)]| rights("i", Some(&told(privileges)), false, None, false).status;
        assert_eq!(of(&[("create_doc", true), ("index", true), ("read", true)]), StepStatus::Ok);
        assert_eq!(of(&[("create_doc", true), ("index", false), ("read", true)]), StepStatus::Warn);
        assert_eq!(of(&[("create_doc", false), ("index", false), ("read", true)]), StepStatus::Fail);
        assert_eq!(of(&[("create_doc", true), ("auto_configure", false)]), StepStatus::Fail);
        assert_eq!(rights("i", None, true, None, false).status, StepStatus::Ok);
        assert_eq!(rights("i", None, false, None, false).status, StepStatus::Skipped);
        let denied = (Reason::new("security_exception", "the user may not write"), false);
        assert_eq!(rights("i", None, true, Some(&denied), false).status, StepStatus::Fail);
        let only_creates = told(&[("create_doc", true), ("index", false), ("read", true)]);
        assert_eq!(rights("i", Some(&only_creates), true, Some(&denied), false).status, StepStatus::Warn);
    }

    /// Judges an index that exists in a cluster with these blocks, to which a write was tried.
    fn tried(facts: &IndexFacts, of_cluster: Option<&[String]>, refusal: Option<&(Reason, bool)>) -> Step {
        blocks("i", facts, &Blocks { of_cluster, is_missing: false, was_tried: true, refusal })
    }

    #[test]
    fn a_block_names_the_setting_to_change() {
        let facts = |block: &str| IndexFacts { blocks: vec![block.to_owned()], ..IndexFacts::default() };
        assert_eq!(tried(&IndexFacts::default(), Some(&[]), None), Step::ok(BLOCKS, "none"));
        let step = tried(&facts("write"), Some(&[]), None);
        assert_eq!(
            step,
            Step::fail(
                BLOCKS,
                "`i` is blocked for writes: `index.blocks.write`",
                "set `index.blocks.write` of the index to false"
            )
        );
        let step = tried(&facts("read_only_allow_delete"), Some(&[]), None);
        assert_eq!(step.hint.as_deref(), Some("free disk space: the server removes the block then"));
        let closed = IndexFacts { is_closed: true, ..IndexFacts::default() };
        assert_eq!(tried(&closed, Some(&[]), None), Step::fail(BLOCKS, "`i` is closed", "open `i`: POST i/_open"));
    }

    #[test]
    fn a_blocked_cluster_fails_for_indices_that_exist_and_for_those_to_create() {
        let set = |block: &str| vec![block.to_owned()];
        let missing = |of_cluster: Option<&[String]>| {
            blocks("i", &IndexFacts::default(), &Blocks { of_cluster, is_missing: true, was_tried: false, refusal: None })
        };
        for block in ["read_only", "read_only_allow_delete"] {
            let finding = format!("the cluster is blocked for writes: `cluster.blocks.{block}`");
            let hint = format!("set `cluster.blocks.{block}` in the settings of the cluster to null");
            let expected = Step::fail(BLOCKS, finding, hint);
            assert_eq!(missing(Some(&set(block))), expected);
            assert_eq!(tried(&IndexFacts::default(), Some(&set(block)), None), expected);
        }
        let step = missing(Some(&set("create_index")));
        assert_eq!(step.finding, "the cluster is blocked for new indices: `cluster.blocks.create_index`");
        assert_eq!(tried(&IndexFacts::default(), Some(&set("create_index")), None).status, StepStatus::Ok);
        assert_eq!(missing(None).status, StepStatus::Skipped, "it may be blocked");
        assert_eq!(missing(Some(&[])).status, StepStatus::Ok);
    }

    #[test]
    fn a_write_that_was_refused_shows_the_blocks_that_may_not_be_asked_for() {
        let refused = |code: &str| (Reason::new(code.to_owned(), "no"), true);
        for (code, status) in [
            ("cluster_block_exception", StepStatus::Fail),
            ("index_closed_exception", StepStatus::Fail),
            ("unavailable_shards_exception", StepStatus::Skipped),
        ] {
            assert_eq!(tried(&IndexFacts::default(), None, Some(&refused(code))).status, status, "{code}");
        }
        assert_eq!(tried(&IndexFacts::default(), None, None).status, StepStatus::Ok, "it was written to");
    }

    #[test]
    fn a_write_that_is_not_accepted_is_explained_by_a_step_or_fails() {
        let of = |code: &str, is_blocked| {
            let refusal = (Reason::new(code.to_owned(), "no"), true);
            rights("i", None, true, Some(&refusal), is_blocked)
        };
        let step = of("cluster_block_exception", true);
        assert_eq!((step.status, step.hint.as_deref()), (StepStatus::Warn, Some("see the step `blocks`")));
        assert_eq!(of("unavailable_shards_exception", false).status, StepStatus::Fail);
        let busy = (Reason::new("http_429", "the server is overloaded").overload(), true);
        assert_eq!(rights("i", None, true, Some(&busy), false).status, StepStatus::Warn);
    }

    #[test]
    fn a_strict_mapping_must_have_the_metadata_fields() {
        let facts = |dynamic: Option<&str>, fields: &[&str]| IndexFacts {
            dynamic: dynamic.map(str::to_owned),
            fields: fields.iter().map(|field| (*field).to_owned()).collect(),
            ..IndexFacts::default()
        };
        let of = |dynamic: Option<&str>, fields: &[&str]| mapping("i", &IndexKind::Index, &facts(dynamic, fields));
        assert_eq!(of(None, &[]).status, StepStatus::Ok);
        assert_eq!(of(Some("false"), &[]).status, StepStatus::Warn);
        let step = of(Some("strict"), &["_kafka_key", "_kafka_partition", "_kafka_offset", "_kafka_timestamp", "_processed_at"]);
        assert_eq!(step.finding, "strict, and without the metadata fields _kafka_topic: every record is a bad record");
        assert_eq!(mapping("i", &IndexKind::Missing, &facts(None, &[])).status, StepStatus::Skipped);
    }

    #[test]
    fn the_limit_of_shards_keeps_an_index_from_being_created() {
        assert_eq!(shards(Some((5, 1_000))), (Step::ok(SHARDS, "5 shards of at most 1,000"), true));
        let (step, has_room) = shards(Some((950, 1_000)));
        assert_eq!((step.status, has_room), (StepStatus::Warn, true));
        let (step, has_room) = shards(Some((999, 1_000)));
        assert_eq!((step.status, has_room), (StepStatus::Warn, false));
        assert_eq!(index("i", &IndexKind::Missing, &IndexFacts::default(), false).status, StepStatus::Fail);
        assert_eq!(index("i", &IndexKind::Missing, &IndexFacts::default(), true).status, StepStatus::Ok);
        assert_eq!(index("i", &IndexKind::Index, &IndexFacts::default(), false).status, StepStatus::Ok);
    }

    #[test]
    fn an_alias_needs_one_index_to_write_to() {
        let facts = IndexFacts { ambiguous: Some(2), ..IndexFacts::default() };
        assert_eq!(index("a", &IndexKind::Indices, &facts, true).status, StepStatus::Fail);
        assert_eq!(index("a", &IndexKind::Indices, &IndexFacts::default(), true).status, StepStatus::Ok);
        assert_eq!(index("a", &IndexKind::DataStream, &IndexFacts::default(), true).status, StepStatus::Warn);
        assert_eq!(pipeline("i", "p", Some(false)).status, StepStatus::Fail);
    }

    #[test]
    fn a_node_that_does_not_answer_is_left_out() {
        let bad = Failure::new("x").because("http://b:9200: connecting: connection refused").hint("start it");
        let steps = nodes(&["http://a:9200"], &[("http://b:9200".to_owned(), bad.into())]);
        assert_eq!(steps.iter().map(|step| step.status).collect::<Vec<_>>(), [StepStatus::Ok, StepStatus::Warn]);
        let same = |url: &str, version: &str| (url.to_owned(), version.to_owned());
        assert_eq!(versions(&[same("a", "OpenSearch 2"), same("b", "OpenSearch 2")]), Step::ok(VERSION, "OpenSearch 2"));
        assert_eq!(versions(&[same("a", "OpenSearch 2"), same("b", "OpenSearch 3")]).status, StepStatus::Warn);
    }
}
