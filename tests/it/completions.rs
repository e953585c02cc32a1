//! The completions in the tree are those of the binary.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::run::Folder;

const FILES: [(&str, &str); 3] = [("bash", "sdl.bash"), ("zsh", "_sdl"), ("fish", "sdl.fish")];

#[test]
fn the_files_in_the_tree_are_fresh() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("completions");
    for (shell, file) in FILES {
        let ended = Folder::new().run(&format!("completions {shell}"));
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        let kept = fs::read_to_string(folder.join(file)).unwrap_or_default();
        assert!(kept == ended.stdout, "stale: run `cargo run -- completions {shell} > completions/{file}`");
    }
}

#[test]
fn completions_do_not_need_a_sound_profile() {
    let ended = Folder::with_profile("broken").run("completions bash");
    assert_eq!(ended.code, Some(0));
}

#[test]
fn bash_can_read_its_file() {
    let Ok(checked) = Command::new("bash").args(["-n", "completions/sdl.bash"]).current_dir(env!("CARGO_MANIFEST_DIR")).output()
    else {
        eprintln!("left out: there is no bash on this machine");
        return;
    };
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
