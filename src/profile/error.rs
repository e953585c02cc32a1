//! Errors of the profile.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::profile::keys::{Replacement, SectionKind, variable_name};

/// An error in the profile, with its location.
#[derive(Clone, Debug)]
pub struct ProfileError {
    location: Box<ErrorLocation>,
    kind: ProfileErrorKind,
}

#[derive(Clone, Debug, Default)]
struct ErrorLocation {
    path: Option<PathBuf>,
    line: Option<usize>,
    variable: Option<String>,
    section: Option<String>,
    key: Option<String>,
}

/// A remedy for a [`ProfileError`]. The command adds the flags to type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProfileHint {
    /// A sentence.
    Text(String),
    /// Create a profile, or name another file.
    CreateProfile,
    /// Look at this file's permissions, or name another file.
    CheckFile(String),
    /// Make this file one's own, or name it.
    TrustFile(String),
    /// Look at the help of this command, or of the program.
    CommandHelp(Option<String>),
    /// Use this in place of the property.
    Replace(Replacement),
}

/// The kind of an error. No variant holds a value that can be a secret.
#[derive(Clone, Debug)]
pub(crate) enum ProfileErrorKind {
    /// The named file does not exist.
    NoFile,
    Unreadable(String),
    /// A line that cannot be parsed.
    Syntax(SyntaxErrorKind),
    /// A key that would continue the value above it.
    IndentedKey {
        key: String,
    },
    DuplicateSection {
        first: usize,
    },
    DuplicateKey {
        first: usize,
    },
    /// Both names of one key.
    DuplicateAlias {
        first: String,
    },
    UnknownKey {
        meant: Option<String>,
    },
    /// A name that other Kafka tools use for `key`.
    ForeignKey {
        key: &'static str,
    },
    /// A librdkafka property without the prefix `kafka.`.
    UnprefixedProperty,
    /// A `kafka.` property that sdl manages.
    ManagedProperty {
        instead: Replacement,
    },
    NoSection {
        meant: Option<String>,
        searched: Vec<PathBuf>,
        example: Option<&'static str>,
    },
    WrongKind {
        is: &'static str,
        wanted: &'static [SectionKind],
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
        /// Text after the value that looks like a comment.
        comment: Option<String>,
        wanted: String,
    },
    /// A value that is not secret and is no list of addresses.
    Addresses {
        value: String,
        wanted: String,
        /// What to do, if there is too much of something.
        remedy: Option<&'static str>,
    },
    /// An address with a port that does not exist.
    Port {
        address: String,
    },
    /// A value with text that looks like a comment.
    Comment {
        comment: String,
    },
    /// A key that does not go with others: why, and what to do.
    Conflict {
        why: String,
        hint: String,
    },
    /// A value that only the user's own profile may have.
    Foreign {
        what: String,
    },
    UnknownCommand {
        meant: Option<String>,
    },
    UnknownFlag {
        command: String,
        meant: Option<String>,
    },
    /// A value that the flag of the same name refuses.
    Flag {
        cause: String,
    },
}

/// The end of a warning about a section that the command does not use.
pub(crate) const UNUSED: &str = "a command that uses it fails";

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SyntaxErrorKind {
    /// A section header without its end or its name.
    Header,
    /// A line without `=`, or without a key.
    Line,
    /// A key above the first section header.
    KeyWithoutSection,
}

impl SyntaxErrorKind {
    fn cause(self) -> &'static str {
        match self {
            Self::Header => "a section is written `[name]`",
            Self::Line => "a line is written `key = value`",
            Self::KeyWithoutSection => "a key stands above the first `[section]`",
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Self::Header => "write the name between `[` and `]`",
            Self::Line => "a comment starts with `#` at the beginning of its line",
            Self::KeyWithoutSection => "put the header of its section above it, as in [local_kafka]",
        }
    }
}

impl ProfileError {
    pub(crate) fn new(fault: ProfileErrorKind) -> Self {
        Self { location: Box::default(), kind: fault }
    }

    pub(crate) fn path(mut self, path: Option<&Path>) -> Self {
        self.location.path = path.map(Path::to_owned);
        self
    }

    pub(crate) fn line(mut self, line: impl Into<Option<usize>>) -> Self {
        self.location.line = line.into();
        self
    }

    pub(crate) fn variable(mut self, name: impl Into<Option<String>>) -> Self {
        self.location.variable = name.into();
        self
    }

    pub(crate) fn section(mut self, name: &str) -> Self {
        self.location.section = Some(name.to_owned());
        self
    }

    pub(crate) fn key(mut self, key: &str) -> Self {
        self.location.key = Some(key.to_owned());
        self
    }

    fn file(&self) -> String {
        self.location.path.as_ref().map_or_else(|| "the profile".to_owned(), |path| path.display().to_string())
    }

    fn named_key(&self) -> &str {
        self.location.key.as_deref().unwrap_or_default()
    }

    /// Returns ` at FILE:LINE` or ` in the variable NAME`.
    fn location(&self) -> String {
        match (&self.location.variable, self.location.line) {
            (Some(name), _) => format!(" in the variable `{name}`"),
            (None, Some(line)) => format!(" at {}:{line}", self.file()),
            (None, None) => String::new(),
        }
    }

    /// Returns the causes, outermost first.
    #[must_use]
    pub fn causes(&self) -> Vec<String> {
        let (key, place) = (self.named_key(), self.location());
        let cause = match &self.kind {
            ProfileErrorKind::NoFile => "there is no such file".to_owned(),
            ProfileErrorKind::Unreadable(cause) => cause.clone(),
            ProfileErrorKind::Syntax(kind) => format!("{}{place}", kind.cause()),
            ProfileErrorKind::DuplicateSection { first } => {
                format!("the section is given twice: first in line {first}, again{place}")
            }
            ProfileErrorKind::DuplicateKey { first } => {
                format!("key `{key}` is given twice: first in line {first}, again{place}")
            }
            ProfileErrorKind::DuplicateAlias { first } => {
                format!("key `{key}`{place} is another name for `{first}`, which is also given")
            }
            ProfileErrorKind::IndentedKey { key } => {
                format!("`{key}`{place} is indented deeper than the key above it, and would continue that key's value")
            }
            ProfileErrorKind::UnknownKey { .. }
            | ProfileErrorKind::ForeignKey { .. }
            | ProfileErrorKind::UnprefixedProperty
            | ProfileErrorKind::UnknownFlag { .. } => format!("unknown key `{key}`{place}"),
            ProfileErrorKind::ManagedProperty { .. } => {
                format!("key `{key}`{place} is managed by sdl: the delivery promise depends on it")
            }
            ProfileErrorKind::NoSection { searched, .. } if searched.is_empty() => {
                format!("{} has no section with this name", self.file())
            }
            ProfileErrorKind::NoSection { searched, .. } => {
                let searched: Vec<_> = searched.iter().map(|path| path.display().to_string()).collect();
                format!("no profile found, searched {}", searched.join(", "))
            }
            ProfileErrorKind::WrongKind { is, wanted } => {
                format!("the section has type `{is}`, but {} is needed here", one_of(wanted))
            }
            ProfileErrorKind::MissingKey { .. } => format!("missing key `{key}`"),
            ProfileErrorKind::NoVariable { name } => format!("key `{key}`{place} needs the variable `{name}`, which is not set"),
            ProfileErrorKind::NoSecretFile { path, cause } => format!("key `{key}`{place} needs the file `{path}`: {cause}"),
            ProfileErrorKind::Unclosed => format!("key `{key}`{place} has a `${{` without its `}}`"),
            ProfileErrorKind::Value { comment: Some(comment), wanted } => {
                format!("key `{key}`{place} is not {wanted}: `{comment}` is part of the value")
            }
            ProfileErrorKind::Value { comment: None, wanted } => format!("key `{key}`{place} is not {wanted}"),
            ProfileErrorKind::Addresses { value, wanted, .. } => format!("key `{key}`{place}, `{value}`, is not {wanted}"),
            ProfileErrorKind::Port { address } => format!("key `{key}`{place}: the port of `{address}` is above 65535"),
            ProfileErrorKind::Comment { comment } => format!("`{comment}` is part of the value of key `{key}`{place}"),
            ProfileErrorKind::Conflict { why, .. } => format!("key `{key}`{place} {why}"),
            ProfileErrorKind::Foreign { what } => {
                format!("{what}{place} is refused: another user owns the file of the working folder, or others can write it")
            }
            ProfileErrorKind::UnknownCommand { .. } => format!("there is no such command{place}"),
            ProfileErrorKind::Flag { cause } => format!("key `{key}`{place}: {cause}"),
        };
        vec![cause]
    }

    /// Returns the warning about a section that the command does not use.
    #[must_use]
    pub(crate) fn of_unused_section(&self) -> String {
        format!("{self}: {}; {UNUSED}", self.causes().join(": "))
    }

    /// Returns whether a value is wrong, rather than missing.
    #[must_use]
    pub(crate) fn is_of_value(&self) -> bool {
        use ProfileErrorKind as Kind;
        matches!(self.kind, Kind::Value { .. } | Kind::Addresses { .. } | Kind::Port { .. } | Kind::Comment { .. })
    }

    /// Returns what a reference lacks, without the key and its place; `None` for other errors.
    #[must_use]
    pub(crate) fn missing_reference(&self) -> Option<String> {
        match &self.kind {
            ProfileErrorKind::NoVariable { name } => Some(format!("variable {name} is not set")),
            ProfileErrorKind::NoSecretFile { path, cause } => Some(format!("file {path}: {cause}")),
            ProfileErrorKind::Unclosed => Some("`${` without its `}`".to_owned()),
            _ => None,
        }
    }

    /// Returns one thing to do about the error.
    #[must_use]
    pub(crate) fn hint(&self) -> ProfileHint {
        let key = self.named_key();
        let section = self.location.section.as_deref().unwrap_or_default();
        ProfileHint::Text(match &self.kind {
            ProfileErrorKind::NoFile => return ProfileHint::CreateProfile,
            ProfileErrorKind::Unreadable(_) => return ProfileHint::CheckFile(self.file()),
            ProfileErrorKind::Foreign { .. } => return ProfileHint::TrustFile(self.file()),
            ProfileErrorKind::UnknownCommand { meant: None } => return ProfileHint::CommandHelp(None),
            ProfileErrorKind::UnknownFlag { command, meant: None } => return ProfileHint::CommandHelp(Some(command.clone())),
            ProfileErrorKind::ManagedProperty { instead } => return ProfileHint::Replace(*instead),
            ProfileErrorKind::Syntax(kind) => kind.hint().to_owned(),
            ProfileErrorKind::IndentedKey { .. } => "begin every key at the same column".to_owned(),
            ProfileErrorKind::ForeignKey { key } => format!("use `{key}`"),
            ProfileErrorKind::UnprefixedProperty => format!("write librdkafka's properties with a prefix: `kafka.{key}`"),
            ProfileErrorKind::DuplicateSection { .. } => format!("put all keys below one [{section}]"),
            ProfileErrorKind::DuplicateKey { .. } | ProfileErrorKind::DuplicateAlias { .. } => "remove one of the two".to_owned(),
            ProfileErrorKind::UnknownKey { meant: Some(meant) } | ProfileErrorKind::UnknownFlag { meant: Some(meant), .. } => {
                format!("did you mean `{meant}`?")
            }
            ProfileErrorKind::UnknownCommand { meant: Some(meant) } => format!("did you mean [run.{meant}]?"),
            ProfileErrorKind::UnknownKey { meant: None } if self.location.variable.is_some() => {
                "unset it, or add its section to the profile if it belongs to another one".to_owned()
            }
            ProfileErrorKind::UnknownKey { meant: None } => "remove it; database.ini.example has every key".to_owned(),
            ProfileErrorKind::NoSection { meant: Some(meant), .. } => format!("did you mean `{meant}`?"),
            ProfileErrorKind::NoSection { meant: None, searched, example } => match example {
                Some(example) if searched.is_empty() => {
                    format!("add [{section}] with `{example}` to {}, or set {}", self.file(), self.variable_of(example))
                }
                Some(example) => format!("run `sdl profile init`, or set {}", self.variable_of(example)),
                None => "see `sdl profile list`".to_owned(),
            },
            ProfileErrorKind::WrongKind { is, wanted } => match *is {
                "elasticsearch" | "opensearch" => {
                    format!("name a section of type {}; `sdl sink-es` writes to `{is}`", one_of(wanted))
                }
                "mongodb" => format!("name a section of type {}; `sdl sink-mongo` writes to `{is}`", one_of(wanted)),
                _ => "see `sdl profile list` for the sections and their types".to_owned(),
            },
            ProfileErrorKind::MissingKey { example } => {
                format!("add `{example}` under [{section}] in {}, or set {}", self.file(), self.variable_of(example))
            }
            ProfileErrorKind::NoVariable { name } => format!("export {name}=..."),
            ProfileErrorKind::NoSecretFile { path, .. } => format!("see `ls -l {path}`"),
            ProfileErrorKind::Unclosed => "write ${env:NAME} or ${file:/path}".to_owned(),
            ProfileErrorKind::Value { comment: Some(_), .. } => "put the comment on a line of its own".to_owned(),
            ProfileErrorKind::Comment { .. } => {
                "put the comment on a line of its own; ${env:NAME} stands for a value that contains `#` or `;`".to_owned()
            }
            ProfileErrorKind::Port { .. } => "use a port between 1 and 65535".to_owned(),
            ProfileErrorKind::Addresses { remedy: Some(remedy), .. } => (*remedy).to_owned(),
            ProfileErrorKind::Value { wanted, .. } | ProfileErrorKind::Addresses { wanted, .. } => {
                format!("set `{key}` to {wanted}")
            }
            ProfileErrorKind::Conflict { hint, .. } => hint.clone(),
            ProfileErrorKind::Flag { .. } => format!("correct it in [{section}], or remove it"),
        })
    }

    /// Returns the environment variable of the key in `example`, `key = value`.
    fn variable_of(&self, example: &str) -> String {
        let key = example.split(' ').next().unwrap_or_default();
        variable_name(self.location.section.as_deref().unwrap_or_default(), key)
    }
}

/// Returns the kinds as part of a sentence.
fn one_of(kinds: &[SectionKind]) -> String {
    let names: Vec<_> = kinds.iter().map(|kind| format!("`{}`", kind.as_str())).collect();
    names.join(" or ")
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location.section {
            Some(section) => write!(f, "cannot read section `{section}`"),
            None => write!(f, "cannot read the profile `{}`", self.file()),
        }
    }
}

impl std::error::Error for ProfileError {}
