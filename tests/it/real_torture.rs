//! Random topics, faults and flags, from a seed, and an oracle that reads both sides with clients that are not `sdl`.
//!
//! `scripts/chaos torture --minutes M --seed S` runs many seeds. To repeat one: `SDL_TORTURE_SEED=S SDL_TORTURE_SECONDS=0`, and the
//! test's name. The scenario is printed before it runs.

use std::time::{Duration, Instant};

use crate::harness::{Dice, setting};
use scenario::{Command, Scenario};
use stage::{Figures, Stage};

mod oracle;
mod scenario;
mod stage;
mod target;
mod workload;

/// Runs scenarios of one command, from `SDL_TORTURE_SEED` on, for `SDL_TORTURE_SECONDS` and at least one.
fn torture(command: Command, seconds: u64) {
    let begun = Instant::now();
    let limit = Duration::from_secs(setting("SDL_TORTURE_SECONDS", seconds));
    for seed in setting("SDL_TORTURE_SEED", 1).. {
        run(command, seed);
        if begun.elapsed() >= limit {
            break;
        }
    }
}

fn run(command: Command, seed: u64) {
    let begun = Instant::now();
    let scenario = Scenario::new(command, &mut Dice::new(seed));
    println!("torture {command:?} seed {seed}: {scenario:#?}");
    let Figures { records, delivered, repeated, faults } = Stage::play(&scenario, &mut Dice::new(!seed));
    let seconds = begun.elapsed().as_secs();
    println!(
        "torture {command:?} seed {seed} held: {records} records, {delivered} delivered, {repeated} repeated, {faults} faults, {seconds} s"
    );
}

#[test]
#[ignore = "needs Kafka: scripts/test runs it"]
fn real_torture_replicate() {
    torture(Command::Replicate, 100);
}

#[test]
#[ignore = "needs real servers: scripts/test runs it"]
fn real_torture_sink_mongo() {
    torture(Command::SinkMongo, 45);
}

#[test]
#[ignore = "needs real servers: scripts/test runs it"]
fn real_torture_sink_es() {
    torture(Command::SinkEs, 45);
}
