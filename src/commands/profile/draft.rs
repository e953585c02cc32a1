//! The profile that `sdl profile init` writes.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Access, access};
use rustix::io::Errno;

use crate::commands::SystemEnvironment;
use crate::profile::{Environment, Profile, ProfileError};

/// A section with its keys and values, in order.
pub(super) struct DraftSection {
    pub(super) name: String,
    pub(super) values: Vec<(&'static str, String)>,
}

/// Returns the text of a profile with these sections, without empty values.
pub(super) fn text(sections: &[DraftSection]) -> String {
    let mut text = String::from("# Written by `sdl profile init`. `sdl profile show` shows the effective values.\n");
    for section in sections {
        let _ = writeln!(text, "\n[{}]", section.name);
        for (key, value) in section.values.iter().filter(|(_, value)| !value.is_empty()) {
            let _ = writeln!(text, "{key} = {value}");
        }
    }
    text
}

/// Parses `text` as the profile at `path`.
///
/// # Errors
/// When it is wrong.
pub(super) fn profile(path: &Path, text: &str) -> Result<Profile, ProfileError> {
    let draft = Draft { path: path.to_owned(), text: text.to_owned() };
    Profile::load(Some(path), Arc::new(draft))
}

/// Returns whether `value` reads back unchanged from a profile.
pub(super) fn is_writable(value: &str) -> bool {
    value.trim() == value && !value.contains(['\n', '\r'])
}

/// The environment of this process, with one file that is not written yet.
struct Draft {
    path: PathBuf,
    text: String,
}

impl Environment for Draft {
    fn variable(&self, name: &str) -> Option<String> {
        SystemEnvironment.variable(name)
    }

    fn variable_names(&self) -> Vec<String> {
        SystemEnvironment.variable_names()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if path == self.path { Ok(self.text.clone().into_bytes()) } else { SystemEnvironment.read(path) }
    }

    fn others_can_read(&self, path: &Path) -> bool {
        path != self.path && SystemEnvironment.others_can_read(path)
    }
}

/// Checks that [`write`] can succeed, and creates nothing.
///
/// # Errors
/// When its folder does not exist or is not writable, or a folder has this name.
pub(super) fn check_writable(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Err(Errno::ISDIR.into());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(access(folder, Access::WRITE_OK | Access::EXEC_OK)?)
}

/// Writes `text` to `path` atomically, readable only by its owner.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = create_private(&temporary).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    });
    if written.is_err() {
        // The file may not exist.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(values: Vec<(&'static str, String)>) -> DraftSection {
        DraftSection { name: "remote_kafka".to_owned(), values }
    }

    #[test]
    fn a_drafted_profile_is_read_back() {
        let password = r#"p\w"d';#$x${y"#;
        let values = vec![("servers", "a:1,b:2".to_owned()), ("username", "u".to_owned()), ("password", password.to_owned())];
        let text = text(&[section([values, vec![("cluster_id", String::new())]].concat())]);
        let read = profile(Path::new("draft.ini"), &text).unwrap().kafka("remote_kafka").unwrap();
        assert_eq!((read.servers.as_str(), read.username.as_deref()), ("a:1,b:2", Some("u")));
        assert_eq!(read.password.unwrap().reveal(), password);
        assert!(!text.contains("cluster_id"));
    }

    #[test]
    fn a_value_that_cannot_be_written_unchanged_is_detected() {
        assert!(is_writable("${env:X} a=b#c"));
        for lost in [" x", "x ", "x\ny"] {
            assert!(!is_writable(lost), "{lost:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_profile_is_readable_by_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("database.ini");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        write(&path, "new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_profile_in_a_missing_folder_is_refused_and_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing/database.ini");
        assert!(check_writable(&missing).is_err() && write(&missing, "x").is_err());
        assert!(check_writable(folder.path()).is_err() && check_writable(&folder.path().join("database.ini")).is_ok());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
