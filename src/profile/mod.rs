//! The profile, `database.ini`: where it is found, what it may hold, and where each value comes from.
//!
//! Precedence of a value: flag, `SDL_<SECTION>_<KEY>`, section, default. Syntax and keys are checked when the profile is
//! loaded; `${env:}` and `${file:}` are looked up when a section is asked for, so that a command needs only its own secrets.

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
mod show;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use elastic::{ElasticLogin, ElasticSection};
pub use environment::Environment;
pub use error::ProfileError;
pub use kafka::{KafkaSection, Protect};
pub use keys::{Key, SERVERS, SectionKind, WELL_KNOWN};
pub use mongo::MongoSection;
pub use secret::Secret;
pub use section::Origin;
pub use show::ShownValue;

pub(crate) use expand::reason;

use error::ProfileErrorKind;
use ini::RawSection;
use section::Section;

/// A name, and the keys and values below it.
type ShapeSection = (String, Vec<(String, String)>);

/// A loaded profile.
#[derive(Default)]
pub struct Profile {
    path: Option<PathBuf>,
    /// Where it was looked for in vain.
    searched: Vec<PathBuf>,
    sections: Vec<Section>,
    shapes: Vec<ShapeSection>,
    warnings: Vec<String>,
    from: Option<Arc<dyn Environment + Send + Sync>>,
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Profile").field("path", &self.path).field("sections", &self.sections).finish_non_exhaustive()
    }
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
    /// Returns the profile in the file that `flag` or `SDL_PROFILE` names, else in the first place that has one; an empty
    /// profile when none has.
    ///
    /// # Errors
    /// When the named file is not there, or the file cannot be read, or something in it is wrong.
    pub fn load(flag: Option<&Path>, from: Arc<dyn Environment + Send + Sync>) -> Result<Self, ProfileError> {
        let named = search::named(flag, &*from);
        let places = named.clone().map_or_else(|| search::places(&*from), |path| vec![path]);
        for path in &places {
            let wrong = |fault| ProfileError::new(fault).path(Some(path));
            match from.read(path) {
                Ok(bytes) => {
                    let text = String::from_utf8(bytes)
                        .map_err(|_| wrong(ProfileErrorKind::Unreadable("it is not UTF-8 text".into())))?;
                    let raw = ini::parse(&text).map_err(|error| error.path(Some(path)))?;
                    return Self::new(raw, Some(path.clone()), Vec::new(), from);
                }
                Err(error) if error.kind() == ErrorKind::NotFound && named.is_some() => {
                    return Err(wrong(ProfileErrorKind::NoFile));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(wrong(ProfileErrorKind::Unreadable(reason(&error)))),
            }
        }
        Self::new(Vec::new(), None, places, from)
    }

    fn new(
        raw: Vec<RawSection>,
        path: Option<PathBuf>,
        searched: Vec<PathBuf>,
        from: Arc<dyn Environment + Send + Sync>,
    ) -> Result<Self, ProfileError> {
        let mut names: Vec<String> = raw.iter().map(|section| section.name.clone()).collect();
        let known = WELL_KNOWN.iter().map(|(name, _)| (*name).to_owned());
        names.extend(known.filter(|name| !raw.iter().any(|section| section.name == *name)).collect::<Vec<_>>());

        let mut sections = Vec::new();
        let written = raw.len();
        let unwritten = names[written..].iter().map(|name| RawSection { name: name.clone(), line: 0, entries: Vec::new() });
        for (index, raw) in raw.into_iter().chain(unwritten.collect::<Vec<_>>()).enumerate() {
            let section = Section::new(raw, path.as_deref(), &names, &*from)?;
            if index < written || !section.values.is_empty() {
                sections.push(section);
            }
        }

        let mut profile = Self { path, searched, sections, shapes: Vec::new(), warnings: Vec::new(), from: Some(from) };
        profile.shapes = profile.read_shapes()?;
        profile.warnings = profile.look_for_exposed_secrets();
        Ok(profile)
    }

    fn read_shapes(&self) -> Result<Vec<ShapeSection>, ProfileError> {
        let shapes = self.sections.iter().filter_map(|section| Some((section, section.name.strip_prefix("shape.")?)));
        shapes
            .map(|(section, name)| {
                let values = section.values.iter().map(|value| Ok((value.key.clone(), section.expanded(value, self.from())?)));
                Ok((name.to_owned(), values.collect::<Result<_, ProfileError>>()?))
            })
            .collect()
    }

    fn look_for_exposed_secrets(&self) -> Vec<String> {
        let Some(path) = self.path.as_ref().filter(|path| self.from().others_can_read(path)) else { return Vec::new() };
        let named: Vec<_> =
            self.sections.iter().filter(|section| section.has_literal_secret()).map(|section| section.name.as_str()).collect();
        if named.is_empty() {
            return Vec::new();
        }
        let path = path.display();
        vec![format!("others can read `{path}`, which holds secrets of `{}`: run `chmod 600 {path}`", named.join("`, `"))]
    }

    fn from(&self) -> &dyn Environment {
        match &self.from {
            Some(from) => &**from,
            None => &environment::Nothing,
        }
    }

    /// Returns the file that was read, if there was one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Returns where a profile was looked for, when none was found.
    #[must_use]
    pub fn searched(&self) -> &[PathBuf] {
        &self.searched
    }

    /// Returns what the user should know about the file, a sentence each.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns the names of all sections, in the order of the profile; those made of variables come last.
    pub fn section_names(&self) -> impl Iterator<Item = &str> {
        self.sections.iter().map(|section| section.name.as_str())
    }

    /// Returns what the section called `name` is; `None` when there is none, or its keys do not tell.
    #[must_use]
    pub fn kind(&self, name: &str) -> Option<SectionKind> {
        self.sections.iter().find(|section| section.name == name)?.kind
    }

    /// Returns the names of the sections of one type.
    pub fn names_of(&self, kind: SectionKind) -> impl Iterator<Item = &str> {
        self.sections.iter().filter(move |section| section.kind == Some(kind)).map(|section| section.name.as_str())
    }

    /// Returns the Kafka section called `name`.
    ///
    /// # Errors
    /// When there is none, or it is of another type, or a value is missing or wrong.
    pub fn kafka(&self, name: &str) -> Result<KafkaSection, ProfileError> {
        KafkaSection::read(&self.section(name, &[SectionKind::Kafka], "servers = host:9092")?, self.from())
    }

    /// Returns the MongoDB section called `name`.
    ///
    /// # Errors
    /// When there is none, or it is of another type, or a value is missing or wrong.
    pub fn mongo(&self, name: &str) -> Result<MongoSection, ProfileError> {
        MongoSection::read(&self.section(name, &[SectionKind::Mongodb], "uri = mongodb://host:27017")?, self.from())
    }

    /// Returns the Elasticsearch or OpenSearch section called `name`.
    ///
    /// # Errors
    /// When there is none, or it is of another type, or a value is missing or wrong.
    pub fn elastic(&self, name: &str) -> Result<ElasticSection, ProfileError> {
        let section = self.section(name, &[SectionKind::Elasticsearch, SectionKind::Opensearch], "url = http://host:9200")?;
        ElasticSection::read(&section, self.from())
    }

    /// Returns the keys and values of `[shape.NAME]`, in the order of the profile.
    #[must_use]
    pub fn shape(&self, name: &str) -> Option<&[(String, String)]> {
        self.shapes.iter().find(|(shape, _)| shape == name).map(|(_, values)| values.as_slice())
    }

    /// Returns the names of the shapes.
    pub fn shape_names(&self) -> impl Iterator<Item = &str> {
        self.shapes.iter().map(|(name, _)| name.as_str())
    }

    /// Returns the values of `[run.COMMAND]`, in the order of the profile; none when there is no such section.
    ///
    /// # Errors
    /// When what a value refers to is not there.
    pub fn run(&self, command: &str) -> Result<Vec<RunValue>, ProfileError> {
        let Some(section) = self.find(&format!("run.{command}"))? else { return Ok(Vec::new()) };
        let values = section.values.iter().map(|value| {
            let (key, origin) = (value.key.clone(), value.origin.clone());
            Ok(RunValue { key, value: section.expanded(value, self.from())?, origin })
        });
        values.collect()
    }

    /// Returns the commands that the profile has a `[run.COMMAND]` for.
    pub fn run_names(&self) -> impl Iterator<Item = &str> {
        self.sections.iter().filter_map(|section| section.name.strip_prefix("run."))
    }

    /// Returns the error of a `[run.COMMAND]` for a command that does not exist.
    #[must_use]
    pub fn unknown_command(&self, command: &str, commands: &[&str]) -> ProfileError {
        let fault = ProfileErrorKind::UnknownCommand { meant: keys::meant(command, commands.iter().copied()) };
        self.fault_in_run(command, fault)
    }

    /// Returns the error of a key of `[run.COMMAND]` that is none of the command's flags.
    #[must_use]
    pub fn unknown_flag(&self, command: &str, value: &RunValue, flags: &[&str]) -> ProfileError {
        let meant = keys::meant(&value.key.replace('_', "-"), flags.iter().copied()).map(|flag| flag.replace('-', "_"));
        self.fault_of_flag(command, value, ProfileErrorKind::UnknownFlag { command: command.to_owned(), meant })
    }

    /// Returns the error of a value of `[run.COMMAND]` that its flag does not take.
    #[must_use]
    pub fn wrong_flag(&self, command: &str, value: &RunValue, cause: String) -> ProfileError {
        self.fault_of_flag(command, value, ProfileErrorKind::Flag { cause })
    }

    fn fault_of_flag(&self, command: &str, value: &RunValue, fault: ProfileErrorKind) -> ProfileError {
        let error = self.fault_in_run(command, fault).key(&value.key);
        match &value.origin {
            Origin::File { line, .. } => error.line(*line),
            Origin::Variable(name) => error.variable(name.clone()),
            Origin::Default => error,
        }
    }

    fn fault_in_run(&self, command: &str, fault: ProfileErrorKind) -> ProfileError {
        let name = format!("run.{command}");
        match self.sections.iter().find(|section| section.name == name) {
            Some(section) => section.fault(fault),
            None => ProfileError::new(fault).path(self.path()).section(&name),
        }
    }

    /// Returns the section called `name`, from the file or made of variables alone.
    fn find(&self, name: &str) -> Result<Option<Section>, ProfileError> {
        if let Some(section) = self.sections.iter().find(|section| section.name == name) {
            return Ok(Some(section.clone()));
        }
        let others: Vec<_> = self.section_names().map(str::to_owned).collect();
        let raw = RawSection { name: name.to_owned(), line: 0, entries: Vec::new() };
        let section = Section::new(raw, self.path(), &others, self.from())?;
        Ok(Some(section).filter(|section| !section.values.is_empty()))
    }

    fn section(&self, name: &str, wanted: &[SectionKind], example: &'static str) -> Result<Section, ProfileError> {
        if let Some(section) = self.find(name)? {
            return section.of_kind(wanted);
        }
        let meant = keys::meant(name, wanted.iter().flat_map(|kind| self.names_of(*kind)));
        let fault = ProfileErrorKind::NoSection { meant, searched: self.searched.clone(), example: Some(example) };
        Err(ProfileError::new(fault).path(self.path()).section(name))
    }
}
