//! The profile, `database.ini`.
//!
//! Precedence of a value: flag, `SDL_<SECTION>_<KEY>`, section, default. The syntax is checked when the profile is loaded; keys are
//! checked, and `${env:}` and `${file:}` expanded, when a section is read, so that a command needs only its own sections and secrets.

mod aws;
mod display;
mod elastic;
mod environment;
mod error;
mod expand;
mod ini;
mod kafka;
mod keys;
mod mongo;
mod search;
mod secret;
mod section;
mod tokens;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use aws::AwsAccess;
pub(crate) use display::DisplayedValue;
pub use elastic::{ElasticLogin, ElasticSection, HttpProxy};
pub(crate) use elastic::{is_http, split_urls};
pub use environment::{Environment, FoundFile};
pub use error::ProfileError;
pub(crate) use error::{ProfileHint, UNUSED};
pub use kafka::{KafkaSection, MaskKey, Protect};
pub(crate) use kafka::{MECHANISMS, servers};
pub(crate) use keys::{Replacement, WELL_KNOWN};
pub use keys::{SERVER_KINDS, SectionKind};
pub use mongo::MongoSection;
pub(crate) use mongo::{is_connection_string, is_host, port};
pub use secret::Secret;
pub use section::Origin;
pub use tokens::{TokenAccess, TokenEndpoint, TokenSource};

pub(crate) use expand::reason;
pub(crate) use section::parse_flag;

use error::ProfileErrorKind;
use ini::{DEFAULT_SECTION, RawSection};
use section::{ProfileFile, Section, SectionValue};

/// A loaded profile.
#[derive(Default)]
pub struct Profile {
    path: Option<PathBuf>,
    /// The files that were tried, when none was found.
    searched: Vec<PathBuf>,
    sections: Vec<Section>,
    warnings: Vec<String>,
    from: Option<Arc<dyn Environment + Send + Sync>>,
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Profile").field("path", &self.path).field("sections", &self.sections).finish_non_exhaustive()
    }
}

/// Returns the error of a value that no command accepts. Values behind references are not looked at, nor sections that may be of
/// another program.
fn wrong_value(section: &Section) -> Option<ProfileError> {
    let kind = section.kind.filter(|_| section.is_own())?;
    let (written, from) = (section.without_references(), &environment::EmptyEnvironment);
    let error = match kind {
        SectionKind::Kafka => KafkaSection::read(&written, from).err(),
        SectionKind::Mongodb => MongoSection::read(&written, from).err(),
        SectionKind::Elasticsearch | SectionKind::Opensearch => ElasticSection::read(&written, from).err(),
        SectionKind::Shape | SectionKind::Run => None,
    };
    error.filter(ProfileError::is_of_value)
}

/// A value of `[run.COMMAND]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunValue {
    /// The flag without its dashes, as written.
    pub key: String,
    /// The value, expanded.
    pub value: String,
    /// Where it was set.
    pub origin: Origin,
}

impl Profile {
    /// Loads the file that `flag` or `SDL_PROFILE` names, else the first file on the search path; without any, an empty profile.
    ///
    /// # Errors
    /// When the named file does not exist, or the file cannot be read or is invalid.
    pub fn load(flag: Option<&Path>, from: Arc<dyn Environment + Send + Sync>) -> Result<Self, ProfileError> {
        let named = search::explicit_path(flag, &*from);
        let places = named.clone().map_or_else(|| search::search_paths(&*from), |path| vec![path]);
        for path in &places {
            let wrong = |fault| ProfileError::new(fault).path(Some(path));
            match from.find(path) {
                Ok(FoundFile { bytes, is_foreign }) => {
                    let text = String::from_utf8(bytes)
                        .map_err(|_| wrong(ProfileErrorKind::Unreadable("it is not UTF-8 text".into())))?;
                    let raw = ini::parse(&text).map_err(|error| error.path(Some(path)))?;
                    // A folder may hold what somebody else has put there; a file that is named, or that stands where only this user
                    // and root write, is meant.
                    let is_foreign = is_foreign && named.is_none() && search::is_of_working_folder(path);
                    return Ok(Self::new(raw, Some(path.clone()), is_foreign, Vec::new(), from));
                }
                Err(error) if error.kind() == ErrorKind::NotFound && named.is_some() => {
                    return Err(wrong(ProfileErrorKind::NoFile));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(wrong(ProfileErrorKind::Unreadable(reason(&error)))),
            }
        }
        Ok(Self::new(Vec::new(), None, false, places, from))
    }

    fn new(
        raw: Vec<RawSection>,
        path: Option<PathBuf>,
        is_foreign: bool,
        searched: Vec<PathBuf>,
        from: Arc<dyn Environment + Send + Sync>,
    ) -> Self {
        let (defaults, raw): (Vec<_>, Vec<_>) = raw.into_iter().partition(|section| section.name == DEFAULT_SECTION);
        let inherited: Vec<_> = defaults.into_iter().flat_map(|section| section.entries).collect();
        let mut names: Vec<String> = raw.iter().map(|section| section.name.clone()).collect();
        let known = WELL_KNOWN.iter().map(|(name, _)| (*name).to_owned());
        names.extend(known.filter(|name| !raw.iter().any(|section| section.name == *name)).collect::<Vec<_>>());

        let mut sections = Vec::new();
        let written = raw.len();
        let unwritten = names[written..].iter().map(|name| RawSection { name: name.clone(), line: 0, entries: Vec::new() });
        for (index, raw) in raw.into_iter().chain(unwritten.collect::<Vec<_>>()).enumerate() {
            let file = path.as_deref().map(|path| ProfileFile { path, is_foreign });
            let section = Section::new(raw, file, &names, &inherited, &*from);
            if index < written || !section.values.is_empty() {
                sections.push(section);
            }
        }

        let mut profile = Self { path, searched, sections, warnings: Vec::new(), from: Some(from) };
        profile.warnings = profile.exposed_secret_warnings();
        profile.warnings.extend(profile.interpolation_warnings());
        profile.warnings.extend(profile.comment_warnings());
        profile
    }

    fn exposed_secret_warnings(&self) -> Vec<String> {
        let Some(path) = self.path.as_ref().filter(|path| self.from().others_can_read(path)) else { return Vec::new() };
        let named: Vec<_> =
            self.sections.iter().filter(|section| section.has_literal_secret()).map(|section| section.name.as_str()).collect();
        if named.is_empty() {
            return Vec::new();
        }
        let path = path.display();
        vec![format!("others can read `{path}`, which holds secrets of `{}`: run `chmod 600 {path}`", named.join("`, `"))]
    }

    fn interpolation_warnings(&self) -> Vec<String> {
        let values = self.sections.iter().flat_map(Section::interpolated);
        let warning = |value: &SectionValue| {
            let found = if value.text.contains("%%") { "%%" } else { "%(...)s" };
            format!(
                "`{}` at {} contains `{found}`, which is taken as it is written: Python's configparser would replace it",
                value.key, value.origin
            )
        };
        values.map(warning).collect()
    }

    fn comment_warnings(&self) -> Vec<String> {
        let values = self.sections.iter().flat_map(Section::commented);
        let warning = |(value, comment): (&SectionValue, String)| {
            format!("`{comment}` is part of the value of `{}` at {}: put a comment on a line of its own", value.key, value.origin)
        };
        values.map(warning).collect()
    }

    fn from(&self) -> &dyn Environment {
        match &self.from {
            Some(from) => &**from,
            None => &environment::EmptyEnvironment,
        }
    }

    /// Returns the path of the loaded file.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Returns the files that were tried, when none was found.
    #[must_use]
    pub(crate) fn searched(&self) -> &[PathBuf] {
        &self.searched
    }

    /// Returns the warnings about the file.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns a warning for each section with a wrong type, key or value, unless `is_used` says of its name and type that the command
    /// uses it, and refuses it.
    #[must_use]
    pub(crate) fn fault_warnings(&self, is_used: impl Fn(&str, Option<SectionKind>) -> bool) -> Vec<String> {
        let unused = self.sections.iter().filter(|section| !is_used(&section.name, section.kind));
        let fault = |section: &Section| section.fault.clone().or_else(|| wrong_value(section));
        unused.filter_map(|section| Some(fault(section)?.of_unused_section())).collect()
    }

    /// Returns the names of all sections in the order of the profile; sections from variables come last.
    pub fn section_names(&self) -> impl Iterator<Item = &str> {
        self.sections.iter().map(|section| section.name.as_str())
    }

    /// Returns the type of the section `name`; `None` if the section does not exist, or its keys do not determine it.
    #[must_use]
    pub fn kind(&self, name: &str) -> Option<SectionKind> {
        self.sections.iter().find(|section| section.name == name)?.kind
    }

    /// Returns the names of the sections of one type.
    pub fn names_of(&self, kind: SectionKind) -> impl Iterator<Item = &str> {
        self.sections.iter().filter(move |section| section.kind == Some(kind)).map(|section| section.name.as_str())
    }

    /// Returns the Kafka section `name`.
    ///
    /// # Errors
    /// When it does not exist, has another type, or a value is missing or invalid.
    pub fn kafka(&self, name: &str) -> Result<KafkaSection, ProfileError> {
        KafkaSection::read(&self.section(name, &[SectionKind::Kafka], "servers = host:9092")?, self.from())
    }

    /// Returns the MongoDB section `name`.
    ///
    /// # Errors
    /// When it does not exist, has another type, or a value is missing or invalid.
    pub fn mongo(&self, name: &str) -> Result<MongoSection, ProfileError> {
        MongoSection::read(&self.section(name, &[SectionKind::Mongodb], "uri = mongodb://host:27017")?, self.from())
    }

    /// Returns the Elasticsearch or OpenSearch section `name`.
    ///
    /// # Errors
    /// When it does not exist, has another type, or a value is missing or invalid.
    pub fn elastic(&self, name: &str) -> Result<ElasticSection, ProfileError> {
        let section = self.section(name, &[SectionKind::Elasticsearch, SectionKind::Opensearch], "url = http://host:9200")?;
        ElasticSection::read(&section, self.from())
    }

    /// Returns the keys and values of `[shape.NAME]`, in the order of the profile; `None` if there is no such section.
    ///
    /// # Errors
    /// When a reference cannot be expanded.
    pub fn shape(&self, name: &str) -> Result<Option<Vec<(String, String)>>, ProfileError> {
        let is_shape = |section: &&Section| section.name.strip_prefix("shape.") == Some(name);
        let Some(section) = self.sections.iter().find(is_shape) else { return Ok(None) };
        let values = section.values.iter().map(|value| Ok((value.key.clone(), section.expanded(value, self.from())?)));
        values.collect::<Result<_, ProfileError>>().map(Some)
    }

    /// Returns where `key` of `[shape.NAME]` is set.
    #[must_use]
    pub(crate) fn shape_origin(&self, name: &str, key: &str) -> Option<&Origin> {
        let is_shape = |section: &&Section| section.name.strip_prefix("shape.") == Some(name);
        self.sections.iter().find(is_shape)?.find(key).map(|value| &value.origin)
    }

    /// Returns the keys and values of a section as they are written, without their references expanded.
    pub(crate) fn written_values(&self, name: &str) -> Vec<RunValue> {
        let written = self.sections.iter().filter(|section| section.name == name).flat_map(|section| &section.values);
        let value =
            |value: &SectionValue| RunValue { key: value.key.clone(), value: value.text.clone(), origin: value.origin.clone() };
        written.map(value).collect()
    }

    pub(crate) fn shape_names(&self) -> impl Iterator<Item = &str> {
        self.sections.iter().filter_map(|section| section.name.strip_prefix("shape."))
    }

    /// Returns the values of `[run.COMMAND]` in the order of the profile.
    ///
    /// # Errors
    /// When a reference cannot be expanded.
    pub fn run(&self, command: &str) -> Result<Vec<RunValue>, ProfileError> {
        let Some(section) = self.find(&format!("run.{command}"))? else { return Ok(Vec::new()) };
        let values = section.values.iter().map(|value| {
            let (key, origin) = (value.key.clone(), value.origin.clone());
            Ok(RunValue { key, value: section.expanded(value, self.from())?, origin })
        });
        values.collect()
    }

    /// Returns the commands with a `[run.COMMAND]`.
    pub(crate) fn run_names(&self) -> impl Iterator<Item = &str> {
        self.sections.iter().filter_map(|section| section.name.strip_prefix("run."))
    }

    /// Returns the error of a `[run.COMMAND]` for an unknown command.
    #[must_use]
    pub(crate) fn unknown_command(&self, command: &str, commands: &[&str]) -> ProfileError {
        let fault = ProfileErrorKind::UnknownCommand { meant: keys::closest(command, commands.iter().copied()) };
        self.run_section_error(command, fault)
    }

    /// Returns the error of a key of `[run.COMMAND]` that is not a flag of the command.
    #[must_use]
    pub(crate) fn unknown_flag(&self, command: &str, value: &RunValue, flags: &[&str]) -> ProfileError {
        let meant = keys::closest(&value.key.replace('_', "-"), flags.iter().copied()).map(|flag| flag.replace('-', "_"));
        self.run_value_error(command, value, ProfileErrorKind::UnknownFlag { command: command.to_owned(), meant })
    }

    /// Returns the error of a value of `[run.COMMAND]` that its flag refuses.
    #[must_use]
    pub(crate) fn invalid_flag(&self, command: &str, value: &RunValue, cause: String) -> ProfileError {
        self.run_value_error(command, value, ProfileErrorKind::Flag { cause })
    }

    fn run_value_error(&self, command: &str, value: &RunValue, fault: ProfileErrorKind) -> ProfileError {
        let error = self.run_section_error(command, fault).key(&value.key);
        match &value.origin {
            Origin::File { line, .. } => error.line(*line),
            Origin::Variable(name) => error.variable(name.clone()),
            Origin::Default => error,
        }
    }

    fn run_section_error(&self, command: &str, fault: ProfileErrorKind) -> ProfileError {
        let name = format!("run.{command}");
        match self.sections.iter().find(|section| section.name == name) {
            Some(section) => section.error(fault),
            None => ProfileError::new(fault).path(self.path()).section(&name),
        }
    }

    /// Returns every value of the section `name` without its secrets, then the defaults of the keys that it leaves out.
    ///
    /// # Errors
    /// When the section does not exist, or its type or a key is wrong.
    pub(crate) fn displayed_values(&self, name: &str) -> Result<Vec<DisplayedValue>, ProfileError> {
        let section = self.find(name)?.ok_or_else(|| {
            let meant = keys::closest(name, self.section_names());
            let kind = ProfileErrorKind::NoSection { meant, searched: self.searched.clone(), example: None };
            ProfileError::new(kind).path(self.path()).section(name)
        })?;
        Ok(display::displayed_values(&section))
    }

    /// Checks that the references in a displayed value of the section `name` can be expanded.
    ///
    /// # Errors
    /// When a variable or file is missing, or a reference is not closed.
    pub(crate) fn check_references(&self, name: &str, shown: &DisplayedValue) -> Result<(), ProfileError> {
        let Some(section) = self.find(name)? else { return Ok(()) };
        let set = section.values.iter().find(|value| value.origin == shown.origin);
        set.map_or(Ok(()), |value| section.expanded(value, self.from()).map(drop))
    }

    /// Returns where the section is defined: `FILE:LINE`, or `variables`.
    #[must_use]
    pub(crate) fn location(&self, name: &str) -> String {
        let section = self.sections.iter().find(|section| section.name == name);
        match section.and_then(|section| section.path.as_ref().zip(section.line)) {
            Some((path, line)) => format!("{}:{line}", path.display()),
            None => "variables".to_owned(),
        }
    }

    /// Returns the addresses of the section's servers, without user and password; `None` if the section is not a server's.
    #[must_use]
    pub(crate) fn servers(&self, name: &str) -> Option<String> {
        display::server_addresses(self.sections.iter().find(|section| section.name == name)?)
    }

    /// Returns the section `name`, from the file or from variables alone.
    fn find(&self, name: &str) -> Result<Option<Section>, ProfileError> {
        if let Some(section) = self.sections.iter().find(|section| section.name == name) {
            return section.clone().checked().map(Some);
        }
        let others: Vec<_> = self.section_names().map(str::to_owned).collect();
        let raw = RawSection { name: name.to_owned(), line: 0, entries: Vec::new() };
        // All of its values are variables.
        let file = self.path().map(|path| ProfileFile { path, is_foreign: false });
        let section = Section::new(raw, file, &others, &[], self.from()).checked()?;
        Ok(Some(section).filter(|section| !section.values.is_empty()))
    }

    fn section(&self, name: &str, wanted: &'static [SectionKind], example: &'static str) -> Result<Section, ProfileError> {
        if let Some(section) = self.find(name)? {
            return section.of_kind(wanted);
        }
        let meant = keys::closest(name, wanted.iter().flat_map(|kind| self.names_of(*kind)));
        let known = WELL_KNOWN.iter().find(|(known, kind)| *known == name && !wanted.contains(kind));
        let fault = match known {
            // Its section would not help.
            Some((_, is)) if meant.is_none() => ProfileErrorKind::WrongKind { is: is.as_str(), wanted },
            _ => ProfileErrorKind::NoSection { meant, searched: self.searched.clone(), example: Some(example) },
        };
        Err(ProfileError::new(fault).path(self.path()).section(name))
    }
}
