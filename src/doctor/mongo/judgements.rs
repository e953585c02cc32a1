//! What the facts about a MongoDB server mean. Pure.

use crate::connectors::mongo::{CollectionFacts, CollectionKind, MongoTopology, Withheld, security};
use crate::doctor::report::{Contact, LOGIN, ROUNDTRIP, Step, StepStatus, TLS};
use crate::pipeline::Failure;
use crate::profile::MongoSection;

pub(super) const VERSION: &str = "version";
pub(super) const TOPOLOGY: &str = "topology";
pub(super) const MEMBERS: &str = "members";
pub(super) const COLLECTION: &str = "collection";
pub(super) const VALIDATOR: &str = "validator";
pub(super) const INDEXES: &str = "indexes";

/// Returns how the section connects.
pub(super) fn contact(section: &MongoSection) -> Contact {
    let (is_encrypted, logs_in) = security(section);
    let key = if section.uri.is_some() { "uri" } else { "tls" };
    let tls = if is_encrypted {
        Step::ok(TLS, "the certificate of the server is valid for its name")
    } else {
        Step::ok(TLS, format!("not used: `{key}` under [{}] does not ask for it", section.name))
    };
    let login = match (&section.username, logs_in) {
        (Some(user), _) => Step::ok(LOGIN, format!("`{user}`")),
        (None, true) => Step::ok(LOGIN, "the user of `uri`"),
        (None, false) => Step::ok(LOGIN, "not used: the section has none"),
    };
    Contact { is_encrypted, logs_in, tls, login }
}

/// Returns why a step of this command is skipped: the loads do not need it.
pub(super) fn unknown_command(command: &str) -> String {
    format!("the server does not know the command `{command}`")
}

/// Returns why `what`, which the command lists, is not known.
fn withheld(why: Withheld, what: &str, command: &str) -> String {
    match why {
        Withheld::Denied => format!("the user may not list {what}"),
        Withheld::UnknownCommand => unknown_command(command),
    }
}

pub(super) fn version(version: Option<&str>) -> Step {
    Step::ok(VERSION, version.map_or_else(|| "the server does not tell its version".to_owned(), str::to_owned))
}

pub(super) fn topology(section: &MongoSection, topology: &MongoTopology) -> Step {
    match topology {
        MongoTopology::Router => Step::ok(TOPOLOGY, "the router of a sharded cluster"),
        MongoTopology::ReplicaSet { name, members, has_primary: true } => {
            Step::ok(TOPOLOGY, format!("replica set `{name}` of {} with a primary", members.join(", ")))
        }
        MongoTopology::ReplicaSet { name, .. } => {
            Step::fail(TOPOLOGY, format!("replica set `{name}` has no primary"), "see rs.status() on the server")
        }
        MongoTopology::Standalone => Step::warn(
            TOPOLOGY,
            "a standalone server: no retryable writes, and a majority of one",
            format!("make it a replica set, or name the whole set in `uri` under [{}]", section.name),
        ),
    }
}

/// Returns the steps of the members that a replica set advertises, each with the failure to reach it.
pub(super) fn members(reached: &[(String, Option<Failure>)]) -> Vec<Step> {
    let mut steps = Vec::new();
    for (member, failure) in reached {
        let Some(failure) = failure else { continue };
        let why = failure.causes.join(": ");
        let why = why.strip_prefix(&format!("{member}: ")).unwrap_or(&why);
        let (finding, hint) = if why.ends_with("does not resolve") {
            (
                format!("the set advertises {member}, and that name does not resolve here"),
                "set its `host` in rs.conf(), or run sdl where it resolves",
            )
        } else {
            (
                format!("the set advertises {member}, and that address cannot be reached from here: {why}"),
                "start the member, or set its `host` in rs.conf()",
            )
        };
        steps.push(Step::warn(MEMBERS, finding, hint));
    }
    // Without a majority there is no primary that writes reach.
    if 2 * steps.len() > reached.len() {
        for step in &mut steps {
            step.status = StepStatus::Fail;
        }
    }
    if steps.is_empty() {
        let members: Vec<&str> = reached.iter().map(|(member, _)| member.as_str()).collect();
        steps.push(Step::ok(MEMBERS, format!("reached {}", members.join(", "))));
    }
    steps
}

pub(super) fn collection(name: &str, kind: CollectionKind) -> Step {
    match kind {
        CollectionKind::Collection => Step::ok(COLLECTION, format!("{name} exists")),
        CollectionKind::Missing => Step::ok(COLLECTION, format!("{name} does not exist: the first document creates it")),
        CollectionKind::Withheld(why) => Step::skipped(COLLECTION, withheld(why, "collections", "listCollections")),
        CollectionKind::View => {
            Step::fail(COLLECTION, format!("{name} is a view"), "set `default_collection` to a collection that is not a view")
        }
        CollectionKind::TimeSeries => Step::warn(
            COLLECTION,
            format!("{name} is a time series, whose ids are not unique: a record that is delivered again is stored again"),
            "set `default_collection` to an ordinary collection",
        ),
        CollectionKind::Capped => Step::warn(
            COLLECTION,
            format!("{name} is capped: it drops its oldest documents, and a load of them again stores them again"),
            "set `default_collection` to a collection that is not capped, if all documents are to stay",
        ),
    }
}

pub(super) fn validator(facts: &CollectionFacts) -> Step {
    match facts {
        CollectionFacts { kind: CollectionKind::Withheld(why), .. } => {
            Step::skipped(VALIDATOR, withheld(*why, "collections", "listCollections"))
        }
        CollectionFacts { has_validator: true, .. } => Step::warn(
            VALIDATOR,
            "the collection has a validator: documents that it rejects are bad records",
            "see `validator` of the collection; shaping can make documents fit",
        ),
        _ => Step::ok(VALIDATOR, "none"),
    }
}

pub(super) fn unique_indexes(facts: &CollectionFacts) -> Step {
    match facts.unique_indexes.as_deref() {
        Err(why) => Step::skipped(INDEXES, withheld(*why, "indexes", "listIndexes")),
        Ok([]) => Step::ok(INDEXES, "none is unique, but that of the ids"),
        Ok(unique) => Step::warn(
            INDEXES,
            format!("unique over `{}`: a document with a value that is taken is a bad record", unique.join("`, `")),
            "drop the index if its values may repeat",
        ),
    }
}

pub(super) fn round_trip(database: &str, collection: &str, id: &str, is_removed: bool) -> Step {
    let done = format!("wrote a document to {database}.{collection} and read it");
    if is_removed {
        Step::ok(ROUNDTRIP, format!("{done}; it is removed again"))
    } else {
        Step::warn(ROUNDTRIP, format!("{done}; it could not be removed"), format!("remove the document with `_id` {id}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Secret;

    fn section() -> MongoSection {
        MongoSection { name: "mongodb".to_owned(), host: Some("db".to_owned()), port: 27017, ..MongoSection::default() }
    }

    #[test]
    fn a_section_says_how_it_connects() {
        let contact_of = |section: &MongoSection| {
            let Contact { is_encrypted, logs_in, login, .. } = contact(section);
            (is_encrypted, logs_in, login.finding)
        };
        assert_eq!(contact_of(&section()), (false, false, "not used: the section has none".to_owned()));
        let secured = MongoSection { tls: true, username: Some("loader".to_owned()), ..section() };
        assert_eq!(contact_of(&secured), (true, true, "`loader`".to_owned()));
        let uri = MongoSection { uri: Some(Secret::new("mongodb://u:canary@db/?tls=true".to_owned())), host: None, ..section() };
        assert_eq!(contact_of(&uri), (true, true, "the user of `uri`".to_owned()));
    }

    #[test]
    fn a_standalone_server_has_no_retryable_writes() {
        assert_eq!(topology(&section(), &MongoTopology::Standalone).status, StepStatus::Warn);
        let set = |has_primary| MongoTopology::ReplicaSet { name: "rs".to_owned(), members: vec!["a:1".to_owned()], has_primary };
        assert_eq!(topology(&section(), &set(true)).status, StepStatus::Ok);
        assert_eq!(topology(&section(), &set(false)).status, StepStatus::Fail);
    }

    #[test]
    fn a_majority_of_the_advertised_members_must_be_reached() {
        let failed =
            |member: &str| Failure::new("x").because(format!("{member}: looking up the name: the name does not resolve"));
        let reached = |away: usize| {
            let members = ["a:1", "b:1", "c:1"];
            let reached: Vec<_> =
                (0..).zip(members).map(|(at, member)| (member.to_owned(), (at < away).then(|| failed(member)))).collect();
            super::members(&reached)
        };
        assert_eq!(reached(0), [Step::ok(MEMBERS, "reached a:1, b:1, c:1")]);
        assert_eq!(reached(1)[0].status, StepStatus::Warn);
        assert_eq!(reached(1)[0].finding, "the set advertises a:1, and that name does not resolve here");
        assert_eq!(reached(2).iter().map(|step| step.status).collect::<Vec<_>>(), [StepStatus::Fail; 2]);
    }

    #[test]
    fn a_view_fails_and_other_odd_collections_are_warned_of() {
        for (kind, status) in [
            (CollectionKind::Collection, StepStatus::Ok),
            (CollectionKind::Missing, StepStatus::Ok),
            (CollectionKind::Withheld(Withheld::Denied), StepStatus::Skipped),
            (CollectionKind::Withheld(Withheld::UnknownCommand), StepStatus::Skipped),
            (CollectionKind::View, StepStatus::Fail),
            (CollectionKind::TimeSeries, StepStatus::Warn),
            (CollectionKind::Capped, StepStatus::Warn),
        ] {
            assert_eq!(collection("d.c", kind).status, status, "{kind:?}");
        }
        let facts = |has_validator, unique: Result<&[&str], Withheld>| CollectionFacts {
            kind: CollectionKind::Collection,
            has_validator,
            unique_indexes: unique.map(|unique| unique.iter().map(|fields| (*fields).to_owned()).collect()),
        };
        assert_eq!(validator(&facts(true, Err(Withheld::Denied))).status, StepStatus::Warn);
        assert_eq!(unique_indexes(&facts(false, Ok(&["email"]))).status, StepStatus::Warn);
        let unknown = unique_indexes(&facts(false, Err(Withheld::UnknownCommand)));
        assert_eq!(unknown, Step::skipped(INDEXES, "the server does not know the command `listIndexes`"));
        assert_eq!(unique_indexes(&facts(false, Ok(&[]))).status, StepStatus::Ok);
    }
}
