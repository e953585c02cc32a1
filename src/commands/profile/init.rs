//! `sdl profile init`.

use std::io::{IsTerminal as _, Write as _, stderr, stdin};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dialoguer::{Confirm, Input, MultiSelect, Password, Select};

use crate::commands::Context;
use crate::commands::args::is_internal;
use crate::commands::profile::draft::{self, DraftSection, is_writable};
use crate::commands::question::{self, Unanswered};
use crate::commands::stop_signal::StopSignal;
use crate::connectors::elastic::ElasticClient;
use crate::connectors::kafka::{self, Admin, TOPIC_NAME_RULE};
use crate::connectors::mongo::MongoClient;
use crate::error::Error;
use crate::pipeline::Failure;
use crate::profile::{
    KafkaSection, Profile, ProfileError, SectionKind, WELL_KNOWN, is_connection_string, is_host, is_http, port, reason, servers,
    split_urls,
};
use crate::record::Topic;
use crate::report::counted;

/// The question for the CAs of a server that is not Kafka: its client has Mozilla's, whatever the system trusts.
const BUILT_IN_CAS: &str = "CA file, PEM (empty: the CAs of Mozilla, built into sdl)";

/// How long a connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks for the sections, tests each connection, and writes the profile.
///
/// # Errors
/// Without a terminal, when a question is interrupted, and when the file cannot be written.
pub(super) async fn run(context: &Context) -> Result<(), Error> {
    let path = context.global.profile.clone().or_else(|| std::env::var_os("SDL_PROFILE").map(PathBuf::from));
    let path = path.unwrap_or_else(|| PathBuf::from("./database.ini"));
    if !stdin().is_terminal() || !stderr().is_terminal() {
        let write = format!("write {} with [local_kafka] and `servers = host:9092`", path.display());
        return Err(Error::Usage {
            what: "`sdl profile init` asks questions, and there is no terminal".to_owned(),
            hint: format!("run it in a terminal, or {write}"),
        });
    }
    draft::check_writable(&path).map_err(|error| unwritable(&path, &error))?;
    if path.exists() && !context.global.yes && !confirm(&context.stop, &format!("{} exists: replace it?", path.display()), false)?
    {
        return Err(Error::Usage {
            what: format!("{} was not changed", path.display()),
            hint: "name another file with --profile FILE".to_owned(),
        });
    }
    let sections = ask_for_sections(&context.stop, &path).await?;
    draft::write(&path, &draft::text(&sections)).map_err(|error| unwritable(&path, &error))?;
    say(&format!("wrote {}; try it:\n\n  {}\n", path.display(), first_command(&path, &sections)));
    Ok(())
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    let failure = Failure::new(format!("cannot write `{}`", path.display())).because(reason(error));
    failure.hint("name a file in a writable folder with --profile FILE")
}

async fn ask_for_sections(stop: &StopSignal, path: &Path) -> Result<Vec<DraftSection>, Error> {
    let names: Vec<_> = WELL_KNOWN.iter().map(|(name, kind)| format!("{name} ({})", purpose(name, *kind))).collect();
    let chosen = loop {
        let prompt = "Which sections? (space selects, enter continues)";
        let names = names.clone();
        let chosen = ask(stop, move || MultiSelect::new().with_prompt(prompt).items(&names).interact())?;
        if !chosen.is_empty() {
            break chosen;
        }
        say("no section is selected: select at least one with space");
    };
    let mut sections = Vec::new();
    for (name, kind) in chosen.into_iter().map(|index| WELL_KNOWN[index]) {
        sections.push(ask_for_section(stop, path, name, kind).await?);
    }
    Ok(sections)
}

/// Asks for a section until its answers are sound: first for the connection, which is tested, then for what is optional. Answers are
/// offered again.
async fn ask_for_section(stop: &StopSignal, path: &Path, name: &'static str, kind: SectionKind) -> Result<DraftSection, Error> {
    let mut previous = Vec::new();
    loop {
        say(&format!("\n[{name}]"));
        let mut questions = Questions { stop, previous: &previous, answers: Vec::new() };
        questions.connection(name, kind)?;
        let mut section = DraftSection { name: name.to_owned(), values: questions.answers };
        let outcome = test(path, &section, kind).await;
        match &outcome {
            Ok(reached) => say(&format!("  {}", reached.line)),
            Err(error) => say(error.render().trim_end()),
        }
        // No command reads an invalid section; a variable or file may be there later.
        let is_invalid = matches!(&outcome, Err(Error::Profile(error)) if error.missing_reference().is_none());
        if outcome.is_err() && (is_invalid || !confirm(stop, "Keep these answers anyway?", false)?) {
            // The newest answer to a question comes first.
            previous = section.values.into_iter().chain(previous).collect();
            continue;
        }
        let topics = outcome.map(|reached| reached.topics).unwrap_or_default();
        let mut questions = Questions { stop, previous: &previous, answers: section.values };
        questions.defaults(name, kind, &topics)?;
        section.values = questions.answers;
        match draft::profile(path, &draft::text(std::slice::from_ref(&section))).and_then(|profile| read(&profile, name, kind)) {
            Err(error) if error.missing_reference().is_none() => say(Error::from(error).render().trim_end()),
            _ => return Ok(section),
        }
        previous = section.values;
    }
}

/// Reads a section as a command does.
fn read(profile: &Profile, name: &str, kind: SectionKind) -> Result<(), ProfileError> {
    match kind {
        SectionKind::Kafka => profile.kafka(name).map(drop),
        SectionKind::Mongodb => profile.mongo(name).map(drop),
        _ => profile.elastic(name).map(drop),
    }
}

/// Returns a command that works with the sections, to begin with.
fn first_command(path: &Path, sections: &[DraftSection]) -> String {
    let answer = |section: &DraftSection, key: &str| {
        let found = section.values.iter().find(|(answered, value)| *answered == key && !value.is_empty());
        found.map(|(_, value)| value.clone())
    };
    let topic = sections.iter().find_map(|section| Some((&section.name, answer(section, "default_consumer_topic")?)));
    let kafka = sections.iter().find(|section| answer(section, "servers").is_some());
    let command = match (topic, kafka) {
        (Some((name, topic)), _) => format!("tail {topic} --source {name}"),
        (None, Some(section)) => format!("topics --source {}", section.name),
        (None, None) => "profile show".to_owned(),
    };
    let profile = if path == Path::new("./database.ini") { String::new() } else { format!(" --profile {}", path.display()) };
    format!("sdl {command}{profile}")
}

/// Returns the type of a well-known section, and what it is the default for.
fn purpose(name: &str, kind: SectionKind) -> String {
    let default = match name {
        "remote_kafka" => ", default source of replicate",
        "local_kafka" => ", default target of replicate and source of the others",
        _ => "",
    };
    format!("{}{default}", kind.as_str())
}

/// What a tested connection has shown.
struct Reached {
    line: String,
    /// Of a Kafka cluster.
    topics: Vec<String>,
}

/// Connects to the server of the section.
async fn test(path: &Path, section: &DraftSection, kind: SectionKind) -> Result<Reached, Error> {
    let profile = draft::profile(path, &draft::text(std::slice::from_ref(section)))?;
    let name = &section.name;
    let line = match kind {
        SectionKind::Kafka => {
            let section = profile.kafka(name)?;
            let cluster = kafka::reach(&section, CONNECT_TIMEOUT).await?;
            let topics = topics(&section).await;
            let count = counted(topics.len() as u64, "topic");
            let line = format!("connected; cluster id {}, {count}", cluster.id.as_deref().unwrap_or("-"));
            return Ok(Reached { line, topics });
        }
        SectionKind::Mongodb => {
            MongoClient::connect(&profile.mongo(name)?, 1, CONNECT_TIMEOUT).await?;
            "connected".to_owned()
        }
        _ => {
            let client = ElasticClient::connect(&profile.elastic(name)?, CONNECT_TIMEOUT).await?;
            format!("connected; {}", client.server())
        }
    };
    Ok(Reached { line, topics: Vec::new() })
}

/// Returns the topics to offer; none when the cluster does not list them.
async fn topics(section: &KafkaSection) -> Vec<String> {
    let Ok(admin) = Admin::connect(section, CONNECT_TIMEOUT).await else { return Vec::new() };
    let listed = admin.topics().await.unwrap_or_default().into_iter().map(|listed| listed.topic.name().to_owned());
    let mut names: Vec<_> = listed.filter(|name| !is_internal(name) && Topic::is_valid_name(name)).collect();
    names.sort();
    names
}

/// A key and its value.
type Answer = (&'static str, String);

struct Questions<'a> {
    stop: &'a StopSignal,
    previous: &'a [Answer],
    answers: Vec<Answer>,
}

impl Questions<'_> {
    fn previous(&self, key: &str) -> Option<&str> {
        self.previous.iter().find(|(answered, _)| *answered == key).map(|(_, answer)| answer.as_str())
    }

    fn answer(&mut self, key: &'static str, answer: String) -> &str {
        self.answers.push((key, answer));
        &self.answers.last().expect("one was added").1
    }

    /// Asks for what a connection needs.
    fn connection(&mut self, name: &str, kind: SectionKind) -> Result<(), Error> {
        match kind {
            SectionKind::Kafka => {
                self.text("servers", "Servers, host:port, separated by commas", "localhost:9092")?;
                let protocols = ["PLAINTEXT", "SASL_PLAINTEXT", "SASL_SSL", "SSL"];
                let protocol = self.one_of("security_protocol", "Security protocol", &protocols)?.to_owned();
                if protocol.starts_with("SASL") {
                    let mechanisms = ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN", "OAUTHBEARER", "AWS_MSK_IAM"];
                    match self.one_of("sasl_mechanism", "SASL mechanism", &mechanisms)? {
                        "OAUTHBEARER" => self.tokens(name)?,
                        "AWS_MSK_IAM" => _ = self.required("aws_region", "AWS region")?,
                        _ => {
                            self.required("username", "Username")?;
                            self.secret(name, "password", "Password")?;
                        }
                    }
                }
                if protocol.ends_with("SSL") {
                    self.optional("ssl_ca_location", "CA file, PEM (empty: the CAs of this system)")?;
                    self.client_certificate()?;
                }
            }
            SectionKind::Mongodb => {
                let items = ["host and port", "connection string"];
                if choose(self.stop, "Connect by", &items, usize::from(self.previous("uri").is_some()))? == 0 {
                    self.mongodb_host(name)?;
                } else {
                    self.secret(name, "uri", "Connection string, mongodb://...")?;
                }
            }
            _ => {
                let urls = self.text("url", "URL, or several separated by commas", "http://localhost:9200")?;
                // A reference may stand for anything.
                let is_encrypted = !split_urls(urls).iter().all(|url| url.starts_with("http://"));
                if !self.optional("username", "Username (empty: none)")?.is_empty() {
                    self.secret(name, "password", "Password")?;
                }
                if is_encrypted {
                    self.optional("ca_file", BUILT_IN_CAS)?;
                }
            }
        }
        Ok(())
    }

    /// Asks for a client certificate and its key: for both, or neither.
    fn client_certificate(&mut self) -> Result<(), Error> {
        loop {
            if self.optional("ssl_certificate_location", "Client certificate file, PEM (empty: none)")?.is_empty() {
                return Ok(());
            }
            if !self.optional("ssl_key_location", "Client key file, PEM (empty: back)")?.is_empty() {
                return Ok(());
            }
            say("a client certificate needs its key: name both files, or none");
            self.answers.truncate(self.answers.len() - 2);
        }
    }

    /// Asks for the values that flags have without being given.
    fn defaults(&mut self, name: &str, kind: SectionKind, topics: &[String]) -> Result<(), Error> {
        match kind {
            SectionKind::Kafka => {
                self.topic("default_consumer_topic", "Topic to read by default", topics)?;
                self.topic("default_producer_topic", "Topic to write by default", topics)?;
                let group = format!("{}-consumer-group", name.trim_end_matches("_kafka"));
                self.text("default_consumer_group_id", "Consumer group", &group)?;
            }
            SectionKind::Mongodb => {
                self.optional("default_database", "Database to write by default (empty: none)")?;
                self.optional("default_collection", "Collection to write by default (empty: none)")?;
                self.text("consumer_group_id", "Consumer group that loads it", &format!("{name}-loader"))?;
            }
            _ => {
                self.optional("default_index", "Index to write by default (empty: none)")?;
                self.text("consumer_group_id", "Consumer group that loads it", &format!("{name}-loader"))?;
            }
        }
        Ok(())
    }

    /// Asks for a topic, of those that the cluster has or by its name.
    fn topic(&mut self, key: &'static str, prompt: &str, topics: &[String]) -> Result<(), Error> {
        if topics.is_empty() {
            return self.optional(key, &format!("{prompt} (empty: none)")).map(drop);
        }
        let items: Vec<_> = ["none", "another name"].into_iter().chain(topics.iter().map(String::as_str)).collect();
        let default = items.iter().skip(2).position(|topic| Some(*topic) == self.previous(key)).map_or(0, |at| at + 2);
        match choose(self.stop, prompt, &items, default)? {
            0 => _ = self.answer(key, String::new()),
            1 => _ = self.optional(key, &format!("{prompt} (empty: none)"))?,
            chosen => _ = self.answer(key, items[chosen].to_owned()),
        }
        Ok(())
    }

    /// Asks for the host of a MongoDB server, its login and TLS.
    fn mongodb_host(&mut self, section: &str) -> Result<(), Error> {
        self.text("host", "Host", "localhost")?;
        self.text("port", "Port", "27017")?;
        if !self.optional("username", "Username (empty: none)")?.is_empty() {
            self.secret(section, "password", "Password")?;
            self.text("auth_database", "Authentication database", "admin")?;
        }
        if confirm(self.stop, "Use TLS?", self.previous("tls").is_some())? {
            self.answers.push(("tls", "true".to_owned()));
            self.optional("tls_ca_file", BUILT_IN_CAS)?;
        }
        Ok(())
    }

    /// Asks where the tokens of a Kafka section come from.
    fn tokens(&mut self, section: &str) -> Result<(), Error> {
        let items = ["a token endpoint, with client credentials", "a command", "a file"];
        let before = ["oauth_token_url", "oauth_token_command", "oauth_token_file"];
        let default = before.iter().position(|key| self.previous(key).is_some()).unwrap_or(0);
        match choose(self.stop, "Tokens of", &items, default)? {
            0 => {
                self.required("oauth_token_url", "URL of the token endpoint")?;
                self.required("oauth_client_id", "Client id")?;
                self.secret(section, "oauth_client_secret", "Client secret")?;
                self.optional("oauth_scope", "Scope (empty: none)")?;
            }
            1 => _ = self.required("oauth_token_command", "Command that prints a token")?,
            _ => _ = self.required("oauth_token_file", "File with the token")?,
        }
        self.optional("oauth_extensions", "SASL extensions, name=value with commas (empty: none)")?;
        Ok(())
    }

    fn text(&mut self, key: &'static str, prompt: &str, default: &str) -> Result<&str, Error> {
        let (prompt, default) = (prompt.to_owned(), self.previous(key).unwrap_or(default).to_owned());
        let answer = ask(self.stop, move || {
            let question = Input::<String>::new().with_prompt(prompt).default(default);
            question.validate_with(move |text: &String| valid(key, text)).interact_text()
        })?;
        Ok(self.answer(key, answer))
    }

    fn required(&mut self, key: &'static str, prompt: &str) -> Result<&str, Error> {
        let (prompt, previous) = (prompt.to_owned(), self.previous(key).unwrap_or_default().to_owned());
        let check = move |text: &String| if text.is_empty() { Err("a value is needed here") } else { valid(key, text) };
        let answer = ask(self.stop, move || {
            let question = Input::<String>::new().with_prompt(prompt).allow_empty(true).validate_with(check);
            question.with_initial_text(previous).interact_text()
        })?;
        Ok(self.answer(key, answer))
    }

    fn optional(&mut self, key: &'static str, prompt: &str) -> Result<&str, Error> {
        let (prompt, previous) = (prompt.to_owned(), self.previous(key).unwrap_or_default().to_owned());
        let answer = ask(self.stop, move || {
            let question = Input::<String>::new().with_prompt(prompt).allow_empty(true);
            question.validate_with(move |text: &String| valid(key, text)).with_initial_text(previous).interact_text()
        })?;
        Ok(self.answer(key, answer))
    }

    /// Asks for a secret; an empty answer is a reference to an environment variable.
    fn secret(&mut self, section: &str, key: &'static str, prompt: &str) -> Result<&str, Error> {
        let variable = format!("{}_{}", section.to_uppercase(), key.to_uppercase());
        let prompt = format!("{prompt} (empty: the profile refers to ${{env:{variable}}})");
        let typed = ask(self.stop, move || {
            let question = Password::new().with_prompt(prompt).allow_empty_password(true);
            question.validate_with(move |text: &String| valid(key, text)).interact()
        })?;
        Ok(self.answer(key, if typed.is_empty() { format!("${{env:{variable}}}") } else { typed }))
    }

    fn one_of(&mut self, key: &'static str, prompt: &str, items: &[&str]) -> Result<&str, Error> {
        let default = items.iter().position(|item| Some(*item) == self.previous(key)).unwrap_or(0);
        let chosen = choose(self.stop, prompt, items, default)?;
        Ok(self.answer(key, items[chosen].to_owned()))
    }
}

/// Asks to choose an item; returns its index.
fn choose(stop: &StopSignal, prompt: &str, items: &[&str], default: usize) -> Result<usize, Error> {
    let (prompt, items) = (prompt.to_owned(), items.iter().map(ToString::to_string).collect::<Vec<_>>());
    ask(stop, move || Select::new().with_prompt(prompt).items(items).default(default).max_length(15).interact())
}

fn confirm(stop: &StopSignal, prompt: &str, default: bool) -> Result<bool, Error> {
    let prompt = prompt.to_owned();
    ask(stop, move || Confirm::new().with_prompt(prompt).default(default).wait_for_newline(true).interact())
}

/// Checks the answer for `key`. A reference is checked when it is read.
fn valid(key: &str, text: &str) -> Result<(), &'static str> {
    if !is_writable(text) {
        return Err(
            "leading and trailing blanks would be lost: put the value into an environment variable and answer ${env:NAME}",
        );
    }
    let (is_valid, rule) = match key {
        _ if text.is_empty() || text.contains("${") => return Ok(()),
        "servers" => (servers(text).is_some(), "use host:port, with commas between several, without quotes and scheme"),
        "host" => (is_host(text), "use a name or an address, without port and scheme"),
        "port" => (port(text).is_some(), "use a port between 1 and 65535"),
        "uri" => (is_connection_string(text), "use mongodb://host:27017 or mongodb+srv://host"),
        "oauth_token_url" => (is_http(text), "use https://host/token"),
        "url" => (split_urls(text).iter().all(|url| is_http(url)), "use http://host:9200 or https://host:9200"),
        "default_consumer_topic" | "default_producer_topic" => (Topic::is_valid_name(text), TOPIC_NAME_RULE),
        "ssl_ca_location" | "ssl_certificate_location" | "ssl_key_location" | "ca_file" | "tls_ca_file" => {
            (std::fs::File::open(text).is_ok(), "there is no such file, or it cannot be read")
        }
        _ => return Ok(()),
    };
    if is_valid { Ok(()) } else { Err(rule) }
}

/// Asks one question.
fn ask<T: Send + 'static>(
    stop: &StopSignal,
    question: impl FnOnce() -> dialoguer::Result<T> + Send + 'static,
) -> Result<T, Error> {
    question::ask(stop, question).map_err(|unanswered| match unanswered {
        Unanswered::Interrupted => Failure::new("interrupted, nothing was written").into(),
        Unanswered::Failed(error) => Failure::new("cannot ask, nothing was written").because(error).into(),
    })
}

fn say(text: &str) {
    // A failed write to stderr cannot be reported.
    let _ = writeln!(stderr(), "{text}");
}
