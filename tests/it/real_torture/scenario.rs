//! The scenario of a seed: a topic, the flags of a run, and its faults.

use crate::harness::Dice;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Replicate,
    SinkMongo,
    SinkEs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Target,
}

#[derive(Debug)]
pub(super) struct Scenario {
    pub(super) command: Command,
    pub(super) partitions: i32,
    /// The source replaces timestamps by the time of arrival.
    pub(super) log_append_time: bool,
    /// The source is compacted; the target is not.
    pub(super) compacted: bool,
    /// Every value is a JSON object.
    pub(super) json: bool,
    pub(super) max_message_bytes: usize,
    /// The target's limit, where it is below the source's: larger records are bad.
    pub(super) target_max_message_bytes: Option<usize>,
    /// Records are read or written through a proxy.
    pub(super) proxied: Option<Side>,
    /// Seconds after which the group gives a member up.
    pub(super) session_seconds: u64,
    /// Whether members have names that outlive a restart.
    pub(super) static_members: bool,
    /// Records below this number do not pass the `--where` of the flags.
    pub(super) filtered_below: Option<u64>,
    pub(super) flags: Vec<String>,
    pub(super) steps: Vec<Step>,
    pub(super) ending: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Writes this many records, with one aborted transaction among them.
    Produce {
        records: u64,
        transactions: bool,
    },
    /// Writes records in a transaction that stays open until the end.
    OpenTransaction,
    /// Waits for this many deliveries.
    Progress(u64),
    Kill,
    Terminate,
    /// Suspends a member past its session while another one is there.
    FreezeMember,
    Join,
    Leave {
        killed: bool,
    },
    Broker(Side, Outage),
    Line(LineFault),
    /// Adds partitions.
    Grow(i32),
    /// Deletes records below the committed positions.
    DeleteDelivered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outage {
    Kill,
    Restart,
    Freeze { milliseconds: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineFault {
    Slow { milliseconds: u64 },
    BlackHole { milliseconds: u64 },
    Refuse { milliseconds: u64 },
    Reset,
    DropResponse,
    CutResponse,
    HalfClose,
}

/// What happens to the topic at the end, under the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    CaughtUp,
    /// Records beyond the position are deleted, and the run refuses to pass the gap.
    GapRefused,
    /// Records beyond the position are deleted, and the run reads on behind the gap.
    GapPassed,
    Recreated {
        longer: bool,
    },
}

impl Scenario {
    pub(super) fn new(command: Command, dice: &mut Dice) -> Self {
        let replicate = command == Command::Replicate;
        let mut scenario = Self {
            command,
            partitions: i32::try_from(dice.between(1, 6)).expect("a small number"),
            log_append_time: dice.one_in(4),
            compacted: replicate && dice.one_in(6),
            json: !replicate || dice.one_in(3),
            max_message_bytes: usize::try_from(dice.pick(&[4_000, 20_000, 100_000, 1_048_588])).expect("a small number"),
            target_max_message_bytes: None,
            proxied: dice.one_in(2).then(|| if replicate { dice.pick(&[Side::Source, Side::Target]) } else { Side::Source }),
            session_seconds: dice.pick(&[6, 6, 45]),
            static_members: dice.one_in(2),
            filtered_below: None,
            flags: Vec::new(),
            steps: Vec::new(),
            ending: Ending::CaughtUp,
        };
        if replicate && !scenario.compacted && dice.one_in(5) {
            scenario.target_max_message_bytes = Some(scenario.max_message_bytes / 2);
        }
        scenario.ending = match dice.below(10) {
            0 => Ending::GapRefused,
            1 => Ending::GapPassed,
            2 => Ending::Recreated { longer: true },
            3 => Ending::Recreated { longer: false },
            _ => Ending::CaughtUp,
        };
        scenario.choose_flags(dice);
        scenario.choose_steps(dice);
        scenario
    }

    fn choose_flags(&mut self, dice: &mut Dice) {
        let replicate = self.command == Command::Replicate;
        let mut flags = vec![format!("--rate {}", dice.pick(&[150, 400, 1_000]))];
        let mut sometimes = |n: u64, flag: &str, values: &[&str]| {
            if dice.one_in(n) {
                flags.push(format!("{flag} {}", dice.pick(values)));
            }
        };
        sometimes(2, "--batch", &["1", "7", "50", "1000"]);
        sometimes(2, "--batch-bytes", &["2kB", "100kB", "4MB"]);
        sometimes(2, "--linger", &["0ms", "1ms", "50ms", "700ms"]);
        sometimes(2, "--in-flight", &["1", "2", "16"]);
        sometimes(2, "--commit-interval", &["20ms", "1s", "3s"]);
        if replicate {
            sometimes(2, "--compression", &["none", "gzip", "snappy", "lz4", "zstd"]);
        }
        if self.ending == Ending::GapPassed {
            flags.push("--on-gap earliest".to_owned());
        }
        if self.target_max_message_bytes.is_some() {
            flags.push("--dead-letter-limit 100000/1m".to_owned());
        }
        if replicate && self.json && dice.one_in(2) {
            self.filtered_below = Some(dice.between(1, 2_000));
        }
        self.flags = flags;
    }

    fn choose_steps(&mut self, dice: &mut Dice) {
        let mut members = 1;
        let mut partitions = self.partitions;
        self.steps.push(Step::Produce { records: dice.between(300, 1_500), transactions: dice.one_in(2) });
        for _ in 0..dice.between(3, 7) {
            self.steps.push(Step::Progress(dice.between(1, 150)));
            let brief = dice.pick(&[300, 1_500, 4_000]);
            let step = match dice.below(14) {
                0 | 1 if self.session_seconds < 10 || self.static_members => Step::Kill,
                2 => Step::Terminate,
                3 if self.session_seconds < 10 => Step::FreezeMember,
                4 if members < 3 => Step::Join,
                5 if members > 1 => Step::Leave { killed: self.session_seconds < 10 && dice.one_in(2) },
                6 => {
                    let side = dice.pick(&[Side::Source, Side::Target, Side::Target]);
                    let outage = dice.pick(&[Outage::Kill, Outage::Restart, Outage::Freeze { milliseconds: brief }]);
                    let durable = self.command == Command::Replicate || side == Side::Source;
                    Step::Broker(side, if durable { outage } else { Outage::Freeze { milliseconds: brief } })
                }
                7..=9 if self.proxied.is_some() => Step::Line(dice.pick(&[
                    LineFault::Slow { milliseconds: brief / 10 },
                    LineFault::BlackHole { milliseconds: brief },
                    LineFault::Refuse { milliseconds: brief },
                    LineFault::Reset,
                    LineFault::DropResponse,
                    LineFault::CutResponse,
                    LineFault::HalfClose,
                ])),
                10 if partitions < 6 => {
                    partitions += i32::try_from(dice.between(1, 2)).expect("a small number");
                    Step::Grow(partitions)
                }
                11 if !self.compacted => Step::DeleteDelivered,
                12 if !self.compacted && !self.steps.contains(&Step::OpenTransaction) => Step::OpenTransaction,
                _ => Step::Produce { records: dice.between(50, 600), transactions: dice.one_in(2) },
            };
            match step {
                Step::Join => members += 1,
                Step::Leave { .. } => members -= 1,
                Step::FreezeMember if members < 2 => members = 2,
                _ => {}
            }
            self.steps.push(step);
            if dice.one_in(2) {
                self.steps.push(Step::Produce { records: dice.between(50, 400), transactions: dice.one_in(3) });
            }
        }
    }
}
