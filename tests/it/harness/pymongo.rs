//! Python's MongoDB client, which shares no code with the project.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The client that is installed, once, beside what `scripts/stack` keeps.
const CLIENT: &str = "pymongo==4.15.4";

fn python() -> &'static PathBuf {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let from = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let cache = from("SDL_STACK_CACHE").unwrap_or_else(|| {
            let caches = from("XDG_CACHE_HOME").unwrap_or_else(|| from("HOME").expect("a home").join(".cache"));
            caches.join("sdl-stack")
        });
        let folder = cache.join(CLIENT.replace("==", "-"));
        let python = folder.join("bin/python");
        let works =
            |python: &PathBuf| Command::new(python).args(["-c", "import pymongo"]).output().is_ok_and(|ran| ran.status.success());
        if !works(&python) {
            let run = |command: &mut Command| {
                let ran = command.output().expect("python starts");
                assert!(ran.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ran.stderr));
            };
            run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
            run(Command::new(&python).args(["-m", "pip", "install", "-q", CLIENT]));
        }
        python
    })
}

/// Runs Python code that has `client`, `json` and `arg`, and returns the value that it assigned to `answer`.
#[track_caller]
pub(crate) fn pymongo(uri: &str, arg: &serde_json::Value, code: &str) -> serde_json::Value {
    let around = format!(
        "import sys, json, datetime, pymongo\n\
         client = pymongo.MongoClient(sys.argv[1], serverSelectionTimeoutMS=20000, tz_aware=True)\n\
         arg = json.loads(sys.argv[2])\n\
         answer = None\n\
         {code}\n\
         print(json.dumps(answer, default=repr))\n"
    );
    let ran = Command::new(python()).args(["-c", &around, uri, &arg.to_string()]).output().expect("python starts");
    assert!(ran.status.success(), "{code}\n{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).expect("python wrote JSON")
}
