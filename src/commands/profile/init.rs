//! `sdl profile init`.

use std::io::{IsTerminal as _, Write as _, stderr, stdin};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dialoguer::{Confirm, Input, MultiSelect, Password, Select};

use crate::commands::Context;
use crate::commands::profile::draft::{self, DraftSection, is_writable};
use crate::connectors::elastic::ElasticClient;
use crate::connectors::kafka;
use crate::connectors::mongo::MongoClient;
use crate::error::Error;
use crate::pipeline::Failure;
use crate::profile::{SectionKind, WELL_KNOWN};

/// How long a connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks for the sections, tests each connection, and writes the profile.
///
/// # Errors
/// Without a terminal, when a question is interrupted, and when the file cannot be written.
pub(super) async fn run(context: &Context) -> Result<(), Error> {
    if !stdin().is_terminal() || !stderr().is_terminal() {
        return Err(Error::Usage {
            what: "`sdl profile init` asks questions, and there is no terminal".to_owned(),
            hint: "copy database.ini.example to ./database.ini and edit it".to_owned(),
        });
    }
    let path = context.global.profile.clone().or_else(|| std::env::var_os("SDL_PROFILE").map(PathBuf::from));
    let path = path.unwrap_or_else(|| PathBuf::from("./database.ini"));
    if path.exists() && !context.global.yes {
        let replace = Confirm::new().with_prompt(format!("{} exists: replace it?", path.display())).default(false).interact();
        if !replace.map_err(interrupted)? {
            return Err(Error::Usage {
                what: format!("{} was not changed", path.display()),
                hint: "name another file with --profile FILE".to_owned(),
            });
        }
    }
    let sections = ask_for_sections(&path).await?;
    draft::write(&path, &draft::text(&sections))
        .map_err(|error| Failure::new(format!("cannot write `{}`", path.display())).because(error))?;
    say(&format!("wrote {}: see it with `sdl profile show`", path.display()));
    Ok(())
}

async fn ask_for_sections(path: &Path) -> Result<Vec<DraftSection>, Error> {
    let names: Vec<_> = WELL_KNOWN.iter().map(|(name, kind)| format!("{name} ({})", kind.as_str())).collect();
    let chosen = loop {
        let prompt = "Which sections? (space selects, enter continues)";
        let chosen = MultiSelect::new().with_prompt(prompt).items(&names).interact().map_err(interrupted)?;
        if !chosen.is_empty() {
            break chosen;
        }
    };
    let mut sections = Vec::new();
    for (name, kind) in chosen.into_iter().map(|index| WELL_KNOWN[index]) {
        sections.push(loop {
            say(&format!("\n[{name}]"));
            let section = DraftSection { name: name.to_owned(), values: ask_for_values(name, kind)? };
            let outcome = test(path, &section, kind).await;
            match &outcome {
                Ok(good) => say(&format!("  {good}")),
                Err(error) => say(error.render().trim_end()),
            }
            if outcome.is_ok() || confirm("Keep these answers anyway?", false)? {
                break section;
            }
        });
    }
    Ok(sections)
}

fn ask_for_values(name: &str, kind: SectionKind) -> Result<Vec<(&'static str, String)>, Error> {
    let mut values = Vec::new();
    match kind {
        SectionKind::Kafka => {
            values.push(("servers", ask("Servers, host:port, separated by commas", "localhost:9092")?));
            let protocols = ["PLAINTEXT", "SASL_PLAINTEXT", "SASL_SSL", "SSL"];
            let protocol = select("Security protocol", &protocols)?;
            values.push(("security_protocol", protocol.to_owned()));
            if protocol.starts_with("SASL") {
                values
                    .push(("sasl_mechanism", select("SASL mechanism", &["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"])?.to_owned()));
                values.push(("username", ask_required("Username")?));
                values.push(("password", ask_secret(name, "password")?));
            }
            if protocol.ends_with("SSL") {
                values.push(("ssl_ca_location", ask_optional("CA file, PEM (empty: the CAs of the system)")?));
                let certificate = ask_optional("Client certificate file, PEM (empty: none)")?;
                if !certificate.is_empty() {
                    values.push(("ssl_certificate_location", certificate));
                    values.push(("ssl_key_location", ask_required("Client key file, PEM")?));
                }
            }
            values.push((
                "default_consumer_group_id",
                ask("Consumer group", &format!("{}-consumer-group", name.trim_end_matches("_kafka")))?,
            ));
            values.push(("default_consumer_topic", ask_optional("Topic to read by default (empty: none)")?));
            values.push(("default_producer_topic", ask_optional("Topic to write by default (empty: none)")?));
        }
        SectionKind::Mongodb => {
            values.push(("host", ask("Host", "localhost")?));
            values.push(("port", ask("Port", "27017")?));
            let username = ask_optional("Username (empty: none)")?;
            if !username.is_empty() {
                values.push(("username", username));
                values.push(("password", ask_secret(name, "password")?));
                values.push(("auth_database", ask("Authentication database", "admin")?));
            }
            if confirm("Use TLS?", false)? {
                values.push(("tls", "true".to_owned()));
                values.push(("tls_ca_file", ask_optional("CA file, PEM (empty: the well-known CAs)")?));
            }
            values.push(("default_database", ask_optional("Database to write by default (empty: none)")?));
            values.push(("default_collection", ask_optional("Collection to write by default (empty: none)")?));
        }
        _ => {
            values.push(("url", ask("URL, or several separated by commas", "http://localhost:9200")?));
            let username = ask_optional("Username (empty: none)")?;
            if !username.is_empty() {
                values.push(("username", username));
                values.push(("password", ask_secret(name, "password")?));
            }
            values.push(("ca_file", ask_optional("CA file, PEM (empty: the well-known CAs)")?));
            values.push(("default_index", ask_optional("Index to write by default (empty: none)")?));
        }
    }
    Ok(values)
}

/// Connects to the server of the section; returns a line about it.
async fn test(path: &Path, section: &DraftSection, kind: SectionKind) -> Result<String, Error> {
    let profile = draft::profile(path, &draft::text(std::slice::from_ref(section)))?;
    let name = &section.name;
    Ok(match kind {
        SectionKind::Kafka => {
            let cluster = kafka::reach(&profile.kafka(name)?, CONNECT_TIMEOUT).await?;
            format!("connected; cluster id {}", cluster.id.as_deref().unwrap_or("-"))
        }
        SectionKind::Mongodb => {
            MongoClient::connect(&profile.mongo(name)?, 1, CONNECT_TIMEOUT).await?;
            "connected".to_owned()
        }
        _ => {
            let client = ElasticClient::connect(&profile.elastic(name)?, CONNECT_TIMEOUT).await?;
            format!("connected; {}", client.server())
        }
    })
}

fn ask(prompt: &str, default: &str) -> Result<String, Error> {
    let question = Input::<String>::new().with_prompt(prompt).default(default.to_owned()).validate_with(writable);
    question.interact_text().map_err(interrupted)
}

fn ask_required(prompt: &str) -> Result<String, Error> {
    Input::<String>::new().with_prompt(prompt).validate_with(writable).interact_text().map_err(interrupted)
}

fn ask_optional(prompt: &str) -> Result<String, Error> {
    let question = Input::<String>::new().with_prompt(prompt).allow_empty(true).validate_with(writable);
    question.interact_text().map_err(interrupted)
}

/// Returns the secret, or a reference to an environment variable if the answer is empty.
fn ask_secret(section: &str, key: &str) -> Result<String, Error> {
    let variable = format!("{}_{}", section.to_uppercase(), key.to_uppercase());
    let prompt = format!("Password (empty: the profile refers to ${{env:{variable}}})");
    let question = Password::new().with_prompt(prompt).allow_empty_password(true).validate_with(|typed: &String| writable(typed));
    let typed = question.interact().map_err(interrupted)?;
    Ok(if typed.is_empty() { format!("${{env:{variable}}}") } else { typed })
}

fn select<'a>(prompt: &str, items: &[&'a str]) -> Result<&'a str, Error> {
    Ok(items[Select::new().with_prompt(prompt).items(items).default(0).interact().map_err(interrupted)?])
}

fn confirm(prompt: &str, default: bool) -> Result<bool, Error> {
    Confirm::new().with_prompt(prompt).default(default).interact().map_err(interrupted)
}

#[expect(clippy::ptr_arg, reason = "the type of a validator")]
fn writable(text: &String) -> Result<(), &'static str> {
    if is_writable(text) {
        Ok(())
    } else {
        Err("leading and trailing blanks would be lost: put the value into an environment variable and answer ${env:NAME}")
    }
}

fn interrupted(error: dialoguer::Error) -> Error {
    Failure::new("interrupted, nothing was written").because(error).into()
}

fn say(text: &str) {
    // A failed write to stderr cannot be reported.
    let _ = writeln!(stderr(), "{text}");
}
