//! Finds the profile.

use std::path::{Path, PathBuf};

use crate::profile::environment::Environment;

/// Returns the file named by the flag or `SDL_PROFILE`.
pub(crate) fn explicit_path(flag: Option<&Path>, from: &dyn Environment) -> Option<PathBuf> {
    flag.map(Path::to_owned).or_else(|| from.variable("SDL_PROFILE").filter(|path| !path.is_empty()).map(PathBuf::from))
}

/// The profile of the working folder.
const OF_WORKING_FOLDER: &str = "./database.ini";

/// Returns whether a path of [`search_paths`] is that of the working folder.
pub(crate) fn is_of_working_folder(path: &Path) -> bool {
    path == Path::new(OF_WORKING_FOLDER)
}

/// Returns the files that are tried when none is named, in order.
pub(crate) fn search_paths(from: &dyn Environment) -> Vec<PathBuf> {
    let absolute = |name: &str| from.variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
    let user = config.map(|config| config.join("sdl/database.ini"));
    [Some(OF_WORKING_FOLDER.into()), user, Some("/etc/sdl/database.ini".into())].into_iter().flatten().collect()
}
