//! What can be wrong with a profile.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::profile::section::variable_name;

/// A profile that cannot be used: what is wrong, and where.
#[derive(Debug)]
pub struct ProfileError {
    place: Box<ErrorLocation>,
    fault: ProfileErrorKind,
}

#[derive(Debug, Default)]
struct ErrorLocation {
    path: Option<PathBuf>,
    line: Option<usize>,
    variable: Option<String>,
    section: Option<String>,
    key: Option<String>,
}

/// What is wrong. No variant holds a value: values can be secrets.
#[derive(Debug)]
pub(crate) enum ProfileErrorKind {
    /// The file that was named is not there.
    NoFile,
    /// The file cannot be read.
    Unreadable(String),
    /// A line that cannot be understood, and what it should look like.
    Syntax(&'static str),
    DuplicateSection {
        first: usize,
    },
    DuplicateKey {
        first: usize,
    },
    /// Two spellings of one key.
    DuplicateAlias {
        first: String,
    },
    UnknownKey {
        meant: Option<String>,
    },
    /// A `kafka.` property that the engine sets itself, and what to use in its place.
    Owned {
        instead: &'static str,
    },
    NoSection {
        meant: Option<String>,
        searched: Vec<PathBuf>,
        example: Option<&'static str>,
    },
    WrongKind {
        is: &'static str,
        wanted: &'static str,
    },
    MissingKey {
        example: &'static str,
    },
    NoVariable {
        name: String,
    },
    NoSecretFile {
        path: String,
        cause: String,
    },
    Unclosed,
    Value {
        wanted: String,
    },
    UnknownCommand {
        meant: Option<String>,
    },
    UnknownFlag {
        command: String,
        meant: Option<String>,
    },
    /// A flag's value that the command line would refuse too.
    Flag {
        cause: String,
    },
}

impl ProfileError {
    pub(crate) fn new(fault: ProfileErrorKind) -> Self {
        Self { place: Box::default(), fault }
    }

    pub(crate) fn path(mut self, path: Option<&Path>) -> Self {
        self.place.path = path.map(Path::to_owned);
        self
    }

    pub(crate) fn line(mut self, line: impl Into<Option<usize>>) -> Self {
        self.place.line = line.into();
        self
    }

    pub(crate) fn variable(mut self, name: impl Into<Option<String>>) -> Self {
        self.place.variable = name.into();
        self
    }

    pub(crate) fn section(mut self, name: &str) -> Self {
        self.place.section = Some(name.to_owned());
        self
    }

    pub(crate) fn key(mut self, key: &str) -> Self {
        self.place.key = Some(key.to_owned());
        self
    }

    fn file(&self) -> String {
        self.place.path.as_ref().map_or_else(|| "the profile".to_owned(), |path| path.display().to_string())
    }

    fn named_key(&self) -> &str {
        self.place.key.as_deref().unwrap_or_default()
    }

    /// Returns ` at FILE:LINE` or ` in the variable NAME`, whichever the fault has.
    fn place(&self) -> String {
        match (&self.place.variable, self.place.line) {
            (Some(name), _) => format!(" in the variable `{name}`"),
            (None, Some(line)) => format!(" at {}:{line}", self.file()),
            (None, None) => String::new(),
        }
    }

    /// Returns the causes, outermost first.
    #[must_use]
    pub fn causes(&self) -> Vec<String> {
        let (key, place) = (self.named_key(), self.place());
        let cause = match &self.fault {
            ProfileErrorKind::NoFile => "there is no such file".to_owned(),
            ProfileErrorKind::Unreadable(cause) => cause.clone(),
            ProfileErrorKind::Syntax(expected) => format!("{expected}{place}"),
            ProfileErrorKind::DuplicateSection { first } => format!("it is given twice: first in line {first}, again{place}"),
            ProfileErrorKind::DuplicateKey { first } => {
                format!("key `{key}` is given twice: first in line {first}, again{place}")
            }
            ProfileErrorKind::DuplicateAlias { first } => {
                format!("key `{key}`{place} is another name for `{first}`, which is given too")
            }
            ProfileErrorKind::UnknownKey { .. } | ProfileErrorKind::UnknownFlag { .. } => format!("unknown key `{key}`{place}"),
            ProfileErrorKind::Owned { .. } => {
                format!("key `{key}`{place} is set by sdl itself, its delivery promise rests on it")
            }
            ProfileErrorKind::NoSection { searched, .. } if searched.is_empty() => {
                format!("{} has no section of this name", self.file())
            }
            ProfileErrorKind::NoSection { searched, .. } => {
                let searched: Vec<_> = searched.iter().map(|path| path.display().to_string()).collect();
                format!("no profile was found, neither of {}", searched.join(", "))
            }
            ProfileErrorKind::WrongKind { is, wanted } => {
                format!("it is a section of type `{is}`, and `{wanted}` is needed here")
            }
            ProfileErrorKind::MissingKey { .. } => format!("missing key `{key}`"),
            ProfileErrorKind::NoVariable { name } => format!("key `{key}`{place} needs the variable `{name}`, which is not set"),
            ProfileErrorKind::NoSecretFile { path, cause } => format!("key `{key}`{place} needs the file `{path}`: {cause}"),
            ProfileErrorKind::Unclosed => format!("key `{key}`{place} has a `${{` without its `}}`"),
            ProfileErrorKind::Value { wanted } => format!("key `{key}`{place} is not {wanted}"),
            ProfileErrorKind::UnknownCommand { .. } => format!("there is no such command{place}"),
            ProfileErrorKind::Flag { cause } => format!("key `{key}`{place}: {cause}"),
        };
        vec![cause]
    }

    /// Returns one thing to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let key = self.named_key();
        let section = self.place.section.as_deref().unwrap_or_default();
        Some(match &self.fault {
            ProfileErrorKind::NoFile => "write one with `sdl profile init`, or name another with --profile FILE".to_owned(),
            ProfileErrorKind::Unreadable(_) => format!("see `ls -l {}`, or name another file with --profile FILE", self.file()),
            ProfileErrorKind::Syntax(_) => "a comment starts with `#` at the beginning of its line".to_owned(),
            ProfileErrorKind::DuplicateSection { .. } => format!("put all keys below one [{section}]"),
            ProfileErrorKind::DuplicateKey { .. } | ProfileErrorKind::DuplicateAlias { .. } => "remove one of the two".to_owned(),
            ProfileErrorKind::UnknownKey { meant: Some(meant) } | ProfileErrorKind::UnknownFlag { meant: Some(meant), .. } => {
                format!("did you mean `{meant}`?")
            }
            ProfileErrorKind::UnknownCommand { meant: Some(meant) } => format!("did you mean [run.{meant}]?"),
            ProfileErrorKind::UnknownCommand { meant: None } => "see `sdl --help` for the commands".to_owned(),
            ProfileErrorKind::UnknownKey { meant: None } if self.place.variable.is_some() => {
                "unset it, or add its section to the profile if it belongs to another one".to_owned()
            }
            ProfileErrorKind::UnknownKey { meant: None } => "remove it; database.ini.example has every key".to_owned(),
            ProfileErrorKind::UnknownFlag { command, meant: None } => format!("see `sdl {command} --help` for the flags"),
            ProfileErrorKind::Owned { instead } => (*instead).to_owned(),
            ProfileErrorKind::NoSection { meant: Some(meant), .. } => format!("did you mean `{meant}`?"),
            ProfileErrorKind::NoSection { meant: None, searched, example } => match example {
                Some(example) if searched.is_empty() => {
                    format!("add [{section}] with `{example}` to {}, or set {}", self.file(), self.variable_of(example))
                }
                Some(example) => format!("run `sdl profile init`, or set {}", self.variable_of(example)),
                None => "see `sdl profile list`".to_owned(),
            },
            ProfileErrorKind::WrongKind { .. } => "see `sdl profile list` for the sections and their types".to_owned(),
            ProfileErrorKind::MissingKey { example } => {
                format!("add `{example}` under [{section}] in {}, or set {}", self.file(), self.variable_of(example))
            }
            ProfileErrorKind::NoVariable { name } => format!("export {name}=..."),
            ProfileErrorKind::NoSecretFile { path, .. } => format!("see `ls -l {path}`"),
            ProfileErrorKind::Unclosed => "write ${env:NAME} or ${file:/path}".to_owned(),
            ProfileErrorKind::Value { wanted } => format!("set `{key}` to {wanted}"),
            ProfileErrorKind::Flag { .. } => format!("correct it in [{section}], or remove it"),
        })
    }

    /// Returns the variable that stands for the key of `example`, `key = value`.
    fn variable_of(&self, example: &str) -> String {
        let key = example.split(' ').next().unwrap_or_default();
        variable_name(self.place.section.as_deref().unwrap_or_default(), key)
    }
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place.section {
            Some(section) => write!(f, "cannot read section `{section}`"),
            None => write!(f, "cannot read the profile `{}`", self.file()),
        }
    }
}

impl std::error::Error for ProfileError {}
