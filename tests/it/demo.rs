//! `sdl demo`: the story, and the accounts at its end.

use crate::harness::Sdl;

#[test]
fn the_demo_accounts_for_every_record() {
    let ended = Sdl::new("demo").env("SDL_PROFILE", "/nowhere").run().expect(0);
    let table = String::from_utf8(ended.stdout).unwrap();
    let last: Vec<_> = table.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(last, ["all", "20000", "20000", "20000", "yes"], "{table}\n{}", ended.stderr);
    assert!(!table.contains("NO"), "{table}");
    let commands: Vec<_> = ended.stderr.lines().filter_map(|line| line.strip_prefix("$ sdl ")?.split(' ').next()).collect();
    assert_eq!(commands, ["produce-fake", "replicate", "tail", "lag", "tail"], "{}", ended.stderr);
}
