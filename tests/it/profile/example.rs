//! `database.ini.example`.

use std::path::Path;

use sdl::profile::{SERVER_KINDS, SectionKind};

use super::profile;

/// The example in the tree: its lines with the comment sign in front of every key taken away.
fn example() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("database.ini.example");
    let uncommented = |line: &str| {
        line.strip_prefix('#').filter(|rest| !rest.starts_with([' ', '#']) && rest.contains(" = ")).unwrap_or(line).to_owned()
    };
    std::fs::read_to_string(path).unwrap().lines().map(|line| uncommented(line) + "\n").collect()
}

#[test]
fn the_example_is_a_valid_profile() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("database.ini.example");
    let profile = profile(&std::fs::read_to_string(path).unwrap()).load().unwrap();
    for name in ["remote_kafka", "local_kafka"] {
        assert!(profile.kind(name) == Some(SectionKind::Kafka), "{name}");
    }
}

#[test]
fn the_example_names_every_key() {
    let example = example();
    for kind in SERVER_KINDS {
        for key in kind.keys() {
            assert!(
                example.lines().any(|line| line.starts_with(&format!("{} = ", key.name))),
                "{}: `{}`",
                kind.as_str(),
                key.name
            );
        }
    }
    for key in
        example.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key).filter(|key| !key.starts_with(['#', ';']))
    {
        let known = SERVER_KINDS.iter().flat_map(|kind| kind.keys()).any(|known| known.name == key || known.alias == Some(key));
        let of_shape_or_run = example.split("[shape.").nth(1).is_some_and(|rest| rest.contains(&format!("{key} = ")));
        assert!(known || key.starts_with("kafka.") || of_shape_or_run, "`{key}` is no key");
    }
}
