//! `sdl doctor`.

use std::pin::pin;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser as Text;
use futures_util::future::join_all;
use serde_json::json;
use tokio::sync::watch;

use crate::commands::run::random;
use crate::commands::{Context, aggregate, protect};
use crate::connectors::elastic::index_rule;
use crate::connectors::kafka::end_process;
use crate::connectors::mongo::{collection_rule, database_rule};
use crate::connectors::{elastic as elastic_connector, kafka as kafka_connector};
use crate::doctor::elastic::{self, ElasticExamination};
use crate::doctor::kafka::{self, KafkaExamination};
use crate::doctor::mongo::{self, MongoExamination};
use crate::doctor::{DestinationName, DoctorReport, Probes, Step, StepStatus};
use crate::document::{NamePattern, NameTemplate};
use crate::error::Error;
use crate::pipeline::Failure;
use crate::profile::{ElasticSection, KafkaSection, MongoSection, Profile, ProfileError, SERVER_KINDS, SectionKind};
use crate::report::counted;
use crate::terminal::{Cell, Column, Listing, ListingFormat};

/// Examine the servers of the profile step by step, from their names to the rights
///
/// Each line is a step: ok, warn, FAIL, or skipped, with the reason and the key to change. The steps use the connections and the
/// words of the other commands. Topics, groups, collections and indices are those that the section names. Nothing is changed without
/// --roundtrip: rights are asked for, or tried with requests that have no effect. Every step has a deadline. Any FAIL makes the exit
/// code 4.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The sections to examine [default: all servers of the profile]
    #[arg(value_name = "SECTION", value_parser = Text::new())]
    section: Vec<String>,
    /// Also write, read and remove: a record in a topic of its own, or a document
    ///
    /// The topic is called sdl-doctor- and a random number, and is deleted again. Needs a confirmation for clusters with
    /// `protect = confirm`, and is refused for those with `protect = readonly`.
    #[arg(long)]
    roundtrip: bool,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: ListingFormat,
}

const EXAMPLES: &str = "\
Examples:
  sdl doctor
  sdl doctor remote_kafka
  sdl doctor local_kafka mongodb --roundtrip
  sdl doctor -o json | jq '.steps[] | select(.status == \"fail\")'";

/// Why the clock of a broker is not examined without a probe.
const NEEDS_ROUNDTRIP: &str = "needs --roundtrip: only a record that the broker stamps shows its clock";

/// The step before all others: the section as it is written.
const PROFILE: &str = "profile";

/// How long an interrupted examination goes on with its round trips, which end by removing what they made.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(20);

impl Args {
    /// Examines the sections and prints what was found.
    ///
    /// # Errors
    /// When a section does not exist, a round trip is refused, or a step failed.
    pub async fn run(self, context: &Context) -> Result<(), Error> {
        let sections = self.sections(&context.profile)?;
        let (stop, probes) = (self.roundtrip.then(|| context.stop.receiver()), Probes::default());
        let mut examinations = Vec::new();
        for (name, kind) in sections {
            examinations.push(self.prepare(context, name, kind, &probes)?);
        }
        if self.roundtrip {
            let (screen, probes) = (context.screen.clone(), probes.clone());
            context.stop.restore_by(move || screen.write(&left_behind(&probes.places())));
        }
        let mut examined = pin!(join_all(examinations.into_iter().map(examine)));
        let reports = tokio::select! {
            reports = &mut examined => reports,
            () = stopped(stop) => {
                probes.close();
                for place in probes.places() {
                    tracing::info!("Interrupted: waiting until {place} is removed; a second signal ends the examination at once.");
                }
                let removed = async {
                    tokio::select! {
                        _ = &mut examined => {}
                        () = probes.ended() => {}
                    }
                };
                // What is left then is named.
                let _ = tokio::time::timeout(REMOVAL_TIMEOUT, removed).await;
                context.say(&format!("interrupted: the examination is not complete\n{}", left_behind(&probes.places())));
                end_process(130);
            }
        };
        context.print_listing(listing(&reports, self.output == ListingFormat::Table), self.output, &[])?;
        outcome(&reports)
    }

    /// Returns whether the examination makes something that an interruption would leave behind.
    pub(crate) fn makes_round_trips(&self) -> bool {
        self.roundtrip
    }

    /// Returns whether the section is examined although it is not named.
    pub(crate) fn examines(&self, kind: Option<SectionKind>) -> bool {
        self.section.is_empty() && kind.is_some_and(|kind| SERVER_KINDS.contains(&kind))
    }

    /// Returns the sections to examine, each once.
    fn sections(&self, profile: &Profile) -> Result<Vec<(String, SectionKind)>, Error> {
        let is_server = |kind: &SectionKind| SERVER_KINDS.contains(kind);
        let kind_of = |name: &str| profile.kind(name).filter(is_server);
        if self.section.is_empty() {
            let all = profile.section_names().filter_map(|name| Some((name.to_owned(), kind_of(name)?)));
            let all: Vec<_> = all.collect();
            if all.is_empty() {
                // The error for a missing section explains how to add it.
                profile.kafka("local_kafka")?;
            }
            return Ok(all);
        }
        let mut chosen = Vec::new();
        for name in &self.section {
            // The error says what the section is, or which there are. One whose keys do not determine its type may be Kafka's.
            let kind = match kind_of(name) {
                Some(kind) => kind,
                None => profile.kafka(name).map(|_| SectionKind::Kafka)?,
            };
            if !chosen.iter().any(|(known, _)| known == name) {
                chosen.push((name.clone(), kind));
            }
        }
        Ok(chosen)
    }

    /// Reads a section, and confirms what a round trip changes.
    fn prepare(&self, context: &Context, name: String, kind: SectionKind, probes: &Probes) -> Result<Examination, Error> {
        let profile = &context.profile;
        let probe = self.roundtrip.then(|| format!("sdl-doctor-{:08x}", random()));
        let (probe_id, probes) = (probe.clone(), probes.clone());
        let server = match kind {
            SectionKind::Kafka => profile.kafka(&name).map(|section| {
                // A broker that allows transactions of any length grants what is meant to be refused: that is a change.
                let transactional_id =
                    probe.as_ref().and(section.default_consumer_group_id.as_deref()).map(aggregate::transactional_id);
                let examination =
                    KafkaExamination { transactional_id, probe_topic: probe, without_probe: NEEDS_ROUNDTRIP, probes };
                Server::Kafka(Box::new(section), examination)
            }),
            SectionKind::Mongodb => profile.mongo(&name).map(|section| {
                let database = checked("default_database", section.default_database.as_deref(), database_rule);
                let collection = checked("default_collection", section.default_collection.as_deref(), collection_rule);
                let target = match (database, collection) {
                    (DestinationName::Fixed(database), DestinationName::Fixed(collection)) => {
                        DestinationName::Fixed((database, collection))
                    }
                    (DestinationName::Invalid { key, why }, _) | (_, DestinationName::Invalid { key, why }) => {
                        DestinationName::Invalid { key, why }
                    }
                    _ => DestinationName::Open,
                };
                Server::Mongo(section, MongoExamination { target, probe_id, probes })
            }),
            SectionKind::Elasticsearch | SectionKind::Opensearch => profile.elastic(&name).map(|section| {
                let index = checked("default_index", section.default_index.as_deref(), index_rule);
                Server::Elastic(section, ElasticExamination { index, probe_id, probes })
            }),
            SectionKind::Shape | SectionKind::Run => unreachable!("only servers are examined"),
        };
        if let Ok(Server::Kafka(section, KafkaExamination { probe_topic: Some(topic), .. })) = &server {
            let what = format!("write a record to topic {topic}, and delete the topic");
            protect::refuse_change(section, &what, protect::NO_ROUNDTRIP)?;
            protect::confirm_change(context, section, &what)?;
        }
        Ok(Examination { origin: profile.location(&name), name, kind, server })
    }
}

/// Waits for a signal; for ever without a channel.
async fn stopped(stop: Option<watch::Receiver<bool>>) {
    match stop {
        // The sender is in the context: it is not closed.
        Some(mut stop) => drop(stop.wait_for(|requested| *requested).await),
        None => std::future::pending().await,
    }
}

/// Returns the lines about what an interrupted examination leaves on servers.
fn left_behind(places: &[String]) -> String {
    let line = |text: String, place: &String| text + "left behind: " + place + ": remove it\n";
    places.iter().fold(String::new(), line)
}

/// A section that is going to be examined.
struct Examination {
    name: String,
    kind: SectionKind,
    /// Where the profile has it.
    origin: String,
    server: Result<Server, ProfileError>,
}

enum Server {
    Kafka(Box<KafkaSection>, KafkaExamination),
    Mongo(MongoSection, MongoExamination),
    Elastic(ElasticSection, ElasticExamination),
}

impl Server {
    /// Checks the files and properties of the section, before any connection.
    fn check(&self) -> Result<(), Error> {
        match self {
            Self::Kafka(section, _) => kafka_connector::check(section).map_err(Error::Section),
            Self::Mongo(..) => Ok(()),
            Self::Elastic(section, _) => elastic_connector::check(section).map_err(Error::Section),
        }
    }

    fn warnings(&self) -> Vec<String> {
        match self {
            Self::Kafka(section, _) => {
                let unusable = section.mask_key.iter().filter_map(|key| key.as_ref().err());
                let unusable = unusable.map(|error| format!("{}; --mask fails", error.causes().join(": ")));
                section.warnings().into_iter().chain(unusable).collect()
            }
            Self::Mongo(..) => Vec::new(),
            Self::Elastic(section, _) => section.warnings(),
        }
    }
}

/// Returns the name that a template has for every record, checked as the loads check it.
fn checked(key: &'static str, template: Option<&str>, rule: fn(&str) -> Result<(), String>) -> DestinationName<String> {
    let Some(template) = template else { return DestinationName::Open };
    match template.parse().and_then(|pattern: NamePattern| NameTemplate::new(pattern, rule, 1)) {
        Ok(named) => named.pattern().constant().map_or(DestinationName::Open, |name| DestinationName::Fixed(name.to_owned())),
        Err(why) => DestinationName::Invalid { key, why: format!("cannot use `{template}`: {why}") },
    }
}

/// Examines one section; not its server, if it cannot be used as it is written.
async fn examine(examination: Examination) -> DoctorReport {
    let Examination { name, kind, origin, server } = examination;
    let server = match server.map_err(Error::from).and_then(|server| server.check().map(|()| server)) {
        Ok(server) => server,
        Err(error) => return unusable(&name, kind, &error),
    };
    let warnings = server.warnings();
    let mut report = match &server {
        Server::Kafka(section, what) => kafka::examine(section, what).await,
        Server::Mongo(section, what) => mongo::examine(section, what).await,
        Server::Elastic(section, what) => elastic::examine(section, kind, what).await,
    };
    let written = if warnings.is_empty() {
        vec![Step::ok(PROFILE, origin)]
    } else {
        warnings.into_iter().map(|warning| Step { hint: None, ..Step::warn(PROFILE, warning, "") }).collect()
    };
    report.steps.splice(0..0, written);
    report
}

/// Returns the report of a section that cannot be used as it is written.
fn unusable(section: &str, kind: SectionKind, error: &Error) -> DoctorReport {
    let (what, causes) = error.what_and_causes();
    let finding = causes.iter().fold(what, |text, cause| format!("{text}: {cause}"));
    let mut report = DoctorReport::new(section, kind);
    report.push(Step { hint: error.hint(), ..Step::fail(PROFILE, finding, "") });
    report.skip_rest(match kind {
        SectionKind::Kafka => &kafka::STEPS,
        SectionKind::Mongodb => &mongo::STEPS,
        _ => &elastic::STEPS,
    });
    report
}

/// Returns the error of steps that failed, which the lines have told.
fn outcome(reports: &[DoctorReport]) -> Result<(), Error> {
    let failed = |step: &&Step| step.status == StepStatus::Fail;
    let mut sections = reports.iter().filter(|report| report.has_failed()).map(|report| format!("`{}`", report.section));
    let Some(first) = sections.next() else { return Ok(()) };
    let names = sections.fold(first, |names, name| format!("{names}, {name}"));
    let count = reports.iter().flat_map(|report| &report.steps).filter(failed).count();
    Err(Error::Check(Failure::new(format!("{} of {names} failed", counted(count as u64, "check")))))
}

/// Returns the steps as rows; `folded` for people, with one row for steps in sequence that are skipped for the same reason.
fn listing(reports: &[DoctorReport], folded: bool) -> Listing {
    let columns = [
        Column::Text("section"),
        Column::Text("type"),
        Column::Text("step"),
        Column::Text("status"),
        Column::Text("finding"),
        Column::Text("hint"),
    ];
    let mut listing = Listing::new("steps", &columns);
    for report in reports {
        let is_repeated = |one: &Step, other: &Step| folded && is_skipped_alike(one, other);
        for steps in report.steps.chunk_by(is_repeated) {
            listing.push(row(report, steps));
        }
    }
    listing.wrap_last();
    listing.hide_in_table(|name, _| name == "type" || name == "hint" || name == "section" && reports.len() == 1);
    listing
}

/// Returns whether two steps are skipped for the same reason.
fn is_skipped_alike(one: &Step, other: &Step) -> bool {
    [one, other].iter().all(|step| step.status == StepStatus::Skipped) && one.finding == other.finding
}

/// Returns a step, or several that are skipped alike, as a row; people read finding and hint as one sentence.
fn row(report: &DoctorReport, steps: &[Step]) -> [Cell; 6] {
    let step = &steps[0];
    let name = match steps {
        [first, .., last] => format!("{} to {}", first.name, last.name),
        _ => step.name.to_owned(),
    };
    let status = if step.status == StepStatus::Fail { "FAIL" } else { step.status.as_str() };
    let finding = match (step.status, &step.hint) {
        (StepStatus::Skipped, _) if step.is_note => format!("({})", step.finding),
        (StepStatus::Skipped, _) => format!("(because {})", step.finding),
        (_, Some(hint)) => format!("{}: {hint}", step.finding),
        (_, None) => step.finding.clone(),
    };
    [
        report.section.as_str().into(),
        report.kind.as_str().into(),
        Cell::Text(name),
        Cell::Display(status.to_owned(), json!(step.status.as_str())),
        Cell::Display(finding, json!(step.finding)),
        step.hint.as_deref().into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(steps: Vec<Step>) -> DoctorReport {
        DoctorReport { steps, ..DoctorReport::new("local_kafka", SectionKind::Kafka) }
    }

    #[test]
    fn people_read_one_sentence_and_programs_get_its_parts() {
        let reports = [report(vec![
            Step::ok("name", "a is 10.0.0.1"),
            Step::warn("rights", "not allowed to x", "give the user X"),
            Step::fail("tcp", "a:1: connecting: connection refused", "start the broker"),
            Step::skipped("tls", "tcp failed"),
        ])];
        assert_eq!(
            listing(&reports, true).render(ListingFormat::Table),
            "STEP    STATUS   FINDING\n\
             name    ok       a is 10.0.0.1\n\
             rights  warn     not allowed to x: give the user X\n\
             tcp     FAIL     a:1: connecting: connection refused: start the broker\n\
             tls     skipped  (because tcp failed)\n"
        );
        let document: serde_json::Value = serde_json::from_str(&listing(&reports, false).render(ListingFormat::Json)).unwrap();
        assert_eq!(
            document["steps"][2],
            json!({
                "section": "local_kafka", "type": "kafka", "step": "tcp", "status": "fail",
                "finding": "a:1: connecting: connection refused", "hint": "start the broker"
            })
        );
        assert_eq!((&document["schema"], &document["steps"][3]["finding"]), (&json!(1), &json!("tcp failed")));
    }

    #[test]
    fn steps_that_are_skipped_for_the_same_reason_are_one_line_for_people_and_several_for_programs() {
        let skipped = |name| Step::skipped(name, "tcp failed");
        let reports = [report(vec![
            Step::fail("tcp", "a:1: it fails", "start it"),
            skipped("tls"),
            skipped("login"),
            skipped("clock"),
            Step::note("rights", "needs a round trip"),
            Step::note("roundtrip", "needs another"),
        ])];
        assert_eq!(
            listing(&reports, true).render(ListingFormat::Table),
            "STEP          STATUS   FINDING\n\
             tcp           FAIL     a:1: it fails: start it\n\
             tls to clock  skipped  (because tcp failed)\n\
             rights        skipped  (needs a round trip)\n\
             roundtrip     skipped  (needs another)\n"
        );
        let document: serde_json::Value = serde_json::from_str(&listing(&reports, false).render(ListingFormat::Json)).unwrap();
        assert_eq!(document["steps"].as_array().unwrap().len(), 6);
    }

    #[test]
    fn a_failed_step_makes_the_exit_code_4() {
        let good = report(vec![Step::ok("name", "a"), Step::warn("tcp", "b", "c"), Step::skipped("tls", "d")]);
        assert!(outcome(std::slice::from_ref(&good)).is_ok());
        let error = outcome(&[report(vec![Step::fail("tcp", "b", "c")]), good]).unwrap_err();
        assert_eq!((error.exit_code(), error.to_string()), (4, "1 check of `local_kafka` failed".to_owned()));
    }
}
