//! The environment of this process.

use std::io;
use std::path::Path;

use crate::error::Error;
use crate::profile::{Environment, FoundFile};

/// Checks that the time zone in the variable `TZ`, if it is set, is known.
///
/// # Errors
/// When it is not: times would silently be in UTC.
pub(crate) fn check_time_zone() -> Result<(), Error> {
    match std::env::var_os("TZ") {
        Some(zone) if !zone.is_empty() && jiff::tz::TimeZone::try_system().is_err() => Err(Error::Usage {
            what: format!("unknown time zone `{}` in the variable `TZ`", zone.to_string_lossy()),
            hint: "use a name from the tz database, as in TZ=Europe/Berlin, or unset it".to_owned(),
        }),
        _ => Ok(()),
    }
}

/// The environment variables of this process, and the files it can read.
#[derive(Debug)]
pub struct SystemEnvironment;

impl Environment for SystemEnvironment {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn variable_names(&self) -> Vec<String> {
        let mut names: Vec<_> = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
        names.sort();
        names
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    #[cfg(unix)]
    fn find(&self, path: &Path) -> io::Result<FoundFile> {
        use std::io::Read as _;
        use std::os::unix::fs::MetadataExt as _;
        let mut file = std::fs::File::open(path)?;
        let about = file.metadata()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let is_own = [0, rustix::process::geteuid().as_raw()].contains(&about.uid());
        Ok(FoundFile { bytes, is_foreign: !is_own || about.mode() & 0o022 != 0 })
    }

    #[cfg(unix)]
    fn others_can_read(&self, path: &Path) -> bool {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o044 != 0)
    }

    #[cfg(not(unix))]
    fn others_can_read(&self, _: &Path) -> bool {
        false
    }
}
