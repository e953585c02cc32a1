//! Where the profile is looked for.

use std::path::Path;
use std::sync::Arc;

use sdl::profile::Profile;

use super::{Made, profile};

#[test]
fn the_first_existing_profile_is_used() {
    let section = |name: &str| format!("[{name}]\nservers = a:1\n");
    let places =
        [("/named.ini", "named"), ("./database.ini", "here"), ("/xdg/sdl/database.ini", "xdg"), ("/etc/sdl/database.ini", "etc")];
    for skipped in 0..places.len() {
        let mut made = Made::default().variable("XDG_CONFIG_HOME", "/xdg").variable("HOME", "/home/me");
        for (path, name) in &places[skipped..] {
            made = made.file(path, &section(name));
        }
        if skipped == 0 {
            made = made.variable("SDL_PROFILE", "/named.ini");
        }
        let profile = made.load().unwrap();
        assert_eq!(profile.section_names().collect::<Vec<_>>(), [places[skipped].1]);
        assert_eq!(profile.path(), Some(Path::new(places[skipped].0)));
    }
}

#[test]
fn a_flag_overrides_the_variable_that_names_the_profile() {
    let made = Made::default().file("/flag.ini", "[flag]\nservers = a:1\n").file("/variable.ini", "[variable]\nservers = a:1\n");
    let made = made.variable("SDL_PROFILE", "/variable.ini");
    let profile = Profile::load(Some(Path::new("/flag.ini")), Arc::new(made)).unwrap();
    assert_eq!(profile.section_names().collect::<Vec<_>>(), ["flag"]);
}

#[test]
fn the_configuration_folder_is_that_of_the_home_without_xdg() {
    let made = Made::default().variable("HOME", "/home/me").file("/home/me/.config/sdl/database.ini", "[here]\nservers = a:1\n");
    assert_eq!(made.clone().load().unwrap().section_names().count(), 1);
    let relative = made.variable("XDG_CONFIG_HOME", "relative").load().unwrap();
    assert_eq!(relative.section_names().count(), 1, "a relative folder does not count");
}

#[test]
fn an_empty_variable_names_no_profile() {
    assert_eq!(profile("[a]\nservers = a:1\n").variable("SDL_PROFILE", "").load().unwrap().section_names().count(), 1);
}
